/**
 * TLS put over a socket that is there already: a listener's own handshake, and `connection.upgrade('tls')` in mid-life.
 *
 * Room: transports. A tls.Server that never listens is given the raw sockets, so tickets, SNI and verification are Node's
 * own, at their native speed; only the deadline is ours, because Node's leaves the socket beneath open.
 */
import type { Socket } from 'node:net'
import {
  connect,
  type ConnectionOptions,
  createServer,
  type SecureContext,
  type Server,
  type TLSSocket,
  type TlsOptions as NodeTlsOptions,
} from 'node:tls'
import { isIP } from 'node:net'
import type { Endpoint } from '../core/endpoint.js'
import { ConnectionError, HandshakeError } from '../core/errors.js'
import { defaultTimeouts, type TlsOptions } from '../core/options.js'
import type { TransportOptions } from '../core/transport.js'
import { reset, type Upgrade } from './stream-link.js'
import { contextOptions, contextsByName, demandCertificate, secureContext } from './tls-context.js'

interface Handshake {
  readonly resolve: (socket: TLSSocket) => void
  readonly reject: (error: HandshakeError) => void
}

/** The server side of handshakes, for one listener. */
export class ServerTls {
  readonly #server: Server
  readonly #handshakes = new Map<Socket, Handshake>()
  readonly #timeoutMs: number

  /** @throws {ConfigError} for certificates that are missing, unreadable or do not fit. */
  constructor(options: TlsOptions, timeoutMs: number, place = 'tls') {
    demandCertificate(options, place)
    this.#timeoutMs = timeoutMs
    // Checked first, for an error in the operator's terms.
    if (options.cert !== undefined || options.pfx !== undefined) secureContext(options, place)
    const byName = contextsByName(options)
    const hasDefault = options.cert !== undefined || options.pfx !== undefined
    const given: NodeTlsOptions = {
      ...contextOptions(options, place),
      requestCert: options.requestCert ?? false,
      rejectUnauthorized: options.rejectUnauthorized ?? true,
      // Ours ends the raw socket too; Node's must never come first.
      handshakeTimeout: 2 ** 31 - 1,
      ...(options.alpn === undefined ? {} : { ALPNProtocols: [...options.alpn] }),
    }
    if (byName !== undefined) {
      given.SNICallback = (name, done) => {
        const context = byName(name)
        if (context !== undefined || hasDefault) done(null, context as SecureContext)
        else done(new HandshakeError('UNRECOGNISED_NAME', `no certificate for the server name \`${name.slice(0, 255)}\``))
      }
    }
    this.#server = createServer(given)
    this.#server.on('secureConnection', (socket: TLSSocket) => {
      // RFC 8446 has no renegotiation; in TLS 1.2 it is a way to make a server work for nothing.
      socket.disableRenegotiation()
      socket.allowHalfOpen = true
      this.#take(rawOf(socket))?.resolve(socket)
    })
    this.#server.on('tlsClientError', (error: Error, socket: TLSSocket) => {
      const raw = rawOf(socket)
      if (error instanceof HandshakeError && error.code === 'UNRECOGNISED_NAME') sendUnrecognisedName(raw)
      this.#take(raw)?.reject(explain(error, socket))
    })
  }

  /** @throws {HandshakeError} and the socket is closed, the raw one too. */
  secure(raw: Socket): Promise<TLSSocket> {
    return new Promise((resolve, reject) => {
      const fail = (error: HandshakeError) => {
        raw.destroy()
        reject(error)
      }
      const timer =
        this.#timeoutMs === Number.POSITIVE_INFINITY
          ? undefined
          : setTimeout(() => {
              const message = `the TLS handshake was not done within handshakeMs (${this.#timeoutMs} ms)`
              this.#handshakes.delete(raw)
              reset(raw)
              fail(new HandshakeError('HANDSHAKE_TIMEOUT', message))
            }, this.#timeoutMs)
      timer?.unref()
      raw.on('error', ignore)
      const onClose = () => this.#take(raw)?.reject(new HandshakeError('HANDSHAKE_FAILED', 'the peer left during the TLS handshake'))
      raw.once('close', onClose)
      this.#handshakes.set(raw, {
        resolve: (socket) => {
          clearTimeout(timer)
          raw.removeListener('close', onClose)
          resolve(socket)
        },
        reject: (error) => {
          clearTimeout(timer)
          fail(error)
        },
      })
      // A peer that finishes inside its handshake is done; half-open begins when there is something to be said.
      raw.allowHalfOpen = false
      this.#server.emit('connection', raw)
    })
  }

  /** The listener is gone: handshakes under way are cut. */
  close(): void {
    for (const [raw, handshake] of this.#handshakes) {
      this.#handshakes.delete(raw)
      reset(raw)
      handshake.reject(new HandshakeError('HANDSHAKE_FAILED', 'the listener was unbound during the TLS handshake'))
    }
  }

  #take(raw: Socket): Handshake | undefined {
    const handshake = this.#handshakes.get(raw)
    this.#handshakes.delete(raw)
    return handshake
  }
}

/** For links of a listener whose `tls` key allows the upgrade; the options given to it may replace the key. */
export function serverUpgrade(options: TransportOptions): Upgrade {
  const timeoutMs = options.timeouts?.handshakeMs ?? defaultTimeouts.handshakeMs
  let ready: ServerTls | undefined
  return async (link, given) => {
    const own = given as TlsOptions | undefined
    if (own === undefined && options.tls === undefined) {
      throw new ConnectionError('NOT_SUPPORTED', "upgrade('tls') needs the listener's `tls` key, or TLS options")
    }
    const tls = own === undefined ? (ready ??= new ServerTls(options.tls as TlsOptions, timeoutMs)) : new ServerTls(own, timeoutMs)
    link.attach(await tls.secure(await sent(link.detach())))
  }
}

export function clientUpgrade(endpoint: Endpoint, options: TransportOptions): Upgrade {
  return async (link, given) => {
    const tls = { ...options.tls, ...(given as TlsOptions | undefined) }
    link.attach(await secureClient(await sent(link.detach()), endpoint, tls, options.timeouts?.handshakeMs))
  }
}

/**
 * The client side of a handshake.
 *
 * @throws {HandshakeError} `CERTIFICATE_REFUSED` when the server cannot prove its name, `HANDSHAKE_FAILED`, `HANDSHAKE_TIMEOUT`.
 */
export function secureClient(
  raw: Socket,
  endpoint: Endpoint,
  tls: TlsOptions,
  timeoutMs = defaultTimeouts.handshakeMs,
): Promise<TLSSocket> {
  const name = tls.serverName ?? endpoint.host ?? ''
  const given: ConnectionOptions = {
    ...contextOptions(tls, 'tls'),
    socket: raw,
    host: name,
    rejectUnauthorized: tls.rejectUnauthorized ?? true,
    // RFC 6066, section 3: addresses are no server names.
    ...(isIP(name) === 0 ? { servername: name } : {}),
    ...(tls.alpn === undefined ? {} : { ALPNProtocols: [...tls.alpn] }),
  }
  return new Promise((resolve, reject) => {
    const socket = connect(given)
    const timer =
      timeoutMs === Number.POSITIVE_INFINITY
        ? undefined
        : setTimeout(() => {
            raw.destroy()
            reject(new HandshakeError('HANDSHAKE_TIMEOUT', `${endpoint}: the TLS handshake was not done within ${timeoutMs} ms`))
          }, timeoutMs)
    const onError = (error: Error) => {
      clearTimeout(timer)
      raw.destroy()
      reject(explain(error, socket))
    }
    raw.on('error', ignore)
    socket.once('error', onError)
    socket.once('close', () => onError(new Error('the other side left during the TLS handshake')))
    socket.once('secureConnect', () => {
      clearTimeout(timer)
      socket.removeListener('error', onError)
      socket.removeAllListeners('close')
      resolve(socket)
    })
  })
}

/** Resolves when everything written has gone: the go-ahead of an upgrade must leave in plain text. */
function sent(socket: Socket): Promise<Socket> {
  socket.pause()
  if (socket.writableLength === 0) return Promise.resolve(socket)
  return new Promise((resolve) => socket.write('', () => resolve(socket)))
}

/** The socket beneath. Node keeps it in `_parent` (lib/_tls_wrap.js, unchanged since 2015). */
function rawOf(socket: TLSSocket): Socket {
  return (socket as unknown as { _parent: Socket })._parent
}

/** RFC 6066, section 3 asks for a fatal unrecognized_name(112); Node only closes. Nothing else was sent yet. */
function sendUnrecognisedName(raw: Socket): void {
  if (raw.writable) raw.write(Buffer.of(21, 3, 3, 0, 2, 2, 112))
}

function explain(error: Error, socket: TLSSocket): HandshakeError {
  if (error instanceof HandshakeError) return error
  const { code = '' } = error as { code?: string }
  const refused = socket.authorizationError as unknown
  if (refused) {
    return new HandshakeError('CERTIFICATE_REFUSED', `the certificate was refused: ${String(refused)}`, { reason: String(refused), cause: error })
  }
  if (/CERT|VERIF|SELF_SIGNED|ALTNAME|UNABLE_TO_GET_ISSUER/.test(code)) {
    const missing = code === 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE'
    const message = missing ? 'the peer presented no certificate' : `the certificate was refused: ${error.message}`
    return new HandshakeError('CERTIFICATE_REFUSED', message, { reason: code, cause: error })
  }
  const message = code === 'ECONNRESET' ? 'the peer left during the TLS handshake' : `the TLS handshake failed: ${error.message}`
  return new HandshakeError('HANDSHAKE_FAILED', message, { reason: code, cause: error })
}

const ignore = (): void => {}
