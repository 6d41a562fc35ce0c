/**
 * Plugins: what third parties publish, and the registry they add to.
 *
 * Room: core, contract. The built-in transports, codecs and middleware are added through the same registry, at the door.
 */

import type { Duplex } from 'node:stream'
import type { PluginBudget } from './account.js'
import type { Clock } from './clock.js'
import type { Codec, Framer, Payload } from './codec.js'
import type { Connection } from './connection.js'
import type { Endpoint } from './endpoint.js'
import type { EventHub } from './events.js'
import type { Executor } from './executor.js'
import type { Needs } from './handler.js'
import type { Observer } from './observer.js'
import type { Limits, Timeouts, TlsOptions } from './options.js'
import type { Middleware, MiddlewareSet } from './pipeline.js'
import type { StandardSchemaV1 } from './standard-schema.js'
import type { LinkSink, Transport } from './transport.js'

/** What a factory may use besides its options. */
export interface PluginServices {
  /** To listen, and to tell what nobody further out will see. */
  readonly events: EventHub
  readonly clock: Clock
  /** Where what is kept beside a session is charged: everything that a peer can make grow. */
  readonly budget: PluginBudget
  /** To give way to others inside one message. */
  readonly turns: Turns
  /**
   * Opens a connection to somewhere else, its bytes unframed: for protocols that relay. Undefined on the client's side.
   *
   * @throws {ConnectionError} as `connect` of the package.
   */
  connect?(endpoint: string): Promise<Connection>
  /** Whose server it is, where there are several server processes: the worker's number. */
  readonly worker?: string | undefined
  /** How threads and processes begin that run handlers; undefined on the client's side, which has none. */
  readonly places?: {
    /** The module they run. */
    readonly entry: URL
    /** What they are told first. */
    seed(): unknown
    /** The configuration's folder: from here handlers are named to other machines. */
    readonly base: string
    /**
     * What a module exports under a name, as configuration names handlers: `./file.ts#Export`, `package#Export`.
     *
     * A file outside of the project is let in only where code or the command line named it.
     *
     * @throws {ConfigError} `NOT_FOUND`, `UNREADABLE`, `UNKNOWN_NAME`; `BAD_VALUE` for what a file or variable must not name.
     */
    load(reference: string, place?: string): Promise<unknown>
  }
  /**
   * The file or variable that said what stands at a key; undefined: code or the command line did.
   *
   * @param place - As errors name it: `listeners.public.executor.execArgv`.
   */
  dataOrigin?(place: string): string | undefined
}

/** The event loop, shared fairly by those who have long work to do for one message. */
export interface Turns {
  /**
   * Asked inside loops whose length a peer decides.
   *
   * @returns undefined: go on. After 5 ms of work in this turn of the loop, by all plugins together, a promise that is settled
   *   when others have had theirs.
   * @example
   * for (const subscriber of subscribers) {
   *   tell(subscriber)
   *   const wait = turns.breathe()
   *   if (wait !== undefined) await wait
   * }
   */
  breathe(): Promise<void> | undefined
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
   * A frame's payload, where its bytes are stuffed (COBS, SLIP). Makes memory of its own; never writes into what it reads.
   *
   * @throws {FrameError} `MALFORMED`.
   */
  unstuff?(buffer: Buffer, start: number, end: number): Buffer
  /**
   * On message transports, where no framing is read: where the payload really ends, when peers append a terminator out of
   * habit (a line feed after a datagram). What was cut is put behind each reply to that peer.
   */
  trim?(buffer: Buffer, start: number, end: number): number
}

/** `yes`: it is mine; `no`: it cannot be; `more`: the bytes so far do not tell. */
export type Detection = 'yes' | 'no' | 'more'

/**
 * A protocol: a codec with routes, its own words for errors and for leaving, and what it needs of a transport.
 *
 * One object serves all connections of a listener; what belongs to one connection lives in `connection.attributes`, in a
 * WeakMap, or in the codec's `context.state`.
 */
export interface Protocol {
  readonly codec: Codec
  /** The codec of the client's side, where the two differ. Default: `codec`. */
  readonly clientCodec?: Codec
  /** What it cannot do without; a misfit with the transport is an error at the start. */
  readonly needs?: Needs
  /**
   * Its own steps, between the listener's middleware and the handler's: at connection level a greeting (send, then
   * `next()`), at message level what it answers by itself (a ping) or turns into something better for the handler.
   */
  readonly middleware?: MiddlewareSet
  /**
   * Messages of this route, where the handler has a method of its own for it, need none of the steps at message level: they
   * are left out, which a protocol of many small messages feels. Default: none.
   */
  passes?(route: string): boolean
  /**
   * How messages are handled where the handler does not say: `concurrent` for protocols whose replies name their requests.
   * Default: `serial`.
   */
  readonly order?: 'serial' | 'concurrent'
  /** Names in ALPN (RFC 7301): where several protocols share an endpoint, these are chosen by the handshake alone. */
  readonly alpn?: readonly string[]
  /**
   * Looks at the first bytes of a connection, `buffer[start, end)`, where several protocols share an endpoint. Pure, and
   * linear in what it looks at; asked again with more bytes after `more`.
   */
  detect?(buffer: Buffer, start: number, end: number): Detection
  /**
   * Takes the connection over: for protocols whose parser wants a stream (`port.connection.stream()`), such as Node's own
   * HTTP server. Called once, when connection middleware has let the peer in; the codec then reads nothing.
   */
  serve?(port: ProtocolPort): void
  /** The wire form of an error, sent before the connection goes on or closes; undefined sends none. */
  errorReply?(error: Error, connection: Connection): unknown
  /** True when the connection may go on after this error was answered. Default: false. */
  survives?(error: Error): boolean
  /** Said before the connection is drained. */
  goodbye?(connection: Connection): unknown
  /**
   * The connection is over, and `@OnClose` comes next: for what a peer has left behind to be said then (a will of MQTT).
   *
   * @param handle - Runs a message through middleware, route and handler, as if it had come by itself. @throws what they throw.
   * @returns a promise where `@OnClose` has to wait; for `timeouts.handlerMs` at most.
   */
  closing?(connection: Connection, handle: (message: unknown, route: string | undefined) => unknown): unknown
  /**
   * What it remembers is of more than one connection (subscriptions, retained messages). Several server processes would each
   * remember a part of it, and so would several runners of an executor: the start is refused with the reason. Default: false.
   */
  readonly keepsState?: boolean
}

/** What a protocol that takes the connection over may do with it. */
export interface ProtocolPort {
  readonly connection: Connection
  /** Ceilings of this listener. */
  readonly limits: Readonly<Limits>
  readonly timeouts: Readonly<Timeouts>
  /**
   * The connection as a stream: the transport's own socket where nothing of ours stands in between (no layer, no byte of it
   * read, no limit that counts bytes), else as `connection.stream()`.
   */
  stream(): Duplex
  /**
   * Runs a message through middleware, route and handler, as if the codec had read it. Synchronous where they are.
   *
   * @returns the handler's reply, not encoded; or a promise of it. The handler's `@OnError` has had its say already.
   * @throws what the handler threw, or UnroutedMessageError, for the protocol to answer.
   */
  handle(message: unknown, route: string | undefined, bytes: number): unknown
  /** Settles with the reason once the server wants the connection gone (drain); the protocol ends it in its own words. */
  readonly draining: Promise<void>
}

/** Where a layer may stand, seen from the wire: each stage comes before the next. */
export type LayerStage = 'preamble' | 'security' | 'content'

/**
 * Wraps the bytes of a link: what comes from below goes up changed, and the other way round. A layer is a sink to what is
 * below and hands links of its own to the sink above.
 *
 * Implementations must:
 * - keep the promises of `Transport` towards `above`: `open` first, `close` once and last, nothing re-entrant from inside
 *   the link's own methods;
 * - own `below.state`, and leave the `state` of the links they make to whoever is above;
 * - pass on `pause`, `resume`, `end`, `abort`, `feature` and `unread` where they do not mean something else by them;
 * - bound what they hold: by `limits`, and by pausing what is below;
 * - own a deadline for whatever they wait for before they open a link above (`services.clock`).
 */
export interface Layer {
  /**
   * `preamble`: before everything (PROXY protocol), `security` (TLS), `content` (compression). Left out: anywhere.
   * Checked at the start.
   */
  readonly stage?: LayerStage
  /** A switch in mid-life that the links below have to offer: `tls`. */
  readonly requires?: string
  /** Message transports can have it as well; bounds are kept. Default: streams only. */
  readonly carriesMessages?: boolean
  /** Layers its links can still switch to in mid-life, given those of what is below. Default: the same ones. */
  upgrade?(below: readonly string[]): readonly string[]
  /** Makes what every link of one bound endpoint (or one client connection) goes through. */
  wrap(above: LinkSink, scope: LayerScope): LinkSink
}

/** Where a layer is put to work. */
export interface LayerScope {
  /** Who dialled. */
  readonly side: 'accepted' | 'connected'
  readonly endpoint: Endpoint
  /** The listener's name; undefined on the client side. */
  readonly listener: string | undefined
  readonly kind: 'stream' | 'message'
  readonly limits: Readonly<Limits>
  readonly timeouts: Readonly<Timeouts>
  /** The listener's `tls` key. */
  readonly tls: TlsOptions | undefined
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
  /** What goes along with the server, in each process that serves; made once there, in the order of registration. */
  observer(create: (services: PluginServices) => Observer): this
  /** Something that stands once, however many processes serve, and has an address: such as a page for operators. */
  companion(companion: Companion): this
}

/**
 * Stands once, at the head of the process tree: in the server's own process, or beside the supervisor of several. It begins when
 * every listener is bound, goes on through reloads, and ends with the server, after the drain.
 *
 * An observer is its counterpart: it is in each process that serves, sees what happens there, and binds nothing. What both of
 * them belong to registers both, and the companion asks: `host.ask({ command: 'report', observer: NAME })`.
 */
export interface Companion {
  readonly name: string
  /** @throws what undoes the start. @returns what ends it, where it needs an end besides that of its servers. */
  start(host: CompanionHost): void | (() => void) | Promise<void | (() => void)>
}

export interface CompanionHost {
  /**
   * What the control socket answers, whether or not there is one: `ask({ command: 'status' })`.
   *
   * @throws {Error} whose message is the answer. A promise of it where several processes have to be asked.
   */
  ask(request: { readonly command: string; readonly [key: string]: unknown }): unknown
  /** Tells everybody where it answers (the event `plugin.bound`). */
  bound(address: string): void
  /**
   * A server of its own beside this one, of whatever a configuration can say: it goes on while this one is suspended or
   * drains, has limits of its own, and is stopped with this one.
   *
   * @returns where it listens.
   * @throws {ConfigError | WiringError | BindError}
   */
  serve(configuration: Readonly<Record<string, unknown>>): Promise<readonly Endpoint[]>
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
