/**
 * A bound UDP endpoint: datagrams in, a link for each peer.
 *
 * Room: transports. A peer is a source address and port. It is there from its first datagram until it is ended, has
 * been silent for `timeouts.peerIdleMs`, or had to make room for another: UDP says neither hello nor goodbye.
 */
import type { RemoteInfo, Socket } from 'node:dgram'
import type { Endpoint } from '../core/endpoint.js'
import { ConnectionError, toError } from '../core/errors.js'
import { defaultLimits, defaultTimeouts, type Limits, socketRows } from '../core/options.js'
import type { DatagramSessions, LinkSink, Listener, TransportOptions } from '../core/transport.js'
import { DatagramLosses } from './datagram-losses.js'
import { DatagramPeers } from './datagram-peers.js'
import { pacerOf } from './udp-client.js'
import { UdpDrops } from './udp-drops.js'
import { UdpLink, type UdpLinkOwner } from './udp-link.js'
import { REFUSED_PORTS, type UdpOptions } from './udp-options.js'
import type { UdpPacer } from './udp-pacer.js'
import { addressKey, type SessionKey, sessionKeyOf } from './udp-session-key.js'
import { declaredMostBytes, localEndpoint } from './udp-socket.js'

/** Silence is measured in sweeps, so that no datagram reads a clock: a peer ends after 8 to 9 eighths of it. */
const SWEEPS = 8
const LONGEST_TIMER_MS = 2 ** 31 - 1

/** While paused, first datagrams of new peers wait: a backlog of them, and 4 MiB. */
const HOLD_NEWCOMERS = socketRows.backlog.default as number
const HOLD_BYTES = 4 * 1024 * 1024

interface BoundSocket {
  readonly socket: Socket
  readonly local: Endpoint
}

interface Newcomer {
  readonly bound: BoundSocket
  readonly address: string
  readonly port: number
  readonly datagram: Buffer
  readonly key: string | undefined
}

/**
 * Owns the socket, or the two of `localhost`. Replies leave by the socket on which their peer was heard.
 *
 * Unlike a stream listener it cannot free its address while links live, because their replies need the socket: `unbind`
 * opens no link any more and resolves; the address is free when the last link has closed, at once if there is none.
 */
export class UdpListener implements Listener, UdpLinkOwner, DatagramSessions {
  readonly endpoint: Endpoint
  readonly sink: LinkSink
  readonly losses: DatagramLosses
  readonly mostBytes: number
  readonly writeHighBytes: number
  readonly writeLowBytes: number
  readonly pacer: UdpPacer | undefined

  readonly #sockets: readonly Socket[]
  readonly #limits: Readonly<Limits>
  readonly #peers = new DatagramPeers<UdpLink>()
  readonly #sweepMs: number
  readonly #refusedPorts: ReadonlySet<number>
  readonly #keyOf: SessionKey | undefined
  readonly #drops: readonly UdpDrops[]
  #sweeper: NodeJS.Timeout | undefined
  #sweep = 0
  /** Opened and not yet closed; more than the table holds while links end. */
  #links = 0
  #isPaused = false
  #isUnbound = false
  #unbound: Promise<void> | undefined
  #waiting: Newcomer[] = []
  #waitingBytes = 0
  #isAdmissionDue = false
  #gone: ((key: string) => void) | undefined

  constructor(endpoint: Endpoint, sockets: readonly Socket[], options: TransportOptions<UdpOptions>, sink: LinkSink) {
    this.#sockets = sockets
    this.sink = sink
    this.#limits = options.limits ?? defaultLimits
    this.writeHighBytes = this.#limits.writeHighBytes
    this.writeLowBytes = this.#limits.writeLowBytes
    this.mostBytes = declaredMostBytes(endpoint, options)
    this.losses = new DatagramLosses(sink, endpoint.scheme)
    const { peerIdleMs } = options.timeouts ?? defaultTimeouts
    this.#sweepMs = Math.max(1, peerIdleMs / SWEEPS)
    this.#refusedPorts = new Set(options.refusePorts ?? REFUSED_PORTS)
    this.pacer = pacerOf(options)
    this.#keyOf = options.sessionKey === undefined ? undefined : sessionKeyOf(options.sessionKey)
    this.#drops = options.watchDrops === false ? [] : sockets.map((socket) => this.#dropsOf(socket))
    this.endpoint = boundEndpoint(endpoint, sockets[0] as Socket)
    for (const socket of sockets) this.#attach(socket)
  }

  #dropsOf(socket: Socket): UdpDrops {
    const { address, port } = socket.address()
    return new UdpDrops(address, port, (count) => this.losses.add('kernel', address, port, undefined, count))
  }

  #attach(socket: Socket): void {
    const bound = { socket, local: localEndpoint(this.endpoint.scheme, socket) }
    socket.on('message', (datagram, { address, port }: RemoteInfo) => this.#receive(bound, address, port, datagram))
    // A failed receive concerns one datagram; the socket lives.
    socket.on('error', (error) =>
      this.losses.add('unreceived', this.endpoint.host ?? '', this.endpoint.port ?? 0, error),
    )
  }

  // -- datagrams in --------------------------------------------------------------------------------------------------

  #receive(bound: BoundSocket, address: string, port: number, datagram: Buffer): void {
    if (this.#keyOf !== undefined) {
      this.#receiveByKey(this.#keyOf, bound, address, port, datagram)
      return
    }
    const peer = this.#peers.find(address, port)
    if (peer === undefined) {
      this.#newcomer(bound, address, port, datagram)
      return
    }
    peer.heardAt = this.#sweep
    this.#peers.touch(peer)
    peer.receive(datagram)
  }

  #receiveByKey(keyOf: SessionKey, bound: BoundSocket, address: string, port: number, datagram: Buffer): void {
    let key: string | undefined
    try {
      key = keyOf(datagram, address, port)
    } catch (thrown) {
      this.losses.add('unkeyed', address, port, toError(thrown))
      return
    }
    const peer = key === undefined ? this.#peers.find(address, port) : this.#peers.findKey(key)
    if (peer === undefined) {
      this.#newcomer(bound, address, port, datagram, key)
      return
    }
    if (peer.port !== port || peer.address !== address) {
      // A known key from an address that would make a loop is no move.
      if (this.#isBarred(bound, address, port)) return
      peer.move(bound.socket, address, port, bound.local)
    }
    peer.heardAt = this.#sweep
    this.#peers.touch(peer)
    peer.receive(datagram)
  }

  /** Whatever decides about peers nobody knows stands here. */
  #newcomer(bound: BoundSocket, address: string, port: number, datagram: Buffer, key?: string): void {
    if (this.#isUnbound || this.#isBarred(bound, address, port)) return
    if (this.#isPaused || this.#waiting.length > 0) this.#wait({ bound, address, port, datagram, key })
    else this.#admit(bound, address, port, datagram, key)
  }

  /** Never answered, and counted. */
  #isBarred(bound: BoundSocket, address: string, port: number): boolean {
    // RFC 768: port 0 means that no reply is wanted; there is no way to send one either.
    if (port === 0) this.losses.add('unanswerable', address, port)
    else if (this.#refusedPorts.has(port) || (port === bound.local.port && this.#isOwn(address, bound)))
      this.losses.add('refused-port', address, port)
    else return false
    return true
  }

  /** Our own address as a source: forged, or an answer of ours that came back. */
  #isOwn(address: string, { local }: BoundSocket): boolean {
    const { host } = local
    return address === host || ((host === '0.0.0.0' || host === '::') && /^(127\.|::1$|::ffff:127\.)/.test(address))
  }

  #admit(bound: BoundSocket, address: string, port: number, datagram: Buffer, key: string | undefined): void {
    if (this.#peers.size >= this.#limits.peers && !this.#makeRoom()) {
      this.losses.add('peers-full', address, port)
      return
    }
    if (this.#isUnbound) return // by whoever was told of the eviction
    const link = new UdpLink(this, bound.socket, address, port, bound.local, false, key)
    link.heardAt = this.#sweep
    this.#peers.add(link)
    this.#links++
    this.#startSweeper()
    for (const drops of this.#drops) drops.start()
    this.sink.open(link)
    link.receive(datagram)
  }

  #makeRoom(): boolean {
    const { oldest } = this.#peers
    if (this.#limits.whenPeersFull === 'refuse' || oldest === undefined) return false
    const { peers } = this.#limits
    const message = `${oldest.remote}: evicted for a new peer: least recently heard of ${peers} (limits.peers)`
    oldest.cut(new ConnectionError('CLOSED', message, { remote: oldest.remote, limit: peers }))
    return true
  }

  // -- pause ---------------------------------------------------------------------------------------------------------

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    if (this.#waiting.length === 0 || this.#isAdmissionDue) return
    this.#isAdmissionDue = true
    process.nextTick(() => this.#admitWaiting())
  }

  #wait(newcomer: Newcomer): void {
    const { length } = newcomer.datagram
    const isFull = this.#waiting.length >= HOLD_NEWCOMERS || this.#waitingBytes + length > HOLD_BYTES
    if (isFull) this.losses.add('listener-paused', newcomer.address, newcomer.port)
    else {
      this.#waiting.push(newcomer)
      this.#waitingBytes += length
    }
  }

  #admitWaiting(): void {
    this.#isAdmissionDue = false
    const newcomers = this.#waiting
    let admitted = 0
    // The sink may pause us again from inside `open`, or unbind.
    while (admitted < newcomers.length && !this.#isPaused && !this.#isUnbound) {
      const { bound, address, port, datagram, key } = newcomers[admitted++] as Newcomer
      this.#waitingBytes -= datagram.length
      // Two datagrams of one newcomer may have waited.
      const peer = key === undefined ? this.#peers.find(address, port) : this.#peers.findKey(key)
      if (peer === undefined) this.#admit(bound, address, port, datagram, key)
      else peer.receive(datagram)
    }
    newcomers.splice(0, admitted)
  }

  // -- the end of links ----------------------------------------------------------------------------------------------

  #startSweeper(): void {
    if (this.#sweeper !== undefined || this.#sweepMs > LONGEST_TIMER_MS) return
    this.#sweeper = setInterval(() => this.#expire(), this.#sweepMs)
    this.#sweeper.unref()
  }

  /** Ends the peers that were silent. A blocked event loop makes it late, never early. */
  #expire(): void {
    this.#sweep++
    for (let { oldest } = this.#peers; oldest !== undefined; oldest = this.#peers.oldest) {
      if (this.#sweep - oldest.heardAt <= SWEEPS) return
      oldest.cut()
    }
    clearInterval(this.#sweeper)
    this.#sweeper = undefined
    for (const drops of this.#drops) drops.finish()
  }

  forget(link: UdpLink): void {
    this.#peers.remove(link)
    if (this.#gone !== undefined) for (const key of keysOf(link)) this.#gone(key)
  }

  *keys(): Iterable<string> {
    for (const link of this.#peers) yield* keysOf(link)
  }

  watch(gone: (key: string) => void): void {
    this.#gone = gone
  }

  closed(): void {
    this.#links--
    if (this.#links === 0 && this.#isUnbound) void this.#closeSockets()
  }

  unbind(): Promise<void> {
    if (this.#unbound !== undefined) return this.#unbound
    this.#isUnbound = true
    for (const { address, port } of this.#waiting) this.losses.add('listener-paused', address, port)
    this.#waiting = []
    this.#unbound = this.#links === 0 ? this.#closeSockets() : Promise.resolve()
    return this.#unbound
  }

  async #closeSockets(): Promise<void> {
    clearInterval(this.#sweeper)
    for (const drops of this.#drops) drops.finish()
    this.pacer?.stop()
    this.losses.flush()
    // The descriptor is closed on return; the event comes a turn later.
    await Promise.all(this.#sockets.map((socket) => new Promise<void>((resolve) => socket.close(resolve))))
  }
}

function boundEndpoint(endpoint: Endpoint, socket: Socket): Endpoint {
  const { address, port } = socket.address()
  return endpoint.with({ host: endpoint.host === 'localhost' ? 'localhost' : address, port })
}

/** Whoever hears for us may know it by either. */
function keysOf({ key, address, port }: UdpLink): string[] {
  return key === undefined ? [addressKey(address, port)] : [key, addressKey(address, port)]
}
