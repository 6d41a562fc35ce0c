/**
 * `status`, `suspend`, `resume`, `drain`, `stop`: what talks to a running server, over its control socket.
 *
 * Room: the command line.
 */
import type { ClientConnection } from '../core/client.js'
import type { Status } from '../core/control.js'
import { ConfigError, ConnectionError, FrameError, toError } from '../core/errors.js'
import { printable } from '../core/printable.js'
import { connect } from '../gaidaros.js'
import type { Arguments } from './arguments.js'

const ANSWER_MS = 10_000

interface Answer {
  readonly ok: boolean
  readonly result?: unknown
  readonly error?: string
}

export async function remote(given: Arguments): Promise<number> {
  const { command, operands, flags } = given
  const [listener] = operands
  const timeoutMs = flags['timeout-ms'] as string | undefined
  if (timeoutMs !== undefined && !/^\d{1,15}$/.test(timeoutMs)) {
    throw new ConfigError('BAD_USAGE', `--timeout-ms: expected a whole number of milliseconds, got \`${timeoutMs}\``)
  }
  const connection = await open(socketOf(given))
  try {
    const asked = { id: 1, command, listener, ...(timeoutMs === undefined ? {} : { timeoutMs: Number(timeoutMs) }) }
    const answer = await connection.request<Answer>(asked, { timeoutMs: ANSWER_MS })
    if (typeof answer?.ok !== 'boolean') {
      const message = `${connection.endpoint} is no control socket: the answer has no \`ok\``
      throw new FrameError('MALFORMED', message)
    }
    if (!answer.ok) {
      process.stderr.write(`gaidaros: ${printable(String(answer.error))}\n`)
      return 1
    }
    if (command === 'status') print(answer.result as Status, Boolean(flags.json))
    else if (command === 'drain') process.stdout.write('draining\n')
    else if (command === 'stop') {
      // The control socket is the last thing to go.
      await connection.closed
      process.stdout.write('stopped\n')
    } else {
      const names = (answer.result as string[]).map(printable).join(', ')
      process.stdout.write(`${command === 'suspend' ? 'suspended' : 'resumed'} ${names}\n`)
    }
    return 0
  } finally {
    connection.abort()
  }
}

function socketOf({ flags }: Arguments): string {
  if (typeof flags.control === 'string') return flags.control
  const pidFile = flags['pid-file']
  return typeof pidFile === 'string' ? pidFile.replace(/(\.pid)?$/, '.sock') : './gaidaros.sock'
}

async function open(path: string): Promise<ClientConnection> {
  try {
    // `stop` waits for as long as the server drains.
    const timeouts = { idleMs: 'unlimited' } as const
    return await connect(`unix:${path}`, { codec: 'json-lines', timeouts })
  } catch (thrown) {
    const cause = toError(thrown)
    throw new ConnectionError(
      'REFUSED',
      `no server answers at the control socket ${path}; start one with --control ${path}, or name its socket with --control or --pid-file`,
      { cause },
    )
  }
}

function print(status: Status, asJson: boolean): void {
  if (asJson) {
    process.stdout.write(`${JSON.stringify(status, null, 2)}\n`)
    return
  }
  const { pid, version, state, uptimeMs, connections, listeners, executors, counters, memory } = status
  const mib = (bytes: number) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`
  const rows: [string, string, string, string][] = [['LISTENER', 'STATE', 'CONNECTIONS', 'ENDPOINT']]
  for (const { name, state: now, connections: count, limit, endpoints } of listeners) {
    const [first = '', ...more] = endpoints
    rows.push([name, now, `${count} of ${limit}`, first])
    for (const endpoint of more) rows.push(['', '', '', endpoint])
  }
  const seconds = Math.round(uptimeMs / 1_000)
  const counted = Object.entries(counters).sort(([a], [b]) => (a < b ? -1 : 1))
  process.stdout.write(
    `gaidaros ${version}, process ${pid}: ${state}, up ${seconds} s, ${connections} connection${connections === 1 ? '' : 's'}, ` +
      `${mib(memory.residentBytes)} resident\n\n${table(rows)}\n`,
  )
  const places = placeRows(executors, mib)
  if (places.length > 1) process.stdout.write(`\n${table(places)}\n`)
  if (counted.length > 0) process.stdout.write(`\n${counted.map(([name, count]) => `${name}=${count}`).join('  ')}\n`)
}

/** Where handlers run: each thread, process or node. */
function placeRows(executors: Status['executors'], mib: (bytes: number) => string): string[][] {
  const rows = [['EXECUTOR', 'PLACE', 'STATE', 'CONNECTIONS', 'RUNNING', 'HANDLED', 'MEMORY']]
  for (const { name, places, running, isConnected, dropped } of executors) {
    const state = isConnected === false ? 'disconnected' : ''
    if (places === undefined || places.length === 0) rows.push([name, 'none', state, '', String(running), '', ''])
    for (const place of places ?? []) {
      const { connections, connectionsOfAll: all = connections } = place
      const shown = all > connections ? `${connections} of ${all}` : String(connections)
      const used = place.memoryBytes > 0 ? mib(place.memoryBytes) : ''
      rows.push([name, place.name, place.state, shown, String(place.running), String(place.handled), used])
    }
    if (dropped !== undefined && dropped > 0) rows.push([name, `${dropped} dropped`, '', '', '', '', ''])
  }
  return rows
}

function table(rows: readonly (readonly string[])[]): string {
  const columns = rows[0]?.length ?? 0
  const widths = Array.from({ length: columns - 1 }, (_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)))
  return rows.map((row) => printable(row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ')).trimEnd()).join('\n')
}
