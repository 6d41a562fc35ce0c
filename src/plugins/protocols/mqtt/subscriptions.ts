/**
 * Who wants which topics, and what is kept for those who come later.
 *
 * Room: plugins/protocols. MQTT 5.0, 3.8 and 3.3.1.3. Filters without wildcards are found by their topic, so that a message
 * costs what it reaches; the others are compared one by one.
 */
import { levelsOf, matchesLevels } from './topics.js'

export type Qos = 0 | 1 | 2

export interface Subscription {
  readonly qos: Qos
  /** Not what this connection has published itself (version 5). */
  readonly noLocal: boolean
  /** The retain flag as it was published (version 5). */
  readonly asPublished: boolean
}

interface Wild extends Subscription {
  readonly levels: readonly string[]
}

export class Subscriptions<Owner> {
  readonly #exact = new Map<string, Map<Owner, Subscription>>()
  readonly #wild = new Map<Owner, Map<string, Wild>>()
  readonly #filters = new Map<Owner, Set<string>>()

  count(owner: Owner): number {
    return this.#filters.get(owner)?.size ?? 0
  }
  has(owner: Owner, filter: string): boolean {
    return this.#filters.get(owner)?.has(filter) ?? false
  }

  set(owner: Owner, filter: string, subscription: Subscription): void {
    of(this.#filters, owner, () => new Set<string>()).add(filter)
    if (isWild(filter))
      of(this.#wild, owner, () => new Map()).set(filter, { ...subscription, levels: levelsOf(filter) })
    else of(this.#exact, filter, () => new Map()).set(owner, subscription)
  }

  delete(owner: Owner, filter: string): boolean {
    const own = this.#filters.get(owner)
    if (own === undefined || !own.delete(filter)) return false
    if (own.size === 0) this.#filters.delete(owner)
    if (isWild(filter)) {
      const wild = this.#wild.get(owner)
      wild?.delete(filter)
      if (wild?.size === 0) this.#wild.delete(owner)
      return true
    }
    const owners = this.#exact.get(filter)
    owners?.delete(owner)
    if (owners?.size === 0) this.#exact.delete(filter)
    return true
  }

  leave(owner: Owner): void {
    for (const filter of [...(this.#filters.get(owner) ?? [])]) this.delete(owner, filter)
  }

  /** Each who wants it, once, at the best quality that was granted. */
  wanting(topic: string): Map<Owner, Subscription> {
    const found = new Map(this.#exact.get(topic))
    if (this.#wild.size === 0) return found
    const levels = levelsOf(topic)
    for (const [owner, filters] of this.#wild) {
      for (const wild of filters.values()) {
        const known = found.get(owner)
        if (known !== undefined && known.qos >= wild.qos) continue
        if (matchesLevels(wild.levels, levels)) found.set(owner, wild)
      }
    }
    return found
  }
}

function isWild(filter: string): boolean {
  return filter.includes('+') || filter.includes('#')
}

function of<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key)
  if (value === undefined) {
    value = make()
    map.set(key, value)
  }
  return value
}

/** The last message of a topic that was published to be kept. */
export interface RetainedMessage {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: Qos
  readonly properties: Readonly<Record<string, unknown>>
}

/** What all of them take together, payloads and topics. */
const MOST_BYTES = 16 * 1024 * 1024

export class Retained {
  readonly #messages = new Map<string, RetainedMessage & { readonly at: number }>()
  readonly #most: number
  readonly #now: () => number
  #bytes = 0

  /** @param most - Topics; the oldest goes first. */
  constructor(most: number, now: () => number) {
    this.#most = most
    this.#now = now
  }

  /** An empty payload forgets the topic (3.3.1.3). */
  keep(message: RetainedMessage): void {
    this.#forget(message.topic)
    if (message.payload.length === 0 || sizeOf(message) > MOST_BYTES || this.#most === 0) return
    this.#messages.set(message.topic, { ...message, at: this.#now() })
    this.#bytes += sizeOf(message)
    while (this.#messages.size > this.#most || this.#bytes > MOST_BYTES)
      this.#forget(this.#messages.keys().next().value as string)
  }

  *under(filter: string): Iterable<RetainedMessage> {
    if (!isWild(filter)) {
      const found = this.#fresh(filter)
      if (found !== undefined) yield found
      return
    }
    const levels = levelsOf(filter)
    for (const topic of [...this.#messages.keys()]) {
      if (!matchesLevels(levels, levelsOf(topic))) continue
      const found = this.#fresh(topic)
      if (found !== undefined) yield found
    }
  }

  /** Message Expiry Interval (3.3.2.3.3): what is left of it is what is told. */
  #fresh(topic: string): RetainedMessage | undefined {
    const message = this.#messages.get(topic)
    const seconds = message?.properties.messageExpiryInterval
    if (message === undefined || typeof seconds !== 'number') return message
    const left = Math.ceil(seconds - (this.#now() - message.at) / 1_000)
    if (left > 0) return { ...message, properties: { ...message.properties, messageExpiryInterval: left } }
    this.#forget(topic)
    return undefined
  }

  #forget(topic: string): void {
    const message = this.#messages.get(topic)
    if (message === undefined) return
    this.#bytes -= sizeOf(message)
    this.#messages.delete(topic)
  }
}

function sizeOf({ topic, payload }: RetainedMessage): number {
  return topic.length + payload.length
}
