/**
 * Finds requests: arrays of bulk strings, and inline commands.
 *
 * Room: plugins/protocols. RESP, "Sending commands to a Redis server" and "Inline commands" (redis.io/docs/latest/
 * develop/reference/protocol-spec). Nothing is copied; what was looked at once is not looked at again.
 */
import type { FrameLimits, FrameReader } from '../../../core/codec.js'
import { CR, isCrlf, LF, malformed, refuseHttp, showByte, tooLarge } from '../text-support.js'
import { found, last, MOST_FOUND, readLength } from './length.js'

const STAR = 0x2a
const DOLLAR = 0x24
/** The least that a bulk string takes: `$0 CR LF CR LF`. */
const LEAST_BULK = 6

/** Frames are whole requests, `*3 ... CR LF`; an inline command's frame is its line. Empty ones are frames too. */
export class RequestReader implements FrameReader {
  start = 0
  end = 0
  need = 0
  readonly #limit: number
  readonly #lineLimit: number
  readonly #lineOption: string
  /** Bytes of the present request that are known to be good; for inline commands, that hold no line feed. */
  #good = 0
  /** Bulk strings still to come. */
  #left = 0

  constructor(limits: FrameLimits) {
    this.#limit = limits.frameBytes
    this.#lineLimit = Math.min(limits.lineBytes, limits.frameBytes)
    this.#lineOption = limits.lineBytes <= limits.frameBytes ? 'lineBytes' : 'frameBytes'
  }

  next(buffer: Buffer, start: number, end: number): number {
    if (start >= end) return -1
    if (buffer[start] !== STAR) return this.#inline(buffer, start, end)
    const limit = this.#limit
    let at = start + this.#good
    let left = this.#left
    let count = MOST_FOUND + 1
    let word = 0
    const { bounds } = found
    if (at === start) {
      const after = readLength(buffer, at + 1, end, 'the number of arguments')
      if (after < 0) return -1
      left = count = last.length
      at = after
      this.#check(at - start + Math.max(0, left) * LEAST_BULK)
    }
    let need = 0
    while (left > 0) {
      if (at >= end) break
      if (buffer[at] !== DOLLAR) throw malformed("a bulk string's `$`", showByte(buffer[at]))
      const from = readLength(buffer, at + 1, end, 'the length of an argument')
      if (from < 0) break
      const length = last.length
      if (length < 0) throw malformed('an argument', 'null ($-1)')
      const after = from + length + 2
      need = after - start + (left - 1) * LEAST_BULK
      if (need > limit) this.#check(need)
      if (after > end) break
      if (!isCrlf(buffer, after - 2)) throw malformed('CR LF behind an argument', showByte(buffer[after - 2]))
      if (count <= MOST_FOUND) {
        bounds[word++] = from
        bounds[word++] = after - 2
      }
      at = after
      left--
    }
    if (left > 0) {
      this.#good = at - start
      this.#left = left
      this.need = need
      return -1
    }
    this.#good = this.#left = this.need = 0
    this.start = start
    this.end = at
    found.buffer = undefined
    if (count > 0 && count <= MOST_FOUND) {
      found.buffer = buffer
      found.start = start
      found.end = at
      found.count = count
    }
    return at
  }

  #check(bytes: number): void {
    if (bytes > this.#limit) throw tooLarge('commands', this.#limit, 'frameBytes')
  }

  #inline(buffer: Buffer, start: number, end: number): number {
    const limit = this.#lineLimit
    const most = Math.min(end, start + limit + 2)
    for (let at = start + this.#good; at < most; at++) {
      if (buffer[at] !== LF) continue
      const last = at > start && buffer[at - 1] === CR ? at - 1 : at
      if (last - start > limit) break
      refuseHttp('a command of RESP', buffer, start, last)
      this.#good = 0
      found.buffer = undefined
      this.start = start
      this.end = last
      return at + 1
    }
    const seen = end - start
    // One byte over the limit may be the carriage return of the terminator.
    if (seen > limit && (seen > limit + 1 || buffer[start + limit] !== CR))
      throw tooLarge('inline commands', limit, this.#lineOption)
    this.#good = seen
    return -1
  }
}
