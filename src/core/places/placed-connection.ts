/**
 * A connection as its handler sees it in another place: it can send, close, read facts and attributes.
 *
 * Room: core, mechanism. What it is told goes to the process that holds the peer. Attributes set there arrive here with the
 * next message; those set here stay here.
 */
import type { Duplex } from 'node:stream'
import type { CloseReason, Connection, ConnectionState, ConnectionStats } from '../connection.js'
import { type Endpoint, parseEndpoint } from '../endpoint.js'
import { ConnectionError } from '../errors.js'
import type { FeatureToken } from '../feature.js'
import { packError } from './portable-error.js'
import { type SeatFacts, withEndpoints } from './seat-facts.js'
import * as wire from './wire.js'

/** Bytes of sends under way before `send` makes its caller wait. */
const WINDOW_BYTES = 64 * 1024
const DONE: Promise<void> = Promise.resolve()

/** Writes a record for the seat. @returns its size. */
export type Say = (op: number, method: number, number: number, value: unknown) => number

export class PlacedConnection implements Connection {
  readonly id: string
  readonly endpoint: Endpoint
  readonly local: Endpoint | undefined
  readonly remote: Endpoint | undefined
  readonly transport: string
  readonly listener: string | undefined
  readonly attributes: Map<unknown, unknown>
  readonly closed: Promise<CloseReason>
  /** False: only single methods run here, and no hook. */
  readonly hasHooks: boolean
  /** Counts what it was told, as a session's does: its handler may be placed once more, from here. */
  attributesVersion = 0
  readonly #facts: SeatFacts
  readonly #say: Say
  readonly #asked = new Map<number, { resolve: () => void; reject: (error: Error) => void }>()
  #state: ConnectionState = 'open'
  #isAborted = false
  #reason: CloseReason | undefined
  #resolveClosed: (reason: CloseReason) => void = () => {}
  #abortion: AbortController | undefined
  #messageAbortion: AbortController | undefined
  /** Messages and hooks at work: what takes the signal meanwhile takes that of the message. */
  atWork = 0
  #underWay = 0
  #room: { promise: Promise<void>; resolve: () => void; reject: (error: Error) => void } | undefined
  #lastAsked = 0
  #bytesIn = 0
  #bytesOut = 0
  #messagesIn = 0
  #messagesOut = 0

  constructor(facts: SeatFacts, say: Say) {
    this.#facts = facts
    this.#say = say
    this.id = facts.id
    this.endpoint = parseEndpoint(facts.endpoint)
    this.local = facts.local === undefined ? undefined : parseEndpoint(facts.local)
    this.remote = facts.remote === undefined ? undefined : parseEndpoint(facts.remote)
    this.transport = facts.transport
    this.listener = facts.listener
    this.hasHooks = facts.hooks
    this.attributes = new Map()
    this.tell(facts.attributes)
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve
    })
  }

  get state(): ConnectionState {
    return this.#state
  }
  feature<T>(token: FeatureToken<T>): T | undefined {
    return withEndpoints(this.#facts.features[token.feature]) as T | undefined
  }
  get signal(): AbortSignal {
    const isOfMessage = this.atWork > 0
    let abortion = isOfMessage ? this.#messageAbortion : this.#abortion
    if (abortion === undefined) {
      abortion = new AbortController()
      if (this.#reason !== undefined) abortion.abort(this.#closedError())
      if (isOfMessage) this.#messageAbortion = abortion
      else this.#abortion = abortion
    }
    return abortion.signal
  }
  /** Of what passed through this place: messages, and the bytes they have on their way here. */
  get stats(): ConnectionStats {
    return {
      openedAt: new Date(this.#facts.openedAt),
      bytesIn: this.#bytesIn,
      bytesOut: this.#bytesOut,
      messagesIn: this.#messagesIn,
      messagesOut: this.#messagesOut,
    }
  }

  send(message: unknown): Promise<void> {
    return this.#put(wire.SEND, message)
  }
  write(bytes: Uint8Array): Promise<void> {
    return this.#put(wire.WRITE, bytes)
  }
  end(): void {
    if (this.#reason !== undefined) return
    this.#state = 'ending'
    this.#say(wire.END_SIDE, 0, 0, undefined)
  }
  close(reason?: string): Promise<CloseReason> {
    if (this.#reason === undefined) {
      this.#state = 'ending'
      this.#say(wire.ASK_CLOSE, 0, 0, reason)
    }
    return this.closed
  }
  abort(reason?: string | Error): void {
    if (this.#reason !== undefined) return
    this.#state = 'ending'
    this.#isAborted = true
    this.#say(wire.ABORT, 0, 0, reason instanceof Error ? packError(reason) : (reason ?? 'ABORTED'))
  }
  pause(): void {
    this.#say(wire.PAUSE, 0, 0, undefined)
  }
  resume(): void {
    this.#say(wire.RESUME, 0, 0, undefined)
  }
  upgrade(layer: string, options?: unknown): Promise<void> {
    if (this.#reason !== undefined) return Promise.reject(this.#closedError())
    return new Promise((resolve, reject) => {
      const number = ++this.#lastAsked
      this.#asked.set(number, { resolve, reject })
      this.#say(wire.ASK, 0, number, ['upgrade', layer, options])
    })
  }
  stream(): Duplex {
    const message =
      'stream() is not possible where the handler runs apart from its connection; give it the executor `inline` or `task`'
    throw new ConnectionError('NOT_SUPPORTED', message)
  }

  // -- called by the place -------------------------------------------------------------------------------------------

  took(bytes: number): void {
    this.#messagesIn++
    this.#bytesIn += bytes
  }
  replied(bytes: number): void {
    this.#messagesOut++
    this.#bytesOut += bytes
  }
  tell(attributes: readonly (readonly [unknown, unknown])[]): void {
    if (attributes.length > 0) this.attributesVersion++
    for (const [key, value] of attributes) this.attributes.set(key, withEndpoints(value))
  }
  credit(bytes: number): void {
    this.#underWay -= bytes
    if (this.#room === undefined || this.#underWay >= WINDOW_BYTES) return
    this.#room.resolve()
    this.#room = undefined
  }
  answered(number: number, error: Error | undefined): void {
    const asked = this.#asked.get(number)
    this.#asked.delete(number)
    if (error === undefined) asked?.resolve()
    else asked?.reject(error)
  }
  /** Nobody waits for the one message at work; the next one has a new signal. */
  giveUp(error: Error): void {
    this.#messageAbortion?.abort(error)
    this.#messageAbortion = undefined
  }
  /** The peer is gone. */
  over(reason: CloseReason): void {
    if (this.#reason !== undefined) return
    this.#reason = reason
    this.#state = 'closed'
    this.#room?.reject(this.#closedError())
    this.#room = undefined
    for (const { reject } of this.#asked.values()) reject(this.#closedError())
    this.#asked.clear()
    this.#abortion?.abort(reason.error ?? this.#closedError())
    this.#messageAbortion?.abort(reason.error ?? this.#closedError())
    this.#resolveClosed(reason)
  }

  #put(op: number, value: unknown): Promise<void> {
    // An end waits for what is at work, and takes what that sends until then; the server's side decides in the order of words.
    const isOver = this.#isAborted || (this.#state === 'ending' && this.atWork === 0)
    if (this.#reason !== undefined || isOver) return quiet(Promise.reject(this.#closedError()))
    try {
      const bytes = this.#say(op, 0, 0, value)
      this.replied(bytes)
      this.#underWay += bytes - wire.HEAD
    } catch (error) {
      return quiet(Promise.reject(error))
    }
    if (this.#underWay < WINDOW_BYTES) return DONE
    if (this.#room === undefined) {
      const { promise, resolve, reject } = withResolvers()
      this.#room = { promise: quiet(promise), resolve, reject }
    }
    return this.#room.promise
  }

  #closedError(): ConnectionError {
    const code = this.#reason?.code
    return new ConnectionError('CLOSED', `connection ${this.id} is ${this.#state}${code ? ` (${code})` : ''}`)
  }
}

/** A promise left alone must not become an unhandled rejection. */
function quiet(promise: Promise<void>): Promise<void> {
  promise.catch(() => {})
  return promise
}

function withResolvers(): { promise: Promise<void>; resolve: () => void; reject: (error: Error) => void } {
  let resolve: () => void = () => {}
  let reject: (error: Error) => void = () => {}
  const promise = new Promise<void>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}
