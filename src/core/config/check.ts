/**
 * Holds a configuration against its shape and says what is wrong, all of it, each with where it came from.
 *
 * Room: core, configuration.
 */
import { ConfigError } from '../errors.js'
import { nearest } from '../nearest.js'
import { HIDDEN, type Secrets } from '../secrets.js'
import type { Place } from './assignments.js'
import type { Path, Tree } from './tree.js'

type ZodModule = typeof import('./shape.js')
type Schema = {
  safeParse(value: unknown): { success: boolean; error?: { issues: readonly Issue[] } }
  def?: { type: string; innerType?: Schema; valueType?: Schema; catchall?: unknown; options?: Schema[] }
  shape?: Record<string, Schema>
}
interface Issue {
  readonly code: string
  readonly path: readonly PropertyKey[]
  readonly message: string
  readonly keys?: readonly string[]
  readonly expected?: string
  readonly values?: readonly unknown[]
  readonly minimum?: number
  readonly maximum?: number
}

export async function loadShape(): Promise<ZodModule> {
  return import('./shape.js')
}

/** What the schema says of a place. */
export function placeOf(schema: Schema): Place {
  const inner = unwrap(schema)
  return {
    keys:
      inner.shape !== undefined && inner.def?.catchall !== undefined && isStrict(inner)
        ? Object.keys(inner.shape)
        : undefined,
    fits: (value) => inner.safeParse(value).success,
    at(key) {
      // Of several forms, the one that has such a key.
      const forms = inner.def?.type === 'union' ? (inner.def.options ?? []).map(unwrap) : [inner]
      const child =
        forms.find((form) => form.shape?.[key] !== undefined)?.shape?.[key] ??
        (inner.def?.type === 'record' ? inner.def.valueType : undefined)
      return child === undefined ? undefined : placeOf(child)
    },
  }
}

function unwrap(schema: Schema): Schema {
  return schema.def?.type === 'optional' && schema.def.innerType !== undefined ? unwrap(schema.def.innerType) : schema
}

function isStrict(schema: Schema): boolean {
  return (schema.def?.catchall as { def?: { type?: string } } | undefined)?.def?.type === 'never'
}

/**
 * @param secrets - What no error may quote.
 * @throws {ConfigError} `UNKNOWN_KEY` when that is all that is wrong, else `BAD_VALUE`; `fields.faults` has them one by one.
 */
export function check(tree: Tree, schema: Schema, secrets: Secrets): void {
  const result = schema.safeParse(tree.root)
  if (result.success) return
  const faults = (result.error?.issues ?? []).flatMap((issue) => describe(tree, schema, issue, secrets))
  const code = faults.every(({ isKey }) => isKey) ? 'UNKNOWN_KEY' : 'BAD_VALUE'
  const first = faults[0]
  throw new ConfigError(code, faults.map(({ text }) => text).join('\n'), {
    faults: faults.map(({ text }) => text),
    path: first?.path,
    origin: first?.origin,
    ...(first?.nearest === undefined ? {} : { nearest: first.nearest }),
  })
}

interface Fault {
  readonly text: string
  readonly isKey: boolean
  readonly path: string
  readonly origin: string | undefined
  readonly nearest?: string | undefined
}

function describe(tree: Tree, schema: Schema, issue: Issue, secrets: Secrets): Fault[] {
  const path = issue.path.map(String)
  const from = (at: Path) => tree.origin(at)?.name
  const shown = (at: Path) => (from(at) === undefined ? '' : ` (${from(at)})`)
  if (issue.code === 'unrecognized_keys') {
    let place: Place | undefined = placeOf(schema)
    for (const key of path) place = place?.at(key)
    return (issue.keys ?? []).map((key) => {
      const at = [...path, key]
      const near = nearest(key, place?.keys ?? []) ?? elsewhere(key, place)
      const hint = near === undefined ? `; known here: ${(place?.keys ?? []).join(', ')}` : `; nearest: \`${near}\``
      return {
        text: `${at.join('.')}: unknown key \`${key}\`${hint}${shown(at)}`,
        isKey: true,
        path: at.join('.'),
        origin: from(at),
        nearest: near,
      }
    })
  }
  const value = tree.get(path)
  const got =
    value === undefined
      ? 'nothing'
      : secrets.has(path)
        ? 'a secret that is not shown'
        : brief(quoted(value, path, secrets))
  const expected = expectation(issue)
  // Where several keys are at fault, each says what came.
  const came = expected.includes('(got ') ? '' : `, got ${got}${inUnits(path, value)}`
  const text = `${path.join('.') || 'the configuration'}: ${expected}${came}${shown(path)}`
  return [{ text, isKey: false, path: path.join('.'), origin: from(path) }]
}

/** A key that was meant for a group beside it: `idleTimeout` for `timeouts.idleMs`. */
function elsewhere(key: string, place: Place | undefined): string | undefined {
  const bare = (name: string) => name.toLowerCase().replace(/(timeout|limit|max|ms|bytes|size|s$)/g, '')
  for (const group of ['timeouts', 'limits', 'socket', 'tls']) {
    const keys = place?.keys?.includes(group) ? (place.at(group)?.keys ?? []) : []
    const found = keys.find((one) => one === key) ?? keys.find((one) => bare(one) !== '' && bare(one) === bare(key))
    if (found !== undefined) return `${group}.${found}`
  }
  return undefined
}

const milliseconds: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, min: 60_000, h: 3_600_000 }
const powers = ['', 'k', 'm', 'g']

/** Numbers with a unit, as other programs take them: `5m` of a deadline is 300000 here. */
function inUnits([group, ...rest]: Path, value: unknown): string {
  if (typeof value !== 'string') return ''
  const key = rest.at(-1) ?? group ?? ''
  const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?) ?([a-z]+)$/i.exec(value) ?? []
  const word = unit.toLowerCase()
  const factor = key.endsWith('Ms')
    ? milliseconds[word]
    : key.endsWith('Bytes') && /^[kmg]?i?b?$/.test(word)
      ? 1_024 ** powers.indexOf(word.replace(/i?b$/, ''))
      : undefined
  return factor === undefined ? '' : `; write ${Math.round(Number(digits) * factor)}`
}

/** Zod's names of types, in words that stand in a configuration. */
const types: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a number',
  string: 'text',
  boolean: 'true or false',
  object: 'an object of settings',
  record: 'an object of settings',
  array: 'a list',
}

function expectation({ code, message, expected, values, minimum, maximum }: Issue): string {
  if (message.startsWith('expected')) return message
  if (code === 'invalid_type') return `expected ${types[expected ?? ''] ?? expected ?? 'another type'}`
  if (code === 'too_small') return `expected ${minimum} or more`
  if (code === 'too_big') return `expected ${maximum} or less`
  if (code === 'invalid_value')
    return `expected one of ${(values ?? []).map((value) => JSON.stringify(value)).join(', ')}`
  return `expected something else (${message})`
}

/** Under these keys stand options of things that are not loaded yet: which of them are secret is not known. */
const named = new Set(['codec', 'protocol', 'layers', 'middleware', 'executor', 'plugins'])

/** What may be quoted of a value that is refused. */
function quoted(value: unknown, path: Path, secrets: Secrets): unknown {
  const isNamed = path.some((key) => named.has(key))
  return isNamed ? withoutTexts(secrets.hide(value, path)) : secrets.hide(value, path)
}

function withoutTexts(value: unknown, key = ''): unknown {
  if (typeof value !== 'object' || value === null)
    return key === '' || key === 'name' || key === 'type' || value === HIDDEN ? value : '…'
  if (Array.isArray(value)) return value.map((one) => withoutTexts(one, key))
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, withoutTexts(one, key)]))
}

function brief(value: unknown): string {
  const text = typeof value === 'function' ? 'a function' : (JSON.stringify(value) ?? String(value))
  return text.length > 80 ? `${text.slice(0, 77)}…` : text
}
