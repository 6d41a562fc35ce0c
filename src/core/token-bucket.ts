/**
 * So much a second, and a burst after a silence.
 *
 * Room: core, mechanism. A token bucket (RFC 2697 describes one): over any time t at most rate × t + burst pass.
 */

/** What is left to spend; below zero while somebody waits. */
export class TokenBucket {
  #left: number
  #at: number
  readonly #perMs: number
  readonly #burst: number

  /** @param now - Milliseconds of a monotonic clock, here and below. */
  constructor(perSecond: number, burst: number, now: number) {
    this.#perMs = perSecond / 1_000
    this.#burst = burst
    this.#left = burst
    this.#at = now
  }

  /** Milliseconds until so much may pass; 0: now. More than a burst passes once the bucket is full. */
  lack(amount: number, now: number): number {
    this.#left = Math.min(this.#burst, this.#left + (now - this.#at) * this.#perMs)
    this.#at = now
    return Math.max(0, (Math.min(amount, this.#burst) - this.#left) / this.#perMs)
  }

  /** The same behind others that will have spent so much before. */
  lackBehind(amount: number, ahead: number, now: number): number {
    if (ahead === 0) return this.lack(amount, now)
    this.lack(0, now)
    return Math.max(0, (Math.min(amount, this.#burst) + ahead - this.#left) / this.#perMs)
  }

  /** A negative amount gives back. */
  spend(amount: number): void {
    this.#left = Math.min(this.#burst, this.#left - amount)
  }
}
