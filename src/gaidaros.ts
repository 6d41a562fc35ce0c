/**
 * The door: the only place that sees core, transports and plugins together, and chooses.
 *
 * From a configuration to a server: read it, register what is built in, plug in what is named, find the handlers, plan the
 * listeners. Nothing is bound before `start()`.
 */
import 'reflect-metadata'
import { Script } from 'node:vm'
import { type DependencyContainer, type InjectionToken, container as root } from 'tsyringe'
import { type ClientConnection, openClient } from './core/client.js'
import { type Clock, systemClock } from './core/clock.js'
import { findHandlers, resolveHandler } from './core/config/handlers.js'
import type { Assignment, LoadedConfiguration } from './core/config/index.js'
import { loadConfiguration, loadModule } from './core/config/index.js'
import type { Configuration, HookOptions, LimitOptions, SocketOption, TimeoutOptions } from './core/configuration.js'
import { type Provider, ServerContainer } from './core/container.js'
import { type ControlTarget, controlHandler, controlOfServer } from './core/control.js'
import { definitionOf, toDefinition } from './core/decorators.js'
import { type Endpoint, parseEndpoint } from './core/endpoint.js'
import { WiringError } from './core/errors.js'
import { EventHub } from './core/events.js'
import {
  type CodecRef,
  defineHandler,
  type HandlerDefinition,
  type HandlerLike,
  isHandlerDefinition,
  type Named,
} from './core/handler.js'
import { type HookedHandler, hooksHandler, scriptHandler } from './core/hooks.js'
import type { Server } from './core/lifecycle.js'
import { defaultLimits, defaultTimeouts, drainTimeoutMs, type TlsOptions } from './core/options.js'
import { writePidFile } from './core/pid-file.js'
import { cameFrom, sourceOf } from './core/places/handler-source.js'
import { isPortable } from './core/places/wire.js'
import { Planner, settle } from './core/planner.js'
import type { AnyPlugin, Layer, Protocol } from './core/plugin.js'
import { checkOptions, ServerRegistry } from './core/registry.js'
import { GaidarosServer } from './core/server.js'
import type { StandardSchemaV1 } from './core/standard-schema.js'
import {
  CLOCK,
  CODEC,
  CONFIGURATION,
  EVENTS,
  EXECUTOR,
  FRAMING,
  LAYER,
  MIDDLEWARE,
  PAYLOAD,
  PROTOCOL,
  REGISTRY,
  SERVER,
  TRANSPORT,
} from './core/tokens.js'
import type { SocketKind, SocketSource, TransportOptions } from './core/transport.js'
import { settleWorkers } from './core/workers/options.js'
import { seedOf } from './place-handlers.js'
import { codecs, framers, payloads } from './plugins/codecs/index.js'
import { executors } from './plugins/executors/index.js'
import { layers } from './plugins/layers/index.js'
import { middleware } from './plugins/middleware/index.js'
import { protocols } from './plugins/protocols/index.js'
import { attached } from './transports/attached.js'
import { fd } from './transports/fd.js'
import { memory } from './transports/memory.js'
import { stdio } from './transports/stdio.js'
import { systemd } from './transports/systemd.js'
import { tcp } from './transports/tcp.js'
import { tls } from './transports/tls.js'
import { udp } from './transports/udp.js'
import { unix } from './transports/unix.js'
import { websocket } from './transports/websocket.js'
import { version } from './version.js'

/** Where is listened when nobody says where. */
export const defaultEndpoint = 'tcp://localhost:8080'

/** What `createServer` takes: a configuration, and what only code can give. */
export interface ServerOptions extends Configuration {
  /**
   * A configuration file; `true` searches for one, `false` reads none. Default: searches, unless `listen` or `listeners`
   * say already what to serve.
   */
  readonly config?: string | boolean
  /** Where the search begins and relative paths start. Default: the process's. */
  readonly cwd?: string
  /** Variables in place of the process's. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** What a command line set. */
  readonly flags?: readonly Assignment[]
  /** The application's tsyringe container; the server makes a child of it. Default: tsyringe's root. */
  readonly container?: DependencyContainer
  /** Overrides, for this server alone. */
  readonly providers?: readonly Provider[]
  /** For tests: time in their hand. */
  readonly clock?: Clock
}

/** A server that knows its configuration. */
export interface ConfiguredServer extends Server {
  readonly configuration: LoadedConfiguration
}

/**
 * Makes a server; `start()` binds it.
 *
 * @throws {ConfigError} the operator's mistakes, all at once, each with where it stands.
 * @throws {WiringError} the developer's.
 */
export async function createServer(options: ServerOptions = {}): Promise<ConfiguredServer> {
  return openServer(await readConfiguration(options), options, { place: 'code', isSteered: true })
}

/** The configuration that these options mean. @throws {ConfigError} */
export function readConfiguration(options: ServerOptions): Promise<LoadedConfiguration> {
  const { config, cwd = process.cwd(), env = process.env, flags = [], container, providers, clock, ...code } = options
  const saysWhat = code.listen !== undefined || code.listeners !== undefined
  return loadConfiguration({ cwd, config: config ?? !saysWhat, env, flags, code })
}

/** Where a server stands: in a program of the user's, in the command's own process, or in a worker's. */
export interface ServerPlace {
  readonly place: 'code' | 'command' | 'worker'
  /** Has its control socket and pid file itself, where they are asked for. */
  readonly isSteered?: boolean
  /** Who binds, by listener and place among its endpoints. Left out: the transports. */
  readonly sockets?: (key: string, kind: SocketKind, endpoint: Endpoint) => SocketSource
  /** The supervisor's, for listeners with `tls` that have none of their own. */
  readonly ticketKeys?: Uint8Array
}

/** @internal From a configuration that was read to a server. */
export async function openServer(
  loaded: LoadedConfiguration,
  options: ServerOptions,
  place: ServerPlace,
): Promise<ConfiguredServer> {
  const { cwd = process.cwd(), container, providers, clock: givenClock } = options
  const given = givenBy(container ?? root, providers ?? [])
  const clock = givenClock ?? given<Clock>(CLOCK).at(-1) ?? systemClock
  const { values } = loaded
  if (place.place === 'code' && settleWorkers(values.workers) !== undefined) {
    const message =
      'workers: several server processes are started by the command (gaidaros serve), which runs the configuration in each; a ' +
      'program has its own process only: set workers to 1 here, or name a configuration file to gaidaros serve'
    throw new WiringError('BAD_OPTION', message, { option: 'workers', from: loaded.origin('workers')?.name })
  }
  const events = new EventHub()
  const places = { entry: new URL('./place.js', import.meta.url), seed: () => seedOf(loaded.directory, values) }
  const registry = registerBuiltIns(
    new ServerRegistry({
      events,
      clock,
      places,
      connect: (endpoint) => connect(endpoint, { codec: 'raw' }),
    }),
  )
  for (const entry of values.plugins ?? []) await plug(registry, entry)
  registry.replacing('the application’s container', () => registerGiven(registry, given))

  const found = await findHandlers(loaded, { definitionOf })
  const hooks = values.hooks === undefined ? undefined : await hooksHandler(values.hooks, { load: loadModule })
  const fallback =
    hooks === undefined ? cameFrom(echo, { eval: 'message => message' }) : hooked(hooks, values.hooks as HookOptions)
  const injection = new ServerContainer({
    ...(container === undefined ? {} : { parent: container }),
    ...(providers === undefined ? {} : { providers }),
    failed: (name, error) => events.emit('disposal.failed', { name, error }),
    values: new Map<unknown, unknown>([
      [CLOCK, clock],
      [EVENTS, events],
      [REGISTRY, registry],
      [CONFIGURATION, values],
    ]),
  })
  const planner = new Planner({
    registry,
    shared: values,
    resolveHandler: async (ref, place) => {
      if (ref instanceof Script) return scriptHandler(ref)
      if (isHandlerDefinition(ref) && sourceOf(ref) !== undefined) return ref
      const resolved = await resolveHandler(ref as string | HandlerLike | undefined, found, {
        definitionOf,
        place,
        loaded,
      })
      if (resolved === undefined) return fallback
      const definition = toDefinition(resolved.handler)
      return resolved.source === undefined ? definition : cameFrom(definition, resolved.source)
    },
    planHandler: (definition) => injection.plan(definition),
    origin: (path) => loaded.origin(path)?.name,
    ...(place.sockets === undefined ? {} : { sockets: place.sockets }),
    ...(place.ticketKeys === undefined ? {} : { ticketKeys: place.ticketKeys }),
  })
  const listeners = Object.entries(values.listeners ?? {})
  if (listeners.length === 0) listeners.push(['default', { endpoint: defaultEndpoint }])
  const plans = []
  for (const [name, listener] of listeners) plans.push(await planner.plan(name, listener))

  const server = new Configured(loaded, place.isSteered ?? false, {
    plans,
    plan: async (name, given) => {
      // Checked as if it had stood in the configuration.
      const one = await loadConfiguration({
        cwd,
        config: false,
        env: {},
        flags: [],
        code: { listeners: { [name]: given } },
      })
      return planner.plan(name, one.values.listeners?.[name] ?? given)
    },
    clock,
    events,
    drainTimeoutMs: values.drain?.timeoutMs ?? drainTimeoutMs,
    prepare: async (plan) => plan.handler.prepare?.(),
    dispose: () => injection.dispose(),
  })
  injection.provide(SERVER, server)
  return server
}

class Configured extends GaidarosServer implements ConfiguredServer {
  readonly configuration: LoadedConfiguration
  #control: Server | undefined
  #removePidFile: (() => void) | undefined

  readonly #isSteered: boolean

  /** @param isSteered - By a control socket and pid file of its own, where they are asked for. */
  constructor(
    configuration: LoadedConfiguration,
    isSteered: boolean,
    parts: ConstructorParameters<typeof GaidarosServer>[0],
  ) {
    super(parts)
    this.configuration = configuration
    this.#isSteered = isSteered
  }

  override async start(): Promise<this> {
    // A second start is refused; it must not undo the first.
    if (this.state !== 'created') return super.start()
    const { path, pidFile } = controlOf(this.#isSteered ? this.configuration.values.control : undefined)
    if (pidFile !== undefined) this.#removePidFile = writePidFile(pidFile)
    void this.stopped.then(() => this.#endControl())
    try {
      await super.start()
      if (path !== undefined) this.#control = await listenForControl(path, controlOfServer(this, version))
    } catch (error) {
      await this.stop({ timeoutMs: 0 })
      throw error
    }
    return this
  }

  async #endControl(): Promise<void> {
    this.#removePidFile?.()
    await this.#control?.stop({ timeoutMs: 1_000 })
  }
}

/** A server of its own: it goes on answering while the one it steers is suspended or drains. */
export async function listenForControl(path: string, target: ControlTarget): Promise<Server> {
  const control = await createServer({
    config: false,
    env: {},
    listen: `unix:${path}`,
    socket: { mode: 0o600 },
    handler: controlHandler(target),
    limits: { connections: 16 },
    // `gaidaros stop` waits here for as long as the drain takes, `reload` for as long as that does.
    timeouts: { idleMs: 'unlimited', handlerMs: 'unlimited' },
  })
  return control.start()
}

export function controlOf(given: Configuration['control']): {
  readonly path: string | undefined
  readonly pidFile: string | undefined
} {
  if (given === undefined || given === false) return { path: undefined, pidFile: undefined }
  if (typeof given === 'string') return { path: given, pidFile: undefined }
  const { path, pidFile } = given === true ? { path: undefined, pidFile: undefined } : given
  return { path: path ?? pidFile?.replace(/(\.pid)?$/, '.sock') ?? './gaidaros.sock', pidFile }
}

/** Its functions may have been given in code, and then it has no source. */
function hooked({ definition, codec }: HookedHandler, options: HookOptions): HandlerDefinition {
  const whole: HandlerDefinition = { ...definition, options: { ...definition.options, codec } }
  return isPortable(options) ? cameFrom(whole, { hooks: options }) : whole
}

/** What answers where nobody said what to do: each message goes back. */
const echo = defineHandler({ name: 'echo', message: (message: unknown) => message })

function registerBuiltIns(registry: ServerRegistry): ServerRegistry {
  for (const transport of [tcp, tls, udp, unix, memory, websocket, fd, systemd, stdio, attached])
    registry.transport(transport as never)
  for (const framer of framers) registry.framer(framer as never)
  for (const payload of payloads) registry.payload(payload as never)
  for (const codec of codecs) registry.codec(codec as never)
  for (const step of middleware) registry.middleware(step as never)
  for (const layer of layers) registry.layer(layer as never)
  for (const protocol of protocols) registry.protocol(protocol as never)
  for (const executor of executors) registry.executor(executor as never)
  return registry
}

type Given = <T>(token: symbol) => readonly T[]

/** What the application has registered for a token, in its container and in `providers`. */
function givenBy(container: DependencyContainer, providers: readonly Provider[]): Given {
  return <T>(token: symbol) => {
    const known = token as InjectionToken<T>
    const registered = container.isRegistered(known, true) ? container.resolveAll(known) : []
    const own = providers.flatMap((provider) =>
      provider.token === token && 'useValue' in provider ? [provider.useValue as T] : [],
    )
    return [...registered, ...own]
  }
}

function registerGiven(registry: ServerRegistry, given: Given): void {
  for (const one of given(TRANSPORT)) registry.transport(one as never)
  for (const one of given(CODEC)) registry.codec(one as never)
  for (const one of given(FRAMING)) registry.framer(one as never)
  for (const one of given(PAYLOAD)) registry.payload(one as never)
  for (const one of given(MIDDLEWARE)) registry.middleware(one as never)
  for (const one of given(EXECUTOR)) registry.executor(one as never)
  for (const one of given(LAYER)) registry.layer(one as never)
  for (const one of given(PROTOCOL)) registry.protocol(one as never)
}

/** A plugin by package or file, with options, or the thing itself. */
async function plug(registry: ServerRegistry, entry: NonNullable<Configuration['plugins']>[number]): Promise<void> {
  if (typeof entry !== 'string' && !Array.isArray(entry)) return registry.plug(entry as AnyPlugin, {})
  const [name, options] = (typeof entry === 'string' ? [entry, {}] : entry) as [string, unknown]
  const module = await loadModule(name)
  const plugin = (module.default ?? module.plugin) as AnyPlugin | undefined
  if (plugin === undefined) {
    throw new WiringError(
      'BAD_PLUGIN',
      `plugin ${name}: expected its module to have a default export made by definePlugin()`,
    )
  }
  await registry.plug(plugin, options)
}

export interface ConnectOptions {
  /** Default: `line`. */
  readonly codec?: CodecRef
  /** Speaks its client side; the codec is the protocol's. */
  readonly protocol?: Named | Protocol
  /** From the wire inwards. */
  readonly layers?: readonly (Named | Layer)[]
  readonly tls?: TlsOptions
  readonly socket?: SocketOption
  readonly limits?: LimitOptions
  readonly timeouts?: TimeoutOptions
  readonly plugins?: readonly AnyPlugin[]
  readonly signal?: AbortSignal
  readonly clock?: Clock
}

/**
 * Opens the client side of a connection.
 *
 * @param endpoint - As listeners write it: `tcp://localhost:8080`.
 * @throws {ConnectionError} `REFUSED`, `CONNECT_TIMEOUT` after `timeouts.connectMs` (10 s).
 * @throws {ConfigError} for options that do not fit.
 */
export async function connect(endpoint: string | Endpoint, options: ConnectOptions = {}): Promise<ClientConnection> {
  const clock = options.clock ?? systemClock
  const registry = registerBuiltIns(new ServerRegistry({ events: new EventHub(), clock }))
  for (const plugin of options.plugins ?? []) await registry.plug(plugin, {})
  const parsed = parseEndpoint(endpoint, registry.schemes)
  const transport = registry.transportOf(parsed.scheme)
  const protocol =
    options.protocol === undefined ? undefined : registry.resolveProtocol(options.protocol, 'protocol').protocol
  const limits = settle(defaultLimits, options.limits)
  const timeouts = settle(defaultTimeouts, options.timeouts)
  const socket = checkOptions(transport.options as StandardSchemaV1 | undefined, options.socket ?? {}, 'socket')
  const tlsOptions = options.tls === undefined ? {} : { tls: options.tls }
  const deadline = timeouts.connectMs === Number.POSITIVE_INFINITY ? [] : [AbortSignal.timeout(timeouts.connectMs)]
  return openClient({
    transport,
    endpoint: parsed,
    options: { ...(socket as object), ...tlsOptions, limits, timeouts } as TransportOptions,
    codec:
      options.codec !== undefined || protocol === undefined
        ? registry.resolveCodec(options.codec ?? 'line', 'codec').codec
        : (protocol.clientCodec ?? protocol.codec),
    protocol,
    layers: (options.layers ?? []).map((ref, index) => registry.resolveLayer(ref, `layers[${index}]`)),
    limits,
    timeouts,
    signal: AbortSignal.any([...deadline, ...(options.signal === undefined ? [] : [options.signal])]),
    clock,
  })
}
