/**
 * `status`, `suspend`, `resume`, `drain`, `reload`, `stop`: what talks to a running server, over its control socket.
 *
 * Room: the command line.
 */
import type { ClientConnection } from '../core/client.js'
import type { ConnectionStatus, Status } from '../core/control.js'
import { ConfigError, ConnectionError, FrameError, toError } from '../core/errors.js'
import { printable } from '../core/printable.js'
import { connect } from '../gaidaros.js'
import type { Arguments } from './arguments.js'

const ANSWER_MS = 10_000
/** A reload starts workers, one after another. */
const RELOAD_MS = 600_000

interface Answer {
  readonly ok: boolean
  readonly result?: unknown
  readonly error?: string
  readonly code?: string
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
    const answer = await connection.request<Answer>(asked, {
      timeoutMs: command === 'reload' ? RELOAD_MS : ANSWER_MS,
    })
    if (typeof answer?.ok !== 'boolean') {
      const message = `${connection.endpoint} is no control socket: the answer has no \`ok\``
      throw new FrameError('MALFORMED', message)
    }
    if (!answer.ok) {
      const code = answer.code === undefined ? '' : ` [${answer.code}]`
      const lines = `${String(answer.error)}${code}`.split('\n').map((line) => `gaidaros: ${printable(line)}\n`)
      process.stderr.write(lines.join(''))
      return 1
    }
    if (command === 'status') {
      const list = flags.connections
        ? (await connection.request<Answer>({ id: 2, command: 'connections' }, { timeoutMs: ANSWER_MS })).result
        : undefined
      print(answer.result as Status, list as readonly ConnectionStatus[] | undefined, Boolean(flags.json))
    } else if (command === 'reload') process.stdout.write('reloaded\n')
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

function print(status: Status, list: readonly ConnectionStatus[] | undefined, asJson: boolean): void {
  if (asJson) {
    process.stdout.write(`${JSON.stringify(list === undefined ? status : { ...status, list }, null, 2)}\n`)
    return
  }
  const { pid, version, state, uptimeMs, connections, listeners, counters, memory, workers } = status
  const rows: string[][] = [['LISTENER', 'STATE', 'CONNECTIONS', 'ENDPOINT']]
  for (const { name, state: now, connections: count, limit, endpoints } of listeners) {
    const [first = '', ...more] = endpoints
    rows.push([name, now, `${count} of ${limit}`, first])
    for (const endpoint of more) rows.push(['', '', '', endpoint])
  }
  const counted = Object.entries(counters).sort(([a], [b]) => (a < b ? -1 : 1))
  process.stdout.write(
    `gaidaros ${version}, process ${pid}: ${state}, up ${seconds(uptimeMs)}, ${connections} connection${connections === 1 ? '' : 's'}, ` +
      `${mebibytes(memory.residentBytes)} resident\n\n${table(rows)}`,
  )
  if (workers !== undefined) {
    const each = workers.map(({ worker, pid, generation, state, uptimeMs, connections, memory }) => [
      String(worker),
      String(pid),
      String(generation),
      state,
      seconds(uptimeMs),
      String(connections),
      mebibytes(memory.residentBytes),
    ])
    const head = ['WORKER', 'PROCESS', 'GENERATION', 'STATE', 'UP', 'CONNECTIONS', 'RESIDENT']
    process.stdout.write(`\n${table([head, ...each])}`)
  }
  if (list !== undefined) {
    const each = list.map(({ id, listener, worker, state, remote, messagesIn, messagesOut }) => [
      worker === undefined ? id : `${worker}/${id}`,
      listener,
      state,
      String(messagesIn),
      String(messagesOut),
      remote ?? '',
    ])
    process.stdout.write(`\n${table([['CONNECTION', 'LISTENER', 'STATE', 'IN', 'OUT', 'REMOTE'], ...each])}`)
  }
  if (counted.length > 0) process.stdout.write(`\n${counted.map(([name, count]) => `${name}=${count}`).join('  ')}\n`)
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const lines = rows.map((row) =>
    printable(row.map((cell, i) => cell.padEnd(i < row.length - 1 ? (widths[i] ?? 0) : 0)).join('  ')),
  )
  return `${lines.join('\n')}\n`
}

function mebibytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1_000)} s`
}
