/**
 * The control socket's other end: a handler that steers a running server.
 *
 * Room: core, mechanism. JSON lines over a Unix socket of mode 0600: `{ id, command, … }` is answered by
 * `{ id, ok: true, result }` or `{ id, ok: false, error }`. It is a Gaidaros handler like any other.
 */
import type { Load } from './executor.js'
import { defineHandler, type HandlerDefinition } from './handler.js'
import type { ListenerHandle, Server } from './lifecycle.js'
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
  /** Where handlers run besides inline. */
  readonly executors: readonly (Load & { readonly name: string })[]
  readonly counters: Readonly<Record<string, number>>
  readonly memory: { readonly residentBytes: number; readonly heapBytes: number }
}

export const controlCommands = ['status', 'suspend', 'resume', 'drain', 'stop'] as const

export function controlHandler(server: Server, version: string): HandlerDefinition {
  const began = performance.now()
  const commands: Record<string, (given: Command) => unknown> = {
    status: (): Status => ({
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
      executors: [...new Set([...server.listeners].flatMap(({ plan }) => plan.executors))].map((executor) => ({
        name: executor.name,
        ...executor.load(),
      })),
      counters: { ...server.counters },
      memory: { residentBytes: process.memoryUsage.rss(), heapBytes: process.memoryUsage().heapUsed },
    }),
    suspend: (given) => chosen(server, given).map((listener) => (listener.suspend(), listener.name)),
    resume: (given) => chosen(server, given).map((listener) => (listener.resume(), listener.name)),
    drain: (given) => end(server, given),
    stop: (given) => end(server, given),
  }
  return defineHandler({
    name: 'control',
    codec: 'json-lines',
    message: (given: Command) => {
      const id = given?.id ?? null
      try {
        const run =
          typeof given?.command === 'string' && Object.hasOwn(commands, given.command)
            ? commands[given.command]
            : undefined
        if (run === undefined) throw new Error(unknown(given?.command))
        return { id, ok: true, result: run(given) }
      } catch (error) {
        return { id, ok: false, error: (error as Error).message }
      }
    },
  })
}

function end(server: Server, { timeoutMs }: Command): { state: string } {
  if (timeoutMs !== undefined && !(Number.isInteger(timeoutMs) && (timeoutMs as number) >= 0)) {
    throw new Error(`timeoutMs: expected milliseconds, got ${JSON.stringify(timeoutMs)}`)
  }
  // After the answer has left.
  setImmediate(() => void server.stop(timeoutMs === undefined ? {} : { timeoutMs: timeoutMs as number }))
  return { state: 'draining' }
}

function chosen(server: Server, { listener: name }: Command): ListenerHandle[] {
  const all = [...server.listeners]
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
