/**
 * Time as core sees it: a monotonic reading and a timer, so that tests can hold the clock in their hand.
 *
 * Room: core, contract. Nothing in core reads `Date` for a deadline: wall time jumps, deadlines must not.
 */

/** A source of monotonic time and timers. */
export interface Clock {
  /** Milliseconds since an arbitrary point; never goes back. */
  now(): number
  /** Runs `callback` once after `delayMs`; the timer never keeps the process alive. Returns what cancels it. */
  after(delayMs: number, callback: () => void): () => void
}

/** The process's own clock (`performance.now`, `setTimeout`). */
export const systemClock: Clock = {
  now: () => performance.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs)
    timer.unref()
    return () => clearTimeout(timer)
  },
}
