/**
 * The memory transport: `memory:name` endpoints within one process.
 *
 * Room: transports. For tests, and for parts of one program that talk as if over a socket: the same back-pressure,
 * half-close and resets, no descriptors. Names are known to this process only; `memory:` alone picks a fresh one, as
 * port 0 does. Bytes always arrive in a later turn of the event loop, and writes of one turn arrive joined, so nobody
 * comes to rely on a write being a chunk. A listener over memory alone does not keep the process running.
 */
import type { Endpoint } from '../core/endpoint.js'
import { BindError, ConnectionError, toError } from '../core/errors.js'
import { optionSchema } from '../core/option-schema.js'
import { defaultLimits } from '../core/options.js'
import type { Capabilities, Link, LinkSink, Listener, Transport, TransportOptions } from '../core/transport.js'
import { type MemoryFormat, MemoryLink, type MemoryWire } from './memory-link.js'
import { MemoryListener } from './memory-listener.js'
import { MemoryTurns, type TurnTask } from './memory-turns.js'

/** The `socket` key of a memory listener. */
export interface MemoryOptions {
  /**
   * `stream`: bytes without boundaries, as TCP. `message`: each write is a message, as a datagram. Default: `stream`.
   */
  readonly kind?: 'stream' | 'message'
  /** Newcomers that may wait while the listener is paused; one more is refused. Default: 511. */
  readonly backlog?: number
  /** Largest message of the message kind, in bytes. Default: 65,507, as UDP over IPv4. */
  readonly maxMessageBytes?: number
}

const DEFAULT_BACKLOG = 511
const DEFAULT_MAX_MESSAGE_BYTES = 65_507

/** What a simulated network puts around the transport; plain memory has nothing of it. */
export interface MemoryMedium {
  /** Turns shared with whoever needs to know whether anything is under way. Default: the transport's own. */
  readonly turns?: MemoryTurns
  /**
   * Makes what stands in one direction of a link.
   *
   * @param link - Counts from 1, in the order of connecting.
   * @param toward - The side the bytes arrive at.
   * @param wake - Lets the link look again.
   */
  wire?(
    link: number,
    toward: 'listener' | 'connector',
    kind: 'stream' | 'message',
    wake: () => void,
  ): MemoryWire | undefined
  /** Called for each `connect`; calls `proceed` when the listener is reached. Returns what cancels it. */
  dial?(link: number, proceed: () => void): () => void
}

/** Makes a memory transport with its own names, which no other can see. */
export function createMemoryTransport(medium: MemoryMedium = {}): Transport<MemoryOptions> {
  const turns = medium.turns ?? new MemoryTurns()
  const listeners = new Map<string, MemoryListener>()
  let fresh = 0
  let links = 0

  return {
    name: 'memory',
    schemes: ['memory'],
    options: optionSchema<MemoryOptions>({
      kind: {
        unit: 'choice',
        choices: ['stream', 'message'],
        default: 'stream',
        why: 'Bytes without boundaries, as TCP, or one message a write, as UDP: what a handler must cope with.',
      },
      backlog: {
        unit: 'count',
        min: 1,
        default: DEFAULT_BACKLOG,
        why: 'Newcomers that may wait while the listener is paused, as in a kernel; one more is refused.',
      },
      maxMessageBytes: {
        unit: 'bytes',
        min: 1,
        default: DEFAULT_MAX_MESSAGE_BYTES,
        why: 'Largest message of the message kind; by default what UDP carries over IPv4 (udp(7)).',
      },
    }),

    capabilities: (_endpoint, options) => capabilitiesOf(formatOf(options)),

    async listen(endpoint, options, sink): Promise<Listener> {
      let name = endpoint.path ?? ''
      if (name === '') {
        do name = String(++fresh)
        while (listeners.has(name))
      }
      if (listeners.has(name)) {
        throw new BindError(
          'ADDRESS_IN_USE',
          `memory:${name}: a listener of this process has this name; unbind it first`,
          {
            endpoint: `memory:${name}`,
          },
        )
      }
      const backlog = options.backlog ?? DEFAULT_BACKLOG
      const bound = endpoint.with({ path: name })
      const listener = new MemoryListener(turns, bound, sink, formatOf(options), backlog, () => listeners.delete(name))
      listeners.set(name, listener)
      return listener
    },

    connect(endpoint, options, sink, signal): Promise<Link> {
      return new Promise((resolve, reject) => {
        const dial = new Dial(
          turns,
          medium,
          ++links,
          endpoint,
          formatOf(options),
          sink,
          signal,
          listeners,
          resolve,
          reject,
        )
        dial.start()
      })
    },
  }
}

function formatOf(options: TransportOptions<MemoryOptions>): MemoryFormat {
  return {
    kind: options.kind ?? 'stream',
    maxMessageBytes: options.maxMessageBytes ?? DEFAULT_MAX_MESSAGE_BYTES,
    highBytes: options.limits?.writeHighBytes ?? defaultLimits.writeHighBytes,
    lowBytes: options.limits?.writeLowBytes ?? defaultLimits.writeLowBytes,
  }
}

function capabilitiesOf(format: MemoryFormat): Capabilities {
  const shared = {
    ordered: true,
    reliable: true,
    halfClose: true,
    reset: true,
    backpressure: 'end-to-end',
    upgrade: [],
  } as const
  if (format.kind === 'stream') return { kind: 'stream', ...shared }
  return { kind: 'message', ...shared, maxMessageBytes: format.maxMessageBytes }
}

/** One `connect` under way. */
class Dial implements TurnTask {
  posted = false
  #isSettled = false
  #cancel: (() => void) | undefined = undefined

  constructor(
    readonly turns: MemoryTurns,
    readonly medium: MemoryMedium,
    readonly number: number,
    readonly endpoint: Endpoint,
    readonly format: MemoryFormat,
    readonly sink: LinkSink,
    readonly signal: AbortSignal,
    readonly listeners: ReadonlyMap<string, MemoryListener>,
    readonly resolve: (link: Link) => void,
    readonly reject: (error: Error) => void,
  ) {}

  start(): void {
    if (this.signal.aborted) return this.#giveUp()
    this.signal.addEventListener('abort', this.#giveUp, { once: true })
    if (this.medium.dial === undefined) this.turns.post(this)
    else this.#cancel = this.medium.dial(this.number, () => this.turns.post(this))
  }

  turn(): void {
    if (this.#isSettled) return
    const listener = this.listeners.get(this.endpoint.path ?? '')
    if (listener === undefined) return this.#refuse('nobody listens there')
    if (listener.format.kind !== this.format.kind) {
      return this.#refuse(
        `the listener is of kind ${listener.format.kind}, the connection asked for ${this.format.kind}`,
      )
    }
    if (!listener.hasRoom()) return this.#refuse('the listener is paused and its backlog is full')

    const { turns, number, format, medium } = this
    const local = this.endpoint.with({ path: `${this.endpoint.path}#${number}` })
    const near = new MemoryLink(turns, this.sink, format, local, listener.endpoint)
    const far = new MemoryLink(turns, listener.sink, listener.format, listener.endpoint, local)
    MemoryLink.join(near, far)
    near.wire = medium.wire?.(number, 'connector', format.kind, () => turns.post(near))
    far.wire = medium.wire?.(number, 'listener', format.kind, () => turns.post(far))
    this.#settle()
    near.open()
    listener.accept(far)
    this.resolve(near)
  }

  #refuse(why: string): void {
    this.#settle()
    this.reject(new ConnectionError('REFUSED', `${this.endpoint}: ${why}`, { remote: this.endpoint }))
  }

  readonly #giveUp = (): void => {
    if (this.#isSettled) return
    this.#settle()
    const cause = toError(this.signal.reason)
    const message = `${this.endpoint}: the connection was given up: ${cause.message}`
    this.reject(new ConnectionError('CONNECT_TIMEOUT', message, { remote: this.endpoint, cause }))
  }

  #settle(): void {
    this.#isSettled = true
    this.#cancel?.()
    this.signal.removeEventListener('abort', this.#giveUp)
  }
}

/** The names of this process. */
export const memory: Transport<MemoryOptions> = createMemoryTransport()
