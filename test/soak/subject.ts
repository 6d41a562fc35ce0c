/** The server of the long runs: a process of its own, so that what it uses is its own, asked over its channel. */
import { fork } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { type Connection, createServer, type ServerOptions } from 'gaidaros'

export interface Usage {
  /** After a collection. */
  readonly heapBytes: number
  readonly residentBytes: number
  readonly descriptors: number
  /** The longest the event loop stood still since the last question, in milliseconds. */
  readonly stillMs: number
  /** What it worked meanwhile, on all its threads; the rest of the time others had the processors. */
  readonly workedMs: number
  readonly connections: number
  readonly counters: Readonly<Record<string, number>>
  /** Most bytes that were seen waiting for one peer. */
  readonly mostHeld: number
}

export interface Subject {
  readonly port: number
  usage(): Promise<Usage>
  stop(): Promise<void>
}

export async function subject(
  options: Pick<ServerOptions, 'limits' | 'timeouts'> & { reply?: Reply },
): Promise<Subject> {
  const child = fork(new URL(import.meta.url), ['subject', JSON.stringify(options)], { execArgv: ['--expose-gc'] })
  const next = <T>() => new Promise<T>((resolve) => child.once('message', (message) => resolve(message as T)))
  const { port } = await next<{ port: number }>()
  return {
    port,
    usage() {
      const answer = next<Usage>()
      child.send('usage')
      return answer
    },
    async stop() {
      const gone = new Promise((resolve) => child.once('exit', resolve))
      child.send('stop')
      await gone
    },
  }
}

/** `echo` each line, or answer it with so many bytes, or with a stream of lines of 1 KiB. */
export type Reply = 'echo' | { readonly bytes: number } | { readonly lines: number }

if (process.argv[2] === 'subject') {
  const { reply = 'echo', ...options } = JSON.parse(process.argv[3] as string) as ServerOptions & { reply?: Reply }
  let mostHeld = 0
  const line = 'y'.repeat(1_023)
  const large = reply !== 'echo' && 'bytes' in reply ? 'z'.repeat(reply.bytes) : ''
  function* lines(connection: Connection, count: number) {
    for (let i = 0; i < count; i++) {
      yield line
      // What waits for it is the session's own business; here it is what is measured.
      mostHeld = Math.max(mostHeld, (connection as unknown as { heldBytes: number }).heldBytes)
    }
  }
  const server = await createServer({
    config: false,
    listen: 'tcp://0.0.0.0:0',
    ...options,
    handler: (message: string, connection: Connection) =>
      reply === 'echo' ? message : 'bytes' in reply ? large : lines(connection, reply.lines),
  })
  await server.start()
  const delay = monitorEventLoopDelay({ resolution: 5 })
  delay.enable()
  // How much of the longest stretch between two turns of a timer this process worked; the rest it waited for a processor.
  let longest = { ms: 0, workedMs: 0 }
  let last = { at: performance.now(), cpu: process.cpuUsage() }
  setInterval(() => {
    const now = { at: performance.now(), cpu: process.cpuUsage() }
    const ms = now.at - last.at
    if (ms > longest.ms) {
      const { user, system } = process.cpuUsage(last.cpu)
      longest = { ms, workedMs: (user + system) / 1_000 }
    }
    last = now
  }, 5).unref()
  process.on('message', async (message) => {
    if (message === 'stop') {
      await server.stop({ timeoutMs: 0 })
      process.exit(0)
    }
    const stillMs = Math.round(delay.max / 1e6)
    const workedMs = Math.round(longest.workedMs)
    for (let i = 0; i < 3; i++) {
      globalThis.gc?.()
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    process.send?.({
      heapBytes: process.memoryUsage().heapUsed,
      residentBytes: process.memoryUsage.rss(),
      descriptors: readdirSync('/proc/self/fd').length,
      stillMs,
      workedMs,
      connections: server.connections.size,
      counters: { ...server.counters },
      mostHeld,
    } satisfies Usage)
    // The collection above is the question's doing.
    delay.reset()
    longest = { ms: 0, workedMs: 0 }
    last = { at: performance.now(), cpu: process.cpuUsage() }
  })
  process.send?.({ port: server.listeners.get('default')?.endpoint.port })
}
