/**
 * SLIP: frames over serial lines.
 *
 * Room: plugins/codecs. RFC 1055. A byte that would end a frame is sent as two.
 */
import type { FrameLimits, FrameReader } from '../../core/codec.js'
import type { Factory, Framing } from '../../core/plugin.js'
import { malformed, showByte, tooLarge } from './faults.js'
import { ByteSearch } from './search.js'

const END = 0xc0
const ESC = 0xdb
const ESC_END = 0xdc
const ESC_ESC = 0xdd

/**
 * Frames ended by 0xC0; each goes out with one before it as well, which flushes the line's noise (RFC 1055, "Protocol").
 *
 * The limit is `limits.frameBytes` for the bytes as they come, stuffing included.
 *
 * @throws {FrameError} `TOO_LARGE`; `MALFORMED` for 0xDB before anything but 0xDC and 0xDD. Reach: this connection.
 * @example
 * { "endpoint": "tcp://[::]:9000", "codec": "slip" }
 */
export const slip: Factory<Framing, Record<string, never>> = {
  name: 'slip',
  create: () => ({
    payload: 'bytes',
    framer: { open: (limits) => new SlipReader(limits) },
    frame: (payload) => stuff(typeof payload === 'string' ? Buffer.from(payload) : payload),
    unstuff,
  }),
}

function stuff(payload: Uint8Array): Buffer {
  let extra = 2
  for (const byte of payload) if (byte === END || byte === ESC) extra++
  const out = Buffer.allocUnsafe(payload.length + extra)
  let at = 0
  out[at++] = END
  for (const byte of payload) {
    if (byte === END || byte === ESC) {
      out[at++] = ESC
      out[at++] = byte === END ? ESC_END : ESC_ESC
    } else out[at++] = byte
  }
  out[at] = END
  return out
}

function unstuff(buffer: Buffer, start: number, end: number): Buffer {
  const out = Buffer.allocUnsafe(end - start)
  let size = 0
  for (let at = start; at < end; at++) {
    let byte = buffer[at] as number
    if (byte === ESC) {
      const next = at + 1 < end ? buffer[++at] : undefined
      if (next !== ESC_END && next !== ESC_ESC) throw malformed('0xdc or 0xdd behind 0xdb', showByte(next))
      byte = next === ESC_END ? END : ESC
    }
    out[size++] = byte
  }
  return out.subarray(0, size)
}

class SlipReader implements FrameReader {
  start = 0
  end = 0
  readonly need = 0
  readonly #limit: number
  readonly #search = new ByteSearch(END)
  #scanned = 0

  constructor(limits: FrameLimits) {
    this.#limit = limits.frameBytes
  }

  skip(buffer: Buffer, start: number, end: number): number {
    if (this.#scanned > 0) return start
    let at = start
    while (at < end && buffer[at] === END) at++
    return at
  }

  next(buffer: Buffer, start: number, end: number): number {
    const found = this.#search.find(buffer, start + this.#scanned, end)
    const seen = (found < 0 ? end : found) - start
    if (seen > this.#limit) throw tooLarge('frames', this.#limit, 'frameBytes')
    if (found < 0) {
      this.#scanned = seen
      return -1
    }
    this.#scanned = 0
    this.start = start
    this.end = found
    return found + 1
  }
}
