/**
 * The machine and the Node beneath: versions, descriptors, queues, buffers.
 *
 * Room: the command line.
 */
import { type Facts, type Finding, findingsOf, isSet } from './finding.js'

/** The end of maintenance by major version (nodejs.org, release schedule). */
const maintainedUntil: Readonly<Record<number, string>> = {
  20: '2026-04-30',
  22: '2027-04-30',
  24: '2028-04-30',
  26: '2029-04-30',
}

export function nodeVersion({ nodeVersion: version, now }: Facts): Finding[] {
  const { ok, note, warning } = findingsOf('node')
  const major = Number(version.replace(/^v/, '').split('.')[0])
  const until = maintainedUntil[major]
  if (until === undefined) {
    if (major % 2 === 1) {
      return [
        warning('', `Node ${version}`, 'odd versions are maintained for half a year', 'take an even one, such as 24'),
      ]
    }
    return [
      note('', `Node ${version}`, 'this version of Gaidaros does not know it yet', 'see whether there is a newer one'),
    ]
  }
  if (now > new Date(`${until}T23:59:59Z`)) {
    return [
      warning(
        '',
        `Node ${version} is maintained no more (since ${until})`,
        'holes that are found in it stay open',
        'take a newer one, such as Node 24',
      ),
    ]
  }
  return [ok(`Node ${version}, maintained until ${until}`)]
}

/** Of the limit, as for the listeners. */
const SHARE = 0.9

export function descriptors(facts: Facts): Finding[] {
  const { ok, note, warning } = findingsOf('descriptors')
  const { descriptors: limit, listeners } = facts
  if (limit === undefined) return [note('', 'the limit of descriptors is not known here', '', 'see `ulimit -n`')]
  const cap = Math.floor(limit * SHARE)
  const streams = listeners.filter(({ bindings }) =>
    bindings.some(({ capabilities }) => capabilities.kind === 'stream'),
  )
  const wanted = streams.reduce((sum, { limits }) => sum + limits.connections, 0)
  if (wanted <= cap) return [ok(`${limit} descriptors for ${wanted} connections at most`)]
  const found = `${wanted === Number.POSITIVE_INFINITY ? 'unlimited' : wanted} connections are allowed, and ${limit} descriptors let in ${cap}`
  const why = 'newcomers above that are refused; Node itself would drop them without a word'
  const remedy = `raise it (systemd: LimitNOFILE=${Number.isFinite(wanted) ? Math.ceil(wanted / SHARE) : 1_048_576}; shell: ulimit -n), or lower limits.connections`
  const wasMeant = streams.some(({ name }) => isSet(facts, name, 'limits', 'connections'))
  return [wasMeant ? warning('', found, why, remedy) : note('', found, why, remedy)]
}

const BACKLOG = 511

export function backlog(facts: Facts): Finding[] {
  const { ok, note, warning } = findingsOf('backlog')
  const most = facts.sysctl('net.core.somaxconn')
  if (most === undefined) return []
  const findings: Finding[] = []
  for (const { name, bindings } of facts.listeners) {
    const wanted = Math.max(
      0,
      ...bindings
        .filter(({ capabilities }) => capabilities.kind === 'stream')
        .map(({ options }) => Number((options as { backlog?: number }).backlog ?? BACKLOG)),
    )
    if (wanted <= most) continue
    const say = isSet(facts, name, 'socket', 'backlog') ? warning : note
    const found = `backlog ${wanted}, and the kernel allows ${most} (net.core.somaxconn)`
    const why = 'in a burst of newcomers the rest is dropped, and tries again a second later'
    findings.push(say(`listeners.${name}`, found, why, `sysctl -w net.core.somaxconn=${wanted}`))
  }
  return findings.length > 0 ? findings : [ok(`backlogs fit into net.core.somaxconn (${most})`)]
}

/** What our UDP asks for where nobody says. */
const RECEIVE_BUFFER = 4 * 1024 * 1024

export function datagramBuffers(facts: Facts): Finding[] {
  const { ok, note, warning } = findingsOf('udp-buffer')
  const most = facts.sysctl('net.core.rmem_max')
  const udp = facts.listeners.filter(({ bindings }) => bindings.some(({ transport }) => transport.name === 'udp'))
  if (udp.length === 0 || most === undefined) return []
  const findings: Finding[] = []
  for (const { name, bindings } of udp) {
    const wanted = Math.max(
      ...bindings.map(({ options }) => Number((options as { receiveBuffer?: number }).receiveBuffer ?? RECEIVE_BUFFER)),
    )
    if (wanted <= most) continue
    const say = isSet(facts, name, 'socket', 'receiveBuffer') ? warning : note
    const found = `a receive buffer of ${wanted} bytes, and the kernel gives ${most} (net.core.rmem_max)`
    const why = 'bursts that do not fit are lost; RcvbufErrors in /proc/net/snmp counts them'
    findings.push(say(`listeners.${name}`, found, why, `sysctl -w net.core.rmem_max=${wanted}`))
  }
  return findings.length > 0 ? findings : [ok(`receive buffers fit into net.core.rmem_max (${most})`)]
}

export function reusePort({ listeners, nodeVersion: version }: Facts): Finding[] {
  const { ok, error } = findingsOf('reuse-port')
  const using = listeners.filter(({ bindings }) =>
    bindings.some(({ options }) => (options as { reusePort?: boolean }).reusePort === true),
  )
  if (using.length === 0) return []
  const [major = 0, minor = 0] = version.replace(/^v/, '').split('.').map(Number)
  if (major > 23 || (major === 22 && minor >= 12) || (major === 23 && minor >= 1)) return [ok('reusePort is supported')]
  return using.map(({ name }) =>
    error(
      `listeners.${name}`,
      `socket.reusePort, on Node ${version}`,
      'it needs Node 22.12 or newer; the listener does not start',
      'take a newer Node, or leave it out',
    ),
  )
}

export function privileges({ isRoot, user }: Facts): Finding[] {
  const { ok, note } = findingsOf('privileges')
  if (!isRoot) return [ok('does not run as root')]
  if (user !== undefined && user !== 'root' && user !== '0') return [ok(`starts as root, and becomes ${user}`)]
  const why = 'whoever takes over a handler has the machine'
  return [
    note(
      '',
      'runs as root',
      why,
      'run it as a user of its own; ports below 1024: AmbientCapabilities=CAP_NET_BIND_SERVICE',
    ),
  ]
}
