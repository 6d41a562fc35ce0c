/**
 * The seam of observers: what goes along with a server to measure it, or to tell of it.
 *
 * Room: core, contract. A plugin registers one (`registry.observer`); a server without observers pays one comparison a
 * message. What an observer sees of a server is here, and is less than the server. Several server processes have one each, so an
 * observer binds nothing: what has an address is a companion (core/plugin), which stands once and asks for reports.
 */
import type { KeptFacts } from './account.js'
import type { Alarm } from './alarms.js'
import type { Connection } from './connection.js'
import type { Endpoint } from './endpoint.js'
import type { EventSource } from './events.js'
import type { Load } from './executor.js'
import type { MiddlewareSet } from './pipeline.js'
import type { Usage } from './usage.js'

/** A server as observers see it. */
export interface ObservedServer extends EventSource {
  /** `created -> starting -> ready -> draining -> stopped`. */
  readonly state: string
  readonly listeners: Iterable<ObservedListener>
  readonly connections: Iterable<Connection> & { readonly size: number }
  /** By name, such as `accepted`, `closed.IDLE_TIMEOUT`, `refused.connections`. */
  readonly counters: Readonly<Record<string, number>>
  readonly alarms: readonly Alarm[]
  /** Where handlers run besides inline. */
  readonly executors: readonly { readonly name: string; load(): Load }[]
  /** What the process and the connections use, measured now. */
  usage(): Usage
  /** What plugins keep beside the connections, account by account. */
  readonly kept: readonly KeptFacts[]
}

export interface ObservedListener {
  readonly name: string
  readonly endpoints: readonly Endpoint[]
  /** `unbound`, `listening`, `suspended` or `closed`. */
  readonly state: string
  /** Connections open now. */
  readonly connections: number
  /** Accepted, and no connection yet: in a TLS handshake, a WebSocket upgrade or before a PROXY header. */
  readonly handshaking: number
  /** Peers that were accepted so far, refused ones included; by transport. */
  readonly accepted: ReadonlyMap<string, number>
  readonly limits: { readonly connections: number }
}

/**
 * Told of every message that was handled, where somebody measures.
 *
 * Implementations must not throw, and should make nothing: this is the way of every message.
 */
export interface Probe {
  /**
   * A message has its reply (or failed, or has none).
   *
   * @param since - Milliseconds of the server's clock when its turn began.
   * @returns the clock's time now: where the next message of the same chunk begins.
   */
  handled(since: number): number
}

/** Goes along with one server. */
export interface Observer {
  readonly name: string
  /** Around every connection and message of every listener, outermost of all. */
  readonly middleware?: MiddlewareSet
  /** Asked once for each listener, when it is planned. Undefined: nothing is measured there. */
  probe?(listener: string): Probe | undefined
  /**
   * What it knows now, as plain data that can be sent to another process; for the companion beside it, which gets the reports of
   * all processes. Bounded, whatever peers do. Asked after `stop` too, once: its last words.
   */
  report?(): unknown
  /** Before anything is bound. @throws to fail the start; whatever was started is stopped again. */
  start?(server: ObservedServer): void | Promise<void>
  /** When everything else has ended. Called for each that was started. */
  stop?(): void | Promise<void>
}

/** Several probes as one; undefined where there is none. */
export function joinProbes(probes: readonly Probe[]): Probe | undefined {
  if (probes.length < 2) return probes[0]
  return {
    handled(since) {
      let now = since
      for (const probe of probes) now = probe.handled(since)
      return now
    },
  }
}
