/**
 * A link over a Node stream socket: what TCP, TLS and Unix sockets share.
 *
 * Room: transports. The listeners of the socket's events are shared functions that find their link through one property of
 * the socket, so a connection costs one object and no closure.
 */
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { Endpoint } from '../core/endpoint.js'
import { ConnectionError } from '../core/errors.js'
import { TLS, type FeatureToken, type TlsFacts } from '../core/feature.js'
import { defaultLimits } from '../core/options.js'
import type { Link, LinkSink, TransportOptions } from '../core/transport.js'
import { translate } from './platform-errors.js'
import { factsOf } from './tls-facts.js'

const NOTHING = Buffer.alloc(0)
const LINK = Symbol('gaidaros.link')
type Linked = Socket & { [LINK]?: StreamLink }

/** Switches a link's socket to TLS; set by the transport, because only it knows the listener's certificates. */
export type Upgrade = (link: StreamLink, options: unknown) => Promise<void>

export class StreamLink implements Link {
  state: unknown = undefined
  /** Node allocates each chunk anew. */
  readonly stable = true
  readonly scheme: string
  socket: Socket
  readonly #sink: LinkSink
  readonly #high: number
  readonly #low: number
  readonly #upgrade: Upgrade | undefined
  #isOver = false
  #isOpened = false
  #hasEnded = false
  #isClosed = false
  #error: Error | undefined

  constructor(socket: Socket, scheme: string, sink: LinkSink, options: TransportOptions, upgrade?: Upgrade) {
    this.socket = socket
    this.scheme = scheme
    this.#sink = sink
    this.#high = options.limits?.writeHighBytes ?? defaultLimits.writeHighBytes
    this.#low = options.limits?.writeLowBytes ?? defaultLimits.writeLowBytes
    this.#upgrade = upgrade
  }

  /** Begins to deliver. */
  open(): void {
    this.attach(this.socket)
    this.#isOpened = true
    this.#sink.open(this)
  }

  /** Takes over a socket's events; an upgrade calls it again with the new socket. */
  attach(socket: Socket): void {
    const linked = socket as Linked
    linked[LINK] = this
    this.socket = socket
    linked.on('data', onData)
    linked.on('end', onEnd)
    linked.on('error', onError)
    linked.on('close', onClose)
  }

  /** Lets go of the socket, so that another can be put over it; its errors stay harmless. */
  detach(): Socket {
    const { socket } = this
    socket.removeListener('data', onData)
    socket.removeListener('end', onEnd)
    socket.removeListener('close', onClose)
    return socket
  }

  get local(): Endpoint | undefined {
    const { localAddress: host, localPort: port } = this.socket
    return host === undefined ? undefined : new Endpoint({ scheme: this.scheme, host, port })
  }
  get remote(): Endpoint | undefined {
    const { remoteAddress: host, remotePort: port } = this.socket
    if (host === undefined) return undefined
    // Asked for after the close too (logs, counts by source), when Node has forgotten it.
    this.#remote ??= new Endpoint({ scheme: this.scheme, host, port })
    return this.#remote
  }
  #remote: Endpoint | undefined

  get buffered(): number {
    return this.socket.writableLength
  }

  feature<T>(token: FeatureToken<T>): T | undefined {
    if (token.feature !== TLS.feature || !('getPeerCertificate' in this.socket)) return undefined
    this.#facts ??= factsOf(this.socket as TLSSocket)
    return this.#facts as T
  }
  #facts: TlsFacts | undefined

  write(bytes: Uint8Array): boolean {
    if (this.#hasEnded || this.#isClosed) return true
    if (this.#isOver) return this.#writeOver(bytes)
    this.socket.write(bytes)
    return this.socket.writableLength <= this.#high || this.#overHigh()
  }

  writeText(text: string): boolean {
    if (this.#hasEnded || this.#isClosed) return true
    if (this.#isOver) return this.#writeOver(text)
    this.socket.write(text, 'utf8')
    return this.socket.writableLength <= this.#high || this.#overHigh()
  }

  writeMany(pieces: readonly Uint8Array[]): boolean {
    if (this.#hasEnded || this.#isClosed) return true
    this.socket.cork()
    for (const piece of pieces) this.socket.write(piece)
    this.socket.uncork()
    if (this.#isOver) return this.#writeOver(NOTHING)
    return this.socket.writableLength <= this.#high || this.#overHigh()
  }

  /** Over the high mark. Node's `drain` comes when everything is sent; ours at the low mark, from the callbacks of writes. */
  #overHigh(): boolean {
    this.#isOver = true
    this.#writeOver(NOTHING)
    return false
  }

  #writeOver(data: Uint8Array | string): boolean {
    this.#checkLow ??= () => {
      if (this.#isOver && this.socket.writableLength <= this.#low) this.#drained()
    }
    this.socket.write(data as string, this.#checkLow)
    return false
  }
  /** Made for peers that were slow once; most never are. */
  #checkLow: (() => void) | undefined

  #drained(): void {
    if (this.#isClosed) return
    this.#isOver = false
    this.#sink.drain(this)
  }

  pause(): void {
    this.socket.pause()
  }
  resume(): void {
    if (!this.#isClosed) this.socket.resume()
  }

  end(): void {
    if (this.#hasEnded || this.#isClosed) return
    this.#hasEnded = true
    this.socket.end()
  }

  abort(): void {
    if (this.#isClosed || this.socket.destroyed) return
    this.#hasEnded = true
    reset(this.socket)
  }

  async upgrade(_layer: string, options: unknown): Promise<void> {
    if (this.#upgrade === undefined) throw new ConnectionError('NOT_SUPPORTED', `${this.scheme} cannot be upgraded`)
    await this.#upgrade(this, options)
    this.#facts = undefined
  }

  // ── from the socket ──

  received(chunk: Buffer): void {
    this.#sink.data(this, chunk, 0, chunk.length)
  }
  ended(): void {
    this.#sink.end(this)
  }
  failed(error: Error): void {
    this.#error ??= error
  }
  closed(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    if (this.#isOpened) this.#sink.close(this, this.#error === undefined ? undefined : translate(this.#error))
  }
}

function onData(this: Linked, chunk: Buffer): void {
  this[LINK]?.received(chunk)
}
function onEnd(this: Linked): void {
  this[LINK]?.ended()
}
function onError(this: Linked, error: Error): void {
  this[LINK]?.failed(error)
}
function onClose(this: Linked): void {
  this[LINK]?.closed()
}

/** Ends a socket now: a reset where the kernel has one (TCP), else both sides closed. */
export function reset(socket: Socket): void {
  // Beneath TLS lies the TCP socket; resetting the outer one would try to be polite first.
  const below = (socket as { _parent?: Socket })._parent
  if (below instanceof Object && typeof below.resetAndDestroy === 'function') {
    resetOne(below)
    socket.destroy()
    return
  }
  resetOne(socket)
}

function resetOne(socket: Socket): void {
  if (socket.remoteAddress !== undefined) socket.resetAndDestroy()
  else socket.destroy()
}
