/** Room: core/places. What a place is told before it finds its first handler. */
import type { Configuration } from '../configuration.js'
import { isPortable } from './wire.js'

/** What handlers elsewhere stand on. */
export interface PlaceSeed {
  /** Relative names are meant from here. */
  readonly directory: string
  /** The configuration's values, as far as they are data. */
  readonly values: Partial<Configuration>
}

/** Takes along what is data, all the way down. */
export function seedOf(directory: string, values: Configuration): PlaceSeed {
  return { directory, values: onlyData(values) as Partial<Configuration> }
}

function onlyData(value: unknown): unknown {
  if (typeof value === 'function' || typeof value === 'symbol') return undefined
  if (Array.isArray(value)) return value.map(onlyData).filter((one) => one !== undefined)
  if (typeof value !== 'object' || value === null) return value
  const prototype = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) return isPortable(value) ? value : undefined
  const entries = Object.entries(value).map(([key, one]) => [key, onlyData(one)] as const)
  return Object.fromEntries(entries.filter(([, one]) => one !== undefined))
}
