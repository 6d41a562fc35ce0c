/**
 * Hands what a supervisor has accepted to its workers: whose turn it is, how much may be under way, what waits.
 *
 * Room: core, mechanism. Knows no sockets. Nothing here is a queue without a bound: beyond `window` at a worker and `hold` at
 * a source the source is stopped, and whoever comes then waits with the kernel.
 */
import type { Clock } from '../clock.js'
import { rendezvous } from './rendezvous.js'

/** Where things come from: one bound endpoint. */
export interface Source {
  /** Stops accepting; the kernel holds whoever comes. */
  stop(): void
  /** Accepts again. */
  go(): void
}

export interface Item<S extends Source = Source> {
  readonly source: S
  /** The peer's address; empty where it has none. */
  readonly address: string
}

/** A worker as it is seen from here. */
export interface Seat<I extends Item> {
  /** Its place among the workers; the one that replaces it has the same. */
  readonly slot: number
  /** False for a worker that is going as well. */
  serves(item: I): boolean
  /** At its limit of connections for that listener: others come first. */
  isFull(item: I): boolean
  /** Peers wait when all are full, rather than being refused by the worker. */
  waits(item: I): boolean
  /** Hands one over. @param done - Once it has been taken over there, or cannot be. */
  give(item: I, done: () => void): void
}

interface Place<I extends Item> {
  readonly seat: Seat<I>
  readonly queue: I[]
  isGiving: boolean
  /** When what is under way was given. */
  since: number
}

export interface DistributionOptions {
  readonly balance: 'round-robin' | 'source'
  readonly clock: Clock
  /** At one worker: handed over and not taken yet. */
  readonly window?: number
  /** Of one source: accepted, and no worker has room. */
  readonly hold?: number
}

const WINDOW = 32
const HOLD = 64
/** A worker that has not taken what it was given for so long is busy, or stuck: others come first. */
const SLOW_MS = 300

export class Distribution<I extends Item> {
  balance: DistributionOptions['balance']
  readonly #window: number
  readonly #hold: number
  readonly #places: Place<I>[] = []
  #waiting: I[] = []
  readonly #waitingOf = new Map<Source, number>()
  readonly #stopped = new Set<Source>()
  /** The slot that was served last. */
  #turn = -1
  readonly #clock: Clock
  #isReliefDue = false

  constructor({ balance, clock, window = WINDOW, hold = HOLD }: DistributionOptions) {
    this.balance = balance
    this.#clock = clock
    this.#window = window
    this.#hold = hold
  }

  /** Accepted and not handed to a worker, and those on their way. */
  get waiting(): number {
    return this.#places.reduce((sum, { queue }) => sum + queue.length, this.#waiting.length)
  }

  add(seat: Seat<I>): void {
    this.#places.push({ seat, queue: [], isGiving: false, since: 0 })
    this.#places.sort((a, b) => a.seat.slot - b.seat.slot)
    this.check()
  }

  /** It takes no more; what had not left for it goes to others. */
  remove(seat: Seat<I>): void {
    const index = this.#places.findIndex((place) => place.seat === seat)
    const [place] = index === -1 ? [] : this.#places.splice(index, 1)
    for (const item of place?.queue.splice(0) ?? []) this.offer(item)
  }

  offer(item: I): void {
    const place = this.#choose(item)
    if (place !== undefined) {
      place.queue.push(item)
      this.#pump(place)
      if (place.queue.length > 0) this.#relieveLater()
      return
    }
    this.#waiting.push(item)
    const { source } = item
    const count = (this.#waitingOf.get(source) ?? 0) + 1
    this.#waitingOf.set(source, count)
    if (count < this.#hold || this.#stopped.has(source)) return
    this.#stopped.add(source)
    source.stop()
  }

  /** Somewhere is room again. */
  check(): void {
    const waiting = this.#waiting
    if (waiting.length > 0) {
      this.#waiting = []
      for (const item of waiting) this.#waitingOf.set(item.source, (this.#waitingOf.get(item.source) ?? 1) - 1)
      for (const item of waiting) this.offer(item)
    }
    for (const source of this.#stopped) {
      if ((this.#waitingOf.get(source) ?? 0) > 0) continue
      this.#stopped.delete(source)
      source.go()
    }
  }

  /** Takes back what waits for a source that is given up. */
  forget(source: Source): I[] {
    const own = (item: I) => item.source === source
    const left = [...this.#waiting.filter(own)]
    this.#waiting = this.#waiting.filter((item) => !own(item))
    this.#waitingOf.delete(source)
    this.#stopped.delete(source)
    for (const place of this.#places) {
      left.push(...place.queue.filter(own))
      const rest = place.queue.filter((item) => !own(item))
      place.queue.splice(0, place.queue.length, ...rest)
    }
    return left
  }

  #relieveLater(): void {
    if (this.#isReliefDue) return
    this.#isReliefDue = true
    this.#clock.after(SLOW_MS, () => this.#relieve())
  }

  /** What waits for a worker that does not move goes to those that do. */
  #relieve(): void {
    this.#isReliefDue = false
    const slow = this.#places.filter((place) => place.queue.length > 0 && this.#isSlow(place))
    if (this.balance === 'round-robin' && slow.length < this.#places.length) {
      for (const { queue } of slow) for (const item of queue.splice(0)) this.offer(item)
    }
    if (this.#places.some(({ queue }) => queue.length > 0)) this.#relieveLater()
  }

  #isSlow({ isGiving, since }: Place<I>): boolean {
    return isGiving && this.#clock.now() - since >= SLOW_MS
  }

  #choose(item: I): Place<I> | undefined {
    const serving = this.#places.filter(({ seat }) => seat.serves(item))
    if (serving.length === 0) return undefined
    if (this.balance === 'source' && item.address !== '') {
      const slots = serving.map(({ seat }) => seat.slot)
      const place = serving[rendezvous(item.address, slots)] as Place<I>
      return this.#hasRoom(place) && !(place.seat.isFull(item) && place.seat.waits(item)) ? place : undefined
    }
    const roomy = serving.filter((place) => this.#hasRoom(place))
    const quick = roomy.filter((place) => !this.#isSlow(place))
    const open = quick.length > 0 ? quick : roomy
    const free = open.filter(({ seat }) => !seat.isFull(item))
    // All full: the worker says no itself, with its own event and counter, unless its listener lets peers wait.
    const candidates = free.length > 0 ? free : open.filter(({ seat }) => !seat.waits(item))
    const next = candidates.find(({ seat }) => seat.slot > this.#turn) ?? candidates[0]
    if (next !== undefined) this.#turn = next.seat.slot
    return next
  }

  #hasRoom({ queue, isGiving }: Place<I>): boolean {
    return queue.length + (isGiving ? 1 : 0) < this.#window
  }

  /** One at a time: Node itself passes no second descriptor before the first is acknowledged. */
  #pump(place: Place<I>): void {
    if (place.isGiving) return
    const item = place.queue.shift()
    if (item === undefined) return
    place.isGiving = true
    place.since = this.#clock.now()
    place.seat.give(item, () => {
      place.isGiving = false
      if (!this.#places.includes(place)) return
      this.#pump(place)
      this.check()
    })
  }
}
