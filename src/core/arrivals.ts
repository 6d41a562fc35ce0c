/**
 * Peers of one listener that were accepted and are no sessions yet: counted, bounded, and ended with it.
 *
 * Room: core, mechanism of the listener. A place is taken at the accept and given up when the peer is gone; the session that it
 * becomes takes the place over, so that nobody is counted or refused twice.
 */
import type { Admission } from './admission.js'
import type { Clock } from './clock.js'
import type { Endpoint } from './endpoint.js'
import { ShutdownError } from './errors.js'
import type { Arrival, Arrived, Link } from './transport.js'

/** In a drain: a peer that has a handshake under way goes on, one that only holds a socket does not hold the end. */
const DRAIN_MS = 2_000
/**
 * A proxy that is trusted brings many sources from one address, and its headers are a moment behind its connections: those over
 * the limit of a source have so long to say for whom they come.
 */
const HEADER_MS = 1_000

export interface ArrivalsParts {
  readonly clock: Clock
  readonly admission: Admission
  /** Tells and counts; the peer is ended. */
  refused(reason: string, remote: Endpoint | undefined): void
  /** One more, or one less. */
  changed(by: 1 | -1): void
}

class Place implements Arrived {
  arrival: Arrival
  /** Ends the wait for a header. */
  cancel: (() => void) | undefined = undefined
  readonly #arrivals: Arrivals

  constructor(arrivals: Arrivals, arrival: Arrival) {
    this.#arrivals = arrivals
    this.arrival = arrival
  }

  next(arrival: Arrival): boolean {
    return this.#arrivals.next(this, arrival)
  }

  left(): void {
    this.#arrivals.leave(this)
  }
}

export class Arrivals {
  readonly #parts: ArrivalsParts
  readonly #places = new Set<Place>()
  #whenNone: (() => void)[] = []
  #isClosed = false
  #isDraining = false
  #isCutDue = false

  constructor(parts: ArrivalsParts) {
    this.#parts = parts
  }

  get size(): number {
    return this.#places.size
  }

  /** Nobody is let in any more. */
  get isClosed(): boolean {
    return this.#isClosed
  }

  /** One that number and rate let in. */
  enter(arrival: Arrival): Arrived {
    const place = new Place(this, arrival)
    this.#places.add(place)
    if (!this.#parts.admission.enter(place, () => arrival.remote?.host)) {
      place.cancel = this.#parts.clock.after(HEADER_MS, () => this.#headerIsLate(place))
    }
    this.#parts.changed(1)
    if (this.#isDraining) this.#cutIn(DRAIN_MS)
    return place
  }

  /** The place of a link that opens; undefined: it has none. */
  placeOf(link: Link): Arrived | undefined {
    const { arrived } = link
    return arrived instanceof Place && this.#places.has(arrived) ? arrived : undefined
  }

  /** @returns false: its source, as it is known now, has as many as it may. */
  next(place: Place, arrival: Arrival): boolean {
    if (!this.#places.has(place)) return false
    place.cancel?.()
    place.cancel = undefined
    place.arrival = arrival
    if (this.#parts.admission.move(place, () => arrival.remote?.host)) return true
    this.leave(place)
    this.#parts.refused('source', arrival.remote)
    return false
  }

  /** A session stands in its place: who is counted stays the same. */
  takeOver(place: Arrived, session: object): void {
    this.#forget(place as Place)
    this.#parts.admission.handOver(place, session)
  }

  leave(place: Place): void {
    if (!this.#forget(place)) return
    this.#parts.admission.left(place)
    this.#parts.changed(-1)
  }

  /** Who is there, by what it is counted as. */
  *[Symbol.iterator](): Iterator<[object, string | undefined]> {
    for (const place of this.#places) yield [place, place.arrival.remote?.host]
  }

  /** What is under way may still become a session for a while, and so may whoever comes now. */
  drain(leftMs: number): void {
    this.#isDraining = true
    this.#cutIn(Math.max(0, Math.min(DRAIN_MS, leftMs)))
  }

  /** Ends all, and lets nobody in any more. */
  close(): void {
    this.#isClosed = true
    this.#cut()
  }

  /** Resolves when nobody is left. */
  untilNone(): Promise<void> {
    if (this.#places.size === 0) return Promise.resolve()
    return new Promise((resolve) => this.#whenNone.push(resolve))
  }

  #cutIn(ms: number): void {
    if (this.#isCutDue) return
    this.#isCutDue = true
    // What has come while the process stood still is read before anybody is judged.
    this.#parts.clock.after(ms, () => setImmediate(() => this.#cut()))
  }

  #cut(): void {
    this.#isCutDue = false
    for (const place of [...this.#places]) this.#refuse(place, 'shutdown')
  }

  #headerIsLate(place: Place): void {
    place.cancel = undefined
    // Others may have left meanwhile.
    if (this.#parts.admission.enter(place, () => place.arrival.remote?.host)) return
    this.#refuse(place, 'source')
  }

  #refuse(place: Place, reason: 'shutdown' | 'source'): void {
    const { arrival } = place
    this.leave(place)
    this.#parts.refused(reason, arrival.remote)
    const error =
      reason === 'shutdown' ? new ShutdownError('SHUTDOWN', `the listener ended during a ${arrival.stage}`) : undefined
    arrival.abort(error)
  }

  #forget(place: Place): boolean {
    if (!this.#places.delete(place)) return false
    place.cancel?.()
    if (this.#places.size === 0) {
      for (const resolve of this.#whenNone) resolve()
      this.#whenNone = []
    }
    return true
  }
}
