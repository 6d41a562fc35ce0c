/**
 * What a handler is, whichever way it was written: a decorated class, `defineHandler`, or a bare function.
 *
 * Room: core, contract. All three become a `HandlerDefinition`; the container turns it into a `HandlerPlan`, which makes
 * `BoundHandler`s, the only form the session calls.
 */

import type { Codec } from './codec.js'
import type { Connection } from './connection.js'
import { WiringError } from './errors.js'
import { checkHandlerKeys, type HandlerTables, handlerTables } from './handler-options.js'
import type { Middleware, MiddlewareSet } from './pipeline.js'
import type { StandardSchemaV1 } from './standard-schema.js'

/** A named thing with options: its name, or `{ name, ...options }`. In code a ready object serves as well. */
export type Named = string | ({ readonly name: string } & Readonly<Record<string, unknown>>)
export type NamedExecutor = string | ({ readonly type: string } & Readonly<Record<string, unknown>>)
export type CodecRef = Named | Codec<never, never> | Codec
export type MiddlewareRef = Named | Middleware | MiddlewareSet

/** What a handler demands of whatever transport serves it; checked at start. */
export interface Needs {
  readonly ordered?: boolean
  readonly reliable?: boolean
  /** True: bytes without boundaries are needed (a protocol that spans datagrams makes no sense). */
  readonly stream?: boolean
  /** True: messages with bounds are needed (a protocol that is one datagram, one message). */
  readonly message?: boolean
  /** Largest message sent or received, in bytes. */
  readonly maxMessage?: number
}

export interface HandlerOptions {
  /** Default: the class's or function's name. */
  readonly name?: string
  /** Used where the listener names none. Default: `line`. */
  readonly codec?: CodecRef
  /** One instance for all connections (default), or one a connection. */
  readonly scope?: 'server' | 'connection'
  /** `serial` (default): one message at a time a connection, replies in order. `concurrent`: up to `limits.inFlight`. */
  readonly order?: 'serial' | 'concurrent'
  /**
   * True: after the peer finished its side ours stays open until `end()`, `close()` or the idle deadline, for handlers that go
   * on sending. Default: our side ends when everything received is handled and everything sent is written.
   */
  readonly halfOpen?: boolean
  /**
   * A frame that was whole, and that the codec or a schema refused: `close` ends the connection, `skip` drops the frame, counts
   * and tells it. Default: `close` on streams, `skip` on message transports. With `@OnError` the connection goes on either way.
   */
  readonly badFrame?: 'close' | 'skip'
  readonly executor?: NamedExecutor
  readonly middleware?: readonly MiddlewareRef[]
  readonly needs?: Needs
  /** Checks each message after decoding; what it returns is what the method gets. A misfit is `MALFORMED`. */
  readonly schema?: StandardSchemaV1
}

export type MessageFunction = (message: never, connection: Connection) => unknown
export type ConnectionFunction = (connection: Connection) => unknown

/** The forms `defineHandler` takes; each key is what the decorator of the same name marks. */
export interface HandlerFunctions {
  open?: ConnectionFunction
  message?: MessageFunction
  /** By route; `message` takes the rest. */
  routes?: Readonly<Record<string, MessageFunction>>
  idle?: ConnectionFunction
  peerEnd?: ConnectionFunction
  drain?: (connection: Connection, deadline: Date) => unknown
  error?: (error: Error, connection: Connection) => unknown
  close?: (connection: Connection, reason: import('./connection.js').CloseReason) => unknown
}

/** One `@OnMessage`: the method (its name on the class, or the function itself) and what it adds. */
export interface MessageMethod {
  /** Undefined: takes every message no other method takes. */
  readonly route: string | undefined
  readonly method: PropertyKey | MessageFunction
  readonly middleware: readonly MiddlewareRef[]
  readonly schema: StandardSchemaV1 | undefined
  /** Where this method runs, if not where the handler does. */
  readonly executor?: NamedExecutor | undefined
}

export type HookName = 'open' | 'idle' | 'peerEnd' | 'drain' | 'error' | 'close'

/** A handler, normalized. `target` is the class to construct; undefined when the functions stand alone. */
export interface HandlerDefinition {
  readonly kind: 'gaidaros.handler'
  readonly name: string
  readonly options: HandlerOptions
  readonly target: (new (...args: never[]) => object) | undefined
  readonly messages: readonly MessageMethod[]
  readonly hooks: Readonly<Partial<Record<HookName, PropertyKey | ((...args: never[]) => unknown)>>>
}

/** What the session calls. Methods are bound; a message goes to `messages.get(route) ?? message`. */
export interface BoundHandler {
  readonly message: ((message: unknown, connection: Connection) => unknown) | undefined
  readonly routes: ReadonlyMap<string, (message: unknown, connection: Connection) => unknown> | undefined
  readonly open: ((connection: Connection) => unknown) | undefined
  readonly idle: ((connection: Connection) => unknown) | undefined
  readonly peerEnd: ((connection: Connection) => unknown) | undefined
  readonly drain: ((connection: Connection, deadline: Date) => unknown) | undefined
  readonly error: ((error: Error, connection: Connection) => unknown) | undefined
  readonly close: ((connection: Connection, reason: import('./connection.js').CloseReason) => unknown) | undefined
  /** The session does not wait any longer for the message that is under way longest; for handlers that run elsewhere. */
  readonly abandon?: ((connection: Connection, error: Error) => void) | undefined
}

/**
 * How a listener gets its handlers: everything that can be resolved was resolved when it was made.
 *
 * `bind` gives the one shared handler (scope `server`) or constructs one for the connection (scope `connection`).
 */
export interface HandlerPlan {
  readonly definition: HandlerDefinition
  /** Constructs what all connections share, before anything is bound. @throws {WiringError} `CONSTRUCTION_FAILED`. */
  prepare?(): void | Promise<void>
  /** @throws {WiringError} `CONSTRUCTION_FAILED`. Reach: that connection, which is closed. */
  bind(connection: Connection): BoundHandler
  /** After the connection's close: disposes what `bind` constructed for it, in reverse order, awaited. */
  release(connection: Connection): void | Promise<void>
}

handlerTables satisfies HandlerTables<HandlerOptions, HandlerFunctions, Needs>

/** A definition or anything that can become one, as configuration in code gives it. */
export type HandlerLike = HandlerDefinition | MessageFunction | (new (...args: never[]) => object)

/** True for what `defineHandler` returns. */
export function isHandlerDefinition(value: unknown): value is HandlerDefinition {
  return typeof value === 'object' && value !== null && (value as { kind?: unknown }).kind === 'gaidaros.handler'
}

/**
 * A handler without decorators.
 *
 * @throws {WiringError} `BAD_HANDLER` when nothing in it takes messages or connections; `BAD_OPTION` for a key that means
 *   nothing.
 * @example
 * defineHandler({ codec: 'line', open: () => 'who are you?', message: (name: string) => `hello ${name}` })
 */
export function defineHandler(given: HandlerOptions & HandlerFunctions): HandlerDefinition {
  const { open, message, routes, idle, peerEnd, drain, error, close, ...options } = given
  const messages: MessageMethod[] = []
  for (const [route, method] of Object.entries(routes ?? {})) {
    messages.push({ route, method, middleware: [], schema: undefined })
  }
  if (message !== undefined) messages.push({ route: undefined, method: message, middleware: [], schema: undefined })
  const hooks: Record<string, (...args: never[]) => unknown> = {}
  for (const [name, hook] of Object.entries({ open, idle, peerEnd, drain, error, close })) {
    if (hook !== undefined) hooks[name] = hook
  }
  const name = options.name ?? (message?.name && message.name !== 'message' ? message.name : 'handler')
  checkHandlerKeys(given, `handler ${name}`)
  if (messages.length === 0 && Object.keys(hooks).length === 0) {
    throw new WiringError('BAD_HANDLER', `handler ${name}: expected at least one of message, routes, open, …; got none`)
  }
  for (const [key, value] of Object.entries({ message, open, idle, peerEnd, drain, error, close, ...routes })) {
    if (value !== undefined && typeof value !== 'function') {
      throw new WiringError('BAD_HANDLER', `handler ${name}: ${key} must be a function, got ${typeof value}`)
    }
  }
  return { kind: 'gaidaros.handler', name, options, target: undefined, messages, hooks }
}
