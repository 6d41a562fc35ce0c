/**
 * Opens datagram sockets: names to addresses, bind, socket options, groups.
 *
 * Room: transports. Everything that happens once a socket; nothing here runs per datagram.
 */
import { createSocket, type Socket, type SocketOptions } from 'node:dgram'
import { lookup as lookupHost } from 'node:dns/promises'
import { isIP, isIPv6 } from 'node:net'
import { Endpoint } from '../core/endpoint.js'
import { BindError, toError } from '../core/errors.js'
import { hasReusePort } from '../core/reuse-port.js'
import { handleOf } from './held-datagrams.js'
import type { NativeHandle } from './held-stream.js'
import { bindError, codeOf } from './udp-errors.js'
import { isMulticast, RECEIVE_BUFFER_BYTES, type UdpOptions } from './udp-options.js'

/** Largest payload over IPv4: 65,535 less 20 of IP and 8 of UDP header (RFC 768, RFC 791). */
export const IPV4_MOST_BYTES = 65_507
/** Over IPv6 its own header is not counted in the length (RFC 8200, section 3): 65,535 less 8. */
export const IPV6_MOST_BYTES = 65_527

/** How often `localhost:0` tries for a port that is free on both addresses. */
const LOCALHOST_TRIES = 10

/** Largest payload towards an address; IPv4-mapped ones (`::ffff:1.2.3.4`) travel as IPv4. */
export function mostBytes(address: string): number {
  return address.includes(':') && !/^::ffff:\d+\./i.test(address) ? IPV6_MOST_BYTES : IPV4_MOST_BYTES
}

/**
 * What an endpoint's links promise: 65,507 bytes wherever a peer may come by IPv4, also for every peer of a dual-stack
 * `[::]`; 65,527 where all come by IPv6.
 */
export function declaredMostBytes({ host = '' }: Endpoint, { ipv6Only }: UdpOptions): number {
  return host === '::' && !ipv6Only ? IPV4_MOST_BYTES : mostBytes(host)
}

/**
 * Binds an endpoint: one socket, or two for `localhost` (127.0.0.1 and ::1 on one port).
 *
 * @param inherited - Descriptors of sockets that another program has bound, in place of binding.
 * @throws {BindError} nothing stays bound.
 */
export async function bindSockets(
  endpoint: Endpoint,
  options: UdpOptions,
  inherited?: readonly number[],
): Promise<Socket[]> {
  const port = endpoint.port ?? 0
  if (inherited !== undefined) return Promise.all(inherited.map((descriptor) => adopt(descriptor, endpoint, options)))
  if (endpoint.host !== 'localhost') return [await bindSocket(endpoint, await addressOf(endpoint), port, options)]
  for (let tries = 1; ; tries++) {
    const first = await bindSocket(endpoint, '127.0.0.1', port, options)
    try {
      return [first, await bindSocket(endpoint, '::1', first.address().port, options)]
    } catch (thrown) {
      const error = bindError(thrown, endpoint)
      if (error.code === 'ADDRESS_NOT_AVAILABLE') return [first] // a host without IPv6
      first.close()
      if (port === 0 && error.code === 'ADDRESS_IN_USE' && tries < LOCALHOST_TRIES) continue
      throw error
    }
  }
}

/** The address a name stands for; the first, in the order the system gives (RFC 6724). */
async function addressOf(endpoint: Endpoint): Promise<string> {
  const host = endpoint.host ?? ''
  if (isIP(host) !== 0) return host
  try {
    return (await lookupHost(host)).address
  } catch (thrown) {
    throw bindError(thrown, endpoint)
  }
}

/** The address `connect` sends to. UDP cannot probe, so `localhost` is 127.0.0.1, which listeners on it always have. */
export async function remoteAddressOf(host: string): Promise<string> {
  if (host === 'localhost') return '127.0.0.1'
  return isIP(host) !== 0 ? host : (await lookupHost(host)).address
}

/**
 * Binds one address and sets the options.
 *
 * @param isExclusive - Never shared with the other workers of a `node:cluster`; a client's port is its own.
 * @throws {BindError} the socket is closed.
 */
export async function bindSocket(
  endpoint: Endpoint,
  address: string,
  port: number,
  options: UdpOptions,
  isExclusive = false,
): Promise<Socket> {
  const socket = create(endpoint, address, options)
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject)
      socket.bind({ address, port, exclusive: isExclusive }, () => {
        socket.off('error', reject)
        resolve()
      })
    })
    setOptions(socket, endpoint, address, options)
    return socket
  } catch (thrown) {
    // Until somebody takes it over, a late error must not become an exception.
    socket.on('error', () => {}).close()
    throw bindError(thrown, endpoint)
  }
}

/** What it was bound with stays. Not heard until whoever holds it says so. */
async function adopt(descriptor: number, endpoint: Endpoint, options: UdpOptions): Promise<Socket> {
  const isSix = endpoint.host?.includes(':') ?? false
  const socket = create(endpoint, isSix ? '::' : '0.0.0.0', options)
  await new Promise<void>((resolve, reject) => {
    socket.once('error', (thrown) => reject(bindError(thrown, endpoint)))
    socket.bind({ fd: descriptor, exclusive: true }, () => {
      // The other program hears it still; in the same turn, so that no datagram is read here.
      ;(handleOf(socket) as NativeHandle & { recvStop(): void }).recvStop()
      resolve()
    })
  })
  return socket
}

function create(endpoint: Endpoint, address: string, options: UdpOptions): Socket {
  if (options.reusePort && !hasReusePort()) {
    throw new BindError(
      'NOT_SUPPORTED',
      `${endpoint}: reusePort needs Node 22.12 or 23.1, this is ${process.versions.node}; leave it out`,
      { endpoint },
    )
  }
  const family = isIPv6(address) ? 6 : 4
  const settings: SocketOptions & { reusePort?: boolean } = {
    type: `udp${family}`,
    ipv6Only: options.ipv6Only ?? false,
    // Groups are shared by their nature. On a unicast address it would let two servers share in silence (socket(7)).
    reuseAddr: isMulticast(address) || (options.multicast?.groups?.length ?? 0) > 0,
    // Addresses only ever come here: Node's own look-up would put each send off by a turn and cost a tenth of the rate.
    lookup: (host, _options, callback) => callback(null, host, family),
  }
  if (options.reusePort) settings.reusePort = true
  return createSocket(settings)
}

function setOptions(socket: Socket, endpoint: Endpoint, address: string, options: UdpOptions): void {
  const doing = (what: string, run: () => void) => {
    try {
      run()
    } catch (thrown) {
      throw bindError(thrown, endpoint, what)
    }
  }
  askBuffer(endpoint, 'receiveBuffer', options.receiveBuffer ?? RECEIVE_BUFFER_BYTES, (size) =>
    socket.setRecvBufferSize(size),
  )
  if (options.sendBuffer !== undefined) {
    askBuffer(endpoint, 'sendBuffer', options.sendBuffer, (size) => socket.setSendBufferSize(size))
  }
  if (options.broadcast) doing('allow broadcast', () => socket.setBroadcast(true))

  const { groups = [], ttl, loopback, interface: outgoing } = options.multicast ?? {}
  if (ttl !== undefined) doing('set multicast.ttl', () => socket.setMulticastTTL(ttl))
  if (loopback !== undefined) doing('set multicast.loopback', () => socket.setMulticastLoopback(loopback))
  if (outgoing !== undefined) {
    doing(`send by multicast.interface ${outgoing}`, () => socket.setMulticastInterface(outgoing))
  }
  const joined = groups.map((entry) => (typeof entry === 'string' ? { group: entry } : entry))
  // Bound to a group's own address, the socket is there to hear it.
  if (isMulticast(address) && !joined.some(({ group }) => group === address)) joined.push({ group: address })
  for (const { group, interface: incoming, source } of joined) {
    // `localhost` has a socket of each family: each joins its own.
    if (endpoint.host === 'localhost' && isIPv6(group) !== isIPv6(address)) continue
    doing(`join ${group}${source === undefined ? '' : ` from ${source}`}`, () => {
      if (source === undefined) socket.addMembership(group, incoming)
      else socket.addSourceSpecificMembership(source, group, incoming)
    })
  }
}

/** A size over the system's most is no error: Linux caps it without a word, others refuse it (ENOBUFS). */
function askBuffer(endpoint: Endpoint, option: string, size: number, ask: (size: number) => void): void {
  try {
    ask(size)
  } catch (thrown) {
    if (['ENOBUFS', 'EINVAL'].includes(codeOf(toError(thrown)))) return
    throw bindError(thrown, endpoint, `set ${option} to ${size} bytes`)
  }
}

/** The address and port a socket really has. */
export function localEndpoint(scheme: string, socket: Socket): Endpoint {
  const { address, port } = socket.address()
  return new Endpoint({ scheme, host: address, port })
}
