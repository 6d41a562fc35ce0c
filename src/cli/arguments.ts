/**
 * A command line, understood: the command, its operands, its settings.
 *
 * Room: the command line.
 */
import { parseArgs } from 'node:util'
import type { Assignment } from '../core/config/index.js'
import { ConfigError } from '../core/errors.js'
import { nearest } from '../core/nearest.js'
import { commands, flagsOf } from './flags.js'

export interface Arguments {
  readonly command: string
  readonly operands: readonly string[]
  /** As given: text, `true` for switches, lists for what repeats. */
  readonly flags: Readonly<Record<string, string | boolean | readonly (string | boolean)[] | undefined>>
  /** The settings among them. */
  readonly assignments: readonly Assignment[]
}

/** @throws {ConfigError} `BAD_USAGE` with the nearest known command or flag. */
export function readArguments(args: readonly string[]): Arguments {
  const [command = 'help', ...rest] = args
  if (command === '--help' || command === '-h' || command === 'help')
    return { command: 'help', operands: rest, flags: {}, assignments: [] }
  if (commands[command] === undefined) {
    const near = nearest(command, Object.keys(commands))
    const hint = near === undefined ? '' : `; nearest: \`${near}\``
    throw new ConfigError(
      'BAD_USAGE',
      `unknown command \`${command}\`${hint}; known: ${Object.keys(commands).join(', ')}`,
    )
  }
  const known = flagsOf(command)
  const options = Object.fromEntries(
    known.map(({ name, short, value, repeats }) => {
      const type: 'string' | 'boolean' = value === undefined ? 'boolean' : 'string'
      return [name, { type, ...(short === undefined ? {} : { short }), multiple: repeats ?? name === 'verbose' }]
    }),
  )
  let parsed: ReturnType<typeof parseArgs>
  try {
    parsed = parseArgs({ args: [...rest], options, allowPositionals: true, strict: true })
  } catch (error) {
    throw explain(
      error as Error,
      command,
      known.map(({ name }) => name),
    )
  }
  const flags = parsed.values as Arguments['flags']
  const assignments = known.flatMap(({ name, path, repeats }): Assignment[] => {
    const value = flags[name]
    if (path === undefined || value === undefined) return []
    const list = value as readonly string[]
    // One endpoint stays one: `--listen` said once reads as the setting does.
    return [
      {
        path,
        value: repeats && list.length === 1 && name === 'listen' ? list[0] : value,
        origin: { kind: 'flag', name: `--${name}` },
      },
    ]
  })
  for (const text of (flags.set ?? []) as readonly string[]) {
    const at = text.indexOf('=')
    if (at < 1) throw new ConfigError('BAD_USAGE', `--set ${text}: expected PATH=VALUE, such as limits.connections=500`)
    assignments.push({ path: text.slice(0, at), value: text.slice(at + 1), origin: { kind: 'flag', name: '--set' } })
  }
  return { command, operands: parsed.positionals, flags, assignments }
}

function explain(error: Error & { code?: string }, command: string, known: readonly string[]): ConfigError {
  const flag = /'-{1,2}([\w-]+)/.exec(error.message)?.[1] ?? ''
  const near = error.code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION' ? nearest(flag, known) : undefined
  const what = error.code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION' ? `unknown option --${flag}` : error.message.split('.')[0]
  const hint = near === undefined ? '' : `; nearest: \`--${near}\``
  return new ConfigError('BAD_USAGE', `${what}${hint}; gaidaros ${command} --help lists them`, { cause: error })
}
