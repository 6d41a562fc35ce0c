/**
 * The supervisor of several server processes: one generation of workers at a time, replaced one by one when they fail and all
 * together when they are reloaded.
 *
 * Room: core, mechanism. It runs no handler and reads no configuration: its first worker does that and says what it needs. Sockets
 * and processes come through the constructor.
 */
import type { Clock } from '../clock.js'
import type { ControlRequest } from '../control/ask.js'
import { addFigures, type ListenerFigures } from '../control/figures.js'
import type { ObserverReport } from '../control/report.js'
import { ShutdownError, toError, WiringError, WorkerError } from '../errors.js'
import type { EventHub } from '../events.js'
import type { StopOptions } from '../lifecycle.js'
import { type Answers, askAll, askObservers, Departed, processOf } from './asking.js'
import type { HeldSet, SocketHolder } from './holder.js'
import type { Init, Planned, ReadyListener } from './messages.js'
import { type SettledWorkers, settleWorkers } from './options.js'
import { Restarts } from './restarts.js'
import { type AskOptions, type Spawn, Worker, type WorkerEnd, type WorkerOwner } from './worker.js'

export type SupervisorState = 'created' | 'starting' | 'ready' | 'draining' | 'stopped'

export interface SupervisorParts {
  readonly spawn: Spawn
  /** So many processes more will be wanted soon: they may begin to load what all of them need. */
  warm(count: number): void
  readonly holder: SocketHolder
  readonly clock: Clock
  readonly events: EventHub
  readonly counters: Record<string, number>
  readonly args: readonly string[]
  /** To a server that is ready already: its own way there is no news. */
  readonly isSuccessor: boolean
  /** Shared by all workers; the bytes are replaced when they rotate. */
  readonly ticketKeys: () => Uint8Array
  /** Proves that a worker takes connections of each listener. @throws when it does not. */
  probe(worker: Worker, planned: Planned): Promise<void>
}

/** One configuration, and the workers that serve it. */
interface Generation {
  readonly number: number
  readonly planned: Planned
  readonly workers: SettledWorkers
  readonly set: HeldSet
}

export type { Answers }

/** After a switch: time for a connection to say one more thing and be answered, before it is ended. */
const PATIENCE_MS = 2_000
/** Ticks missed by ourselves say nothing about workers. */
const LATE = 2

export class Supervisor implements WorkerOwner {
  readonly clock: Clock
  readonly stopped: Promise<void>
  readonly #parts: SupervisorParts
  readonly #restarts: Restarts
  #state: SupervisorState = 'created'
  #current: Generation | undefined
  /** All that live, those that drain or are not ready yet too. */
  readonly #workers = new Set<Worker>()
  /** Of the present generation, by slot. */
  readonly #seated = new Map<number, Worker>()
  readonly #suspended = new Set<string>()
  /** Limits that were set while it ran, by their path. */
  readonly #limits = new Map<string, ControlRequest>()
  /** Those that are to take a place of the present generation, by slot: one at a time. */
  readonly #filling = new Map<number, Worker>()
  readonly #departed: Departed
  /** What those carried that have ended, of listeners that there still are. */
  #past: readonly ListenerFigures[] = []
  #generations = 0
  #reloading: Promise<void> | undefined
  #stopping: Promise<void> | undefined
  #resolveStopped: () => void = () => {}
  #cancelTick = () => {}
  #tickedAt = 0
  #cutAt: ((timeoutMs: number) => void) | undefined

  constructor(parts: SupervisorParts) {
    this.#parts = parts
    this.clock = parts.clock
    this.#departed = new Departed(parts.clock)
    this.#restarts = new Restarts({
      clock: parts.clock,
      start: (slot) => this.#replace(slot),
      crashing: (worker, delayMs) => {
        this.count('workers.crash-loop')
        parts.events.emit('workers.crashing', { worker, delayMs })
      },
    })
    this.stopped = new Promise((resolve) => {
      this.#resolveStopped = resolve
    })
  }

  get state(): SupervisorState {
    return this.#state
  }
  /** Workers start and end without having served. */
  get isCrashing(): boolean {
    return this.#restarts.isCrashing
  }
  get workers(): readonly Worker[] {
    return [...this.#workers].sort((a, b) => a.generation - b.generation || a.slot - b.slot)
  }
  /** What the present generation serves. */
  get listeners(): readonly ReadyListener[] {
    return [...this.#seated.values()][0]?.listeners ?? this.#listeners
  }
  #listeners: readonly ReadyListener[] = []

  /** What the present generation has read. */
  get planned(): Planned | undefined {
    return this.#current?.planned
  }
  /** How many workers shall serve. */
  get expected(): number {
    return this.#current?.workers.count ?? 0
  }

  get drainMs(): number {
    return this.#current?.planned.drainMs ?? 0
  }

  // -- start ---------------------------------------------------------------------------------------------------------

  /**
   * @param count - Of workers, as far as is known; the first one says what is meant.
   * @throws what the first worker met: nothing stays bound, no process is left.
   */
  async start(count = 1): Promise<void> {
    if (this.#state !== 'created') throw new WiringError('BAD_STATE', `start() of a supervisor that is ${this.#state}`)
    this.#enter('starting')
    try {
      this.#install(await this.#raise(count))
    } catch (error) {
      if (this.#stopping === undefined) {
        this.#parts.holder.keepOnly(undefined)
        this.#enter('stopped')
        this.#resolveStopped()
      }
      throw error
    }
    this.#enter('ready')
    this.#tick()
  }

  /** A whole new generation, proved ready and not serving yet; or none of it. */
  async #raise(count: number): Promise<{ generation: Generation; workers: readonly Worker[] }> {
    const number = ++this.#generations
    const raised: Worker[] = []
    try {
      const first = this.#launch(0, number, undefined)
      raised.push(first)
      this.#parts.warm(this.#current === undefined ? count - 1 : Math.min(count - 1, 1))
      const planned = await first.planned
      const workers = settleWorkers(planned.workers) ?? (settleWorkers({ count: 1 }) as SettledWorkers)
      first.expire(workers.readyMs)
      const set = await this.#parts.holder.bind(planned.wants, workers.balance, workers.count, first)
      const generation = { number, planned, workers, set }
      await this.#prove(first, generation)
      // At first there is nothing to keep alive meanwhile: all at once. Later one after another, so that they do not take the
      // processors from those that serve.
      const rest = Array.from({ length: workers.count - 1 }, (_, i) => i + 1)
      const launch = async (slot: number) => {
        const worker = this.#launch(slot, number, planned.seed)
        raised.push(worker)
        await this.#prepare(worker, generation)
      }
      if (this.#current === undefined) await all(rest.map(launch))
      else {
        for (const slot of rest) {
          if (slot < workers.count - 1) this.#parts.warm(1)
          await launch(slot)
        }
      }
      this.#refuseWhileStopping()
      return { generation, workers: raised }
    } catch (thrown) {
      this.#parts.warm(0)
      for (const worker of raised) worker.end('rolled back')
      await Promise.all(raised.map((worker) => worker.ended))
      // What was bound for it is undone.
      if (this.#current !== undefined) this.#parts.holder.keepOnly(this.#current.set)
      throw thrown
    }
  }

  #launch(slot: number, generation: number, seed: unknown): Worker {
    this.#refuseWhileStopping()
    const { spawn, args, ticketKeys, events } = this.#parts
    const init: Init = { t: 'init', slot, generation, args, seed, ticketKeys: ticketKeys() }
    const worker = new Worker(spawn, init, this)
    this.#workers.add(worker)
    worker.expire(this.#current?.workers.readyMs ?? FIRST_READY_MS)
    events.emit('worker.started', { worker: slot, pid: worker.pid, generation })
    return worker
  }

  /** A worker after the first of its generation. */
  async #prepare(worker: Worker, generation: Generation): Promise<void> {
    worker.expire(generation.workers.readyMs)
    const planned = await worker.planned
    if (keysOf(planned) !== keysOf(generation.planned)) {
      const message = `worker ${worker.slot} found other listeners in the configuration than the rest: it was changed meanwhile; reload`
      throw new WorkerError('DIFFERS', message)
    }
    await this.#prove(worker, generation)
  }

  async #prove(worker: Worker, { set, planned }: Generation): Promise<void> {
    await worker.start(set)
    await this.#parts.probe(worker, planned)
    worker.settle()
  }

  /** From now on these workers get what comes, and those of before are ended in order. */
  #install({ generation, workers }: { generation: Generation; workers: readonly Worker[] }): void {
    const before = [...this.#seated.values()]
    const { holder } = this.#parts
    this.#parts.warm(0)
    this.#current = generation
    this.#limits.clear()
    this.#seated.clear()
    for (const worker of before) holder.unseat(worker)
    // One that has been proved may have said since that it will end.
    for (const worker of workers) if (worker.state === 'ready') this.#seat(worker, generation)
    for (const worker of before) worker.drain(generation.planned.drainMs, PATIENCE_MS)
    holder.keepOnly(generation.set)
    this.#restarts.cancel()
    for (let slot = 0; slot < generation.workers.count; slot++) if (!this.#seated.has(slot)) this.#replace(slot)
  }

  #seat(worker: Worker, { set }: Generation): void {
    this.#seated.set(worker.slot, worker)
    this.#restarts.served()
    this.#listeners = worker.listeners
    for (const listener of this.#suspended) worker.ask({ command: 'suspend', listener }).catch(() => {})
    for (const request of this.#limits.values()) worker.ask(request).catch(() => {})
    set.seat(worker)
    const { slot, pid, generation } = worker
    const afterMs = Math.round(this.clock.now() - worker.since)
    this.#parts.events.emit('worker.ready', { worker: slot, pid, generation, afterMs })
  }

  // -- replacing -----------------------------------------------------------------------------------------------------

  #replace(slot: number): void {
    this.#refill(slot).catch(() => {
      // Told as worker.ended, which also sees to the next attempt.
    })
  }

  async #refill(slot: number): Promise<void> {
    const generation = this.#current
    if (generation === undefined || this.#stopping !== undefined || this.#seated.has(slot)) return
    if (slot >= generation.workers.count || this.#filling.get(slot)?.generation === generation.number) return
    const worker = this.#launch(slot, generation.number, generation.planned.seed)
    this.#filling.set(slot, worker)
    try {
      await this.#prepare(worker, generation)
    } catch (thrown) {
      worker.end('never ready', toError(thrown))
      throw thrown
    }
    if (this.#filling.get(slot) === worker) this.#filling.delete(slot)
    if (this.#current === generation && this.#stopping === undefined && !this.#seated.has(slot))
      this.#seat(worker, generation)
    else worker.drain(0, 0)
  }

  count(name: string, by = 1): void {
    const { counters } = this.#parts
    counters[name] = (counters[name] ?? 0) + by
  }

  changed(): void {
    this.#parts.holder.changed()
  }

  /** It is about to end by itself, in order. If it serves, another one takes its place already. */
  leaving(worker: Worker): void {
    const { slot } = worker
    const wasSeated = this.#seated.get(slot) === worker
    this.#parts.holder.unseat(worker)
    if (wasSeated) this.#seated.delete(slot)
    worker.drain(this.drainMs, 0)
    if (wasSeated) this.#startAgain(slot, true, true)
  }

  ended(worker: Worker, end: WorkerEnd): void {
    this.#workers.delete(worker)
    if (this.#filling.get(worker.slot) === worker) this.#filling.delete(worker.slot)
    const { holder, events, counters } = this.#parts
    holder.unseat(worker)
    for (const [name, count] of Object.entries(worker.last.counters)) counters[name] = (counters[name] ?? 0) + count
    const isListed = new Set(this.listeners.map(({ name }) => name))
    this.#past = addFigures([this.#past, worker.last.figures]).filter(({ name }) => isListed.has(name))
    const { slot, pid, generation } = worker
    if (end.wasReady) this.remember(processOf(worker), `${slot}`, worker.reports)
    const { status, signal, reason } = end
    // At the start whoever called it is told, by its throw.
    const error = this.#current === undefined ? undefined : end.error
    const isExpected = reason === 'drained' || reason === 'rolled back'
    if (!isExpected) this.count('workers.lost')
    const connections = isExpected ? 0 : worker.last.connections
    events.emit('worker.ended', { worker: slot, pid, generation, reason, status, signal, connections, error })
    if (this.#seated.get(slot) === worker) {
      this.#seated.delete(slot)
      this.#startAgain(slot, !end.isFromOutside, end.wasReady)
    } else if (generation === this.#current?.number && !isExpected && !end.wasReady) this.#startAgain(slot, true, false)
  }

  #startAgain(slot: number, isFault: boolean, wasReady: boolean): void {
    if (this.#stopping !== undefined || this.#current === undefined) return
    this.#restarts.again(slot, isFault, wasReady)
  }

  // -- watching ------------------------------------------------------------------------------------------------------

  #tick(): void {
    const { heartbeatMs, stuckMs } = (this.#current as Generation).workers
    const now = this.clock.now()
    const isLate = this.#tickedAt > 0 && now - this.#tickedAt > heartbeatMs * LATE + 500
    this.#tickedAt = now
    for (const worker of this.#workers) {
      if (worker.state !== 'ready') continue
      if (!isLate && worker.silentMs > stuckMs) {
        const message = `worker ${worker.slot} (process ${worker.pid}) gave no sign of life for ${Math.round(worker.silentMs)} ms (workers.stuckMs)`
        worker.end('stuck', new WorkerError('ENDED', message))
      } else worker.ping()
    }
    if (this.#seated.size === this.#current?.workers.count && this.#restarts.isOver())
      this.#parts.events.emit('workers.recovered', { workers: this.#seated.size })
    this.#cancelTick = this.clock.after(heartbeatMs, () => this.#tick())
  }

  // -- reload --------------------------------------------------------------------------------------------------------

  /**
   * Serves the configuration and handlers as they are now, without a moment in which nobody does.
   *
   * @throws what is wrong with them; everything stays as it was.
   */
  reload(): Promise<void> {
    // One that begins while another is under way may have come too late for it: it follows.
    const after = this.#reloading?.catch(() => {}) ?? Promise.resolve()
    const reloading = after.then(() => this.#reload())
    this.#reloading = reloading
    const clear = () => {
      if (this.#reloading === reloading) this.#reloading = undefined
    }
    reloading.then(clear, clear)
    return reloading
  }

  async #reload(): Promise<void> {
    if (this.#state !== 'ready') throw new WiringError('BAD_STATE', `reload of a server that is ${this.#state}`)
    const { events } = this.#parts
    const began = this.clock.now()
    events.emit('reload.started', { generation: this.#generations + 1 })
    try {
      const raised = await this.#raise(this.#current?.workers.count ?? 1)
      this.#install(raised)
      this.count('reloads')
      const durationMs = Math.round(this.clock.now() - began)
      events.emit('reload.finished', {
        generation: raised.generation.number,
        workers: raised.workers.length,
        durationMs,
      })
    } catch (thrown) {
      const error = toError(thrown)
      this.count('reloads.failed')
      events.emit('reload.failed', { error })
      throw error
    }
  }

  // -- steering ------------------------------------------------------------------------------------------------------

  /** Asks every worker that has begun to serve, those that drain too. Whoever does not answer in time is `silent`. */
  askAll(request: ControlRequest, options: AskOptions = {}): Promise<Answers> {
    return askAll(this.workers, request, options)
  }

  /** What observers of that name know: of every worker that lives, and for a minute of those that have ended. */
  async report(observer: string): Promise<readonly ObserverReport[]> {
    const living = await askObservers(this.workers, observer)
    return [...living, ...this.#departed.reports(observer)]
  }

  /** What all workers have carried, by listener: those that have ended too, and those that are silent as they said it last. */
  get figures(): readonly ListenerFigures[] {
    return addFigures([...this.workers.map(({ last }) => last.figures), this.#past])
  }

  /** Of a process that has served and serves no more. */
  remember(process: string, worker: string, reports: Readonly<Record<string, unknown>>): void {
    this.#departed.add(process, worker, reports)
  }

  /** As all workers are told now, and those that take their places; until a reload, which reads what is configured. */
  async limit(request: ControlRequest): Promise<Answers> {
    const answers = await this.askAll(request)
    this.#limits.set(String(request.path), request)
    return answers
  }

  async suspend(listener: string, isSuspended: boolean): Promise<void> {
    if (isSuspended) this.#suspended.add(listener)
    else this.#suspended.delete(listener)
    this.#parts.holder.suspend(listener, isSuspended)
    await this.askAll({ command: isSuspended ? 'suspend' : 'resume', listener })
  }

  /** New keys for TLS tickets. */
  rotateTickets(): void {
    for (const worker of this.#workers) worker.send({ t: 'tickets', keys: this.#parts.ticketKeys() })
  }

  // -- stop ----------------------------------------------------------------------------------------------------------

  /** Drains all workers; a second call with a shorter time shortens it. */
  stop({ timeoutMs = this.drainMs, patienceMs = 0 }: StopOptions = {}): Promise<void> {
    if (this.#stopping === undefined) this.#stopping = this.#stop(timeoutMs, patienceMs)
    else this.#cutAt?.(timeoutMs)
    return this.#stopping
  }

  async #stop(timeoutMs: number, patienceMs: number): Promise<void> {
    if (this.#state === 'stopped') return
    const { holder, events } = this.#parts
    const wasReady = this.#state === 'ready'
    const began = this.clock.now()
    this.#enter('draining')
    this.#restarts.cancel()
    this.#cancelTick()
    const connections = [...this.#workers].reduce((sum, { last }) => sum + last.connections, 0)
    if (wasReady) events.emit('drain.started', { deadline: new Date(Date.now() + timeoutMs), connections })
    // Those that have not begun to serve never will.
    const seated = new Set(this.#seated.values())
    for (const worker of this.#workers) {
      if (!seated.has(worker) && worker.state !== 'draining') worker.end('rolled back')
    }
    await holder.finish()
    const before = this.#parts.counters['drain.forced'] ?? 0
    let isCut = timeoutMs
    this.#cutAt = (sooner) => {
      if (sooner >= isCut) return
      isCut = sooner
      for (const worker of this.#workers) worker.drain(sooner, 0)
    }
    for (const worker of [...this.#workers]) {
      holder.unseat(worker)
      worker.drain(timeoutMs, patienceMs)
    }
    holder.keepOnly(undefined)
    await Promise.all([...this.#workers].map((worker) => worker.ended))
    const forced = (this.#parts.counters['drain.forced'] ?? 0) - before
    if (wasReady) events.emit('drain.finished', { forced, durationMs: Math.round(this.clock.now() - began) })
    this.#enter('stopped')
    this.#resolveStopped()
  }

  /** At once, whatever they do. */
  kill(): void {
    for (const worker of this.#workers) worker.end('killed')
  }

  #refuseWhileStopping(): void {
    if (this.#stopping !== undefined) throw new ShutdownError('SHUTDOWN', 'the server was stopped meanwhile')
  }

  #enter(state: SupervisorState): void {
    const from = this.#state
    this.#state = state
    if (this.#parts.isSuccessor && this.#current === undefined) return
    if (this.#parts.isSuccessor && state === 'ready') return
    this.#parts.events.emit('server.state', { from, to: state })
  }
}

/** Before anything is known of `workers.readyMs`: to read a configuration. */
const FIRST_READY_MS = 30_000

function keysOf({ wants }: Planned): string {
  return JSON.stringify(wants.map(({ key, kind, endpoint }) => [key, kind, endpoint]))
}

/** Waits for all, then throws the first error. */
async function all(promises: readonly Promise<unknown>[]): Promise<void> {
  const settled = await Promise.allSettled(promises)
  for (const one of settled) if (one.status === 'rejected') throw one.reason
}
