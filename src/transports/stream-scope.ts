/**
 * What the links of one stream listener have in common.
 *
 * Room: transports.
 */
import type { Endpoint } from '../core/endpoint.js'
import type { TlsOptions } from '../core/options.js'
import type { LinkSink } from '../core/transport.js'

/** What all links of one listener, or one link that was dialled, share. */
export interface StreamScope {
  readonly sink: LinkSink
  /** Of the endpoints that links report. */
  readonly scheme: string
  readonly side: 'accepted' | 'connected'
  /** The listener's endpoint as bound, or the one connected to. */
  endpoint: Endpoint
  /** Bytes waiting at which `write` says stop, and at which `drain` says go. */
  readonly writeHighBytes: number
  readonly writeLowBytes: number
  /** TCP beneath: an abort is a reset. */
  readonly canReset: boolean
  /** Taken by `upgrade('tls')` where it is given no options of its own. */
  readonly tls: TlsOptions | undefined
  readonly handshakeMs: number
}
