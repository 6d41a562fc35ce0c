/**
 * Messages that are text.
 *
 * Room: plugins/codecs. The payload of `line`, and so the path most messages take.
 */
import { isAscii, isUtf8 } from 'node:buffer'
import type { Payload } from '../../core/codec.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Factory } from '../../core/plugin.js'
import { kindOf, malformed, unfitReply } from './faults.js'

export interface TextOptions {
  readonly encoding: BufferEncoding
  readonly fatal: boolean
}

/** The names Node takes (Buffer, "Buffers and character encodings"), each with the one that stands for it here. */
const encodings: Readonly<Record<string, BufferEncoding>> = {
  utf8: 'utf8',
  'utf-8': 'utf8',
  latin1: 'latin1',
  binary: 'latin1',
  ascii: 'ascii',
  utf16le: 'utf16le',
  'utf-16le': 'utf16le',
  ucs2: 'utf16le',
  'ucs-2': 'utf16le',
  hex: 'hex',
  base64: 'base64',
  base64url: 'base64url',
}

/**
 * A frame as a string.
 *
 * Bytes that are no UTF-8 become U+FFFD, as everywhere on the web, unless `fatal` is set. With `hex` and `base64` the
 * message is the frame's bytes so written. Replies are text, numbers, booleans (written as `String` writes them), or
 * bytes, which go out as they are.
 *
 * @throws {FrameError} `MALFORMED` with `fatal`, for bytes that are not of the encoding; in `utf16le` always for an odd
 *   number of bytes. Reach: this connection.
 * @throws {HandlerError} for objects and null, and for text that the encoding cannot write. Reach: this connection.
 */
export const text: Factory<Payload, TextOptions> = {
  name: 'text',
  options: optionSchema<TextOptions>({
    encoding: {
      unit: 'choice',
      choices: Object.keys(encodings),
      default: 'utf8',
      why: 'How text is written in bytes.',
    },
    fatal: {
      unit: 'switch',
      default: false,
      why: 'Refuse bytes that are not of the encoding, in place of U+FFFD for each.',
    },
  }),
  create({ encoding: name, fatal }) {
    const encoding = encodings[name] as BufferEncoding
    const write = writers[encoding]
    return {
      decodeAt: reader(encoding, fatal),
      encode(message) {
        const plain = typeof message === 'string' ? message : plainOf(message)
        return write === undefined || typeof plain !== 'string' ? plain : write(plain, encoding)
      },
      // A String object, such as an endpoint, is text, not a reply per letter.
      isMessage: (value) => value instanceof String,
    }
  },
}

function plainOf(message: unknown): string | Uint8Array {
  if (message instanceof Uint8Array) return message
  switch (typeof message) {
    case 'number':
    case 'boolean':
    case 'bigint':
      return String(message)
  }
  if (message instanceof String) return message.toString()
  const remedy = "return text, or use payload: 'json' (codec json-lines); undefined sends no reply"
  throw unfitReply('text', `expected a reply of text, got ${kindOf(message)}`, remedy)
}

/** What stands beneath `toString`, on every Buffer of Node 20 to 26: 48 against 65 ns for a line of 32 bytes. */
type Sliceable = Buffer & { utf8Slice(start: number, end: number): string }

type Read = (buffer: Buffer, start: number, end: number, limit?: number) => string

function reader(encoding: BufferEncoding, isFatal: boolean): Read {
  if (encoding === 'utf8') return isFatal ? readUtf8Strictly : readingAhead()
  if (encoding === 'utf16le') return isFatal ? (buffer, start, end) => paired(readUtf16(buffer, start, end)) : readUtf16
  if (encoding === 'ascii' && isFatal) return readAsciiStrictly
  return (buffer, start, end) => buffer.toString(encoding, start, end)
}

/** Frames are read together only within so few bytes: a slice that a handler keeps keeps all of them. */
const AHEAD_BYTES = 4_096

/**
 * UTF-8 frame by frame, or for several frames of one chunk in one go: a call into the engine's decoder costs more than the
 * text of a short line. Only where every byte is a character of its own do places in the text and in the bytes agree;
 * the lengths tell. Nothing goes stale: bytes that have come are never written again (`CodecContext.limit`).
 */
function readingAhead(): Read {
  let known: Buffer | undefined
  let from = 0
  let text = ''
  return (buffer, start, end, limit = end) => {
    if (buffer === known && start >= from && end <= from + text.length) return text.slice(start - from, end - from)
    if (buffer === known || limit - end <= end - start || limit - start > AHEAD_BYTES)
      return readUtf8(buffer, start, end)
    const all = readUtf8(buffer, start, limit)
    known = buffer
    from = start
    // Not one to one: the buffer is remembered with no text, so that it is not tried again.
    text = all.length === limit - start ? all : ''
    return text === '' ? readUtf8(buffer, start, end) : text.slice(0, end - start)
  }
}

/** A frame's bytes as text, U+FFFD for each sequence that is none. */
export const readUtf8: Read =
  typeof (Buffer.prototype as Partial<Sliceable>).utf8Slice === 'function'
    ? (buffer, start, end) => (buffer as Sliceable).utf8Slice(start, end)
    : (buffer, start, end) => buffer.toString('utf8', start, end)

/** The same, refused where it is no UTF-8 (RFC 3629). */
export function readUtf8Strictly(buffer: Buffer, start: number, end: number): string {
  const read = readUtf8(buffer, start, end)
  // Only a text with the replacement in it can have been replaced; looking for that is nearly free where all is Latin.
  if (read.includes('\ufffd') && !isUtf8(buffer.subarray(start, end)))
    throw malformed('text in UTF-8', 'bytes that are none')
  return read
}

function readAsciiStrictly(buffer: Buffer, start: number, end: number): string {
  if (!isAscii(buffer.subarray(start, end))) throw malformed('text in ASCII', 'bytes over 0x7f')
  return buffer.toString('latin1', start, end)
}

function readUtf16(buffer: Buffer, start: number, end: number): string {
  if ((end - start) % 2 !== 0) throw malformed('text in UTF-16', `an odd number of bytes (${end - start})`)
  return buffer.toString('utf16le', start, end)
}

function paired(read: string): string {
  if (!/\p{Surrogate}/u.test(read)) return read
  throw malformed('text in UTF-16', 'half a surrogate pair')
}

type Write = (plain: string, encoding: BufferEncoding) => Buffer

/** UTF-8 needs none: text goes on as text. The others would cut what they cannot write without a word. */
const writers: Readonly<Partial<Record<BufferEncoding, Write>>> = {
  utf16le: (plain, encoding) => Buffer.from(plain, encoding),
  latin1: (plain, encoding) => writeIf(/^[\0-\xff]*$/.test(plain), plain, encoding),
  ascii: (plain, encoding) => writeIf(/^[\0-\x7f]*$/.test(plain), plain, encoding),
  hex: (plain, encoding) => writeIf(plain.length % 2 === 0 && /^[0-9a-f]*$/i.test(plain), plain, encoding),
  base64: (plain, encoding) => writeIf(isBase64(plain), plain, encoding),
  base64url: (plain, encoding) => writeIf(isBase64(plain), plain, encoding),
}

/** Either alphabet, padded or not (RFC 4648, sections 4 and 5); one letter alone is no byte. */
function isBase64(plain: string): boolean {
  const padding = plain.endsWith('==') ? 2 : plain.endsWith('=') ? 1 : 0
  return /^[\w+/-]*={0,2}$/.test(plain) && (plain.length - padding) % 4 !== 1
}

function writeIf(isFit: boolean, plain: string, encoding: BufferEncoding): Buffer {
  if (isFit) return Buffer.from(plain, encoding)
  throw unfitReply(
    'text',
    `the reply has characters that ${encoding} cannot write`,
    'choose another `encoding`, such as utf8',
  )
}
