/**
 * The listener of all stream transports: takes sockets from `net.Server`, holds them in a pause, opens the rest.
 *
 * Room: transports. What is done with a socket (a link at once, or a handshake first) is its caller's business.
 */
import type { Server, Socket } from 'node:net'
import type { Endpoint } from '../core/endpoint.js'
import { AcceptError } from '../core/errors.js'
import type { LinkSink, Listener } from '../core/transport.js'
import { descriptors } from './descriptors.js'
import { acceptError } from './platform-errors.js'
import { reset } from './reset.js'
import { isSpecific, knowAddresses } from './stream-link.js'
import { guardErrors } from './stream-options.js'

/** Told at most once a second each, so that a flood of refusals is no flood of faults. */
const FAULT_MS = 1_000
/**
 * unbind() lets the loop accept what the kernel has completed: two turns, more while newcomers come, but not for ever.
 */
const LAST_TURNS = 2
const MOST_LAST_TURNS = 64

export interface StreamListenerParts {
  readonly endpoint: Endpoint
  /** Listening already. */
  readonly servers: readonly Server[]
  readonly sink: LinkSink
  /** Newcomers held in a pause. */
  readonly backlog: number
  /** Takes a socket that was accepted. */
  accept(socket: Socket): void
  /** Reads certificates again. */
  reload?(): Promise<void>
  /** Shows another certificate to those who ask for a name. */
  readonly setCertificate?: Listener['setCertificate']
  /** Once it accepts no more. */
  unbound?(): void
  /** Runs in the same turn as the closing of the servers, around it. */
  closing?(close: () => void): void
}

export class StreamListener implements Listener {
  readonly endpoint: Endpoint
  readonly #parts: StreamListenerParts
  /** Sockets that wait in a pause, with what is to be done with each. */
  readonly #held = new Map<Socket, (socket: Socket) => void>()
  readonly #outOfDescriptors: Tally
  readonly #refused: Tally
  readonly #vanished: Tally
  readonly #forget: (this: Socket) => void
  /** Peers have addresses. */
  readonly #isAddressed: boolean
  /** The endpoint says which address they have connected to. */
  readonly #isSpecific: boolean
  #isPaused = false
  #isUnbinding = false
  #accepted = 0
  #unbound: Promise<void> | undefined

  constructor(parts: StreamListenerParts) {
    this.#parts = parts
    const { endpoint, sink, servers } = parts
    this.endpoint = endpoint
    this.#isAddressed = endpoint.host !== undefined
    this.#isSpecific = endpoint.host !== undefined && isSpecific(endpoint.host)
    const held = this.#held
    this.#forget = function () {
      held.delete(this)
    }
    this.#outOfDescriptors = new Tally((count) => {
      const { cap, open } = descriptors
      const message =
        `${endpoint}: ${count} newcomers refused: ${open} descriptors are open, the cap is ${cap}, 90 % of this ` +
        "process's limit; raise it (ulimit -n), or lower limits.connections"
      sink.fault?.(new AcceptError('OUT_OF_DESCRIPTORS', message, { endpoint, cap, open, count }))
    })
    this.#refused = new Tally((count) => {
      const message = `${endpoint}: ${count} newcomers refused in a pause: ${parts.backlog} wait (socket.backlog)`
      sink.fault?.(new AcceptError('ACCEPT_FAILED', message, { endpoint, backlog: parts.backlog, count }))
    })
    this.#vanished = new Tally((count) => {
      const message = `${endpoint}: ${count} newcomers were gone before they could be asked for their address`
      sink.fault?.(new AcceptError('UNKNOWN_ADDRESS', message, { endpoint, count }))
    })
    for (const server of servers) {
      server.on('connection', (socket) => this.#take(socket))
      server.on('error', (error) => sink.fault?.(acceptError(endpoint, error)))
      // Node counts for itself only where maxConnections is set, which we never do; told all the same.
      server.on('drop', () => this.#refused.add())
    }
  }

  pause(): void {
    this.#setPaused(true)
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#setPaused(false)
    const held = [...this.#held]
    this.#held.clear()
    // Not from within the caller's frame: a sink is never called re-entrantly.
    for (const [socket, proceed] of held) setImmediate(() => this.pass(socket, proceed))
  }

  async reload(): Promise<void> {
    await this.#parts.reload?.()
  }

  get setCertificate(): Listener['setCertificate'] {
    return this.#parts.setCertificate
  }

  unbind(): Promise<void> {
    this.#unbound ??= this.#unbind()
    return this.#unbound
  }

  /** Lets a socket go on, now or at the end of the pause. */
  pass(socket: Socket, proceed: (socket: Socket) => void): void {
    if (socket.destroyed) return
    if (!this.#isPaused) {
      socket.off('close', this.#forget)
      proceed(socket)
    } else if (this.#isUnbinding) this.#refuse(socket)
    else if (this.#held.size >= this.#parts.backlog) {
      this.#refused.add()
      this.#refuse(socket)
    } else {
      // One that dies meanwhile is dropped.
      if (!this.#held.has(socket)) socket.off('close', this.#forget).on('close', this.#forget)
      this.#held.set(socket, proceed)
    }
  }

  /** Sockets that are held are not read either: what their peers send stays with the kernel. */
  #setPaused(isPaused: boolean): void {
    this.#isPaused = isPaused
    for (const server of this.#parts.servers) (server as Server & { pauseOnConnect: boolean }).pauseOnConnect = isPaused
  }

  #take(socket: Socket): void {
    this.#accepted++
    guardErrors(socket)
    if (!descriptors.admit()) {
      descriptors.release()
      this.#refuse(socket)
      this.#outOfDescriptors.add()
      return
    }
    socket.on('close', released)
    // What it sent may still be there to be read, and nobody could tell who sent it.
    if (this.#isAddressed && !knowAddresses(socket, this.#isSpecific)) {
      socket.destroy()
      this.#vanished.add()
      return
    }
    if (this.#isPaused) this.pass(socket, this.#parts.accept)
    else this.#parts.accept(socket)
  }

  /** A refusal that looks like an orderly end would leave the peer waiting. */
  #refuse(socket: Socket): void {
    if (this.endpoint.host === undefined) socket.destroy()
    else reset(socket, socket)
  }

  async #unbind(): Promise<void> {
    let before = -1
    for (let turn = 0; !this.#isPaused && turn < MOST_LAST_TURNS; turn++) {
      if (turn >= LAST_TURNS && before === this.#accepted) break
      before = this.#accepted
      await nextTurn()
    }
    this.#isUnbinding = true
    this.#parts.unbound?.()
    for (const socket of this.#held.keys()) this.#refuse(socket)
    this.#held.clear()
    const close = () => {
      // The descriptor is closed at once (uv_close(3)); the server's own 'close' event waits for all its sockets.
      for (const server of this.#parts.servers) server.close()
    }
    if (this.#parts.closing === undefined) close()
    else this.#parts.closing(close)
    this.#outOfDescriptors.stop()
    this.#refused.stop()
    this.#vanished.stop()
    await nextTurn()
  }
}

/** Counts refusals and tells them at most once a second, the first at once. */
class Tally {
  readonly #tell: (count: number) => void
  #count = 0
  #timer: NodeJS.Timeout | undefined

  constructor(tell: (count: number) => void) {
    this.#tell = tell
  }

  add(): void {
    this.#count++
    if (this.#timer === undefined) this.#flush()
  }

  stop(): void {
    clearTimeout(this.#timer)
    if (this.#count > 0) this.#tell(this.#count)
    this.#count = 0
  }

  #flush(): void {
    if (this.#count === 0) {
      this.#timer = undefined
      return
    }
    const count = this.#count
    this.#count = 0
    this.#timer = setTimeout(() => this.#flush(), FAULT_MS)
    this.#timer.unref()
    this.#tell(count)
  }
}

function released(): void {
  descriptors.release()
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}
