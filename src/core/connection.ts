/**
 * One peer as handlers see it.
 *
 * Room: core, contract. Implemented by `core/session`, on both sides: servers hand it to handlers, `connect` returns it.
 */
import type { Duplex } from 'node:stream'
import type { Endpoint } from './endpoint.js'
import type { FeatureToken } from './feature.js'

/** `opening`: connection middleware and `@OnOpen` run. `peer-ended`: the peer finished its side. `ending`: we did. */
export type ConnectionState = 'opening' | 'open' | 'peer-ended' | 'ending' | 'closed'

/** Why a drain ends connections: the server stops, or a reload or an upgrade has put others in its place. */
export type DrainCode = 'SHUTDOWN' | 'RELOADED'

/** Why a connection is over; each connection has exactly one. */
export interface CloseReason {
  /**
   * `ENDED` (orderly), `SHUTDOWN` (the server stopped), `RELOADED` (another generation serves now), an error's code (`RESET`, `IDLE_TIMEOUT`, `SLOW_PEER`, `TOO_LARGE`,
   * `HANDLER_FAILED` ...), or what the application gave to `close` or `abort`.
   */
  readonly code: string
  /** Who decided: the other side, the application's code, the framework (limits, deadlines, drain), or the network. */
  readonly by: 'peer' | 'handler' | 'server' | 'network'
  /** The error behind it, where there is one. */
  readonly error?: Error
}

export interface ConnectionStats {
  readonly openedAt: Date
  readonly bytesIn: number
  readonly bytesOut: number
  readonly messagesIn: number
  readonly messagesOut: number
}

/**
 * A connection.
 *
 * Three verbs end it: `end` finishes our side after what was sent (the peer may go on), `close` sends what waits and ends
 * both, `abort` ends both now.
 */
export interface Connection {
  /** Unique in this process and short: for logs. */
  readonly id: string
  /** The listener's endpoint; on the client side the one connected to. */
  readonly endpoint: Endpoint
  readonly local: Endpoint | undefined
  readonly remote: Endpoint | undefined
  /** The transport's name: `tcp`. */
  readonly transport: string
  /** The listener's name; undefined on the client side. */
  readonly listener: string | undefined
  readonly state: ConnectionState
  /** The application's own. */
  readonly attributes: Map<unknown, unknown>
  /** Optional facts: `connection.feature(TLS)?.peerCertificate`. */
  feature<T>(token: FeatureToken<T>): T | undefined
  /**
   * Encodes a message and sends it. Never throws; a promise left alone never becomes an unhandled rejection, because a
   * broadcast must not fall over one peer that left.
   *
   * @returns resolves when more may be sent.
   * @throws {ConnectionError} `CLOSED` by rejection, when the connection is over.
   */
  send(message: unknown): Promise<void>
  /** Sends bytes as they are, past the codec; the same promise as `send`. */
  write(bytes: Uint8Array): Promise<void>
  /** Finishes our side once everything sent has gone. */
  end(): void
  /** Sends what waits, then ends both sides. @param reason - Shown as `closed.code`; default `ENDED`. */
  close(reason?: string): Promise<CloseReason>
  /** Ends both sides now. @param reason - A code, or the error behind it; default `ABORTED`. */
  abort(reason?: string | Error): void
  /** Resolves exactly once, when the link is gone. */
  readonly closed: Promise<CloseReason>
  /**
   * Aborted when the connection is over or the server's drain deadline has come. Taken while a message is handled, it is that
   * message's, and aborted as well when the message is given up (`TIMEOUT`) and the connection goes on; where several are
   * handled at a time (order `concurrent`), once no other shares it. Made when first read.
   */
  readonly signal: AbortSignal
  /** Stops and goes on with reading; messages already read wait. */
  pause(): void
  resume(): void
  /** Switches the link to a layer in mid-life, such as `tls`; bytes that wait unread are refused, not trusted. */
  upgrade(layer: string, options?: unknown): Promise<void>
  /** Hands the rest of the connection to a library that wants a Node stream; messages are no longer delivered. */
  stream(): Duplex
  readonly stats: ConnectionStats
}
