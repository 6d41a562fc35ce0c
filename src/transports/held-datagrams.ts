/**
 * A datagram socket that a supervisor holds for its workers: it hears for them, and each peer stays with one worker.
 *
 * Room: transports. Datagrams of a turn go to a worker in one message. What a worker cannot take in time is lost and counted, as
 * in a kernel's full buffer; nothing is queued without a bound. Replies leave by the same socket, from the worker itself.
 */
import type { RemoteInfo, Socket } from 'node:dgram'
import type { Endpoint } from '../core/endpoint.js'
import { rendezvous } from '../core/workers/rendezvous.js'
import type { NativeHandle } from './held-stream.js'
import type { SessionKey } from './udp-session-key.js'

/** On their way to one worker. */
const MOST_BYTES = 4 * 1024 * 1024
/** What a datagram costs besides its bytes. */
const OVERHEAD = 256

export interface DatagramSeat {
  readonly slot: number
  give(socket: number, batch: readonly unknown[], done: () => void): void
}

export class HeldDatagrams {
  readonly endpoint: Endpoint
  /** `socket.sessionKey` of the listener, where its peers are told apart by content; undefined: by address. */
  keyOf: SessionKey | undefined
  readonly #sockets: readonly Socket[]
  readonly #lost: (count: number) => void
  #seats: DatagramSeat[] = []
  #slots: number[] = []
  readonly #batches = new Map<DatagramSeat, { socket: number; list: unknown[]; bytes: number }[]>()
  readonly #underWay = new Map<DatagramSeat, number>()
  #isFlushDue = false
  #isMuted = false
  #isClosed = false
  #listens = true

  /** @param isLent - Somebody in this process hears them, until `release`. */
  constructor(endpoint: Endpoint, sockets: readonly Socket[], lost: (count: number) => void, isLent = false) {
    this.endpoint = endpoint
    this.#sockets = sockets
    this.#lost = lost
    if (isLent) this.#isMuted = true
    else this.#listen()
  }

  /** It is ours again: whoever it was lent to hears nothing any more, and cannot close it. */
  release(): void {
    for (const socket of this.#sockets) {
      socket.removeAllListeners('message')
      Object.assign(socket, { close: (done?: () => void) => done?.() })
    }
    this.#isMuted = false
    this.#listen()
  }

  #listen(): void {
    this.#sockets.forEach((socket, index) => {
      socket.on('message', (datagram, remote) => this.#hear(index, datagram, remote))
      socket.on('error', () => this.#lost(1))
    })
    this.#settle()
  }

  get types(): readonly string[] {
    return this.#sockets.map((socket) => (socket as Socket & { type: string }).type)
  }

  /** For workers, who send by them. */
  handles(): readonly NativeHandle[] {
    return this.#sockets.map((socket) => handleOf(socket))
  }

  set seats(seats: readonly DatagramSeat[]) {
    this.#seats = [...seats]
    this.#slots = seats.map(({ slot }) => slot)
    for (const seat of this.#underWay.keys()) {
      if (seats.includes(seat)) continue
      this.#underWay.delete(seat)
      this.#batches.delete(seat)
    }
    this.#settle()
  }

  /** Workers hear for themselves. */
  mute(): void {
    this.#isMuted = true
    this.#settle()
  }

  close(): void {
    this.#isClosed = true
    for (const socket of this.#sockets) Object.getPrototypeOf(socket).close.call(socket)
  }

  /** While there is nobody to hear them, the kernel keeps what fits its buffer. */
  #settle(): void {
    const listens = !this.#isMuted && this.#seats.length > 0
    if (this.#isClosed || listens === this.#listens) return
    this.#listens = listens
    for (const socket of this.#sockets) {
      const handle = handleOf(socket) as NativeHandle & { recvStop(): void; recvStart(): void }
      if (listens) handle.recvStart()
      else handle.recvStop()
    }
  }

  #hear(index: number, datagram: Buffer, { address, port }: RemoteInfo): void {
    const seat = this.#seats[rendezvous(this.#peerOf(datagram, address, port), this.#slots)]
    if (seat === undefined) return this.#lost(1)
    const size = datagram.length + OVERHEAD
    const underWay = this.#underWay.get(seat) ?? 0
    if (underWay + size > MOST_BYTES) return this.#lost(1)
    this.#underWay.set(seat, underWay + size)
    let batches = this.#batches.get(seat)
    if (batches === undefined) {
      batches = []
      this.#batches.set(seat, batches)
    }
    let batch = batches[index]
    if (batch === undefined) {
      batch = { socket: index, list: [], bytes: 0 }
      batches[index] = batch
    }
    batch.list.push(address, port, datagram)
    batch.bytes += size
    if (this.#isFlushDue) return
    this.#isFlushDue = true
    setImmediate(() => this.#flush())
  }

  /** What decides about the worker: the same for all datagrams of one peer, wherever it is heard from. */
  #peerOf(datagram: Buffer, address: string, port: number): string {
    return this.keyOf?.(datagram, address, port) ?? `${address} ${port}`
  }

  #flush(): void {
    this.#isFlushDue = false
    for (const [seat, batches] of this.#batches) {
      for (const batch of batches) {
        if (batch === undefined) continue
        const { socket, list, bytes } = batch
        seat.give(socket, list, () => {
          const underWay = this.#underWay.get(seat)
          if (underWay !== undefined) this.#underWay.set(seat, underWay - bytes)
        })
      }
    }
    this.#batches.clear()
  }
}

/** Node tells it nowhere else; the symbol's name has not changed in eight years. */
export function handleOf(socket: Socket): NativeHandle {
  const symbol = Object.getOwnPropertySymbols(socket).find(({ description }) => description === 'state symbol')
  return (socket as unknown as Record<symbol, { handle: NativeHandle }>)[symbol as symbol]?.handle as NativeHandle
}
