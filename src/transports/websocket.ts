/**
 * WebSocket: `ws://host:port/path`, and over TLS `wss://host:port/path` (RFC 6455).
 *
 * Room: transports. Binding, pauses and TLS handshakes are those of tcp and tls; then a socket's HTTP request is checked,
 * and the library `ws` (an optional peer: npm install ws) speaks the protocol. A message is a frame's payload, text or
 * binary; bytes are sent as a binary message, text as a text message.
 *
 *   ws://localhost:8080/chat     this path only; others get 404
 *   ws://localhost:8080          any path; a handler reads it: connection.feature(WEBSOCKET)?.path
 *
 * Several listeners may have one port, each with a path of its own.
 */
import type { TlsOptions } from '../core/options.js'
import type { Capabilities, LinkSink, Transport, TransportOptions } from '../core/transport.js'
import { connectWebSocket } from './websocket-client.js'
import { loadWs } from './websocket-library.js'
import { type WebSocketOptions, webSocketOptions } from './websocket-options.js'
import { misfitOf } from './websocket-sharing.js'

export { WEBSOCKET, type WebSocketFacts } from './websocket-facts.js'
export type { WebSocketOptions } from './websocket-options.js'

const capabilities: Capabilities = {
  kind: 'message',
  ordered: true,
  reliable: true,
  halfClose: false,
  reset: true,
  backpressure: 'end-to-end',
  upgrade: [],
}

/**
 * The WebSocket transport. `socket` options: those of tcp, `compress`, `origins` and `protocols`. A message over
 * `limits.frameBytes` is refused while it arrives, with close code 1009. `timeouts.handshakeMs` runs from the accept to
 * the end of the request.
 */
export const websocket: Transport<WebSocketOptions> = {
  name: 'websocket',
  schemes: ['ws', 'wss'],
  binds: 'tcp',
  preambles: true,
  options: webSocketOptions,
  capabilities: () => capabilities,

  async check({ scheme }, { tls }) {
    loadWs()
    if (scheme === 'wss') await tlsHandshakes(tls)
  },

  shares: misfitOf,

  async listen(endpoint, options, sink) {
    const library = loadWs()
    const { listenAtPath } = await import('./websocket-port.js')
    return listenAtPath(library, endpoint, options, sink, async () => ({
      // Before the bind: with a bad certificate nothing is bound.
      handshakes: endpoint.scheme === 'wss' ? await tlsHandshakes(options.tls) : undefined,
      preamblesOf: async (port) => options.preamble && preamblesOf(options.preamble, options, port),
    }))
  },

  connect: connectWebSocket,
}

/** TLS is loaded by those who use it. */
async function tlsHandshakes(tls: TlsOptions | undefined) {
  const { TlsHandshakes } = await import('./tls-handshakes.js')
  return TlsHandshakes.prepare(tls)
}

/** Streams with something in front are the exception. */
async function preamblesOf(wrap: NonNullable<TransportOptions['preamble']>, options: TransportOptions, sink: LinkSink) {
  const { Preambles } = await import('./stream-preamble.js')
  return new Preambles(wrap, options, sink)
}
