/**
 * Replies as values, on the client's side.
 *
 * Room: plugins/protocols. Maps become `Map`, sets `Set`, big numbers `bigint`, errors `RespError` objects (a request
 * resolves with them), pushes what `push()` makes. Attributes are read and dropped.
 */
import { CR, isCrlf, malformed, readLatin1, readUtf8, showByte } from '../text-support.js'
import { last, readLength } from './length.js'
import { AGGREGATES, ATTRIBUTE, BULKS, LINES, MOST_NESTED } from './reply-reader.js'
import type { ReadString } from './request.js'
import { push, RespError } from './values.js'

/** @throws {FrameError} `MALFORMED`. */
export function readReply(buffer: Buffer, start: number, end: number, read: ReadString): unknown {
  const cursor = new Cursor(buffer, start, end, read)
  const value = cursor.value(0)
  if (cursor.at !== end) throw malformed('one reply', 'bytes behind it')
  return value
}

class Cursor {
  at: number
  readonly #buffer: Buffer
  readonly #end: number
  readonly #read: ReadString

  constructor(buffer: Buffer, start: number, end: number, read: ReadString) {
    this.#buffer = buffer
    this.at = start
    this.#end = end
    this.#read = read
  }

  value(depth: number): unknown {
    if (this.at >= this.#end) throw malformed('a whole reply', 'a part of one')
    if (depth > MOST_NESTED) throw malformed(`a reply of at most ${MOST_NESTED} levels`, 'a deeper one')
    const type = this.#buffer[this.at] as number
    if (LINES.has(type)) return this.#line(type)
    const times = AGGREGATES.get(type)
    if (times === undefined && !BULKS.has(type)) throw malformed('the type of a reply', showByte(type))
    const from = readLength(this.#buffer, this.at + 1, this.#end, 'the length of a reply')
    const length = last.length
    if (from < 0) throw malformed('a whole reply', 'a part of one')
    this.at = from
    if (length < 0) {
      // Only these have a null of RESP2; the reader says the same.
      if (type !== 0x24 && type !== 0x2a) throw malformed('the length of a reply', '-1')
      return null
    }
    if (times === undefined) return this.#bulk(type, from, length)
    // Three bytes at least for each: what is claimed must be there.
    if (length * times * 3 > this.#end - from) throw malformed('a whole reply', 'a part of one')
    return this.#aggregate(type, length, depth)
  }

  #aggregate(type: number, length: number, depth: number): unknown {
    if (type === 0x25 || type === ATTRIBUTE) {
      const map = new Map<unknown, unknown>()
      for (let index = 0; index < length; index++) {
        const key = this.value(depth + 1)
        map.set(key, this.value(depth + 1))
      }
      return type === ATTRIBUTE ? this.value(depth + 1) : map
    }
    const items: unknown[] = []
    for (let index = 0; index < length; index++) items.push(this.value(depth + 1))
    if (type === 0x3e) return push(items)
    return type === 0x7e ? new Set(items) : items
  }

  #bulk(type: number, from: number, length: number): unknown {
    const after = from + length
    if (after + 2 > this.#end || !isCrlf(this.#buffer, after)) throw malformed('a whole reply', 'a part of one')
    this.at = after + 2
    if (type === 0x21) return errorOf(readUtf8(this.#buffer, from, after, 'errors are text'))
    // A verbatim string begins with its format: `txt:`.
    if (type === 0x3d) {
      if (length < 4 || this.#buffer[from + 3] !== 0x3a) throw malformed('a format of three letters', 'none')
      return this.#read(this.#buffer, from + 4, after)
    }
    return this.#read(this.#buffer, from, after)
  }

  #line(type: number): unknown {
    const from = this.at + 1
    let to = from
    while (to < this.#end && this.#buffer[to] !== CR) to++
    if (to + 2 > this.#end || !isCrlf(this.#buffer, to)) throw malformed('a whole reply', 'a part of one')
    this.at = to + 2
    if (type === 0x2b) return readUtf8(this.#buffer, from, to, 'statuses are text')
    if (type === 0x2d) return errorOf(readUtf8(this.#buffer, from, to, 'errors are text'))
    const text = readLatin1(this.#buffer, from, to)
    if (type === 0x3a) return integer(text)
    if (type === 0x2c) return double(text)
    if (type === 0x28) return bigNumber(text)
    if (type === 0x23 && (text === 't' || text === 'f')) return text === 't'
    if (type === 0x5f && text === '') return null
    throw malformed(type === 0x23 ? '`t` or `f`' : 'nothing behind `_`', show(text))
  }
}

/** `WRONGTYPE Operation ...`: the code, then the words. */
function errorOf(text: string): RespError {
  const code = /^[A-Z][A-Z0-9_]*(?= |$)/.exec(text)?.[0] ?? ''
  return new RespError(code === '' ? text : text.slice(code.length + 1), code)
}

function integer(text: string): number | bigint {
  const value = Number(text)
  if (!/^[+-]?\d{1,19}$/.test(text)) throw malformed('an integer of 64 bits', show(text))
  if (Number.isSafeInteger(value)) return value === 0 ? 0 : value
  const big = BigInt(text.replace('+', ''))
  if (BigInt.asIntN(64, big) !== big) throw malformed('an integer of 64 bits', show(text))
  return big
}

/** Digits that a conversion of quadratic cost may be given. */
const MOST_DIGITS = 4_096

function bigNumber(text: string): bigint {
  if (text.length > MOST_DIGITS || !/^[+-]?\d+$/.test(text)) throw malformed('a big number', show(text))
  return BigInt(text.replace('+', ''))
}

function double(text: string): number {
  if (text === 'inf') return Number.POSITIVE_INFINITY
  if (text === '-inf') return Number.NEGATIVE_INFINITY
  if (/^-?nan$/i.test(text)) return Number.NaN
  if (text.length > 400 || !/^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$/.test(text)) throw malformed('a number', show(text))
  return Number(text)
}

function show(text: string): string {
  return JSON.stringify(text.slice(0, 20))
}
