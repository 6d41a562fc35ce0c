/**
 * The nodes of a cluster as one front knows them: who has been heard, how busy each is, and which one is next.
 *
 * Room: plugins/executors. Whoever may publish may claim to be many nodes: no more than a bound are remembered.
 */
import { Backoff } from '../../../core/backoff.js'
import type { Clock } from '../../../core/clock.js'
import type { PlaceLoad } from '../../../core/executor.js'
import type { PlaceHandle } from '../../../core/places/place-handle.js'
import { hash } from '../pool.js'
import type { Presence } from './presence.js'

const MOST_NODES = 1_024

/** A node as this front knows it. */
export interface KnownNode {
  presence: Presence
  heardAt: number
  place: PlaceHandle | undefined
  /** Own seats when it last said how many it has. */
  seatsThen: number
  readonly backoff: Backoff
  /** Waits after it was lost again and again. */
  isResting: boolean
}

export class Roster {
  readonly #clock: Clock
  readonly #isPerMessage: boolean
  readonly #nodes = new Map<string, KnownNode>()

  constructor(clock: Clock, isPerMessage: boolean) {
    this.#clock = clock
    this.#isPerMessage = isPerMessage
  }

  get(instance: string): KnownNode | undefined {
    return this.#nodes.get(instance)
  }

  /** Takes down what a node has said. @returns `tooMany`: this one is not remembered; undefined: it is gone, or was never here. */
  heard(presence: Presence): KnownNode | 'tooMany' | undefined {
    const { instance, state } = presence
    const known = this.#nodes.get(instance)
    if (known === undefined) {
      if (state !== 'ready') return undefined
      if (this.#nodes.size >= MOST_NODES) return 'tooMany'
    }
    const node = known ?? {
      presence,
      heardAt: 0,
      place: undefined,
      seatsThen: 0,
      backoff: new Backoff(this.#clock),
      isResting: false,
    }
    node.presence = presence
    node.heardAt = this.#clock.now()
    node.seatsThen = node.place?.seats ?? 0
    this.#nodes.set(instance, node)
    if (state !== 'gone' || node.place !== undefined) return node
    this.#nodes.delete(instance)
    return undefined
  }

  /** Forgets those that have no place and have been silent for so long. */
  forget(silentMs: number): void {
    const now = this.#clock.now()
    for (const [instance, node] of this.#nodes) {
      if (node.place !== undefined || now - node.heardAt <= silentMs) continue
      node.backoff.stop()
      this.#nodes.delete(instance)
    }
  }

  stop(): void {
    for (const { backoff } of this.#nodes.values()) backoff.stop()
  }

  places(): PlaceLoad[] {
    return [...this.#nodes.values()].flatMap(({ presence, place }) => {
      if (place === undefined && presence.state !== 'ready') return []
      return [
        {
          name: `node ${presence.instance}`,
          state: place?.state ?? ('starting' as const),
          connections: place?.seats ?? 0,
          running: place?.running ?? 0,
          handled: place?.handled ?? 0,
          memoryBytes: presence.memoryBytes,
          connectionsOfAll: presence.connections,
        },
      ]
    })
  }

  // -- choosing ------------------------------------------------------------------------------------------------------

  *#ready(): Generator<{ node: KnownNode; place: PlaceHandle }> {
    for (const node of this.#nodes.values())
      if (node.place !== undefined && node.place.state === 'ready') yield { node, place: node.place }
  }

  /** By what it said itself, and what we have given it since. */
  leastLoaded(): PlaceHandle | undefined {
    let best: PlaceHandle | undefined
    let bestLoad = Number.POSITIVE_INFINITY
    for (const { node, place } of this.#ready()) {
      const { connections, running } = node.presence
      const load = this.#isPerMessage
        ? Math.max(running, place.running)
        : connections + Math.max(0, place.seats - node.seatsThen)
      if (load >= bestLoad) continue
      best = place
      bestLoad = load
    }
    return best
  }

  /** Rendezvous hashing: a node that comes or goes moves only its own keys. */
  byKey(key: string): PlaceHandle | undefined {
    let best: PlaceHandle | undefined
    let highest = -1
    for (const { node, place } of this.#ready()) {
      const weight = hash(`${node.presence.instance}:${key}`)
      if (weight <= highest) continue
      best = place
      highest = weight
    }
    return best
  }

  /** One that will serve in a moment. */
  starting(): PlaceHandle | undefined {
    for (const { place } of this.#nodes.values()) if (place?.state === 'starting') return place
    return undefined
  }
}
