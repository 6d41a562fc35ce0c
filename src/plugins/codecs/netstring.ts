/**
 * Netstrings: `5:hello,`.
 *
 * Room: plugins/codecs. D. J. Bernstein, "Netstrings", 1997 (cr.yp.to/proto/netstrings.txt); used by SCGI, QMTP.
 */
import type { FrameLimits, FrameReader } from '../../core/codec.js'
import type { Factory, Framing } from '../../core/plugin.js'
import { enclose } from './enclose.js'
import { malformed, showByte, tooLarge } from './faults.js'

const ZERO = 0x30
const COLON = 0x3a
const COMMA = 0x2c

/**
 * Frames behind their length in decimal digits and a colon, with a comma at the end.
 *
 * @throws {FrameError} `TOO_LARGE` over `limits.frameBytes`, at the digit that says so; `MALFORMED` for anything but
 *   digits, for leading zeros, for a missing comma. Reach: this connection.
 * @example
 * { "endpoint": "unix:./scgi.sock", "codec": { "name": "netstring", "payload": "text" } }
 */
export const netstring: Factory<Framing, Record<string, never>> = {
  name: 'netstring',
  create: () => framing,
}

const comma = Buffer.from(',')

const framing: Framing = {
  payload: 'bytes',
  framer: { open: (limits) => new NetstringReader(limits) },
  frame(payload) {
    if (typeof payload === 'string') return `${Buffer.byteLength(payload)}:${payload},`
    return enclose(Buffer.from(`${payload.length}:`), payload, comma)
  },
}

class NetstringReader implements FrameReader {
  start = 0
  end = 0
  /** The whole frame, once its length is known. */
  need = 0
  readonly #limit: number
  /** Bytes of the digits and the colon. */
  #head = 0

  constructor(limits: FrameLimits) {
    this.#limit = limits.frameBytes
  }

  next(buffer: Buffer, start: number, end: number): number {
    if (this.need === 0 && !this.#readLength(buffer, start, end)) return -1
    const after = start + this.need
    if (end < after) return -1
    if (buffer[after - 1] !== COMMA) throw malformed('a comma behind the netstring', showByte(buffer[after - 1]))
    this.start = start + this.#head
    this.end = after - 1
    this.need = 0
    return after
  }

  /** @returns false when more bytes are needed. */
  #readLength(buffer: Buffer, start: number, end: number): boolean {
    let length = 0
    for (let index = start; index < end; index++) {
      const byte = buffer[index] as number
      if (byte === COLON && index > start) {
        this.#head = index - start + 1
        this.need = this.#head + length + 1
        return true
      }
      if (byte < ZERO || byte >= COLON) throw malformed("a netstring's length in digits and a colon", showByte(byte))
      if (length === 0 && index > start) throw malformed("a netstring's length without leading zeros", 'one with them')
      length = length * 10 + (byte - ZERO)
      if (length > this.#limit) throw tooLarge('netstrings', this.#limit, 'frameBytes')
      if (length > Number.MAX_SAFE_INTEGER) throw malformed('a length of at most 2^53 - 1', 'a longer one')
    }
    return false
  }
}
