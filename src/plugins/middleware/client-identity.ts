/**
 * `client-identity`: who a client is, by its certificate.
 *
 * Room: plugins/middleware. TLS says that a certificate is good (`tls.requestCert`, `tls.ca`); this says whose it is, and lets in
 * only those one knows. Handlers read the name: `connection.attributes.get('identity')`.
 */
import type { Connection } from '../../core/connection.js'
import { ConfigError, ConnectionError } from '../../core/errors.js'
import { TLS } from '../../core/feature.js'
import { optionSchema } from '../../core/option-schema.js'
import type { MiddlewareSet } from '../../core/pipeline.js'
import type { Factory } from '../../core/plugin.js'

export interface ClientIdentityOptions {
  by: 'fingerprint' | 'cn' | 'san'
  identities: Readonly<Record<string, string>> | undefined
  required: boolean
}

/**
 * Refuses connections as `IDENTITY_UNKNOWN`, before a message is read.
 *
 * @throws {ConfigError} `BAD_VALUE` at the start, for identities that are not text.
 */
export const clientIdentity: Factory<MiddlewareSet, ClientIdentityOptions> = {
  name: 'client-identity',
  options: optionSchema<ClientIdentityOptions>({
    by: {
      unit: 'choice',
      choices: ['fingerprint', 'cn', 'san'],
      default: 'cn',
      why: "What of the certificate counts: its SHA-256 (colons or not), its subject's common name, or any of its DNS, e-mail and URI names.",
    },
    identities: {
      unit: 'any',
      check: (value) =>
        typeof value === 'object' && value !== null && !Array.isArray(value) ? undefined : 'expected { value: name }',
      why: 'Names by what the certificate says. Default: whoever TLS has authorized, by that value itself.',
    },
    required: {
      unit: 'switch',
      default: true,
      why: 'Refuse peers without a known identity; false: let them in without one.',
    },
  }),
  create({ by, identities, required }) {
    const known = identities === undefined ? undefined : new Map<string, string>()
    for (const [value, name] of Object.entries(identities ?? {})) {
      if (typeof name !== 'string') {
        throw new ConfigError('BAD_VALUE', `client-identity.identities[${JSON.stringify(value)}]: expected a name`, {
          value,
        })
      }
      known?.set(by === 'fingerprint' ? bare(value) : value, name)
    }
    return {
      name: 'client-identity',
      connection({ connection }, next) {
        const values = valuesOf(connection, by)
        const name =
          known === undefined ? values[0] : values.map((value) => known.get(value)).find((one) => one !== undefined)
        if (name !== undefined) connection.attributes.set('identity', name)
        else if (required) {
          const shown =
            values.length === 0 ? 'no certificate that TLS has authorized' : `${by} ${values.join(', ').slice(0, 200)}`
          throw new ConnectionError('IDENTITY_UNKNOWN', `client-identity: expected a known certificate, got ${shown}`)
        }
        return next()
      },
    }
  },
}

/** Only of certificates that lead to a CA of ours: anybody can write any name into one. */
function valuesOf(connection: Connection, by: ClientIdentityOptions['by']): string[] {
  const facts = connection.feature(TLS)
  const certificate = facts?.peerCertificate
  if (certificate === undefined) return []
  // A fingerprint vouches for itself; names are only as good as who signed them.
  if (by === 'fingerprint') return [bare(certificate.fingerprint256)]
  if (!facts?.authorized) return []
  if (by === 'cn') return [certificate.subject.CN ?? []].flat()
  return (certificate.subjectAltName ?? '').split(/, ?/).flatMap((entry) => {
    const [, value] = /^(?:DNS|email|URI):([^"]+)$/.exec(entry) ?? []
    return value === undefined ? [] : [value]
  })
}

function bare(fingerprint: string): string {
  return fingerprint.replace(/:/g, '').toLowerCase()
}
