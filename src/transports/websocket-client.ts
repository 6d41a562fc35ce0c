/**
 * The client's side of a WebSocket's opening handshake (RFC 6455, section 4.1), over a socket that is connected.
 *
 * Room: transports.
 */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Endpoint } from '../core/endpoint.js'
import { ConnectionError, HandshakeError, toError } from '../core/errors.js'
import type { LinkSink, TransportOptions } from '../core/transport.js'
import { dial, tcpTarget } from './dial.js'
import { connectError, platformCode } from './platform-errors.js'
import { loadWs, type WsLibrary, wsOptions } from './websocket-library.js'
import { WebSocketLink } from './websocket-link.js'
import type { WebSocketOptions } from './websocket-options.js'
import { type WebSocketScope, webSocketScope } from './websocket-scope.js'

/**
 * Opens a WebSocket.
 *
 * @throws {ConnectionError} `REFUSED`, `CONNECT_TIMEOUT` (also when the signal aborts), `TRANSPORT_FAILED`.
 * @throws {HandshakeError} as of TLS, or the server refused the upgrade, with its `status`.
 */
export async function connectWebSocket(
  endpoint: Endpoint,
  options: TransportOptions<WebSocketOptions>,
  sink: LinkSink,
  signal: AbortSignal,
): Promise<WebSocketLink> {
  const library = loadWs()
  const scope = webSocketScope(endpoint, 'connected', options, sink)
  const target = tcpTarget(endpoint, options)
  if (endpoint.scheme === 'ws') {
    return dial(endpoint, target, signal, (raw) => upgrade(library, raw, raw, scope, options))
  }
  // TLS is loaded by those who use it.
  const { readClientTls, secureClient } = await import('./tls-client.js')
  const settings = await readClientTls(options.tls)
  return dial(endpoint, target, signal, async (raw) => {
    const { upgraded } = await secureClient(raw, endpoint, settings, scope.handshakeMs, (secured) => {
      const upgraded = upgrade(library, secured, raw, scope, options)
      // Looked at a turn later.
      upgraded.catch(() => {})
      return { upgraded }
    })
    return upgraded
  })
}

function upgrade(
  { WebSocket }: WsLibrary,
  socket: Socket,
  raw: Socket,
  scope: WebSocketScope,
  options: TransportOptions<WebSocketOptions>,
): Promise<WebSocketLink> {
  const { endpoint, handshakeMs } = scope
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(urlOf(endpoint), options.protocols ?? [], {
      ...wsOptions(options),
      createConnection: () => socket,
    })
    let response: IncomingMessage | undefined
    const fail = (error: Error) => {
      clearTimeout(timer)
      raw.destroy()
      reject(error)
    }
    const onError = (error: Error) => fail(upgradeError(endpoint, error))
    const onTimeout = () => {
      const message = `${endpoint}: no answer to the upgrade within ${handshakeMs} ms (timeouts.handshakeMs)`
      fail(new HandshakeError('HANDSHAKE_TIMEOUT', message))
    }
    const timer = handshakeMs < 2 ** 31 ? setTimeout(onTimeout, handshakeMs) : undefined
    timer?.unref()
    ws.on('error', onError)
    ws.on('upgrade', (answer: IncomingMessage) => {
      response = answer
    })
    ws.on('unexpected-response', (_request: unknown, { statusCode: status, statusMessage }: IncomingMessage) => {
      const message = `${endpoint}: the server refused the upgrade with ${status} ${statusMessage}`
      fail(new HandshakeError('HANDSHAKE_FAILED', message, { status }))
    })
    ws.on('open', () => {
      clearTimeout(timer)
      // Given up in the turn before.
      if (raw.destroyed) return
      ws.off('error', onError)
      const { headers = {} } = response ?? {}
      const facts = { path: endpoint.path ?? '/', headers, protocol: ws.protocol || undefined, origin: undefined }
      const link = new WebSocketLink({ ws, socket, raw, facts }, scope)
      link.open()
      resolve(link)
    })
  })
}

/** A zone of IPv6 belongs to this host alone (RFC 6874, section 4). */
function urlOf({ scheme, host = '', port, path = '/' }: Endpoint): string {
  const name = host.includes(':') ? `[${host.replace(/%.*/, '')}]` : host
  return `${scheme}://${name}:${port}${path}`
}

function upgradeError(endpoint: Endpoint, thrown: Error): Error {
  const error = toError(thrown)
  if (platformCode(error) !== 'ECONNRESET') return connectError(endpoint, error)
  // Node's own words are "socket hang up", for an orderly end as well.
  const message = `${endpoint}: the server closed the connection before it answered the upgrade`
  return new ConnectionError('RESET', message, { endpoint, cause: error })
}
