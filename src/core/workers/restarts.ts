/**
 * When the place of a worker that has ended is filled again: at once, unless workers end again and again by the program's fault.
 *
 * Room: core, mechanism. Knows places by their slot; how one is filled is the supervisor's business.
 */
import { Backoff } from '../backoff.js'
import type { Clock } from '../clock.js'

/** With the end of a worker that had served, five ends. */
const MANY_FAILURES = 4
const FIRST_DELAY_MS = 1_000
const MOST_DELAY_MS = 30_000
/** After the last fault, until it is believed to be over. */
const CALM_MS = 10_000

export interface RestartsParts {
  readonly clock: Clock
  /** Fills it. */
  start(slot: number): void
  /** Again and again: the next start has to wait. */
  crashing(slot: number, delayMs: number): void
}

export class Restarts {
  readonly #parts: RestartsParts
  readonly #backoff: Backoff
  readonly #delayed = new Set<() => void>()
  /** Starts that failed, one after another. */
  #failures = 0
  #crashedAt = Number.NEGATIVE_INFINITY
  #isCrashing = false

  constructor(parts: RestartsParts) {
    this.#parts = parts
    this.#backoff = new Backoff(parts.clock)
  }

  /** Workers start and end without having served. */
  get isCrashing(): boolean {
    return this.#isCrashing
  }

  /** One serves. */
  served(): void {
    this.#failures = 0
  }

  /**
   * Its worker has ended, or will.
   *
   * @param isFault - Of the program: five in ten seconds, and the next start waits. Somebody who kills workers that were ready
   * (an operator, a test, the system out of memory) shall not stop the service with it.
   */
  again(slot: number, isFault: boolean, wasReady: boolean): void {
    const { clock, start, crashing } = this.#parts
    if (!isFault) return start(slot)
    this.#crashedAt = clock.now()
    if (!wasReady) this.#failures++
    let delayMs = 0
    // By number, whatever the time between: on a busy machine each attempt takes long, and costs the others all the more.
    if (this.#failures >= MANY_FAILURES) {
      delayMs = Math.min(MOST_DELAY_MS, FIRST_DELAY_MS * 2 ** (this.#failures - MANY_FAILURES))
      const cancel = clock.after(delayMs, () => {
        this.#delayed.delete(cancel)
        start(slot)
      })
      this.#delayed.add(cancel)
    } else {
      this.#backoff.next(wasReady, () => start(slot))
      delayMs = this.#backoff.delayMs
    }
    if (delayMs === 0) return
    this.#isCrashing = true
    crashing(slot, delayMs)
  }

  /** All places are filled. @returns true, once: that was a crash loop, and it is over. */
  isOver(): boolean {
    if (!this.#isCrashing || this.#parts.clock.now() - this.#crashedAt <= CALM_MS) return false
    this.#isCrashing = false
    return true
  }

  /** What waits to be started is not. */
  cancel(): void {
    this.#backoff.stop()
    for (const cancel of this.#delayed) cancel()
    this.#delayed.clear()
  }
}
