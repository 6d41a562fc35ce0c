/**
 * What core tells the world: typed events, on the server object and on `node:diagnostics_channel` beneath.
 *
 * Room: core, contract and its small mechanism. Core never logs; plugins subscribe and print. docs/reference/events.md
 * lists each event, checked by a test. An event nobody listens to costs one look-up and makes no object.
 */
import { type Channel, channel } from 'node:diagnostics_channel'
import type { AlarmName } from './alarm-name.js'
import type { CloseReason, Connection } from './connection.js'
import type { Endpoint } from './endpoint.js'

/** Every event with its fields. The channel of `connection.opened` is `gaidaros.connection.opened`. */
export interface Events {
  /** `created` to `starting`, `ready`, `draining`, `stopped`. */
  'server.state': { readonly from: string; readonly to: string }
  /** An address is bound; one event for each endpoint. */
  'listener.bound': { readonly listener: string; readonly endpoint: Endpoint }
  /** Its address is given up; connections may still be there. */
  'listener.unbound': { readonly listener: string; readonly endpoint: Endpoint }
  /** Certificates and keys were read again; newcomers get the new ones. */
  'listener.reloaded': { readonly listener: string }
  /** Newcomers wait from now on. */
  'listener.suspended': { readonly listener: string }
  /** Newcomers are served again; those who waited first. */
  'listener.resumed': { readonly listener: string }
  /** A peer that was not let in, with the limit or middleware that said so. */
  'connection.refused': { readonly listener: string; readonly remote: Endpoint | undefined; readonly reason: string }
  /** Let in by limits and middleware; `@OnOpen` runs. */
  'connection.opened': { readonly connection: Connection }
  /** Gone, with the one reason; once for each `connection.opened`. */
  'connection.closed': { readonly connection: Connection; readonly reason: CloseReason }
  /** A frame that broke a limit or the grammar; `connection.closed` follows. */
  'frame.refused': { readonly connection: Connection; readonly error: Error }
  /** A handler, middleware or hook threw; exactly one report a throw. */
  'handler.failed': { readonly connection: Connection; readonly error: Error }
  /** A message nobody answers for: no route, or refused by the executor, or dropped at the drain deadline. */
  'message.dropped': { readonly connection: Connection; readonly error: Error }
  /** A deadline of a connection has passed; `connection.closed` follows. */
  'connection.expired': { readonly connection: Connection; readonly code: string }
  /** Reading stopped or went on, because the peer or the handler is slow. */
  'connection.paused': {
    readonly connection: Connection
    readonly cause: 'write' | 'unprocessed' | 'application' | 'memory'
  }
  /** Reading goes on. */
  'connection.resumed': { readonly connection: Connection }
  /** A handshake or accept failed before there was a connection. */
  'listener.fault': { readonly listener: string; readonly error: Error; readonly remote: Endpoint | undefined }
  /** A limit was reached and the listener does not accept, or accepts again. */
  'limit.reached': { readonly listener: string; readonly limit: string; readonly value: number }
  /** It accepts again. */
  'limit.cleared': { readonly listener: string; readonly limit: string }
  /** Something an operator should see to: `alarm` is `connections`, `descriptors`, `memory`, `budget` or `kept`. Once, until it is cleared. */
  'alarm.raised': {
    readonly alarm: AlarmName
    readonly listener: string | undefined
    readonly since: Date
    readonly value: number
    readonly limit: number
  }
  /** Its cause has been away for `limits.alarmCoolDownMs`. */
  'alarm.cleared': { readonly alarm: AlarmName; readonly listener: string | undefined; readonly lastedMs: number }
  /**
   * The process could not be looked at (no descriptor was free, say). Told once, until a look succeeds again; what is shown
   * meanwhile is what was seen last.
   */
  'watch.failed': { readonly error: Error }
  /** A plugin answers at an address of its own: metrics, health. */
  'plugin.bound': { readonly plugin: string; readonly address: string }
  /** A page for operators did not begin again after a reload that changed it; the service goes on without. */
  'companion.failed': { readonly error: Error }
  /** Something the server had constructed threw when it was disposed; the rest was disposed all the same. */
  'disposal.failed': { readonly name: string; readonly error: Error }
  /** A thread, process or node that ran handlers is gone; its connections are closed as LOST or reopened elsewhere. */
  'executor.lost': {
    readonly executor: string
    readonly place: string
    readonly error: Error
    readonly connections: number
  }
  /** A server process was begun; `worker` is its place among the workers. */
  'worker.started': { readonly worker: number; readonly pid: number; readonly generation: number }
  /** It has proved that it takes connections, and gets them. */
  'worker.ready': {
    readonly worker: number
    readonly pid: number
    readonly generation: number
    readonly afterMs: number
  }
  /**
   * It is gone. `reason`: `drained`, `exit 1`, a signal's name, `heap full`, `uncaught error`, `stuck`, `failed to start`,
   * `never ready`, `rolled back` ...; `connections` went with it, as last counted.
   */
  'worker.ended': {
    readonly worker: number
    readonly pid: number
    readonly generation: number
    readonly reason: string
    readonly status: number | null
    readonly signal: string | null
    readonly connections: number
    readonly error: Error | undefined
  }
  /** Workers end again and again by their own fault: the next start waits. The server is not ready. */
  'workers.crashing': { readonly worker: number; readonly delayMs: number }
  /** All workers have served for a while without a fault. */
  'workers.recovered': { readonly workers: number }
  /** The configuration and handlers are read again, in new workers. */
  'reload.started': { readonly generation: number }
  /** The new workers serve; those before drain. */
  'reload.finished': { readonly generation: number; readonly workers: number; readonly durationMs: number }
  /** Everything stays as it was; the error says why. */
  'reload.failed': { readonly error: Error }
  /** Another program was started to take over the sockets. */
  'upgrade.started': { readonly pid: number }
  /** It serves; this one drains. */
  'upgrade.finished': { readonly pid: number; readonly durationMs: number }
  /** It did not get ready; this one goes on. */
  'upgrade.failed': { readonly error: Error }
  /** Something came from a place that is no batch of ours, or one that is too large; it was dropped. */
  'executor.refused': { readonly executor: string; readonly place: string; readonly error: Error }
  /** The orderly end has begun. */
  'drain.started': { readonly deadline: Date; readonly connections: number }
  /** Connections cut at the deadline are `forced`. */
  'drain.finished': { readonly forced: number; readonly durationMs: number }
}

export type EventName = keyof Events
export type EventListener<N extends EventName> = (event: Events[N]) => void

/** The side that listens. A listener that throws is reported as a process warning; it harms nobody. */
export interface EventSource {
  on<N extends EventName>(name: N, listener: EventListener<N>): this
  off<N extends EventName>(name: N, listener: EventListener<N>): this
}

export const eventNames: readonly EventName[] = [
  'server.state',
  'listener.bound',
  'listener.unbound',
  'listener.reloaded',
  'listener.suspended',
  'listener.resumed',
  'connection.refused',
  'connection.opened',
  'connection.closed',
  'frame.refused',
  'handler.failed',
  'message.dropped',
  'connection.expired',
  'connection.paused',
  'connection.resumed',
  'listener.fault',
  'limit.reached',
  'limit.cleared',
  'alarm.raised',
  'alarm.cleared',
  'watch.failed',
  'plugin.bound',
  'companion.failed',
  'disposal.failed',
  'executor.lost',
  'worker.started',
  'worker.ready',
  'worker.ended',
  'workers.crashing',
  'workers.recovered',
  'reload.started',
  'reload.finished',
  'reload.failed',
  'upgrade.started',
  'upgrade.finished',
  'upgrade.failed',
  'executor.refused',
  'drain.started',
  'drain.finished',
]

/** The side that tells; one a server. */
export class EventHub implements EventSource {
  readonly #listeners = new Map<EventName, Set<(event: never) => void>>()
  readonly #channels = new Map<EventName, Channel>(eventNames.map((name) => [name, channel(`gaidaros.${name}`)]))

  on<N extends EventName>(name: N, listener: EventListener<N>): this {
    const set = this.#listeners.get(name) ?? new Set()
    set.add(listener)
    this.#listeners.set(name, set)
    return this
  }

  off<N extends EventName>(name: N, listener: EventListener<N>): this {
    const set = this.#listeners.get(name)
    set?.delete(listener)
    if (set?.size === 0) this.#listeners.delete(name)
    return this
  }

  /** True when somebody listens: ask before making the event of a hot path. */
  wants(name: EventName): boolean {
    return this.#listeners.has(name) || (this.#channels.get(name)?.hasSubscribers ?? false)
  }

  emit<N extends EventName>(name: N, event: Events[N]): void {
    const set = this.#listeners.get(name)
    if (set !== undefined) {
      for (const listener of set) {
        try {
          ;(listener as EventListener<N>)(event)
        } catch (error) {
          process.emitWarning(`a listener of ${name} threw: ${error instanceof Error ? error.stack : String(error)}`, {
            type: 'GaidarosWarning',
            code: 'GAIDAROS_LISTENER_THREW',
          })
        }
      }
    }
    const beneath = this.#channels.get(name)
    if (beneath?.hasSubscribers) beneath.publish(event)
  }
}
