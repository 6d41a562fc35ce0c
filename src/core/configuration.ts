/**
 * The configuration as users write it, in a file or in code.
 *
 * Room: core, contract. Data files carry names where code may carry the things themselves; everything else is the same.
 * `core/config` reads, merges and checks it; docs/reference/options.md lists every key.
 */
import type { Endpoint } from './endpoint.js'
import type { CodecRef, HandlerLike, MiddlewareRef, Named, NamedExecutor } from './handler.js'
import type { DrainTimes, Limits, ServerLimits, SocketOptions, Timeouts, TlsOptions } from './options.js'
import type { AnyPlugin, Layer, Protocol } from './plugin.js'
import type { WorkersSetting } from './workers/options.js'

/** A number, or the word that lifts a limit. */
export type Limit = number | 'unlimited'
export type LimitOptions = { readonly [K in keyof Limits]?: Limits[K] extends number ? Limit : Limits[K] }
/** At the top: every listener's defaults, and what the whole server is held to. */
export type TopLimitOptions = LimitOptions & { readonly [K in keyof ServerLimits]?: Limit }
export type DrainOptions = Readonly<Partial<DrainTimes>>
export type TimeoutOptions = { readonly [K in keyof Timeouts]?: Limit }
/** Transports of third parties may take further keys here; each transport refuses those it does not know. */
export type SocketOption = Partial<SocketOptions> & Readonly<Record<string, unknown>>

/**
 * A decorated name, `file#Export`, `package#Export`, `file`; in code also a class, function, method, definition, or a compiled
 * script whose value is one of these.
 */
export type HandlerRef = string | HandlerLike | import('node:vm').Script

/** What may stand at a listener, and at the top for all listeners. A listener's own value wins; middleware adds up. */
export interface SharedOptions {
  readonly handler?: HandlerRef
  readonly codec?: CodecRef
  /**
   * A list: several on one endpoint, told apart by their first bytes (or by ALPN). Each may have its own `handler`; the last
   * one may be a codec instead and takes what nobody has claimed.
   */
  readonly protocol?: Named | Protocol | readonly ProtocolChoice[]
  /** From the wire inwards. */
  readonly layers?: readonly (Named | Layer)[]
  readonly middleware?: readonly MiddlewareRef[]
  readonly tls?: TlsOptions
  readonly socket?: SocketOption
  readonly limits?: LimitOptions
  readonly timeouts?: TimeoutOptions
  readonly executor?: NamedExecutor
}

/** A protocol's name; or that with its handler and options; or a codec and handler for the rest. */
export type ProtocolChoice =
  | Named
  | Protocol
  | {
      readonly name?: string
      readonly codec?: CodecRef
      readonly handler?: HandlerRef
      readonly [option: string]: unknown
    }

export interface ListenerOptions extends SharedOptions {
  readonly endpoint: string | Endpoint | readonly (string | Endpoint)[]
}

/** Plain functions in place of a handler class, looked up by name; see docs/guide/hooks.md. */
export interface HookOptions {
  /** A module file or package. */
  readonly module?: string
  /** A class exported by it; one instance is made with `args`. */
  readonly class?: string
  readonly args?: readonly unknown[]
  /** `(buffer) -> boolean`: true when the buffer holds a whole request. */
  readonly endRequest?: HookRef
  /** `(buffer) -> [request, rest]`. */
  readonly splitRequest?: HookRef
  readonly decodeRequest?: HookRef
  /** `(request) -> reply | [reply, keepAlive]`: one reply, then closed, unless keepAlive is true. */
  readonly handleRequest?: HookRef
  readonly encodeResponse?: HookRef
}

/** A name looked up on the class's instance, else on the module; in code a function or a compiled `vm.Script`. */
export type HookRef = string | ((...args: never[]) => unknown) | import('node:vm').Script

export interface ControlOptions {
  /** Path of the control socket (mode 0600). Default: the pid file's path with `.sock`, else `./gaidaros.sock`. */
  readonly path?: string
  /** Where the process id is written while the server runs. */
  readonly pidFile?: string
  /** Keys whose values taps hide, besides `password`, `token` and their like; parts of a key's name. */
  readonly redact?: readonly string[]
}

export interface NodeOptions {
  /** The first part of its name; the rest is by chance. Default: the host's. */
  readonly name?: string
  /** Where handlers run there. Default: the handler's own, or inline. */
  readonly executor?: NamedExecutor
  /** As `control` of a server, by which a node is watched and ended. Its own key: both may run on one machine. */
  readonly control?: boolean | string | Omit<ControlOptions, 'redact'>
}

/** A server as a service of its machine. */
export interface DaemonOptions {
  /** `gaidaros serve` returns once the server is ready, and leaves it in the background. */
  readonly detach?: boolean
  /** In place of the command's standard error; opened again on SIGUSR1. */
  readonly logFile?: string
  /** Who to be once everything is bound, by name or number. */
  readonly user?: string | number
  /** Default: the user's. */
  readonly group?: string | number
}

/** The whole of it. `createServer` takes this; `defineConfig` types it in a file. */
export interface Configuration extends SharedOptions {
  /** Further files, merged beneath this one. */
  readonly $import?: string | readonly string[]
  /** Where decorated classes are found: globs, files, packages; in code also the classes themselves. */
  readonly handlers?: string | readonly (string | HandlerLike)[]
  /** Short form: the endpoint or endpoints of the listener `default`. */
  readonly listen?: string | Endpoint | readonly (string | Endpoint)[]
  readonly listeners?: Readonly<Record<string, ListenerOptions>>
  readonly limits?: TopLimitOptions
  readonly hooks?: HookOptions
  readonly plugins?: readonly (string | readonly [string, unknown] | AnyPlugin)[]
  /** The cluster of machines that executor `cluster` and `gaidaros node` belong to: its NATS servers, or that with options. */
  readonly cluster?: string | readonly string[] | Readonly<Record<string, unknown>>
  /** What `gaidaros node` does with it. */
  readonly node?: NodeOptions
  /** Server processes: how many, or that and how they share; see docs/guide/workers.md. Started by `gaidaros serve`. */
  readonly workers?: WorkersSetting
  /** How long connections have, at a stop and after a reload; see docs/guide/lifecycle.md. */
  readonly drain?: DrainOptions
  /** Off unless asked for. */
  readonly control?: boolean | string | ControlOptions
  /** How `gaidaros serve` runs as a service; `true` is `{ detach: true }`. Of these, a server in code has `user` and `group`. */
  readonly daemon?: boolean | DaemonOptions
  /** CPU profiles of the server (of the command), its threads and processes: a file each in this folder; `true`: in the present one. */
  readonly profile?: boolean | string
  /** Logs of the command to standard error: 0 errors, 1 (default) the life of the server, 2 connections, 3 messages. */
  readonly verbose?: number
}

/** Types a configuration in code: `export default defineConfig({ ... })`. */
export function defineConfig(configuration: Configuration): Configuration {
  return configuration
}
