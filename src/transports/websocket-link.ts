/**
 * The link of a WebSocket: one `ws.WebSocket`, pushed into a sink, a message a call.
 *
 * Room: transports. The library parses a chunk of the socket to its end, whatever a pause says meanwhile; so messages
 * that come in a pause are held here. They are what one read of the socket holds (64 KiB), and the message it finished.
 */
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Endpoint } from '../core/endpoint.js'
import { ConnectionError, FrameError, toError } from '../core/errors.js'
import { type FeatureToken, TLS, type TlsFacts } from '../core/feature.js'
import type { Arrived, Link } from '../core/transport.js'
import { linkError, platformCode } from './platform-errors.js'
import { reset } from './reset.js'
import { localOf, remoteOf } from './stream-link.js'
import { tlsFacts } from './tls-facts.js'
import { ABNORMAL, closeFrameOf, isOrderly, LEAST_OWN, POLICY } from './websocket-codes.js'
import { WEBSOCKET, type WebSocketFacts } from './websocket-facts.js'
import { BEGUN, FrameTrack, REST } from './websocket-frames.js'
import { OPEN, type Ws } from './websocket-library.js'
import type { WebSocketScope } from './websocket-scope.js'

/** What an upgrade leaves. */
export interface WebSocketParts {
  readonly ws: Ws
  /** What the library reads and writes. */
  readonly socket: Socket
  /** The TCP socket beneath; the same without TLS. */
  readonly raw: Socket
  readonly facts: WebSocketFacts
  /** What knows better than the socket who the peer is. */
  readonly front?: Link | undefined
  /** Its place, from before it was a link. */
  readonly arrived?: Arrived | undefined
}

// Whose socket this is: one property in place of a closure per event and link.
const LINK = Symbol('gaidaros.link')

interface Linked {
  [LINK]?: WebSocketLink
}

const ENDED = 1 // end() was called
const ABORTED = 2
const CLOSED = 4 // the sink was told
const HIGH = 8 // a write returned false; drain is owed
const PAUSED = 16
const OVER = 32 // the socket has closed; messages may still be held
const DUE = 64 // what is held will be delivered in the next turn
const PARTIAL = 128 // a message has begun that is not whole

const SILENT = ENDED | ABORTED | CLOSED | OVER
const GONE = ABORTED | CLOSED

let onChunk: (this: Linked, chunk: Buffer) => void
let onMessage: (this: Linked, message: Buffer) => void
let onFault: (this: Linked, error: Error) => void
let onClose: (this: Linked, code: number, reason: Buffer) => void
let onSocketError: (this: Linked, error: Error) => void

export class WebSocketLink implements Link {
  state: unknown = undefined
  readonly #scope: WebSocketScope
  readonly #parts: WebSocketParts
  #flags = 0
  #error: Error | undefined = undefined
  readonly #track = new FrameTrack()
  #code = ABNORMAL
  #sentCode = 0
  #close: WebSocketFacts['close']
  #reason = ''
  #held: Buffer[] = []
  #heldBytes = 0
  #onSent: (() => void) | undefined = undefined
  #lingering: NodeJS.Timeout | undefined = undefined
  #local: Endpoint | undefined = undefined
  #remote: Endpoint | undefined = undefined
  #tls: TlsFacts | undefined = undefined

  constructor(parts: WebSocketParts, scope: WebSocketScope) {
    this.#parts = parts
    this.#scope = scope
  }

  /** Tells the sink; what has arrived is delivered from the next turn on. */
  open(): void {
    const { ws, socket } = this.#parts
    ;(ws as Linked)[LINK] = this
    ;(socket as Linked)[LINK] = this
    ws.on('message', onMessage).on('error', onFault).on('close', onClose)
    // Ahead of the library, which unmasks payloads where they lie, and may hear that a message is whole at once.
    socket.on('error', onSocketError).prependListener('data', onChunk)
    try {
      this.#scope.sink.open(this)
    } catch (thrown) {
      this.abort(toError(thrown))
    }
  }

  get arrived(): Arrived | undefined {
    return this.#parts.arrived
  }

  get stable(): true {
    return true
  }

  get buffered(): number {
    return this.#flags & (GONE | OVER) ? 0 : this.#parts.ws.bufferedAmount
  }

  /** Made when first read. */
  get local(): Endpoint | undefined {
    const { raw, front } = this.#parts
    this.#local ??= front === undefined ? localOf(raw, this.#scope) : front.local
    return this.#local
  }

  /** Made when first read. */
  get remote(): Endpoint | undefined {
    const { raw, front } = this.#parts
    this.#remote ??= front === undefined ? remoteOf(raw, this.#scope.scheme) : front.remote
    return this.#remote
  }

  /** Sends a binary message. */
  write(bytes: Uint8Array): boolean {
    return this.#send(bytes, bytes.byteLength)
  }

  /** Sends a text message. */
  writeText(text: string): boolean {
    // No character takes more than three bytes of UTF-8 for each of its UTF-16 units.
    return this.#send(text, text.length * 3)
  }

  pause(): void {
    this.#flags |= PAUSED
    if (!(this.#flags & (GONE | OVER))) this.#parts.ws.pause()
  }

  resume(): void {
    this.#flags &= ~PAUSED
    if (this.#flags & GONE) return
    if (this.#held.length === 0 && !(this.#flags & OVER)) this.#parts.ws.resume()
    else this.#deliverSoon()
  }

  /** The library hears the answer, and so do we: a pong is a frame like others. */
  ping(): void {
    const { ws } = this.#parts
    if (!(this.#flags & SILENT) && ws.readyState === OPEN) ws.ping()
  }

  /** Sends a close frame after what was written; the peer has `timeouts.halfClosedMs` to answer with its own. */
  end(reason?: string): void {
    if (this.#flags & SILENT) return
    this.#flags |= ENDED
    // TIMEOUT is said of a message that does not come to its end, and of a handler that does not answer.
    const isLate = reason === 'TIMEOUT' && (this.#flags & PARTIAL) !== 0
    const [code, text] = closeFrameOf(reason)
    this.#sentCode = isLate ? POLICY : code
    this.#parts.ws.close(this.#sentCode, text)
  }

  abort(reason?: Error): void {
    if (this.#flags & GONE) return
    this.#flags |= ABORTED
    this.#error ??= reason
    this.#held = []
    // Not from within the caller's frame: a sink is never called re-entrantly.
    if (this.#flags & OVER) setImmediate(() => this.#finish())
    else reset(this.#parts.raw, this.#parts.socket)
  }

  feature<T>(token: FeatureToken<T>): T | undefined {
    const { facts, socket, raw, front } = this.#parts
    if (token.feature === WEBSOCKET.feature) {
      const close = this.#close
      return (close === undefined ? facts : { ...facts, close }) as T
    }
    if (token.feature !== TLS.feature || socket === raw) return front?.feature?.(token)
    if (this.#tls === undefined && !socket.destroyed) this.#tls = tlsFacts(socket as TLSSocket)
    return this.#tls as T | undefined
  }

  // -- inside --------------------------------------------------------------------------------------------------------

  #send(data: Uint8Array | string, mostBytes: number): boolean {
    const { ws } = this.#parts
    if (this.#flags & SILENT || ws.readyState !== OPEN) return true
    const { writeHighBytes } = this.#scope
    if (!(this.#flags & HIGH) && ws.bufferedAmount + mostBytes < writeHighBytes) {
      ws.send(data)
      return true
    }
    ws.send(data, this.#watch())
    if (ws.bufferedAmount >= writeHighBytes) this.#flags |= HIGH
    return !(this.#flags & HIGH)
  }

  /** The library has no event for a queue that went down; so messages near the mark tell when they have gone. */
  #watch(): () => void {
    this.#onSent ??= () => {
      if (!(this.#flags & HIGH) || this.#flags & (GONE | OVER)) return
      if (this.#parts.ws.bufferedAmount > this.#scope.writeLowBytes) return
      this.#flags &= ~HIGH
      this.#tell(() => this.#scope.sink.drain(this))
    }
    return this.#onSent
  }

  #take(message: Buffer): void {
    if (this.#flags & GONE) return
    if (!(this.#flags & PAUSED) && this.#held.length === 0) {
      this.#tell(() => this.#scope.sink.data(this, message, 0, message.length))
      return
    }
    this.#held.push(message)
    this.#heldBytes += message.length
    const { heldBytes } = this.#scope
    if (this.#heldBytes > heldBytes) {
      const message = `compressed messages of ${this.#heldBytes} bytes came in one read; ${heldBytes} are held at most`
      this.abort(new FrameError('TOO_LARGE', message, { limit: heldBytes }))
    }
  }

  #deliverSoon(): void {
    if (this.#flags & DUE) return
    this.#flags |= DUE
    process.nextTick(() => {
      this.#flags &= ~DUE
      this.#deliver()
    })
  }

  #deliver(): void {
    while (this.#held.length > 0 && !(this.#flags & (PAUSED | GONE))) {
      const message = this.#held.shift() as Buffer
      this.#heldBytes -= message.length
      this.#tell(() => this.#scope.sink.data(this, message, 0, message.length))
    }
    if (this.#flags & (PAUSED | GONE)) return
    if (this.#flags & OVER) this.#finish()
    else this.#parts.ws.resume()
  }

  #tell(call: () => void): void {
    try {
      call()
    } catch (thrown) {
      this.abort(toError(thrown))
    }
  }

  #finish(): void {
    if (this.#flags & CLOSED) return
    if (!(this.#flags & ABORTED)) {
      this.#error ??= this.#lost()
      const reason = this.#code >= LEAST_OWN ? String(this.#code) : undefined
      if (this.#error === undefined) this.#tell(() => this.#scope.sink.end(this, reason))
    }
    this.#flags |= CLOSED
    this.#held = []
    this.#scope.sink.close(this, this.#error)
  }

  /** What the close code tells (RFC 6455, section 7.4.1). @returns undefined for an orderly end. */
  #lost(): Error | undefined {
    const code = this.#code
    // An answer to our close frame repeats its code (section 5.5.1).
    if (isOrderly(code) || code === this.#sentCode) return undefined
    const peer = this.#remote === undefined ? 'the peer' : String(this.#remote)
    if (code !== ABNORMAL) {
      const said = this.#reason === '' ? '' : `: ${this.#reason}`
      const message = `${peer} closed the link with code ${code}${said} (RFC 6455, section 7.4.1)`
      return new ConnectionError('TRANSPORT_FAILED', message, { status: code, reason: this.#reason })
    }
    if (!(this.#flags & ENDED)) {
      return new ConnectionError('RESET', `${peer}: the link was cut without a close frame`, { status: code })
    }
    // Many clients answer our close frame with the end of the connection alone; what we had to say has arrived.
    if (this.#parts.socket.readableEnded) return undefined
    const message = `${peer} did not answer our close frame (timeouts.halfClosedMs)`
    return new ConnectionError('HALF_CLOSED_TIMEOUT', message, { status: code })
  }

  /** What the library keeps to itself: pings, pongs, and messages that have begun. */
  #hear(chunk: Buffer): void {
    const { sink } = this.#scope
    const state = this.#track.read(chunk)
    if (state === REST) {
      if (this.#flags & PARTIAL) {
        this.#flags &= ~PARTIAL
        sink.heard?.(this, 'whole')
      } else if (this.#track.hasControl) sink.heard?.(this)
    } else if (state === BEGUN) {
      this.#flags |= PARTIAL
      sink.heard?.(this, 'begun')
    } else sink.heard?.(this)
  }

  // Functions of the socket, shared by all links; here because they look into links.
  static {
    onChunk = function (chunk) {
      const link = this[LINK] as WebSocketLink
      if (!(link.#flags & GONE)) link.#hear(chunk)
    }

    onMessage = function (message) {
      ;(this[LINK] as WebSocketLink).#take(message)
    }

    // The peer broke the rules. The library answers with the close code that says how, and ends the socket.
    onFault = function (error) {
      const link = this[LINK] as WebSocketLink
      if (link.#flags & GONE) return
      link.#error ??= frameError(error)
      const { raw, socket } = link.#parts
      link.#lingering = setTimeout(() => reset(raw, socket), link.#scope.lingerMs)
      link.#lingering.unref()
    }

    onClose = function (code, reason) {
      const link = this[LINK] as WebSocketLink
      clearTimeout(link.#lingering)
      link.#flags |= OVER
      link.#code = code
      link.#reason = reason.toString()
      if (code !== ABNORMAL) link.#close = { code, reason: link.#reason }
      // What came whole before the close is still handled.
      if (link.#held.length === 0 || link.#flags & GONE) link.#finish()
      else if (!(link.#flags & PAUSED)) link.#deliverSoon()
    }

    onSocketError = function (error) {
      const link = this[LINK] as WebSocketLink
      if (!(link.#flags & GONE)) link.#error ??= linkError(error, link.#remote)
    }
  }
}

/** What the library says of a message it refused. */
function frameError(cause: Error): Error {
  const code = platformCode(cause)
  if (!code.startsWith('WS_ERR_')) return linkError(cause, undefined)
  const isLarge = code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH' || code.startsWith('WS_ERR_TOO_MANY')
  return isLarge
    ? new FrameError('TOO_LARGE', `a message over frameBytes, or of too many parts: ${cause.message}`, { cause })
    : new FrameError('MALFORMED', `no WebSocket frame (RFC 6455, section 5): ${cause.message}`, { cause })
}
