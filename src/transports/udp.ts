/**
 * The `udp` transport: a connection a peer.
 *
 * Room: transports. A datagram is a message and keeps its bounds; it may be lost, doubled or overtaken (RFC 768). A
 * peer is a source address and port, opened by its first datagram, closed by our handler, by silence of
 * `timeouts.peerIdleMs` (what we send does not count: nothing tells that it arrives), or to make room (`limits.peers`,
 * `whenPeersFull`).
 *
 *   udp://127.0.0.1:8081      udp://localhost:8081   127.0.0.1 and ::1 on one port
 *   udp://[::]:8081           IPv4 too, unless socket.ipv6Only
 *   udp://239.1.2.3:8081      a group's own address: joins the group
 */
import type { Socket } from 'node:dgram'
import type { Capabilities, Transport } from '../core/transport.js'
import { connectUdp } from './udp-client.js'
import { bindError } from './udp-errors.js'
import { UdpListener } from './udp-listener.js'
import { type UdpOptions, udpOptions } from './udp-options.js'
import { bindSockets, declaredMostBytes } from './udp-socket.js'

export type { UdpOptions } from './udp-options.js'

export const udp: Transport<UdpOptions> = {
  name: 'udp',
  schemes: ['udp'],
  binds: 'udp',
  options: udpOptions,
  capabilities: (endpoint, options): Capabilities => ({
    kind: 'message',
    ordered: false,
    reliable: false,
    halfClose: false,
    reset: false,
    // The kernel's send queue, no more: what the network or the far socket has no room for is lost without a word.
    backpressure: 'local',
    maxMessageBytes: declaredMostBytes(endpoint, options),
    upgrade: [],
  }),
  async listen(endpoint, options, sink) {
    const handed = await options.sockets?.take(options)
    const sockets = (handed?.sockets as Socket[] | undefined) ?? (await bindSockets(endpoint, options))
    try {
      const listener = new UdpListener(endpoint, sockets, options, sink)
      handed?.keep?.(listener)
      return listener
    } catch (thrown) {
      for (const socket of sockets) socket.close()
      throw bindError(thrown, endpoint)
    }
  },
  connect: connectUdp,
}
