/**
 * Binds `host:port`: one server, or two for `localhost`; all or nothing.
 *
 * Room: transports. Shared by tcp and tls.
 */
import { createServer, type Server } from 'node:net'
import type { Endpoint } from '../core/endpoint.js'
import { BindError } from '../core/errors.js'
import { hasReusePort } from '../core/reuse-port.js'
import type { TransportOptions } from '../core/transport.js'
import { bindError, platformCode } from './platform-errors.js'
import { bindServer, closeServers, inheritKeepAlive, portOf, serverOptions, type TcpOptions } from './stream-options.js'

const BACKLOG = 511
/** A port that was free on one loopback address may be taken on the other; so often another one is tried. */
const MOST_TRIES = 20

export interface BoundTcp {
  readonly servers: readonly Server[]
  /** With the port really bound. */
  readonly endpoint: Endpoint
  /** Around the closing of the servers, in the same turn. */
  readonly closing?: (close: () => void) => void
}

/** @throws {BindError} nothing stays bound. */
export async function bindTcp(endpoint: Endpoint, options: TransportOptions<TcpOptions>): Promise<BoundTcp> {
  const handed = await handedServers(options)
  if (handed !== undefined) return handed
  refuseUnsupported(endpoint, options)
  try {
    const host = endpoint.host as string
    const port = endpoint.port as number
    const servers =
      host.toLowerCase() === 'localhost' ? await bindLocalhost(port, options) : [await bind(host, port, options)]
    return { servers, endpoint: endpoint.with({ port: portOf(servers[0] as Server) }) }
  } catch (thrown) {
    throw bindError(endpoint, thrown)
  }
}

/** What somebody else has bound for us. */
export async function handedServers(options: TransportOptions): Promise<BoundTcp | undefined> {
  if (options.sockets === undefined) return undefined
  const { endpoint, sockets, closing } = await options.sockets.take(options)
  return { endpoint, servers: sockets as readonly Server[], ...(closing === undefined ? {} : { closing }) }
}

async function bind(host: string, port: number, options: TcpOptions): Promise<Server> {
  const { backlog = BACKLOG, ipv6Only = false, reusePort = false } = options
  const server = createServer(serverOptions(options))
  await bindServer(server, { host, port, backlog, ipv6Only, ...(reusePort ? { reusePort } : {}) })
  inheritKeepAlive(server)
  return server
}

/** RFC 6761, section 6.3: `localhost` is both loopback addresses, whatever a resolver says. */
async function bindLocalhost(port: number, options: TcpOptions): Promise<Server[]> {
  const sixOnly = { ...options, ipv6Only: true }
  for (let tries = 1; ; tries++) {
    const four = await bind('127.0.0.1', port, options).catch(unlessFamilyIsMissing)
    if (four === undefined) return [await bind('::1', port, sixOnly)]
    try {
      const six = await bind('::1', portOf(four), sixOnly).catch(unlessFamilyIsMissing)
      return six === undefined ? [four] : [four, six]
    } catch (error) {
      await closeServers([four])
      const isClash = port === 0 && platformCode(error) === 'EADDRINUSE'
      if (!isClash || tries === MOST_TRIES) throw error
    }
  }
}

function unlessFamilyIsMissing(error: unknown): undefined {
  const code = platformCode(error)
  if (code !== 'EADDRNOTAVAIL' && code !== 'EAFNOSUPPORT') throw error
}

function refuseUnsupported(endpoint: Endpoint, { reusePort }: TcpOptions): void {
  if (!reusePort || hasReusePort()) return
  const message =
    `${endpoint}: socket.reusePort needs Node 22.12 or newer (23.1 among 23), this is ${process.versions.node}; leave it out, or ` +
    'let several workers share one port'
  throw new BindError('NOT_SUPPORTED', message, { endpoint, option: 'reusePort' })
}
