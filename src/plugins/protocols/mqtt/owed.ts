/**
 * What a client is owed: messages it has not acknowledged, and those that wait behind them.
 *
 * Room: plugins/protocols. MQTT 5.0, 4.3, 4.4 and 4.9. Counted in bytes, in one account while the client is there and in
 * another while it is away; what else is kept for it (subscriptions, names) is in the same.
 */
import type { Account, DropReason, Holding } from '../../../core/account.js'
import { Parcel } from '../parcel.js'
import { bytesOf } from './retained.js'
import type { Publication } from './subscriptions.js'
import type { Packet } from './wire.js'

/** One message of one client. */
export interface Owing {
  readonly packet: Packet
  /** Undefined: nothing but its number is kept. */
  readonly parcel: Parcel | undefined
  /** For what is not to be had for ever (3.3.2.3.3). */
  readonly at: number
}

export class Owed {
  /** Ours, unacknowledged; undefined where nothing is sent again. */
  readonly sent = new Map<number, Owing | undefined>()
  readonly waiting: Owing[] = []
  #holding: Holding
  /** Of what is kept beside the messages. */
  #besideBytes = 0

  constructor(account: Account, dropped: (reason: DropReason) => void) {
    this.#holding = account.hold(dropped)
  }

  /** @returns undefined where it must not be kept: this client had to go, or it is lost for one that is away. */
  owing(packet: Packet, parcel: Parcel, at: number): Owing | undefined {
    return parcel.join(this.#holding) ? { packet, parcel, at } : undefined
  }

  /** It has it. */
  settle(owing: Owing | undefined): void {
    owing?.parcel?.leave(this.#holding)
  }

  /** Something beside the messages. @returns false: it must not be. */
  keep(bytes: number): boolean {
    if (!this.#holding.take(bytes)) return false
    this.#besideBytes += bytes
    return true
  }

  forget(bytes: number): void {
    this.#besideBytes -= bytes
    this.#holding.give(bytes)
  }

  /** Everything, for good. */
  release(): void {
    for (const owing of this.sent.values()) this.settle(owing)
    for (const owing of this.waiting) this.settle(owing)
    this.sent.clear()
    this.waiting.length = 0
    this.#holding.release()
  }

  /**
   * From one account to another, in the order of the messages.
   *
   * @returns false where there is no room for it at all.
   */
  moveTo(account: Account, dropped: (reason: DropReason) => void): boolean {
    const sent = [...this.sent]
    const waiting = [...this.waiting]
    const beside = this.#besideBytes
    this.release()
    this.#besideBytes = 0
    this.#holding = account.hold(dropped)
    if (!this.keep(beside)) return false
    for (const [id, owing] of sent) {
      const moved = this.#moved(owing)
      // What was seen already keeps its number, or it would be taken for another.
      this.sent.set(id, moved)
    }
    for (const owing of waiting) {
      const moved = this.#moved(owing)
      if (moved !== undefined) this.waiting.push(moved)
    }
    return true
  }

  #moved(owing: Owing | undefined): Owing | undefined {
    if (owing?.parcel === undefined) return owing
    const { packet, parcel, at } = owing
    return this.owing(packet, new Parcel(parcel.bytes), at)
  }
}

/** What is kept of a message, once for all who wait for it. */
export function parcelOf({ topic, payload, properties }: Publication): Parcel {
  return new Parcel(bytesOf(topic, payload, properties))
}
