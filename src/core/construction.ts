/**
 * How a class is constructed: its dependencies found and checked once, when the handler is registered.
 *
 * Room: core, mechanism of the container. A recipe is a closure that makes one thing; looking up metadata, tokens and
 * registrations is over when it is made, so that a connection's handler costs little more than its `new`.
 */
import type { InjectionToken } from 'tsyringe'
import { WiringError } from './errors.js'

export type Constructor = new (...args: never[]) => object
export type AnyToken = InjectionToken<unknown> | symbol

/** Where things are made: once a server, or once a connection. */
export interface Making {
  /** The one connection; undefined for what the whole server shares. */
  readonly connection: object | undefined
  /** In order of construction, for disposal. */
  readonly made: object[]
  /** One of each token within this connection. */
  readonly byToken: Map<AnyToken, unknown>
}

export interface Recipe {
  make(making: Making): unknown
  /** Its result depends on the connection. */
  readonly perConnection: boolean
}

/** One constructor parameter as metadata tells it. */
export interface Parameter {
  readonly token: unknown
  readonly isOptional: boolean
  /** `@injectAll`: every registration of the token. */
  readonly isMultiple: boolean
}

/** Types that erase to these at run time say nothing about what is wanted. */
const nothing = new Set<unknown>([
  undefined,
  null,
  Object,
  Function,
  String,
  Number,
  Boolean,
  Array,
  Promise,
  Symbol,
  BigInt,
])

/**
 * The parameters of a class, from `static inject = [TOKEN, ...]`, else from what decorators recorded.
 *
 * @throws {WiringError} `UNKNOWN_DEPENDENCY` when it has parameters and nothing is known of them.
 */
export function parametersOf(target: Constructor, askedBy: string): readonly Parameter[] {
  const given = (target as { inject?: unknown }).inject
  if (Array.isArray(given) && Object.hasOwn(target, 'inject')) {
    return given.map((token) => ({ token, isOptional: false, isMultiple: false }))
  }
  const holder = classWithConstructor(target)
  const types = Reflect.getOwnMetadata('design:paramtypes', holder) as unknown[] | undefined
  const tokens = (Reflect.getOwnMetadata('injectionTokens', holder) ?? {}) as Record<number, unknown>
  const count = Math.max(types?.length ?? 0, holder.length)
  if (types === undefined && count > 0 && Object.keys(tokens).length < count) {
    const name = target.name || '(anonymous)'
    throw new WiringError(
      'UNKNOWN_DEPENDENCY',
      `${askedBy}: the constructor of class ${name} has ${count} parameter${count > 1 ? 's' : ''} of unknown type; decorate the class with ` +
        '@injectable() or @Handler() (with experimentalDecorators and emitDecoratorMetadata), or write `static inject = [TOKEN, …]` in it',
      { class: name },
    )
  }
  return Array.from({ length: count }, (_, index) =>
    parameter(tokens[index], types?.[index], Object.hasOwn(tokens, index)),
  )
}

function parameter(given: unknown, type: unknown, isGiven: boolean): Parameter {
  if (!isGiven) return { token: type, isOptional: false, isMultiple: false }
  // tsyringe: a bare token for @inject, an object where there is more to say.
  if (typeof given === 'object' && given !== null && 'token' in given) {
    const { token, isOptional, multiple } = given as { token: unknown; isOptional?: boolean; multiple?: boolean }
    return { token, isOptional: isOptional ?? false, isMultiple: multiple ?? false }
  }
  return { token: given, isOptional: false, isMultiple: false }
}

/** A class without a constructor of its own takes its parent's parameters. */
function classWithConstructor(target: Constructor): Constructor {
  for (let at = target; ; at = Object.getPrototypeOf(at) as Constructor) {
    if (at === Function.prototype || at === null) return target
    if (Reflect.hasOwnMetadata('design:paramtypes', at) || at.length > 0) return at
  }
}

/** @throws {WiringError} `UNKNOWN_DEPENDENCY` for a type that is gone at run time. */
export function demandToken(target: Constructor, index: number, token: unknown): AnyToken {
  if (!nothing.has(token)) return token as AnyToken
  const name = parameterName(target, index)
  const gone =
    token === undefined || token === null
      ? 'its class was not defined yet when this one was (a circular import), or its metadata is missing'
      : `its type is ${(token as { name: string }).name} at run time: an interface, a primitive or an \`import type\``
  throw new WiringError(
    'UNKNOWN_DEPENDENCY',
    `class ${target.name}, constructor parameter ${index + 1} (\`${name}\`): ${gone}; name what is wanted with @inject(TOKEN), or import the class as a value`,
    { class: target.name, parameter: name, index },
  )
}

/** The name of a parameter, read from the source; for errors only. */
export function parameterName(target: Constructor, index: number): string {
  const source = Function.prototype.toString.call(target)
  const list = /constructor\s*\(([^)]*)\)/.exec(source)?.[1] ?? ''
  return list.split(',')[index]?.trim().split(/[\s=]/)[0] || `#${index + 1}`
}

export function isConstructor(token: unknown): token is Constructor {
  return typeof token === 'function'
}

export function describeToken(token: unknown): string {
  if (typeof token === 'function') return token.name || '(anonymous class)'
  return typeof token === 'symbol' ? String(token) : JSON.stringify(token)
}
