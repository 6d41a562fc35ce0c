/**
 * One peer of a datagram socket: of a listener's, which it shares with others, or a connected one of its own.
 *
 * Room: transports. Each datagram in is one `data`, each `write` one datagram out. UDP has no back-pressure: a paused
 * link holds a few datagrams, and loses and counts the rest.
 */
import type { Socket } from 'node:dgram'
import { Endpoint } from '../core/endpoint.js'
import { toError } from '../core/errors.js'
import type { Link, LinkSink } from '../core/transport.js'
import type { DatagramLosses } from './datagram-losses.js'
import type { DatagramPeer } from './datagram-peers.js'
import { codeOf, linkError } from './udp-errors.js'
import type { UdpPacer } from './udp-pacer.js'
import { mostBytes } from './udp-socket.js'

/** A paused link keeps up to 64 datagrams and 64 KiB of them; one is always kept. */
const HOLD_DATAGRAMS = 64
const HOLD_BYTES = 64 * 1024

/** Whoever owns the socket of a link: the listener, or the client side. */
export interface UdpLinkOwner {
  readonly sink: LinkSink
  readonly losses: DatagramLosses
  /** Of one message, as declared for the endpoint. */
  readonly mostBytes: number
  readonly writeHighBytes: number
  readonly writeLowBytes: number
  /** Undefined: as fast as they come. */
  readonly pacer: UdpPacer | undefined
  /** The link takes no more datagrams: the peer's next one opens another. Called once, maybe from inside the link. */
  forget(link: UdpLink): void
  /** `sink.close` has returned. */
  closed(link: UdpLink): void
}

export class UdpLink implements Link, DatagramPeer {
  state: unknown = undefined
  address: string
  port: number
  local: Endpoint
  readonly key: string | undefined
  heardAt = 0
  newer: this | undefined = undefined
  older: this | undefined = undefined
  /** In bytes. Sends finish in order, so the count is exact whenever the last one has. */
  buffered = 0

  readonly #owner: UdpLinkOwner
  #socket: Socket
  readonly #isConnected: boolean
  readonly #mostBytes: number
  /** One for all sends of this link, made with the first. */
  #onSent: ((error: Error | null, bytes?: number) => void) | undefined = undefined
  #sending = 0
  #wantsDrain = false
  #isPaused = false
  #held: Buffer[] | undefined = undefined
  #heldBytes = 0
  #isDeliveryDue = false
  /** Ended, aborted or closed: nothing goes in or out any more. */
  #isOver = false
  #isClosing = false
  #isClosed = false
  #closeError: Error | undefined = undefined
  #remote: Endpoint | undefined = undefined

  constructor(
    owner: UdpLinkOwner,
    socket: Socket,
    address: string,
    port: number,
    local: Endpoint,
    isConnected: boolean,
    key?: string,
  ) {
    this.#owner = owner
    this.#socket = socket
    this.address = address
    this.port = port
    this.local = local
    this.#isConnected = isConnected
    this.key = key
    this.#mostBytes = Math.min(owner.mostBytes, mostBytes(address))
  }

  /** Node makes a buffer of its own for each datagram. */
  get stable(): true {
    return true
  }

  /** As the socket says it: an IPv4 peer of a dual-stack listener is `[::ffff:1.2.3.4]`. */
  get remote(): Endpoint {
    this.#remote ??= new Endpoint({ scheme: 'udp', host: this.address, port: this.port })
    return this.#remote
  }

  /** Heard from elsewhere, by its key: it is answered there from now on. */
  move(socket: Socket, address: string, port: number, local: Endpoint): void {
    this.#socket = socket
    this.address = address
    this.port = port
    this.local = local
    this.#remote = undefined
  }

  // -- in ------------------------------------------------------------------------------------------------------------

  /** A datagram of this peer. */
  receive(datagram: Buffer): void {
    if (this.#isPaused || this.#held !== undefined) this.#hold(datagram)
    else if (!this.#isOver) this.#owner.sink.data(this, datagram, 0, datagram.length)
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    if (this.#held === undefined || this.#isDeliveryDue) return
    this.#isDeliveryDue = true
    process.nextTick(deliverHeld, this)
  }

  #hold(datagram: Buffer): void {
    if (this.#isOver) return
    this.#held ??= []
    const isFull = this.#held.length >= HOLD_DATAGRAMS || this.#heldBytes + datagram.length > HOLD_BYTES
    if (isFull && this.#held.length > 0) {
      this.#owner.losses.add('link-paused', this.address, this.port)
      return
    }
    this.#held.push(datagram)
    this.#heldBytes += datagram.length
  }

  /** @internal */
  deliverHeld(): void {
    this.#isDeliveryDue = false
    for (const held = this.#held; held !== undefined && !this.#isPaused && !this.#isOver; ) {
      const datagram = held.shift()
      if (datagram === undefined) {
        this.#held = undefined
        return
      }
      this.#heldBytes -= datagram.length
      this.#owner.sink.data(this, datagram, 0, datagram.length)
    }
  }

  // -- out -----------------------------------------------------------------------------------------------------------

  /** One datagram. Over what the endpoint declares nothing is sent and the listener is told; the link lives. */
  write(bytes: Uint8Array): boolean {
    if (this.#isOver) return true
    if (bytes.length > this.#mostBytes) {
      this.#owner.losses.add('too-large', this.address, this.port)
      return true
    }
    this.#onSent ??= (error, sent) => this.#sent(error, sent ?? 0)
    this.#sending++
    this.buffered += bytes.length
    const { pacer } = this.#owner
    if (pacer === undefined) this.#transmit(bytes)
    else pacer.pace(bytes.length, () => this.#transmit(bytes))
    if (this.buffered <= this.#owner.writeHighBytes) return true
    this.#wantsDrain = true
    return false
  }

  #transmit(bytes: Uint8Array): void {
    // Aborted while it waited for its turn.
    if (this.#isClosing || this.#onSent === undefined) return
    try {
      // With our own look-up the kernel has it on return, unless its queue is full: then libuv keeps it.
      if (this.#isConnected) this.#socket.send(bytes, this.#onSent)
      else this.#socket.send(bytes, this.port, this.address, this.#onSent)
    } catch (thrown) {
      process.nextTick(this.#onSent, toError(thrown))
    }
  }

  #sent(error: Error | null, bytes: number): void {
    this.#sending--
    this.buffered = this.#sending === 0 || this.#isClosing ? 0 : this.buffered - bytes
    if (error !== null) this.#sendFailed(error)
    if (this.#isOver) {
      if (this.#sending === 0) this.#closeSoon(undefined)
    } else if (this.#wantsDrain && this.buffered <= this.#owner.writeLowBytes) {
      this.#wantsDrain = false
      this.#owner.sink.drain(this)
    }
  }

  #sendFailed(cause: Error): void {
    if (this.#isClosed) return
    const { error, isPassing } = linkError(cause, this.remote)
    if (!isPassing && !this.#isOver) {
      this.cut(error)
      return
    }
    const reason = codeOf(cause) === 'EMSGSIZE' ? 'too-large' : 'unsent'
    this.#owner.losses.add(reason, this.address, this.port, cause)
  }

  // -- the end -------------------------------------------------------------------------------------------------------

  /** UDP has no end of its own: our side forgets the peer once everything written has gone. */
  end(): void {
    if (this.#isOver) return
    this.#leave()
    if (this.#sending === 0) this.#closeSoon(undefined)
  }

  abort(reason?: Error): void {
    if (this.#isClosing) return
    if (!this.#isOver) this.#leave()
    this.buffered = 0
    this.#closeSoon(reason)
  }

  /** Closes at once, from a turn of the socket or a timer, never from inside a call of the sink's owner. */
  cut(error?: Error): void {
    if (this.#isClosed) return
    if (!this.#isOver) this.#leave()
    this.#isClosing = true
    this.#closeError ??= error
    this.close()
  }

  #leave(): void {
    this.#isOver = true
    const unread = this.#held?.length ?? 0
    this.#held = undefined
    if (unread > 0) this.#owner.losses.add('unread', this.address, this.port, undefined, unread)
    this.#owner.forget(this)
  }

  #closeSoon(error: Error | undefined): void {
    if (this.#isClosing) return
    this.#isClosing = true
    this.#closeError = error
    process.nextTick(close, this)
  }

  /** @internal */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.buffered = 0
    try {
      this.#owner.sink.close(this, this.#closeError)
    } finally {
      this.#owner.closed(this)
    }
  }
}

const deliverHeld = (link: UdpLink): void => link.deliverHeld()
const close = (link: UdpLink): void => link.close()
