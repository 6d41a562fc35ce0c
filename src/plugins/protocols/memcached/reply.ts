/**
 * Replies of memcached: what a handler returned as the words of its command; and, on the client's side, the other way round.
 *
 * Room: plugins/protocols.
 */
import { isCrlf, kindOf, LF, malformed, oneLine, readLatin1, unfitReply } from '../text-support.js'
import { isKey, type MemcachedCommand } from './command.js'

/** A value with what belongs to it. */
export interface MemcachedItem {
  readonly value: string | Uint8Array | number | bigint
  readonly flags?: number
  /** The number `gets` tells and `cas` asks for. */
  readonly cas?: number | bigint
}

/** What a client's `get` resolves with, by key. */
export type MemcachedValues = Map<string, { readonly value: Buffer; readonly flags: number; readonly cas?: bigint }>

/** A refusal in a handler's own words; a client's request resolves with one where the server refused. */
export class MemcachedError extends Error {
  constructor(
    message: string,
    /** Empty: `ERROR` alone, a command that nobody knows. */
    readonly kind: 'CLIENT_ERROR' | 'SERVER_ERROR' | '' = 'CLIENT_ERROR',
  ) {
    super(message)
    this.name = 'MemcachedError'
  }
}

/** Bytes that are a reply; nothing else is written. */
export class Answer {
  constructor(readonly pieces: string | Uint8Array | readonly Uint8Array[]) {}
}

const line = (words: string): Answer => new Answer(`${words}\r\n`)
const statuses: Readonly<Record<string, Answer>> = Object.fromEntries(
  ['STORED', 'NOT_STORED', 'EXISTS', 'NOT_FOUND', 'DELETED', 'TOUCHED', 'OK', 'END', 'ERROR'].map((word) => [
    word,
    line(word),
  ]),
)
const status = (word: string): Answer => statuses[word] as Answer

/** What `true`, nothing, and `false` mean; words in capitals stand for themselves. */
const meanings: Readonly<Record<string, readonly [yes: string, no: string, ...more: string[]]>> = {
  set: ['STORED', 'NOT_STORED'],
  add: ['STORED', 'NOT_STORED'],
  replace: ['STORED', 'NOT_STORED'],
  append: ['STORED', 'NOT_STORED'],
  prepend: ['STORED', 'NOT_STORED'],
  cas: ['STORED', 'EXISTS', 'NOT_FOUND', 'NOT_STORED'],
  delete: ['DELETED', 'NOT_FOUND'],
  touch: ['TOUCHED', 'NOT_FOUND'],
  flush_all: ['OK', 'ERROR'],
  verbosity: ['OK', 'ERROR'],
}

/** @throws {HandlerError} for what the command has no word for. */
export function answerOf(command: MemcachedCommand, said: unknown): Answer {
  if (said instanceof Answer) return said
  if (said instanceof MemcachedError) return errorAnswer(said)
  switch (command.command) {
    case 'get':
    case 'gat':
      return values(command, said)
    case 'incr':
    case 'decr':
      if (typeof said === 'bigint' || (Number.isSafeInteger(said) && (said as number) >= 0)) return line(String(said))
      if (said === undefined || said === null || said === false) return status('NOT_FOUND')
      throw unfit(command, said, 'a whole number, or null')
    case 'stats': {
      const rows = Object.entries((said ?? {}) as Record<string, unknown>)
      return new Answer(
        `${rows.map(([name, value]) => `STAT ${oneLine(name).replaceAll(' ', '_')} ${oneLine(String(value))}\r\n`).join('')}END\r\n`,
      )
    }
    default: {
      const [yes, no, ...more] = meanings[command.command] ?? ['OK', 'ERROR']
      if (said === true || said === undefined) return status(yes)
      if (said === false || said === null) return status(no)
      if (typeof said === 'string' && [yes, no, ...more, 'NOT_FOUND', 'EXISTS'].includes(said)) return status(said)
      throw unfit(command, said, `true, false or one of ${[yes, no, ...more].join(', ')}`)
    }
  }
}

/** Below it an answer is one piece. */
const SMALL = 2_048
const END = Buffer.from('\r\nEND\r\n')

/** For one key an item; for several a list in their order, or a Map. */
function values(command: MemcachedCommand, said: unknown): Answer {
  const { keys, cas } = command
  const itemOf = (key: string, index: number): unknown => {
    if (said instanceof Map) return said.get(key)
    if (Array.isArray(said)) return said[index]
    return keys.length === 1 ? said : undefined
  }
  if (keys.length > 1 && said !== undefined && said !== null && !Array.isArray(said) && !(said instanceof Map))
    throw unfit(command, said, `a list of ${keys.length} items, or a Map by key`)
  if (keys.length === 1) {
    const item = itemOf(keys[0] as string, 0)
    const value = item instanceof Uint8Array ? item : (item as Partial<MemcachedItem> | null | undefined)?.value
    if (value instanceof Uint8Array && value.length < SMALL) return small(keys[0] as string, item, value, cas)
  }
  const pieces: Uint8Array[] = []
  let text = ''
  for (let index = 0; index < keys.length; index++) {
    const key = keys[index] as string
    const item = itemOf(key, index)
    if (item === undefined || item === null || item === false) continue
    const isItem = typeof item === 'object' && !(item instanceof Uint8Array) && 'value' in item
    const { value, flags = 0, cas: unique = 0 } = (isItem ? item : { value: item }) as MemcachedItem
    const tail = cas ? ` ${unique}` : ''
    if (value instanceof Uint8Array) {
      pieces.push(Buffer.from(`${text}VALUE ${key} ${flags} ${value.length}${tail}\r\n`, 'latin1'), value)
      text = '\r\n'
    } else if (typeof value === 'string' || typeof value === 'number' || typeof value === 'bigint') {
      const bytes = Buffer.from(String(value))
      pieces.push(Buffer.from(`${text}VALUE ${key} ${flags} ${bytes.length}${tail}\r\n`, 'latin1'), bytes)
      text = '\r\n'
    } else throw unfit(command, item, 'text, bytes, a number, or { value, flags, cas }')
  }
  if (pieces.length === 0) return status('END')
  pieces.push(Buffer.from(`${text}END\r\n`))
  const total = pieces.reduce((sum, { length }) => sum + length, 0)
  // Small ones are joined: a copy costs less than a further piece of the write.
  return new Answer(total < SMALL ? Buffer.concat(pieces, total) : pieces)
}

/** One value of a few bytes, which most are: written in place. */
function small(key: string, item: unknown, value: Uint8Array, hasCas: boolean): Answer {
  const { flags = 0, cas = 0 } = item as MemcachedItem
  const head = `VALUE ${key} ${flags} ${value.length}${hasCas ? ` ${cas}` : ''}\r\n`
  const bytes = Buffer.allocUnsafe(head.length + value.length + END.length)
  bytes.write(head, 0, 'latin1')
  bytes.set(value, head.length)
  bytes.set(END, head.length + value.length)
  return new Answer(bytes)
}

export function errorAnswer({ kind, message }: MemcachedError): Answer {
  return line(kind === '' ? 'ERROR' : `${kind} ${oneLine(message)}`)
}

function unfit({ command }: MemcachedCommand, said: unknown, remedy: string): Error {
  return unfitReply('memcached', `\`${command}\` was answered with ${kindOf(said)}`, `return ${remedy}`)
}

/** A client's command: `['get', 'key']`, `'version'`, or `{ command: 'set', key, value, flags, exptime }`. */
export function writeCommand(message: unknown): Uint8Array | string {
  if (typeof message === 'string' || Array.isArray(message)) {
    const words = (typeof message === 'string' ? [message] : message).map(String)
    if (words.length === 0 || words.some((word) => !isKey(String(word)))) throw unfitCommand(message)
    return Buffer.from(`${words.join(' ')}\r\n`, 'latin1')
  }
  const {
    command,
    key,
    value: given,
    flags = 0,
    exptime = 0,
    unique,
  } = (message ?? {}) as Readonly<Record<string, unknown>>
  const isStoring = ['set', 'add', 'replace', 'append', 'prepend', 'cas'].includes(String(command))
  if (!isStoring || typeof key !== 'string' || !isKey(key)) throw unfitCommand(message)
  if (typeof given !== 'string' && !(given instanceof Uint8Array) && typeof given !== 'number')
    throw unfitCommand(message)
  const bytes = given instanceof Uint8Array ? given : Buffer.from(String(given))
  const tail = command === 'cas' ? ` ${unique}` : ''
  if (![flags, exptime, ...(tail === '' ? [] : [unique])].every((field) => /^-?\d{1,20}$/.test(String(field))))
    throw unfitCommand(message)
  const head = `${command} ${key} ${flags} ${exptime} ${bytes.length}${tail}\r\n`
  return Buffer.concat([Buffer.from(head, 'latin1'), bytes, Buffer.from('\r\n')])
}

function unfitCommand(message: unknown): Error {
  const remedy = "send ['get', key], or { command: 'set', key, value }; keys are 1 to 250 bytes without blanks"
  return unfitReply('memcached', `expected a command, got ${kindOf(message)}`, remedy)
}

/** A server's reply: a Map of values or statistics, a number, a word, or a MemcachedError. @throws {FrameError} */
export function readReply(buffer: Buffer, start: number, end: number): unknown {
  const found: MemcachedValues = new Map()
  const stats = new Map<string, string>()
  let at = start
  for (;;) {
    const feed = buffer.subarray(at, end).indexOf(LF)
    const stop = feed < 0 ? end : at + feed
    const text = readLatin1(buffer, at, stop > at && buffer[stop - 1] === 0x0d ? stop - 1 : stop)
    const [word = '', key = '', flags = '', length = '', unique] = text.split(' ')
    if (word === 'VALUE') {
      const size = Number(length)
      const from = stop + 1
      if (!/^\d+$/.test(length) || from + size + 2 > end || !isCrlf(buffer, from + size))
        throw malformed('a whole value', 'a part of one')
      const value = Buffer.from(buffer.subarray(from, from + size))
      found.set(key, {
        value,
        flags: Number(flags) || 0,
        ...(unique && /^\d{1,20}$/.test(unique) ? { cas: BigInt(unique) } : {}),
      })
      at = from + size + 2
    } else if (word === 'STAT') {
      stats.set(key, text.slice(6 + key.length))
      at = stop + 1
    } else {
      if (word === 'END') return stats.size > 0 ? stats : found
      if (found.size > 0 || stats.size > 0) throw malformed('END', JSON.stringify(text.slice(0, 20)))
      return oneLineReply(word, text)
    }
    if (at >= end) throw malformed('END', 'nothing')
  }
}

function oneLineReply(word: string, text: string): unknown {
  if (word === 'ERROR') return new MemcachedError('ERROR', '')
  if (word === 'CLIENT_ERROR' || word === 'SERVER_ERROR') return new MemcachedError(text.slice(word.length + 1), word)
  if (/^\d{1,20} *$/.test(text)) {
    const value = BigInt(text.trim())
    return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value
  }
  if (word === 'VERSION') return text.slice(8)
  if (!/^[A-Z_]{2,20}$/.test(text)) throw malformed('a reply of memcached', JSON.stringify(text.slice(0, 20)))
  return text
}
