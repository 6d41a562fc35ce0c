/**
 * The door of a supervisor: puts processes and sockets together with what conducts them.
 *
 * It runs no handler and loads no plugin: those live in its workers.
 */
import { fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { systemClock } from './core/clock.js'
import { type ConnectionStatus, type ControlTarget, chosenOf, type Status } from './core/control.js'
import { EventHub } from './core/events.js'
import { Supervisor, TICKETS_MS } from './core/workers/supervisor.js'
import type { Child, ChildSink } from './core/workers/worker.js'
import { proveByConnection } from './transports/probe.js'
import { ServerSockets } from './transports/socket-holder.js'
import { version } from './version.js'

export interface Supervision {
  readonly supervisor: Supervisor
  readonly events: EventHub
  readonly target: ControlTarget
  /** Ends its timers. */
  close(): void
}

/** @param args - Of the command line; each worker reads them. */
export function supervise(args: readonly string[]): Supervision {
  const events = new EventHub()
  const counters: Record<string, number> = Object.create(null)
  const began = performance.now()
  let keys: Uint8Array = randomBytes(48)
  const holder = new ServerSockets({
    fault: (error) => events.emit('listener.fault', { listener: '', error, remote: undefined }),
    count: (name, by = 1) => {
      counters[name] = (counters[name] ?? 0) + by
    },
  })
  const supervisor = new Supervisor({
    spawn,
    holder,
    clock: systemClock,
    events,
    counters,
    args,
    ticketKeys: () => keys,
    probe: async (worker, { wants }) => {
      const streams = wants.filter(({ kind }) => kind !== 'udp')
      await Promise.all(streams.map(({ key }) => proveByConnection(worker, key)))
    },
  })
  const rotation = setInterval(() => {
    keys = randomBytes(48)
    supervisor.rotateTickets()
  }, TICKETS_MS)
  rotation.unref()
  return {
    supervisor,
    events,
    target: targetOf(supervisor, counters, began),
    close: () => clearInterval(rotation),
  }
}

function spawn(sink: ChildSink): Child {
  const child = fork(fileURLToPath(new URL('./worker.js', import.meta.url)), [], {
    // Bytes stay bytes on the way.
    serialization: 'advanced',
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  let isOver = false
  const exit = (status: number | null, signal: string | null) => {
    if (isOver) return
    isOver = true
    sink.exit(status, signal)
  }
  child.on('message', (message, handle) => sink.message(message, handle))
  child.on('error', () => {
    if (child.pid === undefined) exit(null, null)
  })
  child.on('exit', exit)
  return {
    pid: child.pid,
    send(message, handle, done) {
      if (!child.connected) return done()
      child.send(message, handle as never, {}, () => done())
    },
    kill: (signal) => void child.kill(signal),
  }
}

function targetOf(supervisor: Supervisor, counters: Readonly<Record<string, number>>, began: number): ControlTarget {
  const steer = async (name: string | undefined, isSuspended: boolean) => {
    const names = chosenOf(supervisor.listeners, name).map((listener) => listener.name)
    for (const one of names) await supervisor.suspend(one, isSuspended)
    return names
  }
  return {
    status: () => sum(supervisor, counters, began),
    async connections(most) {
      const answers = await supervisor.askAll<readonly ConnectionStatus[]>('connections')
      return answers
        .flatMap(({ worker, answer }) => answer.map((one) => ({ ...one, worker: worker.slot })))
        .slice(0, most)
    },
    suspend: (name) => steer(name, true),
    resume: (name) => steer(name, false),
    end: (timeoutMs) => void supervisor.stop(timeoutMs === undefined ? {} : { timeoutMs }),
    reload: async () => {
      await supervisor.reload()
      return { workers: supervisor.workers.filter(({ state }) => state === 'ready').length }
    },
  }
}

/** All workers as one server. */
async function sum(supervisor: Supervisor, own: Readonly<Record<string, number>>, began: number): Promise<Status> {
  const answers = await supervisor.askAll<Status>('status')
  const counters: Record<string, number> = { ...own }
  const listeners = new Map<string, { name: string; endpoints: readonly string[]; state: string; connections: number; limit: number | 'unlimited' }>()
  const memory = { residentBytes: process.memoryUsage.rss(), heapBytes: process.memoryUsage().heapUsed }
  for (const { worker, answer } of answers) {
    for (const [name, count] of Object.entries(answer.counters)) counters[name] = (counters[name] ?? 0) + count
    memory.residentBytes += answer.memory.residentBytes
    memory.heapBytes += answer.memory.heapBytes
    for (const listener of answer.listeners) {
      const known = listeners.get(listener.name)
      const isPresent = worker.state === 'ready'
      if (known === undefined) listeners.set(listener.name, { ...listener, limit: isPresent ? listener.limit : 0 })
      else {
        known.connections += listener.connections
        if (isPresent) {
          known.state = listener.state
          known.endpoints = listener.endpoints
          known.limit =
            known.limit === 'unlimited' || listener.limit === 'unlimited' ? 'unlimited' : known.limit + listener.limit
        }
      }
    }
  }
  const byWorker = new Map(answers.map(({ worker, answer }) => [worker, answer]))
  return {
    pid: process.pid,
    version,
    state: supervisor.state === 'ready' && supervisor.isCrashing ? 'not ready' : supervisor.state,
    uptimeMs: Math.round(performance.now() - began),
    connections: answers.reduce((total, { answer }) => total + answer.connections, 0),
    listeners: [...listeners.values()],
    counters,
    memory,
    workers: supervisor.workers.map((worker) => {
      const status = byWorker.get(worker)
      const { slot, pid, generation, state, since } = worker
      return {
        worker: slot,
        pid,
        generation,
        state,
        uptimeMs: Math.round(systemClock.now() - since),
        connections: status?.connections ?? worker.last.connections,
        memory: status?.memory ?? { residentBytes: 0, heapBytes: 0 },
      }
    }),
  }
}
