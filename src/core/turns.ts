/**
 * How a plugin gives way inside one message that means a lot of work.
 *
 * Room: core, mechanism; the contract is in core/plugin.
 */
import type { Clock } from './clock.js'
import type { Turns } from './plugin.js'

/** As long as a burst of frames of one connection (core/session). */
const TURN_MS = 5

/** One for all plugins of a server: together they have no longer than one of them. */
export class SharedTurns implements Turns {
  readonly #clock: Clock
  /** When work of this turn of the loop began; NaN: it has not. */
  #since = Number.NaN
  #next: Promise<void> | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  breathe(): Promise<void> | undefined {
    const now = this.#clock.now()
    if (Number.isNaN(this.#since)) {
      this.#since = now
      setImmediate(this.#over)
      return undefined
    }
    if (now - this.#since <= TURN_MS) return undefined
    // Scheduled behind #over: whoever goes on finds a new turn.
    this.#next ??= new Promise((resolve) => setImmediate(resolve))
    return this.#next
  }

  readonly #over = (): void => {
    this.#since = Number.NaN
    this.#next = undefined
  }
}
