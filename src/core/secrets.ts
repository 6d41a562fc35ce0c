/**
 * Which settings are secrets: what their schemas say, and names as a safety net beneath it.
 *
 * Room: core, mechanism. Whatever shows settings (`config`, errors, logs) asks here; nothing else decides what is hidden.
 */

type Path = readonly string[]

/** Of TLS options, which stand in several places: what opens a key, and keys that stand there themselves. */
export const tlsSecrets: readonly string[] = ['key', 'pfx', 'passphrase', 'ticketKeys'].concat(
  ['key', 'pfx', 'passphrase'].map((key) => `sni.*.${key}`),
)

/** Shown in place of a secret. */
export const HIDDEN = '(hidden)'
/** Stands for any key, and any place in a list, in the path of a secret. */
const ANY = '*'
/** Schemas that name themselves go no deeper than settings do. */
const MOST_DEPTH = 8

/** Keys whose values are nobody's business, whatever their schema says or forgets to say. */
export function soundsSecret(path: Path): boolean {
  return path.some(
    (key) =>
      (/^(key|pfx|passphrase|password|secret|token|credentials)$/i.test(key) && path.includes('tls')) ||
      /pass(phrase|word)|secret|token|credential/i.test(key),
  )
}

/** The secrets of one configuration, or of the options of one thing. */
export class Secrets {
  readonly #patterns: Path[] = []

  /** @param schema - Of the options that stand at `at`: our rows (`secret: true`), or a Standard Schema of any library. */
  add(at: Path, schema: unknown): this {
    for (const path of secretPaths(schema)) this.#patterns.push([...at, ...path])
    return this
  }

  /** Whether this, or what it is a part of, must not be shown. */
  has(path: Path): boolean {
    return (
      soundsSecret(path) ||
      this.#patterns.some(
        (pattern) => pattern.length <= path.length && pattern.every((key, place) => key === ANY || key === path[place]),
      )
    )
  }

  /** A copy that may be shown. A branch as a whole may hold some, and so may an address. @param path - Where it stands. */
  hide(value: unknown, path: Path = []): unknown {
    if (path.length > 0 && this.has(path)) return HIDDEN
    if (typeof value === 'string' || value instanceof String)
      return value.replace(/(\w:\/\/)[^/\s@]+@/g, `$1${HIDDEN}@`)
    if (typeof value !== 'object' || value === null) return value
    // Deeper than any setting: a thing of code, and perhaps a circle.
    if (path.length > MOST_DEPTH) return '…'
    if (Array.isArray(value)) return value.map((one, i) => this.hide(one, [...path, String(i)]))
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, this.hide(one, [...path, key])]))
  }

  /** A text of somebody else's that may quote what was given. @param given - The options that it speaks of. */
  scrub(text: string, given: unknown): string {
    let shown = text
    for (const secret of this.#textsIn(given, [], false)) {
      for (const quote of ['"', "'", '`']) shown = shown.replaceAll(`${quote}${secret}${quote}`, HIDDEN)
      // A shorter one would be found within words that have nothing to do with it.
      if (secret.length >= 4) shown = shown.replaceAll(secret, HIDDEN)
    }
    return shown
  }

  *#textsIn(value: unknown, path: Path, isWithin: boolean): Iterable<string> {
    const isSecret = isWithin || (path.length > 0 && this.has(path))
    if (isSecret && ['string', 'number', 'bigint'].includes(typeof value)) yield String(value)
    if (typeof value !== 'object' || value === null || path.length > MOST_DEPTH || value instanceof Uint8Array) return
    for (const [key, one] of Object.entries(value)) yield* this.#textsIn(one, [...path, key], isSecret)
  }
}

/** Below the options; {@link ANY} for any key. */
function secretPaths(schema: unknown): Iterable<Path> {
  const { fields } = (schema ?? {}) as { fields?: Readonly<Record<string, { secret?: boolean | readonly string[] }>> }
  if (typeof fields === 'object' && fields !== null) {
    return Object.entries(fields).flatMap(([key, { secret = false }]) =>
      typeof secret === 'boolean' ? (secret ? [[key]] : []) : secret.map((part) => [key, ...part.split('.')]),
    )
  }
  const json = jsonSchemaOf(schema)
  return json === undefined ? [] : [...secretsOfJson(json, json, [])]
}

/** JSON Schema itself, or what a Standard Schema makes of itself (standardschema.dev, Standard JSON Schema). */
function jsonSchemaOf(schema: unknown): object | undefined {
  if (typeof schema !== 'object' || schema === null) return undefined
  if (!('~standard' in schema)) return schema
  const { jsonSchema } = schema['~standard'] as { jsonSchema?: { input?: (options: object) => object } }
  try {
    return jsonSchema?.input?.({ target: 'draft-07' })
  } catch {
    // It has parts that JSON Schema cannot say; names decide then.
    return undefined
  }
}

interface JsonSchema {
  readonly writeOnly?: boolean
  readonly format?: string
  readonly secret?: boolean
  readonly $ref?: string
  readonly properties?: Readonly<Record<string, unknown>>
  readonly patternProperties?: Readonly<Record<string, unknown>>
  readonly [key: string]: unknown
}

/** `writeOnly` (JSON Schema Validation, draft 7, 10.3), `format: "password"` (OpenAPI) and `secret`, as a library's metadata may have it. */
function* secretsOfJson(schema: unknown, root: object, path: Path, steps = 0): Iterable<Path> {
  if (typeof schema !== 'object' || schema === null || path.length > MOST_DEPTH || steps > MOST_DEPTH) return
  const one = schema as JsonSchema
  if (one.writeOnly === true || one.format === 'password' || one.secret === true) {
    if (path.length > 0) yield path
    return
  }
  if (one.$ref?.startsWith('#/')) {
    let found: unknown = root
    for (const key of one.$ref.slice(2).split('/')) found = (found as Record<string, unknown> | undefined)?.[key]
    yield* secretsOfJson(found, root, path, steps + 1)
  }
  for (const [key, part] of Object.entries(one.properties ?? {})) yield* secretsOfJson(part, root, [...path, key])
  for (const part of [one.additionalProperties, one.items, ...Object.values(one.patternProperties ?? {})])
    yield* secretsOfJson(part, root, [...path, ANY])
  for (const key of ['anyOf', 'oneOf', 'allOf']) {
    const forms = one[key]
    for (const part of Array.isArray(forms) ? forms : []) yield* secretsOfJson(part, root, path, steps + 1)
  }
}
