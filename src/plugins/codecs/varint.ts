/**
 * Frames behind a length in base 128.
 *
 * Room: plugins/codecs. What protobuf's `writeDelimitedTo` writes (protobuf.dev, encoding, "Base 128 Varints"; LEB128).
 */
import type { FrameLimits, FrameReader } from '../../core/codec.js'
import type { Factory, Framing } from '../../core/plugin.js'
import { enclose, nothing } from './enclose.js'
import { malformed, tooLarge } from './faults.js'

/** A 64-bit number takes ten bytes of seven bits. */
const LONGEST = 10

/**
 * Frames behind their length in bytes: seven bits a byte, low ones first, the top bit set on all but the last.
 *
 * A length written longer than it must be (`80 00` for 0) is taken, as protobuf's parsers take it.
 *
 * @throws {FrameError} `TOO_LARGE` over `limits.frameBytes`, before the frame's bytes come; `MALFORMED` for a length of
 *   more than 10 bytes or over 2^53 - 1. Reach: this connection.
 * @example
 * { "endpoint": "tcp://[::]:9000", "codec": "varint" }
 */
export const varint: Factory<Framing, Record<string, never>> = {
  name: 'varint',
  create: () => framing,
}

const framing: Framing = {
  payload: 'bytes',
  framer: { open: (limits) => new VarintReader(limits) },
  frame(payload) {
    if (typeof payload !== 'string') return enclose(lengthOf(payload.length), payload, nothing)
    const length = Buffer.byteLength(payload)
    // Below 128 the length is one character, and text stays text.
    if (length < 0x80) return String.fromCharCode(length) + payload
    return enclose(lengthOf(length), Buffer.from(payload), nothing)
  },
}

function lengthOf(length: number): Buffer {
  const bytes: number[] = []
  let rest = length
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80)
    rest = Math.floor(rest / 0x80)
  }
  bytes.push(rest)
  return Buffer.from(bytes)
}

class VarintReader implements FrameReader {
  start = 0
  end = 0
  /** The whole frame, once its length is known. */
  need = 0
  readonly #limit: number
  /** Bytes the length took. */
  #head = 0

  constructor(limits: FrameLimits) {
    this.#limit = limits.frameBytes
  }

  next(buffer: Buffer, start: number, end: number): number {
    if (this.need === 0 && !this.#readLength(buffer, start, end)) return -1
    if (end - start < this.need) return -1
    this.start = start + this.#head
    this.end = start + this.need
    this.need = 0
    return this.end
  }

  /** @returns false when more bytes are needed. */
  #readLength(buffer: Buffer, start: number, end: number): boolean {
    const most = Math.min(end, start + LONGEST)
    let length = 0
    let weight = 1
    for (let index = start; index < most; index++) {
      const byte = buffer[index] as number
      // No shifts: they end at 31 bits. Sums beyond 2^53 are inexact and refused anyway.
      length += (byte & 0x7f) * weight
      weight *= 0x80
      if (byte < 0x80) {
        if (length > Number.MAX_SAFE_INTEGER) throw malformed('a length of at most 2^53 - 1', String(length))
        if (length > this.#limit) throw tooLarge('frames', this.#limit, 'frameBytes')
        this.#head = index - start + 1
        this.need = this.#head + length
        return true
      }
    }
    if (end - start >= LONGEST) throw malformed(`a length of at most ${LONGEST} bytes`, 'a longer one')
    return false
  }
}
