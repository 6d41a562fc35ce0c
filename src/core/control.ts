/**
 * The control socket's other end: what steers a running server.
 *
 * Room: core, mechanism. JSON lines over a Unix socket of mode 0600: `{ id, command, ... }` is answered by
 * `{ id, ok: true, result }` or `{ id, ok: false, error }`. It is a Gaidaros handler like any other. Each command is a
 * function from server and request to plain data; `mergeAnswers` makes one answer of several processes' answers.
 */
import type { Connection } from './connection.js'
import { type Asker, type ControlRequest, countOf, listenersOf, sessionOf } from './control/ask.js'
import { type ConnectionPage, connectionsOf, connectionsRequestOf, mergeConnections } from './control/connections.js'
import type { ListenerFigures } from './control/figures.js'
import { type Killed, kill, mergeKilled } from './control/kill.js'
import { type Buckets, LatencyRecorder } from './control/latency.js'
import { setLimit } from './control/limit.js'
import { LoopWatch } from './control/loop.js'
import { Redaction } from './control/redact.js'
import { reportsOf } from './control/report.js'
import { mergeStatus, type Status, statusOf } from './control/status.js'
import { type TapLine, tap, tapDefaults, tapMost } from './control/tap.js'
import { defineHandler, type HandlerDefinition } from './handler.js'
import type { ListenerHandle, Server } from './lifecycle.js'
import { nearest } from './nearest.js'

export type { Asker, ControlRequest } from './control/ask.js'
export type { ConnectionFacts, ConnectionPage } from './control/connections.js'
export { type ListenerFigures, withFigures } from './control/figures.js'
export type { Killed } from './control/kill.js'
export type { LimitChange } from './control/limit.js'
export type { ObserverReport, Reports } from './control/report.js'
export { type ListenerStatus, memoryNow, type Status } from './control/status.js'
export type { TapLine } from './control/tap.js'

export const controlCommands = [
  'status',
  'connections',
  'kill',
  'limit',
  'tap',
  'untap',
  'report',
  'suspend',
  'resume',
  'drain',
  'reload',
  'stop',
] as const

/** Latencies and the loop's delay are measured for so long after somebody asked for them. */
const WATCH_MS = 15_000

export interface ControlOptions {
  /** Further keys whose values taps hide. */
  readonly redact?: readonly string[]
  /** Of several server processes: which this is. */
  readonly worker?: string
}

/** Answers requests about one server. */
export class Control {
  readonly #server: Server
  readonly #version: string
  readonly #worker: string | undefined
  readonly #began = performance.now()
  readonly #redaction: Redaction
  readonly #loop = new LoopWatch()
  readonly #recorders = new Map<ListenerHandle, LatencyRecorder>()
  readonly #taps = new WeakMap<Asker, Map<string, () => void>>()
  #unwatch: NodeJS.Timeout | undefined

  constructor(server: Server, version: string, { redact = [], worker }: ControlOptions = {}) {
    this.#server = server
    this.#version = version
    this.#redaction = new Redaction(redact)
    this.#worker = worker
  }

  /**
   * @returns plain data.
   * @throws {Error} whose message is the answer.
   */
  ask(request: ControlRequest, asker?: Asker): unknown {
    const server = this.#server
    switch (request?.command) {
      case 'status':
        return this.#status(request)
      case 'connections':
        return connectionsOf(server, { ...request, worker: this.#worker })
      case 'kill':
        return kill(server, { ...request, worker: this.#worker })
      case 'limit':
        return setLimit(server, request)
      case 'tap':
        return this.#tap(request, asker)
      case 'untap':
        return this.#untap(request, asker)
      case 'report':
        return reportsOf(server, request)
      case 'suspend':
        return listenersOf(server, request.listener).map((listener) => (listener.suspend(), listener.name))
      case 'resume':
        return listenersOf(server, request.listener).map((listener) => (listener.resume(), listener.name))
      case 'drain':
      case 'stop':
        return end(server, request)
      case 'reload':
        return reloadCertificates(server)
      default:
        throw new Error(unknown(request?.command))
    }
  }

  /** What each listener has carried: the part of `status` that is asked for with each sign of life. */
  get figures(): readonly ListenerFigures[] {
    return [...this.#server.listeners].map((listener) => {
      const latency = this.#recorders.get(listener)?.buckets
      return { name: listener.name, traffic: listener.traffic, ...(latency && { latency }) }
    })
  }

  /** With `watch: true` it measures latencies and the loop's delay for a while. */
  #status(request: ControlRequest): Status {
    if (request.watch === true) this.#watch()
    const isWatching = this.#unwatch !== undefined
    return statusOf(this.#server, {
      version: this.#version,
      uptimeMs: performance.now() - this.#began,
      loop: isWatching ? this.#loop.read() : undefined,
      latencyOf: (listener): Buckets | undefined => this.#recorders.get(listener)?.buckets,
    })
  }

  #watch(): void {
    clearTimeout(this.#unwatch)
    this.#unwatch = setTimeout(() => this.close(), WATCH_MS)
    this.#unwatch.unref()
    for (const listener of this.#server.listeners) {
      if (this.#recorders.has(listener)) continue
      const recorder = new LatencyRecorder()
      this.#recorders.set(listener, recorder)
      listener.measure?.(recorder)
    }
  }

  /** Measures nothing any more. */
  close(): void {
    clearTimeout(this.#unwatch)
    this.#unwatch = undefined
    this.#loop.stop()
    for (const listener of this.#recorders.keys()) listener.measure?.(undefined)
    this.#recorders.clear()
  }

  #tap(request: ControlRequest, asker: Asker | undefined): { readonly tap: string } {
    if (asker === undefined) throw new Error('tap: needs a connection over which messages can be told')
    const session = sessionOf(this.#server, request.connection)
    const taps = this.#taps.get(asker) ?? new Map<string, () => void>()
    this.#taps.set(asker, taps)
    taps.get(session.id)?.()
    const end = tap(session, {
      redaction: this.#redaction,
      rate: countOf(request, 'rate', { least: 1, most: tapMost.rate }) ?? tapDefaults.rate,
      characters: countOf(request, 'characters', { least: 16, most: tapMost.characters }) ?? tapDefaults.characters,
      tell: (line: TapLine) => asker.tell(line),
      ended: () => taps.delete(session.id),
    })
    taps.set(session.id, end)
    const over = () => end()
    asker.closed.then(over, over)
    return { tap: session.id }
  }

  #untap(request: ControlRequest, asker: Asker | undefined): { readonly untapped: number } {
    const taps = (asker && this.#taps.get(asker)) ?? new Map<string, () => void>()
    const chosen = [...taps].filter(([id]) => request.connection === undefined || request.connection === id)
    for (const [id, end] of chosen) {
      end()
      taps.delete(id)
    }
    return { untapped: chosen.length }
  }
}

/** `{ id, ok, result }`, or `{ id, ok, error }`, now or later: never throws. */
export function answerOf(
  control: Pick<Control, 'ask'>,
  request: ControlRequest,
  asker?: Asker,
): object | Promise<object> {
  const id = request?.id ?? null
  const failed = (error: unknown) => {
    const { message, code } = error as { readonly message: string; readonly code?: unknown }
    return { id, ok: false, error: message, ...(typeof code === 'string' ? { code } : {}) }
  }
  try {
    const result = control.ask(request, asker)
    if (!(result instanceof Promise)) return { id, ok: true, result }
    return result.then((settled) => ({ id, ok: true, result: settled }), failed)
  } catch (error) {
    return failed(error)
  }
}

/** Of a server that is in a program's own hands, the configuration is too. */
async function reloadCertificates(server: Server): Promise<{ readonly certificates: readonly string[] }> {
  const certificates: string[] = []
  for (const listener of server.listeners) if (await listener.reload()) certificates.push(listener.name)
  return { certificates }
}

export function controlHandler(server: Server, version: string, options: ControlOptions = {}): HandlerDefinition {
  return handlerOf(new Control(server, version, options))
}

/** Serves whatever answers requests: one server, or a supervisor that asks several. */
export function handlerOf(control: Pick<Control, 'ask'>): HandlerDefinition {
  const askers = new WeakMap<Connection, Asker>()
  const askerOf = (connection: Connection): Asker => {
    const asker = askers.get(connection) ?? toAsker(connection)
    askers.set(connection, asker)
    return asker
  }
  return defineHandler({
    name: 'control',
    codec: 'json-lines',
    message: (given: ControlRequest, connection: Connection) =>
      answerOf(
        control,
        given,
        given?.command === 'tap' || given?.command === 'untap' ? askerOf(connection) : undefined,
      ),
  })
}

/** Lines on their way to one asker; whoever reads slower misses some, and is told how many. */
const MOST_UNREAD = 256

function toAsker(connection: Connection): Asker {
  let unread = 0
  const read = () => {
    unread--
  }
  return {
    tell(line) {
      if (unread >= MOST_UNREAD) return false
      unread++
      connection.send(line).then(read, read)
      return true
    },
    closed: connection.closed,
  }
}

/**
 * One answer of several processes' answers to one request.
 *
 * @param parts - What each worker has answered, by the worker's name; ids of connections become `worker/id`.
 */
export function mergeAnswers(
  request: ControlRequest,
  parts: readonly { readonly worker: string; readonly result: unknown }[],
): unknown {
  switch (request.command) {
    case 'status':
      return mergeStatus(parts as { worker: string; result: Status }[])
    case 'connections':
      return mergeConnections(parts as { worker: string; result: ConnectionPage }[], request)
    case 'kill':
      return mergeKilled(parts as { worker: string; result: Killed }[])
    case 'limit':
      return parts.flatMap(({ worker, result }) => (result as object[]).map((one) => ({ worker, ...one })))
    default:
      return parts[0]?.result
  }
}

/** What each worker is asked for one request to all of them. */
export function requestForEach(request: ControlRequest): ControlRequest {
  return request.command === 'connections' ? connectionsRequestOf(request) : request
}

/** `worker/id` as the worker and what it is asked; undefined for a request to all of them. */
export function addressedTo(request: ControlRequest): { worker: string; request: ControlRequest } | undefined {
  const { connection } = request
  const slash = typeof connection === 'string' ? connection.indexOf('/') : -1
  if (typeof connection !== 'string' || slash < 0) return undefined
  return { worker: connection.slice(0, slash), request: { ...request, connection: connection.slice(slash + 1) } }
}

function end(server: Server, request: ControlRequest): { state: string } {
  return endBy(request, (options) => server.stop(options))
}

/** `drain` and `stop`, whoever it is that stops. @throws {Error} */
export function endBy(
  { timeoutMs }: ControlRequest,
  stop: (options: { readonly timeoutMs?: number }) => Promise<void>,
): { state: string } {
  if (timeoutMs !== undefined && !(Number.isInteger(timeoutMs) && (timeoutMs as number) >= 0)) {
    throw new Error(`timeoutMs: expected milliseconds, got ${JSON.stringify(timeoutMs)}`)
  }
  // After the answer has left.
  setImmediate(() => void stop(timeoutMs === undefined ? {} : { timeoutMs: timeoutMs as number }))
  return { state: 'draining' }
}

function unknown(command: unknown): string {
  const near = typeof command === 'string' ? nearest(command, controlCommands) : undefined
  return `unknown command ${JSON.stringify(command)}${near ? `; nearest: \`${near}\`` : ''}; known: ${controlCommands.join(', ')}`
}
