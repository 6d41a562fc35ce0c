/**
 * One front and one node, and what passes between them: batches in order, or an end with a reason.
 *
 * Room: plugins/executors. Both ends are alike. NATS delivers at most once and cuts whoever reads slowly; here pieces are
 * numbered so that a gap is seen, what is under way is bounded by the other side's credit, and silence ends the link.
 */
import type { Clock } from '../../../core/clock.js'
import { ExecutorError } from '../../../core/errors.js'
import type { Channel, ChannelSink } from '../../../core/places/channel.js'
import { mostBatchBytes } from '../../../core/places/wire.js'
import * as envelopes from './envelope.js'
import { type Envelope, writeEnvelope } from './envelope.js'

export interface LinkOptions {
  /** Bytes under way and not yet said to be consumed. */
  readonly windowBytes: number
  /** Largest value of a record; a batch is hardly larger. */
  readonly messageBytes: number
  /** Silence that ends it. */
  readonly lostMs: number
}

/** What a link needs of whoever has the connection to NATS. */
export interface LinkPorts {
  readonly clock: Clock
  /** False while there is no NATS: what is sent waits here. */
  readonly isUp: boolean
  /** Largest payload that one publish may have. */
  readonly maxPayload: number
  /** @param isProbe - Wants to hear when nobody listens there. */
  post(envelope: Buffer, isProbe: boolean): void
  /** It is over; told before the sink. */
  ended(link: ClusterLink, error: Error): void
  /** Something came that means nothing. */
  dropped(): void
}

/** Pieces are no larger, so that those of several links take turns (64 to 256 KiB is what NATS likes). */
const PIECE_BYTES = 128 * 1024

export class ClusterLink implements Channel {
  readonly id: string
  name: string
  readonly #ports: LinkPorts
  readonly #options: LinkOptions
  readonly #sink: ChannelSink
  /** Batches that wait for credit, for NATS, or for somebody to send them to. */
  readonly #waiting: Buffer[] = []
  #waitingBytes = 0
  #isOpen = false
  /** NATS was away, and the other side has not been heard since. */
  #isUnsure = false
  /** Of the first batch that waits: how much of it has left. */
  #offset = 0
  #sentNumber = 0
  #sentBytes = 0
  #creditedBytes = 0
  #takenNumber = 0
  #takenBytes = 0
  #toldBytes = 0
  #pieces: Buffer[] = []
  #pieceBytes = 0
  #toCome = 0
  #error: Error | undefined
  #isTold = false
  /** The application could not be told more for now. */
  #isFull = false
  heardAt: number

  constructor(id: string, name: string, ports: LinkPorts, options: LinkOptions, sink: ChannelSink) {
    this.id = id
    this.name = name
    this.#ports = ports
    this.#options = options
    this.#sink = sink
    this.heardAt = ports.clock.now()
  }

  get isOver(): boolean {
    return this.#error !== undefined
  }
  get waitingBytes(): number {
    return this.#waitingBytes
  }

  /** There is somebody at the other end. */
  open(): void {
    this.#isOpen = true
    this.heardAt = this.#ports.clock.now()
    this.pump()
  }

  send(batch: Uint8Array): boolean {
    if (this.#error !== undefined) return false
    this.#waiting.push(Buffer.from(batch.buffer, batch.byteOffset, batch.length))
    this.#waitingBytes += batch.length
    this.pump()
    this.#isFull = this.#waitingBytes > this.#options.windowBytes
    return !this.#isFull
  }

  get #mayPost(): boolean {
    return this.#isOpen && !this.#isUnsure && this.#ports.isUp
  }

  /** Sends what may be sent. */
  pump(): void {
    while (this.#waiting.length > 0 && this.#mayPost && this.#error === undefined) {
      const credit = this.#options.windowBytes - ((this.#sentBytes - this.#creditedBytes) >>> 0)
      if (credit <= 0) break
      const batch = this.#waiting[0] as Buffer
      const most = Math.min(PIECE_BYTES, this.#ports.maxPayload - envelopes.ENVELOPE_HEAD)
      const end = Math.min(batch.length, this.#offset + most)
      const piece = batch.subarray(this.#offset, end)
      this.#sentNumber = (this.#sentNumber + 1) >>> 0
      this.#sentBytes = (this.#sentBytes + piece.length) >>> 0
      this.#waitingBytes -= piece.length
      if (end === batch.length) {
        this.#waiting.shift()
        this.#offset = 0
      } else this.#offset = end
      this.#ports.post(writeEnvelope(envelopes.DATA, this.#sentNumber, batch.length - end, piece), false)
    }
    if (this.#ending !== undefined && this.#waiting.length === 0) return this.close(this.#ending)
    if (!this.#isFull || this.#waitingBytes > this.#options.windowBytes / 2) return
    this.#isFull = false
    this.#sink.drain()
  }

  /** What came for this link. */
  take({ kind, number, value, payload }: Envelope): void {
    if (this.#error !== undefined) return
    this.heardAt = this.#ports.clock.now()
    if (this.#isUnsure) {
      // So that it need not wait for our next sign of life.
      this.#isUnsure = false
      this.beat()
      this.pump()
    }
    switch (kind) {
      case envelopes.DATA:
        return this.#piece(number, value, payload)
      case envelopes.CREDIT:
        return this.#credit(value)
      case envelopes.BEAT: {
        // Behind everything that was sent before it: what has not come by now will not come. One that is older than what has come
        // was overtaken, or came twice.
        const missing = (number - this.#takenNumber) | 0
        if (missing > 0) return this.#fail(`${missing} messages were lost by NATS on their way here`, true)
        return this.#credit(value)
      }
      case envelopes.BYE:
        return this.#fail(payload.toString('utf8', 0, 500) || 'the other side has left', false)
    }
  }

  #piece(number: number, toCome: number, payload: Buffer): void {
    const ahead = (number - this.#takenNumber) | 0
    // Said twice: at most once is what is promised.
    if (ahead <= 0) return this.#ports.dropped()
    if (ahead > 1) return this.#fail(`${ahead - 1} messages were lost by NATS on their way here`, true)
    this.#takenNumber = number
    this.#takenBytes = (this.#takenBytes + payload.length) >>> 0
    const { messageBytes, windowBytes } = this.#options
    if (this.#toCome === 0 && toCome === 0) this.#sink.data(payload)
    else {
      const isNext = this.#toCome === 0 || this.#toCome === payload.length + toCome
      if (!isNext || payload.length === 0) return this.#fail('a piece came that does not fit the one before it', true)
      this.#pieceBytes += payload.length
      const most = mostBatchBytes(messageBytes)
      if (this.#pieceBytes + toCome > most)
        return this.#fail(`a batch of ${this.#pieceBytes + toCome} bytes; ${most} is the most`, true)
      this.#pieces.push(payload)
      this.#toCome = toCome
      if (toCome === 0) {
        const whole = Buffer.concat(this.#pieces, this.#pieceBytes)
        this.#pieces = []
        this.#pieceBytes = 0
        this.#sink.data(whole)
      }
    }
    if (this.#error === undefined && (this.#takenBytes - this.#toldBytes) >>> 0 >= windowBytes / 4) {
      this.#toldBytes = this.#takenBytes
      this.#ports.post(writeEnvelope(envelopes.CREDIT, 0, this.#takenBytes), false)
    }
  }

  #credit(consumed: number): void {
    // Cumulative, so that a lost one is made good by the next; an older one says nothing new.
    const more = (consumed - this.#creditedBytes) >>> 0
    const underWay = (this.#sentBytes - this.#creditedBytes) >>> 0
    if (more > underWay) return this.#ports.dropped()
    this.#creditedBytes = consumed
    this.pump()
  }

  /** Says that this side is there. */
  beat(): void {
    if (!this.#isOpen || this.#error !== undefined) return
    this.#toldBytes = this.#takenBytes
    this.#ports.post(writeEnvelope(envelopes.BEAT, this.#sentNumber, this.#takenBytes), true)
  }

  /** Ends it when the other side has been silent for too long. */
  watch(now: number): void {
    const { lostMs } = this.#options
    if (this.#isOpen && now - this.heardAt > lostMs)
      this.#fail(`${this.name} has been silent for ${Math.round(now - this.heardAt)} ms`, true)
  }

  /** NATS is back; whether the other side is too is not known before it is heard. */
  resume(): void {
    this.#isUnsure = true
    this.heardAt = this.#ports.clock.now()
    this.beat()
  }

  /** NATS says that nobody listens there. */
  nobody(why: string): void {
    if (!this.#isUnsure) this.#fail(why, false)
  }

  /** Ends it when what waits has left. */
  end(reason: Error): void {
    this.#ending = reason
    if (this.#waiting.length === 0) this.close(reason)
  }
  #ending: Error | undefined

  close(reason: Error): void {
    if (this.#error !== undefined) return
    this.#end(reason, true)
    // Not from inside whatever asked for it.
    queueMicrotask(() => this.#tell())
  }

  #fail(why: string, isTold: boolean): void {
    if (this.#error !== undefined) return
    this.#end(new ExecutorError('LOST', why), isTold)
    this.#tell()
  }

  #end(error: Error, isTold: boolean): void {
    this.#error = error
    this.#waiting.length = 0
    this.#waitingBytes = 0
    this.#pieces = []
    if (isTold && this.#isOpen && this.#ports.isUp)
      this.#ports.post(writeEnvelope(envelopes.BYE, 0, 0, Buffer.from(error.message.slice(0, 500))), false)
    this.#ports.ended(this, error)
  }

  #tell(): void {
    if (this.#isTold) return
    this.#isTold = true
    this.#sink.close(this.#error as Error)
  }
}
