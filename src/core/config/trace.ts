/**
 * Errors about configured values, with the key they stand at and where the value came from.
 *
 * Room: core, configuration. What is found out while handlers load, listeners are planned or addresses bound knows its key
 * at most; the file, variable or flag behind it is known here.
 */
import { ConfigError } from '../errors.js'
import { parsePath } from './assignments.js'
import type { Origin, Path } from './tree.js'

/** A ConfigError that says at which key; any other error as it is. */
export function atKey(thrown: unknown, place: string): unknown {
  if (!(thrown instanceof ConfigError) || thrown.fields.place !== undefined) return thrown
  const message = thrown.message.startsWith(place) ? thrown.message : `${place}: ${thrown.message}`
  return restated(thrown, message, { place })
}

/** What a transport says of its options, which it knows by their own names (`tls.cert`), at its listener's key. */
export function ofListener(thrown: unknown, name: string): unknown {
  if (!(thrown instanceof ConfigError)) return thrown
  const { option } = thrown.fields
  if (typeof option !== 'string' || !thrown.message.startsWith(option)) return atKey(thrown, `listeners.${name}`)
  const place = `listeners.${name}.${option}`
  return restated(thrown, `listeners.${name}.${thrown.message}`, { place })
}

/** A ConfigError that says where its value came from, if that is known. */
export function withOrigin(thrown: unknown, originOf: (path: Path) => Origin | undefined): unknown {
  if (!(thrown instanceof ConfigError)) return thrown
  const { place, origin } = thrown.fields
  if (typeof place !== 'string' || origin !== undefined) return thrown
  const path = pathOf(place)
  const [group, name, ...key] = path
  const own = originOf(path)
  if (own !== undefined) return restated(thrown, marked(thrown, own), { origin: own.name })
  // A listener's value may be the one that stands at the top for all of them.
  const shared = group === 'listeners' && key.length > 0 ? originOf(key) : undefined
  if (shared === undefined) return thrown
  const message = thrown.message.replaceAll(`listeners.${name}.${key[0]}`, key[0] as string)
  const atTop = restated(thrown, message, { origin: shared.name, place: place.slice(`listeners.${name}.`.length) })
  return restated(atTop, marked(atTop, shared), {})
}

/** Several faults stand on a line each. */
function marked({ message, fields }: ConfigError, { name }: Origin): string {
  const lines = Array.isArray(fields.faults) ? message.split('\n') : [message]
  return lines.map((line) => `${line} (${name})`).join('\n')
}

function pathOf(place: string): Path {
  try {
    return parsePath(place, { kind: 'code', name: 'code' })
  } catch {
    // No key of the configuration, such as `handler Greeter`.
    return []
  }
}

function restated(error: ConfigError, message: string, more: Readonly<Record<string, unknown>>): ConfigError {
  const { cause } = error
  return new ConfigError(error.code, message, { ...error.fields, ...more, ...(cause === undefined ? {} : { cause }) })
}
