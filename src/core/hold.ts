/**
 * Bytes that came and are not consumed yet: one growing buffer a connection.
 *
 * Room: core, mechanism. Doubling, never a concatenation per chunk: 1 MiB in 16-byte pieces stays linear. Bytes once
 * appended are never written again, so a codec may keep views of them: the buffer is left behind, not reused, when it is
 * full or empty. An idle connection holds none.
 */

/** A length claimed by a peer sizes the buffer only up to twice what it really sent, and never below this. */
const SMALLEST = 4_096

export class Hold {
  buffer: Buffer | undefined
  start = 0
  end = 0

  get size(): number {
    return this.end - this.start
  }

  /** Copies `from[start, end)` behind what is held. @param need - Bytes the present frame is expected to take; a hint. */
  append(from: Buffer, start: number, end: number, need: number): void {
    const added = end - start
    if (this.buffer === undefined || this.buffer.length - this.end < added) this.#grow(added, need)
    from.copy(this.buffer as Buffer, this.end, start, end)
    this.end += added
  }

  /** Gives up everything before `index`. */
  consume(index: number): void {
    this.start = index
    if (this.start === this.end) this.clear()
  }

  clear(): void {
    this.buffer = undefined
    this.start = this.end = 0
  }

  #grow(added: number, need: number): void {
    const held = this.size
    const least = held + added
    const wanted = Math.max(least * 2, SMALLEST)
    // A frame of known length gets just its size when that is less: 64 KiB + 4 must not take 128 KiB.
    const size = need > least && need < wanted ? need : wanted
    const larger = Buffer.allocUnsafeSlow(size)
    if (held > 0) (this.buffer as Buffer).copy(larger, 0, this.start, this.end)
    this.buffer = larger
    this.start = 0
    this.end = held
  }
}
