/**
 * Frames between a mark that begins them and one that ends them.
 *
 * Room: plugins/codecs. STX/ETX devices, `$GPGGA...\r\n` of NMEA receivers, HL7's 0x0B ... 0x1C 0x0D (MLLP).
 */
import type { FrameLimits, FrameReader } from '../../core/codec.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Factory, Framing } from '../../core/plugin.js'
import { expected, readDelimiter, refuseEmbedded } from './delimiter.js'
import { enclose } from './enclose.js'
import { malformed, showByte, tooLarge } from './faults.js'
import { findBytes } from './search.js'

type Mark = string | Uint8Array | readonly number[]

export interface BeginEndOptions {
  readonly begin: Mark
  readonly end: Mark
  readonly between: 'refuse' | 'skip'
  readonly embedded: 'allow' | 'refuse'
}

/**
 * Frames from after `begin` to before the first `end` that follows.
 *
 * The limit is `limits.frameBytes`, marks excluded. Bytes between frames are `MALFORMED`, or passed over on lines that
 * carry noise.
 *
 * @throws {FrameError} `TOO_LARGE`, `MALFORMED`. Reach: this connection.
 * @throws {HandlerError} with `embedded: 'refuse'`, for a reply with the end mark in it. Reach: this connection.
 * @example
 * { "endpoint": "tcp://[::]:2575", "codec": { "name": "begin-end", "begin": "\\x0b", "end": "\\x1c\\r" } }
 */
export const beginEnd: Factory<Framing, BeginEndOptions> = {
  name: 'begin-end',
  options: optionSchema<BeginEndOptions>({
    begin: {
      unit: 'any',
      required: true,
      check: (value) => (readDelimiter(value) === undefined ? expected : undefined),
      why: 'What begins a frame, written as the delimiter of `delimiter`.',
    },
    end: {
      unit: 'any',
      required: true,
      check: (value) => (readDelimiter(value) === undefined ? expected : undefined),
      why: 'What ends it.',
    },
    between: {
      unit: 'choice',
      choices: ['refuse', 'skip'],
      default: 'refuse',
      why: 'Bytes between frames: an error, or passed over.',
    },
    embedded: {
      unit: 'choice',
      choices: ['allow', 'refuse'],
      default: 'allow',
      why: 'A reply with the end mark in it: as it is, or an error, if strangers write parts of it.',
    },
  }),
  create(options) {
    const begin = readDelimiter(options.begin) as Buffer
    const end = readDelimiter(options.end) as Buffer
    return {
      payload: 'text',
      framer: { open: (limits) => new BeginEndReader(begin, end, options.between === 'skip', limits) },
      frame(payload) {
        if (options.embedded === 'refuse') refuseEmbedded('begin-end', payload, end)
        return enclose(begin, typeof payload === 'string' ? Buffer.from(payload) : payload, end)
      },
    }
  },
}

class BeginEndReader implements FrameReader {
  start = 0
  end = 0
  readonly need = 0
  readonly skip?: (buffer: Buffer, start: number, end: number) => number
  readonly #begin: Buffer
  readonly #end: Buffer
  readonly #limit: number
  /** Bytes from the frame's start in which no end mark begins; 0 before the begin mark was seen. */
  #scanned = 0

  constructor(begin: Buffer, end: Buffer, skips: boolean, limits: FrameLimits) {
    this.#begin = begin
    this.#end = end
    this.#limit = limits.frameBytes
    if (skips) this.skip = (buffer, start, stop) => this.#pass(buffer, start, stop)
  }

  next(buffer: Buffer, start: number, end: number): number {
    const head = this.#begin.length
    if (this.#scanned === 0) {
      const seen = Math.min(head, end - start)
      for (let index = 0; index < seen; index++) {
        if (buffer[start + index] === this.#begin[index]) continue
        const wanted = `the mark 0x${this.#begin.toString('hex')} that begins a frame`
        throw malformed(wanted, showByte(buffer[start + index]))
      }
      if (seen < head) return -1
      this.#scanned = head
    }
    const found = findBytes(buffer, this.#end, start + this.#scanned, end)
    if (found < 0) {
      if (end - start - head - (this.#end.length - 1) > this.#limit) throw tooLarge('frames', this.#limit, 'frameBytes')
      this.#scanned = Math.max(this.#scanned, end - start - this.#end.length + 1)
      return -1
    }
    if (found - start - head > this.#limit) throw tooLarge('frames', this.#limit, 'frameBytes')
    this.#scanned = 0
    this.start = start + head
    this.end = found
    return found + this.#end.length
  }

  /** To the next begin mark, or to what may be the front of one. */
  #pass(buffer: Buffer, start: number, end: number): number {
    if (this.#scanned > 0) return start
    const mark = this.#begin
    let at = start
    for (;;) {
      const first = buffer.subarray(at, end).indexOf(mark[0] as number)
      if (first < 0) return end
      at += first
      const seen = Math.min(mark.length, end - at)
      if (mark.compare(buffer, at, at + seen, 0, seen) === 0) return at
      at++
    }
  }
}
