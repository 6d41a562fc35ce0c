/**
 * One server process as its supervisor sees it: told, asked, watched, and in the end gone for a reason.
 *
 * Room: core, mechanism. How a process is made is the door's business; sockets are the holder's.
 */
import type { Clock } from '../clock.js'
import type { Asker, ControlRequest } from '../control/ask.js'
import type { ListenerFigures } from '../control/figures.js'
import { WorkerError } from '../errors.js'
import { unpackError } from '../places/portable-error.js'
import type { HeldSet, SocketPort } from './holder.js'
import { type DrainOrder, type Init, type Planned, type Pong, type ReadyListener, readMessage } from './messages.js'

/** A process with a channel over which descriptors travel. */
export interface Child {
  readonly pid: number | undefined
  /**
   * @param done - It has left, or with an error: it never will.
   * @param keepsOpen - The handle stays ours too.
   */
  send(message: object, handle: unknown, done: (error: Error | null) => void, keepsOpen?: boolean): void
  kill(signal: 'SIGKILL' | 'SIGTERM'): void
}

export interface ChildSink {
  message(message: unknown, handle: unknown): void
  /** Once, last. */
  exit(status: number | null, signal: string | null): void
}

export type Spawn = (sink: ChildSink) => Child

export type WorkerState = 'loading' | 'starting' | 'ready' | 'draining' | 'ended'

/** How it came to its end. */
export interface WorkerEnd {
  readonly status: number | null
  readonly signal: string | null
  /** In words: `exit 1`, `SIGSEGV`, `heap full`, `stuck`, `failed to start`, `never ready`, `drained`. */
  readonly reason: string
  readonly error: Error | undefined
  readonly wasReady: boolean
  /** Nobody but an operator or the system sends that signal. */
  readonly isFromOutside: boolean
}

export interface WorkerOwner {
  readonly clock: Clock
  count(name: string, by?: number): void
  /** A limit of connections was reached there, or is no more. */
  changed(worker: Worker): void
  /** These datagram sessions are its own, by endpoint: it has no newcomers any more. */
  keeps(worker: Worker, sessions: Readonly<Record<string, readonly string[]>>): void
  /** Of those, these have ended. */
  forgets(worker: Worker, key: string, sessions: readonly string[]): void
  /** It serves no newcomers any more, and will end. */
  leaving(worker: Worker): void
  ended(worker: Worker, end: WorkerEnd): void
}

interface Question {
  resolve(value: unknown): void
  reject(error: Error): void
}

export interface AskOptions {
  readonly withinMs?: number
  readonly asker?: Asker | undefined
}

/** For an answer; whoever asked does not wait longer for one worker that hangs. */
export const ANSWER_MS = 2_000
/** Beyond the drain's deadline, for the application's own disposers. */
const DISPOSAL_MS = 3_000
/** Of its limit; more, and an abort means that it was full. */
const FULL_HEAP = 0.7

export class Worker implements SocketPort {
  readonly slot: number
  readonly generation: number
  readonly planned: Promise<Planned>
  readonly ended: Promise<WorkerEnd>
  readonly since: number
  listeners: readonly ReadyListener[] = []
  isReachable = true
  /** The longest that one of its handlers may take for a message. */
  handlerMs = 0
  last: Pong = { connections: 0, heapShare: 0, counters: {}, figures: [] }
  /** The last words of its observers, where it had the time to say them. */
  reports: Readonly<Record<string, unknown>> = {}
  readonly #owner: WorkerOwner
  readonly #child: Child
  readonly #full = new Set<string>()
  /** On their way, oldest first. */
  readonly #given: ((fate: 'taken' | 'unsent' | 'lost') => void)[] = []
  readonly #questions = new Map<number, Question>()
  readonly #copies = new Map<number, Question>()
  readonly #askers = new Map<number, Asker>()
  readonly #idOfAsker = new WeakMap<Asker, number>()
  #state: WorkerState = 'loading'
  #wasReady = false
  /** It said goodbye: nobody was left there. */
  #hasDrained = false
  #heardAt: number
  #lastId = 0
  #cause: string | undefined
  #error: Error | undefined
  #resolvePlanned: (planned: Planned) => void = () => {}
  #rejectPlanned: (error: Error) => void = () => {}
  #ready: Question | undefined
  #resolveEnded: (end: WorkerEnd) => void = () => {}
  #cancelDeadline = () => {}
  #endsBy = Number.POSITIVE_INFINITY
  #servesUntil = Number.POSITIVE_INFINITY

  constructor(spawn: Spawn, init: Init, owner: WorkerOwner) {
    this.slot = init.slot
    this.generation = init.generation
    this.#owner = owner
    this.since = this.#heardAt = owner.clock.now()
    this.planned = new Promise((resolve, reject) => {
      this.#resolvePlanned = resolve
      this.#rejectPlanned = reject
    })
    this.planned.catch(() => {})
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve
    })
    this.#child = spawn({
      message: (message, handle) => this.#hear(message, handle),
      exit: (status, signal) => this.#exit(status, signal),
    })
    this.send(init)
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }
  get state(): WorkerState {
    return this.#state
  }
  isFull(listener: string): boolean {
    return this.#full.has(listener)
  }

  send(message: object, handle?: unknown, done: () => void = () => {}): void {
    if (this.#state === 'ended') return
    this.#child.send(message, handle, done)
  }

  give(message: object, handle: unknown, done: (fate: 'taken' | 'unsent' | 'lost') => void): void {
    this.#given.push(done)
    const sent = (error: Error | null) => {
      if (error === null) return
      this.isReachable = false
      const index = this.#given.indexOf(done)
      if (index === -1) return
      this.#given.splice(index, 1)
      done('unsent')
    }
    this.#child.send(message, handle, sent, true)
  }

  copy(handle: unknown): Promise<unknown> {
    return this.#question(this.#copies, (id) => this.send({ t: 'copy', id }, handle))
  }

  /**
   * @param asker - Who is told more later on.
   * @throws what it answered; `ENDED` when it is gone; `SILENT` when it has not answered in time.
   */
  async ask(request: ControlRequest, { withinMs = ANSWER_MS, asker }: AskOptions = {}): Promise<unknown> {
    let asked = 0
    const answer = this.#question(this.#questions, (id) => {
      asked = id
      this.send({ t: 'ask', id, request, ...(asker && { asker: this.#nameAsker(asker) }) })
    })
    const cancel = this.#owner.clock.after(withinMs, () => {
      const question = this.#questions.get(asked)
      this.#questions.delete(asked)
      const message = `worker ${this.slot} (process ${this.pid}) did not answer within ${withinMs} ms`
      question?.reject(new WorkerError('SILENT', message))
    })
    try {
      return await answer
    } finally {
      cancel()
    }
  }

  #nameAsker(asker: Asker): number {
    const known = this.#idOfAsker.get(asker)
    if (known !== undefined) return known
    const id = ++this.#lastId
    this.#idOfAsker.set(asker, id)
    this.#askers.set(id, asker)
    const gone = () => {
      this.#askers.delete(id)
      this.send({ t: 'gone', asker: id })
    }
    asker.closed.then(gone, gone)
    return id
  }

  /** Gives it its sockets and waits until it listens. @throws its own error, or that it took too long. */
  async start(set: HeldSet): Promise<void> {
    this.#pass('loading', 'starting')
    const ready = new Promise<unknown>((resolve, reject) => {
      this.#ready = { resolve, reject }
    })
    ready.catch(() => {})
    await set.equip(this)
    await ready
  }

  /** It had so long to get ready. */
  expire(afterMs: number): void {
    this.#cancelDeadline()
    this.#cancelDeadline = this.#owner.clock.after(afterMs, () => {
      const message = `worker ${this.slot} (process ${this.pid}) was not ready within ${afterMs} ms (workers.readyMs)`
      const error = new WorkerError('NOT_READY', message)
      this.end('never ready', error)
    })
  }

  /** Proved: it gets connections. @throws when it has said meanwhile that it will end. */
  settle(): void {
    this.#pass('starting', 'ready')
    this.#cancelDeadline()
    this.#wasReady = true
    this.#heardAt = this.#owner.clock.now()
  }

  #pass(from: WorkerState, to: WorkerState): void {
    if (this.#state !== from) throw this.#error ?? this.#gone('it is leaving')
    this.#state = to
  }

  /** It has said meanwhile what it has carried. */
  note(figures: readonly ListenerFigures[]): void {
    this.last = { ...this.last, figures }
  }

  /** Asks for a sign of life. */
  ping(): void {
    this.send({ t: 'ping' })
  }

  /** Milliseconds since it was last heard. */
  get silentMs(): number {
    return this.#owner.clock.now() - this.#heardAt
  }

  /** Its connections end in that way; an order that would take longer than an earlier one changes nothing. */
  drain(order: DrainOrder): void {
    const { timeoutMs, serveMs = 0 } = order
    const now = this.#owner.clock.now()
    const endsBy = now + serveMs + timeoutMs
    if (this.#state === 'ended' || endsBy >= this.#endsBy) return
    this.#state = 'draining'
    this.#cause ??= 'drained'
    this.#endsBy = endsBy
    this.#servesUntil = Math.min(this.#servesUntil, now + serveMs)
    this.send({ t: 'drain', ...order })
    this.#cancelDeadline()
    this.#cancelDeadline = this.#owner.clock.after(serveMs + timeoutMs + DISPOSAL_MS, () => this.end('not drained'))
  }

  /** It lets nobody in, and serves those who are there as before. */
  get servesOn(): boolean {
    return this.#state === 'draining' && this.#owner.clock.now() < this.#servesUntil
  }

  /** At once. */
  end(cause: string, error?: Error): void {
    if (this.#state === 'ended') return
    // It has said better itself why.
    if (this.#cause === undefined || cause !== 'never ready') this.#cause = cause
    this.#error ??= error
    this.#child.kill('SIGKILL')
  }

  #question(map: Map<number, Question>, send: (id: number) => void): Promise<unknown> {
    if (this.#state === 'ended') return Promise.reject(this.#gone())
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      map.set(id, { resolve, reject })
      send(id)
    })
  }

  #hear(given: unknown, handle: unknown): void {
    this.#heardAt = this.#owner.clock.now()
    const message = readMessage(given)
    if (message === undefined) {
      closeHandle(handle)
      this.#owner.count('workers.junk')
      return
    }
    switch (message.t) {
      case 'planned':
        this.handlerMs = message.handlerMs
        return this.#resolvePlanned(message)
      case 'ready':
        this.listeners = message.listeners
        return this.#ready?.resolve(undefined)
      case 'failed': {
        this.#error = errorOf(message.error)
        this.#cause ??= 'failed to start'
        this.#rejectPlanned(this.#error)
        return this.#ready?.reject(this.#error)
      }
      case 'pong':
        this.last = message
        return
      case 'drained':
        this.last = message
        this.reports = message.reports
        this.#hasDrained = true
        return
      case 'told':
        this.#askers.get(message.asker)?.tell(message.line)
        return
      case 'full':
        if (message.isFull) this.#full.add(message.listener)
        else this.#full.delete(message.listener)
        return this.#owner.changed(this)
      case 'copy': {
        const question = this.#copies.get(message.id)
        this.#copies.delete(message.id)
        if (question === undefined || handle === undefined) closeHandle(handle)
        if (handle === undefined || handle === null) question?.reject(new Error('the worker sent no descriptor back'))
        else question?.resolve(handle)
        return
      }
      case 'answer': {
        const question = this.#questions.get(message.id)
        this.#questions.delete(message.id)
        if (message.error !== undefined) question?.reject(new Error(message.error))
        else question?.resolve(message.result)
        return
      }
      case 'dying':
        this.#error = errorOf(message.error)
        this.#cause ??= 'uncaught error'
        return this.#owner.leaving(this)
      case 'took':
        for (let i = 0; i < message.count; i++) this.#given.shift()?.('taken')
        return
      case 'sessions':
        return this.#owner.keeps(this, message.sessions)
      case 'gone':
        return this.#owner.forgets(this, message.k, message.sessions)
      case 'junk':
        return this.#owner.count('workers.junk')
    }
  }

  #exit(status: number | null, signal: string | null): void {
    if (this.#state === 'ended') return
    this.#cancelDeadline()
    this.#state = 'ended'
    // That it was told to drain is no reason for what it did instead.
    const cause = this.#cause === 'drained' && !this.#hasDrained ? undefined : this.#cause
    const reason = cause ?? (signal === 'SIGABRT' ? this.#whyAborted() : (signal ?? `exit ${status}`))
    const end: WorkerEnd = {
      status,
      signal,
      reason,
      error: this.#error,
      wasReady: this.#wasReady,
      isFromOutside: cause === undefined && ['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGHUP'].includes(signal ?? ''),
    }
    const gone = this.#error ?? this.#gone(reason)
    this.#rejectPlanned(gone)
    this.#ready?.reject(gone)
    for (const map of [this.#questions, this.#copies]) {
      for (const question of map.values()) question.reject(gone)
      map.clear()
    }
    this.#owner.ended(this, end)
    for (const done of this.#given.splice(0)) done('lost')
    this.#resolveEnded(end)
  }

  /** Node ends that way when the heap is full; nothing else tells it. */
  #whyAborted(): string {
    return this.last.heapShare > FULL_HEAP ? 'heap full' : 'SIGABRT (heap full, or native code gave up)'
  }

  #gone(reason = 'gone'): WorkerError {
    return new WorkerError('ENDED', `worker ${this.slot} (process ${this.pid}) ended: ${reason}`)
  }
}

function errorOf(packed: unknown): Error {
  try {
    return unpackError(packed)
  } catch {
    return new WorkerError('ENDED', 'a worker failed and could not say how')
  }
}

function closeHandle(handle: unknown): void {
  const { destroy, close } = (handle ?? {}) as { destroy?: () => void; close?: () => void }
  if (typeof destroy === 'function') destroy.call(handle)
  else if (typeof close === 'function') close.call(handle)
}
