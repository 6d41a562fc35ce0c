/**
 * What another place is told of a connection when its handler takes a seat there.
 *
 * Room: core, mechanism. Facts are taken as they are at that moment; features and attributes that cannot leave their process
 * stay behind.
 */
import type { Connection } from '../connection.js'
import { Endpoint, parseEndpoint } from '../endpoint.js'
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
  return [...connection.attributes]
    .filter(([key, value]) => isPortable(key) && isPortable(value))
    .map(([key, value]) => [key, withoutEndpoints(value)])
}

export function factsOf(connection: Connection, hooks: boolean): SeatFacts {
  const { id, endpoint, local, remote, transport, listener, stats } = connection
  const features: Record<string, unknown> = {}
  for (const token of definedFeatures()) {
    const value = connection.feature(token)
    if (value !== undefined && isPortable(value)) features[token.feature] = withoutEndpoints(value)
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

/** An endpoint would arrive as a bare string object, without its parts. */
const ENDPOINT = '\0endpoint'

/** Endpoints, by themselves or as fields, in a form that travels. */
function withoutEndpoints(value: unknown): unknown {
  if (value instanceof Endpoint) return { [ENDPOINT]: String(value) }
  return mapFields(value, (field) => (field instanceof Endpoint ? { [ENDPOINT]: String(field) } : field))
}

/** The way back. */
export function withEndpoints(value: unknown): unknown {
  return endpointIn(value) ?? mapFields(value, (field) => endpointIn(field) ?? field)
}

function endpointIn(value: unknown): Endpoint | undefined {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, ENDPOINT)) return undefined
  return parseEndpoint((value as Record<string, string>)[ENDPOINT] as string)
}

/** The object itself where nothing changes; only plain objects are looked into. */
function mapFields(value: unknown, change: (field: unknown) => unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  const prototype = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) return value
  let mapped: Record<string, unknown> | undefined
  for (const [key, field] of Object.entries(value)) {
    const changed = change(field)
    if (changed === field) continue
    mapped ??= { ...value }
    mapped[key] = changed
  }
  return mapped ?? value
}
