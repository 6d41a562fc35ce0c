/**
 * A datagram socket that a supervisor holds for its workers: it hears for them, and each peer stays with one worker.
 *
 * Room: transports. Datagrams of a turn go to a worker in one message. What a worker cannot take in time is lost and counted, as
 * in a kernel's full buffer; nothing is queued without a bound. Replies leave by the same socket, from the worker itself.
 *
 * Which worker has a peer is computed and not remembered (decision 044). Only while those of before serve their last sessions there
 * is a map of whom they have, told by themselves once and shortened with each session that ends.
 */
import type { RemoteInfo, Socket } from 'node:dgram'
import type { Endpoint } from '../core/endpoint.js'
import { rendezvous } from '../core/workers/rendezvous.js'
import type { NativeHandle } from './held-stream.js'
import { addressKey, type SessionKey } from './udp-session-key.js'

/** On their way to one worker; or put off until one has told whose sessions it has. */
const MOST_BYTES = 4 * 1024 * 1024
/** What a datagram costs besides its bytes. */
const OVERHEAD = 256

export interface DatagramSeat {
  readonly slot: number
  give(socket: number, batch: readonly unknown[], done: () => void): void
}

interface Heard {
  readonly socket: number
  readonly key: string
  readonly address: string
  readonly port: number
  readonly datagram: Uint8Array
}

/** Those that were seated together before others came. */
interface Former {
  readonly seats: readonly DatagramSeat[]
  readonly slots: readonly number[]
  /** Of those that have yet to say whose sessions they have: what came for them meanwhile. */
  readonly silent: Map<DatagramSeat, { readonly waiting: Heard[]; bytes: number }>
}

export class HeldDatagrams {
  readonly endpoint: Endpoint
  /** `socket.sessionKey` of the listener, where its peers are told apart by content; undefined: by address. */
  keyOf: SessionKey | undefined
  readonly #sockets: readonly Socket[]
  readonly #lost: (count: number) => void
  #seats: DatagramSeat[] = []
  #slots: number[] = []
  /** Whose sessions those of before have; undefined nearly always. */
  #keep: Map<string, DatagramSeat> | undefined
  #formers: readonly Former[] = []
  readonly #batches = new Map<DatagramSeat, { socket: number; list: unknown[]; bytes: number }[]>()
  readonly #underWay = new Map<DatagramSeat, number>()
  #isFlushDue = false
  #isMuted = false
  /** Another program hears them. */
  #isAway: boolean
  #isClosed = false
  #listens: boolean
  #freed = () => {}
  #isReleased = false
  #ended: ((keys: readonly string[]) => void) | undefined
  /** Who listens in this process, by socket, while we hear in their place. */
  #local: ((datagram: Buffer, remote: RemoteInfo) => void)[][] = []

  /**
   * @param isLent - Somebody in this process hears them, until `release`.
   * @param isInherited - Another program hears them, until it says so.
   */
  constructor(
    endpoint: Endpoint,
    sockets: readonly Socket[],
    lost: (count: number) => void,
    { isLent = false, isInherited = false } = {},
  ) {
    this.endpoint = endpoint
    this.#sockets = sockets
    this.#lost = lost
    this.#listens = !isInherited
    this.#isAway = isInherited
    this.#isMuted = isLent
    if (!isLent) this.#listen()
  }

  /**
   * It is ours again: whoever it was lent to hears nothing by itself any more, and cannot close it.
   *
   * @returns who is heard for in its place, for sessions that it has.
   */
  release(): DatagramSeat {
    const seat = this.hearFor()
    this.#isReleased = true
    for (const socket of this.#sockets) Object.assign(socket, { close: (done?: () => void) => done?.() })
    this.unmute()
    return seat
  }

  /** For whoever in this process listens itself: what is of another program's sessions goes there, as long as there are any. */
  detour(seat: DatagramSeat, keys: Iterable<string>): void {
    this.seats = [this.hearFor()]
    this.unmute()
    this.keep(seat, keys)
    this.whenFree(() => {
      if (this.#isReleased) return
      this.#sockets.forEach((socket, index) => {
        socket.removeAllListeners('message')
        for (const listener of this.#local[index] ?? []) socket.on('message', listener)
      })
      this.#local = []
    })
  }

  /** @returns whoever in this process listens, for what is of its sessions. */
  hearFor(): DatagramSeat {
    if (this.#local.length === 0) {
      this.#local = this.#sockets.map((socket) => socket.listeners('message') as never)
      for (const socket of this.#sockets) socket.removeAllListeners('message')
      this.#listen()
    }
    return {
      slot: -1,
      give: (socket, batch, done) => {
        for (let i = 0; i + 2 < batch.length; i += 3) {
          const remote = { address: batch[i], port: batch[i + 1] } as RemoteInfo
          for (const listener of this.#local[socket] ?? []) listener(bufferOf(batch[i + 2] as Uint8Array), remote)
        }
        done()
      },
    }
  }

  #listen(): void {
    this.#sockets.forEach((socket, index) => {
      socket.on('message', (datagram, { address, port }) => {
        this.#hear({ socket: index, key: this.#peerOf(datagram, address, port), address, port, datagram })
      })
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
      if (seats.includes(seat) || this.#keeps(seat)) continue
      this.#underWay.delete(seat)
      this.#batches.delete(seat)
    }
    this.#settle()
  }

  /** Workers hear for themselves, or another program does. */
  mute(): void {
    this.#isMuted = true
    this.#settle()
  }

  unmute(): void {
    this.#isMuted = false
    this.#isAway = false
    this.#settle()
  }

  /** Another program hears from now on, or (false) not any more. */
  away(isAway: boolean): void {
    this.#isAway = isAway
    this.#settle()
  }

  close(): void {
    this.#isClosed = true
    for (const socket of this.#sockets) Object.getPrototypeOf(socket).close.call(socket)
  }

  // -- sessions that stay with those of before -----------------------------------------------------------------------

  /** Those that are seated get no newcomers any more; whose sessions they have each of them is about to say. */
  retire(seats: readonly DatagramSeat[]): void {
    if (seats.length === 0) return
    const silent = new Map(seats.map((seat) => [seat, { waiting: [], bytes: 0 }]))
    this.#formers = [...this.#formers, { seats: this.#seats, slots: this.#slots, silent }]
    this.seats = this.#seats.filter((seat) => !seats.includes(seat))
  }

  /** These are its sessions, all of them. */
  keep(seat: DatagramSeat, keys: Iterable<string>): void {
    this.#keep ??= new Map()
    for (const key of keys) this.#keep.set(key, seat)
    const waiting: Heard[] = []
    for (const { silent } of this.#formers) {
      waiting.push(...(silent.get(seat)?.waiting ?? []))
      silent.delete(seat)
    }
    this.#formers = this.#formers.filter(({ silent }) => silent.size > 0)
    for (const heard of waiting) this.#hear(heard)
    this.#shorten()
  }

  /** Sessions of it have ended. */
  forget(seat: DatagramSeat, keys: Iterable<string>): void {
    const ended = [...keys].filter((key) => this.#keep?.get(key) === seat)
    for (const key of ended) this.#keep?.delete(key)
    if (ended.length > 0) this.#ended?.(ended)
    this.#shorten()
  }

  /** It is gone: whoever it had is anybody's. */
  gone(seat: DatagramSeat): void {
    if (this.isSilent(seat)) this.keep(seat, [])
    this.forget(seat, this.kept)
    this.#underWay.delete(seat)
    this.#batches.delete(seat)
    this.#shorten()
  }

  /** Those of before have sessions here, or have not said yet. */
  get isKept(): boolean {
    return this.#keep !== undefined || this.#formers.length > 0
  }

  isSilent(seat: DatagramSeat): boolean {
    return this.#formers.some(({ silent }) => silent.has(seat))
  }

  /** True while one of them has yet to say. */
  get isUnsettled(): boolean {
    return this.#formers.length > 0
  }

  /** Whose sessions those of before have. */
  get kept(): readonly string[] {
    return [...(this.#keep?.keys() ?? [])]
  }

  /** Is told which of them end. */
  watch(ended: (keys: readonly string[]) => void): void {
    this.#ended = ended
  }

  /** Once nobody of before has a session here. */
  whenFree(free: () => void): void {
    this.#freed = free
    if (!this.isKept) free()
  }

  /** Heard by another program. What is of none of its sessions any more is lost. */
  deliver(socket: number, batch: readonly unknown[]): void {
    for (let i = 0; i + 2 < batch.length; i += 3) {
      const [address, port, datagram] = [String(batch[i]), Number(batch[i + 1]), bufferOf(batch[i + 2] as Uint8Array)]
      this.#hear({ socket, key: this.#peerOf(datagram, address, port), address, port, datagram })
    }
  }

  #keeps(seat: DatagramSeat): boolean {
    if (this.#formers.some(({ silent }) => silent.has(seat))) return true
    for (const one of this.#keep?.values() ?? []) if (one === seat) return true
    return false
  }

  #shorten(): void {
    if (this.#keep?.size === 0 && this.#formers.length === 0) {
      this.#keep = undefined
      this.#freed()
    }
    this.#settle()
  }

  /** True: it goes to one of before, or waits until that one has said. */
  #wasBefore(heard: Heard): boolean {
    const kept = this.#keep?.get(heard.key)
    if (kept !== undefined) {
      this.#put(kept, heard)
      return true
    }
    for (const { seats, slots, silent } of this.#formers) {
      const pending = silent.get(seats[rendezvous(heard.key, slots)] as DatagramSeat)
      if (pending === undefined) continue
      pending.bytes += heard.datagram.length + OVERHEAD
      if (pending.bytes > MOST_BYTES) this.#lost(1)
      else pending.waiting.push(heard)
      return true
    }
    return false
  }

  // -- hearing -------------------------------------------------------------------------------------------------------

  /** While there is nobody to hear them, the kernel keeps what fits its buffer. */
  #settle(): void {
    const listens = !this.#isMuted && !this.#isAway && (this.#seats.length > 0 || this.isKept)
    if (this.#isClosed || listens === this.#listens) return
    this.#listens = listens
    for (const socket of this.#sockets) {
      const handle = handleOf(socket) as NativeHandle & { recvStop(): void; recvStart(): void }
      if (listens) handle.recvStart()
      else handle.recvStop()
    }
  }

  #hear(heard: Heard): void {
    if (this.isKept && this.#wasBefore(heard)) return
    const seat = this.#seats[rendezvous(heard.key, this.#slots)]
    if (seat === undefined) this.#lost(1)
    else this.#put(seat, heard)
  }

  #put(seat: DatagramSeat, { socket, address, port, datagram }: Heard): void {
    const size = datagram.length + OVERHEAD
    const underWay = this.#underWay.get(seat) ?? 0
    if (underWay + size > MOST_BYTES) return this.#lost(1)
    this.#underWay.set(seat, underWay + size)
    let batches = this.#batches.get(seat)
    if (batches === undefined) {
      batches = []
      this.#batches.set(seat, batches)
    }
    let batch = batches[socket]
    if (batch === undefined) {
      batch = { socket, list: [], bytes: 0 }
      batches[socket] = batch
    }
    batch.list.push(address, port, datagram)
    batch.bytes += size
    if (this.#isFlushDue) return
    this.#isFlushDue = true
    setImmediate(() => this.#flush())
  }

  /** What decides about the worker: the same for all datagrams of one peer, wherever it is heard from. */
  #peerOf(datagram: Buffer, address: string, port: number): string {
    return this.keyOf?.(datagram, address, port) ?? addressKey(address, port)
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

/** Bytes come from another process as they are, without a buffer's methods. */
function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** Node tells it nowhere else; the symbol's name has not changed in eight years. */
export function handleOf(socket: Socket): NativeHandle {
  const symbol = Object.getOwnPropertySymbols(socket).find(({ description }) => description === 'state symbol')
  return (socket as unknown as Record<symbol, { handle: NativeHandle }>)[symbol as symbol]?.handle as NativeHandle
}
