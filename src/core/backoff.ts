/**
 * When to start again what has ended: at once, unless it ends again and again.
 *
 * Room: core, mechanism; for places of handlers and for server processes. What ends before it was of any use is broken: five ends in ten seconds, and the wait doubles from
 * one second to thirty. What served before it ended is wanted back: there the wait grows from a tenth of a second to one.
 */
import type { Clock } from './clock.js'

const WINDOW_MS = 10_000
const MANY = 5

interface Pace {
  readonly firstMs: number
  readonly mostMs: number
}
const broken: Pace = { firstMs: 1_000, mostMs: 30_000 }
const served: Pace = { firstMs: 100, mostMs: 1_000 }

export class Backoff {
  readonly #clock: Clock
  readonly #cancels = new Set<() => void>()
  readonly #states = new Map<Pace, { ends: number[]; delayMs: number }>()
  #delayMs = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** The wait that the next start has now, in milliseconds. */
  get delayMs(): number {
    return this.#delayMs
  }

  /** Something has ended: starts it again when it is time. @param wasOfUse - It had been ready. */
  next(wasOfUse: boolean, start: () => void): void {
    const delayMs = this.#after(wasOfUse ? served : broken)
    this.#delayMs = delayMs
    // At once means at once: whoever comes next finds it starting, and waits for it.
    if (delayMs === 0) return start()
    const cancel = this.#clock.after(delayMs, () => {
      this.#cancels.delete(cancel)
      start()
    })
    this.#cancels.add(cancel)
  }

  #after(pace: Pace): number {
    const { ends, delayMs } = this.#states.get(pace) ?? { ends: [], delayMs: 0 }
    const now = this.#clock.now()
    const recent = [...ends.filter((at) => now - at < Math.max(WINDOW_MS, delayMs * 2)), now]
    const next = recent.length < MANY ? 0 : Math.min(pace.mostMs, Math.max(pace.firstMs, delayMs * 2))
    this.#states.set(pace, { ends: recent, delayMs: next })
    return next
  }

  stop(): void {
    for (const cancel of this.#cancels) cancel()
    this.#cancels.clear()
  }
}
