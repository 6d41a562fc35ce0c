/**
 * What WebSocket links share, from the options core hands to each transport.
 *
 * Room: transports.
 */
import type { Endpoint } from '../core/endpoint.js'
import { defaultLimits, defaultTimeouts } from '../core/options.js'
import type { LinkSink, TransportOptions } from '../core/transport.js'
import { streamScope } from './stream-options.js'
import type { StreamScope } from './stream-scope.js'

/** Messages held in a pause, in messages of the largest size: one read of compressed ones could inflate to any number. */
const HELD_MESSAGES = 4
/** A read of the socket, whatever the largest message. */
const READ_BYTES = 64 * 1024

/** What links of one listener share. */
export interface WebSocketScope extends StreamScope {
  /** Bytes of messages held in a pause. */
  readonly heldBytes: number
  /** After a message that breaks the rules: for the peer to read why. */
  readonly lingerMs: number
}

export function webSocketScope(
  endpoint: Endpoint,
  side: StreamScope['side'],
  options: TransportOptions,
  sink: LinkSink,
): WebSocketScope {
  const { frameBytes } = options.limits ?? defaultLimits
  const { lingerMs } = options.timeouts ?? defaultTimeouts
  return Object.assign(streamScope(endpoint, side, options, sink), {
    heldBytes: READ_BYTES + HELD_MESSAGES * frameBytes,
    lingerMs,
  })
}
