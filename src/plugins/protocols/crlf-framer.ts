/**
 * Lines that end in CR LF and in nothing else.
 *
 * Room: plugins/protocols.
 */
import type { FrameLimits, FrameReader, Framer } from '../../core/codec.js'
import { tooLarge } from './text-support.js'

export class CrlfFramer implements Framer {
  readonly #option: 'lineBytes' | 'frameBytes'

  constructor(option: 'lineBytes' | 'frameBytes') {
    this.#option = option
  }

  open(limits: FrameLimits): FrameReader {
    return new CrlfReader(limits[this.#option], this.#option)
  }
}

class CrlfReader implements FrameReader {
  start = 0
  end = 0
  readonly need = 0
  readonly #limit: number
  readonly #option: string
  #scanned = 0

  constructor(limit: number, option: string) {
    this.#limit = limit
    this.#option = option
  }

  next(buffer: Buffer, start: number, end: number): number {
    // A CR that was the last byte may have got its LF.
    const from = start + Math.max(0, this.#scanned - 1)
    const at = buffer.subarray(from, end).indexOf('\r\n')
    const size = at < 0 ? end - start : from - start + at
    if (size > this.#limit + (at < 0 ? 1 : 0)) throw tooLarge('lines', this.#limit, this.#option)
    if (at < 0) {
      this.#scanned = size
      return -1
    }
    this.#scanned = 0
    this.start = start
    this.end = start + size
    return start + size + 2
  }
}
