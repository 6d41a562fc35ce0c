/**
 * Frames of one size.
 *
 * Room: plugins/codecs. Records, sensor samples, legacy mainframe formats.
 */
import type { FrameLimits, FrameReader } from '../../core/codec.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Factory, Framing } from '../../core/plugin.js'
import { tooLarge, unfitReply } from './faults.js'

export interface FixedOptions {
  readonly size: number
}

/**
 * Frames of exactly `size` bytes.
 *
 * On message transports a datagram is a frame, whatever its size.
 *
 * @throws {FrameError} `TOO_LARGE` with the first byte, where `size` is over `limits.frameBytes`. Reach: this
 *   connection.
 * @throws {HandlerError} for a reply of another size. Reach: this connection.
 * @example
 * { "endpoint": "tcp://[::]:9000", "codec": { "name": "fixed", "size": 16 } }
 */
export const fixed: Factory<Framing, FixedOptions> = {
  name: 'fixed',
  options: optionSchema<FixedOptions>({
    size: { unit: 'bytes', required: true, min: 1, why: 'How long each frame is.' },
  }),
  create: ({ size }) => ({
    payload: 'bytes',
    framer: { open: (limits) => new FixedReader(size, limits) },
    frame(payload) {
      const length = typeof payload === 'string' ? Buffer.byteLength(payload) : payload.length
      if (length !== size) {
        throw unfitReply('fixed', `expected a reply of ${size} bytes, got ${length}`, 'pad or cut it in the handler')
      }
      return payload
    },
  }),
}

class FixedReader implements FrameReader {
  start = 0
  end = 0
  readonly need: number
  readonly #limit: number

  constructor(size: number, limits: FrameLimits) {
    this.need = size
    this.#limit = limits.frameBytes
  }

  next(_buffer: Buffer, start: number, end: number): number {
    if (this.need > this.#limit) throw tooLarge('frames', this.#limit, 'frameBytes')
    const after = start + this.need
    if (after > end) return -1
    this.start = start
    this.end = after
    return after
  }
}
