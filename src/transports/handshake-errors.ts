/**
 * Translates what OpenSSL and Node say about a failed handshake.
 *
 * Room: transports. An error is made for each failure and printed by nobody here: a flood of bad peers is counted, not
 * logged.
 */
import type { TLSSocket } from 'node:tls'
import { HandshakeError } from '../core/errors.js'
import { codeOf } from './tls-facts.js'

/** A handshake whose peer went away. */
export const LATE = 'the connection was closed before the handshake was done'

/** @param secured - The socket that failed, where it says more than the error. */
export function handshakeError(cause: Error & { code?: string; reason?: string }, secured?: TLSSocket): HandshakeError {
  if (cause instanceof HandshakeError) return cause
  const code = cause.code ?? ''
  const problem = secured?.authorizationError as unknown
  if (problem !== null && problem !== undefined) {
    return new HandshakeError('CERTIFICATE_REFUSED', `the peer's certificate was refused: ${codeOf(problem)}`, {
      reason: codeOf(problem),
      cause,
    })
  }
  if (code === 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE') {
    return new HandshakeError('CERTIFICATE_REFUSED', 'the peer showed no certificate, and one is required', {
      reason: code,
      cause,
    })
  }
  if (isCertificateAlert(code)) {
    return new HandshakeError('CERTIFICATE_REFUSED', `the peer refused our certificate: ${cause.reason ?? code}`, {
      reason: code,
      cause,
    })
  }
  if (/UNRECOGNIZED_NAME/.test(code)) {
    return new HandshakeError('UNRECOGNISED_NAME', 'the peer has no certificate for the name it was asked for', {
      reason: code,
      cause,
    })
  }
  // Node's own words for a peer that went away are those of HTTP.
  const message = code === 'ECONNRESET' ? LATE : (cause.reason ?? cause.message)
  return new HandshakeError('HANDSHAKE_FAILED', `the handshake failed: ${message}`, { reason: code, cause })
}

/**
 * An alert about a certificate. In TLS 1.3 a client hears it only after its own side of the handshake was done (RFC
 * 8446, section 4.4.2.4).
 */
export function isCertificateAlert(code: string): boolean {
  return /ALERT_(BAD_CERTIFICATE|CERTIFICATE_|UNKNOWN_CA|UNSUPPORTED_CERTIFICATE|NO_CERTIFICATE|ACCESS_DENIED)/.test(
    code,
  )
}
