/**
 * Injection tokens for what a server is made of: `constructor(@inject(CLOCK) clock: Clock)`.
 *
 * Room: core, contract. `Symbol.for`, so that two installed copies of the package agree. `providers` may override any of
 * them for one server.
 */
import type { Clock } from './clock.js'
import type { Configuration } from './configuration.js'
import type { Connection } from './connection.js'
import type { EventSource } from './events.js'
import type { Server } from './lifecycle.js'
import type { Registry } from './plugin.js'

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
