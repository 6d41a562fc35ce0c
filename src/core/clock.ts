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
    const due = performance.now() + delayMs
    let isCancelled = false
    const fire = () => {
      if (!isCancelled) callback()
    }
    const timer = setTimeout(() => afterReading(performance.now() - due, fire), delayMs)
    timer.unref()
    return () => {
      isCancelled = true
      clearTimeout(timer)
    }
  },
}

/** A timer that comes so much too late says that this process stood still. */
const LATE_MS = 250

/**
 * Runs what a timer has come for; where the timer is late, only when what waited in the kernel meanwhile has been read. libuv runs
 * timers before it polls (docs.libuv.org, design overview), so after a standstill (a stopped or suspended process, a handler that
 * blocks) deadlines would be judged by what was heard before it, and peers that spoke in time be cut.
 */
export function afterReading(lateMs: number, callback: () => void): void {
  if (lateMs <= LATE_MS) return callback()
  // Two polls: the first accepts, the second reads from those who were accepted.
  setImmediate(() => setImmediate(callback))
}
