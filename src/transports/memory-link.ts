/**
 * One side of a memory link: a bounded queue of what the other side wrote, and the order in which a sink hears of it.
 *
 * Room: transports. Every call of a sink is made in the link's own turn. What a link must not do: keep more for its
 * peer than the writer was told to stop at, or let a throwing sink harm another link.
 */
import type { Endpoint } from '../core/endpoint.js'
import { ConnectionError, toError } from '../core/errors.js'
import type { Link, LinkSink } from '../core/transport.js'
import type { MemoryTurns, TurnTask } from './memory-turns.js'

/** What a `MemoryWire` answers in place of a number of bytes. */
export const HOLD = -1
export const RESET = -2
export const LOST = -3

/**
 * What stands in one direction between two links and decides what of the waiting bytes goes through, and when: how a
 * simulated network plays its faults. Plain memory has none.
 */
export interface MemoryWire {
  /** The writer put so many bytes (one message, on the message kind) on the wire. */
  written(bytes: number): void
  /** The writer finished its side. */
  ended(): void
  /**
   * How much may arrive now.
   *
   * @param waiting - Bytes that wait; on the message kind those of the next message, which goes whole or not at all.
   * @returns bytes for one chunk; `HOLD` for none before the wire wakes the link; `RESET`; `LOST` drops a message.
   */
  next(waiting: number): number
  /** Everything written has arrived: may the writer's end be seen now? If not, the wire wakes the link later. */
  mayEnd(): boolean
  /** True while nothing passes, a reset included: the peer has vanished. */
  readonly isStalled: boolean
  /** True when what has passed was the last: the link is cut. */
  readonly isCut: boolean
  /** The link is over: timers are dropped. */
  close(): void
}

/** What both sides of a link agree on. */
export interface MemoryFormat {
  readonly kind: 'stream' | 'message'
  readonly maxMessageBytes: number
  /** Bytes waiting for the peer at which `write` says stop, and at which it says go on. */
  readonly highBytes: number
  readonly lowBytes: number
}

// As much as Node reads from a socket at a time (stream_base.cc): handlers see chunks of the size they know from TCP.
const CHUNK_BYTES = 64 * 1024
// Writes waiting at which `write` says stop: bytes alone would let a flood of tiny or empty messages grow without
// bound.
const HIGH_WRITES = 1_024
const LOW_WRITES = 256

/** One side; `join` makes a pair of two. */
export class MemoryLink implements Link, TurnTask {
  readonly local: Endpoint
  readonly remote: Endpoint
  /** Each chunk is copied once, when it arrives, into a buffer nobody writes to again. */
  readonly stable = true
  state: unknown = undefined
  posted = false
  wire: MemoryWire | undefined = undefined

  readonly #turns: MemoryTurns
  readonly #sink: LinkSink
  readonly #format: MemoryFormat
  #peer!: MemoryLink

  // What the peer wrote: `#head` is the first write not yet wholly delivered, `#offset` how far into it we are.
  #inbox: Uint8Array[] = []
  #head = 0
  #offset = 0
  #inboxBytes = 0

  #isOpen = false
  #isPaused = false
  #isEnded = false
  #hasPeerEnd = false
  #isGone = false
  #isClosed = false
  #resetDue = false
  #wantsDrain = false
  #drainDue = false
  #closeError: Error | undefined = undefined
  #refused: Error[] | undefined = undefined

  constructor(turns: MemoryTurns, sink: LinkSink, format: MemoryFormat, local: Endpoint, remote: Endpoint) {
    this.#turns = turns
    this.#sink = sink
    this.#format = format
    this.local = local
    this.remote = remote
  }

  /** Joins two sides. */
  static join(one: MemoryLink, other: MemoryLink): void {
    one.#peer = other
    other.#peer = one
  }

  get buffered(): number {
    return this.#peer.#inboxBytes
  }

  /** True once nothing will be delivered any more: aborted, reset or closed. */
  get isGone(): boolean {
    return this.#isGone || this.#resetDue
  }

  /** Tells the sink; a link that waits in a backlog is opened later than its peer. Called from a turn. */
  open(): void {
    this.#isOpen = true
    try {
      this.#sink.open(this)
    } catch (thrown) {
      this.#fail(toError(thrown))
    }
    this.#turns.post(this)
  }

  /** Takes the bytes as they are; they are copied when they arrive, so a caller that reuses them early is found out. */
  write(bytes: Uint8Array): boolean {
    if (this.#isEnded || this.#isGone) return true
    const size = bytes.byteLength
    const peer = this.#peer
    if (this.#format.kind === 'message') {
      if (size > this.#format.maxMessageBytes) return this.#refuse(size)
    } else if (size === 0) {
      return !this.#wantsDrain
    }
    // A peer that is gone takes nothing, as a socket whose reset is still under way.
    if (!peer.#isGone && !peer.#resetDue) {
      peer.#inbox.push(bytes)
      peer.#inboxBytes += size
      peer.wire?.written(size)
      this.#turns.post(peer)
    }
    if (peer.#inboxBytes < this.#format.highBytes && peer.#inbox.length - peer.#head < HIGH_WRITES) return true
    this.#wantsDrain = true
    return false
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#turns.post(this)
  }

  end(): void {
    if (this.#isEnded || this.#isGone) return
    this.#isEnded = true
    this.#peer.wire?.ended()
    this.#turns.post(this.#peer)
  }

  abort(reason?: Error): void {
    if (this.#isGone) return
    this.#leave(reason)
    this.#peer.#beReset()
  }

  /** The network's doing: both sides see a reset. */
  cut(): void {
    this.#beReset()
    this.#peer.#beReset()
  }

  turn(): void {
    if (!this.#isOpen) return
    if (this.#resetDue && !this.#isGone && !this.wire?.isStalled) {
      this.#leave(new ConnectionError('RESET', `${this.remote}: the peer cut the link`, { remote: this.remote }))
    }
    if (this.#refused !== undefined) this.#reportRefused()
    if (!this.#isGone && !this.#resetDue && !this.#isPaused) {
      if (this.#inbox.length > this.#head) this.#deliver()
      if (this.wire?.isCut) this.cut()
      if (this.#mayHearEnd()) this.#hearEnd()
    }
    if (this.#drainDue) this.#drain()
    if (!this.#isGone && this.#isEnded && this.#hasPeerEnd && this.#peer.#hasPeerEnd) this.#leave(undefined)
    if (this.#isGone && !this.#isClosed) this.#close()
  }

  #deliver(): void {
    // Only what was there when the turn began: what is written meanwhile has posted the link again.
    if (this.#format.kind === 'message') {
      for (let count = this.#inbox.length - this.#head; count > 0 && this.#isReading(); count--) {
        if (!this.#deliverMessage()) break
      }
    } else {
      let waiting = this.#inboxBytes
      while (waiting > 0 && this.#isReading()) {
        const size = this.wire === undefined ? Math.min(waiting, CHUNK_BYTES) : this.wire.next(waiting)
        if (size === RESET) this.cut()
        if (size <= 0) break
        waiting -= size
        this.#give(this.#take(size))
      }
    }
    this.#turns.flushAfter(this.#sink)
    const writer = this.#peer
    if (!writer.#wantsDrain || this.#inboxBytes > this.#format.lowBytes) return
    if (this.#inbox.length - this.#head > LOW_WRITES) return
    writer.#wantsDrain = false
    writer.#drainDue = true
    this.#turns.post(writer)
  }

  /** @returns false when the next message has to wait. */
  #deliverMessage(): boolean {
    const size = (this.#inbox[this.#head] as Uint8Array).byteLength
    const verdict = this.wire === undefined ? size : this.wire.next(size)
    if (verdict === RESET) this.cut()
    if (verdict === RESET || verdict === HOLD) return false
    const message = this.#take(size)
    if (verdict !== LOST) this.#give(message)
    return true
  }

  #isReading(): boolean {
    return !this.#isPaused && !this.#isGone && !this.#resetDue
  }

  /** Copies the next `size` bytes (the whole next write, on the message kind) out of the inbox. */
  #take(size: number): Buffer {
    const chunk = Buffer.allocUnsafe(size)
    let filled = 0
    do {
      const write = this.#inbox[this.#head] as Uint8Array
      const part = Math.min(size - filled, write.byteLength - this.#offset)
      const isWhole = part === write.byteLength
      chunk.set(isWhole ? write : write.subarray(this.#offset, this.#offset + part), filled)
      filled += part
      this.#offset += part
      if (this.#offset === write.byteLength) {
        this.#inbox[this.#head] = NOTHING
        this.#head++
        this.#offset = 0
      }
    } while (filled < size)
    this.#inboxBytes -= size
    if (this.#head === this.#inbox.length) {
      this.#inbox.length = 0
      this.#head = 0
    } else if (this.#head > HIGH_WRITES && this.#head * 2 > this.#inbox.length) {
      this.#inbox = this.#inbox.slice(this.#head)
      this.#head = 0
    }
    return chunk
  }

  #give(chunk: Buffer): void {
    try {
      this.#sink.data(this, chunk, 0, chunk.byteLength)
    } catch (thrown) {
      this.#fail(toError(thrown))
    }
  }

  #mayHearEnd(): boolean {
    if (!this.#peer.#isEnded || this.#hasPeerEnd || !this.#isReading()) return false
    return this.#inbox.length === this.#head && (this.wire === undefined || this.wire.mayEnd())
  }

  #hearEnd(): void {
    this.#hasPeerEnd = true
    this.#turns.post(this.#peer)
    try {
      this.#sink.end(this)
    } catch (thrown) {
      this.#fail(toError(thrown))
    }
  }

  #drain(): void {
    this.#drainDue = false
    if (this.#isGone) return
    try {
      this.#sink.drain(this)
    } catch (thrown) {
      this.#fail(toError(thrown))
    }
  }

  #close(): void {
    this.#isClosed = true
    this.#turns.post(this.#peer)
    this.#sink.close(this, this.#closeError)
  }

  /** A message over the limit: it is not sent and the link lives, as with a datagram (EMSGSIZE, udp(7)). */
  #refuse(size: number): boolean {
    const limit = this.#format.maxMessageBytes
    const error = new ConnectionError(
      'MESSAGE_TOO_LARGE',
      `${this.remote}: expected a message of at most ${limit} bytes, got ${size}; it was not sent`,
      { limit, got: size, remote: this.remote },
    )
    if (this.#refused === undefined) this.#refused = [error]
    else this.#refused.push(error)
    this.#turns.post(this)
    return true
  }

  #reportRefused(): void {
    const errors = this.#refused as Error[]
    this.#refused = undefined
    for (const error of errors) {
      if (this.#sink.fault === undefined) this.#fail(error)
      else this.#sink.fault(error, this.remote)
    }
  }

  #fail(error: Error): void {
    if (this.#isGone) return
    this.#leave(error)
    this.#peer.#beReset()
  }

  #beReset(): void {
    if (this.#isGone || this.#resetDue) return
    this.#resetDue = true
    this.#forget()
    this.#turns.post(this)
  }

  #leave(error: Error | undefined): void {
    this.#isGone = true
    this.#closeError = error
    this.#forget()
    this.#turns.post(this)
  }

  #forget(): void {
    this.#inbox = []
    this.#head = 0
    this.#offset = 0
    this.#inboxBytes = 0
    if (this.#isGone) this.wire?.close()
  }
}

const NOTHING = new Uint8Array(0)
