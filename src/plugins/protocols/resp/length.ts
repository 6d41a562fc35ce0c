/**
 * Lengths and counts: digits up to CR LF.
 *
 * Room: plugins/protocols. Read in place, since every argument has one.
 */
import { CR, LF, malformed, NINE, showByte, ZERO } from '../text-support.js'

/** What was read last: a second result without an object for it. */
export const last = { length: 0, from: 0 }

const MINUS = 0x2d
/** 2^53 has sixteen digits. */
const MOST_DIGITS = 15

/**
 * Reads a length; its value stands in `last.length`, -1 for a null.
 *
 * @param what - For the error: `the length of an argument`.
 * @returns the index behind CR LF; -1 when more bytes are needed.
 * @throws {FrameError} `MALFORMED` for anything but digits, leading zeros, more than fifteen digits.
 */
export function readLength(buffer: Buffer, start: number, end: number, what: string): number {
  let value = 0
  let at = start
  for (; at < end; at++) {
    const byte = buffer[at] as number
    if (byte < ZERO || byte > NINE) break
    if (at > start && value === 0) throw malformed(`${what} without leading zeros`, 'one with them')
    value = value * 10 + (byte - ZERO)
    if (at - start >= MOST_DIGITS) throw malformed(`${what} in at most ${MOST_DIGITS} digits`, 'more')
  }
  if (at < end && at === start && buffer[at] === MINUS) {
    if (at + 1 < end && buffer[at + 1] !== ZERO + 1) throw malformed(what, `-${showByte(buffer[at + 1])}`)
    at += 2
    value = -1
  }
  if (at >= end) return -1
  if (at === start || buffer[at] !== CR) throw malformed(`${what} in digits and CR LF`, showByte(buffer[at]))
  if (at + 1 >= end) return -1
  if (buffer[at + 1] !== LF) throw malformed(`${what}, CR and LF`, showByte(buffer[at + 1]))
  last.length = value
  return at + 2
}

/**
 * Where the words of the request lie that a reader found last, so that the codec, which is asked next, need not read their
 * lengths again. Good for one look: `buffer` is taken back by it, so nothing is held and nothing goes stale.
 */
export const found: {
  buffer: Buffer | undefined
  start: number
  end: number
  count: number
  readonly bounds: number[]
} = {
  buffer: undefined,
  start: 0,
  end: 0,
  count: 0,
  bounds: [0, 0, 0, 0, 0, 0, 0, 0],
}
/** Longer requests are read twice. */
export const MOST_FOUND = 4
