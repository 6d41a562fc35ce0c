/**
 * What `--help` prints.
 *
 * Room: the command line. docs/reference/cli.md is checked against it.
 */
import { commands, type Flag, flagsOf } from './flags.js'

export function help(command?: string): string {
  const chosen = command !== undefined && Object.hasOwn(commands, command) ? commands[command] : undefined
  if (command === undefined || chosen === undefined) {
    const list = Object.entries(commands).map(([name, { what }]) => `  ${name.padEnd(11)} ${what}`)
    return `gaidaros: serves decorated handlers over any transport

usage: gaidaros COMMAND [options]

${list.join('\n')}

gaidaros COMMAND --help   the options of one command
gaidaros --version

With nothing said, \`gaidaros serve\` echoes lines on tcp://localhost:8080.
Exit status: 0 done, 1 failed while running, 2 bad usage, configuration or bind, 130 or 143 stopped by a second signal.
`
  }
  const { what, usage, examples } = chosen
  const flags = flagsOf(command).map(render)
  const width = Math.max(0, ...flags.map(([left]) => left.length))
  return `gaidaros ${command}: ${what}

usage: gaidaros ${command} ${usage}

${flags.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`).join('\n')}

${examples.map((example) => `  $ ${example}`).join('\n')}
`
}

function render({ name, short, value, isOptional, what, repeats }: Flag): [string, string] {
  const dash = short === undefined ? '    ' : `-${short}, `
  const shown = value === undefined ? '' : isOptional ? ` [${value}]` : ` ${value}`
  return [`${dash}--${name}${shown}${repeats ? ' …' : ''}`, what]
}
