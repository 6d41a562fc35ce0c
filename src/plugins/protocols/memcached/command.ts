/**
 * Commands of memcached as messages.
 *
 * Room: plugins/protocols.
 */
import { LF, readLatin1 } from '../text-support.js'

/** What handlers get; which fields there are depends on the command. */
export interface MemcachedCommand {
  /** As it came, but `gets` is `get` and `gats` is `gat`, both with `cas`. */
  readonly command: string
  /** The first (mostly the only) key; empty for commands without one. */
  readonly key: string
  /** `get`, `gat`: all of them. */
  readonly keys: readonly string[]
  /** `set` and its like: the data, which is the handler's to keep. */
  readonly value: Buffer
  readonly flags: number
  /** As the peer gave it: 0 is never, up to thirty days are seconds from now, more is a time of Unix. */
  readonly exptime: number
  /** `incr`, `decr`. */
  readonly delta: bigint
  /** `cas`: the number that the item must still have. */
  readonly unique: bigint | undefined
  /** The peer wants the items' `cas` numbers (`gets`, `gats`). */
  readonly cas: boolean
  /** The peer wants no answer. */
  readonly noreply: boolean
  /** Words of the commands that are nobody's here (`stats items`), and the flags of `ms`. */
  readonly args: readonly string[]
}

/** What is answered in place of being handled. */
export interface BadCommand {
  readonly command: ''
  readonly fault: string
}

const EMPTY = Buffer.alloc(0)
const nothing: MemcachedCommand = Object.freeze({
  command: '',
  key: '',
  keys: [],
  value: EMPTY,
  flags: 0,
  exptime: 0,
  delta: 0n,
  unique: undefined,
  cas: false,
  noreply: false,
  args: [],
})

const BAD_LINE: BadCommand = { command: '', fault: 'CLIENT_ERROR bad command line format' }
const ERROR: BadCommand = { command: '', fault: 'ERROR' }
/** doc/protocol.txt, "Keys". */
const MOST_KEY = 250
const UINT32 = 2 ** 32 - 1
const UINT64 = 2n ** 64n - 1n

/**
 * True where a command that nobody takes might have data behind its line: a word of it is a number, and every command of
 * memcached with a block says its length in the line.
 */
export function mayHaveBlock({ args, value }: MemcachedCommand): boolean {
  return value.length === 0 && args.some((word) => /^\d+$/.test(word))
}

/** One frame. Never throws: a line that is none is answered, since the next one is where it is. */
export function readCommand(buffer: Buffer, start: number, end: number): MemcachedCommand | BadCommand {
  // A line is short: looking here costs less than a view and a call.
  let feed = 0
  while (start + feed < end && buffer[start + feed] !== LF) feed++
  if (start + feed === end) feed = -1
  const lineEnd = feed < 0 ? end : start + feed - (buffer[start + feed - 1] === 0x0d ? 1 : 0)
  // Keys are bytes; a byte a character keeps them apart, and gives them back as they were.
  const line = readLatin1(buffer, start, lineEnd)
  const split = line.split(' ')
  const words = split.includes('') ? split.filter((word) => word !== '') : split
  const [name = '', ...rest] = words
  const noreply = rest.at(-1) === 'noreply'
  const args = noreply ? rest.slice(0, -1) : rest
  switch (name) {
    case 'get':
    case 'gets':
      return retrieve('get', rest, 0, name === 'gets')
    case 'gat':
    case 'gats': {
      const exptime = exptimeOf(rest[0])
      if (exptime === undefined) return BAD_LINE
      return retrieve('gat', rest.slice(1), exptime, name === 'gats')
    }
    case 'set':
    case 'add':
    case 'replace':
    case 'append':
    case 'prepend':
    case 'cas': {
      const [key = '', flagsText = '', exptimeText, , uniqueText, ...more] = args
      const flags = unsigned(flagsText)
      const exptime = exptimeOf(exptimeText)
      const unique = name === 'cas' ? unsigned64(uniqueText) : undefined
      const isShort = name === 'cas' ? unique !== undefined && more.length === 0 : uniqueText === undefined
      if (!isKey(key) || flags === undefined || exptime === undefined || !isShort) return BAD_LINE
      // A copy: the handler keeps it, and the chunk it came in is many times as large.
      const value = Buffer.from(buffer.subarray(start + feed + 1, end))
      return { ...nothing, command: name, key, keys: [key], value, flags, exptime, unique, noreply }
    }
    case 'ms': {
      const [key = '', , ...flags] = rest
      if (!isKey(key)) return BAD_LINE
      const value = Buffer.from(buffer.subarray(start + feed + 1, end))
      return { ...nothing, command: name, key, keys: [key], value, args: flags }
    }
    case 'delete': {
      const [key = '', zero = '0', ...more] = args
      if (!isKey(key) || zero !== '0' || more.length > 0) return BAD_LINE
      return { ...nothing, command: name, key, keys: [key], noreply }
    }
    case 'incr':
    case 'decr': {
      const [key = '', text, ...more] = args
      const delta = unsigned64(text)
      if (!isKey(key) || more.length > 0) return BAD_LINE
      if (delta === undefined) return { command: '', fault: 'CLIENT_ERROR invalid numeric delta argument' }
      return { ...nothing, command: name, key, keys: [key], delta, noreply }
    }
    case 'touch': {
      const [key = '', text, ...more] = args
      const exptime = exptimeOf(text)
      if (!isKey(key) || exptime === undefined || more.length > 0) return BAD_LINE
      return { ...nothing, command: name, key, keys: [key], exptime, noreply }
    }
    case 'flush_all': {
      const exptime = exptimeOf(args[0] ?? '0')
      return exptime === undefined || args.length > 1 ? BAD_LINE : { ...nothing, command: name, exptime, noreply }
    }
    case 'version':
      // Always answered: `noreply` is a word like any other here.
      return { ...nothing, command: name, args: rest }
    case 'stats':
      return noreply ? ERROR : { ...nothing, command: name, args }
    case 'verbosity': {
      const [level, ...more] = args
      if (more.length > 0 || (level === undefined ? !noreply : unsigned(level) === undefined)) return ERROR
      return { ...nothing, command: name, args, noreply }
    }
    default:
      return /^[a-z_]{1,20}$/.test(name) ? { ...nothing, command: name, args, noreply } : ERROR
  }
}

function retrieve(
  command: 'get' | 'gat',
  keys: readonly string[],
  exptime: number,
  cas: boolean,
): MemcachedCommand | BadCommand {
  if (keys.length === 0) return ERROR
  if (!keys.every(isKey)) return BAD_LINE
  const { value, flags, delta, unique, noreply, args } = nothing
  // Spelled out: this is what most of the traffic is, and a spread costs several times as much.
  return { command, key: keys[0] as string, keys, value, flags, exptime, delta, unique, cas, noreply, args }
}

export function isKey(key: string): boolean {
  return key !== '' && key.length <= MOST_KEY && !/[\0-\x20\x7f]/.test(key)
}

function unsigned(text: string): number | undefined {
  if (!/^\d{1,10}$/.test(text)) return undefined
  const value = Number(text)
  return value <= UINT32 ? value : undefined
}

function unsigned64(text: string | undefined): bigint | undefined {
  if (text === undefined || !/^\d{1,20}$/.test(text)) return undefined
  const value = BigInt(text)
  return value <= UINT64 ? value : undefined
}

/** Negative is "expired already". */
function exptimeOf(text: string | undefined): number | undefined {
  return text !== undefined && /^-?\d{1,15}$/.test(text) ? Number(text) : undefined
}
