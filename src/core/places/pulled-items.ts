/**
 * An iterable reply that is made elsewhere: items come as they are asked for, a few ahead.
 *
 * Room: core, mechanism.
 */
import { STOP } from './wire.js'

interface Waiter {
  readonly resolve: (result: IteratorResult<unknown>) => void
  readonly reject: (error: Error) => void
}

export interface ItemSource {
  /** @param count - How many more; `STOP`: nobody wants the rest. */
  pull(count: number): void
  done(): void
}

/** What the handler did between two items, while these were still ahead of the peer. */
class Deed {
  readonly act: () => void

  constructor(act: () => void) {
    this.act = act
  }
}

/** Asked for at once; one stride ahead of the peer. */
const AHEAD = 16

export class PulledItems implements AsyncIterableIterator<unknown> {
  readonly #source: ItemSource
  /** Items and deeds, in the order in which they came. */
  readonly #ready: unknown[] = []
  /** Whoever asked has an item, and has not asked again. */
  #isTaken = false
  #waiter: Waiter | undefined
  #owed = 0
  /** All items have come, or nobody wants more. */
  isOver = false
  #error: Error | undefined

  constructor(source: ItemSource) {
    this.#source = source
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<IteratorResult<unknown>> {
    this.#isTaken = false
    while (this.#ready[0] instanceof Deed) (this.#ready.shift() as Deed).act()
    if (!this.isOver && this.#owed + this.#ready.length <= AHEAD / 2) {
      this.#owed += AHEAD
      this.#source.pull(AHEAD)
    }
    if (this.#ready.length > 0) {
      this.#isTaken = true
      return Promise.resolve({ done: false, value: this.#ready.shift() })
    }
    if (this.#error !== undefined) return Promise.reject(this.#error)
    if (this.isOver) return Promise.resolve({ done: true, value: undefined })
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject }
    })
  }

  return(): Promise<IteratorResult<unknown>> {
    if (!this.isOver) {
      this.#source.pull(STOP)
      this.finish()
    }
    this.#isTaken = false
    for (const one of this.#ready.splice(0)) if (one instanceof Deed) one.act()
    return Promise.resolve({ done: true, value: undefined })
  }

  add(value: unknown): void {
    this.#owed--
    const waiter = this.#waiter
    if (waiter === undefined) this.#ready.push(value)
    else {
      this.#waiter = undefined
      this.#isTaken = true
      waiter.resolve({ done: false, value })
    }
  }

  /** Does something to the connection once the peer is sent the items that were made before, as where no item is ahead. */
  behind(act: () => void): void {
    if (this.#isTaken || this.#ready.length > 0) this.#ready.push(new Deed(act))
    else act()
  }

  finish(): void {
    this.#end()
    this.#waiter?.resolve({ done: true, value: undefined })
    this.#waiter = undefined
  }

  fail(error: Error): void {
    this.#end()
    this.#error = error
    this.#waiter?.reject(error)
    this.#waiter = undefined
  }

  #end(): void {
    this.isOver = true
    this.#source.done()
  }
}
