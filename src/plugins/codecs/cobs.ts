/**
 * Consistent Overhead Byte Stuffing: frames without a zero byte, ended by one.
 *
 * Room: plugins/codecs. S. Cheshire, M. Baker: "Consistent Overhead Byte Stuffing", IEEE/ACM Transactions on Networking,
 * 1999. Serial lines of microcontrollers.
 */
import type { FrameLimits, FrameReader } from '../../core/codec.js'
import type { Factory, Framing } from '../../core/plugin.js'
import { malformed, tooLarge } from './faults.js'
import { ByteSearch } from './search.js'

/**
 * Frames ended by a zero byte. Zeros between frames are passed over, as idle lines send them.
 *
 * The limit is `limits.frameBytes` for the bytes as they come; stuffing adds one for each 254.
 *
 * @throws {FrameError} `TOO_LARGE`; `MALFORMED` for a code that points beyond its frame. Reach: this connection.
 * @example
 * { "endpoint": "tcp://[::]:9000", "codec": "cobs" }
 */
export const cobs: Factory<Framing, Record<string, never>> = {
  name: 'cobs',
  create: () => ({
    payload: 'bytes',
    framer: { open: (limits) => new CobsReader(limits) },
    frame: (payload) => stuff(typeof payload === 'string' ? Buffer.from(payload) : payload),
    unstuff,
  }),
}

/** A code of 255: 254 bytes, and no zero behind them. */
const FULL = 0xff

export function stuff(payload: Uint8Array): Buffer {
  const out = Buffer.allocUnsafe(payload.length + Math.floor(payload.length / 254) + 2)
  let codeAt = 0
  let at = 1
  let code = 1
  for (let index = 0; index < payload.length; index++) {
    const byte = payload[index] as number
    if (byte !== 0) {
      out[at++] = byte
      code++
    }
    // A full block at the very end needs no other one behind it.
    if (byte === 0 || (code === FULL && index + 1 < payload.length)) {
      out[codeAt] = code
      codeAt = at++
      code = 1
    }
  }
  out[codeAt] = code
  out[at++] = 0
  return out.subarray(0, at)
}

function unstuff(buffer: Buffer, start: number, end: number): Buffer {
  const out = Buffer.allocUnsafe(end - start)
  let size = 0
  let at = start
  while (at < end) {
    const code = buffer[at] as number
    const after = at + code
    if (after > end) throw malformed(`${end - at - 1} bytes at most behind a code`, `a code of ${code}`)
    size += buffer.copy(out, size, at + 1, after)
    at = after
    if (code !== FULL && at < end) out[size++] = 0
  }
  return out.subarray(0, size)
}

class CobsReader implements FrameReader {
  start = 0
  end = 0
  readonly need = 0
  readonly #limit: number
  readonly #search = new ByteSearch(0)
  #scanned = 0

  constructor(limits: FrameLimits) {
    this.#limit = limits.frameBytes
  }

  skip(buffer: Buffer, start: number, end: number): number {
    if (this.#scanned > 0) return start
    let at = start
    while (at < end && buffer[at] === 0) at++
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
