/**
 * Checks options against a table of rows: the one way built-in transports, codecs and middleware describe theirs.
 *
 * Room: core, mechanism. It is a Standard Schema, so plugins may use it, zod or anything else; it loads nothing, so that
 * a program configured in code pays for no schema library. Documentation is made from the same rows.
 */
import { nearest } from './nearest.js'
import { Secrets } from './secrets.js'
import type { SchemaIssue, SchemaResult, StandardSchemaV1 } from './standard-schema.js'

/** What one option may be. */
export interface OptionField {
  /**
   * `count`, `bytes`, `ms`: a non-negative whole number. `number`: any finite number. `mode`: permission bits, a number or octal text.
   * `check` alone decides for `any`.
   */
  readonly unit: 'count' | 'bytes' | 'ms' | 'number' | 'switch' | 'text' | 'choice' | 'mode' | 'list' | 'any'
  readonly why: string
  readonly default?: unknown
  readonly choices?: readonly (string | number)[] | undefined
  /** The word `unlimited` is taken, and read as Infinity. */
  readonly unlimited?: boolean | undefined
  readonly min?: number
  readonly max?: number
  readonly required?: boolean
  /**
   * Never shown: not by `config`, not in errors and logs. A list: these keys of it (`passphrase`, `sni.*.key`; `*` is any key),
   * where the rest may be seen. Default: false.
   */
  readonly secret?: boolean | readonly string[]
  /** Further conditions: what was expected, when the value is refused. */
  readonly check?: (value: unknown) => string | undefined
  /** The same where a file or variable says it, which must not run code: what was expected, when the value is refused. */
  readonly fromData?: (value: unknown) => string | undefined
}

export type OptionFields<T> = { readonly [K in keyof T]-?: OptionField }

/** A schema that carries its rows, for the documentation and for `schema.json`. */
export interface OptionSchema<T> extends StandardSchemaV1<T> {
  readonly fields: OptionFields<T>
}

/** Makes a schema: unknown keys are refused with the nearest known one, defaults are filled in. */
export function optionSchema<T>(fields: OptionFields<T>): OptionSchema<T> {
  const known = Object.keys(fields)
  const secrets = new Secrets().add([], { fields })
  const shown = (key: string, value: unknown) =>
    secrets.has([key]) ? 'a secret that is not shown' : show(secrets.hide(value, [key]))
  const validate = (given: unknown): SchemaResult<T> => {
    const value = given === undefined ? {} : given
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      return { issues: [{ message: `expected an object of options, got ${show(value)}` }] }
    }
    const issues: SchemaIssue[] = []
    const result: Record<string, unknown> = {}
    for (const key of Object.keys(value)) {
      if (Object.hasOwn(fields, key)) continue
      const near = nearest(key, known)
      const hint = near ? `; nearest: \`${near}\`` : ''
      issues.push({ path: [key], message: `unknown option${hint}; known: ${known.join(', ') || 'none'}` })
    }
    for (const key of known) {
      const field = (fields as Record<string, OptionField>)[key] as OptionField
      const entry = Object.hasOwn(value, key) ? (value as Record<string, unknown>)[key] : undefined
      if (entry === undefined) {
        if (field.required) issues.push({ path: [key], message: `is required: ${field.why}` })
        else if (field.default !== undefined) result[key] = field.default
        continue
      }
      const problem = misfit(field, entry)
      if (problem !== undefined) issues.push({ path: [key], message: `expected ${problem}, got ${shown(key, entry)}` })
      else result[key] = entry === 'unlimited' && field.unlimited ? Number.POSITIVE_INFINITY : entry
    }
    return issues.length > 0 ? { issues } : { value: result as T }
  }
  return { fields, '~standard': { version: 1, vendor: 'gaidaros', validate } }
}

function misfit(field: OptionField, value: unknown): string | undefined {
  if (field.unlimited && (value === 'unlimited' || value === Number.POSITIVE_INFINITY)) return undefined
  const problem = misfitOfUnit(field, value)
  return problem ?? field.check?.(value)
}

function misfitOfUnit(field: OptionField, value: unknown): string | undefined {
  const { min = 0, max = Number.MAX_SAFE_INTEGER } = field
  switch (field.unit) {
    case 'count':
    case 'bytes':
    case 'ms': {
      if (Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max) return undefined
      const range = field.max === undefined ? `of at least ${min}` : `from ${min} to ${max}`
      const what =
        field.unit === 'count'
          ? 'a whole number'
          : `a whole number of ${field.unit === 'ms' ? 'milliseconds' : 'bytes'}`
      return `${what} ${range}${field.unlimited ? ', or "unlimited"' : ''}`
    }
    case 'number':
      return typeof value === 'number' && Number.isFinite(value) ? undefined : 'a number'
    case 'switch':
      return typeof value === 'boolean' ? undefined : 'true or false'
    case 'text':
      return typeof value === 'string' ? undefined : 'text'
    case 'choice':
      return field.choices?.includes(value as string)
        ? undefined
        : `one of ${field.choices?.map((c) => JSON.stringify(c)).join(', ')}`
    case 'mode':
      if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 0o777) return undefined
      return typeof value === 'string' && /^0?[0-7]{3}$/.test(value) ? undefined : 'permission bits such as "0660"'
    case 'list':
      return Array.isArray(value) ? undefined : 'a list'
    case 'any':
      return undefined
  }
}

function show(value: unknown): string {
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  if (typeof value === 'function') return 'a function'
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 80 ? `${text.slice(0, 77)}…` : text
}
