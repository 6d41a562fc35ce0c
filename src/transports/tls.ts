/**
 * TLS from the first byte: a TCP listener whose links open when their handshake is done.
 *
 * Room: transports. `tls://host:port` with the listener's `tls` key; a peer that fails its handshake never becomes a
 * connection, and never costs another one anything.
 */
import type { Socket } from 'node:net'
import { toError } from '../core/errors.js'
import { Endpoint } from '../core/endpoint.js'
import { defaultTimeouts } from '../core/options.js'
import type { Capabilities, LinkSink, Transport, TransportOptions } from '../core/transport.js'
import { StreamLink } from './stream-link.js'
import { connectSocket, listenTcp, type TcpOptions, tcpAddress, tcpOptions } from './tcp-listen.js'
import { secureClient, ServerTls } from './tls-upgrade.js'

export const tls: Transport<TcpOptions> = {
  name: 'tls',
  schemes: ['tls'],
  options: tcpOptions,
  capabilities: (): Capabilities => ({
    kind: 'stream',
    ordered: true,
    reliable: true,
    halfClose: true,
    reset: true,
    backpressure: 'end-to-end',
    upgrade: [],
  }),

  async listen(endpoint, options, sink) {
    const server = new ServerTls(options.tls ?? {}, options.timeouts?.handshakeMs ?? defaultTimeouts.handshakeMs)
    const serve = (socket: Socket) => {
      const { remoteAddress: host, remotePort: port } = socket
      server.secure(socket).then(
        (secured) => new StreamLink(secured, 'tls', sink, options).open(),
        (error) => sink.fault?.(toError(error), host === undefined ? undefined : new Endpoint({ scheme: 'tls', host, port })),
      )
    }
    return listenTcp(endpoint, options, sink, serve, () => server.close())
  },

  async connect(endpoint, options: TransportOptions<TcpOptions>, sink: LinkSink, signal) {
    const raw = await connectSocket(endpoint, tcpAddress(endpoint, options), signal)
    const socket = await secureClient(raw, endpoint, options.tls ?? {}, options.timeouts?.handshakeMs)
    const link = new StreamLink(socket, 'tls', sink, options)
    link.open()
    return link
  },
}
