/**
 * Who subscribed to what, and what waits for an acknowledgement.
 *
 * Room: plugins/protocols. Lives in memory; a destination is compared as it is written.
 */
import type { Connection } from '../../../core/connection.js'
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
  readonly waiting: { readonly subscription: Subscription; readonly frame: Delivery }[]
  /** SENDs of transactions that are open. */
  readonly transactions: Map<string, StompFrame[]>
  cancel: () => void
}

export interface Delivery {
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: string | Uint8Array
}

/** Messages that wait behind those not acknowledged. */
const MOST_WAITING = 1_000

let lastId = 0

export class StompBroker {
  readonly #destinations = new Map<string, Set<Subscription>>()
  readonly #inFlight: number

  constructor(inFlight: number) {
    this.#inFlight = inFlight
  }

  subscribe(subscription: Subscription): void {
    const { seat, id, destination } = subscription
    seat.subscriptions.set(id, subscription)
    let all = this.#destinations.get(destination)
    if (all === undefined) this.#destinations.set(destination, (all = new Set()))
    all.add(subscription)
  }

  unsubscribe({ subscriptions, sent }: Seat, id: string): boolean {
    const subscription = subscriptions.get(id)
    if (subscription === undefined) return false
    subscriptions.delete(id)
    for (const [ack, of] of sent) if (of === subscription) sent.delete(ack)
    const all = this.#destinations.get(subscription.destination)
    all?.delete(subscription)
    if (all?.size === 0) this.#destinations.delete(subscription.destination)
    return true
  }

  leave(seat: Seat): void {
    for (const id of [...seat.subscriptions.keys()]) this.unsubscribe(seat, id)
    seat.waiting.length = 0
    seat.transactions.clear()
  }

  hasSubscribers(destination: string): boolean {
    return this.#destinations.has(destination)
  }

  /** To everybody who subscribed. */
  publish(destination: string, delivery: Delivery): void {
    for (const subscription of this.#destinations.get(destination) ?? []) this.#deliver(subscription, delivery)
  }

  #deliver(subscription: Subscription, frame: Delivery): void {
    const { seat } = subscription
    if (subscription.ack !== 'auto' && seat.sent.size >= this.#inFlight) {
      // Who does not acknowledge is not served without end.
      if (seat.waiting.length < MOST_WAITING) seat.waiting.push({ subscription, frame })
      else void seat.connection.close('SLOW_PEER')
      return
    }
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
      const next = seat.waiting.shift()
      if (next !== undefined && seat.subscriptions.get(next.subscription.id) === next.subscription)
        this.#deliver(next.subscription, next.frame)
    }
    return true
  }
}
