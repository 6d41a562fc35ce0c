/**
 * Accepting: what TCP, TLS and Unix listeners share. Sockets come in, are held back in a pause, and go on to `serve`.
 *
 * Room: transports.
 */
import { createServer, type ListenOptions, type Server, type ServerOpts, type Socket } from 'node:net'
import type { Endpoint } from '../core/endpoint.js'
import { AcceptError } from '../core/errors.js'
import type { LinkSink, Listener } from '../core/transport.js'
import { descriptors } from './descriptors.js'
import { translateBind } from './platform-errors.js'
import { reset } from './stream-link.js'

export interface StreamListenerOptions {
  readonly sink: LinkSink
  readonly backlog: number
  readonly server: ServerOpts
  /** Makes a link of an accepted socket. */
  serve(socket: Socket): void
  /** The address is free. */
  unbound?(): void
}

export class StreamListener implements Listener {
  endpoint: Endpoint
  readonly #options: StreamListenerOptions
  readonly #servers: Server[] = []
  /** Accepted in a pause, unread; the kernel would have held them too, but Node cannot stop accepting. */
  readonly #held = new Set<Socket>()
  #isPaused = false
  #unbinding: Promise<void> | undefined

  constructor(endpoint: Endpoint, options: StreamListenerOptions) {
    this.endpoint = endpoint
    this.#options = options
  }

  /** Binds one address more. @throws {BindError} translated; what was bound before stays until `unbind`. */
  async bind(where: ListenOptions): Promise<Server> {
    const server = createServer({ allowHalfOpen: true, highWaterMark: 64 * 1024, ...this.#options.server })
    server.on('connection', (socket) => this.#accept(socket))
    await new Promise<void>((resolve, reject) => {
      const fail = (error: Error) => reject(translateBind(error, this.endpoint))
      server.once('error', fail)
      server.listen({ ...where, backlog: this.#options.backlog }, () => {
        server.removeListener('error', fail)
        resolve()
      })
    })
    server.on('error', (error) => {
      this.#options.sink.fault?.(new AcceptError('ACCEPT_FAILED', `accepting at ${this.endpoint} failed: ${error.message}`, { cause: error }))
    })
    this.#servers.push(server)
    return server
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    if (!this.#isPaused || this.#unbinding !== undefined) return
    this.#isPaused = false
    for (const socket of this.#held) {
      // The next one may have filled the listener again.
      if (this.#isPaused) return
      this.#held.delete(socket)
      socket.removeListener('error', ignore)
      if (!socket.destroyed) this.#options.serve(socket)
    }
  }

  unbind(): Promise<void> {
    this.#unbinding ??= this.#unbind()
    return this.#unbinding
  }

  async #unbind(): Promise<void> {
    // Peers whose connection the kernel has completed are served, not reset: they are accepted in these turns.
    if (!this.#isPaused) for (let turn = 0; turn < 2; turn++) await nextTurn()
    this.#isPaused = true
    for (const socket of this.#held) reset(socket)
    this.#held.clear()
    for (const server of this.#servers) if (server.listening) server.close()
    // close() waits for connections in its callback, but closes the descriptor at once.
    await nextTurn()
    this.#options.unbound?.()
  }

  #accept(socket: Socket): void {
    if (!descriptors.admit(this.#options.sink)) {
      socket.on('error', ignore)
      socket.destroy()
      return
    }
    if (!this.#isPaused) return this.#options.serve(socket)
    socket.on('error', ignore)
    if (this.#unbinding !== undefined || this.#held.size >= this.#options.backlog) {
      reset(socket)
      return
    }
    socket.pause()
    this.#held.add(socket)
    socket.once('close', () => this.#held.delete(socket))
  }
}

const ignore = (): void => {}
const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
