/**
 * `status`: what a server is at, as plain data.
 *
 * Room: core, mechanism of the control socket. Pure but for reading: a supervisor asks each of its workers and adds up with
 * `mergeStatus`.
 */
import type { KeptFacts } from '../account.js'
import type { Load, PlaceLoad } from '../executor.js'
import type { ListenerHandle, Server } from '../lifecycle.js'
import { processMemory } from '../usage.js'
import { addFigure, type TrafficFacts } from './figures.js'
import type { Buckets } from './latency.js'
import type { LoopFacts } from './loop.js'

export interface ListenerStatus {
  readonly name: string
  readonly endpoints: readonly string[]
  readonly state: string
  readonly connections: number
  /** Accepted, and no connection yet: in a TLS handshake, a WebSocket upgrade or before a PROXY header. The limit counts them. */
  readonly handshaking: number
  /** Connections at a time. */
  readonly limit: number | 'unlimited'
  readonly connectionsPerSource: number | 'unlimited'
  /** Since its start, over connections that are gone too. */
  readonly traffic: TrafficFacts
  readonly codec: string
  readonly handler: string
  readonly executor: string
  /** How long messages took since somebody watches; see `core/control/latency`. Missing while nobody does. */
  readonly latency?: Buckets
}

export interface ExecutorStatus {
  readonly name: string
  readonly listeners: readonly string[]
  readonly running: number
  readonly queued: number
  readonly places: readonly PlaceLoad[]
  /** Of what came from other machines: what meant nothing. */
  readonly dropped?: number
  /** False: what leads to other machines is down. */
  readonly isConnected?: boolean
}

/** An account of a plugin (`mqtt.retained`), and of which worker where there are several. */
export interface KeptStatus extends KeptFacts {
  readonly worker?: string
}

/** What `status` answers. */
export interface Status {
  readonly pid: number
  readonly version: string
  readonly state: string
  readonly uptimeMs: number
  readonly connections: number
  readonly listeners: readonly ListenerStatus[]
  readonly executors: readonly ExecutorStatus[]
  readonly counters: Readonly<Record<string, number>>
  readonly memory: {
    readonly residentBytes: number
    readonly heapBytes: number
    /** Buffers and what else lies outside of the heap. */
    readonly externalBytes: number
  }
  /** Limits that all listeners share. */
  readonly limits: { readonly serverConnections: number | 'unlimited'; readonly memoryBytes: number | 'unlimited' }
  /** What an operator should see to. */
  readonly alarms: readonly AlarmStatus[]
  /** What plugins keep beside the connections, in bytes. */
  readonly kept: readonly KeptStatus[]
  /** Delay of the event loop while somebody watches. */
  readonly loop?: LoopFacts
  /** The server processes behind a supervisor; missing where the server is one process. */
  readonly workers?: readonly WorkerStatus[]
  /** Of a node of a cluster: it has no listeners, and its connections are those of servers elsewhere. */
  readonly node?: NodeStatus
}

export interface NodeStatus {
  readonly cluster: string
  readonly instance: string
  /** Servers that have connections here. */
  readonly servers: number
  /** Messages and hooks under way. */
  readonly running: number
  /** Those that are done. */
  readonly handled: number
  /** Of what came over NATS: what meant nothing. */
  readonly dropped: number
  /** False: NATS is away. */
  readonly isConnected: boolean
}

export interface AlarmStatus {
  readonly alarm: string
  /** Missing: the whole server's. */
  readonly listener?: string
  /** Of several server processes: whose. */
  readonly worker?: string
  readonly since: string
  readonly value: number
  readonly limit: number
}

export interface WorkerStatus {
  readonly name: string
  readonly pid: number
  readonly state: string
  readonly uptimeMs: number
  readonly connections: number
  readonly residentBytes: number
  /** It has not answered in time: its counters are missing from the sums, and its own numbers are the last that are known. */
  readonly isSilent?: true
  /** Counts starts and reloads of all workers together. */
  readonly generation?: number
}

export interface StatusFacts {
  readonly version: string
  readonly uptimeMs: number
  readonly loop?: LoopFacts | undefined
  /** What is known of a listener's latencies. */
  latencyOf?(listener: ListenerHandle): Buckets | undefined
}

export function statusOf(server: Server, { version, uptimeMs, loop, latencyOf }: StatusFacts): Status {
  return {
    pid: process.pid,
    version,
    state: server.state,
    uptimeMs: Math.round(uptimeMs),
    connections: server.connections.size,
    listeners: [...server.listeners].map((listener) => {
      const { name, endpoints, state, connections, handshaking, limits, traffic, plan } = listener
      const latency = latencyOf?.(listener)
      return {
        name,
        endpoints: endpoints.map(String),
        state,
        connections,
        handshaking,
        limit: shown(limits.connections),
        connectionsPerSource: shown(limits.connectionsPerSource),
        traffic,
        codec: plan.chosen.codec,
        handler: plan.handler.definition.name,
        executor: plan.chosen.executor,
        ...(latency && { latency }),
      }
    }),
    executors: executorsOf(server),
    counters: { ...server.counters },
    memory: memoryNow(),
    limits: {
      serverConnections: shown(server.limits.serverConnections),
      memoryBytes: shown(server.limits.memoryBytes),
    },
    alarms: server.alarms.map(({ alarm, listener, since, value, limit }) => ({
      alarm,
      ...(listener !== undefined && { listener }),
      since: since.toISOString(),
      value,
      limit,
    })),
    kept: server.kept,
    ...(loop && { loop }),
  }
}

function executorsOf(server: Server): ExecutorStatus[] {
  const listenersOf = new Map<{ readonly name: string; load(): Load }, string[]>()
  for (const { name, plan } of server.listeners) {
    for (const executor of plan.executors) listenersOf.set(executor, [...(listenersOf.get(executor) ?? []), name])
  }
  return [...listenersOf].map(([executor, listeners]) => executorStatus(executor, listeners))
}

export function executorStatus(executor: { readonly name: string; load(): Load }, listeners: string[]): ExecutorStatus {
  const { places = [], ...load } = executor.load()
  return { name: executor.name, listeners, ...load, places }
}

/** Of this process. */
export function memoryNow(): Status['memory'] {
  const { rss, heapUsed, external } = processMemory()
  return { residentBytes: rss, heapBytes: heapUsed, externalBytes: external }
}

/** Numbers add up, places and connections keep apart. @param parts - By the worker's name. */
export function mergeStatus(parts: readonly { readonly worker: string; readonly result: Status }[]): Status {
  const all = parts.map(({ result }) => result)
  const [first] = all
  if (first === undefined) throw new Error('no worker has answered')
  const listeners = new Map<string, ListenerStatus>()
  for (const one of all.flatMap((status) => status.listeners)) {
    const before = listeners.get(one.name)
    listeners.set(one.name, before === undefined ? one : addListeners(before, one))
  }
  const loops = all.flatMap(({ loop }) => loop ?? [])
  return {
    ...first,
    pid: process.pid,
    uptimeMs: Math.max(...all.map(({ uptimeMs }) => uptimeMs)),
    connections: sum(all, ({ connections }) => connections),
    listeners: [...listeners.values()],
    executors: parts.flatMap(({ worker, result }) =>
      result.executors.map((executor) => ({
        ...executor,
        places: executor.places.map((place) => ({ ...place, name: `${worker}/${place.name}` })),
      })),
    ),
    counters: addCounters(all.map(({ counters }) => counters)),
    memory: {
      residentBytes: sum(all, ({ memory }) => memory.residentBytes),
      heapBytes: sum(all, ({ memory }) => memory.heapBytes),
      externalBytes: sum(all, ({ memory }) => memory.externalBytes),
    },
    alarms: parts.flatMap(({ worker, result }) => result.alarms.map((alarm) => ({ ...alarm, worker }))),
    kept: parts.flatMap(({ worker, result }) => result.kept.map((kept) => ({ ...kept, worker }))),
    ...(loops.length > 0 && {
      loop: {
        p50Ms: Math.max(...loops.map(({ p50Ms }) => p50Ms)),
        p99Ms: Math.max(...loops.map(({ p99Ms }) => p99Ms)),
        maxMs: Math.max(...loops.map(({ maxMs }) => maxMs)),
      },
    }),
    workers: parts.map(({ worker, result: { pid, state, uptimeMs, connections, memory } }) => ({
      name: worker,
      pid,
      state,
      uptimeMs,
      connections,
      residentBytes: memory.residentBytes,
    })),
  }
}

function addListeners(a: ListenerStatus, b: ListenerStatus): ListenerStatus {
  return {
    ...a,
    ...addFigure(a, b),
    state: a.state === b.state ? a.state : 'mixed',
    connections: a.connections + b.connections,
    handshaking: a.handshaking + b.handshaking,
    limit: a.limit === 'unlimited' || b.limit === 'unlimited' ? 'unlimited' : a.limit + b.limit,
  }
}

function addCounters(all: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const total: Record<string, number> = {}
  for (const [name, count] of all.flatMap(Object.entries)) total[name] = (total[name] ?? 0) + (count as number)
  return total
}

function sum<T>(all: readonly T[], number: (one: T) => number): number {
  return all.reduce((total, one) => total + number(one), 0)
}

function shown(limit: number): number | 'unlimited' {
  return Number.isFinite(limit) ? limit : 'unlimited'
}
