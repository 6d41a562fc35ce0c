/**
 * When two WebSocket listeners may share an address: each has a path of its own, and what comes before the path is known (the
 * socket, TLS, the deadline of the handshake) is the same for both.
 *
 * Room: transports. Loads nothing that listens, so that core may ask before anything is bound.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Endpoint } from '../core/endpoint.js'
import { defaultLimits, defaultTimeouts } from '../core/options.js'
import type { TransportOptions } from '../core/transport.js'
import type { WebSocketOptions } from './websocket-options.js'

/** Of `socket`: what belongs to a path, and may differ. */
const OF_PATH = ['compress', 'origins', 'protocols']
const OF_CORE = ['tls', 'limits', 'timeouts', 'sockets', 'preamble']

type Shared = Readonly<Record<string, unknown>>

/** @returns undefined: they may; else why not, as the rest of a sentence. */
export function misfitOf(
  one: Endpoint,
  options: TransportOptions<WebSocketOptions>,
  other: Endpoint,
  otherOptions: TransportOptions<WebSocketOptions>,
): string | undefined {
  if (one.scheme !== other.scheme)
    return `${one.scheme}:// and ${other.scheme}:// cannot share a port; give each its own`
  if (one.path === other.path) return 'both have the same path; give each its own'
  const [these, those] = [sharedOf(options), sharedOf(otherOptions)]
  const key = [...new Set([...Object.keys(these), ...Object.keys(those)])].find(
    (name) => !isDeepStrictEqual(these[name], those[name]),
  )
  return key === undefined
    ? undefined
    : `two paths share a port only where \`${key}\` is the same; make it so, or give each its own port`
}

function sharedOf(options: TransportOptions<WebSocketOptions>): Shared {
  const { tls, limits, timeouts } = options
  const socket = Object.entries(options).filter(([key]) => !OF_PATH.includes(key) && !OF_CORE.includes(key))
  return {
    ...Object.fromEntries(socket.map(([key, value]) => [`socket.${key}`, value])),
    ...Object.fromEntries(Object.entries(tls ?? {}).map(([key, value]) => [`tls.${key}`, value])),
    'limits.handshakes': (limits ?? defaultLimits).handshakes,
    'timeouts.handshakeMs': (timeouts ?? defaultTimeouts).handshakeMs,
  }
}
