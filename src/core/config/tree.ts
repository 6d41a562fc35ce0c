/**
 * A configuration put together from several sources, each leaf knowing where it came from.
 *
 * Room: core, configuration. Objects without a prototype throughout, so that no key of a file can reach Object.prototype.
 */
import { ConfigError } from '../errors.js'

/** Where a value came from. */
export interface Origin {
  readonly kind: 'default' | 'import' | 'file' | 'environment' | 'flag' | 'code'
  /** The file's path, the variable, the flag; `code` or `default`. */
  readonly name: string
}

export type Path = readonly string[]
export type Branch = Record<string, unknown>

/** No setting stands deeper. */
const MOST_DEPTH = 64

const forbidden = new Set(['__proto__', 'constructor', 'prototype'])

export class Tree {
  readonly root: Branch = Object.create(null)
  readonly #origins = new Map<string, Origin>()

  /** Puts a source above what is there: branches merge, everything else replaces. */
  merge(source: unknown, origin: Origin): void {
    refuseOdd(source, origin.name)
    this.#mergeInto(this.root, source as Branch, [], origin)
  }

  set(path: Path, value: unknown, origin: Origin): void {
    const leaf = path.at(-1)
    if (leaf === undefined) throw new ConfigError('BAD_VALUE', `${origin.name}: the path is empty`)
    // As a source of its own: one rule for merging and for forbidden keys.
    const source: Branch = Object.create(null)
    let at = source
    for (const key of path.slice(0, -1)) at = at[key] = Object.create(null) as Branch
    at[leaf] = value
    this.#mergeInto(this.root, source, [], origin)
  }

  get(path: Path): unknown {
    let at: unknown = this.root
    for (const key of path) at = isBranch(at) ? at[key] : undefined
    return at
  }

  /** Of a leaf, or of the nearest thing above or the first below it. */
  origin(path: Path): Origin | undefined {
    for (let length = path.length; length > 0; length--) {
      const found = this.#origins.get(keyOf(path.slice(0, length)))
      if (found !== undefined) return found
    }
    const prefix = `${keyOf(path)}\0`
    for (const [key, origin] of this.#origins) if (key.startsWith(prefix)) return origin
    return undefined
  }

  #mergeInto(target: Branch, source: Branch, path: Path, origin: Origin): void {
    for (const key of Object.keys(source)) {
      const at = [...path, key]
      if (forbidden.has(key)) {
        throw new ConfigError(
          'UNKNOWN_KEY',
          `${at.join('.')}: this key is refused, it could change every object (${origin.name})`,
          { origin },
        )
      }
      const value = source[key]
      if (value === undefined) continue
      if (!isBranch(value, key)) {
        this.#forget(at)
        target[key] = value
        this.#origins.set(keyOf(at), origin)
        continue
      }
      if (!isBranch(target[key])) {
        this.#forget(at)
        target[key] = Object.create(null)
        // An empty branch is said by somebody too.
        if (Object.keys(value).length === 0) this.#origins.set(keyOf(at), origin)
      }
      this.#mergeInto(target[key] as Branch, value, at, origin)
    }
  }

  #forget(path: Path): void {
    const key = keyOf(path)
    this.#origins.delete(key)
    for (const other of this.#origins.keys()) if (other.startsWith(`${key}\0`)) this.#origins.delete(other)
  }
}

/**
 * What cannot be merged, before anything walks through it.
 *
 * @param name - The file, variable or flag.
 * @throws {ConfigError} `UNREADABLE` for what is no object, and for one that is too deep or goes round in a circle.
 */
export function refuseOdd(source: unknown, name: string): asserts source is Branch {
  if (!isBranch(source)) {
    const got = source === null ? 'null' : Array.isArray(source) ? 'a list' : typeof source
    throw new ConfigError('UNREADABLE', `${name}: expected an object of settings, got ${got}`, { origin: name })
  }
  // Level by level, each thing of a level once, so that neither depth nor aliases of YAML cost more than there is to read.
  let level = new Set<unknown>([source])
  for (let depth = 0; level.size > 0; depth++) {
    if (depth > MOST_DEPTH) {
      throw new ConfigError(
        'UNREADABLE',
        `${name}: its settings go deeper than ${MOST_DEPTH} levels, or round in a circle (an alias of YAML within itself)`,
        { origin: name },
      )
    }
    const below = new Set<unknown>()
    for (const one of level) {
      for (const [key, value] of Object.entries(one as object))
        if (Array.isArray(value) || isBranch(value, key)) below.add(value)
    }
    level = below
  }
}

/** Keys where code may give the thing itself: an object with methods there is no settings. */
const things = new Set(['codec', 'handler', 'protocol', 'executor', 'app'])

/** Settings by key; not an array, not an instance, and not a thing of code. @param key - Where it stands. */
export function isBranch(value: unknown, key = ''): value is Branch {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const prototype = Object.getPrototypeOf(value)
  if (prototype !== null && prototype !== Object.prototype) return false
  if ((value as { kind?: unknown }).kind === 'gaidaros.handler' || '~standard' in value) return false
  return !(things.has(key) && Object.values(value).some((one) => typeof one === 'function'))
}

const keyOf = (path: Path): string => path.join('\0')
