/**
 * What is known of a TLS link, in the words of core.
 *
 * Room: transports. Loads nothing of `node:tls`, so that plain links do not pay for it.
 */
import type { PeerCertificate, TLSSocket } from 'node:tls'
import type { TlsCertificate, TlsFacts } from '../core/feature.js'

/** Reads the facts of a socket whose handshake is done. */
export function tlsFacts(socket: TLSSocket): TlsFacts {
  const cipher = socket.getCipher()
  const peerCertificate = certificateOf(socket.getPeerCertificate())
  // Node sets an error on a server also where no certificate came (tls.TLSSocket, authorizationError).
  const problem = peerCertificate === undefined ? null : socket.authorizationError
  // Present on Node 20 and typed there for neither side.
  const { servername } = socket as TLSSocket & { servername?: string | false | null }
  return {
    protocol: socket.getProtocol() ?? 'unknown',
    cipher: cipher.standardName,
    alpn: socket.alpnProtocol || undefined,
    serverName: servername || undefined,
    authorized: socket.authorized && peerCertificate !== undefined,
    authorizationError: problem === null || problem === undefined ? undefined : codeOf(problem),
    resumed: socket.isSessionReused(),
    peerCertificate,
  }
}

function certificateOf(certificate: PeerCertificate): TlsCertificate | undefined {
  // Node gives an empty object where there is none.
  if (certificate === null || certificate.raw === undefined) return undefined
  const { subject, issuer, subjectaltname, fingerprint256, serialNumber, valid_from, valid_to, raw } = certificate
  return {
    subject: { ...subject } as unknown as Record<string, string | string[]>,
    issuer: { ...issuer } as unknown as Record<string, string | string[]>,
    subjectAltName: subjectaltname,
    fingerprint256,
    serialNumber,
    validFrom: valid_from,
    validTo: valid_to,
    raw,
  }
}

/** Node gives a code as text on a server, an error or its code on a client. */
export function codeOf(problem: unknown): string {
  if (typeof problem === 'string') return problem
  const { code, message } = problem as { code?: string; message?: string }
  return code ?? message ?? 'unknown'
}
