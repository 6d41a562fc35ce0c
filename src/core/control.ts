/**
 * The control socket's other end: a handler that steers a running server.
 *
 * Room: core, mechanism. JSON lines over a Unix socket of mode 0600: `{ id, command, … }` is answered by
 * `{ id, ok: true, result }` or `{ id, ok: false, error }`. It is a Gaidaros handler like any other.
 */
import { defineHandler, type HandlerDefinition } from './handler.js'
import type { Server } from './lifecycle.js'
import { nearest } from './nearest.js'

interface Command {
  readonly id?: unknown
  readonly command?: unknown
  readonly listener?: unknown
  readonly timeoutMs?: unknown
}

/** What `status` answers. */
export interface Status {
  readonly pid: number
  readonly version: string
  readonly state: string
  readonly uptimeMs: number
  readonly connections: number
  readonly listeners: readonly {
    readonly name: string
    readonly endpoints: readonly string[]
    readonly state: string
    readonly connections: number
    readonly limit: number | 'unlimited'
  }[]
  readonly counters: Readonly<Record<string, number>>
  readonly memory: { readonly residentBytes: number; readonly heapBytes: number }
  /** Where there are several server processes; everything above is their sum. */
  readonly workers?: readonly WorkerStatus[]
}

/** One of several server processes. */
export interface WorkerStatus {
  readonly worker: number
  readonly pid: number
  readonly generation: number
  readonly state: string
  readonly uptimeMs: number
  readonly connections: number
  readonly memory: Status['memory']
}

/** A connection, as the command shows it. */
export interface ConnectionStatus {
  readonly id: string
  readonly listener: string
  readonly remote: string | undefined
  readonly worker?: number
  readonly state: string
  readonly messagesIn: number
  readonly messagesOut: number
}

/** What is steered: a server, or the supervisor of several. Each may answer later; what it throws is the answer. */
export interface ControlTarget {
  status(): Status | Promise<Status>
  /** The first so many. */
  connections(most: number): readonly ConnectionStatus[] | Promise<readonly ConnectionStatus[]>
  /** @returns the names of those that were meant. */
  suspend(listener: string | undefined): readonly string[] | Promise<readonly string[]>
  resume(listener: string | undefined): readonly string[] | Promise<readonly string[]>
  end(timeoutMs: number | undefined): void
  reload(): Promise<unknown>
}

export const controlCommands = ['status', 'connections', 'suspend', 'resume', 'drain', 'reload', 'stop'] as const

const MOST_CONNECTIONS = 1_000

export function controlHandler(target: ControlTarget): HandlerDefinition {
  const end = ({ timeoutMs }: Command) => {
    if (timeoutMs !== undefined && !(Number.isInteger(timeoutMs) && (timeoutMs as number) >= 0)) {
      throw new Error(`timeoutMs: expected milliseconds, got ${JSON.stringify(timeoutMs)}`)
    }
    // After the answer has left.
    setImmediate(() => target.end(timeoutMs as number | undefined))
    return { state: 'draining' }
  }
  const commands: Record<string, (given: Command) => unknown> = {
    status: () => target.status(),
    connections: () => target.connections(MOST_CONNECTIONS),
    suspend: ({ listener }) => target.suspend(listener === undefined ? undefined : String(listener)),
    resume: ({ listener }) => target.resume(listener === undefined ? undefined : String(listener)),
    drain: end,
    stop: end,
    reload: () => target.reload(),
  }
  return defineHandler({
    name: 'control',
    codec: 'json-lines',
    message: async (given: Command) => {
      const id = given?.id ?? null
      try {
        const run =
          typeof given?.command === 'string' && Object.hasOwn(commands, given.command)
            ? commands[given.command]
            : undefined
        if (run === undefined) throw new Error(unknown(given?.command))
        return { id, ok: true, result: await run(given) }
      } catch (error) {
        const { code, message } = error as { code?: unknown; message: string }
        return { id, ok: false, error: message, ...(typeof code === 'string' ? { code } : {}) }
      }
    },
  })
}

/** A server that is steered by itself. */
export function controlOfServer(server: Server, version: string): ControlTarget {
  const began = performance.now()
  return {
    status: () => ({
      pid: process.pid,
      version,
      state: server.state,
      uptimeMs: Math.round(performance.now() - began),
      connections: server.connections.size,
      listeners: [...server.listeners].map((listener) => ({
        name: listener.name,
        endpoints: listener.endpoints.map(String),
        state: listener.state,
        connections: listener.connections,
        limit: Number.isFinite(listener.plan.limits.connections) ? listener.plan.limits.connections : 'unlimited',
      })),
      counters: { ...server.counters },
      memory: { residentBytes: process.memoryUsage.rss(), heapBytes: process.memoryUsage().heapUsed },
    }),
    connections(most) {
      const list: ConnectionStatus[] = []
      for (const connection of server.connections) {
        if (list.length >= most) break
        const { id, listener, remote, state, stats } = connection
        const { messagesIn, messagesOut } = stats
        const peer = remote === undefined ? undefined : String(remote)
        list.push({ id, listener: listener ?? '', remote: peer, state, messagesIn, messagesOut })
      }
      return list
    },
    suspend: (name) => chosenOf([...server.listeners], name).map((listener) => (listener.suspend(), listener.name)),
    resume: (name) => chosenOf([...server.listeners], name).map((listener) => (listener.resume(), listener.name)),
    end: (timeoutMs) => void server.stop(timeoutMs === undefined ? {} : { timeoutMs }),
    async reload() {
      const names: string[] = []
      for (const listener of server.listeners) if (await listener.reload()) names.push(listener.name)
      return { certificates: names }
    },
  }
}

/** @throws with the nearest, when there is none of that name. */
export function chosenOf<T extends { readonly name: string }>(
  all: readonly T[],
  name: string | undefined,
): readonly T[] {
  if (name === undefined) return all
  const found = all.filter((listener) => listener.name === name)
  if (found.length > 0) return found
  const names = all.map((listener) => listener.name)
  const near = nearest(String(name), names)
  throw new Error(
    `no listener \`${String(name)}\`${near ? `; nearest: \`${near}\`` : ''}; there are: ${names.join(', ')}`,
  )
}

function unknown(command: unknown): string {
  const near = typeof command === 'string' ? nearest(command, controlCommands) : undefined
  return `unknown command ${JSON.stringify(command)}${near ? `; nearest: \`${near}\`` : ''}; known: ${controlCommands.join(', ')}`
}
