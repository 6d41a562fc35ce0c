/**
 * What a finished TLS handshake has told, as the feature that handlers ask for.
 *
 * Room: transports; used by every link that may carry TLS.
 */
import type { PeerCertificate, TLSSocket } from 'node:tls'
import type { TlsCertificate, TlsFacts } from '../core/feature.js'

export function factsOf(socket: TLSSocket): TlsFacts {
  const { servername } = socket as { servername?: string | false }
  const certificate = socket.getPeerCertificate(false)
  const hasOne = certificate !== null && typeof certificate === 'object' && 'raw' in certificate
  const problem = socket.authorizationError as Error | string | undefined | null
  return {
    protocol: socket.getProtocol() ?? 'unknown',
    cipher: socket.getCipher().standardName,
    alpn: socket.alpnProtocol ? String(socket.alpnProtocol) : undefined,
    serverName: servername ? servername : undefined,
    authorized: hasOne && socket.authorized,
    authorizationError: hasOne && problem ? String(problem instanceof Error ? problem.message : problem) : undefined,
    resumed: socket.isSessionReused(),
    peerCertificate: hasOne ? certificateOf(certificate) : undefined,
  }
}

function certificateOf(certificate: PeerCertificate): TlsCertificate {
  return {
    subject: { ...certificate.subject } as unknown as TlsCertificate['subject'],
    issuer: { ...certificate.issuer } as unknown as TlsCertificate['issuer'],
    subjectAltName: certificate.subjectaltname,
    fingerprint256: certificate.fingerprint256,
    serialNumber: certificate.serialNumber,
    validFrom: certificate.valid_from,
    validTo: certificate.valid_to,
    raw: certificate.raw,
  }
}
