/**
 * Certificates as peers will see them: when they end, whether the key is theirs, whether the chain is whole, whose names.
 *
 * Room: the command line.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { toError } from '../../core/errors.js'
import type { Material, TlsOptions } from '../../core/options.js'
import { type Facts, type Finding, findingsOf } from './finding.js'

const DAY_MS = 24 * 60 * 60 * 1_000
/** Certificates of public authorities are renewed a month before their end. */
const SOON_DAYS = 21
/** Lists are issued for days or weeks. */
const SOON_LIST_DAYS = 1
const SMALLEST_RSA_BITS = 2_048

const { ok, note, warning, error } = findingsOf('certificate')
type Identity = Pick<TlsOptions, 'cert' | 'key' | 'passphrase' | 'pfx'>

export function certificates(facts: Facts): Finding[] {
  const findings: Finding[] = []
  const seen = new Set<string>()
  for (const { name, bindings } of facts.listeners) {
    const tls = bindings.map(({ options }) => options.tls).find((one) => one !== undefined)
    if (tls === undefined) continue
    const add = (identity: Identity, path: string, serverName: string | undefined) => {
      // One certificate for many listeners is looked at once.
      const key = JSON.stringify([identity.cert, identity.key, identity.pfx && 'pfx', serverName])
      if (seen.has(key)) return
      seen.add(key)
      findings.push(...look(facts, identity, `listeners.${name}.${path}`, serverName))
    }
    add(tls, 'tls', undefined)
    const lists = [
      [tls, 'tls'] as const,
      ...Object.entries(tls.sni ?? {}).map(([of, one]) => [one, `tls.sni.${of}`] as const),
    ]
    for (const [{ crl }, path] of lists) {
      if (crl !== undefined && tls.requestCert !== true) {
        const found = 'crl is given, and nobody is asked for a certificate'
        findings.push(
          warning(
            `listeners.${name}.${path}`,
            found,
            'nobody is refused by it',
            'set tls.requestCert, or take crl away',
          ),
        )
      } else if (crl !== undefined) findings.push(...revoked(facts, crl, `listeners.${name}.${path}`))
    }
    for (const [serverName, identity] of Object.entries(tls.sni ?? {})) {
      add(identity, `tls.sni.${serverName}`, serverName)
    }
  }
  return findings
}

function look(facts: Facts, identity: Identity, where: string, serverName: string | undefined): Finding[] {
  if (identity.cert === undefined || identity.key === undefined) {
    if (identity.pfx === undefined) return []
    return [
      note(where, 'a PKCS #12 file', 'its certificate is not looked into', 'give cert and key to have them checked'),
    ]
  }
  let chain: X509Certificate[]
  let key: KeyObject
  try {
    chain = chainOf(textOf(facts, identity.cert))
    const { passphrase } = identity
    key = createPrivateKey({
      key: textOf(facts, identity.key),
      format: 'pem',
      ...(passphrase !== undefined && { passphrase }),
    })
  } catch (thrown) {
    const why = 'the listener does not start'
    return [
      error(where, toError(thrown).message, why, 'see that the file is there, readable, PEM, and the passphrase right'),
    ]
  }
  const [leaf] = chain
  if (leaf === undefined) {
    return [
      error(where, 'no certificate in `cert`', 'the listener does not start', 'give a PEM file with the chain in it'),
    ]
  }
  const findings = [
    ...ends(chain, where, facts.now),
    ...chained(chain, where),
    ...named(leaf, where, serverName),
    ...keyed(leaf, key, where),
    ...readable(facts, identity.key, where),
  ]
  const name =
    leaf.subject?.split('\n').find((line) => line.startsWith('CN=')) ?? leaf.subjectAltName ?? 'a certificate'
  return findings.length > 0 ? findings : [ok(`${name}, until ${dateOf(leaf)}`, where)]
}

function ends(chain: readonly X509Certificate[], where: string, now: Date): Finding[] {
  return chain.flatMap((one, i) => {
    const which = i === 0 ? 'the certificate' : `certificate ${i + 1} of the chain`
    const days = Math.floor((new Date(one.validTo).getTime() - now.getTime()) / DAY_MS)
    if (new Date(one.validFrom) > now) {
      return [
        error(
          where,
          `${which} is not valid before ${one.validFrom}`,
          'peers refuse it',
          'see the machine’s clock, or wait',
        ),
      ]
    }
    const remedy = 'renew it; files are read again by themselves, or on SIGHUP'
    if (days < 0) return [error(where, `${which} has ended on ${dateOf(one)}`, 'peers refuse it', remedy)]
    if (days > SOON_DAYS) return []
    return [warning(where, `${which} ends in ${days} days (${dateOf(one)})`, 'peers refuse it then', remedy)]
  })
}

function chained(chain: readonly X509Certificate[], where: string): Finding[] {
  for (const [i, one] of chain.entries()) {
    const next = chain[i + 1]
    if (next === undefined) break
    if (one.checkIssued(next)) continue
    const found = `certificate ${i + 2} of the chain has not issued certificate ${i + 1}`
    const why = 'some peers cannot follow a chain out of order (RFC 8446, section 4.4.2)'
    return [warning(where, found, why, 'order the file: the server’s certificate first, then each one’s issuer')]
  }
  const last = chain.at(-1) as X509Certificate
  const isSelfIssued = last.subject === last.issuer
  if (isSelfIssued && chain.length === 1) {
    return [
      note(
        where,
        'the certificate is self-signed',
        'only peers that were given it trust it',
        'fine among machines of yours',
      ),
    ]
  }
  // A leaf alone; what issued it is known to few peers, unless it is a root itself.
  if (!isSelfIssued && chain.length === 1) {
    const found = `the chain is the certificate alone; it was issued by ${last.issuer.replaceAll('\n', ', ')}`
    const why = 'peers that do not know this issuer refuse it, and browsers differ'
    return [
      note(where, found, why, 'append the intermediate certificates (fullchain.pem), unless the issuer is a root'),
    ]
  }
  return []
}

function named(leaf: X509Certificate, where: string, serverName: string | undefined): Finding[] {
  if (leaf.subjectAltName === undefined) {
    return [
      warning(
        where,
        'the certificate names no server (subjectAltName)',
        'peers look nowhere else (RFC 9525)',
        'have one issued with names',
      ),
    ]
  }
  if (serverName === undefined) return []
  const asked = serverName.replace(/^\*\./, 'any.')
  if (leaf.checkHost(asked) !== undefined) return []
  const found = `the certificate is for ${leaf.subjectAltName}, not for ${serverName}`
  return [error(where, found, 'peers that ask for this name refuse it', 'give the certificate of this name')]
}

function keyed(leaf: X509Certificate, key: KeyObject, where: string): Finding[] {
  if (!leaf.checkPrivateKey(key)) {
    const why = 'the listener does not start'
    return [error(where, 'the key is not the certificate’s', why, 'give the key that was made for this certificate')]
  }
  const bits = key.asymmetricKeyDetails?.modulusLength
  if (key.asymmetricKeyType !== 'rsa' || bits === undefined || bits >= SMALLEST_RSA_BITS) return []
  return [
    warning(
      where,
      `an RSA key of ${bits} bits`,
      'it can be broken; OpenSSL and peers refuse it',
      'take 2048 bits or more, or ECDSA',
    ),
  ]
}

function readable(facts: Facts, key: Material, where: string): Finding[] {
  if (typeof key !== 'string' || isPem(key)) return []
  const mode = facts.stat(key)?.mode ?? 0
  if ((mode & 0o007) === 0) return []
  return [
    warning(
      where,
      `everybody on the machine can read ${key}`,
      'whoever has it can pass for this server',
      `chmod 640 ${key}`,
    ),
  ]
}

/** RFC 5280, section 5.1.2.5: OpenSSL takes no list after its next one is due. */
function revoked(facts: Facts, crl: Material, where: string): Finding[] {
  const remedy = 'give lists in PEM: openssl crl -in FILE -noout -text'
  let lists: string[]
  try {
    lists = textOf(facts, crl).match(/-----BEGIN X509 CRL-----[^-]+-----END X509 CRL-----/g) ?? []
  } catch (thrown) {
    return [error(where, `crl: ${toError(thrown).message}`, 'the listener does not start', remedy)]
  }
  if (lists.length === 0) return [error(where, 'no list in `crl`', 'the listener does not start', remedy)]
  return lists.flatMap((pem, i) => {
    const due = nextUpdateOf(Buffer.from(pem.replace(/-----[^-]+-----/g, ''), 'base64'))
    if (due === undefined || Number.isNaN(due.getTime())) return []
    const days = Math.floor((due.getTime() - facts.now.getTime()) / DAY_MS)
    const which = `list ${i + 1} of crl`
    if (due <= facts.now) {
      const why = 'every client of this authority is refused (CRL_HAS_EXPIRED)'
      return [
        error(where, `${which} was to be renewed by ${dayOf(due)}`, why, 'fetch the list anew, and do so by a timer'),
      ]
    }
    return days > SOON_LIST_DAYS
      ? []
      : [
          note(
            where,
            `${which} has to be renewed by ${dayOf(due)}`,
            'clients are refused then',
            'fetch lists by a timer',
          ),
        ]
  })
}

/** The second of the two times that follow the issuer (RFC 5280, section 5.1); undefined where there is but one. */
function nextUpdateOf(list: Buffer): Date | undefined {
  const times = [
    ...list
      .subarray(0, 2_048)
      .toString('latin1')
      .matchAll(/\x17\x0d(\d{12})Z|\x18\x0f(\d{14})Z/g),
  ]
  const [first, second] = times
  if (first === undefined || second === undefined || second.index !== first.index + first[0].length) return undefined
  const [, short, long] = second
  // RFC 5280, section 4.1.2.5.1: two digits below 50 are of this century.
  const digits = long ?? `${Number(short?.slice(0, 2)) < 50 ? '20' : '19'}${short}`
  return new Date(digits.replace(/(....)(..)(..)(..)(..)(..)/, '$1-$2-$3T$4:$5:$6Z'))
}

function textOf(facts: Facts, material: Material): string {
  return (Array.isArray(material) ? (material as (string | Uint8Array)[]) : [material as string | Uint8Array])
    .map((one) =>
      typeof one === 'string' && !isPem(one) ? facts.readFile(one).toString() : Buffer.from(one as string).toString(),
    )
    .join('\n')
}

function chainOf(text: string): X509Certificate[] {
  const found = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  return found.map((pem) => new X509Certificate(pem))
}

function isPem(text: string): boolean {
  return text.trimStart().startsWith('-----BEGIN')
}

function dateOf(certificate: X509Certificate): string {
  return dayOf(new Date(certificate.validTo))
}

function dayOf(date: Date): string {
  return date.toISOString().slice(0, 10)
}
