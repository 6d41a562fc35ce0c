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

type Read = { [K in 'cert' | 'key' | 'ca' | 'pfx']?: (string | Buffer)[] } & { passphrase?: string }

/**
 * Reads and checks what a side shows and trusts.
 *
 * @param where - The option's path for messages: `tls`, or `tls.sni["example.org"]`.
 * @throws {ConfigError} `BAD_VALUE`. Reach: the start, or the link that was to be upgraded.
 */
export async function readMaterials(options: TlsOptions, where = 'tls'): Promise<SecureContextOptions> {
  const read = await readIdentity(options, where)
  const { pfx, ...others } = read
  const context: SecureContextOptions = {
    ...others,
    // Node's types know no list of plain buffers here; Node takes one.
    ...(pfx === undefined ? {} : { pfx: pfx as Buffer[] }),
    ciphers: options.ciphers ?? intermediateCiphers,
    minVersion: options.minVersion ?? MIN_VERSION,
    ...(options.maxVersion === undefined ? {} : { maxVersion: options.maxVersion }),
  }
  secureContext(context, read, where)
  return context
}

/** A context for one server name. */
export async function readNamedContext(
  identity: TlsIdentity,
  shared: TlsOptions,
  name: string,
): Promise<SecureContext> {
  const where = `tls.sni[${JSON.stringify(name)}]`
  const read = await readIdentity(identity, where)
  // Whom to trust is the same whatever name was asked for, unless it is said.
  if (read.ca === undefined && shared.ca !== undefined) read.ca = await readMaterial(shared.ca, 'tls.ca')
  if (read.cert === undefined && read.pfx === undefined) {
    throw new ConfigError('BAD_VALUE', `${where}: expected cert and key, or pfx, got neither`, { option: where })
  }
  const { ciphers = intermediateCiphers, minVersion = MIN_VERSION, maxVersion } = shared
  const versions = { minVersion, ...(maxVersion === undefined ? {} : { maxVersion }) }
  return secureContext({ ...(read as SecureContextOptions), ciphers, ...versions }, read, where)
}

async function readIdentity(identity: TlsIdentity, where: string): Promise<Read> {
  const read: Read = {}
  for (const name of ['cert', 'key', 'ca', 'pfx'] as const) {
    const material = identity[name]
    if (material !== undefined) read[name] = await readMaterial(material, `${where}.${name}`)
  }
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

function secureContext(context: SecureContextOptions, read: Read, where: string): SecureContext {
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
