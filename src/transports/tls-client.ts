/**
 * The client's side of a handshake, over a socket that is connected.
 *
 * Room: transports. Shared by tls and by upgrades.
 */
import { isIP, type Socket } from 'node:net'
import { connect, type TLSSocket } from 'node:tls'
import type { Endpoint } from '../core/endpoint.js'
import { HandshakeError } from '../core/errors.js'
import type { TlsOptions } from '../core/options.js'
import { handshakeError, LATE } from './handshake-errors.js'
import { guardErrors } from './stream-options.js'
import { readMaterials } from './tls-materials.js'

/** What a client shows and asks for, read once. */
export type TlsClientSettings = Awaited<ReturnType<typeof readClientTls>>

/** @throws {ConfigError} `BAD_VALUE`. */
export async function readClientTls(options: TlsOptions = {}) {
  const { rejectUnauthorized = true, alpn, serverName } = options
  const materials = await readMaterials(options)
  return { ...materials, rejectUnauthorized, serverName, ...(alpn === undefined ? {} : { ALPNProtocols: [...alpn] }) }
}

/**
 * Shakes hands with the server at the other end of `raw`.
 *
 * @param done - Runs in the turn in which the handshake is done, before anything is read.
 * @throws {HandshakeError} `CERTIFICATE_REFUSED` (theirs or ours), `HANDSHAKE_TIMEOUT`, `UNRECOGNISED_NAME`,
 * `HANDSHAKE_FAILED`.   The socket is closed.
 */
export function secureClient<T>(
  raw: Socket,
  endpoint: Endpoint,
  settings: TlsClientSettings,
  handshakeMs: number,
  done: (secured: TLSSocket) => T,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const { serverName, ...context } = settings
    const host = endpoint.host ?? ''
    // An address is verified and never sent as a name (RFC 6066, section 3).
    const servername = serverName ?? (isIP(host) === 0 ? host : '')
    const secured = guardErrors(connect({ ...context, socket: raw, servername, ...(host === '' ? {} : { host }) }))
    const fail = (error: HandshakeError) => {
      settle()
      secured.destroy()
      raw.destroy()
      reject(error)
    }
    const onError = (error: Error) => fail(handshakeError(error, secured))
    const onClose = () => fail(new HandshakeError('HANDSHAKE_FAILED', `${endpoint}: ${LATE}`))
    const onTimeout = () =>
      fail(
        new HandshakeError(
          'HANDSHAKE_TIMEOUT',
          `${endpoint}: no handshake within ${handshakeMs} ms (timeouts.handshakeMs)`,
        ),
      )
    const timer = handshakeMs < 2 ** 31 ? setTimeout(onTimeout, handshakeMs) : undefined
    timer?.unref()
    const settle = () => {
      clearTimeout(timer)
      secured.off('error', onError).off('close', onClose).off('secureConnect', onSecure)
    }
    const onSecure = () => {
      settle()
      try {
        resolve(done(secured))
      } catch (error) {
        secured.destroy()
        reject(error)
      }
    }
    secured.on('error', onError).on('close', onClose).on('secureConnect', onSecure)
  })
}
