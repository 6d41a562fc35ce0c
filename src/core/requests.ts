/**
 * Requests that wait for their replies: by an id where the codec can tell, else in order.
 *
 * Room: core, mechanism of the client. What was given up (a deadline, an abort) is remembered, because its reply may still come:
 * in order as a place that swallows one message, by id in a bounded memory. So a late reply is never another's, and never a message
 * that nobody asked for.
 */
import type { Clock } from './clock.js'
import { ConnectionError } from './errors.js'

export interface RequestOptions {
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

interface Waiting {
  readonly resolve: (message: unknown) => void
  readonly reject: (error: Error) => void
}

type Id = string | number

/** Ids of requests that were given up; past it the oldest is forgotten, and its reply would count as unasked. */
const MOST_GIVEN_UP = 4_096

/** The longest delay of a Node timer. */
const LONGEST_MS = 2 ** 31 - 1

const swallow: Waiting = { resolve: () => {}, reject: () => {} }

export class Requests {
  readonly #clock: Clock
  readonly #inOrder: Waiting[] = []
  readonly #byId = new Map<Id, Waiting>()
  /** In the order in which they were given up. */
  readonly #givenUp = new Set<Id>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /**
   * Waits for a reply.
   *
   * @param id - Undefined: the next reply that has none.
   * @param send - Sends the request; called unless it is refused, or its signal was aborted before.
   * @throws (rejects) {ConnectionError} `NOT_SUPPORTED` for an id that is under way, or whose late reply may still come; `TIMEOUT`
   *   after `timeoutMs`, with `sent`; the signal's reason when it is aborted.
   */
  ask(id: Id | undefined, options: RequestOptions, send: () => Promise<void>): Promise<unknown> {
    const { timeoutMs, signal } = options
    if (signal?.aborted) return Promise.reject(reasonOf(signal))
    if (id !== undefined && (this.#byId.has(id) || this.#givenUp.has(id))) {
      const what = this.#byId.has(id) ? 'is under way' : 'was given up, and its reply may still come; take another id'
      return Promise.reject(new ConnectionError('NOT_SUPPORTED', `a request with the id ${id} ${what}`, { id }))
    }
    return new Promise((resolve, reject) => {
      let cancel = () => {}
      const settle = () => {
        cancel()
        signal?.removeEventListener('abort', onAbort)
      }
      const waiting: Waiting = {
        resolve: (reply) => {
          settle()
          resolve(reply)
        },
        reject: (error) => {
          settle()
          reject(error)
        },
      }
      const giveUp = (error: Error) => {
        this.#giveUp(id, waiting)
        waiting.reject(error)
      }
      const onAbort = () => giveUp(reasonOf(signal as AbortSignal))
      signal?.addEventListener('abort', onAbort, { once: true })
      if (timeoutMs !== undefined) {
        const late = () =>
          giveUp(new ConnectionError('TIMEOUT', `no reply came within ${timeoutMs} ms`, { sent: true, timeoutMs }))
        const cancelTimer = this.#clock.after(timeoutMs, late)
        // The clock's timers let the process end; somebody waits for this one.
        const keepAlive = setInterval(() => {}, LONGEST_MS)
        cancel = () => {
          cancelTimer()
          clearInterval(keepAlive)
        }
      }
      if (id === undefined) this.#inOrder.push(waiting)
      else this.#byId.set(id, waiting)
      send().catch((error) => {
        // Nothing was sent, so nothing will be answered.
        this.#forget(id, waiting)
        waiting.reject(error)
      })
    })
  }

  /** A message came. @returns false when nobody has asked for it. */
  take(id: Id | undefined, message: unknown): boolean {
    if (id === undefined) {
      const asked = this.#inOrder.shift()
      asked?.resolve(message)
      return asked !== undefined
    }
    const asked = this.#byId.get(id)
    if (asked === undefined) return this.#givenUp.delete(id)
    this.#byId.delete(id)
    asked.resolve(message)
    return true
  }

  /** The connection is gone. @param error - A new one for each. */
  fail(error: () => Error): void {
    const all = [...this.#inOrder.splice(0), ...this.#byId.values()]
    this.#byId.clear()
    this.#givenUp.clear()
    for (const waiting of all) waiting.reject(error())
  }

  #giveUp(id: Id | undefined, waiting: Waiting): void {
    if (id === undefined) {
      const at = this.#inOrder.indexOf(waiting)
      if (at >= 0) this.#inOrder[at] = swallow
      return
    }
    this.#byId.delete(id)
    this.#givenUp.add(id)
    if (this.#givenUp.size <= MOST_GIVEN_UP) return
    for (const oldest of this.#givenUp) {
      this.#givenUp.delete(oldest)
      break
    }
  }

  #forget(id: Id | undefined, waiting: Waiting): void {
    if (id !== undefined) this.#byId.delete(id)
    else if (this.#inOrder.includes(waiting)) this.#inOrder.splice(this.#inOrder.indexOf(waiting), 1)
  }
}

function reasonOf(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new ConnectionError('CLOSED', 'the request was aborted')
}
