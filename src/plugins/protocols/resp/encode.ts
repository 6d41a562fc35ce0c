/**
 * Replies as RESP2 or RESP3, and requests on the client's side.
 *
 * Room: plugins/protocols. Text stays text, so that a turn's replies are gathered as one string and encoded once; bytes
 * stand between as pieces.
 */
import { kindOf, oneLine, unfitReply } from '../text-support.js'
import { MARK, RespError, type RespGreeting, type RespPush, type RespSimple } from './values.js'

export type Version = 2 | 3
export type Encoded = string | Uint8Array | readonly Uint8Array[]

/** From here on bytes are not copied: a piece of its own is cheaper. */
const PIECE_BYTES = 512
/** Deeper than any reply is meant; a value that holds itself has no depth. */
const MOST_DEPTH = 128
const CRLF = Buffer.from('\r\n')

export function bulk(text: string): string {
  return `$${Buffer.byteLength(text)}\r\n${text}\r\n`
}

/** A reply on the wire. @throws {HandlerError} for what RESP has no form for: functions, symbols, what holds itself. */
export function encodeReply(value: unknown, version: Version): Encoded {
  if (typeof value === 'string') return bulk(value)
  if (value === null) return version === 3 ? '_\r\n' : '$-1\r\n'
  if (value === lastStatus && value !== undefined) return lastLine
  if (value instanceof Uint8Array) return bulkBytes(value)
  const out = new Out()
  write(out, value, version, 0)
  return out.pieces()
}

function bulkBytes(bytes: Uint8Array): Encoded {
  const head = `$${bytes.length}\r\n`
  if (bytes.length >= PIECE_BYTES) return [Buffer.from(head, 'latin1'), bytes, CRLF]
  const whole = Buffer.allocUnsafe(head.length + bytes.length + 2)
  whole.write(head, 0, 'latin1')
  whole.set(bytes, head.length)
  whole.set(CRLF, whole.length - 2)
  return whole
}

class Out {
  text = ''
  #pieces: Uint8Array[] | undefined

  bytes(bytes: Uint8Array): void {
    this.#pieces ??= []
    this.#pieces.push(Buffer.from(`${this.text}$${bytes.length}\r\n`), bytes)
    this.text = '\r\n'
  }

  pieces(): Encoded {
    if (this.#pieces === undefined) return this.text
    this.#pieces.push(Buffer.from(this.text))
    const total = this.#pieces.reduce((sum, { length }) => sum + length, 0)
    return total < PIECE_BYTES * 4 ? Buffer.concat(this.#pieces, total) : this.#pieces
  }
}

function write(out: Out, value: unknown, version: Version, depth: number): void {
  if (depth > MOST_DEPTH) throw unfit(`the reply is nested deeper than ${MOST_DEPTH}, or holds itself`)
  switch (typeof value) {
    case 'string':
      out.text += bulk(value)
      return
    case 'number':
      out.text += number(value, version)
      return
    case 'boolean':
      out.text += version === 3 ? (value ? '#t\r\n' : '#f\r\n') : value ? ':1\r\n' : ':0\r\n'
      return
    case 'bigint':
      out.text += bigint(value, version)
      return
    case 'undefined':
      out.text += version === 3 ? '_\r\n' : '$-1\r\n'
      return
    case 'object':
      return writeObject(out, value, version, depth)
    default:
      throw unfit(`RESP has no form for ${kindOf(value)}`)
  }
}

function writeObject(out: Out, value: object | null, version: Version, depth: number): void {
  if (value === null) out.text += version === 3 ? '_\r\n' : '$-1\r\n'
  else if (value instanceof Uint8Array) out.bytes(value)
  else if (Array.isArray(value)) writeItems(out, '*', value, version, depth)
  else if (value instanceof Error) out.text += errorLine(value)
  else if (value instanceof Map) writeMap(out, [...value], version, depth)
  else if (value instanceof Set) writeItems(out, version === 3 ? '~' : '*', [...value], version, depth)
  else {
    const marked = value as Partial<RespSimple | RespPush | RespGreeting>
    switch (marked[MARK]) {
      case undefined:
        break
      case 'simple':
        out.text += statusLine(marked as RespSimple)
        return
      case 'push':
        return writeItems(out, version === 3 ? '>' : '*', (marked as RespPush).items, version, depth)
      case 'hello':
        return writeMap(out, Object.entries((marked as RespGreeting).facts), version, depth)
    }
    const prototype = Object.getPrototypeOf(value)
    if (prototype !== Object.prototype && prototype !== null) throw unfit(`RESP has no form for ${kindOf(value)}`)
    writeMap(out, Object.entries(value), version, depth)
  }
}

/** Most say one status all day. What is frozen stays what it was. */
let lastStatus: unknown
let lastLine = ''

function statusLine(status: RespSimple): string {
  const line = `+${oneLine(status.value)}\r\n`
  if (Object.isFrozen(status)) {
    lastStatus = status
    lastLine = line
  }
  return line
}

function writeItems(out: Out, type: string, items: readonly unknown[], version: Version, depth: number): void {
  out.text += `${type}${items.length}\r\n`
  for (const item of items) write(out, item, version, depth + 1)
}

function writeMap(out: Out, entries: readonly (readonly [unknown, unknown])[], version: Version, depth: number): void {
  out.text += version === 3 ? `%${entries.length}\r\n` : `*${entries.length * 2}\r\n`
  for (const [key, item] of entries) {
    write(out, key, version, depth + 1)
    write(out, item, version, depth + 1)
  }
}

function number(value: number, version: Version): string {
  if (Number.isSafeInteger(value)) return `:${value === 0 ? 0 : value}\r\n`
  if (version === 2) return bulk(doubleText(value))
  return `,${doubleText(value)}\r\n`
}

function doubleText(value: number): string {
  if (Number.isNaN(value)) return 'nan'
  if (Number.isFinite(value)) return String(value)
  return value > 0 ? 'inf' : '-inf'
}

/** Integers have 64 bits; beyond them RESP3 has big numbers, RESP2 only text. */
function bigint(value: bigint, version: Version): string {
  if (BigInt.asIntN(64, value) === value) return `:${value}\r\n`
  return version === 3 ? `(${value}\r\n` : bulk(String(value))
}

export function errorLine(error: Error): string {
  const code = error instanceof RespError ? error.code : 'ERR'
  return `-${oneLine(code === '' ? error.message : `${code} ${error.message}`)}\r\n`
}

/** A client's request: a list of a command and its arguments, `{ command, args }`, or one word. */
export function encodeRequest(request: unknown): Encoded {
  const words = wordsOf(request)
  const out = new Out()
  out.text = `*${words.length}\r\n`
  for (const word of words) {
    if (typeof word === 'string') out.text += bulk(word)
    else if (word instanceof Uint8Array) out.bytes(word)
    else if (typeof word === 'number' || typeof word === 'bigint') out.text += bulk(String(word))
    else throw unfit(`an argument is ${kindOf(word)}`)
  }
  return out.pieces()
}

function wordsOf(request: unknown): readonly unknown[] {
  if (Array.isArray(request) && request.length > 0) return request
  if (typeof request === 'string') return [request]
  const { command, args } = (request ?? {}) as { command?: unknown; args?: unknown }
  if (typeof command === 'string' && Array.isArray(args)) return [command, ...args]
  const remedy = "send a list such as ['GET', 'key']; arguments are text, numbers or bytes"
  throw unfitReply('resp', `expected a request, got ${kindOf(request)}`, remedy)
}

function unfit(problem: string): Error {
  return unfitReply(
    'resp',
    problem,
    'use text, bytes, numbers, booleans, null, lists, maps, sets, plain objects, errors, simple() or push()',
  )
}
