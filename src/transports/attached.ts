/**
 * `attached:NAME`: connections that somebody else's server accepts.
 *
 * Room: transports. For programs that have a server already: a `net.Server`, a `tls.Server`, or the upgrades of an
 * `http.Server`. It stays its owner's: nothing here closes it, and taking connections ends without a trace.
 */
import type { Server as HttpServer, IncomingMessage } from 'node:http'
import type { Server as NetServer, Socket } from 'node:net'
import type { TLSSocket, Server as TlsServer } from 'node:tls'
import type { ListenerOptions } from '../core/configuration.js'
import { Endpoint } from '../core/endpoint.js'
import { AcceptError, BindError, WiringError } from '../core/errors.js'
import type { ListenerHandle, Server } from '../core/lifecycle.js'
import type { Transport } from '../core/transport.js'
import { inheritedCapabilities } from './fd.js'
import { knowAddresses, StreamLink } from './stream-link.js'
import { StreamListener } from './stream-listener.js'
import { guardErrors, streamScope } from './stream-options.js'
import type { StreamScope } from './stream-scope.js'
import { upgradeParts } from './upgrade-check.js'

export type AttachedServer = NetServer | TlsServer | HttpServer

export interface AttachOptions extends Omit<ListenerOptions, 'endpoint'> {
  /** The listener's name. Default: `attached`. */
  readonly name?: string
  /**
   * Of an `http.Server`: requests that ask to switch to this protocol (`Upgrade: NAME`, RFC 9110, section 7.8) are answered 101
   * and are connections from then on. Required there.
   */
  readonly upgrade?: string
}

interface Source {
  readonly server: AttachedServer
  readonly upgrade: string | undefined
}

const sources = new Map<string, Source>()
let lastNumber = 0

/**
 * Serves a handler on connections of a server that exists already.
 *
 * @param server - Ours; it may run or not.
 * @param existing - Theirs. Of a `tls.Server` connections come after the handshake, with the TLS feature.
 * @returns the listener; `server.listeners.remove(name)` takes no more connections.
 * @throws {WiringError} `BAD_OPTION` for an `http.Server` without `upgrade`.
 */
export async function attach(
  server: Server,
  existing: AttachedServer,
  options: AttachOptions,
): Promise<ListenerHandle> {
  const { name = 'attached', upgrade, ...listener } = options
  if (isHttp(existing) && upgrade === undefined) {
    const message =
      'attach: an HTTP server answers its own requests; name the protocol that requests switch to: { upgrade }'
    throw new WiringError('BAD_OPTION', message)
  }
  const key = `${name}-${++lastNumber}`
  sources.set(key, { server: existing, upgrade })
  try {
    return await server.listeners.add(name, { ...listener, endpoint: `attached:${key}` })
  } catch (error) {
    sources.delete(key)
    throw error
  }
}

/** Node's HTTP servers have a deadline for headers; no other has. */
function isHttp(server: AttachedServer): server is HttpServer {
  return 'headersTimeout' in server
}

/** Told by what it says of itself: to ask for its class would load Node's `tls` where nobody speaks it. */
function isSecure(socket: Socket): socket is TLSSocket {
  return (socket as Partial<TLSSocket>).encrypted === true
}

export const attached: Transport = {
  name: 'attached',
  schemes: ['attached'],
  capabilities: () => inheritedCapabilities,

  async listen(endpoint, options, sink) {
    const key = endpoint.path ?? ''
    const source = sources.get(key)
    if (source === undefined) {
      const message = `${endpoint}: nothing is attached by that name; call attach(server, existing, options)`
      throw new BindError('BIND_FAILED', message, { endpoint })
    }
    const { server, upgrade } = source
    const upgrades = await upgradeParts(options, sink)
    const scope = streamScope(endpoint, 'accepted', options, sink)
    /** Of sockets that have addresses, which this endpoint says nothing of. */
    let addressed: StreamScope | undefined
    const listener: StreamListener = new StreamListener({
      ...upgrades(),
      endpoint,
      servers: [],
      sink,
      backlog: 511,
      accept: () => {},
      closing() {
        server.off(event, take as never)
        sources.delete(key)
      },
    })
    const pass = (socket: Socket, its: StreamScope) => {
      listener.pass(socket, () => new StreamLink(socket, isSecure(socket) ? socket : undefined, its).open())
    }
    const open = (socket: Socket) => {
      // Late replies to a peer that ended are lost otherwise.
      socket.allowHalfOpen = true
      guardErrors(socket)
      const { localFamily, localPort: port } = socket
      if (localFamily === undefined) return pass(socket, scope)
      addressed ??= streamScope(new Endpoint({ scheme: 'tcp', host: '::', port }), 'accepted', options, sink)
      // What it sent may still be there to be read, and nobody could tell who sent it.
      if (knowAddresses(socket, false)) return pass(socket, addressed)
      socket.destroy()
      const message = `${endpoint}: a newcomer was gone before it could be asked for its address`
      sink.fault?.(new AcceptError('UNKNOWN_ADDRESS', message, { endpoint, count: 1 }))
    }
    const takeUpgrade = (request: IncomingMessage, socket: Socket, head: Buffer) => {
      if (request.headers.upgrade?.toLowerCase() !== upgrade?.toLowerCase()) return
      // What an HTTP server listens for on its sockets is over.
      socket.removeAllListeners('timeout')
      socket.setTimeout(0)
      socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${upgrade}\r\n\r\n`)
      if (head.length > 0) socket.unshift(head)
      open(socket)
    }
    const event = isHttp(server) ? 'upgrade' : 'setTicketKeys' in server ? 'secureConnection' : 'connection'
    const take = event === 'upgrade' ? takeUpgrade : open
    server.on(event, take as never)
    return listener
  },
}
