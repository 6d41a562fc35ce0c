/**
 * Syslog, receiving (and sending): RFC 5424 and the older RFC 3164, over datagrams and streams.
 *
 * Room: plugins/protocols. On streams each frame is counted in octets or ends in a line feed (RFC 6587), told apart by its
 * first byte. Nothing is ever answered.
 */
import type { Codec, CodecContext, FrameLimits, FrameReader } from '../../core/codec.js'
import type { Detection, Factory, Protocol } from '../../core/plugin.js'
import { CR, kindOf, LF, malformed, NINE, SPACE, tooLarge, unfitReply, ZERO } from './text-support.js'

const severities = ['emergency', 'alert', 'critical', 'error', 'warning', 'notice', 'info', 'debug'] as const
export type SyslogSeverity = (typeof severities)[number]

export interface SyslogMessage {
  /** 0 to 23 (RFC 5424, table 1). */
  readonly facility: number
  readonly severity: SyslogSeverity
  /** `5424`, `3164`, or `raw` for what has no header at all. */
  readonly format: '5424' | '3164' | 'raw'
  /** As it was written; undefined for none. */
  readonly timestamp?: string | undefined
  readonly host?: string | undefined
  readonly app?: string | undefined
  readonly pid?: string | undefined
  readonly msgid?: string | undefined
  /** Structured data: `{ 'exampleSDID@32473': { iut: '3' } }`. */
  readonly structured?: Readonly<Record<string, Readonly<Record<string, string>>>>
  readonly message: string
}

/**
 * The route is the severity: `@OnMessage('error')`.
 *
 * A line feed, carriage return or NUL at the end of a message is no part of it. The limit is `limits.frameBytes`.
 *
 * @throws {FrameError} `TOO_LARGE`; `MALFORMED` for a frame that begins with neither a count nor `<`. Reach: this
 *   connection.
 * @example
 * { "endpoint": ["udp://[::]:514", "tcp://[::]:601"], "protocol": "syslog", "handler": "./collector.ts" }
 */
export const syslog: Factory<Protocol, Record<string, never>> = {
  name: 'syslog',
  create: () => ({ codec: new SyslogCodec(), detect }),
}

/** `<13>`, or a count and then that. */
function detect(buffer: Buffer, start: number, end: number): Detection {
  const front = buffer.toString('latin1', start, Math.min(end, start + 16))
  if (/^(?:[1-9]\d{0,9} )?<\d{1,3}>/.test(front)) return 'yes'
  return /^(?:[1-9]\d{0,9}(?: (?:<\d{0,3})?)?|<\d{0,3})$/.test(front) || front === '' ? 'more' : 'no'
}

class SyslogCodec implements Codec<SyslogMessage> {
  readonly framer = { open: (limits: FrameLimits): FrameReader => new SyslogReader(limits) }

  decode(frame: Uint8Array): SyslogMessage {
    let end = frame.byteLength
    // Not by a pattern: one that is anchored at the end alone takes the square of a run of them in the middle.
    while (end > 0 && isTrailer(frame[end - 1] as number)) end--
    return parse(Buffer.from(frame.buffer, frame.byteOffset, end).toString())
  }
  route({ severity }: SyslogMessage): string {
    return severity
  }
  encode(message: SyslogMessage, { kind }: CodecContext): Uint8Array {
    if (typeof message?.message !== 'string') {
      throw unfitReply(
        'syslog',
        `expected { severity, message … }, got ${kindOf(message)}`,
        'a collector answers nothing',
      )
    }
    const { facility = 1, severity = 'info', timestamp, host, app, pid, msgid, structured = {} } = message
    const level = severities.indexOf(severity)
    if (level < 0 || !Number.isInteger(facility) || facility < 0 || facility > 23) {
      const remedy = `facility is 0 to 23, severity one of ${severities.join(', ')}`
      throw unfitReply('syslog', `facility ${facility}, severity ${String(severity)}`, remedy)
    }
    const head = `<${facility * 8 + level}>1`
    const fields = [timestamp ?? new Date().toISOString(), host, app, pid, msgid].map((one) => word(one, 255))
    const data = Object.entries(structured).map(([id, pairs]) => {
      const written = Object.entries(pairs).map(
        ([key, value]) => ` ${name(key)}="${String(value).replace(/["\\\]]/g, '\\$&')}"`,
      )
      return `[${name(id)}${written.join('')}]`
    })
    const bytes = Buffer.from(`${head} ${fields.join(' ')} ${data.join('') || '-'} ${message.message}`)
    return kind === 'message' ? bytes : Buffer.concat([Buffer.from(`${bytes.length} `), bytes])
  }
}

function isTrailer(byte: number): boolean {
  return byte === LF || byte === CR || byte === 0
}

/** A field of the header: visible ASCII, or `-` (RFC 5424, 6). A stranger's words must not become further fields. */
function word(text: string | undefined, most: number): string {
  return text === undefined || text === '' ? '-' : text.replace(/[^!-~]/g, '_').slice(0, most)
}

/** SD-NAME (RFC 5424, 6.3.2). */
function name(text: string): string {
  return word(text, 32).replace(/[=\]"]/g, '_')
}

function parse(text: string): SyslogMessage {
  const [head = '', digits = ''] = /^<(\d{1,3})>/.exec(text) ?? []
  const priority = Number(digits)
  // RFC 3164, 4.3.3: what has no valid priority is user.notice, whole.
  if (head === '' || priority > 191) return { facility: 1, severity: 'notice', format: 'raw', message: text }
  const facility = priority >> 3
  const severity = severities[priority & 7] as SyslogSeverity
  const rest = text.slice(head.length)
  return { facility, severity, ...(parse5424(rest) ?? parse3164(rest)) }
}

type Body = Omit<SyslogMessage, 'facility' | 'severity'>

/** Work linear in the text: no pattern backs up over another. */
function parse5424(text: string): Body | undefined {
  if (!text.startsWith('1 ')) return undefined
  const fields: (string | undefined)[] = []
  let at = 2
  while (fields.length < 5) {
    const space = text.indexOf(' ', at)
    if (space < 0) return undefined
    fields.push(space - at === 1 && text[at] === '-' ? undefined : text.slice(at, space))
    at = space + 1
  }
  const [timestamp, host, app, pid, msgid] = fields
  const data = readStructured(text, at)
  if (data === undefined) return undefined
  // One space and a byte order mark may stand before the message.
  const message = text.slice(data.after).replace(/^ \ufeff?/, '')
  return { format: '5424', timestamp, host, app, pid, msgid, structured: data.structured, message }
}

/** By hand: this is where a collector's time goes, and a pattern takes twice as long. Linear. */
function readStructured(text: string, from: number) {
  const structured: Record<string, Record<string, string>> = Object.create(null)
  if (text[from] === '-') return { structured, after: from + 1 }
  let at = from
  if (text[at] !== '[') return undefined
  while (text[at] === '[') {
    const idEnd = nameEnd(text, at + 1)
    const id = text.slice(at + 1, idEnd)
    const pairs: Record<string, string> = Object.create(null)
    at = idEnd
    while (text.charCodeAt(at) === SPACE) {
      const equals = nameEnd(text, at + 1)
      if (equals === at + 1 || text[equals] !== '=' || text[equals + 1] !== '"') break
      const end = valueEnd(text, equals + 2)
      if (end < 0) break
      const value = text.slice(equals + 2, end)
      pairs[text.slice(at + 1, equals)] = value.includes('\\') ? value.replace(/\\(["\\\]])/g, '$1') : value
      at = end + 1
    }
    if (id === '' || text[at] !== ']') return undefined
    structured[id] = pairs
    at++
  }
  return { structured, after: at }
}

/** SD-NAME (RFC 5424, 6.3.2), 32 characters at most, whatever is written in it. */
function nameEnd(text: string, from: number): number {
  const most = Math.min(text.length, from + 32)
  let at = from
  for (; at < most; at++) {
    const code = text.charCodeAt(at)
    if (code === 0x3d || code === 0x5d || code === 0x22 || code === SPACE || (code >= 9 && code <= CR)) break
    if (code > 127 && /\s/.test(text[at] as string)) break
  }
  return at
}

/** @returns the index of the quotation mark that ends a value; -1: it is none (6.3.3). */
function valueEnd(text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === 0x22) return at
    if (code === 0x5d) return -1
    if (code !== 0x5c) continue
    at++
    if (at === text.length || /[\n\r\u2028\u2029]/.test(text[at] as string)) return -1
  }
  return -1
}

function parse3164(text: string): Body {
  const [head = '', timestamp] = /^([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) /.exec(text) ?? []
  if (timestamp === undefined) return { format: '3164', message: text }
  const rest = text.slice(head.length)
  const [before = '', host] = /^([^\s:[\]]{1,255}) /.exec(rest) ?? []
  const tagged = rest.slice(before.length)
  const [tag = '', app, pid] = /^([^\s:[\]]{1,64})(?:\[([^\]\s]{1,32})\])?: ?/.exec(tagged) ?? []
  return { format: '3164', timestamp, host, app, pid, message: tagged.slice(tag.length) }
}

/** A count has at most so many digits: what is larger is over any limit. */
const COUNT_DIGITS = 10

class SyslogReader implements FrameReader {
  start = 0
  end = 0
  need = 0
  readonly #limit: number
  #scanned = 0

  constructor(limits: FrameLimits) {
    this.#limit = limits.frameBytes
  }

  /** Empty lines are nobody's. */
  skip(buffer: Buffer, start: number, end: number): number {
    if (this.#scanned > 0) return start
    let at = start
    while (at < end && (buffer[at] === LF || buffer[at] === 0)) at++
    return at
  }

  next(buffer: Buffer, start: number, end: number): number {
    const first = buffer[start] as number
    if (first === 0x3c) return this.#line(buffer, start, end)
    if (first > ZERO && first <= NINE) return this.#counted(buffer, start, end)
    throw malformed('a count or <', `0x${first.toString(16)}`)
  }

  #line(buffer: Buffer, start: number, end: number): number {
    const at = buffer.subarray(start + this.#scanned, end).indexOf(LF)
    const size = at < 0 ? end - start : this.#scanned + at
    if (size > this.#limit) throw tooLarge('messages', this.#limit, 'frameBytes')
    if (at < 0) {
      this.#scanned = size
      return -1
    }
    this.#scanned = 0
    this.start = start
    this.end = start + size
    return start + size + 1
  }

  #counted(buffer: Buffer, start: number, end: number): number {
    let length = 0
    for (let at = start; at < end; at++) {
      const byte = buffer[at] as number
      if (byte === SPACE) {
        this.need = at + 1 - start + length
        if (end - start < this.need) return -1
        this.start = at + 1
        this.end = start + this.need
        this.need = 0
        return this.end
      }
      if (byte < ZERO || byte > NINE || at - start >= COUNT_DIGITS)
        throw malformed('a count and a space', 'something else')
      length = length * 10 + byte - ZERO
      if (length > this.#limit) throw tooLarge('messages', this.#limit, 'frameBytes')
    }
    return -1
  }

  /** A last line without its end is a message all the same: most senders just stop. */
  finish(buffer: Buffer, start: number, end: number): number {
    if (buffer[start] !== 0x3c) return -1
    this.start = start
    this.end = end
    return end
  }
}
