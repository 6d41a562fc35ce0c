/**
 * Finds replies, on the client's side: any value of RESP2 and RESP3, however nested.
 *
 * Room: plugins/protocols. Only where values end is found here; `reply.ts` reads them. Streamed strings and aggregates
 * (`$?`, `*?`), which the specification reserves and no server sends, are refused.
 */
import type { FrameLimits, FrameReader } from '../../../core/codec.js'
import { CR, isCrlf, LF, malformed, showByte, tooLarge } from '../text-support.js'
import { last, readLength } from './length.js'

/** Replies of real servers stay below ten; each level costs a frame of the reader's stack. */
export const MOST_NESTED = 64
/** The least that a value takes: `_ CR LF`. */
const LEAST_VALUE = 3

/** Kinds of values by their first byte. */
export const LINES = new Set(Buffer.from('+-:_#,('))
export const BULKS = new Set(Buffer.from('$!='))
/** Values that each of the counted items stands for: maps and attributes have keys as well. */
export const AGGREGATES = new Map(
  [...Buffer.from('*~>%|')].map((byte) => [byte, byte === 0x25 || byte === 0x7c ? 2 : 1]),
)
export const ATTRIBUTE = 0x7c

export class ReplyReader implements FrameReader {
  start = 0
  end = 0
  need = 0
  readonly #limit: number
  readonly #lineLimit: number
  readonly #lineOption: string
  /** Bytes of the present reply that are known to be good. */
  #good = 0
  /** Bytes of the present line that hold no line feed. */
  #scanned = 0
  /** How many values are still to come at each level; the last is the innermost. */
  #open: number[] = []
  /** Their sum. */
  #left = 0

  constructor(limits: FrameLimits) {
    this.#limit = limits.frameBytes
    this.#lineLimit = Math.min(limits.lineBytes, limits.frameBytes)
    this.#lineOption = limits.lineBytes <= limits.frameBytes ? 'lineBytes' : 'frameBytes'
  }

  next(buffer: Buffer, start: number, end: number): number {
    if (start >= end) return -1
    if (this.#left === 0) {
      this.#open = [1]
      this.#left = 1
    }
    let at = start + this.#good
    while (this.#left > 0) {
      const after = at < end ? this.#value(buffer, start, at, end) : -1
      if (after < 0) return -1
      at = after
      this.#good = at - start
      this.#scanned = 0
    }
    this.#good = this.need = 0
    this.start = start
    this.end = at
    return at
  }

  /** One value, or the head of an aggregate. @returns the index behind it; -1 when more bytes are needed. */
  #value(buffer: Buffer, start: number, at: number, end: number): number {
    const type = buffer[at] as number
    const rest = (this.#left - 1) * LEAST_VALUE
    if (LINES.has(type)) {
      const after = this.#line(buffer, at + 1, end)
      if (after < 0) return -1
      this.#check(after - start + rest)
      this.#take(0)
      return after
    }
    const times = AGGREGATES.get(type)
    if (times === undefined && !BULKS.has(type)) throw malformed('the type of a reply', showByte(type))
    const from = readLength(buffer, at + 1, end, 'the length of a reply')
    if (from < 0) return -1
    const length = last.length
    if (times !== undefined) {
      const count = Math.max(0, length) * times
      if (length < 0 && type !== 0x2a) throw malformed('the length of a reply', '-1')
      // An attribute stands before the value it belongs to, and is none itself.
      const more = type === ATTRIBUTE ? count + 1 : count
      this.#check(from - start + rest + more * LEAST_VALUE)
      this.#take(more)
      return from
    }
    if (length < 0) {
      if (type !== 0x24) throw malformed('the length of a reply', '-1')
      this.#check(from - start + rest)
      this.#take(0)
      return from
    }
    const after = from + length + 2
    this.need = after - start
    this.#check(this.need + rest)
    if (after > end) return -1
    if (!isCrlf(buffer, after - 2)) throw malformed('CR LF behind a bulk string', showByte(buffer[after - 2]))
    this.#take(0)
    return after
  }

  /** Counts a value, and what it opens. */
  #take(more: number): void {
    const open = this.#open
    this.#left += more - 1
    open[open.length - 1] = (open[open.length - 1] as number) - 1
    if (more > 0) {
      if (open.length > MOST_NESTED) throw malformed(`a reply of at most ${MOST_NESTED} levels`, 'a deeper one')
      open.push(more)
    }
    while (open.length > 0 && open[open.length - 1] === 0) open.pop()
  }

  #line(buffer: Buffer, start: number, end: number): number {
    const limit = this.#lineLimit
    for (let at = start + this.#scanned; at < end; at++) {
      const byte = buffer[at]
      if (byte === CR) {
        if (at + 1 === end) {
          this.#scanned = at - start
          return -1
        }
        if (buffer[at + 1] !== LF) throw malformed('LF behind CR', showByte(buffer[at + 1]))
        return at + 2
      }
      if (byte === LF) throw malformed('CR before LF', showByte(byte))
      if (at - start >= limit) throw tooLarge('lines', limit, this.#lineOption)
    }
    this.#scanned = end - start
    return -1
  }

  #check(bytes: number): void {
    if (bytes > this.#limit) throw tooLarge('replies', this.#limit, 'frameBytes')
  }
}
