/**
 * What a supervisor needs of sockets, without knowing any: binding them once, and giving workers their part.
 *
 * Room: core, contract. Implemented in transports, because it names `node:net`.
 */
import type { EndpointParts } from '../endpoint.js'
import type { SocketKind } from '../transport.js'
import type { Balance } from './options.js'

/** One endpoint that a worker's configuration asks for. */
export interface Want {
  /** Listener and place among its endpoints; what worker and supervisor call it. */
  readonly key: string
  readonly listener: string
  readonly kind: SocketKind
  readonly endpoint: EndpointParts
  /** Of its socket, as far as they matter for binding. */
  readonly options: Readonly<Record<string, unknown>>
  /** Newcomers wait at its limit of connections, rather than being refused. */
  readonly waits: boolean
}

/** A worker as the holder of sockets sees it. */
export interface SocketPort {
  readonly slot: number
  /** False once something could not be sent: it is going, and its end will be told. */
  readonly isReachable: boolean
  /** @param done - It has left, or never will. */
  send(message: object, handle?: unknown, done?: () => void): void
  /**
   * Hands a connection over; ours stays open until its fate is known, and is the caller's to close.
   *
   * @param done - `taken` there; `unsent`, and nobody has seen it; or `lost` with the worker, which may have read from it.
   */
  give(message: object, handle: unknown, done: (fate: 'taken' | 'unsent' | 'lost') => void): void
  /** Gives a second descriptor for the same socket. @throws when the worker is gone. */
  copy(handle: unknown): Promise<unknown>
  /** At its limit of connections. */
  isFull(listener: string): boolean
}

/** Sockets bound for one configuration. */
export interface HeldSet {
  /** What was bound, by key. */
  readonly endpoints: ReadonlyMap<string, EndpointParts>
  /** What a worker must be told and given so that it can begin to serve. */
  equip(port: SocketPort): Promise<void>
  /** From now on it gets connections. */
  seat(port: SocketPort): void
}

export interface SocketHolder {
  /**
   * Binds what is not bound yet, all or nothing.
   *
   * @param port - A worker that lives: sockets are copied by way of it.
   * @throws {BindError | ConfigError} What was bound before stays.
   */
  bind(wants: readonly Want[], balance: Balance, count: number, port: SocketPort): Promise<HeldSet>
  /**
   * They get no newcomers any more, and go on with what they have. Whose datagram sessions that is each of them says in `keep`:
   * until then what comes for it waits, for a bounded time.
   */
  retire(ports: readonly SocketPort[]): void
  keep(port: SocketPort, sessions: Readonly<Record<string, readonly string[]>>): void
  forget(port: SocketPort, key: string, sessions: readonly string[]): void
  /** It gets no more; what had not left for it goes to others. */
  unseat(port: SocketPort): void
  /** Gives up whatever this set does not have; undefined: everything. */
  keepOnly(set: HeldSet | undefined): void
  /** A limit of connections was reached somewhere, or is no more. */
  changed(): void
  /** Accepts what the kernel has completed and hands it over; resolves when nothing waits any more. */
  finish(): Promise<void>
  /** Of one listener: newcomers wait, or go on. */
  suspend(listener: string, isSuspended: boolean): void
}
