/**
 * A header of one size, then a body whose length the header tells, in a way only the application knows.
 *
 * Room: plugins/codecs. For what `length-field` cannot say: lengths in words, in BCD, with a checksum counted in.
 */
import type { FrameLimits, FrameReader } from '../../core/codec.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Factory, Framing } from '../../core/plugin.js'
import { enclose, nothing } from './enclose.js'
import { malformed, tooLarge, unfitReply } from './faults.js'

export interface HeaderBodyOptions {
  readonly headerBytes: number
  readonly length: (header: Buffer) => number
  readonly header: (bodyBytes: number, body: Uint8Array) => Uint8Array
  readonly strip: boolean
}

/**
 * Frames of `headerBytes` and as many more as `length(header)` says.
 *
 * The functions can be given in code only. The limit is `limits.frameBytes`, for the body. On message transports a
 * datagram is a message, whole.
 *
 * @throws {FrameError} `TOO_LARGE` before the body comes; `MALFORMED` where `length` throws or gives no whole number.
 *   Reach: this connection.
 * @example
 * codec: { name: 'header-body', headerBytes: 4, length: (header) => header.readUInt16BE(2) * 4,
 *          header: (bytes) => Buffer.from([1, 0, bytes >> 10, bytes >> 2]) }
 */
export const headerBody: Factory<Framing, HeaderBodyOptions> = {
  name: 'header-body',
  options: optionSchema<HeaderBodyOptions>({
    headerBytes: { unit: 'bytes', required: true, min: 1, max: 65_536, why: 'How long each header is.' },
    length: {
      unit: 'any',
      required: true,
      check: isFunction,
      why: 'In code: `(header: Buffer) => number`, the bytes of the body behind this header.',
    },
    header: {
      unit: 'any',
      required: true,
      check: isFunction,
      why: 'In code: `(bodyBytes, body) => Uint8Array`, the header that goes out before a body.',
    },
    strip: { unit: 'switch', default: true, why: 'The message is the body alone; false: header and body.' },
  }),
  create(options) {
    const { headerBytes, header, strip } = options
    return {
      payload: 'bytes',
      framer: { open: (limits) => new HeaderBodyReader(options, limits) },
      frame(payload) {
        const body = typeof payload === 'string' ? Buffer.from(payload) : payload
        if (!strip) return body
        const head = header(body.length, body)
        if (!(head instanceof Uint8Array) || head.length !== headerBytes) {
          const got = head instanceof Uint8Array ? `${head.length}` : typeof head
          throw unfitReply('header-body', `header() gave ${got}`, `it must give ${headerBytes} bytes`)
        }
        return enclose(Buffer.from(head), body, nothing)
      },
    }
  },
}

function isFunction(value: unknown): string | undefined {
  return typeof value === 'function' ? undefined : 'expected a function; configure this codec in code'
}

class HeaderBodyReader implements FrameReader {
  start = 0
  end = 0
  /** The whole frame, once its header is read. */
  need = 0
  readonly #options: HeaderBodyOptions
  readonly #limit: number

  constructor(options: HeaderBodyOptions, limits: FrameLimits) {
    this.#options = options
    this.#limit = limits.frameBytes
  }

  next(buffer: Buffer, start: number, end: number): number {
    const { headerBytes, strip } = this.#options
    if (end - start < headerBytes) return -1
    if (this.need === 0) {
      const length = this.#lengthOf(buffer.subarray(start, start + headerBytes))
      if (length > this.#limit) throw tooLarge('frames', this.#limit, 'frameBytes')
      this.need = headerBytes + length
    }
    if (end - start < this.need) return -1
    this.start = strip ? start + headerBytes : start
    this.end = start + this.need
    this.need = 0
    return this.end
  }

  #lengthOf(header: Buffer): number {
    let length: unknown
    try {
      length = this.#options.length(header)
    } catch (thrown) {
      throw malformed('a header', `one that length() refused: ${thrown instanceof Error ? thrown.message : thrown}`)
    }
    if (typeof length === 'number' && Number.isSafeInteger(length) && length >= 0) return length
    throw malformed('a length of 0 or more bytes', `${String(length)} from length()`)
  }
}
