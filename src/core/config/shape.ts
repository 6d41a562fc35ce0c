/**
 * The shape of a configuration: one zod schema for checking and for `schema.json`.
 *
 * Room: core, configuration; loaded only when a configuration is read (zod costs tens of milliseconds to load). Limits and
 * deadlines come from the table in core/options, so that no number stands twice.
 */
import { Script } from 'node:vm'
import { z } from 'zod'
import { drainRows, limitRows, type OptionRow, serverLimitRows, socketRows, timeoutRows } from '../options.js'
import { misfitOfWorkers, workerFields } from '../workers/options.js'

const described = <T extends z.ZodType>(schema: T, description: string) => schema.describe(description)

/** Shown nowhere: as `writeOnly` it stands in `schema.json` too (JSON Schema Validation, draft 7, 10.3). */
const secret = <T extends z.ZodType>(schema: T) => schema.meta({ ...schema.meta(), writeOnly: true } as never) as T

/** Things of code pass as they are; data is a name, or a name with options. */
const named = (what: string, key = 'name') =>
  z
    .custom<unknown>((value) => {
      if (typeof value === 'string') return value.length > 0
      if (typeof value === 'function') return true
      return (
        typeof value === 'object' &&
        value !== null &&
        (typeof (value as Record<string, unknown>)[key] === 'string' || hasFunctions(value))
      )
    }, `expected a name, or { "${key}": …, …options }`)
    .meta({
      anyOf: [
        { type: 'string', minLength: 1 },
        { type: 'object', properties: { [key]: { type: 'string' } }, required: [key] },
      ],
      description: what,
    } as never)

function hasFunctions(value: object): boolean {
  // Instances have their methods on the prototype.
  for (const key in value) if (typeof (value as Record<string, unknown>)[key] === 'function') return true
  if (Array.isArray(value)) return false
  return Object.getPrototypeOf(value) !== Object.prototype && Object.getPrototypeOf(value) !== null
}

function row({ unit, choices, unlimited, why, default: standard }: OptionRow) {
  const text = `${why}${standard === undefined ? '' : ` Default: ${standard === Number.POSITIVE_INFINITY ? 'unlimited' : standard}.`}`
  if (unit === 'choice' && choices !== undefined) return described(z.enum(choices as [string, ...string[]]), text)
  if (unit === 'switch') return described(z.boolean(), text)
  if (unit === 'mode') return described(z.union([z.number().int(), z.string()]), text)
  const number = z.number().int().nonnegative()
  if (!unlimited) {
    const isNumber = (value: unknown) => number.safeParse(value).success
    return z
      .custom<number>(isNumber, {
        error: ({ input }) =>
          input === 'unlimited'
            ? `expected a whole number (this one cannot be lifted: ${why.replace(/\.$/, '')})`
            : 'expected a whole number',
      })
      .meta({ type: 'integer', minimum: 0, description: text } as never)
  }
  const isLimit = (value: unknown) =>
    value === 'unlimited' || value === Number.POSITIVE_INFINITY || number.safeParse(value).success
  const what = unit === 'ms' ? 'milliseconds' : unit === 'bytes' ? 'bytes' : 'a whole number'
  return z
    .custom<number | 'unlimited'>(isLimit, `expected ${what} or "unlimited"`)
    .meta({ anyOf: [{ type: 'integer', minimum: 0 }, { const: 'unlimited' }], description: text } as never)
}

const rows = (table: object) =>
  z.strictObject(Object.fromEntries(Object.entries(table).map(([key, one]) => [key, row(one as OptionRow).optional()])))

const text = z.string()
const identity = z.union([text.min(1), z.number().int().nonnegative()])
const endpoints = z
  .custom<unknown>((value) => {
    const list = Array.isArray(value) ? value : [value]
    return list.length > 0 && list.every((one) => typeof one === 'string' || one instanceof String)
  }, 'expected an endpoint such as "tcp://localhost:8080", or a list of them')
  .meta({ anyOf: [{ type: 'string' }, { type: 'array', items: { type: 'string' } }] } as never)

const material = z
  .custom<unknown>(
    (value) =>
      (Array.isArray(value) ? value : [value]).every((one) => typeof one === 'string' || one instanceof Uint8Array),
    'expected a file, PEM text or bytes',
  )
  .meta({ anyOf: [{ type: 'string' }, { type: 'array', items: { type: 'string' } }] } as never)
const certified = {
  cert: described(material, 'Certificate chain: a file, or PEM text.').optional(),
  key: secret(described(material, 'Its private key.')).optional(),
  ca: described(material, 'Whose certificates are trusted.').optional(),
  crl: described(
    material,
    'Certificates that `ca` has revoked: a list (CRL, in PEM) for each authority of the chain.',
  ).optional(),
  pfx: secret(described(material, 'Certificate and key in one PKCS #12 file.')).optional(),
  passphrase: secret(text.describe('Opens the key, or the PKCS #12 file.')).optional(),
}
const version = z.enum(['TLSv1.2', 'TLSv1.3'])
const tls = z.strictObject({
  ...certified,
  requestCert: z.boolean().describe('Ask clients for a certificate.').optional(),
  rejectUnauthorized: z
    .boolean()
    .describe('Refuse peers whose certificate does not lead to `ca`. Default: true.')
    .optional(),
  minVersion: version.optional(),
  maxVersion: version.optional(),
  ciphers: text.describe("OpenSSL's list. Default: Mozilla's intermediate.").optional(),
  alpn: z.array(text).describe('Protocols offered, best first.').optional(),
  sni: z
    .record(text, z.strictObject(certified))
    .describe('By server name, `*.` for one label: the certificate to show.')
    .optional(),
  watch: z.boolean().describe('Read certificates and keys again when their files change. Default: true.').optional(),
  ticketKeys: secret(
    z
      .union([text, z.custom<Uint8Array>((value) => value instanceof Uint8Array).meta({ type: 'string' } as never)])
      .describe(
        "48 bytes, by file: processes that share them take up each other's sessions, for listeners of the same name and access.",
      ),
  ).optional(),
  serverName: text.optional(),
})

const handler = z
  .custom<unknown>(
    (value) =>
      typeof value === 'string' ||
      typeof value === 'function' ||
      value instanceof Script ||
      (value as { kind?: unknown } | null)?.kind === 'gaidaros.handler',
    'expected a handler: its name, "./file.ts#Export", or in code a class, function or defineHandler(…)',
  )
  .meta({ type: 'string' } as never)

const shared = {
  handler: handler.optional(),
  codec: named('How bytes become messages.').optional(),
  protocol: z
    .custom<unknown>((value) => {
      const list = Array.isArray(value) ? value : [value]
      return (
        list.length > 0 &&
        list.every((one) => {
          if (typeof one !== 'object' || one === null) return typeof one === 'string'
          return typeof (one as { name?: unknown }).name === 'string' || hasFunctions(one) || 'codec' in one
        })
      )
    }, 'expected a protocol, { "name": …, …options }, or a list of them')
    .meta({
      anyOf: [
        { type: 'string' },
        { type: 'object' },
        { type: 'array', minItems: 1, items: { type: ['string', 'object'] } },
      ],
      description: 'A codec with routes and error replies; a list shares one endpoint.',
    } as never)
    .optional(),
  layers: z.array(named('A layer.')).describe('What wraps the bytes, from the wire inwards.').optional(),
  middleware: z.array(named('A step around each message.')).optional(),
  tls: tls.optional(),
  // Transports of third parties have keys of their own; each transport refuses those it does not know.
  socket: z
    .looseObject(
      Object.fromEntries(
        Object.entries(socketRows).map(([key, { why }]) => [key, z.unknown().describe(why).optional()]),
      ),
    )
    .optional(),
  limits: rows(limitRows).optional(),
  timeouts: rows(timeoutRows).optional(),
  executor: named('Where handlers run.', 'type').optional(),
}

const hook = z
  .custom<unknown>(
    (value) => ['string', 'function', 'object'].includes(typeof value) && value !== null,
    'expected a name',
  )
  .meta({ type: 'string' } as never)

export const shape = z.strictObject({
  $schema: text.optional(),
  $import: z
    .union([text, z.array(text)])
    .describe('Further files, merged beneath this one.')
    .optional(),
  ...shared,
  limits: rows({ ...limitRows, ...serverLimitRows }).optional(),
  handlers: z
    .custom<unknown>((value) => {
      const list = Array.isArray(value) ? value : [value]
      return list.every(
        (one) => typeof one === 'string' || typeof one === 'function' || (typeof one === 'object' && one !== null),
      )
    }, 'expected files, globs or packages')
    .meta({
      anyOf: [{ type: 'string' }, { type: 'array', items: { type: 'string' } }],
      description: 'Where decorated classes are found.',
    } as never)
    .optional(),
  listen: endpoints.describe('Short form: the endpoint or endpoints of the listener `default`.').optional(),
  listeners: z.record(text, z.strictObject({ ...shared, endpoint: endpoints })).optional(),
  hooks: z
    .strictObject({
      module: text.optional(),
      class: text.optional(),
      args: z.array(z.unknown()).optional(),
      endRequest: hook.optional(),
      splitRequest: hook.optional(),
      decodeRequest: hook.optional(),
      handleRequest: hook.optional(),
      encodeResponse: hook.optional(),
    })
    .describe('Plain functions in place of a handler class.')
    .optional(),
  plugins: z
    .array(
      z
        .custom<unknown>(
          (value) =>
            typeof value === 'string' ||
            (Array.isArray(value) && value.length <= 2) ||
            typeof (value as { setup?: unknown } | null)?.setup === 'function',
          'expected a package or file, or [it, options]',
        )
        .meta({ type: ['string', 'array'] } as never),
    )
    .optional(),
  cluster: z
    .union(
      [
        text,
        z.array(text),
        z
          .looseObject({
            servers: z
              .union([text, z.array(text)])
              .describe('NATS servers. Default: nats://127.0.0.1:4222.')
              .optional(),
            name: text.describe('Name of the cluster. Default: gaidaros.').optional(),
            user: text.optional(),
            password: secret(text).optional(),
            token: secret(text).optional(),
            nkey: text.describe('A file with a seed.').optional(),
            credentials: text.describe('A .creds file.').optional(),
            tls: z
              .looseObject({ key: secret(z.unknown()).optional(), passphrase: secret(z.unknown()).optional() })
              .optional(),
          })
          .describe('The same options as executor `cluster` has.'),
      ],
      'expected NATS servers such as "nats://127.0.0.1:4222", or { servers, name, … }',
    )
    .describe('The cluster that executor `cluster` and `gaidaros node` belong to.')
    .optional(),
  node: z
    .strictObject({
      name: text.describe("The first part of its name. Default: the host's.").optional(),
      executor: named('Where handlers run there.', 'type').optional(),
      control: z
        .union([z.boolean(), text, z.strictObject({ path: text.optional(), pidFile: text.optional() })])
        .describe('A Unix socket (mode 0600) by which the node is watched and ended. Off unless asked for.')
        .optional(),
    })
    .describe('What `gaidaros node` does with this configuration.')
    .optional(),
  workers: z
    .custom<unknown>((value) => misfitOfWorkers(value) === undefined, {
      error: ({ input }) => misfitOfWorkers(input) ?? 'expected workers',
    })
    .meta({
      description: 'Server processes.',
      anyOf: [
        { type: 'integer', minimum: 1 },
        { const: 'auto' },
        {
          type: 'object',
          additionalProperties: false,
          properties: Object.fromEntries(
            Object.entries(workerFields).map(([key, { unit, choices, why }]) => [
              key,
              {
                ...(key === 'count' ? {} : { type: unit === 'choice' ? 'string' : 'integer' }),
                ...(choices === undefined ? {} : { enum: choices }),
                description: why,
              },
            ]),
          ),
        },
      ],
    } as never)
    .optional(),
  drain: rows(drainRows).optional(),
  control: z
    .union([
      z.boolean(),
      text,
      z.strictObject({ path: text.optional(), pidFile: text.optional(), redact: z.array(text).optional() }),
    ])
    .describe('A Unix socket (mode 0600) by which the running server is watched and steered. Off unless asked for.')
    .optional(),
  daemon: z
    .union([
      z.boolean(),
      z.strictObject({
        detach: z.boolean().describe('`gaidaros serve` returns once the server is ready.').optional(),
        logFile: text.describe('In place of standard error; opened again on SIGUSR1.').optional(),
        user: identity.describe('Who to be once everything is bound: a name or number.').optional(),
        group: identity.describe("Its group. Default: the user's.").optional(),
      }),
    ])
    .describe('The server as a service of its machine.')
    .optional(),
  profile: z
    .union([z.boolean(), text])
    .describe('CPU profiles of the server, its threads and processes: a file each in this folder.')
    .optional(),
  verbose: z.number().int().min(0).max(3).optional(),
})

/** `schema.json`, for editors, which know draft 7 best. */
export function jsonSchema(): object {
  const schema = z.toJSONSchema(shape, { target: 'draft-7', unrepresentable: 'any', io: 'input' }) as Record<
    string,
    unknown
  >
  return { $id: 'gaidaros/schema.json', title: 'Gaidaros configuration', ...schema }
}
