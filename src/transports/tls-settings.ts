/**
 * All that a side's TLS options say, read at one time: certificates by name, who may come in under each name, and the secret of
 * tickets.
 *
 * Room: transports. Read first and built afterwards, so that what has not changed is not built again.
 */
import { readFile } from 'node:fs/promises'
import type { SecureContext, SecureContextOptions } from 'node:tls'
import { ConfigError } from '../core/errors.js'
import type { TlsOptions } from '../core/options.js'
import { ownerOf } from '../core/ticket-secret.js'
import { accessContext, type Bytes, digestOf, TICKET_BYTES } from './tls-access.js'
import { contextOptions, type Read, readIdentity, secureContext } from './tls-materials.js'

/** What one name is shown, and the access context of those who ask for it. */
export interface Named {
  readonly context: SecureContext
  readonly access: string
}

export interface TlsSettings {
  /** Of everybody who asks for no name of its own. */
  readonly materials: SecureContextOptions
  readonly access: string
  readonly names: ServerNames | undefined
  /** By access context: who is trusted there. */
  readonly trusts: ReadonlyMap<string, SecureContextOptions>
}

/** Bytes of every file, nothing built. */
export class ReadTls {
  readonly #options: TlsOptions
  readonly #shown: Read
  readonly #names: ReadonlyMap<string, Read>
  /** Of all bytes: equal where nothing has changed. */
  readonly digest: string

  private constructor(options: TlsOptions, shown: Read, names: ReadonlyMap<string, Read>) {
    this.#options = options
    this.#shown = shown
    this.#names = names
    this.digest = digestOf([...bytesOf(shown), ...[...names].flatMap(([name, read]) => [[name], ...bytesOf(read)])])
  }

  /** @throws {ConfigError} `BAD_VALUE`: a file that cannot be read, or half of a pair. */
  static async from(options: TlsOptions): Promise<ReadTls> {
    const shown = await readIdentity(options, 'tls')
    const names = new Map<string, Read>()
    for (const [name, identity] of Object.entries(options.sni ?? {})) {
      const where = whereOf(name)
      const read = await readIdentity(identity, where)
      if (read.cert === undefined && read.pfx === undefined) {
        throw new ConfigError('BAD_VALUE', `${where}: expected cert and key, or pfx, got neither`, { option: where })
      }
      // Whom to trust is the same whatever name was asked for, unless it is said; revoked is what those have revoked.
      if (read.ca === undefined) {
        if (shown.ca !== undefined) read.ca = shown.ca
        if (read.crl === undefined && shown.crl !== undefined) read.crl = shown.crl
      }
      names.set(name, read)
    }
    return new ReadTls(options, shown, names)
  }

  /** @throws {ConfigError} `BAD_VALUE`: what was read is no certificate, or the two do not belong together. */
  build(): TlsSettings {
    const options = this.#options
    const trusts = new Map<string, SecureContextOptions>()
    const materials = contextOptions(this.#shown, options)
    secureContext(materials, this.#shown, 'tls')
    const access = this.#accessOf(this.#shown)
    trusts.set(access, materials)
    if (options.sni === undefined) return { materials, access, names: undefined, trusts }
    const names = new ServerNames(options.cert !== undefined || options.pfx !== undefined)
    for (const [name, read] of this.#names) {
      const own = this.#accessOf(read)
      // OpenSSL takes a context's session id context along when a name chooses it (SSL_set_SSL_CTX).
      const context = secureContext({ ...contextOptions(read, options), sessionIdContext: own }, read, whereOf(name))
      names.add(name, { context, access: own })
      const { ca, crl } = read
      if (!trusts.has(own)) {
        const trusted: Read = { ...(ca === undefined ? {} : { ca }), ...(crl === undefined ? {} : { crl }) }
        trusts.set(own, contextOptions(trusted, options))
      }
    }
    return { materials, access, names, trusts }
  }

  #accessOf({ ca, crl, pfx }: Read): string {
    const { requestCert = false, rejectUnauthorized = true } = this.#options
    return accessContext(ownerOf(this.#options)?.listener, { requestCert, rejectUnauthorized, ca, crl, pfx })
  }
}

/** Which certificate for which name (RFC 6066, section 3; wildcards: RFC 6125, section 6.4.3, one whole label). */
export class ServerNames {
  readonly #exact = new Map<string, Named>()
  /** By what follows the `*`: `.example.org`. */
  readonly #wild = new Map<string, Named>()
  readonly hasDefault: boolean

  constructor(hasDefault: boolean) {
    this.hasDefault = hasDefault
  }

  add(name: string, named: Named): void {
    const key = plainName(name)
    if (key.startsWith('*.')) this.#wild.set(key.slice(1), named)
    else this.#exact.set(key, named)
  }

  find(name: string): Named | undefined {
    const key = plainName(name)
    const dot = key.indexOf('.')
    return this.#exact.get(key) ?? (dot > 0 ? this.#wild.get(key.slice(dot)) : undefined)
  }
}

/**
 * The bytes of `tls.ticketKeys`; undefined where there are none.
 *
 * @throws {ConfigError} `BAD_VALUE`.
 */
export async function readTicketKeys({ ticketKeys }: TlsOptions): Promise<Buffer | undefined> {
  if (ticketKeys === undefined) return undefined
  const bytes = typeof ticketKeys === 'string' ? await fileOf(ticketKeys) : Buffer.from(ticketKeys)
  if (bytes.length === TICKET_BYTES) return bytes
  const message = `tls.ticketKeys: expected ${TICKET_BYTES} bytes, got ${bytes.length}; make them with: openssl rand ${TICKET_BYTES} > ticket.key`
  throw new ConfigError('BAD_VALUE', message, { option: 'tls.ticketKeys' })
}

async function fileOf(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (cause) {
    throw new ConfigError('BAD_VALUE', `tls.ticketKeys: cannot read the file ${path}`, {
      option: 'tls.ticketKeys',
      cause,
    })
  }
}

/** The files that certificates, keys and their like are in. */
export function materialFiles(options: TlsOptions): string[] {
  const of = ({ cert, key, ca, crl, pfx }: TlsOptions) => [cert, key, ca, crl, pfx].flat()
  const all = [...of(options), options.ticketKeys, ...Object.values(options.sni ?? {}).flatMap((one) => of(one))]
  return all.filter((one): one is string => typeof one === 'string' && !one.trimStart().startsWith('-----BEGIN'))
}

/** DNS names are the same in either case and with or without the root's dot (RFC 4343). */
export function plainName(name: string): string {
  const lower = name.toLowerCase()
  return lower.endsWith('.') ? lower.slice(0, -1) : lower
}

function whereOf(name: string): string {
  return `tls.sni[${JSON.stringify(name)}]`
}

function bytesOf({ cert = [], key = [], ca = [], crl = [], pfx = [] }: Read): Bytes[] {
  return [cert, key, ca, crl, pfx]
}
