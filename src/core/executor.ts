/**
 * The seam of executors: where handlers run.
 *
 * Room: core, contract. `inline` is the default and costs nothing: the session calls the handler itself. An executor of this
 * process (`task`) is given each message with its method; one that runs handlers elsewhere (threads, processes, other
 * machines) gives the session a plan whose handlers are only messengers. Either way order per connection is the
 * session's, and middleware stays where the connection is.
 */
import type { Connection } from './connection.js'
import type { BoundHandler, HandlerPlan } from './handler.js'
import type { Limits, Timeouts } from './options.js'
import type { HandlerSource } from './places/handler-source.js'

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
  /** Messages handed over and not answered yet. */
  readonly running: number
  /** Messages that wait here. */
  readonly queued: number
  /** Where handlers run, for those that have such places. */
  readonly places?: readonly PlaceLoad[]
  /** Of what came from other machines: what meant nothing, and was ignored. */
  readonly dropped?: number
  /** False: what leads to other machines is down. */
  readonly isConnected?: boolean
}

/** One thread, process or node. */
export interface PlaceLoad {
  readonly name: string
  readonly state: 'starting' | 'ready' | 'retiring'
  readonly connections: number
  /** Those of other servers too, where it has any. */
  readonly connectionsOfAll?: number
  readonly running: number
  /** Messages answered since its start. */
  readonly handled: number
  /** Bytes it said it uses; 0 until it has. */
  readonly memoryBytes: number
  /** What it said and was dropped, because it was no batch of ours. */
  readonly refused?: number
}

/** What a handler is placed for. */
export interface Placement {
  /** Where the executor is named, for errors: `listeners.public.executor`. */
  readonly place: string
  /** How another thread, process or machine finds the handler; undefined when it was given as a value in code. */
  readonly source: HandlerSource | undefined
  readonly limits: Readonly<Limits>
  readonly timeouts: Readonly<Timeouts>
  /** False: only single methods run there; `open`, `close` and the other hooks are called where the connection is. */
  readonly hooks: boolean
}

export interface Executor {
  readonly name: string
  /** How many threads, processes or machines handlers may be spread over; Infinity where that is open. Left out: one. */
  readonly runners?: number
  /** Resolves when messages can be run; called before anything is bound, and again after `place`. */
  start(): Promise<void>
  /**
   * A plan that runs the handler elsewhere, in place of `run`.
   *
   * @throws {WiringError} `BAD_HANDLER` for a handler that cannot be found elsewhere.
   */
  place?(plan: HandlerPlan, placement: Placement): HandlerPlan
  /**
   * Runs a task.
   *
   * @returns the handler's reply, or a promise of it.
   * @throws {ExecutorError} `OVERLOADED` at once when its queue is full; `TIMEOUT`; `LOST`. Reach: this message.
   */
  run(task: Task): unknown
  /** Lets running tasks finish until `deadline` (milliseconds of the clock), then aborts the rest and ends its places. */
  drain(deadline: number): Promise<void>
  load(): Load
}
