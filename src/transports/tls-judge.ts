/**
 * Judges a session that was taken up, by what is configured now.
 *
 * Room: transports. A full handshake checks the client's certificate; one that takes up a session does not (RFC 8446, section
 * 2.2), and what OpenSSL remembers is what it found when the session was made.
 */
import type { TLSSocket } from 'node:tls'
import { HandshakeError } from '../core/errors.js'
import type { TlsOptions } from '../core/options.js'

type Judged = Pick<TLSSocket, 'getPeerCertificate'> & { authorized: boolean; authorizationError: unknown }

/** @returns why it is refused. Where certificates are asked for and none is refused, `authorized` is brought up to date. */
export function judgeResumed(
  secured: Judged,
  { requestCert = false, rejectUnauthorized = true }: TlsOptions,
  now: number = Date.now(),
): HandshakeError | undefined {
  if (!requestCert) return undefined
  const { raw, valid_to: end } = secured.getPeerCertificate() ?? {}
  if (raw === undefined) {
    return rejectUnauthorized
      ? refusal('the peer showed no certificate, and one is required', 'NO_CERTIFICATE')
      : undefined
  }
  // A certificate that has ended since; OpenSSL looks at the time in full handshakes only.
  if (Date.parse(end ?? '') < now) {
    secured.authorized = false
    secured.authorizationError = 'CERT_HAS_EXPIRED'
  }
  if (secured.authorized || !rejectUnauthorized) return undefined
  const reason = String(secured.authorizationError ?? 'UNAUTHORIZED')
  return refusal(`the peer's certificate was refused: ${reason}`, reason)
}

function refusal(problem: string, reason: string): HandshakeError {
  return new HandshakeError('CERTIFICATE_REFUSED', `${problem} (its session was made before)`, { reason })
}
