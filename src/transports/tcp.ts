/**
 * TCP: streams between hosts.
 *
 * Room: transports. `tcp://host:port`; `localhost` is both loopbacks, `[::]` takes IPv4 as well unless `socket.ipv6Only`.
 */
import type { Capabilities, LinkSink, Transport, TransportOptions } from '../core/transport.js'
import { StreamLink } from './stream-link.js'
import { connectSocket, listenTcp, type TcpOptions, tcpAddress, tcpOptions } from './tcp-listen.js'
import { clientUpgrade, serverUpgrade } from './tls-upgrade.js'

export const tcp: Transport<TcpOptions> = {
  name: 'tcp',
  schemes: ['tcp'],
  options: tcpOptions,
  capabilities: (): Capabilities => ({
    kind: 'stream',
    ordered: true,
    reliable: true,
    halfClose: true,
    reset: true,
    backpressure: 'end-to-end',
    upgrade: ['tls'],
  }),

  async listen(endpoint, options, sink) {
    const upgrade = serverUpgrade(options)
    return listenTcp(endpoint, options, sink, (socket) => new StreamLink(socket, 'tcp', sink, options, upgrade).open())
  },

  async connect(endpoint, options: TransportOptions<TcpOptions>, sink: LinkSink, signal) {
    const socket = await connectSocket(endpoint, tcpAddress(endpoint, options), signal)
    const link = new StreamLink(socket, 'tcp', sink, options, clientUpgrade(endpoint, options))
    link.open()
    return link
  },
}
