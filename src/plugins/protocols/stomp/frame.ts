/**
 * Frames of STOMP: a command, headers, a body up to its length or to NUL.
 *
 * Room: plugins/protocols. stomp.github.io/stomp-specification-1.2.html; 1.0 and 1.1 differ in their escapes alone.
 */
import type { CodecContext, FrameLimits, FrameReader } from '../../../core/codec.js'
import { CR, kindOf, LF, malformed, readUtf8, showByte, tooLarge, unfitReply } from '../text-support.js'

/** What both sides send. Header names are as they came; of a name that stands twice the first counts. */
export interface StompFrame {
  readonly command: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

/** A frame to be sent: what is left out is empty; numbers and switches are written as text. */
export interface StompFrameToSend {
  readonly command: string
  readonly headers?: Readonly<Record<string, string | number | boolean | undefined>>
  readonly body?: string | Uint8Array | undefined
}

export type StompVersion = '1.0' | '1.1' | '1.2'

const NUL = 0
/** More than any client sends; each costs an object's property. */
const MOST_HEADERS = 256

/** A heart-beat on a message transport: an end of line that belongs to no frame. */
export const HEART_BEAT: StompFrame = { command: '', headers: {}, body: Buffer.alloc(0) }

export class StompReader implements FrameReader {
  start = 0
  end = 0
  need = 0
  readonly #limit: number
  readonly #lineLimit: number
  /** Bytes of the present frame that were looked at. */
  #scanned = 0
  /** Where the present line of the head begins. */
  #line = 0
  /** Where the body begins; 0: the head is not whole. */
  #body = 0
  /** -1: up to NUL. */
  #length = -1

  constructor(limits: FrameLimits) {
    this.#limit = limits.frameBytes
    this.#lineLimit = Math.min(limits.lineBytes, limits.frameBytes)
  }

  /** Ends of lines between frames are heart-beats. */
  skip(buffer: Buffer, start: number, end: number): number {
    if (this.#scanned > 0) return start
    let at = start
    while (at < end && (buffer[at] === LF || (buffer[at] === CR && buffer[at + 1] === LF && at + 1 < end))) at++
    return at
  }

  next(buffer: Buffer, start: number, end: number): number {
    // Half of an end of line between frames; its line feed decides.
    if (end - start === 1 && buffer[start] === CR) return -1
    if (this.#body === 0 && !this.#head(buffer, start, end)) return -1
    const size = this.#length < 0 ? this.#toNul(buffer, start, end) : this.#counted(buffer, start, end)
    if (size < 0) return -1
    this.#scanned = this.#line = this.#body = this.need = 0
    this.#length = -1
    this.start = start
    this.end = start + size
    return this.end + 1
  }

  /** Looks for the empty line. @returns false when more bytes are needed. */
  #head(buffer: Buffer, start: number, end: number): boolean {
    for (let at = start + this.#scanned; at < end; at++) {
      const byte = buffer[at] as number
      if (at - start >= this.#limit) throw tooLarge('frames', this.#limit, 'frameBytes')
      if (byte === NUL) throw malformed('an empty line behind the headers', '0x00')
      if (byte !== LF) {
        // One over the limit may be the carriage return.
        if (at - start - this.#line > this.#lineLimit) throw tooLarge('header lines', this.#lineLimit, 'lineBytes')
        continue
      }
      const from = start + this.#line
      const to = at > from && buffer[at - 1] === CR ? at - 1 : at
      this.#line = at + 1 - start
      if (from === start) checkCommand(buffer, from, to)
      else if (from === to) {
        this.#body = this.#scanned = this.#line
        return true
      } else this.#measure(buffer, from, to)
    }
    this.#scanned = end - start
    // What begins like no command is none, however long it takes.
    if (this.#line === 0 && this.#scanned > MOST_COMMAND) checkCommand(buffer, start, end)
    return false
  }

  #measure(buffer: Buffer, from: number, to: number): void {
    if (this.#length >= 0 || !isContentLength(buffer, from, to)) return
    let length = 0
    let at = from + CONTENT_LENGTH.length
    if (at === to) throw malformed('a content-length in digits', 'nothing')
    for (; at < to; at++) {
      const digit = (buffer[at] as number) - 0x30
      if (digit < 0 || digit > 9) throw malformed('a content-length in digits', showByte(buffer[at]))
      length = length * 10 + digit
      if (length > this.#limit) throw tooLarge('frames', this.#limit, 'frameBytes')
    }
    this.#length = length
  }

  #counted(buffer: Buffer, start: number, end: number): number {
    const size = this.#body + this.#length
    if (size > this.#limit) throw tooLarge('frames', this.#limit, 'frameBytes')
    this.need = size + 1
    if (end - start < this.need) return -1
    if (buffer[start + size] !== NUL) throw malformed('NUL behind the body', showByte(buffer[start + size]))
    return size
  }

  #toNul(buffer: Buffer, start: number, end: number): number {
    const at = buffer.subarray(start + this.#scanned, end).indexOf(NUL)
    const size = at < 0 ? end - start : this.#scanned + at
    if (size > this.#limit) throw tooLarge('frames', this.#limit, 'frameBytes')
    if (at >= 0) return size
    this.#scanned = size
    return -1
  }
}

/** `UNSUBSCRIBE` has eleven. */
const MOST_COMMAND = 16

function checkCommand(buffer: Buffer, from: number, to: number): void {
  for (let at = from; at < to; at++) {
    const byte = buffer[at] as number
    if (byte < 0x41 || byte > 0x5a || at - from >= MOST_COMMAND)
      throw malformed('a command in capital letters', showByte(byte))
  }
  if (from === to) throw malformed('a command', 'an empty line')
}

const CONTENT_LENGTH = Buffer.from('content-length:')

function isContentLength(buffer: Buffer, from: number, to: number): boolean {
  if (to - from < CONTENT_LENGTH.length || buffer[from] !== CONTENT_LENGTH[0]) return false
  return buffer.compare(CONTENT_LENGTH, 0, CONTENT_LENGTH.length, from, from + CONTENT_LENGTH.length) === 0
}

const TEXT = 'headers are text'

/** One frame, `buffer[start, end)`, its NUL left out or (on message transports) still behind it. */
export function readFrame(buffer: Buffer, start: number, given: number, version: StompVersion): StompFrame {
  let at = start
  const lineEnd = (from: number): number => {
    // Lines are short: looking here costs less than a view and a call.
    for (let found = from; found < given; found++) if (buffer[found] === LF) return found
    throw malformed('a whole frame', 'a part of one')
  }
  const trim = (from: number, to: number): number => (to > from && buffer[to - 1] === CR ? to - 1 : to)
  let line = lineEnd(at)
  checkCommand(buffer, at, trim(at, line))
  const command = buffer.toString('latin1', at, trim(at, line))
  // 1.2, "Value Encoding": these two are read before it is known what is spoken.
  const isPlain = command === 'CONNECT' || command === 'CONNECTED' || version === '1.0'
  const headers: Record<string, string> = Object.create(null)
  const from = line + 1
  let count = 0
  for (;;) {
    at = line + 1
    line = lineEnd(at)
    if (at === trim(at, line)) break
    if (++count > MOST_HEADERS) throw malformed(`at most ${MOST_HEADERS} headers`, 'more')
  }
  // All of them as one text: reading each name and value out of the bytes takes several times as long.
  const text = count === 0 ? '' : readUtf8(buffer, from, at, TEXT)
  const read = (part: string): string => (isPlain ? part : unescaped(part, version))
  for (let place = 0; place < text.length; ) {
    const feed = text.indexOf('\n', place)
    const to = text.charCodeAt(feed - 1) === CR ? feed - 1 : feed
    const colon = text.indexOf(':', place)
    if (colon < 0 || colon >= to) throw malformed('a header with a colon', 'a line without one')
    const name = read(text.slice(place, colon))
    if (!(name in headers)) headers[name] = read(text.slice(colon + 1, to))
    place = feed + 1
  }
  return { command, headers, body: buffer.subarray(line + 1, given) }
}

/** A datagram's frame ends where its NUL is. Only ends of lines may follow. */
export function readWholeMessage(buffer: Buffer, start: number, given: number, version: StompVersion): StompFrame {
  let end = given
  while (end > start && (buffer[end - 1] === LF || buffer[end - 1] === CR)) end--
  if (end === start) return HEART_BEAT
  if (buffer[end - 1] !== NUL) throw malformed('NUL at the end of a frame', showByte(buffer[end - 1]))
  const frame = readFrame(buffer, start, end - 1, version)
  const length = frame.headers['content-length']
  if (length === undefined ? frame.body.includes(NUL) : Number(length) !== frame.body.length)
    throw malformed('one frame a message', 'something else')
  return frame
}

const escapes: Readonly<Record<string, string>> = { r: '\r', n: '\n', c: ':', '\\': '\\' }

function unescaped(text: string, version: StompVersion): string {
  if (!text.includes('\\')) return text
  return text.replace(/\\(.?)/gs, (_, letter: string) => {
    const meant = version === '1.1' && letter === 'r' ? undefined : escapes[letter]
    // 1.2: "undefined escape sequences such as \t MUST be treated as a fatal protocol error".
    if (meant === undefined) throw malformed('\\r, \\n, \\c or \\\\ in a header', 'another escape')
    return meant
  })
}

const SPECIAL = /[\0\r\n:\\]/

function escaped(text: string, isPlain: boolean, version: StompVersion): string {
  // Nothing can stand for NUL, nor for the end of a line where there are no escapes.
  if (!SPECIAL.test(text)) return text
  if (isPlain) return text.replace(/[\0\r\n]/g, ' ')
  return text.replace(/[\0\r\n:\\]/g, (letter) => {
    if (letter === '\n') return '\\n'
    if (letter === ':') return '\\c'
    if (letter === '\\') return '\\\\'
    return letter === '\r' && version === '1.2' ? '\\r' : ' '
  })
}

/** A frame on the wire. Text without NUL stays text, so that a browser gets it as such. */
export function writeFrame(frame: unknown, version: StompVersion, { kind }: CodecContext): Uint8Array | string {
  const { command, headers = {}, body = '' } = (frame ?? {}) as StompFrameToSend
  if (typeof command !== 'string' || !/^[A-Z]{1,16}$/.test(command)) {
    throw unfitReply('stomp', `expected { command, headers, body }, got ${kindOf(frame)}`, 'send a frame')
  }
  if (typeof body !== 'string' && !(body instanceof Uint8Array))
    throw unfitReply('stomp', `a body is ${kindOf(body)}`, 'give text or bytes')
  const isPlain = command === 'CONNECT' || command === 'CONNECTED' || version === '1.0'
  let head = `${command}\n`
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || name === 'content-length') continue
    const key = escaped(name, isPlain, version)
    head += `${isPlain ? key.replaceAll(':', ' ') : key}:${escaped(String(value), isPlain, version)}\n`
  }
  const length = typeof body === 'string' ? Buffer.byteLength(body) : body.length
  if (length > 0) head += `content-length:${length}\n`
  const tail = kind === 'stream' ? '\0\n' : '\0'
  if (typeof body === 'string') return `${head}\n${body}${tail}`
  return Buffer.concat([Buffer.from(`${head}\n`), body, Buffer.from(tail)])
}
