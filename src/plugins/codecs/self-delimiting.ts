/**
 * The walk over values that carry their own lengths: finds where one ends without making anything of it.
 *
 * Room: plugins/codecs. MessagePack and CBOR share it; each brings the reading of its heads. Where it stands is remembered, so
 * that small pieces cost no more than large ones, and nothing is allocated for a length that a peer merely claims.
 */
import type { FrameLimits, FrameReader } from '../../core/codec.js'
import { malformed, tooLarge } from './faults.js'

/** What a head says. Reused: one of each grammar. */
export interface Head {
  /** Bytes of the head itself. */
  size: number
  /** Bytes behind it that belong to it. */
  body: number
  /** Values behind it that belong to it; -1: as many as come before the end mark. */
  children: number
  /** It ends the innermost value that has no count. */
  isEnd: boolean
  /** Of an indefinite string: its chunks must be of this major type; -1 for anything else. */
  chunks: number
  /** For checking chunks. */
  major: number
  /** A number before the value it speaks of; -1: it is none. */
  tag: number
}

export interface Grammar {
  readonly name: string
  /** @returns false when the head has not come whole. @throws {FrameError} `MALFORMED`. */
  read(buffer: Buffer, at: number, end: number, head: Head): boolean
  /**
   * What may stand behind a tag. Left out: there are none.
   *
   * @throws {FrameError} `MALFORMED`.
   */
  tagged?(tag: number, content: Head): void
}

/** How deep values may nest: what reads them is recursive. */
const DEPTH = 100

export class ValueReader implements FrameReader {
  start = 0
  end = 0
  need = 0
  readonly #grammar: Grammar
  readonly #limit: number
  readonly #head: Head = { size: 0, body: 0, children: 0, isEnd: false, chunks: -1, major: 0, tag: -1 }
  /** Values still to come, level by level; -1: until the end mark. */
  readonly #left: number[] = []
  /** What chunks each open level takes; -1: anything. */
  readonly #chunks: number[] = []
  /** Where the next head stands, from the frame's start. */
  #at = 0
  /** Of the head before; -1: it was none. */
  #tag = -1

  constructor(grammar: Grammar, limits: FrameLimits) {
    this.#grammar = grammar
    this.#limit = limits.frameBytes
  }

  next(buffer: Buffer, start: number, end: number): number {
    const head = this.#head
    for (;;) {
      const at = start + this.#at
      // It is not whole, and takes one byte more at least.
      if (this.#at >= this.#limit) throw tooLarge('values', this.#limit, 'frameBytes')
      // A head that crosses the limit is too large whatever it says, however the bytes were cut.
      if (at >= end || !this.#grammar.read(buffer, at, Math.min(end, start + this.#limit), head)) {
        if (end - start > this.#limit) throw tooLarge('values', this.#limit, 'frameBytes')
        this.need = 0
        return -1
      }
      // Before its bytes are waited for.
      if (this.#tag >= 0) this.#grammar.tagged?.(this.#tag, head)
      const after = this.#at + head.size + head.body
      // Each value to come takes a byte at least.
      if (after + Math.max(0, head.children) > this.#limit) throw tooLarge('values', this.#limit, 'frameBytes')
      if (end - start < after) {
        this.need = after
        return -1
      }
      const isWhole = this.#enter(head)
      this.#tag = head.tag
      this.#at = after
      this.need = 0
      if (!isWhole) continue
      this.start = start
      this.end = start + after
      this.#at = 0
      return this.end
    }
  }

  /** @returns true when the outermost value is whole. */
  #enter({ children, isEnd, chunks, major }: Head): boolean {
    const left = this.#left
    const top = left.length - 1
    if (isEnd) {
      if (top < 0 || left[top] !== -1) throw malformed(`a ${this.#grammar.name} value`, 'an end mark')
      left.pop()
      this.#chunks.pop()
      return this.#close()
    }
    const wanted = this.#chunks[top] ?? -1
    if (wanted >= 0 && (wanted !== major || children !== 0))
      throw malformed('a chunk of the same kind', 'another value')
    if (children !== 0) {
      if (left.length >= DEPTH) throw malformed(`values nested at most ${DEPTH} deep`, 'a deeper one')
      left.push(children)
      this.#chunks.push(chunks)
      return false
    }
    return this.#close()
  }

  /** A value has ended; so may have those around it. */
  #close(): boolean {
    const left = this.#left
    for (;;) {
      const top = left.length - 1
      if (top < 0) return true
      if (left[top] === -1) return false
      left[top] = (left[top] as number) - 1
      if (left[top] !== 0) return false
      left.pop()
      this.#chunks.pop()
    }
  }
}

/** Bytes that are exactly one value: payloads ask, because their frames came from anywhere. @throws {FrameError} */
export function checkValue(grammar: Grammar, buffer: Buffer, start: number, end: number): void {
  const reader = new ValueReader(grammar, { frameBytes: Number.POSITIVE_INFINITY, lineBytes: Number.POSITIVE_INFINITY })
  const after = start === end ? -1 : reader.next(buffer, start, end)
  if (after !== end) throw malformed(`one ${grammar.name} value`, after < 0 ? 'a part of one' : 'something behind it')
}
