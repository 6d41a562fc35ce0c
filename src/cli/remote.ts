/**
 * `status`, `suspend`, `resume`, `drain`, `stop`: what talks to a running server, over its control socket.
 *
 * Room: the command line.
 */
import type { ClientConnection } from '../core/client.js'
import type { Status } from '../core/control.js'
import { ConfigError, ConnectionError, toError } from '../core/errors.js'
import { connect } from '../gaidaros.js'
import type { Arguments } from './arguments.js'

interface Answer {
  readonly ok: boolean
  readonly result?: unknown
  readonly error?: string
}

export async function remote(given: Arguments): Promise<number> {
  const { command, operands, flags } = given
  const path = socketOf(given)
  const connection = await open(path)
  try {
    const timeoutMs = flags['timeout-ms'] === undefined ? undefined : Number(flags['timeout-ms'])
    if (Number.isNaN(timeoutMs))
      throw new ConfigError('BAD_USAGE', `--timeout-ms: expected milliseconds, got ${flags['timeout-ms']}`)
    const answer = await connection.request<Answer>(
      {
        id: 1,
        command,
        ...(operands[0] === undefined ? {} : { listener: operands[0] }),
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
      },
      { timeoutMs: 10_000 },
    )
    if (!answer.ok) {
      process.stderr.write(`gaidaros: ${answer.error}\n`)
      return 1
    }
    if (command === 'status') print(answer.result as Status, Boolean(flags.json))
    else if (command === 'drain') process.stdout.write('draining\n')
    else if (command === 'stop') {
      // The control socket is the last thing to go.
      await connection.closed
      process.stdout.write('stopped\n')
    } else
      process.stdout.write(
        `${command === 'suspend' ? 'suspended' : 'resumed'} ${(answer.result as string[]).join(', ')}\n`,
      )
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
    return await connect(`unix:${path}`, { codec: 'json-lines' })
  } catch (thrown) {
    const cause = toError(thrown)
    throw new ConnectionError(
      'REFUSED',
      `no server answers at the control socket ${path}; start one with --control ${path} (or --set control=true), or name its socket with --control`,
      { cause },
    )
  }
}

function print(status: Status, asJson: boolean): void {
  if (asJson) {
    process.stdout.write(`${JSON.stringify(status, null, 2)}\n`)
    return
  }
  const { pid, version, state, uptimeMs, connections, listeners, counters, memory } = status
  const mib = (bytes: number) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`
  const rows = [['LISTENER', 'STATE', 'CONNECTIONS', 'ENDPOINT']]
  for (const { name, state: now, connections: count, limit, endpoints } of listeners) {
    endpoints.forEach((endpoint, i) =>
      rows.push(i === 0 ? [name, now, `${count} of ${limit}`, endpoint] : ['', '', '', endpoint]),
    )
  }
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => (row[column] as string).length)))
  const table = rows.map((row) => row.map((cell, i) => (i < 3 ? cell.padEnd(widths[i] as number) : cell)).join('  '))
  process.stdout.write(
    `gaidaros ${version}, process ${pid}: ${state} for ${Math.round(uptimeMs / 1_000)} s, ${connections} connections, ${mib(memory.residentBytes)} resident\n\n`,
  )
  process.stdout.write(`${table.join('\n')}\n`)
  const counted = Object.entries(counters).sort(([a], [b]) => (a < b ? -1 : 1))
  if (counted.length > 0) process.stdout.write(`\n${counted.map(([name, count]) => `${name}=${count}`).join('  ')}\n`)
}
