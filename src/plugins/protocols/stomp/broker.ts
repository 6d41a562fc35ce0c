/**
 * Who subscribed to what, and what waits for an acknowledgement.
 *
 * Room: plugins/protocols. Lives in memory, counted in bytes; a destination is compared as it is written. A message to many gives
 * way to others (`Turns` in core/plugin).
 */

import type { Account, Holding } from '../../../core/account.js'
import type { Connection } from '../../../core/connection.js'
import type { Turns } from '../../../core/plugin.js'
import { giveWay } from '../give-way.js'
import { Parcel, weightOf } from '../parcel.js'
import type { StompFrame, StompFrameToSend, StompVersion } from './frame.js'

/** `auto`: sent is taken; `client`: an ACK takes all before it as well; `client-individual`: each its own. */
export type AckMode = 'auto' | 'client' | 'client-individual'

export interface Subscription {
  readonly id: string
  readonly destination: string
  readonly ack: AckMode
  readonly seat: Seat
}

/** One connection that said CONNECT. */
export interface Seat {
  readonly connection: Connection
  readonly version: StompVersion
  readonly user: string | undefined
  readonly subscriptions: Map<string, Subscription>
  /** Sent and not acknowledged, by the id that acknowledges it; in the order they were sent. */
  readonly sent: Map<string, Subscription>
  readonly waiting: Waiting[]
  /** SENDs of transactions that are open. */
  readonly transactions: Map<string, StompFrame[]>
  /** What all of that takes. */
  readonly holding: Holding
  cancel: () => void
}

interface Waiting {
  readonly subscription: Subscription
  readonly frame: Delivery
  /** Once for all who wait for it. */
  readonly parcel: Parcel
}

export interface Delivery {
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: string | Uint8Array
}

/** Messages that wait behind those not acknowledged. */
const MOST_WAITING = 1_000
/** Others are asked after so many deliveries. */
const WORK = 16

let lastId = 0

export class StompBroker {
  readonly #destinations = new Map<string, Set<Subscription>>()
  readonly #inFlight: number
  readonly #account: Account
  readonly #turns: Turns

  constructor(inFlight: number, account: Account, turns: Turns) {
    this.#inFlight = inFlight
    this.#account = account
    this.#turns = turns
  }

  /** What a connection keeps here. @param cut - Ends it: others, or the server, need the room. */
  hold(cut: (code: string) => void): Holding {
    return this.#account.hold((reason) => cut(reason === 'FULL' ? 'SLOW_PEER' : reason))
  }

  /** Where there is no room for it the connection is cut. */
  subscribe(subscription: Subscription): void {
    const { seat, id, destination } = subscription
    if (!seat.holding.take(subscriptionBytes(subscription))) return
    seat.subscriptions.set(id, subscription)
    let all = this.#destinations.get(destination)
    if (all === undefined) this.#destinations.set(destination, (all = new Set()))
    all.add(subscription)
  }

  unsubscribe({ subscriptions, sent, holding }: Seat, id: string): boolean {
    const subscription = subscriptions.get(id)
    if (subscription === undefined) return false
    subscriptions.delete(id)
    holding.give(subscriptionBytes(subscription))
    for (const [ack, of] of sent) if (of === subscription) sent.delete(ack)
    const all = this.#destinations.get(subscription.destination)
    all?.delete(subscription)
    if (all?.size === 0) this.#destinations.delete(subscription.destination)
    return true
  }

  leave(seat: Seat): void {
    for (const id of [...seat.subscriptions.keys()]) this.unsubscribe(seat, id)
    for (const { parcel } of seat.waiting) parcel.leave(seat.holding)
    seat.waiting.length = 0
    seat.transactions.clear()
    seat.holding.release()
  }

  hasSubscribers(destination: string): boolean {
    return this.#destinations.has(destination)
  }

  /** To everybody who has subscribed by now. @returns a promise where they are so many that others have their turn meanwhile. */
  publish(destination: string, delivery: Delivery): Promise<void> | undefined {
    const all = this.#destinations.get(destination)
    if (all === undefined) return undefined
    let parcel: Parcel | undefined
    const shared = () => (parcel ??= new Parcel(256 + weightOf(delivery)))
    if (all.size <= WORK) {
      for (const subscription of all) this.#deliver(subscription, delivery, shared)
      return undefined
    }
    const rest = [...all].values()
    let work = 0
    return giveWay(() => {
      for (const subscription of rest) {
        // Whoever left meanwhile, or has subscribed anew, does not want this one.
        if (all.has(subscription)) this.#deliver(subscription, delivery, shared)
        if (++work % WORK > 0) continue
        const wait = this.#turns.breathe()
        if (wait !== undefined) return wait
      }
      return undefined
    })
  }

  #deliver(subscription: Subscription, frame: Delivery, shared: () => Parcel): void {
    const { seat } = subscription
    if (subscription.ack === 'auto' || seat.sent.size < this.#inFlight) return this.#send(subscription, frame)
    // Who does not acknowledge is not served without end: not in messages, and not in bytes.
    if (seat.waiting.length >= MOST_WAITING) return void seat.connection.close('SLOW_PEER')
    const parcel = shared()
    if (parcel.join(seat.holding)) seat.waiting.push({ subscription, frame, parcel })
  }

  #send(subscription: Subscription, frame: Delivery): void {
    const { seat } = subscription
    const id = `m${(++lastId).toString(36)}`
    if (subscription.ack !== 'auto') seat.sent.set(id, subscription)
    const own = {
      subscription: subscription.id,
      'message-id': id,
      destination: subscription.destination,
      // 1.1 acknowledges by message-id, 1.2 by this.
      ack: subscription.ack !== 'auto' && seat.version === '1.2' ? id : undefined,
    }
    const message: StompFrameToSend = { command: 'MESSAGE', headers: { ...frame.headers, ...own }, body: frame.body }
    void seat.connection.send(message)
  }

  /** ACK and NACK. @returns false for an id that waits for none. */
  acknowledge(seat: Seat, id: string): boolean {
    const subscription = seat.sent.get(id)
    if (subscription === undefined) return false
    if (subscription.ack === 'client') {
      for (const [earlier, of] of seat.sent) {
        if (of === subscription) seat.sent.delete(earlier)
        if (earlier === id) break
      }
    } else seat.sent.delete(id)
    while (seat.waiting.length > 0 && seat.sent.size < this.#inFlight) {
      const { subscription: next, frame, parcel } = seat.waiting.shift() as Waiting
      parcel.leave(seat.holding)
      if (seat.subscriptions.get(next.id) === next) this.#send(next, frame)
    }
    return true
  }
}

function subscriptionBytes({ id, destination }: Subscription): number {
  return 256 + 2 * (id.length + destination.length)
}

/** What a SEND costs that waits for its COMMIT. */
export function frameBytes({ headers, body }: StompFrame): number {
  return 256 + weightOf(headers) + body.length
}
