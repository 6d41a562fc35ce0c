/**
 * Turns: when the memory transport calls a sink.
 *
 * Room: transports. Whatever links, dials and listeners have to do is posted here and done in one `setImmediate`, never
 * inside the call that caused it, so that nothing is re-entrant and two programs that talk do not starve the loop.
 */
import type { LinkSink } from '../core/transport.js'

/** Something with work for the next turn. */
export interface TurnTask {
  /** The turns' own: already in the queue. */
  posted: boolean
  turn(): void
}

/** One queue of tasks; a turn runs those that were posted before it began. */
export class MemoryTurns {
  #queue: TurnTask[] = []
  #spare: TurnTask[] = []
  #scheduled = false
  readonly #toFlush = new Set<LinkSink>()

  /** True while a turn is still to come. */
  get isBusy(): boolean {
    return this.#scheduled
  }

  post(task: TurnTask): void {
    if (task.posted) return
    task.posted = true
    this.#queue.push(task)
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(this.#run)
  }

  /** Calls the sink's `flush` once, after the last task of this turn. */
  flushAfter(sink: LinkSink): void {
    if (sink.flush !== undefined) this.#toFlush.add(sink)
  }

  readonly #run = (): void => {
    const tasks = this.#queue
    this.#queue = this.#spare
    this.#scheduled = false
    for (const task of tasks) {
      task.posted = false
      task.turn()
    }
    tasks.length = 0
    this.#spare = tasks
    if (this.#toFlush.size === 0) return
    for (const sink of this.#toFlush) sink.flush?.()
    this.#toFlush.clear()
  }
}
