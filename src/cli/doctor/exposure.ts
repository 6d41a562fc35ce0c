/**
 * What others can reach, and what they could do there.
 *
 * Room: the command line.
 */
import { dirname, resolve } from 'node:path'
import type { NamedExecutor } from '../../core/handler.js'
import { groupsOf, isAddress, plainAddress } from '../../core/networks.js'
import type { Limits, Timeouts } from '../../core/options.js'
import type { Binding, ListenerPlan } from '../../core/plan.js'
import { type Facts, type Finding, findingsOf } from './finding.js'

/** `open`: reachable from anywhere as far as the address says; `private`: a network of one's own. */
export type Reach = 'loopback' | 'private' | 'open'

export function reachOf(host: string | undefined): Reach {
  if (host === undefined || host === 'localhost') return 'loopback'
  const address = plainAddress(host)
  if (!isAddress(address)) return 'open'
  if (address.includes(':')) {
    const [first = 0] = groupsOf(address)
    if (/^(0*:)*0*1$|^::1$/.test(address)) return 'loopback'
    // Unique local (RFC 4193), link-local (RFC 4291, section 2.5.6).
    return (first & 0xfe00) === 0xfc00 || (first & 0xffc0) === 0xfe80 ? 'private' : 'open'
  }
  const [a = 0, b = 0] = address.split('.').map(Number)
  if (a === 127) return 'loopback'
  const isPrivate = a === 10 || (a === 172 && b >= 16 && b < 32) || (a === 192 && b === 168) || (a === 169 && b === 254)
  return isPrivate ? 'private' : 'open'
}

const openBindings = ({ bindings }: ListenerPlan): Binding[] =>
  bindings.filter(({ endpoint }) => endpoint.host !== undefined && reachOf(endpoint.host) === 'open')

export function plaintext({ listeners }: Facts): Finding[] {
  const { ok, note, warning } = findingsOf('plaintext')
  const findings: Finding[] = []
  for (const listener of listeners) {
    for (const { endpoint, capabilities, layers, name } of openBindings(listener)) {
      const where = `listeners.${listener.name}`
      const isEncrypted = ['tls', 'wss'].includes(endpoint.scheme) || layers.some((one) => one.name === 'tls')
      if (isEncrypted) continue
      const found = `${endpoint} is plain text, and reachable from everywhere its address is`
      const why = 'whoever is on the way reads and changes what is said'
      if (capabilities.kind === 'message' || capabilities.upgrade.length === 0) {
        findings.push(
          note(
            where,
            found,
            why,
            `${name} has no encryption of its own; keep it in a network of your own, or sign messages`,
          ),
        )
      } else if (layers.some((one) => one.name === 'proxy-protocol')) {
        findings.push(note(where, found, `${why}, behind the proxy`, 'bind the address that the proxy uses'))
      } else {
        findings.push(
          warning(where, found, why, 'listen on tls://, or bind 127.0.0.1 or an address of your own network'),
        )
      }
    }
  }
  return findings.length > 0 ? findings : [ok('nothing is served to everybody in plain text')]
}

const guards: readonly (readonly ['limits' | 'timeouts', keyof Limits | keyof Timeouts, string])[] = [
  ['limits', 'connections', 'one peer can take every descriptor'],
  ['limits', 'frameBytes', 'one message can take all memory'],
  ['limits', 'lineBytes', 'one line can take all memory'],
  ['limits', 'writeHardBytes', 'a peer that does not read makes memory grow'],
  ['limits', 'executorQueue', 'a burst makes memory grow'],
  ['timeouts', 'frameMs', 'peers that send a byte now and then hold their connection for ever'],
  ['timeouts', 'handshakeMs', 'peers that never finish their handshake are never cut'],
  ['timeouts', 'halfClosedMs', 'half-closed connections are never reaped'],
  ['timeouts', 'idleMs', 'peers that are gone are never noticed'],
]

export function unlimited(facts: Facts): Finding[] {
  const { ok, note, warning } = findingsOf('unlimited')
  const findings: Finding[] = []
  for (const listener of facts.listeners) {
    const { name, limits, timeouts, bindings } = listener
    const where = `listeners.${name}`
    const isOpen = openBindings(listener).length > 0
    for (const [group, key, why] of guards) {
      const value = group === 'limits' ? limits[key as keyof Limits] : timeouts[key as keyof Timeouts]
      if (value !== Number.POSITIVE_INFINITY) continue
      const say = isOpen ? warning : note
      findings.push(say(where, `${group}.${key} is unlimited`, why, `set ${group}.${key}; see docs/guide/limits.md`))
    }
    const isStream = bindings.some(({ capabilities }) => capabilities.kind === 'stream')
    if (isOpen && isStream && limits.connectionsPerSource === Number.POSITIVE_INFINITY) {
      const why = 'one address may take all connections'
      findings.push(
        note(
          where,
          'limits.connectionsPerSource is not set',
          why,
          'set it, unless many users stand behind one address',
        ),
      )
    }
  }
  return findings.length > 0 ? findings : [ok('no limit that guards memory or descriptors is lifted')]
}

/** Networks wider than this are nobody's proxies. */
const WIDEST = { ipv4: 8, ipv6: 16 }

export function proxyTrust({ configuration }: Facts): Finding[] {
  const { ok, warning, error } = findingsOf('proxy-trust')
  const values = configuration?.values
  const places = [
    ['layers', values?.layers] as const,
    ...Object.entries(values?.listeners ?? {}).map(([name, one]) => [`listeners.${name}.layers`, one.layers] as const),
  ]
  const findings: Finding[] = []
  let isUsed = false
  for (const [where, layers = []] of places) {
    for (const layer of layers) {
      if (typeof layer !== 'object' || (layer as { name?: unknown }).name !== 'proxy-protocol') continue
      isUsed = true
      const { trusted = [] } = layer as { trusted?: readonly string[] }
      for (const network of Array.isArray(trusted) ? trusted : []) {
        const [address = '', prefix] = String(network).split('/')
        const bits = prefix === undefined ? 128 : Number(prefix)
        const found = `PROXY headers are trusted from ${network}`
        const why = 'whoever connects from there chooses the address that is logged, limited and filtered'
        const remedy = 'list the proxies alone, such as 10.0.0.7'
        if (bits === 0) findings.push(error(where, found, why, remedy))
        else if (bits < (address.includes(':') ? WIDEST.ipv6 : WIDEST.ipv4))
          findings.push(warning(where, found, why, remedy))
      }
    }
  }
  if (!isUsed || findings.length > 0) return findings
  return [ok('PROXY headers are trusted from few')]
}

/** Whoever reaches NATS without a login can be a server or a node of the cluster. */
export function clusterLogin({ configuration }: Facts): Finding[] {
  const { ok, warning } = findingsOf('cluster')
  const values = configuration?.values
  const branch = (value: unknown): Record<string, unknown> =>
    typeof value === 'string' || Array.isArray(value) ? { servers: value } : ((value ?? {}) as Record<string, unknown>)
  const shared = branch(values?.cluster)
  const places: [where: string, ref: NamedExecutor | undefined][] = [['executor', values?.executor]]
  for (const [name, { executor }] of Object.entries(values?.listeners ?? {}))
    places.push([`listeners.${name}.executor`, executor])
  const named: [where: string, options: Record<string, unknown>][] = []
  for (const [where, ref] of places) {
    const own = typeof ref === 'string' ? { type: ref } : ref
    if (own?.type === 'cluster') named.push([where, { ...shared, ...own }])
  }
  if (named.length === 0 && values?.cluster !== undefined) named.push(['cluster', shared])
  const findings: Finding[] = []
  for (const [where, given] of named) {
    const { servers = [], tls, user, token, nkey, credentials } = given
    const list = (typeof servers === 'string' ? servers.split(',') : (servers as readonly unknown[])).map((server) =>
      // A login in an address is refused where it is used; here it must not be said.
      String(server).replace(/\/\/[^/@]*@/, '//'),
    )
    const far = list.filter((server) => {
      const [, six, four] = /^(?:\w+:\/\/)?(?:\[([^\]]*)\]|([^:/]*))/.exec(server) ?? []
      return reachOf(six ?? four) !== 'loopback'
    })
    if (far.length === 0) continue
    const found = far.join(', ')
    if (tls === undefined && !far.every((server) => server.startsWith('tls://')))
      findings.push(
        warning(
          where,
          `NATS at ${found} is reached without TLS`,
          'whoever is on the way reads and changes every message',
          'set cluster.tls, or name the servers as tls://',
        ),
      )
    if ([user, token, nkey, credentials].every((one) => one === undefined))
      findings.push(
        warning(
          where,
          `NATS at ${found} is reached without a login`,
          'whoever reaches it too can be a node and is given messages',
          'set cluster.credentials, nkey, token, or user and password; see docs/guide/cluster.md',
        ),
      )
  }
  if (named.length === 0 || findings.length > 0) return findings
  return [ok('the cluster is on this machine alone, or behind a login and TLS')]
}

/** The control socket and plugins with an address of their own: metrics, the console. */
export function operators(facts: Facts): Finding[] {
  const { ok, warning } = findingsOf('operators')
  const values = facts.configuration?.values
  const findings: Finding[] = []
  const places: string[] = []
  for (const plugin of values?.plugins ?? []) {
    if (!Array.isArray(plugin)) continue
    const [name, options] = plugin as unknown as [string, Record<string, unknown> | undefined]
    const { host: ownHost } = options ?? {}
    const own = typeof ownHost === 'string' ? `tcp://${ownHost.includes(':') ? `[${ownHost}]` : ownHost}` : undefined
    for (const given of [options?.listen, options?.endpoint, own]) {
      for (const address of [given].flat()) {
        if (typeof address !== 'string') continue
        places.push(address)
        const host = /^[a-z+]+:\/\/(?:\[([^\]]*)\]|([^:/]*))/i.exec(address)
        if (host === null || reachOf(host[1] ?? host[2]) !== 'open') continue
        findings.push(
          warning(
            `plugins: ${name}`,
            `listens on ${address}`,
            'what operators see and do is nobody else’s business',
            'bind 127.0.0.1 or a Unix socket, or an address in a network that only operators are in',
          ),
        )
      }
    }
  }
  if (findings.length > 0 || (places.length === 0 && !values?.control)) return findings
  return [ok('control socket, metrics and console are reachable by operators alone')]
}

const LONGEST_PATH = 107

export function unixSockets(facts: Facts): Finding[] {
  const { ok, note, warning, error } = findingsOf('unix-socket')
  const { configuration, listeners, uid } = facts
  const findings: Finding[] = []
  const paths: (readonly [where: string, path: string, mode: number | undefined])[] = []
  for (const { name, bindings } of listeners) {
    for (const { endpoint, options } of bindings) {
      if (endpoint.scheme !== 'unix' || endpoint.path === undefined || endpoint.path.startsWith('@')) continue
      const { mode } = options as { mode?: number | string }
      paths.push([`listeners.${name}`, endpoint.path, typeof mode === 'string' ? Number.parseInt(mode, 8) : mode])
    }
  }
  const control = configuration?.values.control
  const given = typeof control === 'string' ? control : typeof control === 'object' ? control.path : undefined
  if (given !== undefined) paths.push(['control', given, 0o600])
  for (const [where, path, mode] of paths) {
    const folder = dirname(resolve(path))
    const found = facts.stat(folder)
    if (Buffer.byteLength(path) > LONGEST_PATH) {
      findings.push(
        error(
          where,
          `${path} has more than ${LONGEST_PATH} bytes`,
          'unix(7); it does not start',
          'take a shorter path',
        ),
      )
    }
    if (found === undefined || !found.isDirectory) {
      findings.push(error(where, `there is no folder ${folder}`, 'it does not start', `mkdir -m 750 ${folder}`))
      continue
    }
    if ((found.mode & 0o002) !== 0 && (found.mode & 0o1000) === 0) {
      const why = 'anybody on the machine can put another socket in its place'
      findings.push(
        warning(where, `everybody may write to ${folder}`, why, `chmod o-w ${folder}, or take a folder of its own`),
      )
    } else if (found.uid !== uid && found.uid !== 0) {
      const why = 'that user can put another socket in its place'
      findings.push(note(where, `${folder} belongs to another user (${found.uid})`, why, 'take a folder of its own'))
    }
    if (mode !== undefined && (mode & 0o006) !== 0) {
      const shown = `0${mode.toString(8)}`
      findings.push(
        note(
          where,
          `mode ${shown}`,
          'every user of the machine may connect',
          'leave socket.mode out (0660), unless that is meant',
        ),
      )
    }
  }
  if (findings.length > 0 || paths.length === 0) return findings
  return [ok('Unix sockets stand where only their owners put them')]
}
