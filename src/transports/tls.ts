/**
 * TLS: `tls://host:port`.
 *
 * Room: transports. TCP as in tcp, then a handshake before a link is opened; nobody above sees a peer that failed it.
 */
import type { Capabilities, Transport } from '../core/transport.js'
import { dial, tcpTarget } from './dial.js'
import { SocketArrival } from './socket-arrival.js'
import { StreamLink } from './stream-link.js'
import { StreamListener } from './stream-listener.js'
import { streamScope, type TcpOptions, tcpOptions } from './stream-options.js'
import { bindTcp } from './tcp-bind.js'
import { readClientTls, secureClient } from './tls-client.js'
import { TlsHandshakes } from './tls-handshakes.js'

const capabilities: Capabilities = {
  kind: 'stream',
  ordered: true,
  reliable: true,
  halfClose: true,
  reset: true,
  backpressure: 'end-to-end',
  upgrade: [],
}

/** The TLS transport. `socket` options as tcp; certificates and versions are the listener's `tls` key. */
export const tls: Transport<TcpOptions> = {
  name: 'tls',
  schemes: ['tls'],
  binds: 'tcp',
  options: tcpOptions,
  over: { scheme: 'tcp', layer: 'tls' },
  capabilities: () => capabilities,

  async check(_endpoint, options) {
    await TlsHandshakes.prepare(options.tls)
  },

  async listen(endpoint, options, sink) {
    const scope = streamScope(endpoint, 'accepted', options, sink)
    // Before the bind: with a bad certificate nothing is bound.
    const handshakes = await TlsHandshakes.prepare(options.tls)
    const bound = await bindTcp(endpoint, options)
    scope.endpoint = bound.endpoint
    const { backlog = 511 } = options
    const listener: StreamListener = new StreamListener({
      ...bound,
      sink,
      backlog,
      ...handshakes.parts(sink, options.limits?.handshakes),
      accept(raw) {
        const arrival = SocketArrival.take(raw, scope, 'handshake')
        if (arrival === undefined) return
        handshakes.begin(raw, scope.handshakeMs, (error, secured) => {
          if (arrival.isCut) return
          if (secured === undefined) sink.fault?.(error, arrival.remote)
          else listener.pass(raw, () => new StreamLink(secured, raw, scope, arrival.arrived).open())
        })
      },
    })
    return listener
  },

  async connect(endpoint, options, sink, signal) {
    const scope = streamScope(endpoint, 'connected', options, sink)
    const settings = await readClientTls(options.tls)
    return dial(endpoint, tcpTarget(endpoint, options), signal, (raw) =>
      secureClient(raw, endpoint, settings, scope.handshakeMs, (secured) => {
        const link = new StreamLink(secured, raw, scope)
        link.open()
        return link
      }),
    )
  },
}
