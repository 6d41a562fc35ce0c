/**
 * STOMP 1.0, 1.1 and 1.2: what is sent goes to handlers, and to those who subscribed to its destination.
 *
 * Room: plugins/protocols. stomp.github.io. On streams, and one frame a message on WebSockets, which is how browsers speak it.
 */
import type { Codec, CodecContext } from '../../../core/codec.js'
import type { Connection } from '../../../core/connection.js'
import type { MessageContext } from '../../../core/context.js'
import { FrameError, UnroutedMessageError } from '../../../core/errors.js'
import { optionSchema } from '../../../core/option-schema.js'
import type { Detection, Factory, PluginServices, Protocol } from '../../../core/plugin.js'
import { isThenable } from '../../../core/thenable.js'
import { oneLine } from '../text-support.js'
import { type AckMode, frameBytes, type Seat, StompBroker } from './broker.js'
import {
  readFrame,
  readWholeMessage,
  type StompFrame,
  type StompFrameToSend,
  StompReader,
  type StompVersion,
  writeFrame,
} from './frame.js'

export interface StompOptions {
  readonly authenticate?: (user: string, passcode: string, connection: Connection) => boolean | Promise<boolean>
  readonly heartBeatMs: number
  readonly subscriptions: number
  readonly inFlight: number
  readonly queueBytes: number
  readonly transactions: number
}

/** A refusal in a handler's own words: the peer gets an ERROR frame with them, then the connection ends. */
export class StompError extends Error {
  constructor(
    message: string,
    /** The body of the ERROR frame. */
    readonly details = '',
  ) {
    super(message)
    this.name = 'StompError'
  }
}

const VERSIONS = ['1.2', '1.1', '1.0'] as const
const LF = Buffer.from('\n')

/**
 * The route is the command: `@OnMessage('SEND')` gets `{ command, headers, body }`. What it returns goes to the subscribers of
 * the destination in place of the body (text or bytes); `undefined` leaves the body as it is, `null` keeps it from them.
 *
 * CONNECT, heart-beats, subscriptions, acknowledgements, transactions and receipts are the protocol's; a handler may have
 * methods for `SUBSCRIBE`, `UNSUBSCRIBE`, `ACK`, `NACK` and `DISCONNECT` as well, and throws `StompError` to refuse. As the
 * specification wants it, an error ends the connection: ERROR, with the receipt it was asked for, then the close.
 *
 * A frame is bounded by `limits.frameBytes`, a line of its head by `limits.lineBytes`. Nothing is stored: a message goes to
 * those who are there.
 *
 * @throws {FrameError} `TOO_LARGE`, as soon as content-length says so; `MALFORMED`. Reach: this connection.
 * @example
 * { "endpoint": ["tcp://[::]:61613", "ws://[::]:8080/stomp"], "protocol": "stomp", "handler": "./news.ts" }
 */
export const stomp: Factory<Protocol, StompOptions> = {
  name: 'stomp',
  options: optionSchema<StompOptions>({
    authenticate: {
      unit: 'any',
      check: (value) => (typeof value === 'function' ? undefined : 'expected a function (user, passcode, connection)'),
      why: 'In code: asked with login and passcode of CONNECT. Default: everybody may.',
    },
    heartBeatMs: {
      unit: 'ms',
      default: 10_000,
      why: 'Heart-beats offered and wished for; a peer that agreed and is silent for twice as long is gone. 0: none.',
    },
    subscriptions: { unit: 'count', min: 1, default: 1_000, why: 'Most of one connection.' },
    inFlight: {
      unit: 'count',
      min: 1,
      default: 64,
      why: 'Messages to a subscriber that wait for its ACK; 1,000 more wait behind them.',
    },
    queueBytes: {
      unit: 'bytes',
      min: 65_536,
      default: 32 * 1024 * 1024,
      why: 'For all connections: messages that wait for an ACK, SENDs of open transactions, subscriptions. Whoever has most is cut (SLOW_PEER).',
    },
    transactions: {
      unit: 'count',
      min: 0,
      default: 100,
      why: 'Most SENDs in the open transactions of one connection.',
    },
  }),
  create(options, services) {
    const dialogue = new Dialogue(options, services)
    return {
      codec: codecOf('server'),
      clientCodec: codecOf('client'),
      needs: { ordered: true, reliable: true },
      keepsState: true,
      middleware: {
        name: 'stomp',
        connection({ connection }, next) {
          void connection.closed.then(() => dialogue.end(connection))
          return next()
        },
        message: (context, next) => dialogue.step(context, next),
      },
      detect,
      errorReply: (error) => dialogue.errorOf(error),
      goodbye: () => ({ command: 'ERROR', headers: { message: 'the server is shutting down' } }),
    }
  },
}

function detect(buffer: Buffer, start: number, end: number): Detection {
  const front = buffer.toString('latin1', start, Math.min(end, start + 9))
  const fronts = ['CONNECT\n', 'CONNECT\r\n', 'STOMP\n', 'STOMP\r\n']
  if (fronts.some((one) => front.startsWith(one))) return 'yes'
  return fronts.some((one) => one.startsWith(front)) ? 'more' : 'no'
}

const versionOf = (context: CodecContext): StompVersion => (context.state as StompVersion | undefined) ?? '1.2'

function codecOf(side: 'server' | 'client'): Codec {
  const decodeAt = (buffer: Buffer, start: number, end: number, context: CodecContext): StompFrame => {
    const read = context.kind === 'stream' ? readFrame : readWholeMessage
    const frame = read(buffer, start, end, versionOf(context))
    if (side === 'client' && frame.command === 'CONNECTED') context.state = knownVersion(frame.headers.version)
    return frame
  }
  return {
    framer: { open: (limits) => new StompReader(limits) },
    decode: (frame, context) =>
      decodeAt(Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength), 0, frame.byteLength, context),
    decodeAt,
    encode(message, context) {
      const written = writeFrame(message, versionOf(context), context)
      // From the greeting on, neither earlier nor later.
      const { command, headers } = message as StompFrameToSend
      if (side === 'server' && command === 'CONNECTED') context.state = knownVersion(headers?.version)
      return written
    },
    route: (message) => (message as StompFrame).command,
    ...(side === 'client' ? { correlate } : {}),
  }
}

function knownVersion(version: unknown): StompVersion {
  return VERSIONS.find((one) => one === version) ?? '1.0'
}

/** RECEIPT (and ERROR) name what they answer; CONNECTED answers in order; a MESSAGE answers nobody. */
function correlate(message: unknown): string | number | undefined {
  const { command, headers = {} } = (message ?? {}) as StompFrameToSend
  if (command === 'MESSAGE' || command === '') return Number.NaN
  const id = command === 'RECEIPT' || command === 'ERROR' ? headers['receipt-id'] : headers.receipt
  return id === undefined ? undefined : String(id)
}

class Dialogue {
  readonly #options: StompOptions
  readonly #services: PluginServices
  readonly #broker: StompBroker
  readonly #seats = new Map<Connection, Seat>()
  /** The receipt that was asked for with what failed. */
  readonly #receipts = new WeakMap<Error, string>()

  constructor(options: StompOptions, services: PluginServices) {
    this.#options = options
    this.#services = services
    const account = services.budget.open({ name: 'stomp.queued', limit: options.queueBytes, whenFull: 'largest' })
    this.#broker = new StompBroker(options.inFlight, account, services.turns)
  }

  end(connection: Connection): void {
    const seat = this.#seats.get(connection)
    if (seat === undefined) return
    this.#seats.delete(connection)
    seat.cancel()
    this.#broker.leave(seat)
  }

  errorOf(error: Error): StompFrameToSend {
    const cause = error.cause instanceof Error ? error.cause : error
    const receipt = this.#receipts.get(error) ?? this.#receipts.get(cause)
    const isTold = error instanceof FrameError || cause instanceof StompError
    const message = cause instanceof StompError ? cause.message : isTold ? error.message : 'internal error'
    const body = cause instanceof StompError ? cause.details : ''
    const type = body === '' ? undefined : 'text/plain'
    return {
      command: 'ERROR',
      headers: { message: oneLine(message), 'receipt-id': receipt, 'content-type': type },
      body,
    }
  }

  step(context: MessageContext, next: () => unknown): unknown {
    const { connection } = context
    const frame = context.message as StompFrame
    const seat = this.#seats.get(connection)
    if (frame.command === '') return undefined
    const { receipt } = frame.headers
    const failed = (thrown: unknown): never => {
      if (thrown instanceof Error && receipt !== undefined) this.#receipts.set(thrown, receipt)
      throw thrown
    }
    try {
      const done = this.#handle(context, frame, seat, next)
      const answer = (said: unknown) => (said === ANSWERED ? undefined : (said ?? confirm(receipt)))
      return isThenable(done) ? Promise.resolve(done).then(answer, failed) : answer(done)
    } catch (thrown) {
      return failed(thrown)
    }
  }

  #handle(context: MessageContext, frame: StompFrame, seat: Seat | undefined, next: () => unknown): unknown {
    const { command, headers } = frame
    if (command === 'CONNECT' || command === 'STOMP') {
      if (seat !== undefined) throw new StompError(`${command} is said once`)
      return this.#connect(context.connection, headers)
    }
    if (seat === undefined) throw new StompError(`begin with CONNECT, not ${command}`)
    switch (command) {
      case 'SEND':
        return this.#send(frame, seat, next)
      case 'SUBSCRIBE':
        return asked(next, () => this.#subscribe(seat, headers))
      case 'UNSUBSCRIBE':
        return asked(next, () => {
          // 1.0 may name the destination instead.
          const id = headers.id ?? wanted(headers, seat.version === '1.0' ? 'destination' : 'id')
          if (!this.#broker.unsubscribe(seat, id)) throw new StompError(`there is no subscription ${id}`)
        })
      case 'ACK':
      case 'NACK':
        return asked(next, () => {
          const id = wanted(headers, seat.version === '1.2' ? 'id' : 'message-id')
          if (!this.#broker.acknowledge(seat, id)) throw new StompError(`${command}: nothing waits for ${id}`)
        })
      case 'BEGIN':
      case 'COMMIT':
      case 'ABORT':
        return this.#transact(context, frame, seat)
      case 'DISCONNECT':
        return asked(next, () => {
          const receipt = confirm(headers.receipt)
          if (receipt !== undefined) void context.connection.send(receipt)
          void context.connection.close()
          return ANSWERED
        })
      default:
        throw new StompError(`${command} is no command of a client`)
    }
  }

  #connect(connection: Connection, headers: StompFrame['headers']): unknown {
    const accepted = (headers['accept-version'] ?? '1.0').split(',').map((one) => one.trim())
    const version = VERSIONS.find((one) => accepted.includes(one))
    if (version === undefined) throw new StompError('Supported protocol versions are 1.0 1.1 1.2')
    const { login, passcode = '' } = headers
    const { authenticate, heartBeatMs } = this.#options
    const [theirs = 0, wished = 0] = (headers['heart-beat'] ?? '0,0').split(',').map(Number)
    if (!isInterval(theirs) || !isInterval(wished)) throw new StompError('heart-beat: expected two whole numbers')
    const accept = (): StompFrameToSend => {
      const seat: Seat = {
        connection,
        version,
        user: login,
        subscriptions: new Map(),
        sent: new Map(),
        waiting: [],
        transactions: new Map(),
        holding: this.#broker.hold((code) => this.#cut(connection, code)),
        cancel: () => {},
      }
      this.#seats.set(connection, seat)
      this.#beat(seat, theirs, wished)
      const beats = version === '1.0' ? undefined : `${heartBeatMs},${heartBeatMs}`
      return {
        command: 'CONNECTED',
        headers: { version, server: 'gaidaros', session: connection.id, 'heart-beat': beats },
      }
    }
    if (authenticate === undefined) return accept()
    const settle = (isKnown: boolean): StompFrameToSend => {
      if (!isKnown) throw new StompError('unknown login or passcode')
      return accept()
    }
    const known = authenticate(login ?? '', passcode, connection)
    return isThenable(known) ? Promise.resolve(known).then(settle) : settle(known as boolean)
  }

  /** It is told why, as after every error. */
  #cut(connection: Connection, code: string): void {
    this.end(connection)
    void connection.send({ command: 'ERROR', headers: { message: 'there is no room for what waits for you' } })
    void connection.close(code)
  }

  /** 1.1 and 1.2, "Heart-beating": of both sides' numbers the larger counts, 0 on one side is none. */
  #beat(seat: Seat, theirs: number, wished: number): void {
    const own = this.#options.heartBeatMs
    const { clock } = this.#services
    const { connection } = seat
    const sendMs = own === 0 || wished === 0 ? 0 : Math.max(own, wished)
    const hearMs = own === 0 || theirs === 0 ? 0 : Math.max(own, theirs) * 2
    const cancels = new Map<string, () => void>()
    seat.cancel = () => {
      for (const cancel of cancels.values()) cancel()
    }
    const beat = () => {
      void connection.write(LF)
      cancels.set('send', clock.after(sendMs, beat))
    }
    // Their heart-beats are passed over by the framer, before anybody here sees them.
    let heard = -1
    const listen = () => {
      const { bytesIn } = connection.stats
      if (bytesIn === heard) return void connection.close('HEART_BEAT_TIMEOUT')
      heard = bytesIn
      cancels.set('hear', clock.after(hearMs, listen))
    }
    if (sendMs > 0) cancels.set('send', clock.after(sendMs, beat))
    if (hearMs > 0) cancels.set('hear', clock.after(hearMs, listen))
  }

  #send(frame: StompFrame, seat: Seat, next: () => unknown): unknown {
    const destination = wanted(frame.headers, 'destination')
    const { transaction } = frame.headers
    if (transaction !== undefined) {
      const open = seat.transactions.get(transaction)
      if (open === undefined) throw new StompError(`there is no transaction ${transaction}`)
      let held = 1
      for (const { length } of seat.transactions.values()) held += length
      if (held > this.#options.transactions)
        throw new StompError(`at most ${this.#options.transactions} SENDs in transactions`)
      const headers = without(frame.headers, 'transaction', 'receipt')
      const kept = { ...frame, headers, body: Buffer.from(frame.body) }
      // Where there is no room it is cut, and was told why.
      if (!seat.holding.take(frameBytes(kept))) return ANSWERED
      open.push(kept)
      return undefined
    }
    const publish = (said: unknown): Promise<void> | undefined => {
      if (said === null) return undefined
      // Nothing is copied for nobody.
      if (!this.#broker.hasSubscribers(destination)) return undefined
      const isBody = typeof said === 'string' || said instanceof Uint8Array
      const headers = without(frame.headers, 'destination', 'receipt', 'content-length')
      return this.#broker.publish(destination, { headers, body: isBody ? said : Buffer.from(frame.body) })
    }
    return asked(next, publish)
  }

  #subscribe(seat: Seat, headers: StompFrame['headers']): undefined {
    const destination = wanted(headers, 'destination')
    const id = headers.id ?? (seat.version === '1.0' ? destination : wanted(headers, 'id'))
    const ack = headers.ack ?? 'auto'
    if (ack !== 'auto' && ack !== 'client' && ack !== 'client-individual')
      throw new StompError('ack: expected auto, client or client-individual')
    if (seat.subscriptions.has(id)) throw new StompError(`subscription ${id} is there already`)
    if (seat.subscriptions.size >= this.#options.subscriptions)
      throw new StompError(`at most ${this.#options.subscriptions} subscriptions`)
    this.#broker.subscribe({ id, destination, ack: ack as AckMode, seat })
    return undefined
  }

  #transact(context: MessageContext, { command, headers }: StompFrame, seat: Seat): unknown {
    const id = wanted(headers, 'transaction')
    const open = seat.transactions.get(id)
    if (command === 'BEGIN') {
      if (open !== undefined) throw new StompError(`transaction ${id} is open already`)
      if (seat.transactions.size >= this.#options.transactions)
        throw new StompError(`at most ${this.#options.transactions} transactions`)
      seat.transactions.set(id, [])
      return undefined
    }
    if (open === undefined) throw new StompError(`there is no transaction ${id}`)
    seat.transactions.delete(id)
    const settle = () => {
      for (const sent of open) seat.holding.give(frameBytes(sent))
    }
    if (command === 'ABORT') return settle()
    try {
      const done = inTurn(open, (sent) => context.handle(sent, 'SEND'))
      if (isThenable(done)) return Promise.resolve(done).finally(settle)
      settle()
      return done
    } catch (thrown) {
      settle()
      throw thrown
    }
  }
}

/** The frame has its answer already. */
const ANSWERED = Symbol('answered')

/** One after the other, without a promise where none is needed. */
function inTurn(frames: readonly StompFrame[], run: (frame: StompFrame) => unknown): unknown {
  for (let index = 0; index < frames.length; index++) {
    const done = run(frames[index] as StompFrame)
    if (isThenable(done)) return Promise.resolve(done).then(() => inTurn(frames.slice(index + 1), run))
  }
  return undefined
}

/** Asks the handler; one without a method for it agrees. */
function asked(next: () => unknown, then: (said: unknown) => unknown): unknown {
  const otherwise = (thrown: unknown): unknown => {
    if (thrown instanceof UnroutedMessageError) return then(undefined)
    throw thrown
  }
  let said: unknown
  try {
    said = next()
  } catch (thrown) {
    return otherwise(thrown)
  }
  return isThenable(said) ? Promise.resolve(said).then(then, otherwise) : then(said)
}

function confirm(receipt: string | undefined): StompFrameToSend | undefined {
  return receipt === undefined ? undefined : { command: 'RECEIPT', headers: { 'receipt-id': receipt } }
}

function wanted(headers: StompFrame['headers'], name: string): string {
  const value = headers[name]
  if (value === undefined) throw new StompError(`the header ${name} is missing`)
  return value
}

function without(headers: StompFrame['headers'], ...names: readonly string[]): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !names.includes(name)))
}

function isInterval(ms: number): boolean {
  return Number.isSafeInteger(ms) && ms >= 0 && ms < 2 ** 31
}
