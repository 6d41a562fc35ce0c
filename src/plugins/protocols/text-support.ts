/**
 * What the text protocols share: refusals, text out of bytes, a line made of a stranger's words.
 *
 * Room: plugins/protocols.
 */
import { isUtf8 } from 'node:buffer'
import { FrameError, HandlerError } from '../../core/errors.js'

export const LF = 0x0a
export const CR = 0x0d
export const SPACE = 0x20
export const ZERO = 0x30
export const NINE = 0x39

/** @param what - In the plural: `commands`. @param option - The limit's name, as users set it. */
export function tooLarge(what: string, limit: number, option: string): FrameError {
  const text = `${what} of at most ${limit} bytes are taken (limits.${option}), a longer one came`
  return new FrameError('TOO_LARGE', `${text}; raise the limit if it is legal`, { limit, option })
}

/** @param expected - What the grammar wants. @param got - What came, at most a few characters of it. */
export function malformed(expected: string, got: string): FrameError {
  return new FrameError('MALFORMED', `expected ${expected}, got ${got}`, { expected, got })
}

/** A reply that the protocol cannot write. @param remedy - What the developer does about it. */
export function unfitReply(protocol: string, problem: string, remedy: string): HandlerError {
  return new HandlerError('HANDLER_FAILED', `protocol ${protocol}: ${problem}; ${remedy}`)
}

/** A byte as errors show it: `0x3a`. */
export function showByte(byte: number | undefined): string {
  return byte === undefined ? 'nothing' : `0x${byte.toString(16).padStart(2, '0')}`
}

/** What something is, in a word: `an array`, `a Date`. */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (Array.isArray(value)) return 'an array'
  if (typeof value !== 'object') return `a ${typeof value}`
  const name = (value.constructor as { name?: unknown } | undefined)?.name
  return typeof name === 'string' && name !== 'Object' && name !== '' ? `a ${name}` : 'an object'
}

/** What stands beneath `toString`, on every Buffer of Node 20 to 26. */
type Sliceable = Buffer & {
  utf8Slice(start: number, end: number): string
  latin1Slice(start: number, end: number): string
}

/** A byte a character. */
export function readLatin1(buffer: Buffer, start: number, end: number): string {
  return (buffer as Sliceable).latin1Slice(start, end)
}

/**
 * UTF-8, refused where it is none (RFC 3629): two keys of different bytes must not become one.
 *
 * @param remedy - What the operator does if such bytes are legal.
 */
export function readUtf8(buffer: Buffer, start: number, end: number, remedy: string): string {
  const read = (buffer as Sliceable).utf8Slice(start, end)
  // Only a text with the replacement in it can have been replaced; looking for that is nearly free where all is Latin.
  if (read.includes('\ufffd') && !isUtf8(buffer.subarray(start, end)))
    throw malformed(`text in UTF-8 (${remedy})`, 'bytes that are none')
  return read
}

/** Words that may be a stranger's, as part of one line: no control characters, at most 200 characters. */
export function oneLine(text: string): string {
  const cut = text.length > 200 ? `${text.slice(0, 199)}…` : text
  return cut.replace(/[\0-\x1f\x7f]/g, ' ')
}

/** Methods of HTTP (RFC 9110, section 9.3; RFC 5789; RFC 9113, section 3.4) as they begin a request line. */
const HTTP_METHOD = /^(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI) /
const HTTP_VERSION = Buffer.from(' HTTP/')

/**
 * Ends the connection of a peer that speaks HTTP to a protocol of lines: `buffer[start, end)` is one of its lines, without the
 * terminator. Any web page can make a browser POST to localhost, and were its headers only answered as bad commands, the lines of
 * its body would be carried out (redis/redis#3500). A framer asks, because what a framer throws ends the connection always.
 *
 * @param protocol - For the error.
 * @throws {FrameError} `MALFORMED`.
 */
export function refuseHttp(protocol: string, buffer: Buffer, start: number, end: number): void {
  // `HTTP/1.1` and the space before it end the line: one comparison tells nearly always.
  const at = end - 9
  if (at <= start || buffer[at] !== SPACE || buffer.compare(HTTP_VERSION, 0, 6, at, at + 6) !== 0) return
  if (!HTTP_METHOD.test(readLatin1(buffer, start, Math.min(end, start + 8)))) return
  const shown = oneLine(readLatin1(buffer, start, Math.min(end, start + 40)))
  throw malformed(`${protocol}`, `an HTTP request (\`${shown}\`)`)
}

/** True for `buffer[at, at + 2)` being CR LF. */
export function isCrlf(buffer: Buffer, at: number): boolean {
  return buffer[at] === CR && buffer[at + 1] === LF
}
