/**
 * Connects a stream socket, as long as nobody gives up.
 *
 * Room: transports. Shared by tcp, unix and tls.
 */
import { connect, type LookupFunction, type NetConnectOpts, type Socket } from 'node:net'
import type { Endpoint } from '../core/endpoint.js'
import { connectError, connectGivenUp } from './platform-errors.js'
import { clientOptions, guardErrors, type TcpOptions } from './stream-options.js'

/** RFC 6761, section 6.3: `localhost` is both loopback addresses, whatever a resolver says. */
const loopbacks = [
  { address: '127.0.0.1', family: 4 },
  { address: '::1', family: 6 },
]
const lookupLocalhost: LookupFunction = (_name, options, found) => {
  const { family } = options
  const wanted = loopbacks.filter((each) => !family || each.family === family || `IPv${each.family}` === family)
  if (options.all) found(null, wanted)
  else found(null, wanted[0]?.address ?? '127.0.0.1', wanted[0]?.family ?? 4)
}

/** The options of `net.connect` for `host:port`. Several addresses of a name are tried in turn (RFC 8305). */
export function tcpTarget({ host, port }: Endpoint, options: TcpOptions): NetConnectOpts {
  const target = { ...clientOptions(options), host: host as string, port: port as number, autoSelectFamily: true }
  return host?.toLowerCase() === 'localhost' ? { ...target, lookup: lookupLocalhost } : target
}

/**
 * Connects.
 *
 * @param connected - Runs in the turn of the connect, before anything is read. What it returns is the result.
 * @throws {ConnectionError} `REFUSED`, `CONNECT_TIMEOUT` (also when the signal aborts), `TRANSPORT_FAILED`.
 */
export function dial<T>(
  endpoint: Endpoint,
  target: NetConnectOpts,
  signal: AbortSignal,
  connected: (socket: Socket) => T | Promise<T>,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    if (signal.aborted) {
      reject(connectGivenUp(endpoint, signal.reason))
      return
    }
    const socket = guardErrors(connect(target))
    const settle = () => {
      signal.removeEventListener('abort', onAbort)
      socket.off('error', onError)
    }
    const fail = (error: unknown) => {
      settle()
      socket.destroy()
      reject(error)
    }
    const onAbort = () => fail(connectGivenUp(endpoint, signal.reason))
    const onError = (error: Error) => fail(connectError(endpoint, error))
    signal.addEventListener('abort', onAbort)
    socket.once('error', onError)
    socket.once('connect', () => {
      socket.off('error', onError)
      try {
        const result = connected(socket)
        // A handshake that follows can still be given up.
        if (result instanceof Promise) result.then(settle, fail)
        else settle()
        resolve(result)
      } catch (error) {
        fail(error)
      }
    })
  })
}
