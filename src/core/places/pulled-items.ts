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

/** Asked for at once; one stride ahead of the peer. */
const AHEAD = 16

export class PulledItems implements AsyncIterableIterator<unknown> {
  readonly #source: ItemSource
  readonly #ready: unknown[] = []
  #waiter: Waiter | undefined
  #owed = 0
  #isOver = false
  #error: Error | undefined

  constructor(source: ItemSource) {
    this.#source = source
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<IteratorResult<unknown>> {
    if (!this.#isOver && this.#owed + this.#ready.length <= AHEAD / 2) {
      this.#owed += AHEAD
      this.#source.pull(AHEAD)
    }
    if (this.#ready.length > 0) return Promise.resolve({ done: false, value: this.#ready.shift() })
    if (this.#error !== undefined) return Promise.reject(this.#error)
    if (this.#isOver) return Promise.resolve({ done: true, value: undefined })
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject }
    })
  }

  return(): Promise<IteratorResult<unknown>> {
    if (!this.#isOver) {
      this.#source.pull(STOP)
      this.finish()
    }
    return Promise.resolve({ done: true, value: undefined })
  }

  add(value: unknown): void {
    this.#owed--
    const waiter = this.#waiter
    if (waiter === undefined) this.#ready.push(value)
    else {
      this.#waiter = undefined
      waiter.resolve({ done: false, value })
    }
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
    this.#isOver = true
    this.#source.done()
  }
}
