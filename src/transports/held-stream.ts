/**
 * A listening stream socket that a supervisor holds for its workers: it accepts for them, or lets them accept.
 *
 * Room: transports. libuv cannot stop accepting on a socket without closing its descriptor, so there are two: one that is
 * polled, and can be closed and made again, and one that only holds the socket open. A second descriptor comes from a worker:
 * what is passed to another process and back is a copy (unix(7), SCM_RIGHTS).
 */
import { createServer, type Server, type Socket } from 'node:net'
import type { Endpoint } from '../core/endpoint.js'
import type { Source } from '../core/workers/distribution.js'
import { bindServer, guardErrors } from './stream-options.js'

/** Node's own: a native handle, closed when nobody needs it. */
export interface NativeHandle {
  close(): void
  readonly fd: number
}
type ServerWithHandle = Server & { readonly _handle: NativeHandle | null }

export type Copy = (handle: NativeHandle) => Promise<NativeHandle>

export interface HeldStreamParts {
  /** With the port really bound. */
  readonly endpoint: Endpoint
  /** Bound, listening and paused on connect. */
  readonly servers: readonly Server[]
  readonly backlog: number
  /** Its descriptor must not be closed before the end. */
  readonly isFixed?: boolean
  /** Somebody in this process takes its connections, until `release`. */
  readonly isLent?: boolean
  accepted(socket: Socket, held: HeldStream): void
  failed(error: Error): void
  /** Around the closing of everything, at its very end. */
  closing?(close: () => void): void
}

interface Part {
  server: Server | undefined
  holder: NativeHandle | undefined
}

export class HeldStream implements Source {
  readonly endpoint: Endpoint
  readonly #parts: HeldStreamParts
  readonly #sockets: Part[]
  /** Who wants it stopped: the distribution, an operator, workers that accept themselves. */
  readonly #stops = new Set<string>()
  #copy: Copy | undefined
  #isClosed = false
  #isOpening = false
  #isLent: boolean

  constructor(parts: HeldStreamParts) {
    this.#parts = parts
    this.endpoint = parts.endpoint
    this.#isLent = parts.isLent ?? false
    this.#sockets = parts.servers.map((server) => ({
      server: this.#isLent ? server : this.#watch(server),
      holder: undefined,
    }))
  }

  /** Descriptors, for a program that takes over. */
  get descriptors(): readonly number[] {
    return this.#sockets.map(({ server, holder }) => holder?.fd ?? (server as ServerWithHandle)._handle?.fd ?? -1)
  }

  /** Gets the descriptor that holds it; only then can it be stopped. @throws when the worker is gone. */
  async hold(copy: Copy): Promise<void> {
    this.#copy = copy
    if (this.#parts.isFixed) return
    for (const socket of this.#sockets) {
      const handle = (socket.server as ServerWithHandle | undefined)?._handle
      if (socket.holder === undefined && handle) socket.holder = await copy(handle)
    }
    this.#settle()
  }

  /** Whoever it was lent to has closed, or will close, what was polled; from now on it is polled here. */
  release(): void {
    if (!this.#isLent) return
    this.#isLent = false
    for (const socket of this.#sockets) if (socket.holder !== undefined) socket.server = undefined
    this.#settle()
  }

  /** For a worker that accepts for itself. */
  handles(): readonly NativeHandle[] {
    return this.#sockets.flatMap(({ holder }) => (holder === undefined ? [] : [holder]))
  }

  set copier(copy: Copy | undefined) {
    this.#copy = copy
    this.#settle()
  }

  stop(why = 'full'): void {
    this.#stops.add(why)
    this.#settle()
  }

  go(why = 'full'): void {
    this.#stops.delete(why)
    this.#settle()
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    const close = () => {
      for (const { server, holder } of this.#sockets) {
        server?.close()
        holder?.close()
      }
    }
    if (this.#parts.closing === undefined) close()
    else this.#parts.closing(close)
  }

  /** Closes what is polled, or opens it again by way of a worker. */
  #settle(): void {
    if (this.#isClosed || this.#isLent) return
    if (this.#stops.size > 0) {
      for (const socket of this.#sockets) {
        if (socket.holder === undefined) continue
        socket.server?.close()
        socket.server = undefined
      }
    } else if (!this.#isOpening && this.#sockets.some(({ server }) => server === undefined)) void this.#open()
  }

  async #open(): Promise<void> {
    this.#isOpening = true
    let asked: Copy | undefined
    try {
      for (const socket of this.#sockets) {
        if (socket.server !== undefined || socket.holder === undefined) continue
        const copy = this.#copy
        // Nobody is there to take connections: the kernel keeps them until a worker comes.
        if (copy === undefined) return
        asked = copy
        const handle = await copy(socket.holder)
        if (this.#isClosed || this.#stops.size > 0) {
          handle.close()
          return
        }
        const server = createServer({ pauseOnConnect: true, allowHalfOpen: true })
        await bindServer(server, { _handle: handle, backlog: this.#parts.backlog } as never)
        socket.server = this.#watch(server)
      }
    } catch {
      // That worker went meanwhile; the next one that comes is asked.
    } finally {
      this.#isOpening = false
      if (this.#isClosed) for (const { server } of this.#sockets) server?.close()
      // Another worker has come while the one that was asked went.
      else if (this.#stops.size > 0 || (this.#copy !== undefined && this.#copy !== asked)) this.#settle()
    }
  }

  #watch(server: Server): Server {
    server.on('connection', (socket) => {
      guardErrors(socket)
      // Node would count it, and ask the workers when the server closes; we count ourselves.
      ;(socket as Socket & { server: unknown }).server = null
      this.#parts.accepted(socket, this)
    })
    server.on('error', (error) => this.#parts.failed(error))
    return server
  }
}
