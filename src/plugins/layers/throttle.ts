/**
 * `throttle`: so many bytes a second, each way.
 *
 * Room: plugins/layers. A token bucket for each direction, of one connection or of all of a listener. Reading is slowed by
 * not reading, so that the peer's own writes wait; writing by sending later.
 */
import type { Clock } from '../../core/clock.js'
import { LayerLink, LayerSink } from '../../core/layer-link.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Factory, Layer, LayerScope } from '../../core/plugin.js'
import type { Link, LinkSink } from '../../core/transport.js'

export interface ThrottleOptions {
  read: number
  write: number
  burst: number
  per: 'connection' | 'listener'
}

export const throttle: Factory<Layer, ThrottleOptions> = {
  name: 'throttle',
  options: optionSchema<ThrottleOptions>({
    read: {
      unit: 'bytes',
      min: 1,
      default: Number.POSITIVE_INFINITY,
      unlimited: true,
      why: 'Bytes a second from peers.',
    },
    write: {
      unit: 'bytes',
      min: 1,
      default: Number.POSITIVE_INFINITY,
      unlimited: true,
      why: 'Bytes a second to peers.',
    },
    burst: {
      unit: 'bytes',
      min: 1,
      default: 65_536,
      why: 'What may pass at once after a silence; at least what 20 ms allow.',
    },
    per: {
      unit: 'choice',
      choices: ['connection', 'listener'],
      default: 'connection',
      why: 'Whether each connection has the rate, or all of a listener share it.',
    },
  }),
  create: (options, { clock }) => ({
    carriesMessages: true,
    wrap: (above, scope) => new ThrottleSink(above, options, clock, scope),
  }),
}

/** As much as is sent in one go at least: smaller pieces cost more than they smooth. */
const PIECE_MS = 20
/** A timer that comes late loses nothing up to here, as long as somebody waits for it. */
const LATE_MS = 250

/** Bytes that may pass; below zero it is in debt, and nothing passes before it is paid. */
class Bucket {
  readonly #perMs: number
  readonly #burst: number
  readonly #clock: Clock
  #level: number
  #at: number

  constructor(rate: number, burst: number, clock: Clock) {
    this.#perMs = rate / 1_000
    this.#burst = Math.max(burst, Math.ceil(this.#perMs * PIECE_MS))
    this.#clock = clock
    this.#level = this.#burst
    this.#at = clock.now()
  }

  /** Bytes that may pass now. */
  get room(): number {
    if (this.#perMs === Number.POSITIVE_INFINITY) return this.#perMs
    this.#refill(this.#burst)
    return Math.floor(this.#level)
  }

  /** After a wait: what has become free meanwhile is not lost because the loop was busy. */
  catchUp(): void {
    if (this.#perMs !== Number.POSITIVE_INFINITY) this.#refill(this.#burst + this.#perMs * LATE_MS)
  }

  #refill(most: number): void {
    const now = this.#clock.now()
    this.#level = Math.max(this.#level, Math.min(most, this.#level + (now - this.#at) * this.#perMs))
    this.#at = now
  }

  take(bytes: number): void {
    this.#level -= bytes
  }

  /** Of these, as many as are worth a write of their own. */
  piece(bytes: number): number {
    return Math.max(1, Math.min(bytes, this.#burst, this.#perMs * PIECE_MS))
  }

  /** Milliseconds until so many may pass; 0: now. */
  waitMs(bytes: number): number {
    const { room } = this
    return room >= bytes ? 0 : Math.max(1, Math.ceil((bytes - this.#level) / this.#perMs))
  }
}

class ThrottledLink extends LayerLink {
  readonly #sink: ThrottleSink
  readonly reading: Bucket
  readonly #writing: Bucket
  #queue: Uint8Array[] = []
  /** The first of the queue that has not gone: to move all up for each would be quadratic. */
  #front = 0
  #queued = 0
  /** Written after `upgrade` was called, while what was written before it still waits. */
  #later: Uint8Array[] | undefined
  #emptied: (() => void) | undefined
  #isWaiting = false
  #isBelowFull = false
  #hasEnded = false
  #endReason: string | undefined
  #owesDrain = false
  #isPausedAbove = false
  #isPausedHere = false
  #isOver = false
  readonly #cancels = new Set<() => void>()

  constructor(below: Link, sink: ThrottleSink) {
    super(below)
    this.#sink = sink
    this.reading = sink.bucket('read')
    this.#writing = sink.bucket('write')
  }

  override get buffered(): number {
    return this.below.buffered + this.#queued
  }
  override write(bytes: Uint8Array): boolean {
    if (this.#hasEnded || this.#isOver) return true
    this.#queued += bytes.length
    if (this.#later !== undefined) this.#later.push(bytes)
    else {
      this.#queue.push(bytes)
      this.#pump()
    }
    const isFree = !this.#isBelowFull && this.buffered <= this.#sink.scope.limits.writeHighBytes
    if (!isFree) this.#owesDrain = true
    return isFree
  }
  override pause(): void {
    this.#isPausedAbove = true
    this.below.pause()
  }
  override resume(): void {
    this.#isPausedAbove = false
    if (!this.#isPausedHere) this.below.resume()
  }
  override end(reason?: string): void {
    if (this.#hasEnded || this.#isOver) return
    this.#hasEnded = true
    this.#endReason = reason
    if (this.#queued === 0) this.below.end(reason)
  }
  override abort(reason?: Error): void {
    this.dispose()
    this.below.abort(reason)
  }

  /** What was written before has to leave in plain text, however long that takes; and nothing is read meanwhile. */
  override async upgrade(layer: string, options: unknown): Promise<void> {
    this.#later = []
    this.below.pause()
    if (this.#isQueued) {
      await new Promise<void>((resolve) => {
        this.#emptied = resolve
      })
    }
    // From here on the link below holds what is written until it has switched.
    const switched = super.upgrade(layer, options)
    const later = this.#later ?? []
    this.#later = undefined
    this.#queue.push(...later)
    this.#pump()
    await switched
    if (!this.#isPausedAbove && !this.#isPausedHere) this.below.resume()
  }

  /**
   * Bytes have come.
   *
   * @returns how many of them may go on now; the rest, and what follows, is to wait below.
   */
  came(bytes: number): number {
    const { room } = this.reading
    // What cannot be given back goes on whole, and what follows waits until it is paid for.
    const canWait = this.below.unread !== undefined && this.#sink.scope.kind === 'stream'
    const now = canWait ? Math.max(0, Math.min(room, bytes)) : bytes
    this.reading.take(now)
    this.holdBack(now < bytes ? this.reading.piece(bytes - now) : 0, now < bytes)
    return now
  }

  /**
   * Reads nothing until so many bytes may pass.
   *
   * @param always - Bytes are given back: a link that is not paused would deliver them at once, before those that came with them,
   *   though the bucket may have filled between two readings of the clock.
   */
  holdBack(bytes: number, always = false): void {
    if (this.#isPausedHere) return
    const waitMs = this.reading.waitMs(bytes)
    if (waitMs === 0 && !always) return
    this.#isPausedHere = true
    this.below.pause()
    this.#after(waitMs, () => {
      this.#isPausedHere = false
      this.reading.catchUp()
      // Others of the listener may have come first.
      this.holdBack(Math.min(1, bytes))
      if (!this.#isPausedHere && !this.#isPausedAbove && this.#later === undefined) this.below.resume()
    })
  }

  drained(): void {
    this.#isBelowFull = false
    this.#goOn()
  }

  dispose(): void {
    for (const cancel of this.#cancels) cancel()
    this.#cancels.clear()
    this.#queue = []
    this.#front = 0
    this.#later = undefined
    this.#queued = 0
    this.#isOver = true
    this.#emptied?.()
  }

  get #isQueued(): boolean {
    return this.#front < this.#queue.length
  }

  /** Sends what may be sent. Tells nobody: it may be called from within `write`. */
  #pump(): void {
    while (!this.#isWaiting && !this.#isBelowFull) {
      const next = this.#queue[this.#front]
      if (next === undefined) return
      // A message cannot be cut: it goes once nothing is owed, and is owed itself.
      const wanted = this.#sink.scope.kind === 'message' ? 1 : this.#writing.piece(next.length)
      const waitMs = this.#writing.waitMs(wanted)
      if (waitMs > 0) {
        this.#isWaiting = true
        this.#after(waitMs, () => {
          this.#isWaiting = false
          this.#writing.catchUp()
          this.#goOn()
        })
        return
      }
      this.#send(next)
    }
  }

  #send(next: Uint8Array): void {
    const isWhole = this.#sink.scope.kind === 'message' || this.#writing.room >= next.length
    const piece = isWhole ? next : next.subarray(0, this.#writing.room)
    if (!isWhole) this.#queue[this.#front] = next.subarray(piece.length)
    else if (++this.#front >= 1_024 || this.#front === this.#queue.length) {
      this.#queue = this.#queue.slice(this.#front)
      this.#front = 0
    }
    this.#queued -= piece.length
    this.#writing.take(piece.length)
    if (!this.below.write(piece)) this.#isBelowFull = true
  }

  #goOn(): void {
    this.#pump()
    if (!this.#isQueued) {
      this.#emptied?.()
      this.#emptied = undefined
      if (this.#hasEnded && this.#queued === 0) return this.below.end(this.#endReason)
    }
    if (this.#owesDrain && !this.#isBelowFull && this.buffered <= this.#sink.scope.limits.writeLowBytes) {
      this.#owesDrain = false
      this.#sink.above.drain(this)
    }
  }

  #after(ms: number, run: () => void): void {
    const cancel = this.#sink.clock.after(ms, () => {
      this.#cancels.delete(cancel)
      run()
    })
    this.#cancels.add(cancel)
  }
}

class ThrottleSink extends LayerSink<ThrottledLink> {
  readonly clock: Clock
  readonly scope: LayerScope
  readonly #options: ThrottleOptions
  readonly #shared: Readonly<Record<'read' | 'write', Bucket>> | undefined

  constructor(above: LinkSink, options: ThrottleOptions, clock: Clock, scope: LayerScope) {
    super(above)
    this.clock = clock
    this.scope = scope
    this.#options = options
    const make = (rate: number) => new Bucket(rate, options.burst, clock)
    this.#shared = options.per === 'listener' ? { read: make(options.read), write: make(options.write) } : undefined
  }

  bucket(direction: 'read' | 'write'): Bucket {
    return this.#shared?.[direction] ?? new Bucket(this.#options[direction], this.#options.burst, this.clock)
  }
  protected override make(below: Link): ThrottledLink {
    return new ThrottledLink(below, this)
  }
  override open(below: Link): void {
    super.open(below)
    // A newcomer does not read before what others of the listener have read is paid for.
    if (this.#shared !== undefined) this.linkOf(below).holdBack(0)
  }
  override data(below: Link, buffer: Uint8Array, start: number, end: number): void {
    const link = this.linkOf(below)
    const now = link.came(end - start)
    if (start + now < end) {
      const rest = buffer.subarray(start + now, end)
      below.unread?.(below.stable === true ? rest : Buffer.from(rest))
    }
    if (now > 0 || start === end) this.above.data(link, buffer, start, start + now)
  }
  override drain(below: Link): void {
    this.linkOf(below).drained()
  }
  override close(below: Link, error?: Error): void {
    this.linkOf(below).dispose()
    super.close(below, error)
  }
}
