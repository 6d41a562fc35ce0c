/**
 * Single settings from flags and variables: where they go, and what their text means there.
 *
 * Room: core, configuration.
 */
import { ConfigError } from '../errors.js'
import { nearest } from '../nearest.js'
import type { Origin, Path } from './tree.js'

/** One setting from outside of files. */
export interface Assignment {
  /** `listeners.public.endpoint`; keys with dots in quotes; or the keys themselves. */
  readonly path: string | Path
  /** Text is read as JSON where that fits the setting, else as it is. */
  readonly value: unknown
  readonly origin: Origin
}

/** What the checker knows of a place: its keys, and whether a value fits. */
export interface Place {
  /** Undefined: any key is allowed. */
  readonly keys: readonly string[] | undefined
  fits(value: unknown): boolean
  at(key: string): Place | undefined
}

/** Reads `a.b."c.d"[0]`. @throws {ConfigError} `BAD_USAGE`. */
export function parsePath(text: string, origin: Origin): Path {
  const keys: string[] = []
  const pattern = /(?:^|\.)(?:"([^"]*)"|([^.[\]"]+))|\[(\d+)\]/y
  let at = 0
  while (at < text.length) {
    pattern.lastIndex = at
    const match = pattern.exec(text)
    if (match === null) {
      throw new ConfigError(
        'BAD_USAGE',
        `${origin.name}: \`${text}\` is no path; expected one such as listeners.public.endpoint`,
        { origin },
      )
    }
    keys.push((match[1] ?? match[2] ?? match[3]) as string)
    at = pattern.lastIndex
  }
  return keys
}

/** Text as the setting wants it: JSON when that fits, else the text, else (for the error) what JSON made of it. */
export function readText(text: string, place: Place | undefined): unknown {
  let parsed: unknown = text
  try {
    parsed = JSON.parse(text)
  } catch {
    return text
  }
  if (place === undefined || place.fits(parsed)) return parsed
  return place.fits(text) ? text : parsed
}

/** Variables that are not settings. */
const reserved = new Set(['GAIDAROS_CONFIG', 'GAIDAROS_CONFORMANCE_REPORT'])

const isSetting = (variable: string): boolean => variable.startsWith('GAIDAROS_') && !reserved.has(variable)

export function hasSettings(env: Readonly<Record<string, string | undefined>>): boolean {
  return Object.entries(env).some(([variable, value]) => value !== undefined && isSetting(variable))
}

/**
 * Settings from the environment: `GAIDAROS_LISTENERS__PUBLIC__ENDPOINT`. Keys are found without regard to case and
 * underscores, so `FRAMEBYTES` and `FRAME_BYTES` both mean `frameBytes`.
 *
 * @param names - Names that exist already at a place of free names (listeners).
 * @throws {ConfigError} `UNKNOWN_KEY` naming the variable.
 */
export function fromEnvironment(
  env: Readonly<Record<string, string | undefined>>,
  top: Place,
  names: (path: Path) => readonly string[],
): Assignment[] {
  const result: Assignment[] = []
  for (const [variable, value] of Object.entries(env)) {
    if (!isSetting(variable) || value === undefined) continue
    const origin: Origin = { kind: 'environment', name: variable }
    const path: string[] = []
    let place: Place | undefined = top
    for (const segment of variable.slice('GAIDAROS_'.length).split('__')) {
      const key = keyFor(segment, place, names(path), variable, path)
      path.push(key)
      place = place?.at(key)
    }
    result.push({ path, value: readText(value, place), origin })
  }
  return result
}

function keyFor(
  segment: string,
  place: Place | undefined,
  present: readonly string[],
  variable: string,
  path: Path,
): string {
  const wanted = plain(segment)
  const found = [...(place?.keys ?? []), ...present].find((key) => plain(key) === wanted)
  if (found !== undefined) return found
  const asKey = segment.toLowerCase().replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
  if (place?.keys === undefined) return present.length === 0 && path[0] === 'listeners' ? segment.toLowerCase() : asKey
  const split = path.length === 0 ? splitAtOne(segment, place) : undefined
  if (split !== undefined) {
    const message = `${variable}: unknown key \`${asKey}\`; groups and keys are parted by two underscores: GAIDAROS_${split}`
    throw new ConfigError('UNKNOWN_KEY', message, { variable, nearest: `GAIDAROS_${split}` })
  }
  const near = nearest(asKey, place.keys)
  const where = path.length === 0 ? '' : ` in ${path.join('.')}`
  const hint = near === undefined ? '' : `; nearest: \`${near}\``
  throw new ConfigError('UNKNOWN_KEY', `${variable}: unknown key \`${asKey}\`${where}${hint}`, {
    variable,
    nearest: near,
  })
}

/** `LIMITS_CONNECTIONS`, where `limits` has `connections`. */
function splitAtOne(segment: string, top: Place): string | undefined {
  const words = segment.split('_')
  for (let i = 1; i < words.length; i++) {
    const [group, key] = [words.slice(0, i).join('_'), words.slice(i).join('_')]
    const name = top.keys?.find((one) => plain(one) === plain(group))
    const inside = name === undefined ? undefined : top.at(name)?.keys
    if (inside?.some((one) => plain(one) === plain(key))) return `${group}__${key}`
  }
  return undefined
}

const plain = (key: string): string => key.replace(/[_-]/g, '').toLowerCase()
