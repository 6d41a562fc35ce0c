/**
 * The seam of executors: where handlers run.
 *
 * Room: core, contract. `inline` is the default and costs nothing: the session calls the handler itself and no task is
 * made. Every other executor gets tasks, in order per connection.
 */
import type { Connection } from './connection.js'
import type { BoundHandler } from './handler.js'

/** One message on its way to a handler. */
export interface Task {
  readonly connection: Connection
  readonly handler: BoundHandler
  readonly message: unknown
  readonly route: string | undefined
  /** Aborted when the connection is over, the task's deadline has come or the server's drain has. */
  readonly signal: AbortSignal
}

export interface Load {
  readonly running: number
  readonly queued: number
}

export interface Executor {
  readonly name: string
  start(): Promise<void>
  /**
   * Runs a task.
   *
   * @returns the handler's reply, or a promise of it.
   * @throws {ExecutorError} `OVERLOADED` at once when its queue is full; `TIMEOUT`; `LOST`. Reach: this message.
   */
  run(task: Task): unknown
  /** Lets running tasks finish until `deadline` (milliseconds of the clock), then aborts the rest. */
  drain(deadline: number): Promise<void>
  load(): Load
}
