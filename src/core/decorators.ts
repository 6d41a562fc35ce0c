/**
 * The decorators of handler classes, and how a handler of any form becomes a definition.
 *
 * Room: core, mechanism. Method decorators leave a mark on the function, `@Handler` reads the marks: so both kinds of
 * decorators work, TypeScript's (`experimentalDecorators`, the kind that tells constructor types to the injection) and the
 * language's own. A subclass adds to its parent's methods and may override them.
 */
import 'reflect-metadata'
import { injectable } from 'tsyringe'
import { WiringError } from './errors.js'
import {
  type HandlerDefinition,
  type HandlerLike,
  type HandlerOptions,
  type HookName,
  isHandlerDefinition,
  type MessageFunction,
  type MessageMethod,
  type MiddlewareRef,
  type NamedExecutor,
} from './handler.js'
import { checkHandlerOptions } from './handler-options.js'
import type { StandardSchemaV1 } from './standard-schema.js'

const DEFINITION = Symbol.for('gaidaros.handler')
const MARKS = Symbol.for('gaidaros.marks')

type Constructor = new (...args: never[]) => object
type Method = ((...args: never[]) => unknown) & { [MARKS]?: Mark[] }

/** What one method decorator says. */
interface Mark {
  readonly kind: HookName | 'message'
  readonly route: string | undefined
  readonly middleware: readonly MiddlewareRef[]
  readonly schema: StandardSchemaV1 | undefined
  readonly executor?: NamedExecutor | undefined
}

export interface OnMessageOptions {
  /** Around this method alone, inside the handler's. */
  readonly middleware?: readonly MiddlewareRef[]
  /** Checks the messages of this method; what it returns is what the method gets. */
  readonly schema?: StandardSchemaV1
  /** Where this method runs, if not where its handler does: on an instance of its own, if that is another place. */
  readonly executor?: NamedExecutor
}

/** TypeScript's and the language's own shape in one. */
export type MethodDecoratorOfBoth = (target: object, context: unknown, descriptor?: PropertyDescriptor) => void
export type ClassDecoratorOfBoth = <T extends abstract new (...args: never[]) => object>(
  target: T,
  context?: unknown,
) => void

/**
 * Marks a class as a handler and makes it injectable.
 *
 * @throws {WiringError} `BAD_OPTION`, `BAD_HANDLER`, when the class is defined.
 */
export function Handler(options: HandlerOptions = {}): ClassDecoratorOfBoth {
  if (typeof options === 'function') throw new WiringError('BAD_HANDLER', 'write @Handler() with parentheses')
  return (target) => {
    checkHandlerOptions(options, `@Handler of ${target.name}`)
    injectable()(target as never)
    const definition = define(target as unknown as Constructor, options)
    Object.defineProperty(target, DEFINITION, { value: definition })
  }
}

/** Takes the messages routed to `route`; without one, those that no other method takes. */
export function OnMessage(route?: string | OnMessageOptions, options: OnMessageOptions = {}): MethodDecoratorOfBoth {
  const isRouted = typeof route === 'string'
  const isBare = typeof route === 'function' || (typeof route === 'object' && !isOptions(route))
  if (isBare) throw new WiringError('BAD_HANDLER', 'write @OnMessage() with parentheses')
  const { middleware = [], schema, executor } = isRouted || route === undefined ? options : route
  return mark({ kind: 'message', route: isRouted ? route : undefined, middleware, schema, executor })
}

/** A connection opened; what is returned is sent. Messages wait until it is done. */
export const OnOpen = hook('open', 'OnOpen')
/** Nothing came or went for `timeouts.idleMs`: say something to keep the connection, or let it be closed. */
export const OnIdle = hook('idle', 'OnIdle')
/** The peer finished its side and everything it sent is handled; our side ends when this is done. */
export const OnPeerEnd = hook('peerEnd', 'OnPeerEnd')
/** The server drains: `(connection, deadline: Date)`. */
export const OnDrain = hook('drain', 'OnDrain')
/** A method or middleware threw, or a frame was refused: `(error, connection)`; what is returned is sent. */
export const OnError = hook('error', 'OnError')
/** The connection is gone: `(connection, reason)`. */
export const OnClose = hook('close', 'OnClose')

/** What a decorated class or a `defineHandler` value defines; undefined for anything else. */
export function definitionOf(value: unknown): HandlerDefinition | undefined {
  if (isHandlerDefinition(value)) return value
  // Its own: a subclass must be decorated itself.
  if (typeof value !== 'function' || !Object.hasOwn(value, DEFINITION)) return undefined
  return (value as unknown as { [DEFINITION]: HandlerDefinition })[DEFINITION]
}

/**
 * Any form of a handler as its definition; a bare function takes every message.
 *
 * @throws {WiringError} `BAD_HANDLER` with what was expected.
 */
export function toDefinition(like: HandlerLike): HandlerDefinition {
  const definition = definitionOf(like)
  if (definition !== undefined) return definition
  if (typeof like !== 'function') {
    throw new WiringError(
      'BAD_HANDLER',
      `expected a class with @Handler(), a function or defineHandler(…); got ${typeof like}`,
    )
  }
  if (isClass(like)) {
    const hasMarks = marksOf(like as Constructor).length > 0
    const found = hasMarks
      ? 'its methods are decorated, the class itself is not'
      : 'none of its methods is decorated either'
    throw new WiringError(
      'BAD_HANDLER',
      `class ${like.name || '(anonymous)'} is no handler: write @Handler() before it (${found})`,
    )
  }
  const method = like as MessageFunction
  const name =
    method.name && method.name !== 'handler' && method.name !== 'message'
      ? method.name.replace(/^bound /, '')
      : 'handler'
  const messages: MessageMethod[] = [{ route: undefined, method, middleware: [], schema: undefined }]
  return { kind: 'gaidaros.handler', name, options: {}, target: undefined, messages, hooks: {} }
}

export function isClass(value: unknown): boolean {
  return typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value))
}

function hook(kind: HookName, name: string): () => MethodDecoratorOfBoth {
  return (...given: unknown[]) => {
    if (given.length > 0) throw new WiringError('BAD_HANDLER', `write @${name}() with parentheses and nothing in them`)
    return mark({ kind, route: undefined, middleware: [], schema: undefined })
  }
}

function mark(one: Mark): MethodDecoratorOfBoth {
  return (target, context, descriptor) => {
    const isStandard = typeof context === 'object' && context !== null && 'kind' in context
    const method = (isStandard ? target : descriptor?.value) as Method | undefined
    const isStatic = isStandard ? (context as { static?: boolean }).static : typeof target === 'function'
    const key = isStandard ? (context as { name?: PropertyKey }).name : (context as PropertyKey)
    if (typeof method !== 'function' || isStatic) {
      throw new WiringError('BAD_HANDLER', `${String(key)}: only methods of instances can be decorated so`)
    }
    if (!Object.hasOwn(method, MARKS)) Object.defineProperty(method, MARKS, { value: [] })
    method[MARKS]?.push(one)
  }
}

function isOptions(value: object): boolean {
  return Object.keys(value).every((key) => key === 'middleware' || key === 'schema' || key === 'executor')
}

/** The marks of a class and its parents, a child's method in place of its parent's. */
function marksOf(target: Constructor): { key: PropertyKey; mark: Mark }[] {
  const chain: object[] = []
  for (
    let at: object | null = target.prototype;
    at !== null && at !== Object.prototype;
    at = Object.getPrototypeOf(at)
  ) {
    chain.unshift(at)
  }
  const byKey = new Map<PropertyKey, Mark[]>()
  for (const prototype of chain) {
    for (const key of Reflect.ownKeys(prototype)) {
      const marks = (Object.getOwnPropertyDescriptor(prototype, key)?.value as Method | undefined)?.[MARKS]
      if (marks !== undefined) byKey.set(key, marks)
    }
  }
  return [...byKey].flatMap(([key, marks]) => marks.map((one) => ({ key, mark: one })))
}

function define(target: Constructor, options: HandlerOptions): HandlerDefinition {
  const messages: MessageMethod[] = []
  const hooks: Partial<Record<HookName, PropertyKey>> = {}
  for (const { key, mark: one } of marksOf(target)) {
    if (one.kind !== 'message') {
      const taken = hooks[one.kind]
      if (taken !== undefined) throw twice(target, one.kind, taken, key)
      hooks[one.kind] = key
      continue
    }
    const taken = messages.find(({ route }) => route === one.route)
    if (taken !== undefined) throw twice(target, `@OnMessage(${one.route ?? ''})`, taken.method as PropertyKey, key)
    messages.push({
      route: one.route,
      method: key,
      middleware: one.middleware,
      schema: one.schema,
      executor: one.executor,
    })
  }
  if (messages.length === 0 && Object.keys(hooks).length === 0) {
    throw new WiringError(
      'BAD_HANDLER',
      `class ${target.name}: @Handler() without a method that is @OnMessage(), @OnOpen() …`,
    )
  }
  return { kind: 'gaidaros.handler', name: options.name ?? target.name, options, target, messages, hooks }
}

function twice(target: Constructor, what: string, first: PropertyKey, second: PropertyKey): WiringError {
  const message = `class ${target.name}: ${String(first)} and ${String(second)} both are ${what}; only one can be`
  return new WiringError('BAD_HANDLER', message, { class: target.name })
}
