/**
 * A server as the application, the command line and the control socket see it.
 *
 * Room: core, contract. Implemented by `core/server`.
 */

import type { KeptFacts } from './account.js'
import type { AdmissionLimits } from './admission.js'
import type { Alarm } from './alarms.js'
import type { ListenerOptions } from './configuration.js'
import type { Connection, DrainCode } from './connection.js'
import type { LatencyRecorder } from './control/latency.js'
import type { Endpoint } from './endpoint.js'
import type { EventSource } from './events.js'
import type { Load } from './executor.js'
import type { Observer } from './observer.js'
import type { Limits, TlsIdentity } from './options.js'
import type { ListenerPlan } from './plan.js'
import type { LiveServerLimits } from './server-room.js'
import type { Usage } from './usage.js'

/** `created -> starting -> ready -> draining -> stopped`. */
export type ServerState = 'created' | 'starting' | 'ready' | 'draining' | 'stopped'
export type ListenerState = 'unbound' | 'listening' | 'suspended' | 'closed'

export interface StopOptions {
  /** Milliseconds that connections have to finish; default: the configuration's `drain.timeoutMs`, 15 s. 0 cuts at once. */
  readonly timeoutMs?: number
  /**
   * Milliseconds in which newcomers are still let in, before anything is ended; the state is `draining` already, so that
   * whoever asks is told. Default: the configuration's `drain.delayMs`, 0; none when `timeoutMs` is 0.
   */
  readonly delayMs?: number
  /** Milliseconds over which the ends of connections are spread; default: `drain.jitterMs`, 0. At most half of `timeoutMs`. */
  readonly jitterMs?: number
  /**
   * Milliseconds for which those connected are served on before the drain begins; nobody new is let in. Default 0. A reload
   * ends those who served before it so (`drain.reloadMs`).
   */
  readonly serveMs?: number
  /** Of the reason that connections are closed with. Default `SHUTDOWN`. */
  readonly code?: DrainCode
}

export interface ListenerHandle {
  readonly name: string
  /** The first endpoint, as bound once listening. */
  readonly endpoint: Endpoint
  readonly endpoints: readonly Endpoint[]
  readonly state: ListenerState
  /** Connections open now. */
  readonly connections: number
  /** Accepted, and no connection yet: in a TLS handshake, a WebSocket upgrade or before a PROXY header. Limits count them. */
  readonly handshaking: number
  /** Peers that were accepted so far, refused ones included; by transport. */
  readonly accepted: ReadonlyMap<string, number>
  readonly plan: ListenerPlan
  /** In effect now: the plan's, and what `setLimits` has changed. */
  readonly limits: Readonly<Limits>
  /** What passed since its start, over connections that are gone too. */
  readonly traffic: {
    readonly bytesIn: number
    readonly bytesOut: number
    readonly messagesIn: number
    readonly messagesOut: number
  }
  /**
   * Sets limits while it runs. Lowered below the present count, nobody is cut and nobody let in until it is met again.
   *
   * @throws {WiringError} `BAD_OPTION`.
   */
  setLimits(limits: Partial<AdmissionLimits>): void
  /** @internal Records how long messages take from now on; undefined ends it. */
  measure?(recorder: LatencyRecorder | undefined): void
  /** Newcomers wait (up to the backlog); those connected go on. */
  suspend(): void
  resume(): void
  /**
   * Reads certificates and keys again. What is wrong with them is told as `listener.fault`, and the old ones stay.
   *
   * @returns false when it was refused.
   */
  reload(): Promise<boolean>
  /**
   * Shows a certificate to those who ask for a server name, from the next handshake on: adds, replaces or (undefined) removes
   * what `tls.sni` says. The name `*` is `tls.cert`. Checked first; connections that are there go on.
   *
   * @param identity - Files (watched as others are), PEM text or bytes.
   * @throws {ConfigError} `BAD_VALUE`: what was shown before stays.
   * @throws {WiringError} `NEEDS_UNMET`: the listener began without a certificate.
   */
  setCertificate(name: string, identity: TlsIdentity | undefined): Promise<void>
  /**
   * Resolves when the number of open connections satisfies the condition.
   *
   * @throws {ShutdownError} when the listener is removed first.
   */
  waitForConnections(count: number | ((count: number) => boolean)): Promise<void>
}

/** Listeners by name, at run time too. */
export interface Listeners extends Iterable<ListenerHandle> {
  readonly size: number
  get(name: string): ListenerHandle | undefined
  /** Plans, checks and (when the server runs) binds one more. @throws {ConfigError | WiringError | BindError} */
  add(name: string, options: ListenerOptions): Promise<ListenerHandle>
  /** Unbinds it and drains its connections. */
  remove(name: string, options?: StopOptions): Promise<void>
}

export interface Server extends EventSource {
  readonly state: ServerState
  readonly listeners: Listeners
  /** Open connections of all listeners. */
  readonly connections: Iterable<Connection> & { readonly size: number }
  /** By name, such as `accepted`, `closed.IDLE_TIMEOUT`, `refused.connections`. */
  readonly counters: Readonly<Record<string, number>>
  /** Limits of all listeners together, as they stand now. */
  readonly limits: Readonly<LiveServerLimits>
  /**
   * Sets them while it runs. Nobody is cut for a lowered `serverConnections`; a lowered `memoryBytes` is met at once.
   *
   * @throws {WiringError} `BAD_OPTION`.
   */
  setLimits(limits: Partial<LiveServerLimits>): void
  /** Alarms that are raised now. */
  readonly alarms: readonly Alarm[]
  /** Where handlers run besides inline. */
  readonly executors: readonly { readonly name: string; load(): Load }[]
  /** What the process and the connections use, measured now. */
  usage(): Usage
  /** What plugins keep beside the connections, account by account. */
  readonly kept: readonly KeptFacts[]
  /** @internal What goes along with it, for reports. */
  readonly observers?: readonly Observer[]
  /**
   * Binds every listener, or none.
   *
   * @throws {BindError} with what was tried; earlier binds are undone.
   */
  start(): Promise<this>
  /** Drains, then stops; a second call gives the same promise, sooner if its timeout is shorter. */
  stop(options?: StopOptions): Promise<void>
  /**
   * Instead of `start`: serves one connection's one request, then stops.
   *
   * @returns true when a request was answered.
   */
  handle(): Promise<boolean>
  /** Resolves when the server has stopped. */
  readonly stopped: Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}
