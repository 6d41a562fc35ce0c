/**
 * What plugins register, and what their factories make, held against what it has to be: types say it in TypeScript alone.
 *
 * Room: core, wiring.
 */
import { WiringError } from './errors.js'

export type Kind =
  | 'transport'
  | 'codec'
  | 'framer'
  | 'payload'
  | 'layer'
  | 'protocol'
  | 'middleware'
  | 'executor'
  | 'observer'
  | 'companion'

type Parts = Readonly<Record<string, unknown>>
const hasAll = (one: Parts, ...names: readonly string[]) => names.every((name) => typeof one[name] === 'function')
const hasAny = (one: Parts, ...names: readonly string[]) => names.some((name) => typeof one[name] === 'function')

/** Registered as they are. */
const things: Partial<Record<Kind, readonly [expected: string, fits: (one: Parts) => boolean]>> = {
  transport: [
    'a transport: { name, schemes: ["…"], capabilities(), listen() }',
    (one) =>
      isName(one.name) &&
      Array.isArray(one.schemes) &&
      one.schemes.length > 0 &&
      one.schemes.every((scheme) => isName(scheme)) &&
      hasAll(one, 'capabilities', 'listen'),
  ],
  companion: ['a companion: { name, start(host) }', (one) => isName(one.name) && hasAll(one, 'start')],
}

/** Made by a factory. */
const made: Partial<Record<Kind, readonly [expected: string, fits: (one: Parts) => boolean]>> = {
  codec: [
    'a codec with encode() and decode() or decodeAt()',
    (one) => hasAll(one, 'encode') && hasAny(one, 'decode', 'decodeAt'),
  ],
  framer: ['a framing with frame()', (one) => hasAll(one, 'frame')],
  payload: ['a payload with encode() and decodeAt()', (one) => hasAll(one, 'encode', 'decodeAt')],
  layer: ['a layer with wrap()', (one) => hasAll(one, 'wrap')],
  protocol: ['a protocol with a codec', (one) => isThing(one.codec)],
  middleware: [
    'a function (context, next), or { connection?, message? }',
    (one) => typeof one === 'function' || hasAny(one, 'connection', 'message'),
  ],
  executor: [
    'an executor with start(), drain() and run() or place()',
    (one) => hasAll(one, 'start', 'drain') && hasAny(one, 'run', 'place'),
  ],
  observer: ['an observer: { name, … }', (one) => isName(one.name)],
}

/** @param by - Who registers. @throws {WiringError} `BAD_PLUGIN`. */
export function checkRegistered(kind: Kind, thing: unknown, by: string): void {
  const rule = things[kind]
  const [expected, fits] = rule ?? [
    'a factory: { name, options?, create(options, services) }',
    (one: Parts) => isName(one.name) && hasAll(one, 'create') && (one.options === undefined || isSchema(one.options)),
  ]
  if (isThing(thing) && fits(thing)) return
  const options = rule === undefined && isThing(thing) && thing.options !== undefined && !isSchema(thing.options)
  const got = options ? `${shown(thing)} with options that are no Standard Schema` : shown(thing)
  throw new WiringError('BAD_PLUGIN', `${by}: registry.${kind}(…) expected ${expected}, got ${got}`, { kind, by })
}

/**
 * @param place - Which key of the configuration asks for it.
 * @throws {WiringError} `BAD_PLUGIN`, with who registered it and who asks for it.
 */
export function checkMade(
  kind: Kind,
  name: string,
  thing: unknown,
  { by, place }: { by: string; place: string },
): void {
  const rule = made[kind]
  if (rule === undefined || (isThing(thing) && rule[1](thing))) return
  const message = `${place}: the ${kind} \`${name}\` of ${by} made no ${kind}: expected ${rule[0]}, got ${shown(thing)}`
  throw new WiringError('BAD_PLUGIN', message, { kind, name, by, place })
}

function isThing(thing: unknown): thing is Parts {
  return (typeof thing === 'object' && thing !== null) || typeof thing === 'function'
}

function isName(name: unknown): boolean {
  return typeof name === 'string' && name !== ''
}

/** Schemas of some libraries are functions. */
function isSchema(schema: unknown): boolean {
  return isThing(schema) && isThing(schema['~standard']) && hasAll(schema['~standard'], 'validate')
}

/** Never its values, which may be anybody's. */
function shown(thing: unknown): string {
  if (thing === null || thing === undefined) return String(thing)
  if (typeof thing === 'string') return JSON.stringify(thing.slice(0, 60))
  if (typeof thing === 'function') return `the function ${thing.name || '(anonymous)'}`
  if (Array.isArray(thing)) return 'a list'
  if (typeof thing !== 'object') return `${typeof thing} ${String(thing)}`
  return thing instanceof Promise ? 'a promise' : `{ ${Object.keys(thing).slice(0, 8).join(', ')} }`
}
