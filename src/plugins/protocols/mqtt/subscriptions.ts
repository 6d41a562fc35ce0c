/**
 * Who wants which topics.
 *
 * Room: plugins/protocols. MQTT 5.0, 3.8. Filters without wildcards are found by their topic, so that a message
 * costs what it reaches; the others are compared one by one.
 */
import { levelsOf, matchesLevels } from './topics.js'

export type Qos = 0 | 1 | 2

/** What goes to subscribers. */
export interface Publication {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: Qos
  readonly retain: boolean
  readonly properties: Readonly<Record<string, unknown>>
}

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

  /** Who may want it, each once: as it is now, whatever happens while they are told. */
  interested(topic: string): Set<Owner> {
    const owners = new Set(this.#exact.get(topic)?.keys())
    for (const owner of this.#wild.keys()) owners.add(owner)
    return owners
  }

  get hasWild(): boolean {
    return this.#wild.size > 0
  }

  /** Filters that are compared one by one for this owner. */
  wildOf(owner: Owner): number {
    return this.#wild.get(owner)?.size ?? 0
  }

  /** The best quality that was granted, of all filters that take the topic. */
  best(owner: Owner, topic: string, levels: readonly string[]): Subscription | undefined {
    let best = this.#exact.get(topic)?.get(owner)
    for (const wild of this.#wild.get(owner)?.values() ?? NONE) {
      if (best !== undefined && best.qos >= wild.qos) continue
      if (matchesLevels(wild.levels, levels)) best = wild
    }
    return best
  }
}

const NONE: readonly Wild[] = []

export function isWild(filter: string): boolean {
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
