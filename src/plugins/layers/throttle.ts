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
    burst: { unit: 'bytes', min: 1, default: 65_536, why: 'What may pass at once after a silence.' },
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

/** Bytes that may pass; below zero it is in debt, and nothing passes before it is paid. */
class Bucket {
  readonly #perMs: number
  readonly #burst: number
  readonly #clock: Clock
  #level: number
  #at: number

  constructor(rate: number, burst: number, clock: Clock) {
    this.#perMs = rate / 1_000
    this.#burst = burst
    this.#clock = clock
    this.#level = burst
    this.#at = clock.now()
  }

  /** Takes bytes. @returns milliseconds until more may pass; 0: now. */
  take(bytes: number): number {
    if (this.#perMs === Number.POSITIVE_INFINITY) return 0
    const now = this.#clock.now()
    this.#level = Math.min(this.#burst, this.#level + (now - this.#at) * this.#perMs) - bytes
    this.#at = now
    return this.#level >= 0 ? 0 : Math.ceil(-this.#level / this.#perMs)
  }
}

class ThrottledLink extends LayerLink {
  readonly #sink: ThrottleSink
  readonly reading: Bucket
  readonly #writing: Bucket
  #queue: Uint8Array[] = []
  #queued = 0
  #isWaiting = false
  #hasEnded = false
  #owesDrain = false
  #isPausedAbove = false
  #isPausedHere = false
  #cancels = new Set<() => void>()

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
    if (this.#hasEnded) return true
    if (!this.#isWaiting && this.#queue.length === 0) return this.#send(bytes)
    this.#queue.push(bytes)
    this.#queued += bytes.length
    const isFree = this.buffered <= this.#sink.scope.limits.writeHighBytes
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
  override end(): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    if (this.#queue.length === 0) this.below.end()
  }
  override abort(reason?: Error): void {
    this.dispose()
    this.below.abort(reason)
  }

  /** Bytes have come: the next ones wait until these are paid for. */
  came(bytes: number): void {
    const waitMs = this.reading.take(bytes)
    if (waitMs === 0 || this.#isPausedHere) return
    this.#isPausedHere = true
    this.below.pause()
    this.#after(waitMs, () => {
      this.#isPausedHere = false
      if (!this.#isPausedAbove) this.below.resume()
    })
  }

  drained(): void {
    if (this.#owesDrain && this.buffered <= this.#sink.scope.limits.writeLowBytes) {
      this.#owesDrain = false
      this.#sink.above.drain(this)
    } else if (!this.#owesDrain) this.#sink.above.drain(this)
  }

  dispose(): void {
    for (const cancel of this.#cancels) cancel()
    this.#cancels.clear()
    this.#queue = []
    this.#queued = 0
    this.#hasEnded = true
  }

  #send(bytes: Uint8Array): boolean {
    const waitMs = this.#writing.take(bytes.length)
    const isFree = this.below.write(bytes)
    if (waitMs > 0) {
      this.#isWaiting = true
      this.#after(waitMs, () => this.#goOn())
    }
    return isFree
  }

  #goOn(): void {
    this.#isWaiting = false
    while (!this.#isWaiting) {
      const next = this.#queue.shift()
      if (next === undefined) break
      this.#queued -= next.length
      this.#send(next)
    }
    if (this.#owesDrain && this.buffered <= this.#sink.scope.limits.writeLowBytes) {
      this.#owesDrain = false
      this.#sink.above.drain(this)
    }
    if (this.#hasEnded && this.#queue.length === 0 && !this.#isWaiting) this.below.end()
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
  override data(below: Link, buffer: Uint8Array, start: number, end: number): void {
    const link = this.linkOf(below)
    link.came(end - start)
    this.above.data(link, buffer, start, end)
  }
  override drain(below: Link): void {
    this.linkOf(below).drained()
  }
  override close(below: Link, error?: Error): void {
    this.linkOf(below).dispose()
    super.close(below, error)
  }
}
