/**
 * What all listeners of a server share: the number of connections, the memory they hold, the alarms, the look at the process.
 *
 * Room: core, mechanism of the server. Without `memoryBytes` there is no budget, and nothing is counted.
 */
import { checkLive } from './admission.js'
import { Alarms, Threshold } from './alarms.js'
import { MemoryBudget } from './budget.js'
import type { Clock } from './clock.js'
import { ConnectionError } from './errors.js'
import type { EventHub } from './events.js'
import type { ServerLimits } from './options.js'
import { type DescriptorCount, grantedMemory, memoryUsage, type Usage } from './usage.js'
import { Watch } from './watch.js'

/** What may be changed while a server runs. */
export interface LiveServerLimits {
  serverConnections: number
  memoryBytes: number
}

/** A connection, as far as it may be asked to leave. */
export interface Dismissible {
  readonly idleSince: number | undefined
  dismiss(error: ConnectionError): void
}

export interface RoomParts {
  readonly clock: Clock
  readonly events: EventHub
  readonly limits: Readonly<ServerLimits>
  readonly descriptors: DescriptorCount
  /** The server's limit is met, or no longer. */
  filled(): void
  holdNewcomers(isHeld: boolean): void
  sessions(): Iterable<Dismissible>
  /** The budget is a new one: what is held beside connections has to be charged again. */
  budgeted?(): void
}

export class ServerRoom {
  readonly alarms: Alarms
  /** Undefined without `memoryBytes`. */
  budget: MemoryBudget | undefined
  isFull = false
  readonly #parts: RoomParts
  readonly #watch: Watch
  readonly #nearlyFull = new Threshold(0.9, 0.8)
  readonly #residentLimit: number
  #limits: LiveServerLimits
  #open = 0
  /** The last look at the process's memory has failed. */
  #isBlind = false

  constructor(parts: RoomParts) {
    this.#parts = parts
    const { clock, events, limits } = parts
    this.alarms = new Alarms(clock, events, limits.alarmCoolDownMs)
    this.#residentLimit = limits.residentBytes ?? grantedMemory()
    this.#limits = { serverConnections: limits.serverConnections, memoryBytes: Number.POSITIVE_INFINITY }
    this.#setBudget(limits.memoryBytes)
    this.#watch = new Watch({
      clock,
      everyMs: limits.watchMs,
      alarms: this.alarms,
      measure: () => this.usage(),
      holdNewcomers: parts.holdNewcomers,
      shedIdle: (share) => this.#shedIdle(share),
      failed: (error) => parts.events.emit('watch.failed', { error }),
    })
  }

  get limits(): Readonly<LiveServerLimits> {
    return this.#limits
  }

  start(): void {
    this.#watch.start()
  }

  stop(): void {
    this.#watch.stop()
    this.alarms.close()
    this.budget?.close()
  }

  change(limits: Partial<LiveServerLimits>): void {
    checkLive('server', limits, ['serverConnections', 'memoryBytes'])
    this.#limits = { ...this.#limits, serverConnections: limits.serverConnections ?? this.#limits.serverConnections }
    if (limits.memoryBytes !== undefined) this.#setBudget(limits.memoryBytes)
    this.#count(0)
  }

  entered(): void {
    this.#count(1)
  }

  left(): void {
    this.#count(-1)
  }

  usage(): Usage {
    const descriptors = this.#parts.descriptors()
    let failure: Error | undefined
    const memory = memoryUsage((error) => {
      failure = error
    })
    this.#looked(failure)
    return {
      ...memory,
      residentLimit: this.#residentLimit,
      descriptors: descriptors?.open,
      descriptorLimit: descriptors?.limit,
      heldBytes: this.budget?.measure(),
      heldLimit: this.budget?.limit,
    }
  }

  #looked(failure: Error | undefined): void {
    if (failure !== undefined && !this.#isBlind) this.#parts.events.emit('watch.failed', { error: failure })
    this.#isBlind = failure !== undefined
  }

  #count(by: number): void {
    this.#open += by
    const { serverConnections: limit } = this.#limits
    if (limit === Number.POSITIVE_INFINITY && !this.isFull && !this.#nearlyFull.isOn) return
    this.alarms.set('connections', undefined, this.#nearlyFull.at(this.#open, limit), this.#open, limit)
    const isFull = this.#open >= limit
    if (isFull === this.isFull) return
    this.isFull = isFull
    this.#parts.filled()
  }

  #setBudget(memoryBytes: number): void {
    this.#limits = { ...this.#limits, memoryBytes }
    if (memoryBytes === Number.POSITIVE_INFINITY) {
      this.budget?.close()
      this.budget = undefined
    } else if (this.budget !== undefined) this.budget.setLimit(memoryBytes)
    else {
      const { clock } = this.#parts
      const pressed = (isOn: boolean, used: number, limit: number) =>
        this.alarms.set('budget', undefined, isOn, used, limit)
      this.budget = new MemoryBudget(memoryBytes, { clock, pressed })
      this.#parts.budgeted?.()
    }
  }

  #shedIdle(share: number): void {
    const idle: { session: Dismissible; since: number }[] = []
    let all = 0
    for (const session of this.#parts.sessions()) {
      all++
      const since = session.idleSince
      if (since !== undefined) idle.push({ session, since })
    }
    idle.sort((a, b) => a.since - b.since)
    for (const { session } of idle.slice(0, Math.ceil(all * share))) {
      const message = 'the process is short of memory, and this connection did nothing'
      session.dismiss(new ConnectionError('MEMORY_PRESSURE', message))
    }
  }
}
