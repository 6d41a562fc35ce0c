/**
 * What most layers begin with: a link and a sink that pass everything on.
 *
 * Room: core, contract with a little mechanism. A layer extends both and overrides what it changes.
 */
import { arrive } from './arrive.js'
import type { Endpoint } from './endpoint.js'
import type { FeatureToken } from './feature.js'
import type { Arrival, Arrived, Link, LinkSink } from './transport.js'

/** A link over another one. */
export class LayerLink implements Link {
  state: unknown = undefined
  readonly below: Link
  /** Where the link below has it. */
  readonly ping?: () => void
  /** Of a layer with a handshake or header of its own, where what is below has none. */
  place: Arrived | undefined = undefined

  constructor(below: Link) {
    this.below = below
    if (below.ping !== undefined) this.ping = () => below.ping?.()
  }

  get arrived(): Arrived | undefined {
    return this.place ?? this.below.arrived
  }

  get local(): Endpoint | undefined {
    return this.below.local
  }
  get remote(): Endpoint | undefined {
    return this.below.remote
  }
  get buffered(): number {
    return this.below.buffered
  }
  get stable(): boolean {
    return this.below.stable === true
  }
  write(bytes: Uint8Array): boolean {
    return this.below.write(bytes)
  }
  pause(): void {
    this.below.pause()
  }
  resume(): void {
    this.below.resume()
  }
  unread(bytes: Uint8Array): void {
    this.below.unread?.(bytes)
  }
  end(reason?: string): void {
    this.below.end(reason)
  }
  abort(reason?: Error): void {
    this.below.abort(reason)
  }
  close(): void {
    if (this.below.close === undefined || this.below.buffered > 0) this.below.abort()
    else this.below.close()
  }
  feature<T>(token: FeatureToken<T>): T | undefined {
    return this.below.feature?.(token)
  }
  upgrade(layer: string, options: unknown): Promise<void> {
    if (this.below.upgrade === undefined) return Promise.reject(new Error(`nothing below can switch to ${layer}`))
    return this.below.upgrade(layer, options)
  }
}

/**
 * A sink under another one. `below.state` is the layer's own link, made in `open`; a layer that opens later overrides `open`,
 * and has to bear calls for links without one.
 */
export class LayerSink<L extends LayerLink = LayerLink> implements LinkSink {
  readonly above: LinkSink

  constructor(above: LinkSink) {
    this.above = above
  }

  /** The layer's link over `below`. */
  protected make(below: Link): L {
    return new LayerLink(below) as L
  }
  protected linkOf(below: Link): L {
    return below.state as L
  }

  arrive(arrival: Arrival): Arrived | undefined {
    return arrive(this.above, arrival, undefined)
  }
  open(below: Link): void {
    const link = this.make(below)
    below.state = link
    this.above.open(link)
  }
  data(below: Link, buffer: Uint8Array, start: number, end: number): void {
    this.above.data(this.linkOf(below), buffer, start, end)
  }
  end(below: Link, reason?: string): void {
    this.above.end(this.linkOf(below), reason)
  }
  heard(below: Link, part?: 'begun' | 'whole'): void {
    this.above.heard?.(this.linkOf(below), part)
  }
  drain(below: Link): void {
    this.above.drain(this.linkOf(below))
  }
  close(below: Link, error?: Error): void {
    this.above.close(this.linkOf(below), error)
  }
  flush(): void {
    this.above.flush?.()
  }
  fault(error: Error, remote?: Endpoint): void {
    this.above.fault?.(error, remote)
  }
  reloaded(): void {
    this.above.reloaded?.()
  }
}
