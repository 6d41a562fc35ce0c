/**
 * Alarms: what an operator should see to, raised once and cleared once it has stayed away.
 *
 * Room: core, mechanism. Raised at once; cleared after a cool-down, so that a value that swings around its threshold is one
 * alarm and not a hundred. An alarm decides nothing: what is done about its cause is done elsewhere.
 */
import type { AlarmName } from './alarm-name.js'
import type { Clock } from './clock.js'
import type { EventHub } from './events.js'

export interface Alarm {
  readonly alarm: AlarmName
  /** Undefined: the whole server's. */
  readonly listener: string | undefined
  readonly since: Date
  /** As it stood when the alarm was raised. */
  readonly value: number
  /** What is 100 %. */
  readonly limit: number
}

interface Active extends Alarm {
  readonly began: number
  cancel: (() => void) | undefined
}

export class Alarms {
  readonly #clock: Clock
  readonly #events: EventHub
  readonly #coolDownMs: number
  readonly #active = new Map<string, Active>()

  constructor(clock: Clock, events: EventHub, coolDownMs: number) {
    this.#clock = clock
    this.#events = events
    this.#coolDownMs = coolDownMs
  }

  get active(): readonly Alarm[] {
    return [...this.#active.values()].map(({ alarm, listener, since, value, limit }) => ({
      alarm,
      listener,
      since,
      value,
      limit,
    }))
  }

  /** Says how a cause stands now; may be asked often. */
  set(alarm: AlarmName, listener: string | undefined, isOn: boolean, value: number, limit: number): void {
    // Asked with each connection that comes and goes; most of the time nothing is wrong.
    if (!isOn && this.#active.size === 0) return
    const key = listener === undefined ? alarm : `${alarm} ${listener}`
    const known = this.#active.get(key)
    if (known === undefined) {
      if (!isOn) return
      const raised = { alarm, listener, since: new Date(), value, limit }
      this.#active.set(key, { ...raised, began: this.#clock.now(), cancel: undefined })
      this.#events.emit('alarm.raised', raised)
    } else if (isOn) {
      known.cancel?.()
      known.cancel = undefined
    } else known.cancel ??= this.#clock.after(this.#coolDownMs, () => this.#clear(key, known))
  }

  /** Nothing is cleared any more. */
  close(): void {
    for (const { cancel } of this.#active.values()) cancel?.()
  }

  #clear(key: string, { alarm, listener, began }: Active): void {
    this.#active.delete(key)
    this.#events.emit('alarm.cleared', { alarm, listener, lastedMs: Math.round(this.#clock.now() - began) })
  }
}

/** On at so much of a limit, off again below a little less. */
export class Threshold {
  isOn = false
  readonly #on: number
  readonly #off: number

  constructor(on: number, off: number) {
    this.#on = on
    this.#off = off
  }

  /** @returns whether it is on now. A limit of Infinity never is. */
  at(value: number, limit: number): boolean {
    const share = limit > 0 ? value / limit : value > 0 ? Number.POSITIVE_INFINITY : 0
    this.isOn = share >= (this.isOn ? this.#off : this.#on)
    return this.isOn
  }
}
