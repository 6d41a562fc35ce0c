/** A NATS server of our own on a free port: Debian's `nats-server`, or none. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { killAll } from './command.js'
import { eventually, stopAll } from './faults.js'

const PROGRAM = ['/usr/sbin/nats-server', '/usr/local/bin/nats-server', '/usr/bin/nats-server'].find(existsSync)

/** Why there is none; undefined: there is one. */
export const noNats =
  PROGRAM === undefined ? 'nats-server is not installed (Debian: apt install nats-server)' : undefined

export interface NatsServer {
  /** `nats://127.0.0.1:PORT`. */
  readonly url: string
  readonly port: number
  readonly pid: number
  readonly log: () => string
  /** SIGKILL, and waits until it is gone. */
  kill(): Promise<void>
  /** The same one again, on the same port. */
  restart(): Promise<NatsServer>
}

const running = new Set<ChildProcess>()
const folders: string[] = []

/** @param configuration - As nats-server's file has it: `authorization { token: x }`. */
export async function startNats(configuration = '', port = -1): Promise<NatsServer> {
  const folder = mkdtempSync(join(tmpdir(), 'gn-'))
  folders.push(folder)
  const file = join(folder, 'nats.conf')
  writeFileSync(file, `host: "127.0.0.1"\nport: ${port}\n${configuration}\n`)
  const child = spawn(PROGRAM as string, ['-c', file, '--ports_file_dir', folder], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running.add(child)
  let log = ''
  child.stdout.on('data', (chunk) => (log += chunk))
  child.stderr.on('data', (chunk) => (log += chunk))
  const over = new Promise<void>((resolve) =>
    child.once('close', () => {
      running.delete(child)
      resolve()
    }),
  )
  const limit = setTimeout(() => child.kill('SIGKILL'), 300_000)
  limit.unref()
  let found: string | undefined
  await eventually(() => {
    if (child.exitCode !== null) throw new Error(`nats-server ended: ${log}`)
    const name = readdirSync(folder).find((one) => one.endsWith('.ports'))
    const text = name === undefined ? '' : readFileSync(join(folder, name), 'utf8')
    found = /"(?:nats|tls):\/\/127\.0\.0\.1:(\d+)"/.exec(text)?.[1]
    return found !== undefined && log.includes('Server is ready')
  }, 'nats-server is ready')
  const bound = Number(found)
  return {
    url: `nats://127.0.0.1:${bound}`,
    port: bound,
    pid: child.pid as number,
    log: () => log,
    async kill() {
      child.kill('SIGKILL')
      await over
    },
    restart: () => startNats(configuration, bound),
  }
}

/** Ends all that this file has started. */
export function stopNats(): void {
  for (const child of running) child.kill('SIGKILL')
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
}

/** What a test file of a cluster has begun: servers, commands, NATS, and its folder. */
export async function endAll(folder: string): Promise<void> {
  await stopAll()
  killAll()
  stopNats()
  rmSync(folder, { recursive: true, force: true })
}
