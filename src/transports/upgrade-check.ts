/**
 * What links may switch to later is read before anything is bound: a certificate that is missing is found at the start.
 *
 * Room: transports. Loads nothing of TLS where none is configured.
 */
import type { TlsOptions } from '../core/options.js'

/** @throws {ConfigError} `BAD_VALUE`: a certificate or key that cannot be used. */
export async function prepareUpgrade(tls: TlsOptions | undefined): Promise<void> {
  if (tls?.cert === undefined && tls?.pfx === undefined && tls?.sni === undefined) return
  const { serverHandshakes } = await import('./tls-upgrade.js')
  await serverHandshakes(tls)
}
