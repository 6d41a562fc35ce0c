/**
 * The client side: a link with a socket of its own.
 *
 * Room: transports. The socket is connected, so that a refusal of the far host (ICMP) reaches this link, and datagrams
 * of others do not.
 */
import type { Socket } from 'node:dgram'
import type { Endpoint } from '../core/endpoint.js'
import { defaultLimits } from '../core/options.js'
import type { Link, LinkSink, TransportOptions } from '../core/transport.js'
import { DatagramLosses } from './datagram-losses.js'
import { connectError, connectGivenUp, linkError } from './udp-errors.js'
import { UdpLink, type UdpLinkOwner } from './udp-link.js'
import { isMulticast, type UdpOptions } from './udp-options.js'
import { UdpPacer } from './udp-pacer.js'
import { bindSocket, declaredMostBytes, localEndpoint, remoteAddressOf } from './udp-socket.js'

/**
 * Opens a link to one peer; nothing is sent by it.
 *
 * A group or (with `broadcast`) a broadcast address is many peers: there the socket stays unconnected and the link
 * hears whoever answers.
 *
 * @throws {ConnectionError} `CONNECT_TIMEOUT` when `signal` aborts, `TRANSPORT_FAILED` without a route or address.
 */
export async function connectUdp(
  endpoint: Endpoint,
  options: TransportOptions<UdpOptions>,
  sink: LinkSink,
  signal: AbortSignal,
): Promise<Link> {
  if (signal.aborted) throw connectGivenUp(endpoint, signal)
  const port = endpoint.port ?? 0
  let socket: Socket | undefined
  let stopWaiting = () => {}
  const givenUp = new Promise<never>((_, reject) => {
    const giveUp = () => reject(connectGivenUp(endpoint, signal))
    signal.addEventListener('abort', giveUp, { once: true })
    stopWaiting = () => signal.removeEventListener('abort', giveUp)
  })
  try {
    const address = await Promise.race([givenUp, remoteAddressOf(endpoint.host ?? '')])
    const wildcard = address.includes(':') ? '::' : '0.0.0.0'
    socket = await bindSocket(endpoint.with({ host: wildcard, port: 0 }), wildcard, 0, clientOptions(options), true)
    const isOneToOne = !isMulticast(address) && !options.broadcast
    if (isOneToOne) await connectSocket(socket, port, address)
    if (signal.aborted) throw connectGivenUp(endpoint, signal)
    const mostBytes = declaredMostBytes(endpoint, options)
    const { link } = new UdpClient(socket, endpoint.with({ host: address }), isOneToOne, mostBytes, options, sink)
    sink.open(link)
    return link
  } catch (thrown) {
    socket?.close()
    throw connectError(thrown, endpoint)
  } finally {
    stopWaiting()
  }
}

/** Only what concerns sending, and the buffers: a client binds no port that others could share, and joins no group. */
function clientOptions({ receiveBuffer, sendBuffer, broadcast, multicast }: UdpOptions): UdpOptions {
  const options: { -readonly [K in keyof UdpOptions]: UdpOptions[K] } = {}
  if (receiveBuffer !== undefined) options.receiveBuffer = receiveBuffer
  if (sendBuffer !== undefined) options.sendBuffer = sendBuffer
  if (broadcast !== undefined) options.broadcast = broadcast
  if (multicast !== undefined) {
    const { groups: _, ...outgoing } = multicast
    options.multicast = outgoing
  }
  return options
}

/** Where a rate is set. */
export function pacerOf({ sendRate = Number.POSITIVE_INFINITY }: UdpOptions): UdpPacer | undefined {
  return sendRate === Number.POSITIVE_INFINITY ? undefined : new UdpPacer(sendRate)
}

function connectSocket(socket: Socket, port: number, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    // Typed as never failing; it is given the error (Node's documentation of socket.connect).
    socket.connect(port, address, ((error?: Error) => (error ? reject(error) : resolve())) as () => void)
  })
}

class UdpClient implements UdpLinkOwner {
  readonly sink: LinkSink
  readonly losses: DatagramLosses
  readonly mostBytes: number
  readonly writeHighBytes: number
  readonly writeLowBytes: number
  readonly pacer: UdpPacer | undefined
  readonly link: UdpLink
  readonly #socket: Socket

  constructor(
    socket: Socket,
    remote: Endpoint,
    isOneToOne: boolean,
    mostBytes: number,
    options: TransportOptions<UdpOptions>,
    sink: LinkSink,
  ) {
    const { scheme, host = '', port = 0 } = remote
    const limits = options.limits ?? defaultLimits
    this.sink = sink
    this.mostBytes = mostBytes
    this.losses = new DatagramLosses(sink, scheme)
    this.pacer = pacerOf(options)
    this.writeHighBytes = limits.writeHighBytes
    this.writeLowBytes = limits.writeLowBytes
    this.#socket = socket
    this.link = new UdpLink(this, socket, host, port, localEndpoint(scheme, socket), isOneToOne)
    socket.on('message', (datagram) => this.link.receive(datagram))
    socket.on('error', (cause) => {
      const { error, isPassing } = linkError(cause, this.link.remote)
      if (isPassing) this.losses.add('unreceived', host, port, cause)
      else this.link.cut(error)
    })
  }

  forget(): void {}

  closed(): void {
    this.pacer?.stop()
    this.losses.flush()
    this.#socket.close()
  }
}
