/**
 * Where a TCP endpoint binds and connects: host names, both loopbacks, ports.
 *
 * Room: transports; shared by TCP and what stands on it (TLS).
 */
import { connect, type AddressInfo, type Socket, type TcpNetConnectOpts } from 'node:net'
import type { Endpoint } from '../core/endpoint.js'
import { BindError, ConnectionError, GaidarosError } from '../core/errors.js'
import { type OptionSchema, optionSchema } from '../core/option-schema.js'
import { type SocketOptions, socketRows } from '../core/options.js'
import type { LinkSink, TransportOptions } from '../core/transport.js'
import { translateConnect } from './platform-errors.js'
import { StreamListener } from './stream-listener.js'

/**
 * Buffer sizes are not among them: Node cannot set SO_RCVBUF of TCP sockets, and the kernel tunes them itself (tcp(7),
 * tcp_moderate_rcvbuf).
 */
export type TcpOptions = Pick<SocketOptions, 'noDelay' | 'keepAlive' | 'backlog' | 'ipv6Only' | 'reusePort'>

export const tcpOptions: OptionSchema<TcpOptions> = optionSchema<TcpOptions>({
  noDelay: socketRows.noDelay as { unit: 'switch'; why: string },
  keepAlive: {
    ...socketRows.keepAlive,
    unit: 'any',
    check: (value) => {
      if (typeof value === 'boolean' || (Number.isSafeInteger(value) && (value as number) > 0)) return undefined
      return 'milliseconds before the first probe, true (60000) or false'
    },
  },
  backlog: { ...socketRows.backlog, unit: 'count', min: 1 },
  ipv6Only: socketRows.ipv6Only as { unit: 'switch'; why: string },
  reusePort: socketRows.reusePort as { unit: 'switch'; why: string },
})

/** Times a second address is tried on the port the first was given. */
const PORT_TRIES = 20

/** Binds a TCP endpoint. @throws {BindError} and nothing stays bound. */
export async function listenTcp(
  endpoint: Endpoint,
  options: TransportOptions<TcpOptions>,
  sink: LinkSink,
  serve: (socket: Socket) => void,
  unbound: () => void = () => {},
): Promise<StreamListener> {
  const { noDelay = true, keepAlive = 60_000, backlog = 511, ipv6Only = false, reusePort = false } = options
  if (reusePort && !canReusePort) {
    const message = `${endpoint}: socket.reusePort needs Node 22.12 or newer, this is ${process.version}; leave it out`
    throw new BindError('NOT_SUPPORTED', message, { endpoint })
  }
  const server = { noDelay, ...keepAliveOptions(keepAlive) }
  const make = () => new StreamListener(endpoint, { sink, backlog, server, serve, unbound })
  const shared = { ipv6Only, ...(reusePort ? { reusePort } : {}) }
  const { host = '', port = 0 } = endpoint
  if (host !== 'localhost') {
    const listener = make()
    const bound = await listener.bind({ host, port, ...shared })
    listener.endpoint = endpoint.with({ port: (bound.address() as AddressInfo).port })
    return listener
  }

  for (let attempt = 1; ; attempt++) {
    const listener = make()
    const bound = await listener.bind({ host: '127.0.0.1', port, ...shared })
    const chosen = (bound.address() as AddressInfo).port
    listener.endpoint = endpoint.with({ port: chosen })
    try {
      await listener.bind({ host: '::1', port: chosen, ...shared })
      return listener
    } catch (error) {
      // A machine without IPv6 has one loopback.
      if ((error as GaidarosError).code === 'ADDRESS_NOT_AVAILABLE') return listener
      await listener.unbind()
      if (port !== 0 || attempt === PORT_TRIES || (error as GaidarosError).code !== 'ADDRESS_IN_USE') throw error
    }
  }
}

/** Opens a socket to an endpoint. @throws {ConnectionError} `REFUSED`, `CONNECT_TIMEOUT`, `TRANSPORT_FAILED`. */
export function connectSocket(
  endpoint: Endpoint,
  where: TcpNetConnectOpts | { path: string },
  signal: AbortSignal,
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const timedOut = () => new ConnectionError('CONNECT_TIMEOUT', `${endpoint} did not answer in time`, { endpoint })
    if (signal.aborted) return reject(timedOut())
    const options = { allowHalfOpen: true, highWaterMark: 64 * 1024, ...where }
    const socket = connect(options as TcpNetConnectOpts)
    const onAbort = () => socket.destroy(timedOut())
    const onError = (error: Error) => {
      signal.removeEventListener('abort', onAbort)
      reject(translateConnect(error, endpoint))
    }
    signal.addEventListener('abort', onAbort, { once: true })
    socket.once('error', onError)
    socket.once('connect', () => {
      signal.removeEventListener('abort', onAbort)
      socket.removeListener('error', onError)
      resolve(socket)
    })
  })
}

/** Where a client connects to, with the options a socket of ours has. */
export function tcpAddress(endpoint: Endpoint, options: TransportOptions<TcpOptions>): TcpNetConnectOpts {
  const { noDelay = true, keepAlive = 60_000 } = options
  return { host: endpoint.host ?? '', port: endpoint.port ?? 0, noDelay, ...keepAliveOptions(keepAlive) }
}

function keepAliveOptions(keepAlive: number | boolean): { keepAlive: boolean; keepAliveInitialDelay?: number } {
  if (keepAlive === false) return { keepAlive: false }
  return { keepAlive: true, keepAliveInitialDelay: keepAlive === true ? 60_000 : keepAlive }
}

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
const canReusePort = major > 22 || (major === 22 && minor >= 12)
