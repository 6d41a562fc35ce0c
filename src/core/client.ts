/**
 * The client side: the same session, over the same transports, with requests.
 *
 * Room: core, mechanism. `connect()` at the door makes these.
 */
import type { Clock } from './clock.js'
import { systemClock } from './clock.js'
import type { Codec } from './codec.js'
import type { CloseReason, Connection } from './connection.js'
import { Deadlines } from './deadlines.js'
import type { Endpoint } from './endpoint.js'
import { ConnectionError } from './errors.js'
import { EventHub } from './events.js'
import type { BoundHandler, HandlerPlan } from './handler.js'
import { checkStack, type PlacedLayer, stack } from './layer-stack.js'
import { toBuffer } from './listener-sink.js'
import type { Limits, Timeouts } from './options.js'
import type { Protocol } from './plugin.js'
import { type RequestOptions, Requests } from './requests.js'
import { Session, type SessionScope } from './session.js'
import type { Link, LinkSink, Transport, TransportOptions } from './transport.js'

/** A connection that was made by us. */
export interface ClientConnection extends Connection {
  /**
   * Sends a message and waits for its reply: the one that correlates with it where the codec can tell, else the next
   * one, since replies come in order. A server that speaks first needs `connect(…, { greeting: true })`, or its greeting would be
   * taken for the first reply. The late reply to a request that was given up is swallowed.
   *
   * @param options.timeoutMs - Default: none but the connection's own deadlines.
   * @param options.signal - Aborted before: nothing is sent.
   * @throws {ConnectionError} `CLOSED` when the connection ends first; `TIMEOUT` after `timeoutMs`, with `sent`; `NOT_SUPPORTED` for
   *   an id that is under way. What the signal was aborted with.
   */
  request<T = unknown>(message: unknown, options?: RequestOptions): Promise<T>
  /** The next message that answers no request, such as a greeting; undefined when the connection has ended in order. */
  next<T = unknown>(): Promise<T | undefined>
  /** Messages that answer no request, until the connection ends; throws when it did not end in order. */
  messages<T = unknown>(): AsyncIterableIterator<T>
  [Symbol.asyncDispose](): Promise<void>
}

export interface ClientParts {
  readonly transport: Transport
  readonly endpoint: Endpoint
  readonly options: TransportOptions
  readonly codec: Codec
  readonly protocol?: Protocol | undefined
  /** From the wire inwards. */
  readonly layers?: readonly PlacedLayer[]
  readonly limits: Readonly<Limits>
  readonly timeouts: Readonly<Timeouts>
  readonly signal: AbortSignal
  readonly clock?: Clock
  /** The server's first message answers no request. */
  readonly greeting?: boolean
}

/** Messages nobody has asked for yet; at this many the connection stops reading. */
const MOST_WAITING = 64

class ClientSession extends Session implements ClientConnection {
  readonly #codec: Codec
  readonly #requests: Requests
  /** The server speaks first, and has not yet. */
  #awaitsGreeting: boolean
  readonly #queue: unknown[] = []
  #reader: ((message: IteratorResult<unknown>) => void) | undefined
  #failReader: ((error: Error) => void) | undefined
  #room: (() => void) | undefined
  #over: CloseReason | undefined

  constructor(link: Link, scope: SessionScope, greeting: boolean) {
    super(link, scope)
    this.#codec = scope.plan.codec
    this.#requests = new Requests(scope.host.clock)
    this.#awaitsGreeting = greeting
  }

  request<T>(message: unknown, options: RequestOptions = {}): Promise<T> {
    if (this.state === 'closed' || this.state === 'ending') {
      const error = new ConnectionError('CLOSED', `request on connection ${this.id}, which is ${this.state}`)
      return Promise.reject(error)
    }
    const id = this.#codec.correlate?.(message)
    return this.#requests.ask(id, options, () => this.send(message)) as Promise<T>
  }

  async next<T>(): Promise<T | undefined> {
    const { value } = await this.messages<T>().next()
    return value
  }

  async *messages<T>(): AsyncIterableIterator<T> {
    for (;;) {
      if (this.#queue.length > 0) {
        const message = this.#queue.shift()
        this.#makeRoom()
        yield message as T
        continue
      }
      if (this.#over !== undefined) {
        if (this.#over.error !== undefined) throw this.#over.error
        return
      }
      const next = await new Promise<IteratorResult<unknown>>((resolve, reject) => {
        this.#reader = resolve
        this.#failReader = reject
      })
      this.#reader = this.#failReader = undefined
      if (next.done) return
      yield next.value as T
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** A message came. @returns a promise when it should not go on for now. */
  take(message: unknown): void | Promise<void> {
    if (this.#awaitsGreeting) this.#awaitsGreeting = false
    else if (this.#requests.take(this.#codec.correlate?.(message as never), message)) return
    if (this.#reader !== undefined) {
      const reader = this.#reader
      this.#reader = undefined
      reader({ value: message, done: false })
      return
    }
    this.#queue.push(message)
    if (this.#queue.length < MOST_WAITING) return
    return new Promise((resolve) => {
      this.#room = resolve
    })
  }

  finish(reason: CloseReason): void {
    this.#over = reason
    const error = () =>
      new ConnectionError('CLOSED', `connection ${this.id} ended before the reply came (${reason.code})`, {
        cause: reason.error,
      })
    this.#requests.fail(error)
    if (reason.error === undefined) this.#reader?.({ value: undefined, done: true })
    else this.#failReader?.(reason.error)
  }

  #makeRoom(): void {
    if (this.#queue.length >= MOST_WAITING / 2) return
    this.#room?.()
    this.#room = undefined
  }
}

/**
 * Opens a client connection.
 *
 * @throws {ConnectionError} `REFUSED`, `CONNECT_TIMEOUT`, `NOT_SUPPORTED`.
 */
export async function openClient(parts: ClientParts): Promise<ClientConnection> {
  const { transport, endpoint, options, codec, limits, timeouts, signal, layers = [] } = parts
  if (transport.connect === undefined) {
    throw new ConnectionError(
      'NOT_SUPPORTED',
      `transport ${transport.name} only listens; it cannot connect to ${endpoint}`,
    )
  }
  const clock = parts.clock ?? systemClock
  const deadlines = new Deadlines(clock)
  const scope: SessionScope = {
    host: { clock, deadlines, events: new EventHub(), count: () => {}, nextId: nextClientId },
    plan: {
      codec,
      handler: clientHandler,
      limits,
      // Replies are awaited by whoever asked; a message that waits to be read is no handler that hangs.
      timeouts: { ...timeouts, handlerMs: Number.POSITIVE_INFINITY },
      protocol: parts.protocol,
      order: 'serial',
      connectionPipeline: undefined,
      messagePipeline: undefined,
      methodPipelines: undefined,
      probe: undefined,
    },
    endpoint,
    listener: undefined,
    transport: transport.name,
    capabilities: checkStack(layers, transport.capabilities(endpoint, options), transport.name, 'layers'),
    once: false,
    closed: (session, reason) => {
      deadlines.close()
      ;(session as ClientSession).finish(reason)
    },
  }
  const { kind } = scope.capabilities
  const sink = clientSink(scope, parts.greeting ?? false)
  const outermost =
    layers.length === 0
      ? sink
      : stack(layers, sink, {
          side: 'connected',
          endpoint,
          listener: undefined,
          kind,
          limits,
          timeouts,
          tls: options.tls,
        })
  const link = await transport.connect(endpoint, options, outermost, signal)
  return sink.opened(link, signal)
}

/** The client's handler: every message goes to whoever waits for it. */
const clientHandler: HandlerPlan = {
  definition: { kind: 'gaidaros.handler', name: 'client', options: {}, target: undefined, messages: [], hooks: {} },
  bind: () => boundClient,
  release: () => {},
}

const boundClient: BoundHandler = {
  message: (message, connection) => (connection as ClientSession).take(message),
  routes: undefined,
  open: undefined,
  idle: undefined,
  peerEnd: undefined,
  drain: undefined,
  error: undefined,
  close: undefined,
}

let lastId = 0
const nextClientId = () => `c${(++lastId).toString(36)}`

/** Core's side of one client connection. */
function clientSink(
  scope: SessionScope,
  greeting: boolean,
): LinkSink & { opened(link: Link, signal: AbortSignal): Promise<ClientSession> } {
  let session: ClientSession | undefined
  let failure: Error | undefined
  let settle = () => {}
  const sessionOf = (link: Link) => link.state as Session | undefined
  return {
    open(link) {
      session = new ClientSession(link, scope, greeting)
      link.state = session
      session.start()
      settle()
    },
    data: (link, buffer, start, end) => sessionOf(link)?.data(toBuffer(buffer), start, end),
    end: (link, reason) => sessionOf(link)?.peerEnded(reason),
    heard: (link, part) => sessionOf(link)?.heard(part),
    drain: (link) => sessionOf(link)?.drained(),
    close: (link, error) => sessionOf(link)?.linkClosed(error),
    fault(error) {
      failure ??= error
      settle()
    },
    /** The transport is through; a layer may still be at its greeting. */
    async opened(link, signal) {
      if (session === undefined && failure === undefined) {
        const onAbort = () => {
          failure ??= new ConnectionError(
            'CONNECT_TIMEOUT',
            `${scope.endpoint}: connected, but its layers were not ready in time`,
          )
          settle()
        }
        signal.addEventListener('abort', onAbort, { once: true })
        await new Promise<void>((resolve) => {
          settle = resolve
          if (signal.aborted) onAbort()
        })
        signal.removeEventListener('abort', onAbort)
      }
      if (session !== undefined) return session
      link.abort(failure)
      throw failure
    },
  }
}
