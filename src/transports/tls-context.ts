/**
 * TLS options as Node wants them: files read, checked while nothing is bound, certificates by server name.
 *
 * Room: transports.
 */
import { readFileSync } from 'node:fs'
import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls'
import { ConfigError } from '../core/errors.js'
import type { Material, TlsOptions } from '../core/options.js'

/**
 * Mozilla's intermediate list (Server Side TLS 5.7), in OpenSSL's names; TLS 1.3 suites first, as Node takes both in one
 * list. It serves every client of the last ten years and nothing weak.
 */
export const intermediateCiphers = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':')

type Certified = Pick<TlsOptions, 'cert' | 'key' | 'ca' | 'pfx' | 'passphrase'>

/** Everything a secure context takes. @throws {ConfigError} `BAD_VALUE` naming the key and the file. */
export function contextOptions(options: TlsOptions, place: string): SecureContextOptions {
  const materials: SecureContextOptions = {}
  for (const key of ['cert', 'key', 'ca', 'pfx'] as const) {
    const value = options[key]
    if (value !== undefined) materials[key] = readMaterial(value, `${place}.${key}`) as never
  }
  if (options.passphrase !== undefined) materials.passphrase = options.passphrase
  return {
    ...materials,
    minVersion: options.minVersion ?? 'TLSv1.2',
    ...(options.maxVersion === undefined ? {} : { maxVersion: options.maxVersion }),
    ciphers: options.ciphers ?? intermediateCiphers,
  }
}

/** A context, or an error in the operator's terms: OpenSSL's own words name no file. */
export function secureContext(options: TlsOptions, place: string): SecureContext {
  const given = contextOptions(options, place)
  try {
    return createSecureContext(given)
  } catch (cause) {
    const { code, message } = cause as Error & { code?: string }
    const what =
      code === 'ERR_OSSL_X509_KEY_VALUES_MISMATCH'
        ? 'the certificate and the key do not belong together'
        : /passphrase|password|bad decrypt|INTERRUPTED_OR_CANCELLED|mac verify/i.test(`${code} ${message}`)
          ? 'the passphrase is missing or wrong'
          : message
    throw new ConfigError('BAD_VALUE', `${place}: ${what} (${describe(options)})`, { place, cause })
  }
}

/** The contexts of `sni`, found by exact name, then by `*.` for one label (RFC 6125, section 6.4.3). */
export function contextsByName(options: TlsOptions): ((name: string) => SecureContext | undefined) | undefined {
  if (options.sni === undefined) return undefined
  const contexts = new Map<string, SecureContext>()
  for (const [name, certified] of Object.entries(options.sni)) {
    contexts.set(name.toLowerCase(), secureContext({ ...without(options), ...certified }, `tls.sni.${name}`))
  }
  return (asked) => {
    const name = asked.toLowerCase()
    return contexts.get(name) ?? contexts.get(`*${name.slice(name.indexOf('.') >>> 0)}`)
  }
}

/** @throws {ConfigError} when a server has no certificate to show. */
export function demandCertificate(options: TlsOptions, place: string): void {
  if (options.pfx !== undefined) return
  if (options.cert !== undefined && options.key !== undefined) return
  if (options.cert === undefined && options.key === undefined && options.sni !== undefined) return
  const missing = options.cert === undefined ? 'cert' : 'key'
  const remedy =
    "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 365 -subj '/CN=localhost' makes a pair for trying"
  throw new ConfigError('BAD_VALUE', `${place}.${missing} is missing: a TLS listener shows a certificate and its key; ${remedy}`, { place })
}

function without({ cert, key, pfx, passphrase, sni, ...rest }: TlsOptions): TlsOptions {
  return rest
}

/** Text that begins as PEM is PEM, other text names a file, bytes are what they are. */
function readMaterial(material: Material, place: string): (string | Buffer)[] {
  const list = (Array.isArray(material) ? material : [material]) as (string | Uint8Array)[]
  return list.map((one) => {
    if (typeof one !== 'string') return Buffer.from(one)
    if (one.trimStart().startsWith('-----BEGIN')) return one
    try {
      return readFileSync(one)
    } catch (cause) {
      const { code } = cause as { code?: string }
      throw new ConfigError('BAD_VALUE', `${place}: cannot read \`${one}\` (${code})`, { place, path: one, cause })
    }
  })
}

/** Where the pieces came from; never what is in them. */
function describe(options: Certified): string {
  const named = (['cert', 'key', 'pfx', 'ca'] as const).flatMap((key) => {
    const value = options[key]
    if (value === undefined) return []
    const isFile = typeof value === 'string' && !value.trimStart().startsWith('-----BEGIN')
    return [isFile ? `${key}: ${value}` : `${key}: given as text or bytes`]
  })
  return named.join(', ')
}
