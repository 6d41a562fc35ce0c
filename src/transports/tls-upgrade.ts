/**
 * Switches a plain link's socket to TLS in mid-life.
 *
 * Room: transports. Loaded by the first link that is upgraded.
 */
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Endpoint } from '../core/endpoint.js'
import type { TlsOptions } from '../core/options.js'
import { readClientTls, secureClient, type TlsClientSettings } from './tls-client.js'
import { TlsHandshakes } from './tls-handshakes.js'

// Certificates are read once for each options object, which is one a listener.
const servers = new WeakMap<TlsOptions, Promise<TlsHandshakes>>()
const clients = new WeakMap<TlsOptions, Promise<TlsClientSettings>>()
const NONE: TlsOptions = {}
// What one upgrade says, above what its listener or client says; kept, because the caches above go by identity.
const merged = new WeakMap<TlsOptions, { readonly under: TlsOptions; readonly both: TlsOptions }>()

/**
 * @param raw - Paused, with nobody listening for its data. What it has already read is taken as TLS.
 * @param options - Of this upgrade; key by key above `shared`.
 * @throws {ConfigError} `BAD_VALUE`
 * @throws {HandshakeError} and the socket is closed.
 */
export async function upgradeToTls(
  raw: Socket,
  side: 'accepted' | 'connected',
  endpoint: Endpoint,
  options: TlsOptions | undefined,
  shared: TlsOptions | undefined,
  handshakeMs: number,
): Promise<TLSSocket> {
  const key = settled(options, shared)
  if (side === 'connected') {
    const settings = await once(clients, key, () => readClientTls(key))
    return secureClient(raw, endpoint, settings, handshakeMs, (secured) => secured)
  }
  const handshakes = await serverHandshakes(key)
  return new Promise((resolve, reject) => {
    handshakes.begin(raw, handshakeMs, (error, secured) => (secured === undefined ? reject(error) : resolve(secured)))
  })
}

function settled(options: TlsOptions | undefined, shared: TlsOptions | undefined): TlsOptions {
  // The layer `tls` gives what its listener has: the same object, whose certificates change while it runs.
  if (options === undefined || shared === undefined || options === shared) return options ?? shared ?? NONE
  const known = merged.get(options)
  if (known?.under === shared) return known.both
  const both = { ...shared, ...options }
  merged.set(options, { under: shared, both })
  return both
}

/** @throws {ConfigError} `BAD_VALUE` */
export function serverHandshakes(options: TlsOptions): Promise<TlsHandshakes> {
  return once(servers, options, () => TlsHandshakes.prepare(options))
}

function once<T>(cache: WeakMap<TlsOptions, Promise<T>>, key: TlsOptions, make: () => Promise<T>): Promise<T> {
  let made = cache.get(key)
  if (made === undefined) {
    made = make()
    cache.set(key, made)
    // A file that could not be read may be there the next time.
    made.catch(() => cache.delete(key))
  }
  return made
}
