/**
 * Platform codes of datagram sockets as errors of Gaidaros.
 *
 * Room: transports. The one place where errno names of UDP are read; each error keeps the platform's as `cause`.
 */
import type { Endpoint } from '../core/endpoint.js'
import { BindError, type BindErrorCode, ConnectionError, toError } from '../core/errors.js'

const bindCodes: Readonly<Record<string, readonly [BindErrorCode, string]>> = {
  EADDRINUSE: [
    'ADDRESS_IN_USE',
    'another socket has this address; stop it, or choose another port (0 picks a free one)',
  ],
  EADDRNOTAVAIL: ['ADDRESS_NOT_AVAILABLE', 'no interface of this host has this address'],
  EAFNOSUPPORT: ['ADDRESS_NOT_AVAILABLE', 'this host has no sockets of this address family'],
  ENODEV: ['ADDRESS_NOT_AVAILABLE', 'no interface leads to it; name one by its address (`interface`)'],
  EACCES: ['PERMISSION_DENIED', 'ports below 1024 need a privilege (CAP_NET_BIND_SERVICE, capabilities(7))'],
  EPERM: ['PERMISSION_DENIED', 'the system does not allow it'],
  ENOTFOUND: ['HOST_NOT_FOUND', 'the host name has no address'],
  EAI_AGAIN: ['HOST_NOT_FOUND', 'the name server did not answer'],
  ENOPROTOOPT: ['NOT_SUPPORTED', 'this platform has not the option'],
  ENOTSUP: ['NOT_SUPPORTED', 'this platform has not the option'],
  ENOSYS: ['NOT_SUPPORTED', 'this platform has not the option'],
}

/** @param doing - What was tried: `bind`, `join 239.1.2.3`. */
export function bindError(thrown: unknown, endpoint: Endpoint, doing = 'bind'): BindError {
  if (thrown instanceof BindError) return thrown
  const cause = toError(thrown)
  const [code, hint] = bindCodes[codeOf(cause)] ?? ['BIND_FAILED', cause.message]
  return new BindError(code, `${endpoint}: cannot ${doing}: ${hint}`, { cause, endpoint })
}

/**
 * What a failed send or receive means to its link.
 *
 * @returns the error, and whether the link can go on: a message too large or a full queue concerns one datagram, a
 *   refusal or a missing route all of them.
 */
export function linkError(cause: Error, remote: Endpoint | undefined): { error: ConnectionError; isPassing: boolean } {
  const to = `${remote ?? 'a peer'}`
  const fields = { cause, remote }
  switch (codeOf(cause)) {
    case 'EMSGSIZE':
      return {
        error: new ConnectionError('MESSAGE_TOO_LARGE', `${to}: the datagram is larger than the network takes`, fields),
        isPassing: true,
      }
    case 'ECONNREFUSED':
      return { error: new ConnectionError('REFUSED', `${to}: nobody listens there`, fields), isPassing: false }
    case 'ENOBUFS':
    case 'ENOMEM':
    case 'EAGAIN':
    case 'EINTR':
      return {
        error: new ConnectionError('TRANSPORT_FAILED', `${to}: a datagram was not sent: ${cause.message}`, fields),
        isPassing: true,
      }
    default:
      return {
        error: new ConnectionError('TRANSPORT_FAILED', `${to}: cannot be reached: ${cause.message}`, fields),
        isPassing: false,
      }
  }
}

/** Why `connect` failed. */
export function connectError(thrown: unknown, endpoint: Endpoint): ConnectionError {
  if (thrown instanceof ConnectionError) return thrown
  const cause = toError(thrown)
  const code = codeOf(cause) === 'ECONNREFUSED' ? 'REFUSED' : 'TRANSPORT_FAILED'
  return new ConnectionError(code, `${endpoint}: cannot connect: ${cause.message}`, { cause, endpoint })
}

export function connectGivenUp(endpoint: Endpoint, signal: AbortSignal): ConnectionError {
  return new ConnectionError('CONNECT_TIMEOUT', `${endpoint}: connecting was given up`, {
    cause: signal.reason,
    endpoint,
  })
}

export function codeOf(error: Error): string {
  const { code } = error as NodeJS.ErrnoException
  // A SystemError of a setter (`ERR_SOCKET_BUFFER_SIZE`) carries the platform's code one level down.
  const info = (error as { info?: { code?: unknown } }).info
  return typeof info?.code === 'string' ? info.code : String(code ?? '')
}
