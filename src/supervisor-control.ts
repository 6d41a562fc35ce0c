/**
 * What answers at the control socket of several server processes: one answer of all.
 *
 * A door's part, as `supervise` is: it knows the supervisor and the format of answers; each worker knows its own.
 */

import { systemClock } from './core/clock.js'
import {
  type Asker,
  addressedTo,
  type Control,
  type ControlRequest,
  controlCommands,
  memoryNow,
  mergeAnswers,
  type Reports,
  requestForEach,
  type Status,
  withFigures,
} from './core/control.js'
import type { Answers, Supervisor } from './core/workers/supervisor.js'
import type { Worker } from './core/workers/worker.js'
import { version } from './version.js'
import { WorkerTaps } from './worker-taps.js'

/**
 * @param counters - Of the supervisor's own process, and of workers that are gone.
 * @param began - When it did, by `performance.now()`.
 */
export function targetOf(
  supervisor: Supervisor,
  counters: Readonly<Record<string, number>>,
  began: number,
): Pick<Control, 'ask'> {
  const nameOf = (worker: Worker) =>
    worker.state === 'ready' ? `${worker.slot}` : `${worker.slot}.${worker.generation}`
  const named = ({ answers, silent }: Answers) => ({
    parts: answers.map(({ worker, answer }) => ({
      worker: nameOf(worker),
      result: answer,
      isReady: worker.state === 'ready',
    })),
    silent: silent.map(nameOf),
  })
  /** One answer of all; of who has not answered nobody must think that it did as it was told. */
  const all = async (request: ControlRequest, asked: Promise<Answers>) => {
    const { parts, silent } = named(await asked)
    if (parts.length === 0 && silent.length > 0) throw new Error(`no worker has answered: ${silent.join(', ')}`)
    const merged = mergeAnswers(request, parts)
    const isList = Array.isArray(merged) || typeof merged !== 'object' || merged === null
    if (silent.length === 0) return merged
    if (isList)
      throw new Error(`${String(request.command)}: not answered by worker ${silent.join(', ')}; done by the others`)
    return { ...merged, silent }
  }
  const steer = async ({ listener }: ControlRequest, isSuspended: boolean) => {
    const all = supervisor.listeners.map(({ name }) => name)
    const names = listener === undefined || listener === null ? all : all.filter((name) => name === listener)
    if (names.length === 0) throw new Error(`no listener \`${String(listener)}\`; there are: ${all.join(', ')}`)
    for (const name of names) await supervisor.suspend(name, isSuspended)
    return names
  }
  const status = async (request: ControlRequest): Promise<Status> => {
    const { parts, silent } = named(await supervisor.askAll(request))
    const ready = parts.filter(({ isReady }) => isReady)
    const merged = ready.length > 0 ? (mergeAnswers(request, ready) as Status) : nobody(supervisor)
    const draining = parts.filter(({ isReady }) => !isReady).map(({ result }) => result as Status)
    const sums: Record<string, number> = { ...counters }
    for (const one of [merged, ...draining]) {
      for (const [name, count] of Object.entries(one.counters)) sums[name] = (sums[name] ?? 0) + count
    }
    const own = memoryNow()
    const resident = new Map(parts.map(({ worker, result }) => [worker, (result as Status).memory.residentBytes]))
    const connected = new Map(parts.map(({ worker, result }) => [worker, (result as Status).connections]))
    return {
      ...merged,
      listeners: withFigures(merged.listeners, supervisor.figures),
      pid: process.pid,
      version,
      state: supervisor.state === 'ready' && supervisor.isCrashing ? 'not ready' : supervisor.state,
      uptimeMs: Math.round(performance.now() - began),
      connections: draining.reduce((total, { connections }) => total + connections, merged.connections),
      counters: sums,
      memory: {
        residentBytes: merged.memory.residentBytes + own.residentBytes,
        heapBytes: merged.memory.heapBytes + own.heapBytes,
        externalBytes: merged.memory.externalBytes + own.externalBytes,
      },
      workers: supervisor.workers.map((worker) => ({
        name: nameOf(worker),
        pid: worker.pid,
        state: worker.state,
        uptimeMs: Math.round(systemClock.now() - worker.since),
        connections: connected.get(nameOf(worker)) ?? worker.last.connections,
        residentBytes: resident.get(nameOf(worker)) ?? 0,
        generation: worker.generation,
        ...(silent.includes(nameOf(worker)) && { isSilent: true as const }),
      })),
    }
  }
  const report = async (request: ControlRequest): Promise<Reports> => ({
    state: supervisor.state === 'ready' && supervisor.isCrashing ? 'not ready' : supervisor.state,
    expected: supervisor.expected,
    reports: await supervisor.report(String(request.observer)),
    counters: { 'workers.lost': counters['workers.lost'] ?? 0, reloads: counters.reloads ?? 0 },
  })
  const workerOf = (name: string): Worker => {
    const worker = supervisor.workers.find((one) => nameOf(one) === name || `${one.slot}.${one.generation}` === name)
    if (worker === undefined) throw new Error(`no worker ${name}; \`gaidaros status\` lists them`)
    return worker
  }
  const taps = new WorkerTaps()
  const untap = async (request: ControlRequest, asker: Asker | undefined) => {
    const addressed = addressedTo(request)
    const chosen = addressed === undefined ? taps.workersOf(asker) : [workerOf(addressed.worker)]
    const answers = await Promise.all(
      chosen.map((worker) =>
        worker.ask(addressed?.request ?? request, { asker: asker && taps.earOf(asker, worker, nameOf(worker)) }),
      ),
    )
    return { untapped: answers.reduce<number>((sum, one) => sum + (one as { untapped: number }).untapped, 0) }
  }
  const tap = async (request: ControlRequest, asker: Asker | undefined) => {
    if (asker === undefined) throw new Error('tap: needs a connection over which messages can be told')
    const addressed = addressedTo(request)
    if (addressed === undefined) throw new Error(notAddressed(request))
    const worker = workerOf(addressed.worker)
    const ear = taps.earOf(asker, worker, addressed.worker)
    const { tap: id } = (await worker.ask(addressed.request, { asker: ear })) as { tap: string }
    ear.answered(id)
    return { tap: `${addressed.worker}/${id}` }
  }
  return {
    ask(request: ControlRequest, asker?: Asker): unknown {
      const { command } = request ?? {}
      if (command === 'status') return status(request)
      if (command === 'report') return report(request)
      if (command === 'suspend' || command === 'resume') return steer(request, command === 'suspend')
      if (command === 'tap') return tap(request, asker)
      if (command === 'untap') return untap(request, asker)
      const isKnown = typeof command === 'string' && (controlCommands as readonly string[]).includes(command)
      if (!isKnown) throw new Error(`unknown command ${JSON.stringify(command)}; known: ${controlCommands.join(', ')}`)
      if (command === 'limit') return all(request, supervisor.limit(request))
      const addressed = addressedTo(request)
      if (addressed === undefined) {
        if (command === 'kill' && typeof request.connection === 'string') throw new Error(notAddressed(request))
        return all(request, supervisor.askAll(requestForEach(request)))
      }
      return workerOf(addressed.worker)
        .ask(addressed.request)
        .then((result) => mergeAnswers(request, [{ worker: addressed.worker, result }]))
    },
  }
}

function notAddressed({ command, connection }: ControlRequest): string {
  return `${String(command)}: connection: expected WORKER/ID as \`gaidaros connections\` lists them, got ${JSON.stringify(connection)}`
}

/** While no worker serves. */
function nobody(supervisor: Supervisor): Status {
  const none = { bytesIn: 0, bytesOut: 0, messagesIn: 0, messagesOut: 0 }
  return {
    pid: process.pid,
    version,
    state: supervisor.state,
    uptimeMs: 0,
    connections: 0,
    listeners: supervisor.listeners.map(({ name, endpoints }) => ({
      name,
      endpoints,
      state: 'waiting',
      connections: 0,
      handshaking: 0,
      limit: 0,
      connectionsPerSource: 'unlimited',
      traffic: none,
      codec: '',
      handler: '',
      executor: '',
    })),
    executors: [],
    counters: {},
    memory: { residentBytes: 0, heapBytes: 0, externalBytes: 0 },
    limits: { serverConnections: 'unlimited', memoryBytes: 'unlimited' },
    alarms: [],
  }
}
