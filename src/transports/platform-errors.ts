/**
 * Translates what the platform says about stream sockets into the errors of core, once, with the platform's as `cause`.
 *
 * Room: transports. errno(3) names the codes.
 */
import type { Endpoint } from '../core/endpoint.js'
import { AcceptError, BindError, type BindErrorCode, ConnectionError, GaidarosError, toError } from '../core/errors.js'
import { handshakeError, isCertificateAlert } from './handshake-errors.js'

const bindCodes: Readonly<Record<string, readonly [BindErrorCode, string]>> = {
  EADDRINUSE: [
    'ADDRESS_IN_USE',
    'another socket is bound there; stop its process, or choose another port (0 picks a free one)',
  ],
  EADDRNOTAVAIL: ['ADDRESS_NOT_AVAILABLE', 'no interface of this machine has that address; 0.0.0.0 or [::] take all'],
  EAFNOSUPPORT: ['ADDRESS_NOT_AVAILABLE', 'this machine does not speak that address family; try an IPv4 address'],
  EACCES: ['PERMISSION_DENIED', 'this user may not bind there; ports below 1024 need CAP_NET_BIND_SERVICE on Linux'],
  EPERM: ['PERMISSION_DENIED', 'this user may not bind there'],
  ENOTFOUND: ['HOST_NOT_FOUND', 'the host name does not resolve; write an address, or localhost'],
  ENOTSUP: ['NOT_SUPPORTED', 'this platform lacks an option that was asked for'],
  EOPNOTSUPP: ['NOT_SUPPORTED', 'this platform lacks an option that was asked for'],
}

/** Why an address could not be bound. */
export function bindError(endpoint: Endpoint, thrown: unknown): BindError {
  if (thrown instanceof BindError) return thrown
  const cause = toError(thrown)
  const platform = platformCode(cause)
  const key = platform.startsWith('EAI_') ? 'ENOTFOUND' : platform
  const [code, remedy] = bindCodes[key] ?? (['BIND_FAILED', 'see the cause'] as const)
  return new BindError(code, `cannot listen on ${endpoint}: ${platform || cause.message}; ${remedy}`, {
    endpoint,
    cause,
  })
}

const resets = new Set(['ECONNRESET', 'EPIPE', 'ECONNABORTED', 'ETIMEDOUT', 'ENOTCONN', 'ERR_STREAM_PREMATURE_CLOSE'])

/** Why an open link was lost. */
export function linkError(thrown: Error, remote: Endpoint | undefined): Error {
  if (thrown instanceof GaidarosError) return thrown
  const platform = platformCode(thrown)
  if (isCertificateAlert(platform)) return handshakeError(thrown)
  const peer = remote === undefined ? 'the peer' : String(remote)
  const fields = { remote, cause: thrown }
  return resets.has(platform)
    ? new ConnectionError('RESET', `${peer}: the link was cut (${platform})`, fields)
    : new ConnectionError('TRANSPORT_FAILED', `${peer}: the link failed: ${thrown.message}`, fields)
}

/** Why a link could not be made. */
export function connectError(endpoint: Endpoint, thrown: unknown): Error {
  if (thrown instanceof GaidarosError) return thrown
  const cause = toError(thrown)
  // Several addresses were tried: nobody listening at one of them says more than a family this machine lacks.
  const tried = cause instanceof AggregateError ? cause.errors.map(platformCode) : [platformCode(cause)]
  const fields = { endpoint, cause }
  if (tried.includes('ECONNREFUSED') || tried.includes('ENOENT')) {
    return new ConnectionError(
      'REFUSED',
      `cannot connect to ${endpoint}: nobody listens there (${tried.join(', ')})`,
      fields,
    )
  }
  if (tried.includes('ETIMEDOUT')) {
    return new ConnectionError(
      'CONNECT_TIMEOUT',
      `cannot connect to ${endpoint}: no answer (${tried.join(', ')})`,
      fields,
    )
  }
  const said = tried.filter((code) => code !== '').join(', ') || cause.message
  return new ConnectionError('TRANSPORT_FAILED', `cannot connect to ${endpoint}: ${said}`, fields)
}

/** The signal of a `connect` was aborted: its deadline, or the application gave up. */
export function connectGivenUp(endpoint: Endpoint, reason: unknown): ConnectionError {
  return new ConnectionError('CONNECT_TIMEOUT', `connecting to ${endpoint} was given up before it was done`, {
    endpoint,
    cause: reason,
  })
}

/** A listening socket reported an error; it goes on listening. */
export function acceptError(endpoint: Endpoint, cause: Error): AcceptError {
  const platform = platformCode(cause)
  const code = platform === 'EMFILE' || platform === 'ENFILE' ? 'OUT_OF_DESCRIPTORS' : 'ACCEPT_FAILED'
  return new AcceptError(code, `${endpoint}: accept failed: ${platform || cause.message}`, { endpoint, cause })
}

/** The platform's code of an error, such as `ECONNRESET`; empty when it has none. */
export function platformCode(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' ? code : ''
}
