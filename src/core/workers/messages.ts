/**
 * What workers tell their supervisor, read with care: a worker runs the application, and may say anything.
 *
 * Room: core, mechanism. What is not one of these is dropped and counted; nothing a worker says makes the supervisor grow.
 */
import type { DrainCode } from '../connection.js'
import type { ListenerFigures } from '../control/figures.js'
import type { EndpointParts } from '../endpoint.js'
import { type DrainTimes, drainRows } from '../options.js'
import type { SocketKind } from '../transport.js'
import type { Want } from './holder.js'
import { misfitOfWorkers, type WorkersSetting } from './options.js'

/** What a worker is told first. */
export interface Init {
  readonly t: 'init'
  readonly slot: number
  readonly generation: number
  /** Of the command line. */
  readonly args: readonly string[]
  /** The configuration as the first worker of its generation has read it; undefined: read it. */
  readonly seed: unknown
  /** Of TLS, shared by all workers. */
  readonly ticketKeys: Uint8Array
}

/** A worker is told to end, and how. */
export interface DrainOrder {
  /** Those connected have to finish. */
  readonly timeoutMs: number
  /** Before that, they are served on; nobody new is let in. */
  readonly serveMs?: number
  readonly jitterMs?: number
  readonly code?: DrainCode
}

/** A worker has read its configuration and found its handlers; nothing is bound. */
export interface Planned {
  readonly wants: readonly Want[]
  readonly workers: WorkersSetting
  readonly drain: DrainTimes
  /** The longest that a handler may take for a message. */
  readonly handlerMs: number
  /** Which of the configuration's `plugins` have something that stands once, beside the supervisor. */
  readonly companions: readonly number[]
  /** The configuration, where it is data from end to end. */
  readonly seed: unknown
}

export interface Pong {
  readonly connections: number
  /** Of the heap's limit, 0 to 1. */
  readonly heapShare: number
  readonly counters: Readonly<Record<string, number>>
  readonly figures: readonly ListenerFigures[]
}

export type FromWorker =
  | ({ readonly t: 'planned' } & Planned)
  | { readonly t: 'ready'; readonly listeners: readonly ReadyListener[] }
  | { readonly t: 'failed'; readonly error: unknown }
  | ({ readonly t: 'pong' } & Pong)
  | { readonly t: 'full'; readonly listener: string; readonly isFull: boolean }
  | { readonly t: 'copy'; readonly id: number }
  | { readonly t: 'answer'; readonly id: number; readonly result: unknown; readonly error: string | undefined }
  | { readonly t: 'dying'; readonly error: unknown }
  /** With the last words of its observers. */
  | ({ readonly t: 'drained'; readonly reports: Readonly<Record<string, unknown>> } & Pong)
  | { readonly t: 'took'; readonly count: number }
  /** Of datagrams: whose sessions it has, by endpoint, when others take newcomers; and then which of them have ended. */
  | { readonly t: 'sessions'; readonly sessions: Readonly<Record<string, readonly string[]>> }
  | { readonly t: 'gone'; readonly k: string; readonly sessions: readonly string[] }
  /** For whoever asked over the control socket. */
  | { readonly t: 'told'; readonly asker: number; readonly line: Readonly<Record<string, unknown>> }
  | { readonly t: 'junk' }

export interface ReadyListener {
  readonly name: string
  readonly endpoints: readonly string[]
}

const kinds: readonly SocketKind[] = ['tcp', 'unix', 'udp', 'descriptor']
const MOST_WANTS = 1_024
const MOST_COUNTERS = 1_024
const MOST_BUCKETS = 1_024
const MOST_TAKEN = 65_536
const MOST_SESSIONS = 1_048_576

/** @returns undefined for what is none of these. */
export function readMessage(given: unknown): FromWorker | undefined {
  if (!isRecord(given)) return undefined
  const { t } = given
  switch (t) {
    case 'planned': {
      const { wants, workers, drain, handlerMs, companions, seed } = given
      if (!Array.isArray(wants) || wants.length > MOST_WANTS || !wants.every(isWant)) return undefined
      if (misfitOfWorkers(workers) !== undefined || !isDrain(drain) || !isCount(handlerMs)) return undefined
      if (!Array.isArray(companions) || companions.length > MOST_WANTS || !companions.every(isCount)) return undefined
      return { t, wants, workers: workers as WorkersSetting, drain, handlerMs, companions, seed }
    }
    case 'ready': {
      const { listeners } = given
      return Array.isArray(listeners) && listeners.length <= MOST_WANTS && listeners.every(isReadyListener)
        ? { t, listeners }
        : undefined
    }
    case 'failed':
    case 'dying':
      return { t, error: given.error }
    case 'pong':
    case 'drained': {
      const { connections, heapShare, counters, figures } = given
      if (!isCount(connections) || typeof heapShare !== 'number' || !isCounters(counters)) return undefined
      if (!Array.isArray(figures) || figures.length > MOST_WANTS || !figures.every(isFigures)) return undefined
      const pong = { connections, heapShare, counters, figures }
      return t === 'pong' ? { t, ...pong } : { t, ...pong, reports: isRecord(given.reports) ? given.reports : {} }
    }
    case 'told':
      return isCount(given.asker) && isRecord(given.line) ? { t, asker: given.asker, line: given.line } : undefined
    case 'full':
      return typeof given.listener === 'string' && typeof given.isFull === 'boolean'
        ? { t, listener: given.listener, isFull: given.isFull }
        : undefined
    case 'copy':
      return isCount(given.id) ? { t, id: given.id } : undefined
    case 'answer':
      return isCount(given.id) && (given.error === undefined || typeof given.error === 'string')
        ? { t, id: given.id, result: given.result, error: given.error }
        : undefined
    case 'took':
      return isCount(given.count) && given.count <= MOST_TAKEN ? { t, count: given.count } : undefined
    case 'sessions': {
      const { sessions } = given
      const isRight = isRecord(sessions) && Object.keys(sessions).length <= MOST_WANTS
      return isRight && Object.values(sessions).every(isSessions) ? { t, sessions: sessions as never } : undefined
    }
    case 'gone':
      return typeof given.k === 'string' && isSessions(given.sessions)
        ? { t, k: given.k, sessions: given.sessions }
        : undefined
    case 'junk':
      return { t }
    default:
      return undefined
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function isSessions(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.length <= MOST_SESSIONS && value.every((one) => typeof one === 'string')
}

function isDrain(value: unknown): value is DrainTimes {
  return isRecord(value) && Object.keys(drainRows).every((key) => isCount(value[key]))
}

function isCounters(value: unknown): value is Record<string, number> {
  if (!isRecord(value)) return false
  const entries = Object.values(value)
  return entries.length <= MOST_COUNTERS && entries.every((one) => typeof one === 'number')
}

function isFigures(value: unknown): value is ListenerFigures {
  if (!isRecord(value) || typeof value.name !== 'string' || !isRecord(value.traffic)) return false
  const { bytesIn, bytesOut, messagesIn, messagesOut } = value.traffic
  if (![bytesIn, bytesOut, messagesIn, messagesOut].every(isCount)) return false
  const { latency } = value
  if (latency === undefined) return true
  return (
    Array.isArray(latency) &&
    latency.length <= MOST_BUCKETS &&
    latency.every((one) => Array.isArray(one) && one.length === 2 && one.every(isCount))
  )
}

function isWant(value: unknown): value is Want {
  if (!isRecord(value)) return false
  const { key, listener, kind, endpoint, options, waits } = value
  return (
    typeof key === 'string' &&
    typeof listener === 'string' &&
    kinds.includes(kind as SocketKind) &&
    isEndpoint(endpoint) &&
    isRecord(options) &&
    typeof waits === 'boolean'
  )
}

function isEndpoint(value: unknown): value is EndpointParts {
  if (!isRecord(value)) return false
  const { scheme, host, port, path } = value
  const isText = (one: unknown) => one === undefined || typeof one === 'string'
  const isPort = port === undefined || (isCount(port) && port <= 65_535)
  return typeof scheme === 'string' && isText(host) && isText(path) && isPort
}

function isReadyListener(value: unknown): value is ReadyListener {
  return (
    isRecord(value) &&
    typeof value.name === 'string' &&
    Array.isArray(value.endpoints) &&
    value.endpoints.every((one) => typeof one === 'string')
  )
}
