/**
 * The door of a supervisor: puts processes and sockets together with what conducts them.
 *
 * It runs no handler and loads no plugin: those live in its workers.
 */
import { type ChildProcess, fork } from 'node:child_process'
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

/** Sockets that outlive whoever serves on them, and what is counted about them. */
export interface Foundation {
  readonly events: EventHub
  readonly counters: Record<string, number>
  readonly sockets: ServerSockets
}

/** @param inherited - Descriptors that another program has left, by the id of their address. */
export function lay(inherited?: ReadonlyMap<string, readonly number[]>): Foundation {
  const events = new EventHub()
  const counters: Record<string, number> = Object.create(null)
  const sockets = new ServerSockets({
    clock: systemClock,
    fault: (error) => events.emit('listener.fault', { listener: '', error, remote: undefined }),
    count: (name, by = 1) => {
      counters[name] = (counters[name] ?? 0) + by
    },
    ...(inherited === undefined ? {} : { inherited }),
  })
  return { events, counters, sockets }
}

export interface Supervision {
  readonly supervisor: Supervisor
  readonly target: ControlTarget
  /** Ends its timers. */
  close(): void
}

/**
 * @param args - Of the command line; each worker reads them.
 * @param isSuccessor - To a server that is ready already: its own way there is no news.
 */
export function supervise(
  args: readonly string[],
  { events, counters, sockets }: Foundation,
  isSuccessor: boolean,
): Supervision {
  const began = performance.now()
  let keys: Uint8Array = randomBytes(48)
  const processes = new Processes()
  const supervisor = new Supervisor({
    spawn: (sink) => processes.spawn(sink),
    warm: (count) => processes.warm(count),
    holder: sockets,
    clock: systemClock,
    events,
    counters,
    args,
    isSuccessor,
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
    target: targetOf(supervisor, counters, began),
    close() {
      clearInterval(rotation)
      processes.warm(0)
    },
  }
}

/** Processes for workers; some begun before they are wanted. */
class Processes {
  #spares: ChildProcess[] = []

  /** @param count - How many shall be there, ready to be told what they are; 0 ends those that are left. */
  warm(count: number): void {
    while (this.#spares.length < count) {
      const spare = begin()
      spare.once('exit', () => {
        this.#spares = this.#spares.filter((one) => one !== spare)
      })
      this.#spares.push(spare)
    }
    for (const spare of this.#spares.splice(count)) spare.kill('SIGKILL')
  }

  spawn(sink: ChildSink): Child {
    const child = this.#spares.shift() ?? begin()
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
}

function begin(): ChildProcess {
  return fork(fileURLToPath(new URL('./worker.js', import.meta.url)), [], {
    // Bytes stay bytes on the way.
    serialization: 'advanced',
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  }).on('error', () => {})
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
  const listeners = new Map<
    string,
    { name: string; endpoints: readonly string[]; state: string; connections: number; limit: number | 'unlimited' }
  >()
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
