/**
 * The last message of each topic that was published to be kept.
 *
 * Room: plugins/protocols. MQTT 5.0, 3.3.1.3. Bounded in topics and in bytes; what was kept first goes first.
 */
import type { Account, Holding } from '../../../core/account.js'
import { weightOf } from '../parcel.js'
import { isWild, type Qos } from './subscriptions.js'
import { levelsOf, matchesLevels } from './topics.js'

export interface RetainedMessage {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: Qos
  readonly properties: Readonly<Record<string, unknown>>
}

interface KeptMessage extends RetainedMessage {
  readonly at: number
  readonly holding: Holding
}

export class Retained {
  readonly #messages = new Map<string, KeptMessage>()
  readonly #most: number
  readonly #account: Account
  readonly #now: () => number

  /** @param most - Topics. */
  constructor(most: number, account: Account, now: () => number) {
    this.#most = most
    this.#account = account
    this.#now = now
  }

  get size(): number {
    return this.#messages.size
  }

  /** An empty payload forgets the topic (3.3.1.3). */
  keep({ topic, payload, qos, properties }: RetainedMessage): void {
    this.#forget(topic)
    if (payload.length === 0 || this.#most === 0) return
    const holding = this.#account.hold(() => this.#messages.delete(topic))
    if (!holding.take(bytesOf(topic, payload, properties))) return holding.release()
    this.#messages.set(topic, { topic, payload, qos, properties, at: this.#now(), holding })
    if (this.#messages.size > this.#most) this.#forget(this.#messages.keys().next().value as string)
  }

  /** Topics under a filter; undefined stands for one that does not fall under it, where whoever asks may give way. */
  *under(filter: string): Iterable<string | undefined> {
    if (!isWild(filter)) return yield filter
    const levels = levelsOf(filter)
    for (const topic of [...this.#messages.keys()]) yield matchesLevels(levels, levelsOf(topic)) ? topic : undefined
  }

  /** Message Expiry Interval (3.3.2.3.3): what is left of it is what is told. */
  get(topic: string): RetainedMessage | undefined {
    const message = this.#messages.get(topic)
    const seconds = message?.properties.messageExpiryInterval
    if (message === undefined || typeof seconds !== 'number') return message
    const left = Math.ceil(seconds - (this.#now() - message.at) / 1_000)
    if (left > 0) return { ...message, properties: { ...message.properties, messageExpiryInterval: left } }
    this.#forget(topic)
    return undefined
  }

  #forget(topic: string): void {
    this.#messages.get(topic)?.holding.release()
    this.#messages.delete(topic)
  }
}

/** What a message costs that is kept. */
export function bytesOf(topic: string, payload: Buffer, properties: Readonly<Record<string, unknown>>): number {
  return 256 + 2 * topic.length + payload.length + weightOf(properties)
}
