/**
 * What many wait for is kept once, and paid for once.
 *
 * Room: plugins/protocols. One of those who wait pays for it (`Account` in core/plugin); when that one has it, the next pays. So
 * the sum is what is really kept, and in the end it is the slowest that has the most.
 */
import type { Holding } from '../../core/account.js'

/** An entry in the queue of one who waits. */
const ENTRY_BYTES = 128

export class Parcel {
  readonly bytes: number
  /** The first one pays. */
  readonly #waiting = new Set<Holding>()

  constructor(bytes: number) {
    this.bytes = bytes
  }

  /** @returns false: it must not be kept for this one. */
  join(holding: Holding): boolean {
    const pays = this.#waiting.size === 0
    if (!holding.take(ENTRY_BYTES + (pays ? this.bytes : 0))) return false
    // Who paid so far may have had to go for that.
    if (!pays && this.#waiting.size === 0 && !holding.take(this.bytes)) return false
    this.#waiting.add(holding)
    return true
  }

  leave(holding: Holding): void {
    const pays = this.#waiting.values().next().value === holding
    if (!this.#waiting.delete(holding)) return
    holding.give(ENTRY_BYTES + (pays ? this.bytes : 0))
    if (pays) this.#waiting.values().next().value?.take(this.bytes)
  }
}

/** What a value of headers or properties costs in memory, roughly and never far too little. */
export function weightOf(value: unknown): number {
  if (typeof value === 'string') return 32 + 2 * value.length
  if (value instanceof Uint8Array) return 96 + value.length
  if (typeof value !== 'object' || value === null) return 8
  let bytes = 64
  for (const [key, one] of Object.entries(value)) bytes += 32 + key.length + weightOf(one)
  return bytes
}
