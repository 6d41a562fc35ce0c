/**
 * A pool of places that run handlers: threads, processes or nodes, whichever a carrier opens.
 *
 * Room: plugins/executors. It chooses a place for each connection (or message), bounds what waits, gives up on what takes too
 * long, and puts a new place where one was lost, hung or has served its time.
 */
import { availableParallelism } from 'node:os'
import { Backoff } from '../../core/backoff.js'
import type { Connection } from '../../core/connection.js'
import { ExecutorError, HandlerError, WiringError } from '../../core/errors.js'
import type { Executor, Load, Placement, Task } from '../../core/executor.js'
import type { HandlerPlan } from '../../core/handler.js'
import type { Carrier } from '../../core/places/channel.js'
import type { HandlerSource } from '../../core/places/handler-source.js'
import { PlaceHandle, type PlaceOwner, type Seat } from '../../core/places/place-handle.js'
import { type PlaceChooser, placedPlan } from '../../core/places/placed-plan.js'
import type { PluginServices } from '../../core/plugin.js'
import type { AffinityKey, PoolOptions } from './pool-options.js'

/** How often places are asked for a sign of life, at most. */
const TICK_MS = 1_000

export class Pool implements Executor, PlaceOwner, PlaceChooser {
  readonly name: string
  readonly clock: PluginServices['clock']
  readonly isPerMessage: boolean
  readonly reopens: boolean
  readonly #carrier: Carrier
  readonly #options: PoolOptions
  readonly #services: PluginServices
  /** A place of its own for each connection. */
  readonly #isPerConnection: boolean
  readonly #sources = new Map<number, HandlerSource>()
  readonly #places = new Set<PlaceHandle>()
  /** Which handlers a place knows. */
  readonly #defined = new Map<PlaceHandle, Map<number, Promise<unknown>>>()
  readonly #backoff: Backoff
  readonly mostRecordBytes: number
  readonly #size: number
  /** Undefined until it is loaded, where it is named. */
  #keyOf: AffinityKey | undefined
  #waiting = 0
  #waitingBytes = 0
  #lastTick = 0
  #isStarted = false
  #isEnding = false
  #cancelTick = () => {}
  #whenEmpty: (() => void) | undefined

  constructor(name: string, carrier: Carrier, options: PoolOptions, services: PluginServices, isPerConnection = false) {
    this.name = name
    this.#carrier = carrier
    this.#options = options
    this.#services = services
    this.#isPerConnection = isPerConnection
    this.#size = options.size ?? availableParallelism()
    this.mostRecordBytes = options.messageBytes
    this.clock = services.clock
    this.isPerMessage = options.affinity === 'none'
    this.reopens = options.whenLost === 'reopen'
    this.#backoff = new Backoff(services.clock)
  }

  get runners(): number {
    return this.#isPerConnection ? Number.POSITIVE_INFINITY : this.#size
  }

  // -- the executor --------------------------------------------------------------------------------------------------

  place(plan: HandlerPlan, placement: Placement): HandlerPlan {
    const { name, options } = plan.definition
    const { source, place } = placement
    if (source === undefined) {
      const message = `${place}: handler ${name} was given as a value in code, and a ${this.#carrier.kind} has no way to find it; name it by its file: './handlers.ts#${name}'`
      throw new WiringError('BAD_HANDLER', message, { handler: name, executor: this.name })
    }
    if (this.isPerMessage && options.scope === 'connection') {
      const message = `${place}: affinity 'none' sends each message of a connection to any place, and handler ${name} has the scope 'connection'; use affinity 'connection'`
      throw new WiringError('BAD_OPTION', message, { handler: name, executor: this.name })
    }
    const key = this.#sources.size + 1
    this.#sources.set(key, source)
    return placedPlan(plan, key, this, placement)
  }

  async start(): Promise<void> {
    this.#keyOf = await loadKey(this.#options.affinity, this.name, this.#services)
    this.#isStarted = true
    this.#tick()
    const size = this.#isPerConnection ? 0 : this.#size
    while (this.#places.size < size && !this.#isEnding) this.#open()
    // One opened in vain proves that the handlers can be found there at all.
    const probe = this.#isPerConnection && this.#places.size === 0 ? this.#open() : undefined
    try {
      await Promise.all([...this.#places].map((place) => this.#ready(place)))
    } finally {
      probe?.retire()
    }
  }

  run(_task: Task): never {
    throw new WiringError('BAD_STATE', `executor ${this.name} places handlers; it runs no single task`)
  }

  load(): Load {
    const places = [...this.#places].map((place) => ({
      name: place.name,
      state: place.state,
      connections: place.seats,
      running: place.running,
      handled: place.handled,
      memoryBytes: place.report.memoryBytes,
      refused: place.refusals,
    }))
    return { running: this.#waiting, queued: 0, places }
  }

  async drain(deadline: number): Promise<void> {
    this.#isEnding = true
    for (const place of this.#places) place.retire()
    if (this.#places.size > 0) {
      await new Promise<void>((resolve) => {
        const cancel = this.clock.after(Math.max(0, deadline - this.clock.now()), () => {
          for (const place of [...this.#places]) place.kill(new ExecutorError('LOST', 'the drain deadline has come'))
        })
        this.#whenEmpty = () => {
          cancel()
          resolve()
        }
      })
    }
    this.#cancelTick()
    this.#backoff.stop()
  }

  // -- choosing ------------------------------------------------------------------------------------------------------

  choose(connection: Connection): PlaceHandle {
    if (this.#isPerConnection) return this.#openFor()
    const place = this.#keyOf === undefined ? this.#leastLoaded() : this.#byKey(String(this.#keyOf(connection)))
    if (place !== undefined) return place
    throw new ExecutorError('OVERLOADED', `no ${this.#carrier.kind} of executor ${this.name} is ready`)
  }

  admit(): void {
    const { queue, queueBytes } = this.#options
    if (this.#waiting >= queue) {
      const message = `${this.#waiting} messages wait for executor ${this.name}; queue is ${queue}`
      throw new ExecutorError('OVERLOADED', message, { queue })
    }
    if (this.#waitingBytes >= queueBytes) {
      const message = `${this.#waitingBytes} bytes of messages wait for executor ${this.name}; queueBytes is ${queueBytes}`
      throw new ExecutorError('OVERLOADED', message, { queueBytes })
    }
    this.#waiting++
  }

  undo(): void {
    this.#waiting--
  }

  #openFor(): PlaceHandle {
    const size = this.#size
    // Those that are about to end do not count, as long as they do not pile up.
    if (this.#active < size && this.#places.size < size * 2) return this.#open()
    const kind = this.#carrier.kind
    throw new ExecutorError('OVERLOADED', `${size} connections have a ${kind} each; executor.size is ${size}`, { size })
  }

  /** A ready one before one that starts; of these the one with the fewest connections (messages, without affinity). */
  #leastLoaded(): PlaceHandle | undefined {
    let best: PlaceHandle | undefined
    let bestLoad = Number.POSITIVE_INFINITY
    for (const place of this.#places) {
      if (place.state === 'retiring') continue
      const load = (this.isPerMessage ? place.running : place.seats) + (place.state === 'ready' ? 0 : 1_000_000)
      if (load >= bestLoad) continue
      best = place
      bestLoad = load
    }
    return best
  }

  /** Rendezvous hashing: a place that comes or goes moves only its own keys. */
  #byKey(key: string): PlaceHandle | undefined {
    let best: PlaceHandle | undefined
    let highest = -1
    for (const place of this.#places) {
      if (place.state === 'retiring') continue
      const weight = hash(`${this.#numberOf.get(place)}:${key}`)
      if (weight <= highest) continue
      best = place
      highest = weight
    }
    return best
  }

  // -- places --------------------------------------------------------------------------------------------------------

  /** The chair a place sits on; one that replaces another takes its number. */
  readonly #numberOf = new Map<PlaceHandle, number>()

  #open(): PlaceHandle {
    const taken = new Set(this.#numberOf.values())
    let number = 1
    while (taken.has(number)) number++
    const place = new PlaceHandle(this)
    this.#places.add(place)
    this.#numberOf.set(place, number)
    this.#defined.set(place, new Map())
    place.attach(this.#carrier.open(place))
    place.setUp(this.#services.places?.seed())
    void this.#ready(place).then(
      () => {
        if (place.state === 'starting') place.state = 'ready'
      },
      // The channel's close tells of it.
      () => {},
    )
    return place
  }

  /** Resolves when every handler can be asked for there. */
  async #ready(place: PlaceHandle): Promise<void> {
    const defined = this.#defined.get(place)
    if (defined === undefined) return
    for (const [key, source] of this.#sources) if (!defined.has(key)) defined.set(key, place.define(key, source))
    try {
      await Promise.all(defined.values())
    } catch (error) {
      // Without its handlers it is of no use.
      place.kill(error as Error)
      throw error
    }
    if (place.state === 'starting') place.state = 'ready'
  }

  asked(bytes: number): void {
    this.#waitingBytes += bytes
  }

  settled(bytes: number): void {
    this.#waiting--
    this.#waitingBytes -= bytes
  }

  refused(place: PlaceHandle, error: Error): void {
    const { events } = this.#services
    if (events.wants('executor.refused'))
      events.emit('executor.refused', { executor: this.name, place: place.name, error })
  }

  sendFailed(connection: Connection, cause: Error): void {
    const { events } = this.#services
    if (!events.wants('handler.failed')) return
    const error = new HandlerError('HANDLER_FAILED', `a send of a handler in ${this.name} failed: ${cause.message}`, {
      cause,
    })
    events.emit('handler.failed', { connection, error })
  }

  left(place: PlaceHandle): void {
    if (this.#isPerConnection && place.seats === 0 && place.state !== 'retiring') place.retire()
    else this.#recycle(place)
  }

  lost(place: PlaceHandle, error: Error, seats: readonly Seat[]): void {
    const wasRetiring = place.state === 'retiring'
    const wasOfUse = place.state === 'ready'
    this.#places.delete(place)
    this.#defined.delete(place)
    this.#numberOf.delete(place)
    if (!wasRetiring || seats.length > 0) {
      const { events } = this.#services
      events.emit('executor.lost', { executor: this.name, place: place.name, error, connections: seats.length })
      if (!this.reopens) for (const seat of seats) setImmediate(() => void seat.connection.close('LOST'))
    }
    if (this.#places.size === 0) this.#whenEmpty?.()
    if (wasRetiring || this.#isEnding || !this.#isStarted || this.#isPerConnection) return
    this.#backoff.next(wasOfUse, () => {
      if (!this.#isEnding && this.#active < this.#size) this.#open()
    })
  }

  get #active(): number {
    let count = 0
    for (const place of this.#places) if (place.state !== 'retiring') count++
    return count
  }

  /** Replaces one that has served its time; it stays until its last connection is gone. */
  #recycle(place: PlaceHandle): void {
    const { recycleMessages, recycleBytes } = this.#options
    const size = this.#size
    const isDue = place.handled >= recycleMessages || place.report.memoryBytes >= recycleBytes
    if (!isDue || place.state !== 'ready' || this.#isEnding) return
    // Never more old ones than new ones: connections that live for ever must not collect places.
    if (this.#places.size - this.#active >= size) return
    if (!this.#isPerConnection) this.#open()
    place.retire()
  }

  #tick(): void {
    this.#cancelTick()
    const { timeoutMs } = this.#options
    const every = Math.min(TICK_MS, Math.max(20, timeoutMs / 4))
    this.#lastTick = this.clock.now()
    this.#cancelTick = this.clock.after(every, () => {
      // Late itself: this process was busy or stopped, and what the places said meanwhile has not been read yet.
      const isLate = this.clock.now() - this.#lastTick > every * 2
      for (const place of [...this.#places]) this.#watch(place, isLate)
      if (!this.#isEnding || this.#places.size > 0) this.#tick()
    })
  }

  #watch(place: PlaceHandle, isLate: boolean): void {
    const { timeoutMs, startTimeoutMs } = this.#options
    const now = this.clock.now()
    if (place.state === 'starting') {
      if (isLate || now - place.openedAt <= startTimeoutMs) return
      const message = `${place.name} was not ready within ${startTimeoutMs} ms (executor.startTimeoutMs)`
      return place.kill(new ExecutorError('TIMEOUT', message, { startTimeoutMs }))
    }
    const oldest = place.oldest
    if (oldest !== undefined && now - oldest > timeoutMs) {
      const message = `no answer from ${place.name} within ${timeoutMs} ms (executor.timeoutMs)`
      place.expire(now - timeoutMs, () => new ExecutorError('TIMEOUT', message, { timeoutMs }))
    }
    const silentMs = now - place.heardAt
    // Asked at every tick, and not a word: its loop is blocked.
    if (silentMs > timeoutMs && !isLate) {
      return place.kill(new ExecutorError('TIMEOUT', `${place.name} has been silent for ${Math.round(silentMs)} ms`))
    }
    place.ping()
    this.#recycle(place)
  }
}

/** FNV-1a (Fowler, Noll, Vo), 32 bits, with a last stir so that near keys spread. */
export function hash(text: string): number {
  let value = 0x811c9dc5
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193)
  value = Math.imul(value ^ (value >>> 15), 0x2c1b3c6d)
  return (value ^ (value >>> 13)) >>> 0
}

/** The function that gives a connection's key: itself, or what a data file names. */
export async function loadKey(
  affinity: PoolOptions['affinity'],
  executor: string,
  { places }: PluginServices,
): Promise<AffinityKey | undefined> {
  if (typeof affinity === 'function') return affinity
  if (affinity === 'connection' || affinity === 'none') return undefined
  const found = await places?.load(affinity)
  if (typeof found === 'function') return found as AffinityKey
  const message = `executor ${executor}: affinity ${affinity} is expected to be a function of the connection that gives a key, and is ${found === null ? 'null' : typeof found}`
  throw new WiringError('BAD_OPTION', message, { affinity })
}
