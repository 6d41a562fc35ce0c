/**
 * TCP: `tcp://host:port`.
 *
 * Room: transports. Thin: binding, listening and links are shared with the other stream transports.
 */
import type { Capabilities, Transport } from '../core/transport.js'
import { dial, tcpTarget } from './dial.js'
import { StreamLink } from './stream-link.js'
import { StreamListener } from './stream-listener.js'
import { streamScope, type TcpOptions, tcpOptions } from './stream-options.js'
import { bindTcp } from './tcp-bind.js'
import { prepareUpgrade, upgradeParts } from './upgrade-check.js'

export type { TcpOptions } from './stream-options.js'

const capabilities: Capabilities = {
  kind: 'stream',
  ordered: true,
  reliable: true,
  halfClose: true,
  reset: true,
  backpressure: 'end-to-end',
  upgrade: ['tls'],
}

/**
 * The TCP transport. `socket` options: `noDelay`, `keepAlive`, `backlog`, `ipv6Only`, `reusePort` (Node 22.12 or
 * newer).
 */
export const tcp: Transport<TcpOptions> = {
  name: 'tcp',
  schemes: ['tcp'],
  binds: 'tcp',
  options: tcpOptions,
  capabilities: () => capabilities,

  check: (_endpoint, options) => prepareUpgrade(options.tls),

  async listen(endpoint, options, sink) {
    const upgrades = await upgradeParts(options, sink)
    const bound = await bindTcp(endpoint, options)
    const scope = streamScope(bound.endpoint, 'accepted', options, sink)
    const { backlog = 511 } = options
    return new StreamListener({
      ...upgrades(),
      ...bound,
      sink,
      backlog,
      accept: (socket) => new StreamLink(socket, undefined, scope).open(),
    })
  },

  connect(endpoint, options, sink, signal) {
    const scope = streamScope(endpoint, 'connected', options, sink)
    return dial(endpoint, tcpTarget(endpoint, options), signal, (socket) => {
      const link = new StreamLink(socket, undefined, scope)
      link.open()
      return link
    })
  },
}
