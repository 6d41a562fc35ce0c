/**
 * The handlers' side: a thread, process or node that runs handlers for connections held elsewhere.
 *
 * Room: core, mechanism. Records come in batches; what is answered within one goes back as one.
 */

import type { CloseReason } from '../connection.js'
import { ExecutorError, FrameError, toError, WiringError } from '../errors.js'
import type { BoundHandler, HandlerPlan } from '../handler.js'
import { isThenable } from '../thenable.js'
import type { Channel, ChannelSink } from './channel.js'
import type { HandlerSource } from './handler-source.js'
import type { PlaceReport } from './place-handle.js'
import { PlacedConnection } from './placed-connection.js'
import { methodOf } from './placed-plan.js'
import { packError, unpackError } from './portable-error.js'
import type { SeatFacts } from './seat-facts.js'
import * as wire from './wire.js'
import { type RecordSink, RecordWriter, readRecords } from './wire.js'

export interface PlaceParts {
  /** What the handlers stand on, told once and first; a place with a configuration of its own is told nothing. */
  setUp(seed: unknown): void
  /** Finds and constructs a handler. */
  load(source: HandlerSource): Promise<HandlerPlan>
  report(): PlaceReport
  /** Largest value of a record; left out: `MOST_RECORD_BYTES`. */
  readonly mostRecordBytes?: number | undefined
  /** No seats are left, and none will come. */
  finished(): void
}

/** The last errors of a seat, so that its `@OnError` gets the very one that was thrown. */
const ERRORS_KEPT = 16

interface TakenSeat {
  readonly number: number
  readonly connection: PlacedConnection
  readonly hooks: boolean
  plan: HandlerPlan | undefined
  handler: BoundHandler | undefined
  /** Records that came before the handler was there. */
  waiting: (() => void)[] | undefined
  /** Of those, requests that nobody waits for any more. */
  cancelled: Set<number> | undefined
  readonly errors: Map<number, Error>
  readonly streams: Map<number, AsyncIterator<unknown> | Iterator<unknown>>
  /** Requests at work. */
  readonly atWork: Set<number>
}

/** What may still say something on its connection: methods that run, and iterables with more to come. */
function count({ atWork, streams, connection }: TakenSeat): void {
  connection.atWork = atWork.size + streams.size
}

export class Place implements ChannelSink, RecordSink {
  readonly #parts: PlaceParts
  readonly #writer: RecordWriter
  readonly #plans = new Map<number, Promise<HandlerPlan>>()
  readonly #loaded = new Map<number, HandlerPlan>()
  readonly #seats = new Map<number, TakenSeat>()
  #channel: Channel | undefined
  #isReading = false
  #isFlushQueued = false
  #isEnding = false
  #isGone = false

  constructor(parts: PlaceParts) {
    this.#parts = parts
    this.#writer = new RecordWriter(parts.mostRecordBytes)
  }

  attach(channel: Channel): void {
    this.#channel = channel
  }
  get seats(): number {
    return this.#seats.size
  }
  /** Messages and hooks under way. */
  running = 0
  /** Those that are done. */
  handled = 0

  /** It cannot serve at all. */
  break(error: Error): void {
    this.#say(wire.BROKEN, 0, 0, 0, packError(error))
    this.flush()
  }

  data(batch: Buffer): void {
    this.#isReading = true
    try {
      readRecords(batch, this)
    } catch (thrown) {
      this.break(toError(thrown))
    }
    this.#isReading = false
    this.flush()
  }

  drain(): void {}

  /** Whoever held the connections is gone: each is over. */
  close(error: Error): void {
    if (this.#isGone) return
    this.#isGone = true
    const lost = new ExecutorError('LOST', `the process that held the connection is gone: ${error.message}`)
    for (const seat of [...this.#seats.values()]) this.#leave(seat, 0, { code: 'LOST', by: 'server', error: lost })
    this.#isEnding = true
    this.#finishIfEmpty()
  }

  record(op: number, method: number, number: number, request: number, value: unknown, bytes: number): void {
    switch (op) {
      case wire.SETUP:
        return this.#parts.setUp(value)
      case wire.DEFINE:
        return this.#define(method, request, value as HandlerSource)
      case wire.OPEN:
        return this.#open(method, number, value as SeatFacts)
      case wire.PING:
        this.#say(wire.PONG, 0, 0, 0, this.#parts.report())
        return
      case wire.END:
        this.#isEnding = true
        return this.#finishIfEmpty()
    }
    const seat = this.#seats.get(number)
    if (seat === undefined) return
    // At once, even before what it cancels: its handler would be called for nothing.
    if (op === wire.CANCEL) return this.#cancel(seat, request, value)
    if (seat.waiting !== undefined) seat.waiting.push(() => this.#serve(seat, op, method, request, value, bytes))
    else this.#serve(seat, op, method, request, value, bytes)
  }

  #define(key: number, request: number, source: HandlerSource): void {
    const loading = this.#parts.load(source).then((plan) => {
      this.#loaded.set(key, plan)
      return plan
    })
    this.#plans.set(key, loading)
    loading.then(
      () => this.#say(wire.REPLY, 0, 0, request, undefined),
      (error) => this.#say(wire.FAILED, 0, 0, request, packError(error)),
    )
  }

  #open(key: number, number: number, facts: SeatFacts): void {
    const seat: TakenSeat = {
      number,
      connection: new PlacedConnection(facts, (op, method, request, value) =>
        this.#say(op, method, number, request, value),
      ),
      hooks: facts.hooks,
      plan: undefined,
      handler: undefined,
      waiting: undefined,
      cancelled: undefined,
      errors: new Map(),
      streams: new Map(),
      atWork: new Set(),
    }
    this.#seats.set(number, seat)
    const plan = this.#loaded.get(key)
    if (plan !== undefined) return this.#bind(seat, plan)
    const waiting: (() => void)[] = []
    seat.waiting = waiting
    const loading = this.#plans.get(key)
    if (loading === undefined) throw new FrameError('MALFORMED', `a seat for the handler ${key}, which was not defined`)
    loading
      .then((loaded) => this.#bind(seat, loaded))
      .catch((error) => seat.connection.abort(toError(error)))
      .then(() => {
        seat.waiting = undefined
        for (const serve of waiting) serve()
      })
  }

  #bind(seat: TakenSeat, plan: HandlerPlan): void {
    seat.plan = plan
    try {
      seat.handler = plan.bind(seat.connection)
    } catch (error) {
      seat.connection.abort(toError(error))
    }
  }

  #serve(seat: TakenSeat, op: number, method: number, request: number, value: unknown, bytes: number): void {
    const { connection, handler } = seat
    switch (op) {
      case wire.MESSAGE: {
        connection.took(bytes)
        return this.#run(seat, request, () => {
          const run = handler && methodOf(seat.plan as HandlerPlan, handler, method)
          if (run === undefined) throw new WiringError('BAD_HANDLER', `the handler has no method ${method} here`)
          return run(value, connection)
        })
      }
      case wire.HOOK:
        return this.#run(seat, request, () => this.#hook(seat, wire.hooks[method], value))
      case wire.CLOSE: {
        const { code, by, error } = value as { code: string; by: CloseReason['by']; error: unknown }
        return this.#leave(seat, request, error === undefined ? { code, by } : { code, by, error: unpackError(error) })
      }
      case wire.CREDIT:
        return connection.credit(request)
      case wire.ATTRIBUTES:
        return connection.tell(value as [unknown, unknown][])
      case wire.PULL:
        return void this.#pull(seat, request, method)
      case wire.ANSWER:
        return connection.answered(request, undefined)
      case wire.ANSWER_FAILED:
        return connection.answered(request, unpackError(value))
      default:
        throw new FrameError('MALFORMED', `a record of the unknown kind ${op}`)
    }
  }

  #hook({ connection, handler, errors }: TakenSeat, name: (typeof wire.hooks)[number] | undefined, value: unknown) {
    switch (name) {
      case 'open':
        return handler?.open?.(connection)
      case 'idle':
        return handler?.idle?.(connection)
      case 'peerEnd':
        return handler?.peerEnd?.(connection)
      case 'drain':
        return handler?.drain?.(connection, value as Date)
      case 'error': {
        const { error, at } = value as { error: unknown; at: number | undefined }
        return handler?.error?.(errors.get(at ?? -1) ?? unpackError(error), connection)
      }
      default:
        throw new FrameError('MALFORMED', 'a hook that does not exist')
    }
  }

  #run(seat: TakenSeat, request: number, run: () => unknown): void {
    if (seat.cancelled?.delete(request)) return
    const { atWork } = seat
    let reply: unknown
    atWork.add(request)
    count(seat)
    this.running++
    const done = () => {
      this.running--
      this.handled++
      atWork.delete(request)
      count(seat)
    }
    try {
      reply = run()
    } catch (error) {
      done()
      return this.#failed(seat, request, error)
    }
    if (isThenable(reply)) {
      reply.then(
        (settled) => {
          done()
          this.#reply(seat, request, settled)
        },
        (error) => {
          done()
          this.#failed(seat, request, error)
        },
      )
      return
    }
    done()
    this.#reply(seat, request, reply)
  }

  /** Nobody waits for that answer any more: the handler's signal says so, where no other message shares it. */
  #cancel(seat: TakenSeat, request: number, error: unknown): void {
    if (seat.waiting !== undefined) {
      seat.cancelled ??= new Set()
      seat.cancelled.add(request)
    } else if (seat.atWork.has(request) && seat.atWork.size === 1) {
      const unpacked = unpackError(error)
      seat.connection.giveUp(unpacked)
      // Its handler may be in yet another place.
      seat.handler?.abandon?.(seat.connection, unpacked)
    }
  }

  #reply(seat: TakenSeat, request: number, reply: unknown): void {
    const iterator = iteratorOf(reply)
    try {
      if (iterator === undefined) {
        const bytes = this.#say(wire.REPLY, 0, seat.number, request, reply)
        if (reply !== undefined) seat.connection.replied(bytes)
        return
      }
      seat.streams.set(request, iterator)
      count(seat)
      this.#say(wire.REPLY, wire.ITERABLE, seat.number, request, undefined)
    } catch (error) {
      this.#failed(seat, request, error)
    }
  }

  #failed(seat: TakenSeat, request: number, thrown: unknown): void {
    const { errors } = seat
    if (errors.size >= ERRORS_KEPT) errors.delete(errors.keys().next().value as number)
    errors.set(request, toError(thrown))
    this.#say(wire.FAILED, 0, seat.number, request, packError(thrown))
  }

  async #pull(seat: TakenSeat, request: number, ahead: number): Promise<void> {
    const iterator = seat.streams.get(request)
    if (iterator === undefined) return
    try {
      if (ahead === wire.STOP) {
        seat.streams.delete(request)
        await iterator.return?.()
        return
      }
      for (let i = 0; i < ahead && seat.streams.has(request); i++) {
        const { done, value } = await iterator.next()
        if (done) {
          seat.streams.delete(request)
          this.#say(wire.ITEMS_END, 0, seat.number, request, undefined)
          return
        }
        seat.connection.replied(this.#say(wire.ITEM, 0, seat.number, request, value))
      }
    } catch (error) {
      seat.streams.delete(request)
      this.#failed(seat, request, error)
    } finally {
      count(seat)
    }
  }

  #leave(seat: TakenSeat, request: number, reason: CloseReason): void {
    const { connection, handler, plan, number } = seat
    this.#seats.delete(number)
    connection.over(reason)
    for (const iterator of seat.streams.values()) void Promise.resolve(iterator.return?.()).catch(() => {})
    const finish = (error?: unknown) => {
      if (error === undefined) this.#say(wire.REPLY, 0, 0, request, undefined)
      else this.#say(wire.FAILED, 0, 0, request, packError(error))
      this.#finishIfEmpty()
    }
    this.#leaving++
    const closing = async () => {
      try {
        if (seat.hooks) await handler?.close?.(connection, reason)
      } finally {
        await plan?.release(connection)
        this.#leaving--
      }
    }
    closing().then(() => finish(), finish)
  }
  #leaving = 0

  #finishIfEmpty(): void {
    if (!this.#isEnding || this.#seats.size > 0 || this.#leaving > 0) return
    this.flush()
    this.#parts.finished()
  }

  #say(op: number, method: number, seat: number, request: number, value: unknown): number {
    if (this.#isGone) return 0
    const bytes = this.#writer.add(op, method, seat, request, value)
    if (this.#writer.size >= wire.BATCH_BYTES) this.#send()
    else if (!this.#isReading && !this.#isFlushQueued) {
      this.#isFlushQueued = true
      setImmediate(() => this.flush())
    }
    return bytes
  }

  /** @internal */
  flush(): void {
    this.#isFlushQueued = false
    this.#send()
  }

  #send(): void {
    if (!this.#isGone && this.#writer.size > 0) this.#channel?.send(this.#writer.take())
  }
}

/** Of generators and the like; arrays, maps and sets travel whole, and the connection's side decides what they are. */
function iteratorOf(value: unknown): Iterator<unknown> | AsyncIterator<unknown> | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  if (Array.isArray(value) || ArrayBuffer.isView(value) || value instanceof Map || value instanceof Set)
    return undefined
  const made = value as Partial<AsyncIterable<unknown> & Iterable<unknown>>
  if (made[Symbol.asyncIterator] !== undefined) return made[Symbol.asyncIterator]?.()
  return made[Symbol.iterator]?.()
}
