/**
 * The server: its listeners, its state, and the written order in which it starts and stops.
 *
 * Room: core, mechanism. It chooses nothing: plans come from a planner, everything else through the constructor.
 */

import type { KeptFacts } from './account.js'
import type { Accounts } from './accounts.js'
import type { Alarm } from './alarms.js'
import type { Clock } from './clock.js'
import type { ListenerOptions } from './configuration.js'
import type { CloseReason, Connection, DrainCode } from './connection.js'
import { Counters } from './counters.js'
import { Deadlines } from './deadlines.js'
import { ConfigError, ShutdownError, toError, WiringError } from './errors.js'
import { EventHub, type EventListener, type EventName } from './events.js'
import type { Executor } from './executor.js'
import { ExecutorEnds } from './executor-ends.js'
import type { ListenerHandle, Listeners, Server, ServerState, StopOptions } from './lifecycle.js'
import { ServerListener } from './listener.js'
import type { Observer } from './observer.js'
import type { DrainTimes, ServerLimits } from './options.js'
import type { ListenerPlan } from './plan.js'
import { type LiveServerLimits, ServerRoom } from './server-room.js'
import type { Session, SessionHost } from './session.js'
import type { DescriptorCount, Usage } from './usage.js'

/** What a server is made of. */
export interface ServerParts {
  readonly plans: readonly ListenerPlan[]
  /** Plans listeners that are added at run time. */
  plan(name: string, options: ListenerOptions): Promise<ListenerPlan>
  /** An executor ends: no further plan has it. */
  forget?(executor: Executor): void
  readonly clock: Clock
  readonly events: EventHub
  /** Defaults of `stop`. */
  readonly drain: Readonly<DrainTimes>
  readonly limits: Readonly<ServerLimits>
  /** Descriptors of this process, where a transport can tell. */
  readonly descriptors: DescriptorCount
  /** What goes along with the server; started first and stopped last. */
  readonly observers: readonly Observer[]
  /** What plugins keep beside the sessions. */
  readonly accounts?: Accounts
  /** Constructs what handlers of scope `server` need; before anything is bound. */
  prepare(plan: ListenerPlan): Promise<void>
  /** Called when all is bound, and before anybody is let in. */
  bound?: (() => void | Promise<void>) | undefined
  /** Disposes what was constructed, in reverse order; last of all. */
  dispose(): Promise<void>
}

/** After the deadline links get this long to confirm their reset; then they are given up. */
const FORCED_CLOSE_MS = 1_000
/** Between two steps of a drain that is spread. */
const SPREAD_STEP_MS = 10
/** The longest delay of a Node timer. */
const LONGEST_MS = 2 ** 31 - 1

export class GaidarosServer implements Server {
  readonly #parts: ServerParts
  readonly #listeners = new Map<string, ServerListener>()
  readonly #counters = new Counters()
  readonly #deadlines: Deadlines
  readonly #host: SessionHost
  readonly #room: ServerRoom
  readonly #observing: Observer[] = []
  readonly stopped: Promise<void>
  readonly listeners: Listeners
  #state: ServerState = 'created'
  #resolveStopped: () => void = () => {}
  #starting: Promise<this> | undefined
  #stopping: Promise<void> | undefined
  /** When connections begin to be ended, and when whoever is left is cut; both may be moved nearer. */
  #drainAt = Number.POSITIVE_INFINITY
  #deadline = Number.POSITIVE_INFINITY
  #code: DrainCode = 'SHUTDOWN'
  /** Nobody new is let in any more. */
  #isUnbound = false
  readonly #hurries = new Set<() => void>()
  readonly #ends: ExecutorEnds
  /** Listeners that are being added. */
  readonly #adding = new Set<Promise<unknown>>()
  #isHandling = false
  #handled: ((wasAnswered: boolean) => void) | undefined
  #nextId = 0

  constructor(parts: ServerParts) {
    this.#parts = parts
    this.#ends = new ExecutorEnds((executor) => parts.forget?.(executor))
    this.#deadlines = new Deadlines(parts.clock)
    this.stopped = new Promise((resolve) => {
      this.#resolveStopped = resolve
    })
    const counters = this.#counters
    const room = new ServerRoom({
      clock: parts.clock,
      events: parts.events,
      limits: parts.limits,
      descriptors: parts.descriptors,
      filled: () => this.#eachListener((listener) => listener.watchLimit()),
      holdNewcomers: (isHeld) => this.#eachListener((listener) => listener.hold(isHeld)),
      sessions: () => this.connections as Iterable<Session>,
      budgeted: () => parts.accounts?.charge(),
    })
    this.#room = room
    this.#host = {
      get budget() {
        return room.budget
      },
      clock: parts.clock,
      deadlines: this.#deadlines,
      events: parts.events,
      count: (counter, by) => counters.count(counter, by),
      nextId: () => (++this.#nextId).toString(36),
    }
    parts.accounts?.attach({
      get budget() {
        return room.budget
      },
      count: this.#host.count,
      full: (listener, isOn, bytes, limit) =>
        room.alarms.set('kept', listener === '' ? undefined : listener, isOn, bytes, limit),
    })
    for (const plan of parts.plans) this.#add(plan)
    const all = this.#listeners
    this.listeners = {
      get size() {
        return all.size
      },
      get: (name) => all.get(name),
      add: (name, options) => {
        const adding = this.#addListener(name, options)
        this.#adding.add(adding)
        const settled = () => void this.#adding.delete(adding)
        adding.then(settled, settled)
        return adding
      },
      remove: (name, options) => this.#removeListener(name, options),
      [Symbol.iterator]: (): Iterator<ListenerHandle> => all.values(),
    }
  }

  get state(): ServerState {
    return this.#state
  }
  get counters(): Readonly<Record<string, number>> {
    return this.#counters.values
  }
  get connections(): Iterable<Connection> & { readonly size: number } {
    const listeners = this.#listeners
    return {
      get size() {
        let size = 0
        for (const listener of listeners.values()) size += listener.sessions.size
        return size
      },
      *[Symbol.iterator]() {
        for (const listener of listeners.values()) yield* listener.sessions
      },
    }
  }

  get limits(): Readonly<LiveServerLimits> {
    return this.#room.limits
  }
  setLimits(limits: Partial<LiveServerLimits>): void {
    this.#room.change(limits)
  }
  get alarms(): readonly Alarm[] {
    return this.#room.alarms.active
  }
  get executors(): readonly Executor[] {
    return [...new Set([...this.#listeners.values()].flatMap((listener) => listener.plan.executors))]
  }
  usage(): Usage {
    return this.#room.usage()
  }
  get kept(): readonly KeptFacts[] {
    return this.#parts.accounts?.facts ?? []
  }

  on<N extends EventName>(name: N, listener: EventListener<N>): this {
    this.#parts.events.on(name, listener)
    return this
  }
  off<N extends EventName>(name: N, listener: EventListener<N>): this {
    this.#parts.events.off(name, listener)
    return this
  }

  // -- start ---------------------------------------------------------------------------------------------------------

  get observers(): readonly Observer[] {
    return this.#parts.observers
  }

  start(): Promise<this> {
    if (this.#state !== 'created') {
      return Promise.reject(new WiringError('BAD_STATE', `start() of a server that is ${this.#state}; it starts once`))
    }
    this.#enter('starting')
    this.#starting = this.#start()
    return this.#starting
  }

  async #start(): Promise<this> {
    const bound: ServerListener[] = []
    try {
      if (this.#listeners.size === 0) {
        throw new ConfigError('BAD_VALUE', 'no listener is configured; expected `listen` or `listeners`')
      }
      for (const observer of this.#parts.observers) {
        this.#observing.push(observer)
        await observer.start?.(this)
      }
      for (const listener of this.#listeners.values()) {
        await this.#prepare(listener.plan)
      }
      for (const listener of this.#listeners.values()) {
        if (this.#stopping !== undefined) throw new ShutdownError('SHUTDOWN', 'stop() was called during start()')
        if (this.#parts.bound !== undefined) listener.holdStart(true)
        await listener.bind()
        bound.push(listener)
      }
      await this.#parts.bound?.()
      if (this.#stopping !== undefined) throw new ShutdownError('SHUTDOWN', 'stop() was called during start()')
    } catch (error) {
      // All or nothing: what is bound is undone, latest first, and whoever came in meanwhile is cut.
      for (const listener of bound.reverse()) {
        listener.forceClose()
        await listener.unbind()
      }
      await this.#endExecutors()
      await this.#release()
      await this.#endObservers()
      this.#enter('stopped')
      this.#resolveStopped()
      throw error
    }
    this.#room.start()
    this.#enter('ready')
    if (this.#parts.bound !== undefined) for (const listener of bound) listener.holdStart(false)
    return this
  }

  async #prepare(plan: ListenerPlan): Promise<void> {
    await this.#parts.prepare(plan)
    for (const executor of plan.executors) await executor.start()
  }

  async handle(): Promise<boolean> {
    this.#isHandling = true
    const answered = new Promise<boolean>((resolve) => {
      this.#handled = resolve
    })
    await this.start()
    // A stop from outside ends the wait.
    const result = await Promise.race([answered, this.stopped.then(() => false)])
    await this.stop()
    return result
  }

  // -- listeners at run time -----------------------------------------------------------------------------------------

  #add(plan: ListenerPlan): ServerListener {
    const isHandling = () => this.#isHandling
    const room = this.#room
    const listener = new ServerListener(plan, {
      host: this.#host,
      get once() {
        return isHandling()
      },
      alarms: room.alarms,
      get isFull() {
        return room.isFull
      },
      entered: () => room.entered(),
      left: () => room.left(),
      sessionClosed: (session, reason) => this.#sessionClosed(session, reason),
    })
    this.#listeners.set(plan.name, listener)
    return listener
  }

  #eachListener(tell: (listener: ServerListener) => void): void {
    for (const listener of this.#listeners.values()) tell(listener)
  }

  #sessionClosed(session: Session, reason: CloseReason): void {
    this.#handled?.(session.stats.messagesIn > 0 && reason.error === undefined)
  }

  async #addListener(name: string, options: ListenerOptions): Promise<ListenerHandle> {
    this.#checkAddition(name)
    let plan = await this.#parts.plan(name, options)
    // The last listener that shared an executor may have gone meanwhile, and the executor with it.
    while (plan.executors.some((executor) => this.#ends.has(executor))) plan = await this.#parts.plan(name, options)
    let listener: ServerListener | undefined
    try {
      this.#checkAddition(name)
      listener = this.#add(plan)
      if (this.#state !== 'ready') return listener
      await this.#prepare(plan)
      this.#checkAddition(name, listener)
      await listener.bind()
      this.#checkAddition(name, listener)
      return listener
    } catch (thrown) {
      // Whatever failed because the server stops, or the listener is removed, is told as that.
      const error = (listener && this.#refusal(name, listener)) ?? thrown
      listener?.forceClose()
      await listener?.unbind()
      if (listener !== undefined) this.#forget(listener)
      await this.#endUnused(plan.executors, true)
      throw error
    }
  }

  /**
   * Asked again after each wait: the server may stop, or the name be taken, or be removed, meanwhile.
   *
   * @param listener - What has been added under that name.
   */
  #refusal(name: string, listener?: ServerListener): WiringError | undefined {
    if (this.#stopping !== undefined)
      return new WiringError('BAD_STATE', `listener ${name} was added to a server that stops`, { name })
    const present = this.#listeners.get(name)
    if (present === listener) return undefined
    return listener === undefined
      ? new WiringError('DUPLICATE', `there is a listener \`${name}\` already`, { name })
      : new WiringError('BAD_STATE', `listener ${name} was removed while it was added`, { name })
  }

  #checkAddition(name: string, listener?: ServerListener): void {
    const refusal = this.#refusal(name, listener)
    if (refusal !== undefined) throw refusal
  }

  async #removeListener(name: string, options: StopOptions = {}): Promise<void> {
    const listener = this.#listeners.get(name)
    if (listener === undefined) {
      const known = [...this.#listeners.keys()].join(', ') || 'none'
      throw new WiringError('BAD_OPTION', `there is no listener \`${name}\`; known: ${known}`, { name })
    }
    const timeoutMs = options.timeoutMs ?? this.#parts.drain.timeoutMs
    const unbound = listener.unbind()
    listener.drain(new Date(Date.now() + timeoutMs), options.code)
    const deadline = this.#host.clock.now() + timeoutMs
    await this.#untilGone([listener], () => Math.min(deadline, this.#deadline))
    listener.forceClose()
    await unbound
    this.#forget(listener)
    await this.#endUnused(listener.plan.executors)
  }

  /** What its plugins kept goes with it. */
  #forget(listener: ServerListener): void {
    const { name } = listener
    if (this.#listeners.get(name) !== listener) return
    this.#listeners.delete(name)
    this.#parts.accounts?.close(name)
  }

  // -- stop ----------------------------------------------------------------------------------------------------------

  stop(options: StopOptions = {}): Promise<void> {
    const { drain, clock } = this.#parts
    const timeoutMs = Math.min(options.timeoutMs ?? drain.timeoutMs, LONGEST_MS)
    const delaysNot = this.#isUnbound || options.serveMs !== undefined || options.timeoutMs === 0
    const delayMs = options.delayMs ?? (delaysNot ? 0 : drain.delayMs)
    const beforeMs = Math.min(delayMs + (options.serveMs ?? 0), LONGEST_MS)
    const drainAt = clock.now() + beforeMs
    const deadline = drainAt + timeoutMs
    if (this.#stopping === undefined) {
      this.#drainAt = drainAt
      this.#deadline = deadline
      this.#code = options.code ?? 'SHUTDOWN'
      const jitterMs = Math.min(options.jitterMs ?? drain.jitterMs, timeoutMs / 2)
      this.#stopping = this.#stop(delayMs, jitterMs)
    } else if (deadline < this.#deadline) {
      if (drainAt < this.#drainAt) {
        this.#drainAt = drainAt
        this.#code = options.code ?? 'SHUTDOWN'
      }
      this.#deadline = deadline
    } else {
      return this.#stopping
    }
    // Whoever waits looks at the clock anew; a listener that is being removed has no longer than this either.
    for (const hurry of this.#hurries) hurry()
    return this.#stopping
  }

  async #stop(delayMs: number, jitterMs: number): Promise<void> {
    if (this.#state === 'stopped') return
    if (this.#starting !== undefined) await this.#starting.catch(() => {})
    if ((this.#state as ServerState) === 'stopped') return
    const { clock, events } = this.#parts
    const listeners = [...this.#listeners.values()]
    const wasReady = this.#state === 'ready'
    // 1. Not ready any more, before anything else is seen; who was sent here meanwhile is let in.
    if (delayMs > 0) {
      this.#enter('draining')
      if (wasReady) await this.#until(undefined, () => this.#drainAt)
    }
    // 2. Nobody new, once the kernel's queue is accepted. Datagram listeners free their address with their last peer.
    this.#isUnbound = true
    const unbound = Promise.all(listeners.map((listener) => listener.unbind()))
    // 3. Those connected are served on, where others let newcomers in.
    if (wasReady && delayMs === 0) await this.#serveOn(listeners)
    // 4. Connections end, each when what it sent is answered.
    const began = clock.now()
    if ((this.#state as ServerState) !== 'draining') this.#enter('draining')
    const date = new Date(Date.now() + Math.max(0, this.#deadline - began))
    if (wasReady) events.emit('drain.started', { deadline: date, connections: this.connections.size })
    if (jitterMs > 0) void this.#drainSpread(listeners, date, jitterMs)
    else for (const listener of listeners) listener.drain(date, this.#code)
    // A server without connections waits for the queue as well: who is in it is connected, and has perhaps asked already.
    await this.#untilGone(listeners, () => this.#deadline, unbound)
    await this.#untilGone(listeners, () => this.#deadline)
    // 5. The deadline: whoever is left is cut, and counted.
    let forced = 0
    for (const listener of listeners) forced += listener.forceClose()
    for (let i = 0; i < forced; i++) this.#host.count('drain.forced')
    this.#deadline = clock.now() + FORCED_CLOSE_MS
    await this.#untilGone(listeners, () => this.#deadline)
    await unbound
    await this.#endExecutors()
    await this.#ends.settled()
    // 6. What was constructed goes after them: close hooks may have needed it. Who observes goes last.
    await this.#release()
    if (wasReady) events.emit('drain.finished', { forced, durationMs: Math.round(clock.now() - began) })
    await this.#endObservers()
    this.#enter('stopped')
    this.#resolveStopped()
  }

  /** Until the last connection has ended, or the drain is due. Peers of datagrams have `drain.udpMs`: then others take them. */
  async #serveOn(listeners: readonly ServerListener[]): Promise<void> {
    const { clock, drain } = this.#parts
    const cancel = clock.after(drain.udpMs, () => {
      const date = new Date(Date.now() + drain.timeoutMs)
      for (const listener of listeners) listener.drainDatagrams(date, this.#code)
    })
    await this.#untilGone(listeners, () => this.#drainAt)
    cancel()
  }

  /** Each connection is asked to end at a moment of its own, so that not all peers come back in one. */
  async #drainSpread(listeners: readonly ServerListener[], deadline: Date, jitterMs: number): Promise<void> {
    const { clock } = this.#parts
    const sessions = [...this.connections] as Session[]
    const began = clock.now()
    const stepMs = Math.max(SPREAD_STEP_MS, jitterMs / sessions.length)
    const until = this.#deadline
    for (let next = 0; next < sessions.length; ) {
      // Whoever asks for a sooner end gets it.
      const share = this.#deadline < until ? 1 : (clock.now() - began + stepMs) / jitterMs
      for (const due = Math.min(sessions.length, Math.ceil(sessions.length * share)); next < due; next++)
        sessions[next]?.drain(deadline, this.#code)
      const nextAt = clock.now() + stepMs
      await this.#until(undefined, () => (this.#deadline < until ? 0 : nextAt))
    }
    for (const listener of listeners) listener.drain(deadline, this.#code)
  }

  /** Of all listeners, after the last connection; what still runs there has {@link FORCED_CLOSE_MS}. */
  async #endExecutors(): Promise<void> {
    const end = () => this.#ends.end(this.executors, this.#host.clock.now() + FORCED_CLOSE_MS, true)
    await end()
    if (this.#adding.size === 0) return
    // A listener that was being added may have started one that it shares with others.
    await this.#untilNoneIsAdded()
    await end()
  }

  /** The same for those that no listener uses any more. @param isAgain - They may have been started after they ended. */
  async #endUnused(executors: readonly Executor[], isAgain = false): Promise<void> {
    const used = new Set(this.executors)
    const unused = executors.filter((executor) => !used.has(executor))
    await this.#ends.end(unused, this.#host.clock.now() + FORCED_CLOSE_MS, isAgain)
  }

  /** What an addition waits for (a handler's construction) may have no end; the stop has. */
  async #untilNoneIsAdded(): Promise<void> {
    let cancel = () => {}
    const due = new Promise<void>((resolve) => {
      cancel = this.#host.clock.after(FORCED_CLOSE_MS, resolve)
    })
    await Promise.race([Promise.allSettled(this.#adding), due])
    cancel()
  }

  /** Resolves when the listeners have no connection left (and `first` is done), or when it is due. */
  #untilGone(listeners: readonly ServerListener[], due: () => number, first?: Promise<unknown>): Promise<void> {
    const gone = Promise.all([first, ...listeners.map((listener) => listener.untilEmpty())])
    return this.#until(gone, due)
  }

  /** @param due - By the clock; looked at again when somebody hurries. */
  async #until(done: Promise<unknown> | undefined, due: () => number): Promise<void> {
    for (;;) {
      const left = due() - this.#host.clock.now()
      if (left <= 1 && done === undefined) return
      let cancel = () => {}
      const isDue = new Promise<false>((resolve) => {
        const hurry = () => resolve(false)
        // What is due already waits for no clock.
        const immediate = left <= 0 ? setImmediate(hurry) : undefined
        const cancelTimer =
          left <= 0 ? () => clearImmediate(immediate) : this.#host.clock.after(Math.min(left, LONGEST_MS), hurry)
        // The clock's timers let the process end; a drain that is under way must not be cut short by that.
        const keepAlive = setInterval(() => {}, LONGEST_MS)
        this.#hurries.add(hurry)
        cancel = () => {
          cancelTimer()
          clearInterval(keepAlive)
          this.#hurries.delete(hurry)
        }
      })
      const isDone = await (done === undefined ? isDue : Promise.race([done, isDue]))
      cancel()
      if (isDone || due() <= this.#host.clock.now() + 1) return
    }
  }

  async #release(): Promise<void> {
    try {
      await this.#parts.dispose()
    } finally {
      this.#room.stop()
      this.#deadlines.close()
    }
  }

  /** Latest first. One that cannot stop keeps nobody else from it. */
  async #endObservers(): Promise<void> {
    for (const observer of this.#observing.reverse()) {
      try {
        await observer.stop?.()
      } catch (thrown) {
        this.#parts.events.emit('disposal.failed', { name: `observer ${observer.name}`, error: toError(thrown) })
      }
    }
    this.#observing.length = 0
  }

  #enter(state: ServerState): void {
    const from = this.#state
    this.#state = state
    this.#parts.events.emit('server.state', { from, to: state })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }
}
