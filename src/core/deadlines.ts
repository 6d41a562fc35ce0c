/**
 * Deadlines of many connections behind one timer.
 *
 * Room: core, mechanism. Entries lie in buckets of time as an intrusive list, so arming, moving and disarming are O(1) and
 * allocate nothing but a bucket now and then. Deadlines that move with every byte are not moved at all: their owner stores
 * when it last heard something and arms again when the old time comes ("lazy re-arming"). Never early; late by at most the
 * coarseness: 10 ms for what is due within a second, 250 ms beyond.
 */
import type { Clock } from './clock.js'

const FINE_MS = 10
const COARSE_MS = 250
const NEAR_MS = 1_000

/** One owner of deadlines. The four fields belong to `Deadlines`; start them with undefined. */
export interface Expiring {
  bucket: Bucket | undefined
  before: Expiring | undefined
  after: Expiring | undefined
  /** Called when the armed time has come, disarmed. Arms again where something later is due. Must not throw. */
  expire(now: number): void
}

/** All that is due at one time. */
export interface Bucket {
  readonly at: number
  first: Expiring | undefined
}

export class Deadlines {
  readonly #clock: Clock
  readonly #byTime = new Map<number, Bucket>()
  /** Ascending by time; a bucket is added at most once every few milliseconds, so the sorted insert is rare. */
  #buckets: Bucket[] = []
  #cancelTimer: (() => void) | undefined
  #timerAt = Number.POSITIVE_INFINITY

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Makes sure that `entry.expire` is called at `at` (of the clock) or shortly after. Keeps an earlier time that is armed. */
  arm(entry: Expiring, at: number): void {
    if (at === Number.POSITIVE_INFINITY) return
    const armed = entry.bucket
    if (armed !== undefined) {
      if (armed.at <= at) return
      this.disarm(entry)
    }
    const now = this.#clock.now()
    const grain = at - now < NEAR_MS ? FINE_MS : COARSE_MS
    const bucket = this.#bucket(Math.ceil(at / grain) * grain)
    entry.bucket = bucket
    entry.before = undefined
    entry.after = bucket.first
    if (bucket.first !== undefined) bucket.first.before = entry
    bucket.first = entry
    if (bucket.at < this.#timerAt) this.#setTimer(bucket.at, now)
  }

  disarm(entry: Expiring): void {
    const bucket = entry.bucket
    if (bucket === undefined) return
    if (entry.before === undefined) bucket.first = entry.after
    else entry.before.after = entry.after
    if (entry.after !== undefined) entry.after.before = entry.before
    entry.bucket = entry.before = entry.after = undefined
  }

  /** Forgets the timer; entries are not called any more. */
  close(): void {
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
    this.#buckets = []
    this.#byTime.clear()
    this.#timerAt = Number.POSITIVE_INFINITY
  }

  #bucket(at: number): Bucket {
    const known = this.#byTime.get(at)
    if (known !== undefined) return known
    const bucket: Bucket = { at, first: undefined }
    this.#byTime.set(at, bucket)
    let low = 0
    let high = this.#buckets.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#buckets[middle] as Bucket).at < at) low = middle + 1
      else high = middle
    }
    this.#buckets.splice(low, 0, bucket)
    return bucket
  }

  #setTimer(at: number, now: number): void {
    this.#cancelTimer?.()
    this.#timerAt = at
    // Timers fire up to a millisecond early against the monotonic clock; one more keeps "never early" true.
    this.#cancelTimer = this.#clock.after(Math.max(0, Math.ceil(at - now)), () => this.#fire())
  }

  #fire(): void {
    this.#cancelTimer = undefined
    this.#timerAt = Number.POSITIVE_INFINITY
    const now = this.#clock.now()
    let due = 0
    while (due < this.#buckets.length && (this.#buckets[due] as Bucket).at <= now) due++
    for (const bucket of this.#buckets.splice(0, due)) {
      this.#byTime.delete(bucket.at)
      for (let entry = bucket.first; entry !== undefined; entry = bucket.first) {
        this.disarm(entry)
        entry.expire(now)
      }
    }
    const next = this.#buckets[0]
    if (next !== undefined && next.at < this.#timerAt) this.#setTimer(next.at, this.#clock.now())
  }
}
