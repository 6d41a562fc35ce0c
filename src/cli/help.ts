/**
 * What `--help` prints.
 *
 * Room: the command line. docs/reference/cli.md is checked against it.
 */
import { commands, type Flag, flagsOf } from './flags.js'

export function help(command?: string): string {
  if (command === undefined || commands[command] === undefined) {
    const list = Object.entries(commands).map(([name, { what }]) => `  ${name.padEnd(9)} ${what}`)
    return `gaidaros: serves decorated handlers over any transport

usage: gaidaros COMMAND [options]

${list.join('\n')}

gaidaros COMMAND --help   the options of one command
gaidaros --version

With nothing said, \`gaidaros serve\` echoes lines on tcp://localhost:8080.
Exit status: 0 done, 1 failed while running, 2 bad usage, configuration or bind, 130 or 143 stopped by a second signal.
`
  }
  const { what, usage, examples } = commands[command]
  const flags = flagsOf(command).map(render)
  const width = Math.max(0, ...flags.map(([left]) => left.length))
  return `gaidaros ${command}: ${what}

usage: gaidaros ${command} ${usage}

${flags.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`).join('\n')}

${examples.map((example) => `  $ ${example}`).join('\n')}
`
}

function render({ name, short, value, what, repeats }: Flag): [string, string] {
  const dash = short === undefined ? '    ' : `-${short}, `
  return [`${dash}--${name}${value === undefined ? '' : ` ${value}`}${repeats ? ' …' : ''}`, what]
}
