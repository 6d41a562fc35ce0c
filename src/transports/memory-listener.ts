/**
 * A bound memory endpoint: the links that came and wait to be opened.
 *
 * Room: transports. Newcomers always pass through the backlog, so that a paused listener and a running one keep one
 * order.
 */
import type { Endpoint } from '../core/endpoint.js'
import type { LinkSink, Listener } from '../core/transport.js'
import type { MemoryFormat, MemoryLink } from './memory-link.js'
import type { MemoryTurns, TurnTask } from './memory-turns.js'

export class MemoryListener implements Listener, TurnTask {
  readonly endpoint: Endpoint
  readonly sink: LinkSink
  readonly format: MemoryFormat
  posted = false

  readonly #turns: MemoryTurns
  readonly #backlog: number
  readonly #release: () => void
  #waiting: MemoryLink[] = []
  #isPaused = false
  #unbound: Promise<void> | undefined = undefined
  #whenUnbound: (() => void) | undefined = undefined

  constructor(
    turns: MemoryTurns,
    endpoint: Endpoint,
    sink: LinkSink,
    format: MemoryFormat,
    backlog: number,
    release: () => void,
  ) {
    this.#turns = turns
    this.endpoint = endpoint
    this.sink = sink
    this.format = format
    this.#backlog = backlog
    this.#release = release
  }

  /** True when one more may wait; those that gave up while they waited do not count. */
  hasRoom(): boolean {
    if (this.#waiting.length < this.#backlog) return true
    this.#waiting = this.#waiting.filter((link) => !link.isGone)
    return this.#waiting.length < this.#backlog
  }

  /** Takes the listener's side of a new link; it is opened in a later turn. */
  accept(link: MemoryLink): void {
    this.#waiting.push(link)
    if (!this.#isPaused) this.#turns.post(this)
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#turns.post(this)
  }

  unbind(): Promise<void> {
    if (this.#unbound !== undefined) return this.#unbound
    this.#release()
    if (this.#isPaused) {
      for (const link of this.#waiting) link.abort()
      this.#waiting = []
    }
    this.#unbound = new Promise((resolve) => {
      this.#whenUnbound = resolve
    })
    this.#turns.post(this)
    return this.#unbound
  }

  turn(): void {
    const newcomers = this.#waiting
    this.#waiting = []
    for (let i = 0; i < newcomers.length; i++) {
      // The sink may pause us from inside `open`, when it has enough.
      if (this.#isPaused && this.#whenUnbound === undefined) {
        this.#waiting = newcomers.slice(i).concat(this.#waiting)
        return
      }
      const link = newcomers[i] as MemoryLink
      if (!link.isGone) link.open()
    }
    this.#whenUnbound?.()
    this.#whenUnbound = undefined
  }
}
