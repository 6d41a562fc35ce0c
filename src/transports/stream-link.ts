/**
 * The link of all stream transports: one `net.Socket` or `tls.TLSSocket`, pushed into a sink.
 *
 * Room: transports. First step of the walk of a byte. Node allocates a fresh buffer for each read, so chunks go to the
 * sink as they are and may be kept. An idle link has no buffer, no timer and no closure of its own.
 */
import { isIPv4, type Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { Endpoint } from '../core/endpoint.js'
import { ConnectionError, HandshakeError, toError } from '../core/errors.js'
import { type FeatureToken, TLS, type TlsFacts } from '../core/feature.js'
import type { TlsOptions } from '../core/options.js'
import type { Arrived, Link } from '../core/transport.js'
import { linkError } from './platform-errors.js'
import { reset } from './reset.js'
import type { StreamScope } from './stream-scope.js'
import { tlsFacts } from './tls-facts.js'

// Whose socket this is: one property in place of a closure per event and link.
const LINK = Symbol('gaidaros.link')

// Our address, where its listener's endpoint does not say it.
const LOCAL = Symbol('gaidaros.local')

interface LinkedSocket extends Socket {
  [LOCAL]?: string | undefined
  [LINK]?: StreamLink | undefined
}

const ENDED = 1 // end() was called
const ABORTED = 2
const CLOSED = 4 // the sink was told
const HIGH = 8 // a write returned false; drain is owed
const PAUSED = 16
const SWITCHING = 32 // upgrade() is under way: writes wait
const LENT = 64 // somebody else reads the socket

const SILENT = ENDED | ABORTED | CLOSED
const GONE = ABORTED | CLOSED

let onData: (this: LinkedSocket, chunk: Buffer) => void
let onEnd: (this: LinkedSocket) => void
let onError: (this: LinkedSocket, error: Error) => void
let onClose: (this: LinkedSocket) => void

export class StreamLink implements Link {
  state: unknown = undefined
  readonly arrived: Arrived | undefined
  #scope: StreamScope
  #socket: LinkedSocket
  /** The socket beneath, where `#socket` is a TLS one. */
  #raw: LinkedSocket | undefined
  #flags = 0
  #error: Error | undefined = undefined
  #onWritten: ((error?: Error | null) => void) | undefined = undefined
  #local: Endpoint | undefined = undefined
  #remote: Endpoint | undefined = undefined
  #facts: TlsFacts | undefined = undefined
  /** What was written while the link switched to TLS. */
  #waiting: Uint8Array[] | undefined = undefined

  /** @param arrived - Its place, where it had a handshake before it was a link. */
  constructor(socket: Socket, raw: Socket | undefined, scope: StreamScope, arrived?: Arrived) {
    this.arrived = arrived
    this.#scope = scope
    this.#socket = socket
    this.#raw = raw
  }

  /** Tells the sink, then begins to read: nothing is delivered before `open` has had its say. */
  open(): void {
    const socket = this.#socket
    socket[LINK] = this
    socket.on('error', onError)
    socket.on('close', onClose)
    try {
      this.#scope.sink.open(this)
    } catch (thrown) {
      this.abort(toError(thrown))
    }
    this.#read()
  }

  get stable(): true {
    return true
  }

  get buffered(): number {
    if (this.#flags & GONE) return 0
    const { writableLength } = this.#socket
    const unsent = writableLength === 0 ? 0 : writableLength - sentOf(this.#socket)
    return this.#waiting === undefined
      ? unsent
      : this.#waiting.reduce((sum, { byteLength }) => sum + byteLength, unsent)
  }

  /** Made when first read. */
  get local(): Endpoint | undefined {
    this.#local ??= localOf(this.#raw ?? this.#socket, this.#scope)
    return this.#local
  }

  /** Made when first read; undefined for peers of Unix sockets, who have no name. */
  get remote(): Endpoint | undefined {
    if (this.#remote === undefined) {
      const { scheme, side, endpoint } = this.#scope
      const isConnected = side === 'connected'
      if (endpoint.host === undefined) this.#remote = isConnected ? endpoint : undefined
      // Dialled, and closed before anybody asked.
      else this.#remote = remoteOf(this.#raw ?? this.#socket, scheme) ?? (isConnected ? endpoint : undefined)
    }
    return this.#remote
  }

  write(bytes: Uint8Array): boolean {
    const flags = this.#flags
    if (flags & (SILENT | SWITCHING | HIGH)) return this.#writeOtherwise(bytes)
    const socket = this.#socket
    if (socket.writableLength + bytes.byteLength < this.#scope.writeHighBytes) {
      return socket.write(bytes) || this.#isAlive()
    }
    socket.write(bytes, this.#watch())
    return this.#mayGoOn()
  }

  writeText(text: string): boolean {
    const flags = this.#flags
    if (flags & (SILENT | SWITCHING | HIGH)) return this.#writeOtherwise(Buffer.from(text))
    const socket = this.#socket
    // No character takes more than three bytes of UTF-8 for each of its UTF-16 units.
    if (socket.writableLength + text.length * 3 < this.#scope.writeHighBytes) {
      // What is ASCII is the same in Latin-1, which Node copies without looking at each character.
      return socket.write(text, Buffer.byteLength(text) === text.length ? 'latin1' : 'utf8') || this.#isAlive()
    }
    return this.write(Buffer.from(text))
  }

  /** One gathering write (writev(2)) for all pieces. */
  writeMany(pieces: readonly Uint8Array[]): boolean {
    const socket = this.#socket
    const wasHigh = (this.#flags & HIGH) !== 0
    let mayGoOn = true
    socket.cork()
    for (const piece of pieces) mayGoOn = this.write(piece)
    socket.uncork()
    if (mayGoOn || wasHigh || this.#flags & (SILENT | SWITCHING)) return mayGoOn
    // Counted while they were corked; now they may have gone, and then no drain is owed.
    if (socket.writableLength > this.#scope.writeLowBytes) return false
    this.#flags &= ~HIGH
    return this.#isAlive()
  }

  pause(): void {
    this.#flags |= PAUSED
    if (!(this.#flags & (GONE | SWITCHING))) this.#socket.pause()
  }

  resume(): void {
    this.#flags &= ~PAUSED
    if (!(this.#flags & (GONE | SWITCHING))) this.#socket.resume()
  }

  /** Node puts them in front of what it has read and not delivered; a TLS socket above reads them first. */
  unread(bytes: Uint8Array): void {
    if (!(this.#flags & GONE)) this.#socket.unshift(bytes)
  }

  end(): void {
    if (this.#flags & SILENT) return
    this.#flags |= ENDED
    // What waits for the handshake is sent after it, and then the end.
    if (!(this.#flags & SWITCHING)) this.#socket.end()
  }

  abort(reason?: Error): void {
    if (this.#flags & GONE) return
    this.#flags |= ABORTED
    this.#error ??= reason
    this.#waiting = undefined
    this.#destroy()
  }

  close(): void {
    if (!(this.#flags & ENDED) || !this.#socket.writableFinished) return this.abort()
    if (this.#flags & GONE) return
    this.#flags |= ABORTED
    const raw = this.#raw ?? this.#socket
    raw.destroy()
  }

  feature<T>(token: FeatureToken<T>): T | undefined {
    if (token.feature !== TLS.feature || this.#raw === undefined) return undefined
    if (this.#facts === undefined && !this.#socket.destroyed) this.#facts = tlsFacts(this.#socket as TLSSocket)
    return this.#facts as T | undefined
  }

  /**
   * Switches to TLS, on either side. What was written before goes out plain; what is written from now on waits for the
   * handshake.
   *
   * @param options - TlsOptions, key by key above the listener's (or the client's) `tls`.
   * @throws {HandshakeError} the handshake failed, or took longer than `timeouts.handshakeMs`. Reach: this link; it
   * closes.
   * @throws {ConfigError} `BAD_VALUE`: a certificate or key that cannot be used. The link closes.
   * @throws {ConnectionError} `NOT_SUPPORTED` (another layer, or TLS already), `CLOSED`.
   */
  async upgrade(layer: string, options?: unknown): Promise<void> {
    const { scheme, side, endpoint, handshakeMs, tls } = this.#scope
    if (layer !== 'tls' || this.#raw !== undefined || this.#flags & SWITCHING) {
      const why = layer === 'tls' ? 'it speaks TLS already' : 'it can upgrade to tls only'
      throw new ConnectionError('NOT_SUPPORTED', `a link of ${scheme} cannot upgrade to ${layer}: ${why}`)
    }
    if (this.#flags & SILENT) throw new ConnectionError('CLOSED', 'a link that has ended cannot upgrade to tls')
    const raw = this.#socket
    this.#flags |= SWITCHING
    raw.pause()
    raw.off('data', onData).off('end', onEnd)
    try {
      // TLS is loaded by those who use it.
      const { upgradeToTls } = await import('./tls-upgrade.js')
      const secured = await upgradeToTls(raw, side, endpoint, options as TlsOptions | undefined, tls, handshakeMs)
      this.#switchTo(secured)
    } catch (thrown) {
      const error = toError(thrown)
      this.#flags &= ~SWITCHING
      this.abort(error)
      if (raw.closed) this.#finish()
      throw error
    }
  }

  lend(): Socket | undefined {
    if (this.#flags & (SILENT | SWITCHING | HIGH | PAUSED)) return undefined
    const socket = this.#socket
    this.#flags |= LENT
    socket.off('data', onData).off('end', onEnd)
    // Held by its listener in a pause: it goes on when the borrower has taken its place.
    if (socket.isPaused()) process.nextTick(() => socket.resume())
    return socket
  }

  /** Gives the socket back, paused, with what was given back to it. From now on this link tells nobody anything. */
  release(): Socket {
    const socket = this.#socket
    socket.pause()
    socket.off('data', onData).off('end', onEnd).off('error', onError).off('close', onClose)
    socket[LINK] = undefined
    this.#flags |= CLOSED
    return socket
  }

  // -- inside --------------------------------------------------------------------------------------------------------

  #read(): void {
    if (this.#flags & (GONE | LENT)) return
    const socket = this.#socket
    socket.on('data', onData)
    socket.on('end', onEnd)
    // Held by its listener in a pause: then a listener for 'data' alone does not set it going.
    if (!(this.#flags & PAUSED) && socket.isPaused()) socket.resume()
  }

  #switchTo(secured: TLSSocket): void {
    if (this.#flags & GONE) {
      secured.destroy()
      throw this.#error ?? new HandshakeError('HANDSHAKE_FAILED', 'the link was closed during the handshake')
    }
    const raw = this.#socket
    raw[LINK] = undefined
    raw.off('close', onClose)
    this.#raw = raw
    const socket: LinkedSocket = secured
    this.#socket = socket
    this.#flags &= ~SWITCHING
    socket[LINK] = this
    socket.on('error', onError)
    socket.on('close', onClose)
    if (this.#flags & PAUSED) socket.pause()
    this.#read()
    const waiting = this.#waiting
    this.#waiting = undefined
    if (this.#flags & HIGH) setImmediate(this.#watch())
    if (waiting !== undefined) for (const bytes of waiting) socket.write(bytes, this.#watch())
    if (this.#flags & ENDED) socket.end()
  }

  #writeOtherwise(bytes: Uint8Array): boolean {
    if (this.#flags & SILENT) return true
    if (this.#flags & SWITCHING) {
      this.#waiting ??= []
      this.#waiting.push(bytes)
      if (this.buffered >= this.#scope.writeHighBytes) this.#flags |= HIGH
      return !(this.#flags & HIGH)
    }
    // Node would make an error for each.
    if (!this.#socket.destroyed) this.#socket.write(bytes, this.#watch())
    return false
  }

  /** Node's own `drain` comes only when nothing waits any more; so writes near the mark tell when they have gone. */
  #watch(): (error?: Error | null) => void {
    this.#onWritten ??= (error) => {
      // Failed writes have gone as well, but nothing more is to be said to this peer; its close is on the way.
      if (error) return
      if (!(this.#flags & HIGH) || this.#flags & (GONE | SWITCHING)) return
      if (this.#socket.writableLength > this.#scope.writeLowBytes) return
      this.#flags &= ~HIGH
      this.#tell('drain')
    }
    return this.#onWritten
  }

  /** A failed write destroys the socket turns before it tells: a burst of requests would all be answered meanwhile, to nobody. */
  #isAlive(): boolean {
    if (!this.#socket.destroyed) return true
    this.#flags |= HIGH
    return false
  }

  #mayGoOn(): boolean {
    if (this.#socket.writableLength < this.#scope.writeHighBytes) return this.#isAlive()
    this.#flags |= HIGH
    return false
  }

  #destroy(): void {
    const socket = this.#socket
    // The TLS socket above goes when the raw one has closed. To destroy both here frees OpenSSL's state while it may be
    // at work beneath us, inside the handshake's or a read's callback: Node 20 crashes.
    const raw = this.#raw ?? socket
    if (this.#scope.canReset) reset(raw, socket)
    else raw.destroy()
  }

  /**
   * Tells a reset that looks like an orderly end: libuv takes a hang-up behind a short read for the end of the file
   * without asking (uv__stream_io), and Node drops the error of TLS's own writes. A write of nothing asks the kernel:
   * send(2) on a socket that was reset fails.
   */
  #wasReset(): boolean {
    if (!this.#scope.canReset || this.#flags & ENDED) return false
    const raw = this.#raw ?? this.#socket
    raw.write('')
    if (raw.errored === null || raw.errored === undefined) return false
    this.abort(linkError(raw.errored, this.#remote))
    return true
  }

  #tell(what: 'end' | 'drain'): void {
    try {
      this.#scope.sink[what](this)
    } catch (thrown) {
      this.abort(toError(thrown))
    }
  }

  #finish(): void {
    if (this.#flags & CLOSED) return
    this.#flags |= CLOSED
    this.#waiting = undefined
    this.#scope.sink.close(this, this.#error)
  }

  // Functions of the socket, shared by all links; here because they look into links.
  static {
    onData = function (chunk) {
      const link = this[LINK] as StreamLink
      // What Node had read already is still delivered after a destroy.
      if (link.#flags & GONE) return
      try {
        link.#scope.sink.data(link, chunk, 0, chunk.length)
      } catch (thrown) {
        link.abort(toError(thrown))
      }
    }

    onEnd = function () {
      const link = this[LINK] as StreamLink
      if (!(link.#flags & GONE) && !link.#wasReset()) link.#tell('end')
    }

    onError = function (error) {
      const link = this[LINK]
      if (link === undefined || link.#flags & GONE) return
      link.#error ??= linkError(error, link.#remote)
      // Until its close nothing more is asked to be sent: no drain comes.
      link.#flags |= HIGH
      this.destroy()
    }

    onClose = function () {
      const link = this[LINK] as StreamLink
      // Then upgrade() finishes it, which knows why.
      if (!(link.#flags & SWITCHING)) link.#finish()
    }
  }
}

/** Our side of a socket; after its close as it was known at the accept (see knowAddresses). */
export function localOf(socket: Socket, { scheme, side, endpoint }: StreamScope): Endpoint | undefined {
  const isAccepted = side === 'accepted'
  if (endpoint.host === undefined) return isAccepted ? endpoint : undefined
  const { localAddress, localPort } = socket
  if (localAddress !== undefined) return new Endpoint({ scheme, host: localAddress, port: localPort })
  if (!isAccepted) return undefined
  const host = (socket as LinkedSocket)[LOCAL] ?? (isSpecific(endpoint.host) ? endpoint.host : undefined)
  return host === undefined ? undefined : new Endpoint({ scheme, host, port: endpoint.port })
}

/**
 * Asks an accepted TCP socket for its addresses while there is somebody to ask: the kernel forgets the peer's with a reset
 * (getpeername(2), ENOTCONN). Node keeps what it was told of the peer, and forgets our side with the close.
 *
 * @param isOurSideKnown - From the endpoint that it came by (isSpecific).
 * @returns false: its peer has gone.
 */
export function knowAddresses(socket: Socket, isOurSideKnown: boolean): boolean {
  if (socket.remoteAddress === undefined) return false
  if (!isOurSideKnown) (socket as LinkedSocket)[LOCAL] = socket.localAddress
  return true
}

/** Whoever connects to this endpoint has connected to this very address, written so. */
export function isSpecific(host: string): boolean {
  return isIPv4(host) && host !== '0.0.0.0'
}

interface StreamInternals {
  /** Bytes of the write that is under way, whole: Node counts them out when the last of them has gone. */
  readonly _writableState?: { readonly writelen?: number }
  /** What of it libuv has not handed to the kernel (uv_stream_get_write_queue_size); Node's own timeouts look at it as well. */
  readonly _handle?: { readonly writeQueueSize?: number } | null
}

/** How much of the write that is under way has gone: a large one to a slow peer takes its time, and must not look stuck. */
function sentOf(socket: Socket): number {
  const { _writableState, _handle } = socket as unknown as StreamInternals
  const queued = _handle?.writeQueueSize
  const writing = _writableState?.writelen
  return queued === undefined || writing === undefined || writing <= queued ? 0 : writing - queued
}

/** The peer of a TCP socket; undefined after its close, unless it was asked for before. */
export function remoteOf({ remoteAddress: host, remotePort: port }: Socket, scheme: string): Endpoint | undefined {
  return host === undefined ? undefined : new Endpoint({ scheme, host, port })
}
