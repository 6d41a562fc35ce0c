/**
 * Started by systemd with the first peer; see README.md beside this.
 *
 *   systemd-socket-activate -l 8080 --fdname=chat node node_modules/gaidaros/dist/cli.js serve
 *   (npx gaidaros serve would not do: systemd hands its sockets to the process it starts, and npx starts another)
 */
export default function greet(name) {
  return `hello ${name}`
}
