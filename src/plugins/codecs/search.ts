/**
 * Finds bytes between two bounds of a buffer, at the price of the bytes between them.
 *
 * Room: plugins/codecs. `Buffer.indexOf` knows no upper bound: it would run on through the unused rest of a growing
 * buffer, and a long line in small pieces would cost the square of its length.
 */

/** Up to here a loop is faster than a call into native code (6 against 10 ns at 8 bytes, even at 16). */
const LOOP_BYTES = 12
/** The same for what has several bytes, in places to look at. */
const SHIFTS = 4
/** An overrun that costs less than making a view (33 ns). */
const OVERRUN_BYTES = 1_024

/** Looks for one byte value in one connection's bytes. */
export class ByteSearch {
  readonly #byte: number
  /** Where the byte stood last in a chunk. A guess, since buffers change: it is looked at before it is believed. */
  #known = -1

  constructor(byte: number) {
    this.#byte = byte
  }

  /** @returns the first index in `buffer[from, end)`, or -1. */
  find(buffer: Buffer, from: number, end: number): number {
    const byte = this.#byte
    if (end - from <= LOOP_BYTES) {
      for (let index = from; index < end; index++) if (buffer[index] === byte) return index
      return -1
    }
    // Where the last byte is the one looked for, the search ends in time by itself: the usual chunk of whole lines.
    if (buffer[end - 1] === byte || buffer.length - end <= OVERRUN_BYTES) {
      const index = buffer.indexOf(byte, from)
      return index < end ? index : -1
    }
    const known = this.#known
    if (known < from || known >= end || buffer[known] !== byte) {
      // One view for all the lines of a chunk whose last one is cut off.
      const last = buffer.subarray(from, end).lastIndexOf(byte)
      if (last < 0) return -1
      this.#known = from + last
    }
    return buffer.indexOf(byte, from)
  }
}

/** @returns the index of `sought`, two bytes or more, in `buffer[from, end)`, all of it, or -1. */
export function findBytes(buffer: Buffer, sought: Buffer, from: number, end: number): number {
  const { length } = sought
  if (end - from < length) return -1
  if (end - from - length < SHIFTS) {
    for (let after = from + length; after <= end; after++)
      if (endsWith(buffer, sought, from, after)) return after - length
    return -1
  }
  if (buffer.length - end <= OVERRUN_BYTES || endsWith(buffer, sought, from, end)) {
    const index = buffer.indexOf(sought, from)
    return index >= 0 && index + length <= end ? index : -1
  }
  const index = buffer.subarray(from, end).indexOf(sought)
  return index < 0 ? -1 : from + index
}

/** True when `buffer[start, end)` ends in `sought`. */
export function endsWith(buffer: Buffer, sought: Buffer, start: number, end: number): boolean {
  const { length } = sought
  if (end - start < length) return false
  for (let back = 1; back <= length; back++) {
    if (buffer[end - back] !== sought[length - back]) return false
  }
  return true
}
