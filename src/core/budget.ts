/**
 * One budget for all the memory that connections hold: who holds most is no longer read, then cut.
 *
 * Room: core, mechanism; there is one only where `limits.memoryBytes` is set. Counted once a chunk and once a write, never a
 * message. Bytes that a link sends by itself are found out when it matters: the sum is an upper bound, and before anybody is
 * harmed everyone is asked again.
 */
import type { Clock } from './clock.js'
import { ConnectionError } from './errors.js'

/** A connection as the budget sees it. */
export interface Holder {
  readonly id: string
  /** Bytes it holds now. */
  readonly heldBytes: number
  /** The budget's own: what it was counted for. */
  charged: number
  /** Reads nothing until released; what was read already is handled. */
  holdReading(): void
  releaseReading(): void
  /** Gives everything back at once. */
  shed(error: ConnectionError): void
}

/** Of the budget: reading of the greediest stops, and goes on below the second. */
const PAUSE_SHARE = 0.8
const RESUME_SHARE = 0.6
/** Readers are stopped until those who are still read hold no more than this. */
const READ_SHARE = 0.5
/** Cutting ends here. */
const SHED_SHARE = 0.7
/** Stopped readers whose memory has not come back after so long will not give it back. */
const PATIENCE_MS = 5_000
const LOOK_MS = 100
/** Everybody is asked at most so often, and again after so much more. */
const ASK_MS = 25
const ASK_SHARE = 0.02

export interface BudgetParts {
  readonly clock: Clock
  /** Told of every change of the pressure: bytes held, and whether it is on. */
  pressed(isOn: boolean, used: number, limit: number): void
}

export class MemoryBudget {
  readonly #parts: BudgetParts
  readonly #holders = new Set<Holder>()
  readonly #stopped = new Set<Holder>()
  #limit: number
  #used = 0
  #askedAt = Number.NEGATIVE_INFINITY
  #usedWhenAsked = 0
  #pressedSince = 0
  #isPressed = false
  #isRelieving = false
  #cancelLook: (() => void) | undefined

  constructor(limit: number, parts: BudgetParts) {
    this.#limit = limit
    this.#parts = parts
  }

  get limit(): number {
    return this.#limit
  }
  /** Bytes held; never too few. */
  get used(): number {
    return this.#used
  }
  /** Asks everybody. */
  measure(): number {
    this.#askAll()
    return this.#used
  }

  setLimit(limit: number): void {
    this.#limit = limit
    this.#look()
  }

  /** Counts what a connection holds now. */
  charge(holder: Holder): void {
    const held = holder.heldBytes
    const before = holder.charged
    if (held === before) return
    holder.charged = held
    this.#used += held - before
    if (held === 0) this.#holders.delete(holder)
    else if (before === 0) this.#holders.add(holder)
    if (held > before && this.#used > this.#limit * PAUSE_SHARE) this.#mayRelieve()
  }

  /** It is gone, whatever it held. */
  forget(holder: Holder): void {
    this.#stopped.delete(holder)
    this.#holders.delete(holder)
    this.#used -= holder.charged
    holder.charged = 0
  }

  /** Everybody goes on; nothing is counted any more. */
  close(): void {
    this.#cancelLook?.()
    this.#cancelLook = undefined
    for (const holder of this.#stopped) holder.releaseReading()
    this.#stopped.clear()
    for (const holder of this.#holders) holder.charged = 0
    this.#holders.clear()
    this.#used = 0
    this.#say(false)
  }

  #mayRelieve(): void {
    if (this.#isRelieving) return
    const isSoon = this.#parts.clock.now() - this.#askedAt < ASK_MS
    if (isSoon && this.#used - this.#usedWhenAsked < this.#limit * ASK_SHARE) this.#lookIn(ASK_MS)
    else this.#look()
  }

  #askAll(): void {
    this.#askedAt = this.#parts.clock.now()
    let used = 0
    for (const holder of this.#holders) {
      holder.charged = holder.heldBytes
      if (holder.charged === 0) this.#holders.delete(holder)
      used += holder.charged
    }
    this.#used = used
    this.#usedWhenAsked = used
  }

  /** What is counted is right. */
  #relieve(): void {
    this.#isRelieving = true
    const limit = this.#limit
    if (this.#used > limit * PAUSE_SHARE) {
      const greedy = [...this.#holders].sort((a, b) => b.charged - a.charged)
      if (!this.#isPressed) this.#pressedSince = this.#parts.clock.now()
      this.#say(true)
      this.#stop(greedy)
      const isHopeless = this.#parts.clock.now() - this.#pressedSince >= PATIENCE_MS
      if (this.#used > limit || isHopeless) this.#shed(greedy)
    }
    if (this.#used <= limit * RESUME_SHARE) {
      for (const holder of this.#stopped) {
        this.#stopped.delete(holder)
        holder.releaseReading()
      }
      this.#say(false)
    }
    this.#isRelieving = false
    this.#usedWhenAsked = this.#used
    if (this.#isPressed) this.#lookIn(LOOK_MS)
  }

  #lookIn(ms: number): void {
    this.#cancelLook ??= this.#parts.clock.after(ms, () => {
      this.#cancelLook = undefined
      this.#look()
    })
  }

  #stop(greedy: readonly Holder[]): void {
    let read = 0
    for (const holder of greedy) if (!this.#stopped.has(holder)) read += holder.charged
    for (const holder of greedy) {
      if (read <= this.#limit * READ_SHARE) return
      if (this.#stopped.has(holder)) continue
      this.#stopped.add(holder)
      read -= holder.charged
      holder.holdReading()
    }
  }

  #shed(greedy: readonly Holder[]): void {
    for (const holder of greedy) {
      if (this.#used <= this.#limit * SHED_SHARE) break
      const bytes = holder.charged
      const message = `${bytes} bytes held for connection ${holder.id}, ${this.#used} for all; limits.memoryBytes is ${this.#limit}`
      this.forget(holder)
      holder.shed(new ConnectionError('MEMORY_PRESSURE', message, { bytes, limit: this.#limit }))
    }
    this.#pressedSince = this.#parts.clock.now()
  }

  #look(): void {
    this.#askAll()
    this.#relieve()
  }

  #say(isPressed: boolean): void {
    if (isPressed === this.#isPressed) return
    this.#isPressed = isPressed
    this.#parts.pressed(isPressed, this.#used, this.#limit)
  }
}
