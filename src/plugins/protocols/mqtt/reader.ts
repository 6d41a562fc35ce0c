/**
 * Packets of MQTT: a type, a length of one to four bytes, and so much more.
 *
 * Room: plugins/protocols. MQTT 5.0, 2.1. The library that reads packets has no limit; this has, before a byte of the packet
 * is kept.
 */
import type { FrameLimits, FrameReader } from '../../../core/codec.js'
import { malformed, tooLarge } from '../text-support.js'

export class PacketReader implements FrameReader {
  start = 0
  end = 0
  need = 0
  readonly #limit: number

  constructor(limits: FrameLimits) {
    this.#limit = limits.frameBytes
  }

  next(buffer: Buffer, start: number, end: number): number {
    if (this.need === 0) {
      let length = 0
      let at = start + 1
      for (let weight = 1; ; weight *= 128) {
        if (at >= end) return -1
        const byte = buffer[at++] as number
        length += (byte & 127) * weight
        if (byte < 128) break
        if (at - start > 4) throw malformed('a length of at most four bytes', 'a longer one')
      }
      const size = at - start + length
      if (size > this.#limit) throw tooLarge('packets', this.#limit, 'frameBytes')
      this.need = size
    }
    if (end - start < this.need) return -1
    this.start = start
    this.end = start + this.need
    this.need = 0
    return this.end
  }
}
