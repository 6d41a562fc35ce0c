/**
 * One place as the connections' side sees it: a thread, process or node that runs handlers.
 *
 * Room: core, mechanism. It numbers seats (a connection that has its handler there) and requests, gathers what one turn
 * has to say into one batch, and knows what to do when the place is gone: every request is rejected, every seat told.
 */
import type { Clock } from '../clock.js'
import type { CloseReason, Connection } from '../connection.js'
import { ExecutorError, FrameError, toError } from '../errors.js'
import type { Channel, ChannelSink } from './channel.js'
import type { HandlerSource } from './handler-source.js'
import { packError, unpackError } from './portable-error.js'
import { PulledItems } from './pulled-items.js'
import { attributesVersion, factsOf, portableAttributes } from './seat-facts.js'
import * as wire from './wire.js'
import { type RecordSink, RecordWriter, readRecords } from './wire.js'

/** A request that waits for its answer. */
interface Pending {
  readonly resolve: (value: unknown) => void
  readonly reject: (error: Error) => void
  readonly since: number
  readonly bytes: number
  readonly seat: number
  /** Not a message: it may take its time. */
  readonly isPatient: boolean
}

/** What a place says of itself with each answer to a ping. */
export interface PlaceReport {
  readonly memoryBytes: number
}

/** Who keeps the places: a pool. */
export interface PlaceOwner {
  readonly clock: Clock
  /** Largest value of a record; left out: `MOST_RECORD_BYTES`. */
  readonly mostRecordBytes?: number
  /** A message has left, so many bytes of it. */
  asked?(bytes: number): void
  /** A message was answered, or given up. */
  settled(bytes: number): void
  /** A send of a handler that its connection refused. */
  sendFailed(connection: Connection, error: Error): void
  /** A connection gave up its seat. */
  left(place: PlaceHandle): void
  /** Nothing of a seat is under way any more, in a place that retires. */
  idle?(seat: Seat): void
  /** Something came from there that is no batch; it was dropped. */
  refused?(place: PlaceHandle, error: Error): void
  /** The place is gone; requests were rejected, its seats are handed over. */
  lost(place: PlaceHandle, error: Error, seats: readonly Seat[]): void
}

/** A connection's place at the table of one handler. */
export class Seat {
  /** The place is gone. */
  isLost = false
  version = 0
  /** Bytes of sends that are done and not yet said. */
  credit = 0
  /** Messages, hooks and iterable replies under way. */
  running = 0
  /** The iterable reply that gave an item last. */
  stream: PulledItems | undefined
  constructor(
    readonly number: number,
    readonly place: PlaceHandle,
    readonly connection: Connection,
    /** Its handler there has its part in the connection's life. */
    readonly hasHooks: boolean,
  ) {}
}

/** Acknowledged in strides, not one by one; a quarter of what a place sends ahead. */
const CREDIT_BYTES = 16 * 1024

/** Words to the peer, and ends of them. */
function isInOrder(op: number): boolean {
  return op === wire.SEND || op === wire.WRITE || op === wire.END_SIDE || op === wire.ASK_CLOSE
}

/** The number of the message whose handler threw this error: over there the error itself is still at hand. */
const failedAt = new WeakMap<Error, number>()

export class PlaceHandle implements ChannelSink, RecordSink {
  readonly #owner: PlaceOwner
  readonly #writer: RecordWriter
  readonly #seats = new Map<number, Seat>()
  readonly #pending = new Map<number, Pending>()
  readonly #streams = new Map<number, PulledItems>()
  #channel: Channel | undefined
  #lastSeat = 0
  #lastRequest = 0
  #messages = 0
  #isFlushQueued = false
  #gone: Error | undefined
  readonly openedAt: number
  /** When something last came from there, by the owner's clock. */
  heardAt: number
  handled = 0
  /** What came and was dropped. */
  refusals = 0
  report: PlaceReport = { memoryBytes: 0 }
  state: 'starting' | 'ready' | 'retiring' = 'starting'

  constructor(owner: PlaceOwner) {
    this.#owner = owner
    this.#writer = new RecordWriter(owner.mostRecordBytes)
    this.openedAt = this.heardAt = owner.clock.now()
  }

  attach(channel: Channel): void {
    this.#channel = channel
  }
  get name(): string {
    return this.#channel?.name ?? 'a place that is not open'
  }
  get isGone(): boolean {
    return this.#gone !== undefined
  }
  get seats(): number {
    return this.#seats.size
  }
  /** Those that have a seat here. */
  get taken(): Iterable<Seat> {
    return this.#seats.values()
  }
  /** Messages and hooks not answered yet. */
  get running(): number {
    return this.#messages
  }
  /** When the message was sent that has waited longest. */
  get oldest(): number | undefined {
    for (const { since, isPatient } of this.#pending.values()) if (!isPatient) return since
    return undefined
  }

  /** Tells it what its handlers stand on; before anything else. */
  setUp(seed: unknown): void {
    this.#say(wire.SETUP, 0, 0, 0, seed)
  }

  /** Makes a handler known there; resolves when it can be asked for. */
  define(key: number, source: HandlerSource): Promise<unknown> {
    return this.#request(wire.DEFINE, key, 0, source, true)
  }

  /** A seat for a connection. @param hooks - False: its handler has no part in the connection's life. */
  open(key: number, connection: Connection, hooks: boolean): Seat {
    this.#lastSeat = (this.#lastSeat + 1) >>> 0
    const seat = new Seat(this.#lastSeat, this, connection, hooks)
    this.#seats.set(seat.number, seat)
    seat.version = attributesVersion(connection)
    this.#say(wire.OPEN, key, seat.number, 0, factsOf(connection, hooks))
    return seat
  }

  /** @throws {ExecutorError} `NOT_PORTABLE`; `LOST` when the place is gone. */
  message(seat: Seat, method: number, message: unknown): Promise<unknown> {
    this.#tellAttributes(seat)
    return this.#request(wire.MESSAGE, method, seat.number, message, false)
  }

  hook(seat: Seat, name: (typeof wire.hooks)[number], value?: unknown): Promise<unknown> {
    this.#tellAttributes(seat)
    const isError = value instanceof Error
    const packed = isError ? { error: packError(value), at: failedAt.get(value) } : value
    return this.#request(wire.HOOK, wire.hooks.indexOf(name), seat.number, packed, false)
  }

  /** The connection is gone. Resolves when what it had there is released. */
  async leave(seat: Seat, { code, by, error }: CloseReason): Promise<void> {
    if (seat.isLost) return
    const packed = error === undefined ? undefined : packError(error)
    try {
      await this.#request(wire.CLOSE, 0, seat.number, { code, by, error: packed }, true)
    } catch (thrown) {
      if (!(thrown instanceof ExecutorError && thrown.code === 'LOST')) throw thrown
    } finally {
      this.#seats.delete(seat.number)
      this.#owner.left(this)
    }
  }

  /** The connection goes on without its seat here: it has to take another one. */
  vacate(seat: Seat, reason: CloseReason): void {
    void this.leave(seat, reason).catch(() => {})
    seat.isLost = true
    this.#seats.delete(seat.number)
  }

  ping(): void {
    this.#say(wire.PING, 0, 0, 0, undefined)
  }

  /** No more seats are taken; it leaves once the last one is given up. */
  retire(): void {
    this.state = 'retiring'
    this.#say(wire.END, 0, 0, 0, undefined)
  }

  /** Ends it now; `close` follows. */
  kill(reason: Error): void {
    this.#channel?.close(reason)
  }

  /** Gives up on messages sent before; their handlers' signals are aborted. */
  expire(before: number, error: () => ExecutorError): void {
    for (const [number, pending] of this.#pending) {
      if (pending.isPatient) continue
      if (pending.since > before) break
      this.#giveUp(number, error())
    }
  }

  /** Gives up on what has waited longest of one seat: the session does not wait for it any more. */
  abandon(seat: Seat, error: Error): void {
    for (const [number, pending] of this.#pending) {
      if (!pending.isPatient && pending.seat === seat.number) return this.#giveUp(number, error)
    }
  }

  #giveUp(number: number, error: Error): void {
    const pending = this.#take(number)
    if (pending === undefined) return
    this.#say(wire.CANCEL, 0, pending.seat, number, packError(error))
    pending.reject(error)
  }

  // -- from the channel ----------------------------------------------------------------------------------------------

  data(batch: Buffer): void {
    this.heardAt = this.#owner.clock.now()
    try {
      readRecords(batch, this)
    } catch (thrown) {
      this.kill(toError(thrown))
    }
  }

  drain(): void {}

  refused(error: Error): void {
    this.refusals++
    this.#owner.refused?.(this, error)
  }

  close(error: Error): void {
    if (this.#gone !== undefined) return
    this.#gone = error
    const seats = [...this.#seats.values()]
    this.#seats.clear()
    for (const seat of seats) seat.isLost = true
    const pending = [...this.#pending]
    for (const [number, { reject }] of pending) {
      this.#take(number)
      reject(this.#lostError())
    }
    for (const stream of this.#streams.values()) stream.fail(this.#lostError())
    this.#streams.clear()
    this.#owner.lost(this, error, seats)
  }

  record(op: number, method: number, seatNumber: number, number: number, value: unknown, bytes: number): void {
    switch (op) {
      case wire.REPLY:
        return this.#take(number)?.resolve(method === wire.ITERABLE ? this.#items(seatNumber, number) : value)
      case wire.FAILED: {
        const error = unpackError(value)
        failedAt.set(error, number)
        const stream = this.#streams.get(number)
        if (stream !== undefined) return stream.fail(error)
        return this.#take(number)?.reject(error)
      }
      case wire.ITEM:
        return this.#item(seatNumber, number, value)
      case wire.ITEMS_END:
        return this.#streams.get(number)?.finish()
      case wire.PONG:
        this.report = value as PlaceReport
        return
      case wire.BROKEN:
        return this.kill(unpackError(value))
    }
    const seat = this.#seats.get(seatNumber)
    // What a handler still had to say when its connection went.
    if (seat === undefined) return
    if (op === wire.WRITE && !(value instanceof Uint8Array))
      throw new FrameError('MALFORMED', `${this.name} writes what is no bytes`)
    const { stream } = seat
    // Items are ahead of the peer; what their maker does between two of them is not. Beside others at work, nobody knows whose it is.
    const isMakers = stream !== undefined && isInOrder(op) && seat.running === (stream.isOver ? 0 : 1)
    if (isMakers) stream.behind(() => this.#obey(seat, op, number, value, bytes))
    else this.#obey(seat, op, number, value, bytes)
  }

  #item(seatNumber: number, number: number, value: unknown): void {
    const stream = this.#streams.get(number)
    if (stream === undefined) return
    const seat = this.#seats.get(seatNumber)
    if (seat !== undefined) seat.stream = stream
    stream.add(value)
  }

  /** What a handler there does to its connection here. */
  #obey(seat: Seat, op: number, number: number, value: unknown, bytes: number): void {
    const { connection } = seat
    switch (op) {
      case wire.SEND:
        return this.#sent(seat, connection.send(value), bytes)
      case wire.WRITE:
        return this.#sent(seat, connection.write(value as Uint8Array), bytes)
      case wire.END_SIDE:
        return connection.end()
      case wire.ASK_CLOSE:
        void connection.close(value as string | undefined)
        return
      case wire.ABORT:
        return connection.abort(typeof value === 'string' ? value : unpackError(value))
      case wire.PAUSE:
        return connection.pause()
      case wire.RESUME:
        return connection.resume()
      case wire.ASK:
        void this.#answer(seat, number, value as [string, ...unknown[]])
        return
      default:
        throw new FrameError('MALFORMED', `${this.name} sent a record of the unknown kind ${op}`)
    }
  }

  /** More may be sent there once this has been sent here. */
  #sent(seat: Seat, sending: Promise<void>, bytes: number): void {
    const done = () => {
      seat.credit += bytes
      if (seat.credit < CREDIT_BYTES || seat.isLost) return
      this.#say(wire.CREDIT, 0, seat.number, seat.credit, undefined)
      seat.credit = 0
    }
    sending.then(done, (error) => {
      this.#owner.sendFailed(seat.connection, error)
      done()
    })
  }

  async #answer(seat: Seat, number: number, [what, ...given]: [string, ...unknown[]]): Promise<void> {
    try {
      if (what !== 'upgrade') throw new FrameError('MALFORMED', `${this.name} asks for ${what}`)
      await seat.connection.upgrade(given[0] as string, given[1])
      this.#say(wire.ANSWER, 0, seat.number, number, undefined)
    } catch (thrown) {
      this.#say(wire.ANSWER_FAILED, 0, seat.number, number, packError(thrown))
    }
  }

  #items(seat: number, number: number): PulledItems {
    const items = new PulledItems({
      pull: (count) => this.#say(wire.PULL, count, seat, number, undefined),
      done: () => {
        if (this.#streams.delete(number)) this.#finished(seat)
      },
    })
    this.#streams.set(number, items)
    this.#began(seat)
    return items
  }

  // -- to the channel ------------------------------------------------------------------------------------------------

  #request(op: number, method: number, seat: number, value: unknown, isPatient: boolean): Promise<unknown> {
    if (this.#gone !== undefined) throw this.#lostError()
    const number = (this.#lastRequest = (this.#lastRequest + 1) >>> 0)
    // What cannot be sent is thrown here and now, so that the caller counts it out again.
    const bytes = this.#say(op, method, seat, number, value)
    return new Promise((resolve, reject) => {
      this.#pending.set(number, { resolve, reject, since: this.#owner.clock.now(), bytes, seat, isPatient })
      if (isPatient) return
      this.#messages++
      this.#began(seat)
      this.#owner.asked?.(bytes)
    })
  }

  #take(number: number): Pending | undefined {
    const pending = this.#pending.get(number)
    if (pending === undefined) return undefined
    this.#pending.delete(number)
    if (!pending.isPatient) {
      this.#messages--
      this.handled++
      this.#owner.settled(pending.bytes)
      this.#finished(pending.seat)
    }
    return pending
  }

  #began(number: number): void {
    const seat = this.#seats.get(number)
    if (seat !== undefined) seat.running++
  }

  #finished(number: number): void {
    const seat = this.#seats.get(number)
    if (seat === undefined || --seat.running > 0 || this.state !== 'retiring') return
    if (this.#owner.idle === undefined) return
    // Once what was answered has gone its way; a reply in several items has begun by then, and so has the next message that was
    // read already, even where its session gave others their turn before it.
    setImmediate(() => setImmediate(() => seat.running === 0 && this.#owner.idle?.(seat)))
  }

  #tellAttributes(seat: Seat): void {
    const version = attributesVersion(seat.connection)
    if (version === seat.version) return
    seat.version = version
    this.#say(wire.ATTRIBUTES, 0, seat.number, 0, portableAttributes(seat.connection))
  }

  #say(op: number, method: number, seat: number, number: number, value: unknown): number {
    if (this.#gone !== undefined) return 0
    const bytes = this.#writer.add(op, method, seat, number, value)
    if (this.#writer.size >= wire.BATCH_BYTES) this.#send()
    else if (!this.#isFlushQueued) {
      this.#isFlushQueued = true
      // After the poll phase: what all connections of this turn have to say goes in one batch.
      setImmediate(flush, this)
    }
    return bytes
  }

  /** @internal */
  flush(): void {
    this.#isFlushQueued = false
    this.#send()
  }

  #send(): void {
    if (this.#gone === undefined && this.#writer.size > 0) this.#channel?.send(this.#writer.take())
  }

  #lostError(): ExecutorError {
    const error = this.#gone as Error
    const message = `${this.name} is gone: ${error.message}; whether the message was handled is not known`
    return new ExecutorError('LOST', message, { cause: error, place: this.name })
  }
}

const flush = (handle: PlaceHandle): void => handle.flush()
