/**
 * Injection tokens for what a server is made of: `constructor(@inject(CLOCK) clock: Clock)`.
 *
 * Room: core, contract. `Symbol.for`, so that two installed copies of the package agree. `providers` may override any of
 * them for one server.
 */
import type { Clock } from './clock.js'
import type { Codec, Payload } from './codec.js'
import type { Configuration } from './configuration.js'
import type { Connection } from './connection.js'
import type { EventSource } from './events.js'
import type { Executor } from './executor.js'
import type { Server } from './lifecycle.js'
import type { MiddlewareSet } from './pipeline.js'
import type { Factory, Framing, Layer, Protocol, Registry } from './plugin.js'
import type { Transport } from './transport.js'

/** A token that knows its type. */
export type Token<T> = symbol & { readonly __type?: T }

const token = <T>(name: string): Token<T> => Symbol.for(`gaidaros.${name}`) as Token<T>

/** The connection a handler of scope `connection` was made for. */
export const CONNECTION = token<Connection>('connection')
export const SERVER = token<Server>('server')
export const CLOCK = token<Clock>('clock')
export const EVENTS = token<EventSource>('events')
export const REGISTRY = token<Registry>('registry')
/** The configuration in effect. */
export const CONFIGURATION = token<Configuration>('configuration')

/**
 * What a server is put together from. Everything registered for one of these in the application's container, or given by
 * `providers`, is added to the server's registry, in the place of a built-in of the same name.
 */
export const TRANSPORT = token<Transport>('transport')
export const CODEC = token<Factory<Codec>>('codec')
export const FRAMING = token<Factory<Framing>>('framing')
export const PAYLOAD = token<Factory<Payload>>('payload')
export const MIDDLEWARE = token<Factory<MiddlewareSet>>('middleware')
export const EXECUTOR = token<Factory<Executor>>('executor')
export const LAYER = token<Factory<Layer>>('layer')
export const PROTOCOL = token<Factory<Protocol>>('protocol')
