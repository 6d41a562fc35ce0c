/**
 * A connection as a Node Duplex, for libraries that want one.
 *
 * Room: core, mechanism of the session (`connection.stream()`). It stands in the hot path of HTTP: no promise a write, text
 * stays text, and what a library asks of a socket is looked up when it asks.
 */
import { Duplex } from 'node:stream'
import type { Connection } from './connection.js'
import { TLS } from './feature.js'

/** How the stream reaches its connection. */
export interface DuplexPorts {
  /** @returns undefined when more may be written at once. */
  write(piece: Uint8Array | string): Promise<void> | undefined
  end(): void
  abort(error: Error | undefined): void
  pause(): void
  resume(): void
}

type Done = (error?: Error | null) => void

/** What libraries for sockets expect of one, besides a stream: addresses, and switches that are the transport's here. */
export class ConnectionStream extends Duplex {
  readonly connection: Connection
  #ports: DuplexPorts
  #isClosed = false

  constructor(connection: Connection, ports: DuplexPorts) {
    super({ allowHalfOpen: true, decodeStrings: false })
    this.connection = connection
    this.#ports = ports
  }

  get remoteAddress(): string | undefined {
    return this.connection.remote?.host
  }
  get remotePort(): number | undefined {
    return this.connection.remote?.port
  }
  get remoteFamily(): string | undefined {
    const { remoteAddress } = this
    return remoteAddress === undefined ? undefined : remoteAddress.includes(':') ? 'IPv6' : 'IPv4'
  }
  get localAddress(): string | undefined {
    return this.connection.local?.host
  }
  get localPort(): number | undefined {
    return this.connection.local?.port
  }
  get encrypted(): boolean {
    return this.connection.feature(TLS) !== undefined
  }
  /** @internal What is written passes an ear from now on. @returns what ends it. */
  overhear(ear: (piece: Uint8Array | string) => void): () => void {
    const ports = this.#ports
    this.#ports = {
      ...ports,
      write(piece) {
        ear(piece)
        return ports.write(piece)
      },
    }
    return () => {
      this.#ports = ports
    }
  }
  setTimeout(): this {
    return this
  }
  setNoDelay(): this {
    return this
  }
  setKeepAlive(): this {
    return this
  }
  ref(): this {
    return this
  }
  unref(): this {
    return this
  }

  /** Node's HTTP server ends each connection twice; the second time an error would be made that nobody is told. */
  override end(...given: unknown[]): this {
    if (this.writableEnded && given.length === 0) return this
    return super.end(...(given as []))
  }

  override _read(): void {
    this.#ports.resume()
  }

  override _write(chunk: Uint8Array | string, encoding: BufferEncoding, done: Done): void {
    this.#settle(this.#ports.write(pieceOf(chunk, encoding)), done)
  }

  /** What was corked leaves in one write all the same: the connection gathers it. */
  override _writev(chunks: { chunk: Uint8Array | string; encoding: BufferEncoding }[], done: Done): void {
    let waiting: Promise<void> | undefined
    for (const { chunk, encoding } of chunks) waiting = this.#ports.write(pieceOf(chunk, encoding))
    this.#settle(waiting, done)
  }

  override _final(done: Done): void {
    this.#ports.end()
    done()
  }

  override _destroy(error: Error | null, done: Done): void {
    // Both sides have finished: the link closes in order, by itself.
    const isOver = error === null && this.writableFinished && this.readableEnded
    if (!this.#isClosed && !isOver) this.#ports.abort(error ?? undefined)
    done(error)
  }

  // -- the connection's side -----------------------------------------------------------------------------------------

  /** @internal */
  feed(bytes: Buffer): void {
    if (!this.push(bytes)) this.#ports.pause()
  }
  /** @internal The peer finished. */
  feedEnd(): void {
    this.push(null)
  }
  /** @internal The link is gone. */
  feedClose(error: Error | undefined): void {
    this.#isClosed = true
    if (error !== undefined) this.destroy(error)
    else if (!this.readableEnded) this.push(null)
  }

  #settle(waiting: Promise<void> | undefined, done: Done): void {
    if (waiting === undefined) done()
    else waiting.then(() => done(), done)
  }
}

/** Text that is the same in UTF-8 stays text: the transport encodes a turn's worth at once. */
function pieceOf(chunk: Uint8Array | string, encoding: BufferEncoding): Uint8Array | string {
  if (typeof chunk !== 'string') return chunk
  if (encoding === 'utf8' || encoding === 'utf-8') return chunk
  const isAscii = (encoding === 'latin1' || encoding === 'binary') && Buffer.byteLength(chunk) === chunk.length
  return isAscii ? chunk : Buffer.from(chunk, encoding)
}
