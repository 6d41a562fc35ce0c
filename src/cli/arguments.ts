/**
 * A command line, understood: the command, its operands, its settings.
 *
 * Room: the command line.
 */
import { parseArgs } from 'node:util'
import type { Assignment } from '../core/config/index.js'
import { ConfigError } from '../core/errors.js'
import { nearest } from '../core/nearest.js'
import { type Command, commands, type Flag, flagsOf } from './flags.js'

export interface Arguments {
  readonly command: string
  /** All of it, as it was written. */
  readonly words: readonly string[]
  readonly operands: readonly string[]
  /** As given: text, `true` for switches, lists for what repeats. */
  readonly flags: Readonly<Record<string, string | boolean | readonly (string | boolean)[] | undefined>>
  /** The settings among them. */
  readonly assignments: readonly Assignment[]
}

/** In place of a value that may be left out and was. No argument of a process can hold a NUL. */
const LEFT_OUT = '\0'

/** @throws {ConfigError} `BAD_USAGE` with the nearest known command or flag. */
export function readArguments(args: readonly string[]): Arguments {
  const [command = 'help', ...rest] = args
  if (command === '--help' || command === '-h' || command === 'help')
    return { command: 'help', words: args, operands: rest, flags: {}, assignments: [] }
  const chosen = Object.hasOwn(commands, command) ? commands[command] : undefined
  if (chosen === undefined) {
    const near = nearest(command, Object.keys(commands))
    const hint = near === undefined ? '' : `; nearest: \`${near}\``
    throw usage(`unknown command \`${command}\`${hint}; known: ${Object.keys(commands).join(', ')}`)
  }
  const known = flagsOf(command)
  const { flags, operands } = parse(rest, command, known)
  if (!flags.help) refuse(command, chosen, operands, flags)
  return { command, words: args, operands, flags, assignments: [...named(flags, known), ...settings(flags)] }
}

function parse(
  rest: readonly string[],
  command: string,
  known: readonly Flag[],
): Pick<Arguments, 'flags' | 'operands'> {
  const options = Object.fromEntries(
    known.map(({ name, short, value, repeats }) => {
      const type: 'string' | 'boolean' = value === undefined ? 'boolean' : 'string'
      return [name, { type, ...(short === undefined ? {} : { short }), multiple: repeats ?? name === 'verbose' }]
    }),
  )
  const optional = known.filter(({ isOptional }) => isOptional).map(({ name }) => `--${name}`)
  // parseArgs knows no optional values.
  const filled = rest.map((word, i) => {
    const isBare = optional.includes(word) && (i + 1 === rest.length || rest[i + 1]?.startsWith('-'))
    return isBare ? `${word}=${LEFT_OUT}` : word
  })
  try {
    const { values, positionals } = parseArgs({ args: filled, options, allowPositionals: true, strict: true })
    return { flags: values as Arguments['flags'], operands: positionals }
  } catch (error) {
    throw explain(error as Error, command, known)
  }
}

/** Flags that are settings of their own. */
function named(flags: Arguments['flags'], known: readonly Flag[]): Assignment[] {
  return known.flatMap(({ name, path }): Assignment[] => {
    const given = flags[name]
    if (path === undefined || given === undefined) return []
    // One endpoint stays one: `--listen` said once reads as the setting does.
    const value = name === 'listen' && Array.isArray(given) && given.length === 1 ? given[0] : given
    const origin = { kind: 'flag', name: `--${name}` } as const
    // Left out: switched on, with whatever else is said of it.
    if (given === LEFT_OUT) {
      const above = path.split('.').slice(0, -1)
      return [above.length === 0 ? { path, value: true, origin } : { path: above, value: {}, origin }]
    }
    return [{ path, value, origin }]
  })
}

function settings(flags: Arguments['flags']): Assignment[] {
  return ((flags.set ?? []) as readonly string[]).map((text) => {
    const at = text.indexOf('=')
    if (at < 1) throw usage(`--set ${text}: expected PATH=VALUE, such as limits.connections=500`)
    return { path: text.slice(0, at), value: text.slice(at + 1), origin: { kind: 'flag', name: '--set' } }
  })
}

/** What parses, and yet cannot be meant. */
function refuse(command: string, chosen: Command, operands: readonly string[], flags: Arguments['flags']): void {
  const extra = operands[chosen.operands]
  if (extra !== undefined) {
    const serves = 'listen' in flags || flagsOf(command).some(({ name }) => name === 'listen')
    const meant = !serves
      ? ''
      : /^[a-z][a-z0-9+.-]*:/.test(extra)
        ? `; meant --listen ${extra}?`
        : /\.[cm]?[jt]s(#|$)/.test(extra)
          ? `; meant --handler ${extra}?`
          : ''
    throw usage(`${command}: \`${extra}\` is one word too many${meant}; usage: gaidaros ${command} ${chosen.usage}`)
  }
  if (flags.eval !== undefined && flags.handler !== undefined) {
    throw usage(`${command}: --eval and --handler both name the handler; leave one out`)
  }
}

function explain(error: Error & { code?: string }, command: string, known: readonly Flag[]): ConfigError {
  const [, dashes = '--', flag = ''] = /'(-{1,2})([\w-]+)/.exec(error.message) ?? []
  const isUnknown = error.code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION'
  const near =
    isUnknown && dashes === '--'
      ? nearest(
          flag,
          known.map(({ name }) => name),
        )
      : undefined
  const what = isUnknown ? `unknown option ${dashes}${flag}` : (error.message.split(/[.\n]/)[0] as string)
  const hint = near === undefined ? '' : `; nearest: \`--${near}\``
  return usage(`${what}${hint}; gaidaros ${command} --help lists them`)
}

function usage(message: string): ConfigError {
  return new ConfigError('BAD_USAGE', message)
}
