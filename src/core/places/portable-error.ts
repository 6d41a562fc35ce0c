/**
 * Errors on their way between processes: what they say, their code and fields, and the stack of where they were thrown.
 *
 * Room: core, mechanism. Gaidaros's own arrive as instances of their classes; others as Error with their name.
 */
import * as errors from '../errors.js'
import { isPortable } from './wire.js'

interface PortableError {
  readonly name: string
  readonly message: string
  readonly stack: string | undefined
  readonly code: string | undefined
  readonly own: boolean
  readonly fields: Readonly<Record<string, unknown>>
  readonly cause: PortableError | undefined
}

const DEPTH = 4

export function packError(thrown: unknown, depth = 0): PortableError {
  const error = errors.toError(thrown)
  const own = error instanceof errors.GaidarosError
  const given: object = own ? error.fields : error
  const fields: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(given)) {
    if (key !== 'cause' && !(value instanceof Error) && isPortable(value)) fields[key] = value
  }
  const { code } = error as { code?: unknown }
  const cause = error.cause === undefined || depth >= DEPTH ? undefined : packError(error.cause, depth + 1)
  return {
    name: error.name,
    message: error.message,
    stack: error.stack,
    code: typeof code === 'string' ? code : undefined,
    own,
    fields,
    cause,
  }
}

export function unpackError(given: unknown): Error {
  const { name, message, stack, code, own, fields, cause } = given as PortableError
  const inner = cause === undefined ? {} : { cause: unpackError(cause) }
  let error: Error
  if (own) {
    const Class = (errors as unknown as Record<string, typeof errors.GaidarosError>)[name] ?? errors.GaidarosError
    error = new Class(code ?? 'UNKNOWN', message, { ...fields, ...inner })
  } else {
    error = Object.assign(new Error(message, inner), fields)
    if (error.name !== name) Object.defineProperty(error, 'name', { value: name, configurable: true, writable: true })
    if (code !== undefined) Object.assign(error, { code })
  }
  if (stack !== undefined) Object.defineProperty(error, 'stack', { value: stack, configurable: true, writable: true })
  return error
}
