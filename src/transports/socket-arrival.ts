/**
 * A socket between its accept and its link, as core counts it and ends it.
 *
 * Room: transports. For those with a handshake of their own; a socket that is a link at once has none of this.
 */
import type { Socket } from 'node:net'
import { arrive } from '../core/arrive.js'
import type { Endpoint } from '../core/endpoint.js'
import type { Arrival, ArrivalStage, Arrived } from '../core/transport.js'
import { reset } from './reset.js'
import { localOf, remoteOf } from './stream-link.js'
import type { StreamScope } from './stream-scope.js'

/** What a socket went through already, which may know better who the peer is. */
export interface Before {
  readonly arrived?: Arrived | undefined
  readonly local?: Endpoint | undefined
  readonly remote?: Endpoint | undefined
}

export class SocketArrival implements Arrival, Before {
  /** Core has ended it: what its handshake comes to is of no interest any more. */
  isCut = false
  readonly stage: ArrivalStage
  readonly #raw: Socket
  readonly #scope: StreamScope
  readonly #before: Before | undefined
  #arrived: Arrived | undefined

  private constructor(raw: Socket, scope: StreamScope, stage: ArrivalStage, before: Before | undefined) {
    this.#raw = raw
    this.#scope = scope
    this.stage = stage
    this.#before = before
  }

  /**
   * Takes a place for a socket, or the next stage in the place it has from before; given up when the socket has closed.
   *
   * @returns undefined: refused, and the socket is reset.
   */
  static take(raw: Socket, scope: StreamScope, stage: ArrivalStage, before?: Before): SocketArrival | undefined {
    const arrival = new SocketArrival(raw, scope, stage, before)
    const arrived = arrive(scope.sink, arrival, before?.arrived)
    if (arrived === undefined) {
      arrival.abort()
      return undefined
    }
    arrival.#arrived = arrived
    raw.once('close', () => arrived.left())
    return arrival
  }

  /** For the link that it becomes. */
  get arrived(): Arrived | undefined {
    return this.#arrived
  }
  get remote(): Endpoint | undefined {
    return this.#before === undefined ? remoteOf(this.#raw, this.#scope.scheme) : this.#before.remote
  }
  get local(): Endpoint | undefined {
    return this.#before === undefined ? localOf(this.#raw, this.#scope) : this.#before.local
  }

  abort(): void {
    this.isCut = true
    if (this.#scope.canReset) reset(this.#raw, this.#raw)
    else this.#raw.destroy()
  }
}
