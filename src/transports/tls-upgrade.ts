/** Room: transports. */
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Endpoint } from '../core/endpoint.js'
import type { TlsOptions } from '../core/options.js'

export async function upgradeToTls(
  _raw: Socket, _side: 'accepted' | 'connected', _endpoint: Endpoint, _options: TlsOptions | undefined, _handshakeMs: number,
): Promise<TLSSocket> {
  throw new Error('not yet')
}
