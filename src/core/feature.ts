/**
 * Features: optional facts of one connection, looked up by a token, so that the base contract stays small.
 *
 * Room: core, contract. A transport or layer provides them (`Link.feature`), a handler asks (`connection.feature(TLS)`).
 */

/** A key for one kind of fact. Two installed copies of the package agree on it, because the name decides. */
export interface FeatureToken<T> {
  readonly feature: string
  /** Never present; carries the type. */
  readonly type?: T
}

const tokens = new Map<string, FeatureToken<unknown>>()

/** Names a kind of fact; plugins make their own. */
export function defineFeature<T>(name: string): FeatureToken<T> {
  const token: FeatureToken<T> = { feature: name }
  tokens.set(name, token)
  return token
}

/** Every kind of fact that somebody has named: what a handler in another process is told of its connection. */
export function definedFeatures(): Iterable<FeatureToken<unknown>> {
  return tokens.values()
}

/** What is known of a TLS connection once its handshake is done. */
export interface TlsFacts {
  /** The version agreed on, as OpenSSL writes it: `TLSv1.3`. */
  readonly protocol: string
  /** The cipher's standard name (RFC 8446, B.4). */
  readonly cipher: string
  /** The ALPN protocol agreed on; undefined when none was. */
  readonly alpn: string | undefined
  /** The server name the client asked for (RFC 6066, section 3). */
  readonly serverName: string | undefined
  /** True when a certificate was presented and its chain leads to a configured CA. */
  readonly authorized: boolean
  /** Why the certificate was not authorized, when one came and it was not. */
  readonly authorizationError: string | undefined
  /** True when an earlier session was resumed. */
  readonly resumed: boolean
  /** The peer's certificate; undefined when it presented none. */
  readonly peerCertificate: TlsCertificate | undefined
}

export interface TlsCertificate {
  /** Distinguished name parts, `{ CN: 'alice', O: ... }`. */
  readonly subject: Readonly<Record<string, string | string[]>>
  readonly issuer: Readonly<Record<string, string | string[]>>
  readonly subjectAltName: string | undefined
  /** SHA-256 of the DER, colon separated. */
  readonly fingerprint256: string
  readonly serialNumber: string
  readonly validFrom: string
  readonly validTo: string
  /** The certificate itself, DER. */
  readonly raw: Uint8Array
}

/** TLS facts; undefined on plain connections. */
export const TLS: FeatureToken<TlsFacts> = defineFeature<TlsFacts>('tls')
