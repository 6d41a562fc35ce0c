/**
 * The heartbeat's clock, which knows when this process itself has been standing still.
 *
 * Room: plugins/executors.
 */
import type { Clock } from '../../../core/clock.js'

export class Ticker {
  #cancel = () => {}
  #isStopped = false

  /**
   * @param tick - Told the time, and whether this process was punctual: one that was not may not judge others, because what
   *   they said meanwhile has not been read yet.
   */
  constructor(clock: Clock, everyMs: number, tick: (now: number, wasPunctual: boolean) => void) {
    const next = () => {
      const due = clock.now() + everyMs
      this.#cancel = clock.after(everyMs, () => {
        const now = clock.now()
        tick(now, now - due < everyMs)
        if (!this.#isStopped) next()
      })
    }
    next()
  }

  stop(): void {
    this.#isStopped = true
    this.#cancel()
  }
}
