/**
 * When to start again what has ended: at once, unless it ends again and again.
 *
 * Room: core, mechanism. For places of handlers and server processes. Five ends in ten seconds, and the wait doubles from one second to thirty.
 */
import type { Clock } from './clock.js'

const WINDOW_MS = 10_000
const MANY = 5
const FIRST_MS = 1_000
const MOST_MS = 30_000

export class Backoff {
  readonly #clock: Clock
  readonly #cancels = new Set<() => void>()
  #ends: number[] = []
  #delayMs = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** The wait that the next start has now, in milliseconds. */
  get delayMs(): number {
    return this.#delayMs
  }

  /** Something has ended: starts it again when it is time. */
  next(start: () => void): void {
    const now = this.#clock.now()
    this.#ends = this.#ends.filter((at) => now - at < Math.max(WINDOW_MS, this.#delayMs * 2))
    this.#ends.push(now)
    this.#delayMs = this.#ends.length < MANY ? 0 : Math.min(MOST_MS, Math.max(FIRST_MS, this.#delayMs * 2))
    // At once means at once: whoever comes next finds it starting, and waits for it.
    if (this.#delayMs === 0) return start()
    const cancel = this.#clock.after(this.#delayMs, () => {
      this.#cancels.delete(cancel)
      start()
    })
    this.#cancels.add(cancel)
  }

  stop(): void {
    for (const cancel of this.#cancels) cancel()
    this.#cancels.clear()
  }
}
