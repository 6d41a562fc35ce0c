/**
 * What comes on a socket before a transport's own handshake: the socket goes through the layers of the preamble as a link,
 * and is given back when they have opened theirs.
 *
 * Room: transports. Between the accept and the handshake; sees no byte of what comes behind the preamble.
 */
import type { Socket } from 'node:net'
import { arrive } from '../core/arrive.js'
import type { Endpoint } from '../core/endpoint.js'
import type { FeatureToken } from '../core/feature.js'
import type { Link, LinkSink, TransportOptions } from '../core/transport.js'
import { StreamLink } from './stream-link.js'
import { streamScope } from './stream-options.js'
import type { StreamScope } from './stream-scope.js'

/** How a link of the layers tells which socket it stands on: features are passed on. */
const BOTTOM: FeatureToken<GatedLink> = { feature: 'gaidaros.bottom' }

/** @param front - Knows the peer; it is silent from now on. */
export type PreambleDone = (socket: Socket, front: Link) => void

class GatedLink extends StreamLink {
  readonly done: PreambleDone
  constructor(socket: Socket, scope: StreamScope, done: PreambleDone) {
    super(socket, undefined, scope)
    this.done = done
  }
  override feature<T>(token: FeatureToken<T>): T | undefined {
    return token.feature === BOTTOM.feature ? (this as unknown as T) : super.feature(token)
  }
}

export class Preambles {
  readonly #sink: LinkSink
  readonly #options: TransportOptions
  #scope: StreamScope | undefined

  /** @throws {ConfigError} a layer's own. */
  constructor(wrap: (above: LinkSink) => LinkSink, options: TransportOptions, sink: LinkSink) {
    this.#options = options
    this.#sink = wrap({
      // The place that a layer takes goes on to the handshake by what it opens (`Link.arrived`).
      arrive: (arrival) => arrive(sink, arrival, undefined),
      open: (front) => this.#opened(front),
      data: (front, buffer, start, end) => front.feature?.(BOTTOM)?.unread(Buffer.from(buffer.subarray(start, end))),
      // What ends while nobody reads is seen by the handshake.
      end: () => {},
      drain: () => {},
      close: () => {},
      fault: (error, remote) => sink.fault?.(error, remote),
    })
  }

  begin(socket: Socket, endpoint: Endpoint, done: PreambleDone): void {
    this.#scope ??= { ...streamScope(endpoint, 'accepted', this.#options, this.#sink), tls: undefined }
    new GatedLink(socket, this.#scope, done).open()
  }

  #opened(front: Link): void {
    front.pause()
    // The layer gives back what stood behind its bytes before it returns.
    queueMicrotask(() => {
      const bottom = front.feature?.(BOTTOM)
      // Read now: Node forgets the addresses of a socket that has closed.
      void front.remote
      void front.local
      const socket = bottom?.release()
      if (bottom !== undefined && socket !== undefined && !socket.destroyed) bottom.done(socket, front)
      else front.arrived?.left()
    })
  }
}
