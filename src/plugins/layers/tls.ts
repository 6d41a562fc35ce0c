/**
 * `tls`: TLS over what is below it, by the transport's own upgrade.
 *
 * Room: plugins/layers. Where something has to stand before the handshake (a PROXY protocol header), or where TLS is not
 * everybody's: with `optional` one port serves those who begin a handshake and those who do not. Endpoints `tls://...` do
 * without it.
 */
import { arrive } from '../../core/arrive.js'
import { ConfigError, HandshakeError, toError } from '../../core/errors.js'
import { LayerLink, LayerSink } from '../../core/layer-link.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Factory, Layer, LayerScope, PluginServices } from '../../core/plugin.js'
import type { Link, LinkSink } from '../../core/transport.js'

export interface TlsLayerOptions {
  optional: boolean
}

/** RFC 8446, section 5.1: a record of type handshake, the first byte of every TLS connection. */
const HANDSHAKE = 22

/** Certificates and versions are the listener's `tls` key; on the client's side the `tls` option of `connect`. */
export const tls: Factory<Layer, TlsLayerOptions> = {
  name: 'tls',
  options: optionSchema<TlsLayerOptions>({
    optional: {
      unit: 'switch',
      default: false,
      why: 'Serve peers in plain text whose first byte begins no TLS handshake. `connection.feature(TLS)` tells which is which. On the server side only.',
    },
  }),
  create: ({ optional }, services) => ({
    stage: 'security',
    requires: 'tls',
    upgrade: (below) => (optional ? below : below.filter((name) => name !== 'tls')),
    wrap: (above, scope) => {
      const { cert, pfx, sni } = scope.tls ?? {}
      if (scope.side === 'accepted' && cert === undefined && pfx === undefined && sni === undefined) {
        const message = `listener ${scope.listener}: layer tls needs a certificate and its key: tls.cert and tls.key, or tls.pfx`
        throw new ConfigError('BAD_VALUE', message, { option: 'tls.cert' })
      }
      return new TlsSink(above, scope, services, optional && scope.side === 'accepted')
    },
  }),
}

/** Knows whether whoever is above wants to read. */
class TlsLink extends LayerLink {
  isPaused = false
  override pause(): void {
    this.isPaused = true
    super.pause()
  }
  override resume(): void {
    this.isPaused = false
    super.resume()
  }
}

/** What is done with a link below until it has a link above. */
interface Waiting {
  readonly link: TlsLink
  isOpen: boolean
  /** Core has ended it: what its handshake comes to is told nobody. */
  isCut: boolean
  cancel: () => void
}

class TlsSink extends LayerSink {
  readonly #scope: LayerScope
  readonly #services: PluginServices
  readonly #peeks: boolean

  constructor(above: LinkSink, scope: LayerScope, services: PluginServices, peeks: boolean) {
    super(above)
    this.#scope = scope
    this.#services = services
    this.#peeks = peeks
  }

  override open(below: Link): void {
    const waiting: Waiting = { link: new TlsLink(below), isOpen: false, isCut: false, cancel: () => {} }
    below.state = waiting
    const { remote, local, arrived } = below
    const abort = (reason?: Error) => {
      waiting.isCut = true
      waiting.cancel()
      below.abort(reason)
    }
    waiting.link.place = arrive(this.above, { stage: 'handshake', remote, local, abort }, arrived)
    if (waiting.link.place === undefined) return below.abort()
    if (!this.#peeks) {
      // Whatever comes is the handshake's.
      below.pause()
      void this.#upgrade(below, waiting)
      return
    }
    const { handshakeMs } = this.#scope.timeouts
    if (handshakeMs !== Number.POSITIVE_INFINITY) {
      waiting.cancel = this.#services.clock.after(handshakeMs, () => {
        const message = `no first byte within ${handshakeMs} ms (timeouts.handshakeMs)`
        this.#refuse(below, waiting, new HandshakeError('HANDSHAKE_TIMEOUT', message))
      })
    }
  }

  override data(below: Link, buffer: Uint8Array, start: number, end: number): void {
    const waiting = below.state as Waiting
    if (waiting.isOpen) return this.above.data(waiting.link, buffer, start, end)
    waiting.cancel()
    if (buffer[start] === HANDSHAKE) {
      below.pause()
      below.unread?.(buffer.subarray(start, end))
      void this.#upgrade(below, waiting)
      return
    }
    this.#proceed(waiting)
    if (!waiting.link.isPaused || below.unread === undefined) {
      this.above.data(waiting.link, buffer, start, end)
      return
    }
    // Paused as it was opened: what has come waits.
    below.unread(buffer.subarray(start, end))
  }

  override end(below: Link): void {
    const waiting = below.state as Waiting
    if (waiting.isOpen) this.above.end(waiting.link)
    else below.abort()
  }

  override drain(below: Link): void {
    const waiting = below.state as Waiting
    if (waiting.isOpen) this.above.drain(waiting.link)
  }

  override close(below: Link, error?: Error): void {
    const waiting = below.state as Waiting
    waiting.cancel()
    waiting.link.place?.left()
    if (waiting.isOpen) this.above.close(waiting.link, error)
  }

  #proceed(waiting: Waiting): void {
    waiting.isOpen = true
    this.above.open(waiting.link)
  }

  async #upgrade(below: Link, waiting: Waiting): Promise<void> {
    // Not from within open() or data() of the same link.
    await undefined
    try {
      await below.upgrade?.('tls', this.#scope.tls)
    } catch (thrown) {
      this.#refuse(below, waiting, toError(thrown))
      return
    }
    this.#proceed(waiting)
    if (!waiting.link.isPaused) below.resume()
  }

  #refuse(below: Link, waiting: Waiting, error: Error): void {
    waiting.cancel()
    if (waiting.isCut) return
    this.above.fault?.(error, below.remote)
    below.abort(error)
  }
}
