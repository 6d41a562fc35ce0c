/**
 * Certificates and keys as configuration names them, read and checked before they are used.
 *
 * Room: transports. A mistake here is the operator's: each error names the option, the file and what to do.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createSecureContext, type SecureContext, type SecureContextOptions, type SecureVersion } from 'node:tls'
import { ConfigError, toError } from '../core/errors.js'
import type { Material, TlsIdentity, TlsOptions } from '../core/options.js'
import { platformCode } from './platform-errors.js'

/**
 * Mozilla's intermediate list, version 5.7 (wiki.mozilla.org/Security/Server_Side_TLS). Its DHE suites are offered only
 * with DH parameters, which Node has not unless told; so in effect: ECDHE with AEAD.
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
  'DHE-RSA-AES128-GCM-SHA256',
  'DHE-RSA-AES256-GCM-SHA384',
  'DHE-RSA-CHACHA20-POLY1305',
].join(':')

const MIN_VERSION: SecureVersion = 'TLSv1.2'

/** Whatever the files said, not looked into yet. */
export type Read = { [K in 'cert' | 'key' | 'ca' | 'crl' | 'pfx']?: (string | Buffer)[] } & { passphrase?: string }

/**
 * Reads and checks what a side shows and trusts.
 *
 * @throws {ConfigError} `BAD_VALUE`. Reach: the start, or the link that was to be upgraded.
 */
export async function readMaterials(options: TlsOptions): Promise<SecureContextOptions> {
  const read = await readIdentity(options, 'tls')
  const context = contextOptions(read, options)
  secureContext(context, read, 'tls')
  return context
}

/** What Node makes a context of. @param shared - Whose versions and ciphers hold. */
export function contextOptions(read: Read, shared: TlsOptions): SecureContextOptions {
  return {
    ...(read as SecureContextOptions),
    ciphers: shared.ciphers ?? intermediateCiphers,
    minVersion: shared.minVersion ?? MIN_VERSION,
    ...(shared.maxVersion === undefined ? {} : { maxVersion: shared.maxVersion }),
  }
}

/**
 * Reads what one name, or everybody, is shown and who is trusted.
 *
 * @param where - The option's path for messages: `tls`, or `tls.sni["example.org"]`.
 * @throws {ConfigError} `BAD_VALUE`: a file that cannot be read, or half of a pair.
 */
export async function readIdentity(identity: TlsIdentity, where: string): Promise<Read> {
  const read: Read = {}
  for (const name of ['cert', 'key', 'ca', 'crl', 'pfx'] as const) {
    const material = identity[name]
    if (material !== undefined) read[name] = await readMaterial(material, `${where}.${name}`)
  }
  // Node takes one list from each text, and a bundle has one for each authority.
  if (read.crl !== undefined) read.crl = read.crl.flatMap(listsIn)
  if (identity.passphrase !== undefined) read.passphrase = identity.passphrase
  const { cert, key } = read
  if ((cert === undefined) !== (key === undefined)) {
    const [given, missing] = cert === undefined ? ['key', 'cert'] : ['cert', 'key']
    throw new ConfigError(
      'BAD_VALUE',
      `${where}.${given} is given without ${where}.${missing}; the two belong together`,
      { option: `${where}.${missing}` },
    )
  }
  return read
}

function listsIn(material: string | Buffer): (string | Buffer)[] {
  const found = material.toString('latin1').match(/-----BEGIN X509 CRL-----[^-]+-----END X509 CRL-----/g)
  return found ?? [material]
}

async function readMaterial(material: Material, option: string): Promise<(string | Buffer)[]> {
  const list = (Array.isArray(material) ? material : [material]) as readonly (string | Uint8Array)[]
  return Promise.all(list.map((item) => readOne(item, option)))
}

async function readOne(item: string | Uint8Array, option: string): Promise<string | Buffer> {
  if (typeof item !== 'string') return Buffer.from(item.buffer, item.byteOffset, item.byteLength)
  if (item.trimStart().startsWith('-----BEGIN')) return item
  try {
    return await readFile(item)
  } catch (cause) {
    const problem = `cannot read the file ${item} (${platformCode(cause)})`
    const message = `${option}: ${problem}; expected PEM text, or the path of a readable file`
    throw new ConfigError('BAD_VALUE', message, { option, path: item, cause })
  }
}

/** @throws {ConfigError} `BAD_VALUE`, with what is wrong with what. */
export function secureContext(context: SecureContextOptions, read: Read, where: string): SecureContext {
  try {
    return createSecureContext(context)
  } catch (thrown) {
    throw explain(toError(thrown), read, where)
  }
}

/** OpenSSL says what is wrong, not with which of the things it was given. */
function explain(cause: Error, { cert = [], key = [], passphrase }: Read, where: string): ConfigError {
  const bad = (option: string, problem: string) =>
    new ConfigError('BAD_VALUE', `${option}: ${problem}`, { option, cause })
  for (const each of cert) {
    if (fails(() => new X509Certificate(each)))
      return bad(`${where}.cert`, 'expected a certificate in PEM, got something else')
  }
  for (const each of key) {
    const isReadable = !fails(() =>
      createPrivateKey({ key: each, ...(passphrase === undefined ? {} : { passphrase }) }),
    )
    if (!isReadable)
      return bad(`${where}.key`, `expected a private key in PEM that ${where}.passphrase opens: ${cause.message}`)
  }
  if (/CRL/.test(cause.message)) {
    return bad(`${where}.crl`, 'expected lists of revoked certificates (CRL) in PEM, got something else')
  }
  if (platformCode(cause) === 'ERR_OSSL_X509_KEY_VALUES_MISMATCH') {
    return bad(
      `${where}.cert and ${where}.key`,
      'the key does not belong to the certificate; name the two that were made together',
    )
  }
  return bad(where, cause.message)
}

function fails(attempt: () => unknown): boolean {
  try {
    attempt()
    return false
  } catch {
    return true
  }
}
