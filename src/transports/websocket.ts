/**
 * WebSocket: `ws://host:port/path`, and over TLS `wss://host:port/path` (RFC 6455).
 *
 * Room: transports. Binding, pauses and TLS handshakes are those of tcp and tls; then a socket's HTTP request is checked,
 * and the library `ws` (an optional peer: npm install ws) speaks the protocol. A message is a frame's payload, text or
 * binary; bytes are sent as a binary message, text as a text message.
 *
 *   ws://localhost:8080/chat     this path only; others get 404
 *   ws://localhost:8080          any path; a handler reads it: connection.feature(WEBSOCKET)?.path
 */
import type { Socket } from 'node:net'
import type { TlsOptions } from '../core/options.js'
import type { Capabilities, Link, LinkSink, Transport, TransportOptions } from '../core/transport.js'
import { type Before, SocketArrival } from './socket-arrival.js'
import { StreamListener } from './stream-listener.js'
import { bindTcp } from './tcp-bind.js'
import { connectWebSocket } from './websocket-client.js'
import { loadWs, wsOptions } from './websocket-library.js'
import { WebSocketLink } from './websocket-link.js'
import { type WebSocketOptions, webSocketOptions } from './websocket-options.js'
import { webSocketScope } from './websocket-scope.js'

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

  async listen(endpoint, options, sink) {
    const library = loadWs()
    // Before the bind: with a bad certificate nothing is bound.
    const handshakes = endpoint.scheme === 'wss' ? await tlsHandshakes(options.tls) : undefined
    const { WebSocketUpgrades } = await import('./websocket-upgrades.js')
    const preambles = options.preamble === undefined ? undefined : await preamblesOf(options.preamble, options, sink)
    const upgrades = new WebSocketUpgrades(library, wsOptions(options), endpoint, options)
    const bound = await bindTcp(endpoint, options)
    const scope = webSocketScope(bound.endpoint, 'accepted', options, sink)
    const { backlog = 511, noDelay = true } = options
    const upgrade = (raw: Socket, socket: Socket, front: Link | undefined, before: Before | undefined, ms: number) => {
      const arrival = SocketArrival.take(raw, scope, 'upgrade', before)
      if (arrival === undefined) return
      const { arrived } = arrival
      upgrades.begin(socket, ms, (error, accept) => {
        if (arrival.isCut) return
        if (accept === undefined) return sink.fault?.(error, arrival.remote)
        listener.pass(raw, () => {
          accept((ws, facts) => {
            // The library turns it on.
            if (!noDelay) raw.setNoDelay(false)
            new WebSocketLink({ ws, socket, raw, facts, front, arrived }, scope).open()
          })
        })
      })
    }
    const begin = (raw: Socket, front: Link | undefined) => {
      const { handshakeMs } = scope
      if (handshakes === undefined) return upgrade(raw, raw, front, front, handshakeMs)
      const arrival = SocketArrival.take(raw, scope, 'handshake', front)
      if (arrival === undefined) return
      const since = performance.now()
      handshakes.begin(raw, handshakeMs, (error, secured) => {
        if (arrival.isCut) return
        if (secured === undefined) sink.fault?.(error, arrival.remote)
        else upgrade(raw, secured, front, arrival, Math.max(1, handshakeMs - (performance.now() - since)))
      })
    }
    const listener: StreamListener = new StreamListener({
      ...bound,
      sink,
      backlog,
      ...handshakes?.parts(sink, options.limits?.handshakes),
      accept(raw) {
        if (preambles === undefined) begin(raw, undefined)
        else preambles.begin(raw, bound.endpoint, begin)
      },
    })
    return listener
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
