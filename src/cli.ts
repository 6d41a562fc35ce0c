#!/usr/bin/env node
/**
 * The command `gaidaros`. Tiny on purpose: `--version` and `--help` load nothing else.
 *
 * Room: the command line.
 */
import { version } from './version.js'

const [first] = process.argv.slice(2)
if (first === '--version' || first === '-V') console.log(version)
else {
  const status = await (await import('./cli/main.js')).main(process.argv.slice(2))
  process.exitCode = status
  // What the application left open (a timer, a database) must not keep an ended command alive. A server's last tasks,
  // such as closing its control socket, get a while; the loop ends sooner when nothing is left in it.
  const graceMs = first === 'serve' || first === 'handle' ? 2_000 : 0
  setTimeout(() => process.exit(status), graceMs).unref()
}
