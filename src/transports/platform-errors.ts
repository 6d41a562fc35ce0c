/**
 * Platform codes in Gaidaros' words: translated once, here, with the platform's error kept as the cause.
 *
 * Room: transports; what the stream transports share.
 */
import { BindError, type BindErrorCode, ConnectionError, GaidarosError } from '../core/errors.js'
import type { Endpoint } from '../core/endpoint.js'

type PlatformError = Error & { code?: string }

/** What ended a link (errno(3), tcp(7)). */
export function translate(error: PlatformError): GaidarosError {
  if (error instanceof GaidarosError) return error
  switch (error.code) {
    case 'ECONNRESET':
    case 'EPIPE':
    case 'ECONNABORTED':
      return new ConnectionError('RESET', 'the peer or the network reset the connection', { cause: error })
    case 'ETIMEDOUT':
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return new ConnectionError('RESET', 'the peer cannot be reached any more', { cause: error })
    case 'ERR_TLS_RENEGOTIATION_DISABLED':
    case 'ERR_TLS_SESSION_ATTACK':
      return new ConnectionError('TRANSPORT_FAILED', 'the peer asked for a TLS renegotiation, which is refused', { cause: error })
    default:
      return new ConnectionError('TRANSPORT_FAILED', error.message, { cause: error })
  }
}

/** Why `connect` failed. */
export function translateConnect(error: PlatformError, endpoint: Endpoint): GaidarosError {
  if (error instanceof GaidarosError) return error
  const first = (error as { errors?: PlatformError[] }).errors?.[0] ?? error
  switch (first.code) {
    case 'ECONNREFUSED':
    case 'ENOENT':
      return new ConnectionError('REFUSED', `nobody listens at ${endpoint}`, { endpoint, cause: error })
    case 'EACCES':
    case 'EPERM':
      return new ConnectionError('REFUSED', `no permission to connect to ${endpoint}`, { endpoint, cause: error })
    case 'ETIMEDOUT':
      return new ConnectionError('CONNECT_TIMEOUT', `${endpoint} did not answer`, { endpoint, cause: error })
    default:
      return new ConnectionError('TRANSPORT_FAILED', `connecting to ${endpoint} failed: ${first.message}`, { endpoint, cause: error })
  }
}

const bindCodes: Readonly<Record<string, [BindErrorCode, string]>> = {
  EADDRINUSE: ['ADDRESS_IN_USE', 'another program listens there; stop it, or take another port (0 picks a free one)'],
  EADDRNOTAVAIL: ['ADDRESS_NOT_AVAILABLE', 'no interface of this machine has that address'],
  EACCES: ['PERMISSION_DENIED', 'ports below 1024 need a privilege (CAP_NET_BIND_SERVICE), paths a writable folder'],
  EPERM: ['PERMISSION_DENIED', 'the system does not allow it'],
  ENOTFOUND: ['HOST_NOT_FOUND', 'the host name does not resolve'],
  EAI_AGAIN: ['HOST_NOT_FOUND', 'the host name cannot be resolved now'],
  EAI_FAIL: ['HOST_NOT_FOUND', 'the host name cannot be resolved'],
  EAFNOSUPPORT: ['ADDRESS_NOT_AVAILABLE', 'this machine has no addresses of that family'],
}

/** Why an address cannot be bound (bind(2), listen(2), getaddrinfo(3)). */
export function translateBind(error: PlatformError, endpoint: Endpoint): GaidarosError {
  if (error instanceof GaidarosError) return error
  const [code, remedy] = bindCodes[error.code ?? ''] ?? ['BIND_FAILED', error.message]
  const platform = error.code === undefined ? '' : ` (${error.code})`
  return new BindError(code as BindErrorCode, `cannot listen at ${endpoint}${platform}: ${remedy}`, { endpoint, cause: error })
}
