/**
 * A clock that tests hold in their hand: an hour of idle timeouts passes in a millisecond.
 *
 * Room: testing. Time stands still until `advance`.
 */
import type { Clock } from '../core/clock.js'

/** A clock whose time is moved by the test. */
export interface VirtualClock extends Clock {
  /** Timers that wait. */
  readonly pending: number
  /**
   * Moves time on and runs what comes due, earliest first and in the order of setting, and after each one lets promises
   * and the memory networks that use this clock come to rest.
   *
   * @returns once everything due has run and come to rest. Calls made meanwhile follow one another.
   * @throws what a timer's callback threw.
   */
  advance(ms: number): Promise<void>
  /**
   * Lets promises, `setImmediate` and the watched sources come to rest; time stands still.
   *
   * @throws {Error} after 100,000 turns without rest: two sides that answer each other for ever.
   */
  settle(): Promise<void>
  /** Makes `settle` wait while `isBusy` says so; a memory network adds itself. */
  watch(isBusy: () => boolean): void
}

interface Timer {
  readonly due: number
  readonly callback: () => void
  isCancelled: boolean
}

const MAX_TURNS = 100_000

/**
 * Makes a virtual clock at 0 ms.
 *
 * It governs whatever was given it as its `Clock`; files, sockets and `setTimeout` keep their own time.
 *
 * @example
 * const clock = createVirtualClock()
 * clock.after(300_000, () => console.log('idle'))
 * await clock.advance(300_000) // prints idle
 */
export function createVirtualClock(): VirtualClock {
  // By due time, then by order of setting. Waiting timers are searched, never scanned: thousands of links may have one.
  let timers: Timer[] = []
  let cancelled = 0
  let time = 0
  let last: Promise<void> = Promise.resolve()
  const sources: (() => boolean)[] = []

  const settle = async (): Promise<void> => {
    let turns = 0
    do {
      if (++turns > MAX_TURNS) throw new Error(`virtual clock: no rest after ${MAX_TURNS} turns at ${time} ms`)
      await new Promise<void>((resolve) => setImmediate(resolve))
    } while (sources.some((isBusy) => isBusy()))
  }

  const run = async (target: number): Promise<void> => {
    await settle()
    for (let timer = timers[0]; timer !== undefined && timer.due <= target; timer = timers[0]) {
      timers.shift()
      if (timer.isCancelled) {
        cancelled--
        continue
      }
      time = timer.due
      timer.isCancelled = true
      timer.callback()
      await settle()
    }
    time = target
  }

  return {
    now: () => time,
    after(delayMs, callback) {
      const timer: Timer = { due: time + Math.max(0, delayMs), callback, isCancelled: false }
      let low = 0
      let high = timers.length
      while (low < high) {
        const middle = (low + high) >>> 1
        if ((timers[middle] as Timer).due <= timer.due) low = middle + 1
        else high = middle
      }
      timers.splice(low, 0, timer)
      return () => {
        if (timer.isCancelled) return
        timer.isCancelled = true
        // Connections move their deadlines all the time: what was cancelled goes in bulk.
        if (++cancelled * 2 <= timers.length) return
        timers = timers.filter(({ isCancelled }) => !isCancelled)
        cancelled = 0
      }
    },
    get pending() {
      return timers.length - cancelled
    },
    advance(ms) {
      if (!(ms >= 0)) return Promise.reject(new RangeError(`advance: expected milliseconds of at least 0, got ${ms}`))
      const result = last.then(() => run(time + ms))
      last = result.catch(() => {})
      return result
    },
    settle,
    watch(isBusy) {
      sources.push(isBusy)
    },
  }
}
