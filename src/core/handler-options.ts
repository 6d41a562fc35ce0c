/**
 * Refuses options of a handler that mean nothing: a mistyped `codec` would be the default one without a word.
 *
 * Room: core, mechanism. For `@Handler` and `defineHandler` alike.
 */
import { WiringError } from './errors.js'
import { nearest } from './nearest.js'

const options = ['name', 'codec', 'scope', 'order', 'executor', 'middleware', 'needs', 'schema']
const functions = ['open', 'message', 'routes', 'idle', 'peerEnd', 'drain', 'error', 'close']
const needs = ['ordered', 'reliable', 'stream', 'maxMessage']
const choices: Readonly<Record<string, readonly string[]>> = {
  scope: ['server', 'connection'],
  order: ['serial', 'concurrent'],
}

/**
 * @param place - For errors: `@Handler of Greeter`.
 * @throws {WiringError} `BAD_OPTION`
 */
export function checkHandlerOptions(given: object, place: string): void {
  refuseUnknown(given, options, place)
  checkValues(given, place)
}

/** The same with the functions among them. @throws {WiringError} `BAD_OPTION` */
export function checkHandlerKeys(given: object, place: string): void {
  refuseUnknown(given, [...functions, ...options], place)
  checkValues(given, place)
}

function checkValues(given: object, place: string): void {
  for (const [key, allowed] of Object.entries(choices)) {
    const value = (given as Readonly<Record<string, unknown>>)[key]
    if (value === undefined || allowed.includes(value as string)) continue
    const message = `${place}: ${key} is one of ${allowed.join(', ')}; got ${JSON.stringify(value)}`
    throw new WiringError('BAD_OPTION', message)
  }
  const { needs: demanded } = given as { readonly needs?: object }
  if (demanded !== undefined) refuseUnknown(demanded, needs, `${place}, needs`)
}

function refuseUnknown(given: object, known: readonly string[], place: string): void {
  for (const key of Object.keys(given)) {
    if (known.includes(key)) continue
    const near = nearest(key, known)
    const hint = near === undefined ? '' : `; nearest: \`${near}\``
    throw new WiringError('BAD_OPTION', `${place}: unknown option \`${key}\`${hint}; known: ${known.join(', ')}`)
  }
}
