/**
 * Frames that end in a delimiter of the user's choice.
 *
 * Room: plugins/codecs. NUL-ended XML, ETX-ended scale and scanner output, `\r\n.\r\n`, and the like.
 */
import type { FrameLimits, FrameReader } from '../../core/codec.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Factory, Framing } from '../../core/plugin.js'
import { enclose, nothing } from './enclose.js'
import { tooLarge, unfitReply } from './faults.js'
import { ByteSearch, endsWith, findBytes } from './search.js'

export interface DelimiterOptions {
  readonly delimiter: string | Uint8Array | readonly number[]
  readonly embedded: 'allow' | 'refuse'
}

const LONGEST = 64

/**
 * Frames up to the first whole delimiter, which is not part of them.
 *
 * The limit is `limits.frameBytes`, delimiter excluded. On message transports a message may end in one delimiter; it is
 * cut off, and stands behind each reply to that peer.
 *
 * @throws {FrameError} `TOO_LARGE`, as soon as no delimiter can come in time. Reach: this connection.
 * @throws {HandlerError} with `embedded: 'refuse'`, for a reply the peer would read as another. Reach: this connection.
 * @example
 * { "endpoint": "tcp://[::]:4001", "codec": { "name": "delimiter", "delimiter": "\\0" } }
 */
export const delimiter: Factory<Framing, DelimiterOptions> = {
  name: 'delimiter',
  options: optionSchema<DelimiterOptions>({
    delimiter: {
      unit: 'any',
      required: true,
      check: (value) => (readDelimiter(value) === undefined ? expected : undefined),
      why: 'What ends a frame: text, in which \\r \\n \\t \\0 \\\\ and \\x1b stand for bytes; or the bytes themselves.',
    },
    embedded: {
      unit: 'choice',
      choices: ['allow', 'refuse'],
      default: 'allow',
      why: 'A reply with a delimiter in it: several frames to the peer; or an error, if strangers write parts of it.',
    },
  }),
  create(options) {
    const bytes = readDelimiter(options.delimiter) as Buffer
    const asText = bytes.toString()
    const text = Buffer.from(asText).equals(bytes) ? asText : undefined
    const refusesEmbedded = options.embedded === 'refuse'
    return {
      payload: 'text',
      framer: { open: (limits) => new DelimiterReader(bytes, limits) },
      frame(payload) {
        if (refusesEmbedded) refuseEmbedded('delimiter', payload, bytes)
        if (typeof payload !== 'string') return enclose(nothing, payload, bytes)
        return text === undefined ? enclose(nothing, Buffer.from(payload), bytes) : payload + text
      },
      trim: (buffer, start, end) => (endsWith(buffer, bytes, start, end) ? end - bytes.length : end),
    }
  },
}

/** What a mark may be, for errors. */
export const expected = `1 to ${LONGEST} bytes: text such as "\\\\r\\\\n" or "|", or a list of numbers from 0 to 255`

/** @returns undefined for what is no delimiter. */
export function readDelimiter(value: unknown): Buffer | undefined {
  const bytes = typeof value === 'string' ? readEscapes(value) : isBytes(value) ? Buffer.from(value) : undefined
  return bytes !== undefined && bytes.length >= 1 && bytes.length <= LONGEST ? bytes : undefined
}

function isBytes(value: unknown): value is Uint8Array | number[] {
  if (value instanceof Uint8Array) return true
  return Array.isArray(value) && value.every((byte) => Number.isInteger(byte) && byte >= 0 && byte <= 255)
}

const escapes: Readonly<Record<string, number>> = { r: 0x0d, n: 0x0a, t: 0x09, '0': 0x00, '\\': 0x5c }

/** Command lines and environments have no way to write control bytes of their own. */
function readEscapes(text: string): Buffer | undefined {
  const bytes: number[] = []
  for (const [part] of text.matchAll(/\\x[0-9a-fA-F]{2}|\\[^x]|\\|[^\\]+/gs)) {
    if (!part.startsWith('\\')) bytes.push(...Buffer.from(part))
    else if (part.startsWith('\\x') && part.length === 4) bytes.push(Number.parseInt(part.slice(2), 16))
    else {
      const byte = escapes[part.slice(1)]
      if (byte === undefined) return undefined
      bytes.push(byte)
    }
  }
  return Buffer.from(bytes)
}

export function refuseEmbedded(codec: string, payload: Uint8Array | string, bytes: Buffer): void {
  // Searched together with the delimiter that follows: a payload's last bytes may begin one.
  const whole = Buffer.concat([typeof payload === 'string' ? Buffer.from(payload) : payload, bytes])
  if (whole.indexOf(bytes) === whole.length - bytes.length) return
  throw unfitReply(
    codec,
    'the reply has the mark in it that ends it',
    "send its parts one by one, or set embedded: 'allow'",
  )
}

class DelimiterReader implements FrameReader {
  start = 0
  end = 0
  readonly need = 0
  readonly #delimiter: Buffer
  readonly #limit: number
  /** For a delimiter of one byte. */
  readonly #search: ByteSearch | undefined
  /** Bytes from the frame's start in which no delimiter begins. */
  #scanned = 0

  constructor(bytes: Buffer, limits: FrameLimits) {
    this.#delimiter = bytes
    this.#limit = limits.frameBytes
    this.#search = bytes.length === 1 ? new ByteSearch(bytes[0] as number) : undefined
  }

  next(buffer: Buffer, start: number, end: number): number {
    const { length } = this.#delimiter
    const from = start + this.#scanned
    const search = this.#search
    const found = search === undefined ? findBytes(buffer, this.#delimiter, from, end) : search.find(buffer, from, end)
    if (found < 0) {
      const seen = end - start
      if (seen > this.#limit && seen - this.#begun(buffer, start, end) > this.#limit) throw this.#tooLarge()
      if (seen >= length) this.#scanned = seen - length + 1
      return -1
    }
    if (found - start > this.#limit) throw this.#tooLarge()
    this.#scanned = 0
    this.start = start
    this.end = found
    return found + length
  }

  /** How many bytes at the end may be the front of a delimiter. */
  #begun(buffer: Buffer, start: number, end: number): number {
    const bytes = this.#delimiter
    for (let count = Math.min(bytes.length - 1, end - start); count > 0; count--) {
      if (bytes.compare(buffer, end - count, end, 0, count) === 0) return count
    }
    return 0
  }

  #tooLarge(): Error {
    return tooLarge('frames', this.#limit, 'frameBytes')
  }
}
