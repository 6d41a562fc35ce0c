/**
 * What middleware sees.
 *
 * Room: core, contract. A context is made only where middleware is configured; a plain handler costs none.
 */
import type { Connection } from './connection.js'

/** Once a connection. `next()` opens it (handler's `@OnOpen`) and returns a promise of its close. */
export interface ConnectionContext {
  readonly connection: Connection
}

/** Once a message. `next()` runs the handler and returns its reply, or a promise of it. */
export interface MessageContext {
  readonly connection: Connection
  /** The decoded message; middleware may replace it before `next()`. */
  message: unknown
  /** The route the codec named; undefined for the rest. */
  readonly route: string | undefined
  /** Bytes of the frame's payload. */
  readonly frameBytes: number
  /**
   * Runs a further message as if it had come by itself, all middleware included: for protocols that bring several in one
   * frame (a batch).
   *
   * @returns its reply, or a promise of it; nothing is sent.
   * @throws what its handler threw, after the handler's `@OnError` had its say.
   */
  handle(message: unknown, route: string | undefined): unknown
}
