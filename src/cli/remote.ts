/**
 * `status`, `connections`, `kill`, `limit`, `suspend`, `resume`, `drain`, `reload`, `stop`: what talks to a running server, over its
 * control socket.
 *
 * Room: the command line.
 */
import type { ClientConnection } from '../core/client.js'
import type { ConnectionPage, ControlRequest, Killed, LimitChange, Status } from '../core/control.js'
import { ConfigError } from '../core/errors.js'
import { printable } from '../core/printable.js'
import type { Arguments } from './arguments.js'
import { ask, openControl, Refusal, wholeFlag } from './control-client.js'
import { bytes, duration, table } from './table.js'

export async function remote(given: Arguments): Promise<number> {
  const request = requestOf(given)
  const connection = await openControl(given)
  try {
    return await run(given, connection, request)
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    for (const line of error.message.split('\n')) process.stderr.write(`gaidaros: ${printable(line)}\n`)
    return 1
  } finally {
    connection.abort()
  }
}

/** @throws {ConfigError} `BAD_USAGE`. */
function requestOf(given: Arguments): ControlRequest {
  const { command, operands, flags } = given
  const [first, second] = operands
  switch (command) {
    case 'status':
      return { command }
    case 'connections':
      return {
        command,
        filter: operands.length === 0 ? undefined : operands.join(' '),
        listener: flags.listener,
        sort: flags.sort,
        reverse: flags.reverse,
        limit: wholeFlag(given, 'limit'),
        offset: wholeFlag(given, 'offset'),
      }
    case 'kill': {
      const { listener, source, filter, now } = flags
      if (first === undefined && [listener, source, filter].every((one) => one === undefined)) {
        throw new ConfigError('BAD_USAGE', 'kill: say whom: a connection, --listener, --source or --filter')
      }
      return { command, connection: first, reason: flags.reason ?? second, listener, source, filter, now }
    }
    case 'limit': {
      const [, path, value] = /^([^=]+)=(.+)$/.exec(first ?? '') ?? []
      if (path === undefined || value === undefined) {
        const got = first === undefined ? 'nothing' : `\`${first}\``
        throw new ConfigError('BAD_USAGE', `limit: expected PATH=VALUE such as limits.connections=500, got ${got}`)
      }
      return { command, path, value: /^\d{1,15}$/.test(value) ? Number(value) : value }
    }
    default:
      return { command, listener: first, timeoutMs: wholeFlag(given, 'timeout-ms', 'milliseconds') }
  }
}

async function run(given: Arguments, connection: ClientConnection, request: ControlRequest): Promise<number> {
  const { command, flags } = given
  const result = await ask<unknown>(connection, request)
  const page =
    command === 'status' && flags.connections
      ? await ask<ConnectionPage>(connection, { command: 'connections' })
      : undefined
  if (flags.json) {
    const whole = page === undefined ? result : { ...(result as Status), connectionList: page.connections }
    process.stdout.write(`${JSON.stringify(whole, null, 2)}\n`)
  } else {
    process.stdout.write(text(given, result))
    if (page !== undefined) process.stdout.write(`\n${connectionsText(page)}`)
  }
  if (command === 'stop') {
    // The control socket is the last thing to go.
    await connection.closed
    process.stdout.write('stopped\n')
  }
  return command === 'kill' && (result as Killed).killed === 0 ? 1 : 0
}

function text({ command, flags }: Arguments, result: unknown): string {
  switch (command) {
    case 'status':
      return statusText(result as Status)
    case 'connections':
      return connectionsText(result as ConnectionPage)
    case 'kill': {
      const { killed, connections } = result as Killed
      const more = killed > connections.length ? ` and ${killed - connections.length} more` : ''
      if (killed === 0) return 'killed nobody: no connection is meant\n'
      return `killed ${killed} connection${killed === 1 ? '' : 's'}: ${connections.map(printable).join(', ')}${more}\n`
    }
    case 'limit':
      return (result as LimitChange[])
        .map(({ listener, limit, before, value }) => `${printable(listener)}: ${limit} ${before} → ${value}\n`)
        .join('')
    case 'drain':
      return 'draining\n'
    case 'reload':
      return 'reloaded\n'
    case 'stop':
      return ''
    default: {
      const names = (result as string[]).map(printable).join(', ')
      return flags.json ? '' : `${command === 'suspend' ? 'suspended' : 'resumed'} ${names}\n`
    }
  }
}

function statusText(status: Status): string {
  const {
    pid,
    version,
    state,
    uptimeMs,
    connections,
    listeners,
    executors,
    counters,
    memory,
    workers = [],
    node,
  } = status
  const mib = (amount: number) => `${(amount / 1024 / 1024).toFixed(1)} MiB`
  const rows: string[][] = [['LISTENER', 'STATE', 'CONNECTIONS', 'IN', 'OUT', 'ENDPOINT']]
  for (const { name, state: now, connections: count, handshaking, limit, traffic, endpoints } of listeners) {
    const [first = '', ...more] = endpoints
    const coming = handshaking > 0 ? ` + ${handshaking} handshaking` : ''
    rows.push([name, now, `${count}${coming} of ${limit}`, bytes(traffic.bytesIn), bytes(traffic.bytesOut), first])
    for (const endpoint of more) rows.push(['', '', '', '', '', endpoint])
  }
  const seconds = Math.round(uptimeMs / 1_000)
  let out =
    `gaidaros ${version}, process ${pid}: ${state}, up ${seconds} s, ${connections} connection${connections === 1 ? '' : 's'}, ` +
    `${mib(memory.residentBytes)} resident\n${listeners.length === 0 ? '' : `\n${table(rows)}`}`
  if (node !== undefined) {
    const { cluster, instance, servers, running, handled, dropped, isConnected } = node
    out +=
      `\nnode ${printable(instance)} of ${printable(cluster)}: ${servers} server${servers === 1 ? '' : 's'}, ` +
      `${running} running, ${handled} done, ${dropped} dropped${isConnected ? '' : ', NATS is away'}\n`
  }
  for (const { alarm, listener, worker, since, value, limit } of status.alarms) {
    const whose = `${listener === undefined ? '' : ` of ${printable(listener)}`}${worker === undefined ? '' : ` in worker ${worker}`}`
    out += `\nalarm: ${alarm}${whose}, ${value} of ${limit} since ${since}\n`
  }
  if (workers.length > 0) {
    const list = workers.map((one) => [
      one.name,
      one.state,
      String(one.pid),
      String(one.connections),
      duration(one.uptimeMs),
      mib(one.residentBytes),
    ])
    out += `\n${table([['WORKER', 'STATE', 'PROCESS', 'CONNECTIONS', 'UP', 'MEMORY'], ...list])}`
  }
  if (executors.length > 0) {
    const list = executors.flatMap(({ name, listeners: served, running, queued, places, isConnected, dropped }) => [
      [name, served.join(','), String(running), String(queued), isConnected === false ? 'disconnected' : ''],
      ...(dropped === undefined || dropped === 0 ? [] : [['  dropped', String(dropped), '', '', '']]),
      ...places.map((place) => [
        `  ${place.name}`,
        place.state,
        String(place.running),
        `${place.handled} done`,
        place.memoryBytes > 0 ? mib(place.memoryBytes) : '',
      ]),
    ])
    out += `\n${table([['EXECUTOR', 'OF', 'RUNNING', 'QUEUED', 'MEMORY'], ...list])}`
  }
  const counted = Object.entries(counters).sort(([a], [b]) => (a < b ? -1 : 1))
  if (counted.length > 0) out += `\n${counted.map(([name, count]) => `${name}=${count}`).join('  ')}\n`
  return out
}

function connectionsText({ total, matched, offset, connections }: ConnectionPage): string {
  const rows = connections.map((one) => [
    one.id,
    one.listener,
    one.remote,
    one.isPaused ? `${one.state}, paused` : one.state,
    duration(one.ageMs),
    duration(one.idleMs),
    bytes(one.bytesIn),
    bytes(one.bytesOut),
    String(one.messagesIn),
    bytes(one.unsentBytes),
  ])
  const head = ['ID', 'LISTENER', 'PEER', 'STATE', 'AGE', 'IDLE', 'IN', 'OUT', 'MESSAGES', 'UNSENT']
  const shown = connections.length === 0 ? 'none' : `${offset + 1} to ${offset + connections.length}`
  return `${table([head, ...rows])}${shown} of ${matched}${matched === total ? '' : `, of ${total} in all`}\n`
}
