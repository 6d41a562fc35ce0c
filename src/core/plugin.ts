/**
 * Plugins: what third parties publish, and the registry they add to.
 *
 * Room: core, contract. The built-in transports, codecs and middleware are added through the same registry, at the door.
 */

import type { Clock } from './clock.js'
import type { Codec, Framer, Payload } from './codec.js'
import type { Connection } from './connection.js'
import type { EventHub } from './events.js'
import type { Executor } from './executor.js'
import type { Middleware, MiddlewareSet } from './pipeline.js'
import type { StandardSchemaV1 } from './standard-schema.js'
import type { Link, LinkSink, Transport } from './transport.js'

/** What a factory may use besides its options. */
export interface PluginServices {
  /** To listen, and to tell what nobody further out will see. */
  readonly events: EventHub
  readonly clock: Clock
}

/** Makes a thing from the options that stood beside its name. */
export interface Factory<T, Options = never> {
  /** Unique among its kind, lower case, as configuration names it. */
  readonly name: string
  /** Checks the options that stand beside the name; unknown keys are refused. Without it there are none. */
  readonly options?: StandardSchemaV1<Options>
  create(options: Options, services: PluginServices): T
}

/** A way to find frames in a stream and to write them; a payload stands beside it. */
export interface Framing {
  /** Left out: each chunk of a stream is a frame (`raw`). */
  readonly framer?: Framer
  /** The payload's name where the configuration gives none. Default: `bytes`. */
  readonly payload?: string
  /** Bounds a payload on its way out: bytes stay bytes, text may stay text. Several pieces need not be joined. */
  frame(payload: Uint8Array | string): Uint8Array | string | readonly Uint8Array[]
  /**
   * On message transports, where no framing is read: where the payload really ends, when peers append a terminator out of
   * habit (a line feed after a datagram). What was cut is put behind each reply to that peer.
   */
  trim?(buffer: Buffer, start: number, end: number): number
}

/** A named codec with routing and error replies. */
export interface Protocol {
  readonly codec: Codec
  /** The wire form of an error, sent before the connection goes on or closes; undefined sends none. */
  errorReply?(error: Error, connection: Connection): unknown
  /** True when the connection may go on after this error was answered. Default: false. */
  survives?(error: Error): boolean
  /** Said before the connection is drained. */
  goodbye?(connection: Connection): unknown
}

/** Wraps a byte stream: bytes from the link below come out changed above, and the other way round. */
export interface Layer {
  /** @returns the link that the session (or the next layer) sees; it delivers to `above` what it makes of `below`. */
  wrap(below: Link, above: LinkSink): { readonly link: Link; readonly sink: LinkSink }
}

/** Where plugins add things; duplicates are refused with both places named. */
export interface Registry {
  /** @param options.replace - Takes the place of what has its name and schemes, such as a test's network for `memory`. */
  transport(transport: Transport<never> | Transport, options?: { readonly replace?: boolean }): this
  codec<O>(factory: Factory<Codec, O> | Factory<Codec<never, never>, O>): this
  /** A way to find frames alone; any payload goes with it. */
  framer<O>(factory: Factory<Framing, O>): this
  payload<O>(factory: Factory<Payload, O>): this
  layer<O>(factory: Factory<Layer, O>): this
  protocol<O>(factory: Factory<Protocol, O>): this
  middleware<O>(factory: Factory<MiddlewareSet | Middleware, O>): this
  executor<O>(factory: Factory<Executor, O>): this
}

/** A package's contribution, named in the configuration's `plugins`. */
export interface Plugin<Options = unknown> {
  readonly name: string
  readonly options?: StandardSchemaV1<Options>
  setup(registry: Registry, options: Options): void | Promise<void>
}

/** A plugin whatever its options are. */
// biome-ignore lint/suspicious/noExplicitAny: only the plugin itself knows them
export type AnyPlugin = Plugin<any>

/** Types a plugin; the default export of its module. */
export function definePlugin<Options = Record<string, never>>(plugin: Plugin<Options>): Plugin<Options> {
  return plugin
}
