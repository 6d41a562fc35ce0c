/**
 * What links may switch to later is read before anything is bound: a certificate that is missing is found at the start.
 *
 * Room: transports. Loads nothing of TLS where none is configured.
 */
import type { TlsOptions } from '../core/options.js'
import type { LinkSink, TransportOptions } from '../core/transport.js'
import type { StreamListenerParts } from './stream-listener.js'

/** @throws {ConfigError} `BAD_VALUE`: a certificate or key that cannot be used. */
export async function prepareUpgrade(tls: TlsOptions | undefined): Promise<void> {
  await handshakesOf(tls)
}

/**
 * The same, for a listener: its certificates change while it runs, as those of `tls://` do, whether links switch by a layer
 * or in mid-life.
 *
 * @throws {ConfigError} `BAD_VALUE`.
 */
export async function upgradeParts(
  { tls, limits }: TransportOptions,
  sink: LinkSink,
): Promise<() => Partial<Pick<StreamListenerParts, 'reload' | 'setCertificate' | 'unbound'>>> {
  const handshakes = await handshakesOf(tls)
  // Watches begin once it is bound.
  return () => handshakes?.parts(sink, limits?.handshakes) ?? {}
}

async function handshakesOf(tls: TlsOptions | undefined) {
  if (tls?.cert === undefined && tls?.pfx === undefined && tls?.sni === undefined) return undefined
  const { serverHandshakes } = await import('./tls-upgrade.js')
  return serverHandshakes(tls)
}
