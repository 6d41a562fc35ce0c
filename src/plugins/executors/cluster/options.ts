/**
 * Options of a cluster, for the server that has the connections and for nodes alike.
 *
 * Room: plugins/executors.
 */
import { ConfigError } from '../../../core/errors.js'
import { type OptionFields, type OptionSchema, optionSchema } from '../../../core/option-schema.js'
import { tlsSecrets } from '../../../core/secrets.js'
import type { SchemaResult } from '../../../core/standard-schema.js'
import { type PoolOptions, poolFields } from '../pool-options.js'
import { isToken } from './envelope.js'

export interface ClusterTls {
  readonly ca?: string | Uint8Array
  readonly cert?: string | Uint8Array
  readonly key?: string | Uint8Array
  readonly passphrase?: string
  readonly serverName?: string
  readonly rejectUnauthorized?: boolean
}

type Shared = 'queue' | 'queueBytes' | 'messageBytes' | 'timeoutMs' | 'affinity' | 'whenLost'

export interface ClusterOptions extends Pick<PoolOptions, Shared> {
  readonly lostMs: number
  readonly windowBytes: number
  readonly servers: readonly string[]
  readonly name: string
  readonly user?: string
  readonly password?: string
  readonly token?: string
  readonly nkey?: string
  readonly credentials?: string
  readonly tls?: ClusterTls
  readonly connectMs: number
  readonly whenDown: 'fail' | 'wait'
  readonly downMs: number
  readonly heartbeatMs: number
}

export const defaultServer = 'nats://127.0.0.1:4222'

const pool = poolFields('nodes')
const fields: OptionFields<ClusterOptions> = {
  servers: {
    unit: 'any',
    default: [defaultServer],
    why: 'NATS servers: `nats://host:4222`, `tls://host:4222` (TLS is demanded), or a list of servers of one NATS cluster.',
  },
  name: {
    unit: 'text',
    default: 'gaidaros',
    why: 'Name of the cluster: fronts and nodes of one name find each other. Letters, digits, `_` and `-`.',
    check: (value) => (isToken(value) ? undefined : 'letters, digits, _ and -, 64 at most'),
  },
  user: { unit: 'text', why: 'Login by name; with `password`.' },
  password: {
    unit: 'any',
    secret: true,
    why: 'Never shown. Better from the environment: `GAIDAROS_CLUSTER__PASSWORD`.',
  },
  token: { unit: 'any', secret: true, why: 'Login by token. Never shown.' },
  nkey: { unit: 'text', why: 'Login by key: the file that holds the seed (`SU…`).' },
  credentials: { unit: 'text', why: 'Login by a `.creds` file, which holds a JWT and its seed.' },
  tls: {
    unit: 'any',
    secret: tlsSecrets,
    why: 'TLS is demanded: `{ ca, cert, key, passphrase, serverName, rejectUnauthorized }`; files, or PEM text.',
  },
  connectMs: { unit: 'ms', min: 1, default: 5_000, why: 'For the first connection to NATS.' },
  queue: pool.queue,
  queueBytes: pool.queueBytes,
  messageBytes: pool.messageBytes,
  timeoutMs: { ...pool.timeoutMs, why: 'For one message. Then it is given up as TIMEOUT.' },
  affinity: pool.affinity,
  whenLost: {
    unit: 'choice',
    choices: ['close', 'reopen'],
    default: 'close',
    why: 'When a node is lost: `close` ends its connections as LOST; `reopen` gives them a handler on another node with their next message, and only what was under way is lost.',
  },
  whenDown: {
    unit: 'choice',
    choices: ['fail', 'wait'],
    default: 'fail',
    why: 'While NATS is down, or no node is there: `fail` gives up after `downMs`, as LOST; `wait` keeps messages (`queue` of them) until their own deadline.',
  },
  downMs: { unit: 'ms', default: 1_000, why: 'How long NATS may be away before everything under way is LOST.' },
  heartbeatMs: { unit: 'ms', min: 20, default: 500, why: 'How often each side says that it is there.' },
  lostMs: {
    unit: 'ms',
    min: 100,
    default: 5_000,
    why: 'Silence after which the other side counts as lost. One that has ended is noticed with the next heartbeat.',
  },
  windowBytes: {
    unit: 'bytes',
    min: 64 * 1024,
    max: 1024 * 1024 * 1024,
    default: 1024 * 1024,
    why: 'Under way between a front and a node, each way; NATS cuts who lets more pile up than its max_pending.',
  },
}

const plain = optionSchema<ClusterOptions>(fields)

/**
 * The schema; `base` are options that stand under the given ones: the configuration's `cluster`.
 */
export function clusterSchema(base: string | readonly string[] | object = {}): OptionSchema<ClusterOptions> {
  const under = typeof base === 'string' || Array.isArray(base) ? { servers: base } : base
  return {
    fields,
    '~standard': {
      version: 1,
      vendor: 'gaidaros',
      validate(given) {
        const { servers, ...rest } = { ...under, ...(given as object | undefined) } as { servers?: unknown }
        const list =
          servers === undefined ? [defaultServer] : typeof servers === 'string' ? servers.split(',') : servers
        const faults = [...faultsOf(list), ...secretFaults(rest)]
        // Whatever is wrong about these is said without what they are.
        if (faults.length > 0) return { issues: faults }
        return plain['~standard'].validate({ ...rest, servers: list }) as SchemaResult<ClusterOptions>
      },
    },
  }
}

function faultsOf(servers: unknown): { path: string[]; message: string }[] {
  const fault = (message: string) => [{ path: ['servers'], message }]
  if (!Array.isArray(servers) || servers.length === 0) return fault(`expected ${defaultServer} or a list of such`)
  for (const server of servers) {
    if (typeof server !== 'string') return fault(`expected text such as ${defaultServer}`)
    if (server.includes('@'))
      return fault('a login does not belong into an address, which is shown; use user and password, or token')
    if (!/^((nats|tls):\/\/)?(\[[\da-f:.]+\]|[\w.-]+)(:\d{1,5})?$/i.test(server))
      return fault(`expected nats://host:port, got ${JSON.stringify(server.slice(0, 80))}`)
  }
  return []
}

const tlsKeys = ['ca', 'cert', 'key', 'passphrase', 'serverName', 'rejectUnauthorized']

function secretFaults(given: object): { path: string[]; message: string }[] {
  const { password, token, tls, user, nkey, credentials } = given as Record<string, unknown>
  const faults: { path: string[]; message: string }[] = []
  const say = (key: string, message: string) => faults.push({ path: [key], message })
  for (const [key, value] of Object.entries({ password, token }))
    if (value !== undefined && typeof value !== 'string') say(key, 'expected text')
  if (password !== undefined && user === undefined) say('password', 'expected `user` beside it')
  const logins = Object.entries({ user, token, nkey, credentials }).filter(([, value]) => value !== undefined)
  if (logins.length > 1) say('user', `expected one way to log in, got ${logins.map(([key]) => key).join(' and ')}`)
  if (tls === undefined) return faults
  if (typeof tls !== 'object' || tls === null) say('tls', 'expected { ca, cert, key … }')
  else
    for (const key of Object.keys(tls))
      if (!tlsKeys.includes(key)) say('tls', `unknown option ${key}; known: ${tlsKeys.join(', ')}`)
  return faults
}

const loopback = /^((nats|tls):\/\/)?(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$/i

/** Off this machine, without a login or TLS, whoever reaches NATS can be a front or a node. */
export function warnIfOpen({ servers, user, token, nkey, credentials, tls }: ClusterOptions): void {
  const far = servers.filter((server) => !loopback.test(server))
  if (far.length === 0) return
  const isSecret = tls !== undefined || far.every((server) => server.startsWith('tls://'))
  const hasLogin = [user, token, nkey, credentials].some((one) => one !== undefined)
  const missing = [...(isSecret ? [] : ['TLS']), ...(hasLogin ? [] : ['a login'])].join(' and ')
  if (missing === '') return
  const message = `cluster: ${far.join(', ')} is not this machine, and is reached without ${missing}; see docs/guide/cluster.md`
  process.emitWarning(message, { type: 'GaidarosWarning', code: 'GAIDAROS_CLUSTER_OPEN' })
}

/** @throws {ConfigError} all that is wrong, for those who have no place to check it at. */
export function checkCluster(given: unknown): ClusterOptions {
  const base = (given ?? {}) as string | object
  const result = clusterSchema(base)['~standard'].validate({}) as SchemaResult<ClusterOptions>
  if (result.issues === undefined) return result.value
  const faults = result.issues.map(({ path, message }) => `cluster.${(path ?? []).join('.')}: ${message}`)
  throw new ConfigError('BAD_VALUE', faults.join('\n'), { faults })
}
