/**
 * JSON values one after another, with or without anything between them.
 *
 * Room: plugins/codecs. What `jq` and many tools write; with record separators it is RFC 7464.
 */
import type { FrameLimits, FrameReader } from '../../core/codec.js'
import type { Factory, Framing } from '../../core/plugin.js'
import { malformed, showByte, tooLarge } from './faults.js'

/**
 * Objects and arrays end where they end; numbers and words at the white space behind them, or with the stream. White
 * space and record separators (0x1E) between values belong to none.
 *
 * Replies go out with a line feed behind. The limit is `limits.frameBytes`; how deep values may nest is the payload's
 * `depth`.
 *
 * @throws {FrameError} `TOO_LARGE`; `MALFORMED`, also for what is between values and is none. Reach: this connection.
 * @example
 * { "endpoint": "tcp://[::]:9000", "codec": "json-stream" }
 */
export const jsonStream: Factory<Framing, Record<string, never>> = {
  name: 'json-stream',
  create: () => ({
    payload: 'json',
    framer: { open: (limits) => new JsonStreamReader(limits) },
    frame: (payload) => (typeof payload === 'string' ? `${payload}\n` : Buffer.concat([payload, Buffer.from('\n')])),
  }),
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN = new Set([0x7b, 0x5b])
const CLOSE = new Set([0x7d, 0x5d])
const SPACE = new Set([0x20, 0x09, 0x0a, 0x0d, 0x1e])

const BEFORE = 0
const NESTED = 1
const STRING = 2
const SCALAR = 3
const REFUSED = 4

class JsonStreamReader implements FrameReader {
  start = 0
  end = 0
  readonly need = 0
  readonly #limit: number
  #state = BEFORE
  /** Inside a string of a nested value. */
  #isInString = false
  #isEscaped = false
  #depth = 0
  #scanned = 0

  constructor(limits: FrameLimits) {
    this.#limit = limits.frameBytes
  }

  skip(buffer: Buffer, start: number, end: number): number {
    if (this.#state !== BEFORE) return start
    let at = start
    while (at < end && SPACE.has(buffer[at] as number)) at++
    return at
  }

  next(buffer: Buffer, start: number, end: number): number {
    if (this.#state === REFUSED) throw this.#tooLarge()
    let at = start + this.#scanned
    if (this.#state === BEFORE) {
      const byte = buffer[at] as number
      if (OPEN.has(byte)) this.#state = NESTED
      else if (byte === QUOTE) this.#state = STRING
      else if (isWord(byte)) this.#state = SCALAR
      else throw malformed('a JSON value', showByte(byte))
      if (this.#state === NESTED) this.#depth = 1
      at++
    }
    const after = this.#state === SCALAR ? scalarEnd(buffer, at, end) : this.#valueEnd(buffer, at, end)
    if ((after < 0 ? end : after) - start > this.#limit) {
      this.#state = REFUSED
      throw this.#tooLarge()
    }
    if (after < 0) {
      this.#scanned = end - start
      return -1
    }
    this.#reset()
    this.start = start
    this.end = after
    return after
  }

  /** A number or a word may end with the stream. */
  finish(_buffer: Buffer, start: number, end: number): number {
    if (this.#state !== SCALAR) return -1
    this.#reset()
    this.start = start
    this.end = end
    return end
  }

  /** @returns the index behind the value; -1 when it has not ended. */
  #valueEnd(buffer: Buffer, from: number, end: number): number {
    for (let at = from; at < end; at++) {
      const byte = buffer[at] as number
      if (this.#isEscaped) this.#isEscaped = false
      else if (this.#isInString || this.#state === STRING) {
        if (byte === BACKSLASH) this.#isEscaped = true
        else if (byte === QUOTE) {
          if (this.#state === STRING) return at + 1
          this.#isInString = false
        }
      } else if (byte === QUOTE) this.#isInString = true
      else if (OPEN.has(byte)) this.#depth++
      else if (CLOSE.has(byte) && --this.#depth === 0) return at + 1
    }
    return -1
  }

  #tooLarge(): Error {
    return tooLarge('values', this.#limit, 'frameBytes')
  }

  #reset(): void {
    this.#state = BEFORE
    this.#isInString = false
    this.#isEscaped = false
    this.#depth = 0
    this.#scanned = 0
  }
}

/** What numbers, true, false and null are made of; whether they are any is the payload's business. */
function isWord(byte: number): boolean {
  return (
    (byte >= 0x30 && byte <= 0x39) ||
    (byte >= 0x61 && byte <= 0x7a) ||
    byte === 0x2d ||
    byte === 0x2b ||
    byte === 0x2e ||
    byte === 0x45
  )
}

function scalarEnd(buffer: Buffer, from: number, end: number): number {
  for (let at = from; at < end; at++) if (!isWord(buffer[at] as number)) return at
  return -1
}
