/**
 * Refuses options of a handler that mean nothing: a mistyped `codec` would be the default one without a word.
 *
 * Room: core, mechanism. For `@Handler` and `defineHandler` alike. The tables are the only list of the keys besides the types, and
 * handler.ts does not compile where one of its types has a key that a table lacks.
 */
import { WiringError } from './errors.js'
import { nearest } from './nearest.js'

/** What a value has to be; `unchecked`: whoever uses it says what is wrong with it. */
export type Check = 'unchecked' | 'switch' | readonly string[]

const options = {
  name: 'unchecked',
  codec: 'unchecked',
  scope: ['server', 'connection'],
  order: ['serial', 'concurrent'],
  halfOpen: 'switch',
  badFrame: ['close', 'skip'],
  executor: 'unchecked',
  middleware: 'unchecked',
  needs: 'unchecked',
  schema: 'unchecked',
} as const
const functions = {
  open: 'unchecked',
  message: 'unchecked',
  routes: 'unchecked',
  idle: 'unchecked',
  peerEnd: 'unchecked',
  drain: 'unchecked',
  error: 'unchecked',
  close: 'unchecked',
} as const
const needs = {
  ordered: 'switch',
  reliable: 'switch',
  stream: 'switch',
  message: 'switch',
  maxMessage: 'unchecked',
} as const

export const handlerTables = { options, functions, needs }
/** What the tables have to be, given the types. */
export type HandlerTables<Options, Functions, Needs> = {
  readonly options: Readonly<Record<keyof Options, Check>>
  readonly functions: Readonly<Record<keyof Functions, Check>>
  readonly needs: Readonly<Record<keyof Needs, Check>>
}

/**
 * @param place - For errors: `@Handler of Greeter`.
 * @throws {WiringError} `BAD_OPTION`
 */
export function checkHandlerOptions(given: { readonly needs?: object }, place: string): void {
  check(given, options, place)
  if (given.needs !== undefined) check(given.needs, needs, `${place}, needs`)
}

/** The same with the functions among them. @throws {WiringError} `BAD_OPTION` */
export function checkHandlerKeys(given: { readonly needs?: object }, place: string): void {
  check(given, { ...functions, ...options }, place)
  if (given.needs !== undefined) check(given.needs, needs, `${place}, needs`)
}

function check(given: object, known: Readonly<Record<string, Check>>, place: string): void {
  for (const [key, value] of Object.entries(given)) {
    if (!Object.hasOwn(known, key)) {
      const names = Object.keys(known)
      const near = nearest(key, names)
      const hint = near === undefined ? '' : `; nearest: \`${near}\``
      throw new WiringError('BAD_OPTION', `${place}: unknown option \`${key}\`${hint}; known: ${names.join(', ')}`)
    }
    const wanted = known[key] as Check
    if (value === undefined || wanted === 'unchecked') continue
    const isFit = wanted === 'switch' ? typeof value === 'boolean' : wanted.includes(value as string)
    if (isFit) continue
    const what = wanted === 'switch' ? 'true or false' : `one of ${wanted.join(', ')}`
    throw new WiringError('BAD_OPTION', `${place}: ${key} is ${what}; got ${JSON.stringify(value)}`)
  }
}
