/**
 * Binds an endpoint by its kind of socket, for whoever holds sockets apart from the transports that serve on them.
 *
 * Room: transports.
 */
import type { Socket as DatagramSocket } from 'node:dgram'
import { createServer, type Server } from 'node:net'
import type { Endpoint } from '../core/endpoint.js'
import type { SocketKind } from '../core/transport.js'
import { bindDescriptor, descriptorOf } from './fd.js'
import { closeServers, serverOptions, type TcpOptions, type UnixOptions } from './stream-options.js'
import { passedDescriptor } from './systemd.js'
import { bindTcp } from './tcp-bind.js'
import { bindSockets } from './udp-socket.js'
import { bindAbstract, bindWithMode } from './unix.js'
import { abstractName, checkUnixPath, makeWay, moveInto, OwnSocketFile, temporaryName } from './unix-path.js'

export interface OpenedSockets {
  readonly endpoint: Endpoint
  readonly servers: readonly Server[]
  readonly datagrams: readonly DatagramSocket[]
  readonly closing?: (close: () => void) => void
  /** To close the descriptor would take the address away. */
  readonly isFixed?: boolean
}

/**
 * @param inherited - Descriptors that another program has bound, in place of binding.
 * @throws {BindError} nothing stays bound.
 */
export async function openSockets(
  kind: SocketKind,
  endpoint: Endpoint,
  given: Readonly<Record<string, unknown>>,
  inherited?: readonly number[],
): Promise<OpenedSockets> {
  // Else the transports would ask for them again.
  const { sockets: _, ...options } = given
  if (kind === 'udp') {
    const datagrams = await bindSockets(endpoint, options, inherited)
    const { address, port } = (datagrams[0] as DatagramSocket).address()
    const host = endpoint.host === 'localhost' ? 'localhost' : address
    return { endpoint: endpoint.with({ host, port }), servers: [], datagrams }
  }
  if (inherited !== undefined) return adopt(kind, endpoint, options, inherited)
  if (kind === 'unix') return openUnix(endpoint, options)
  if (kind === 'descriptor') {
    const descriptor = endpoint.scheme === 'systemd' ? passedDescriptor(endpoint, process.env) : descriptorOf(endpoint)
    return { ...(await bindDescriptor(descriptor, endpoint, options)), datagrams: [] }
  }
  return { ...(await bindTcp(endpoint, options)), datagrams: [] }
}

async function openUnix(endpoint: Endpoint, options: UnixOptions): Promise<OpenedSockets> {
  const abstract = abstractName(endpoint)
  if (abstract !== undefined) {
    const server = createServer(serverOptions({ noDelay: false, keepAlive: false }))
    await bindAbstract(server, endpoint, abstract, options.backlog ?? 511)
    return { endpoint, servers: [server], datagrams: [] }
  }
  const path = checkUnixPath(endpoint)
  await makeWay(endpoint, path)
  const server = createServer(serverOptions({ noDelay: false, keepAlive: false }))
  // libuv takes the name it bound along when it closes that descriptor, and this one may be closed long before the end.
  const first = temporaryName(path)
  await bindWithMode(server, endpoint, first ?? path, options)
  if (first !== undefined) {
    try {
      moveInto(endpoint, first, path)
    } catch (error) {
      await closeServers([server])
      throw error
    }
  }
  const file = new OwnSocketFile(path)
  const closing = (close: () => void) => file.closing(close)
  return { endpoint, servers: [server], datagrams: [], closing, isFixed: first === undefined }
}

async function adopt(
  kind: SocketKind,
  endpoint: Endpoint,
  options: TcpOptions,
  descriptors: readonly number[],
): Promise<OpenedSockets> {
  const bound = []
  for (const descriptor of descriptors) bound.push(await bindDescriptor(descriptor, endpoint, options))
  const port = bound[0]?.endpoint.port
  const servers = bound.flatMap((one) => one.servers)
  const at = port === undefined ? endpoint : endpoint.with({ port })
  if (kind !== 'unix') return { endpoint: at, servers, datagrams: [] }
  if (abstractName(endpoint) !== undefined) return { endpoint, servers, datagrams: [] }
  const file = new OwnSocketFile(endpoint.path ?? '')
  return { endpoint, servers, datagrams: [], closing: (close) => file.closing(close) }
}
