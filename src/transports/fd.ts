/**
 * `fd:3`: a listening stream socket that this process was started with.
 *
 * Room: transports. Whoever started us has bound it and keeps it, so that its queue outlives us: peers that come while we are
 * restarted wait, and are served.
 */
import { fstatSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { Endpoint } from '../core/endpoint.js'
import { BindError, ConfigError, toError } from '../core/errors.js'
import type { Capabilities, LinkSink, Listener, Transport, TransportOptions } from '../core/transport.js'
import { StreamLink } from './stream-link.js'
import { StreamListener } from './stream-listener.js'
import { bindServer, serverOptions, streamScope, type TcpOptions, tcpOptions } from './stream-options.js'
import { type BoundTcp, handedServers } from './tcp-bind.js'
import { prepareUpgrade, upgradeParts } from './upgrade-check.js'

/** What is promised of a socket of which only the number is known: it may be TCP, or a Unix socket. */
export const inheritedCapabilities: Capabilities = {
  kind: 'stream',
  ordered: true,
  reliable: true,
  halfClose: true,
  reset: false,
  backpressure: 'end-to-end',
  upgrade: ['tls'],
}

/** Descriptors that a listener of this process has taken. */
const taken = new Set<number>()

export const fd: Transport<TcpOptions> = {
  name: 'fd',
  schemes: ['fd'],
  binds: 'descriptor',
  options: tcpOptions,
  capabilities: () => inheritedCapabilities,
  check(endpoint, options) {
    descriptorOf(endpoint)
    return prepareUpgrade(options.tls)
  },
  listen: (endpoint, options, sink) => listenOn(() => descriptorOf(endpoint), endpoint, options, sink),
}

export function descriptorOf(endpoint: Endpoint): number {
  const { path = '' } = endpoint
  if (/^\d{1,7}$/.test(path)) return Number(path)
  throw new ConfigError('BAD_ENDPOINT', `endpoint \`${endpoint}\`: expected a descriptor's number, such as fd:3`)
}

/**
 * Listens on a descriptor.
 *
 * @throws {BindError} when it is none, no socket, or taken already.
 */
export async function listenOn(
  find: () => number,
  endpoint: Endpoint,
  options: TransportOptions<TcpOptions>,
  sink: LinkSink,
): Promise<Listener> {
  const upgrades = await upgradeParts(options, sink)
  const bound = (await handedServers(options)) ?? (await bindDescriptor(find(), endpoint, options))
  const scope = streamScope(bound.endpoint, 'accepted', options, sink)
  const { backlog = 511 } = options
  return new StreamListener({
    ...upgrades(),
    ...bound,
    sink,
    backlog,
    accept: (socket) => new StreamLink(socket, undefined, scope).open(),
  })
}

/** @throws {BindError} */
export async function bindDescriptor(descriptor: number, endpoint: Endpoint, options: TcpOptions): Promise<BoundTcp> {
  checkDescriptor(descriptor, endpoint)
  const server = createServer(serverOptions(options))
  const { backlog = 511 } = options
  try {
    await bindServer(server, { fd: descriptor, backlog })
  } catch (thrown) {
    const message = `${endpoint}: descriptor ${descriptor} does not listen: ${toError(thrown).message}; expected a bound stream socket`
    throw new BindError('BIND_FAILED', message, { cause: thrown, endpoint })
  }
  taken.add(descriptor)
  return {
    endpoint: endpointOf(server, endpoint),
    servers: [server],
    closing(close) {
      taken.delete(descriptor)
      close()
    },
  }
}

function checkDescriptor(descriptor: number, endpoint: Endpoint): void {
  if (taken.has(descriptor)) {
    throw new BindError('ADDRESS_IN_USE', `${endpoint}: descriptor ${descriptor} has a listener already`, { endpoint })
  }
  let isSocket = false
  try {
    isSocket = fstatSync(descriptor).isSocket()
  } catch (cause) {
    const message = `${endpoint}: there is no descriptor ${descriptor}; it has to be open when the process begins`
    throw new BindError('BIND_FAILED', message, { cause, endpoint })
  }
  if (!isSocket) throw new BindError('BIND_FAILED', `${endpoint}: descriptor ${descriptor} is no socket`, { endpoint })
}

/** The address that is really served, where Node can tell. */
function endpointOf(server: Server, endpoint: Endpoint): Endpoint {
  const address = server.address()
  if (typeof address === 'string' && address !== '') return new Endpoint({ scheme: 'unix', path: address })
  if (typeof address === 'object' && address !== null && typeof address.port === 'number' && address.address) {
    return new Endpoint({ scheme: 'tcp', host: address.address, port: address.port })
  }
  return endpoint
}
