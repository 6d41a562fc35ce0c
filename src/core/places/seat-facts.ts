/**
 * What another place is told of a connection when its handler takes a seat there.
 *
 * Room: core, mechanism. Facts are taken as they are at that moment; features and attributes that cannot leave their process
 * stay behind.
 */
import type { Connection } from '../connection.js'
import { definedFeatures } from '../feature.js'
import { isPortable } from './wire.js'

export interface SeatFacts {
  readonly id: string
  readonly endpoint: string
  readonly local: string | undefined
  readonly remote: string | undefined
  readonly transport: string
  readonly listener: string | undefined
  readonly openedAt: number
  readonly features: Readonly<Record<string, unknown>>
  readonly attributes: readonly (readonly [unknown, unknown])[]
  /** False: only single methods run there, and no hook. */
  readonly hooks: boolean
}

/** A session counts changes of its attributes, so that nobody need compare them. */
type Counted = Connection & { readonly attributesVersion?: number }

export function attributesVersion(connection: Connection): number {
  return (connection as Counted).attributesVersion ?? connection.attributes.size
}

export function portableAttributes(connection: Connection): [unknown, unknown][] {
  if (attributesVersion(connection) === 0) return []
  return [...connection.attributes].filter(([key, value]) => isPortable(key) && isPortable(value))
}

export function factsOf(connection: Connection, hooks: boolean): SeatFacts {
  const { id, endpoint, local, remote, transport, listener, stats } = connection
  const features: Record<string, unknown> = {}
  for (const token of definedFeatures()) {
    const value = connection.feature(token)
    if (value !== undefined && isPortable(value)) features[token.feature] = value
  }
  return {
    id,
    endpoint: String(endpoint),
    local: local === undefined ? undefined : String(local),
    remote: remote === undefined ? undefined : String(remote),
    transport,
    listener,
    openedAt: stats.openedAt.getTime(),
    features,
    attributes: portableAttributes(connection),
    hooks,
  }
}
