/**
 * Feeds a codec the way the session does, and keeps what came out.
 *
 * Room: testing. It owns the buffer between chunks and takes liberties the session takes as well: what is unconsumed
 * may move to another buffer or another place in it between two calls.
 */
import type { Codec, CodecContext, FrameLimits, FrameReader } from '../core/codec.js'
import type { Connection } from '../core/connection.js'
import { defaultLimits } from '../core/options.js'

// biome-ignore lint/suspicious/noExplicitAny: a codec of any messages
export type AnyCodec = Codec<any, any>

export function contextFor(kind: 'stream' | 'message'): CodecContext {
  // What a codec may look at; most look at nothing.
  const connection = { id: 'conformance', attributes: new Map(), feature: () => undefined, transport: 'memory' }
  return { connection: connection as unknown as Connection, kind, limits: defaultLimits, state: undefined }
}

/** A reader broke the contract of `FrameReader`: no `FrameError`, a defect. */
export class ReaderFault extends Error {}

/** One connection's side of a codec. */
export class FrameFeeder {
  readonly messages: unknown[] = []
  /** Bounds of each payload, counted from the first byte of the stream. */
  readonly bounds: number[] = []
  /** Calls of `next`. */
  calls = 0
  /** Largest `need` seen for the frame under way, and whether it was ever more than the frame had. */
  overstated = 0
  /** Where the unconsumed bytes begin, counted from the first byte of the stream. */
  consumed = 0
  readonly #codec: AnyCodec
  readonly #context: CodecContext
  readonly #reader: FrameReader
  #need = 0

  constructor(codec: AnyCodec, limits: Partial<FrameLimits> = {}, context: CodecContext = contextFor('stream')) {
    this.#codec = codec
    this.#context = context
    if (codec.framer === undefined) throw new ReaderFault('the codec has no framer')
    const { frameBytes = defaultLimits.frameBytes, lineBytes = defaultLimits.lineBytes } = limits
    this.#reader = codec.framer.open({ frameBytes, lineBytes })
  }

  /**
   * Offers the bytes from the first unconsumed one to `end`, all of them in `buffer`.
   *
   * @param base - The stream's position that `buffer[0]` has.
   */
  offer(buffer: Buffer, base: number, end: number): void {
    const reader = this.#reader
    for (;;) {
      let start = this.consumed - base
      if (start === end) return
      if (reader.skip !== undefined) {
        start = this.#skip(reader.skip(buffer, start, end), start, end)
        this.consumed = base + start
        if (start === end) return
      }
      this.calls++
      const after = reader.next(buffer, start, end)
      if (after === -1) {
        const { need } = reader
        if (!(need >= 0)) throw new ReaderFault(`need: expected a number of at least 0, got ${need}`)
        this.#need = need
        return
      }
      this.#take(buffer, base, start, end, after)
    }
  }

  /** The peer finished. @returns true when everything was consumed; what was not is `TRUNCATED`. */
  finish(buffer: Buffer, base: number, end: number): boolean {
    for (;;) {
      const start = this.consumed - base
      if (start === end) return true
      const after = this.#reader.finish?.(buffer, start, end) ?? -1
      if (after === -1) return false
      this.#take(buffer, base, start, end, after)
    }
  }

  #skip(to: number, start: number, end: number): number {
    if (to >= start && to <= end) return to
    throw new ReaderFault(`skip: expected an index from ${start} to ${end}, got ${to}`)
  }

  #take(buffer: Buffer, base: number, start: number, end: number, after: number): void {
    const { start: from, end: to } = this.#reader
    if (!(after > start && after <= end)) {
      throw new ReaderFault(`next: expected -1 or an index from ${start + 1} to ${end}, got ${after}`)
    }
    if (!(from >= start && from <= to && to <= after)) {
      throw new ReaderFault(`bounds: expected a payload within ${start} and ${after}, got ${from} to ${to}`)
    }
    this.overstated = Math.max(this.overstated, this.#need - (after - start))
    this.#need = 0
    this.consumed = base + after
    this.bounds.push(base + from, base + to)
    const codec = this.#codec
    this.messages.push(
      codec.decodeAt === undefined
        ? codec.decode(buffer.subarray(from, to), this.#context)
        : codec.decodeAt(buffer, from, to, this.#context),
    )
  }
}

/** A copy: an encoder that uses its buffer again is found by a case of its own, and spoils no other. */
export function encoded(codec: AnyCodec, message: unknown, context: CodecContext): Buffer {
  return Buffer.from(codec.encode(message, context) as Uint8Array)
}
