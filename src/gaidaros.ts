/**
 * The door: the only place that sees core, transports and plugins together, and chooses.
 *
 * From a configuration to a server: read it, register what is built in, plug in what is named, find the handlers, plan the
 * listeners. Nothing is bound before `start()`.
 */
import 'reflect-metadata'
import { dirname } from 'node:path'
import { Script } from 'node:vm'
import { type DependencyContainer, container as root } from 'tsyringe'
import { registerBuiltIns } from './built-ins.js'
import { connect } from './connect.js'
import { checkAddresses } from './core/addresses.js'
import { type Clock, systemClock } from './core/clock.js'
import { Companions } from './core/companions.js'
import { findHandlers, loadExport, resolveHandler } from './core/config/handlers.js'
import type { Assignment, LoadedConfiguration, ModuleDoor } from './core/config/index.js'
import { loadConfiguration, loadModule, withOrigin } from './core/config/index.js'
import type { Configuration, ControlOptions, HandlerRef, HookOptions } from './core/configuration.js'
import { type Provider, ServerContainer } from './core/container.js'
import type { Control } from './core/control.js'
import { definitionOf, toDefinition } from './core/decorators.js'
import type { Endpoint } from './core/endpoint.js'
import { ConfigError, toError, WiringError } from './core/errors.js'
import { EventHub } from './core/events.js'
import { defineHandler, type HandlerDefinition, type HandlerLike, isHandlerDefinition } from './core/handler.js'
import type { HookedHandler } from './core/hooks.js'
import type { Server } from './core/lifecycle.js'
import { defaultServerLimits, drainOf } from './core/options.js'
import { writePidFile } from './core/pid-file.js'
import { cameFrom, sourceOf } from './core/places/handler-source.js'
import { seedOf } from './core/places/seed.js'
import { isPortable } from './core/places/wire.js'
import type { ListenerPlan } from './core/plan.js'
import { Planner, settle } from './core/planner.js'
import type { AnyPlugin, Companion, CompanionHost } from './core/plugin.js'
import type { Identity } from './core/privileges.js'
import { ServerRegistry } from './core/registry.js'
import { GaidarosServer } from './core/server.js'
import type { TicketSecret } from './core/ticket-secret.js'
import { CLOCK, CONFIGURATION, EVENTS, REGISTRY, SERVER } from './core/tokens.js'
import type { SocketKind, SocketSource } from './core/transport.js'
import { settleWorkers } from './core/workers/options.js'
import { givenBy, madeParts, registerGiven } from './given-parts.js'
import { descriptors } from './transports/descriptors.js'
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
  /** Folders besides the project from which files and variables may name modules; see docs/guide/operations.md. */
  readonly modulesFrom?: readonly string[]
  /** The application's tsyringe container; the server makes a child of it. Default: tsyringe's root. */
  readonly container?: DependencyContainer
  /**
   * The container serves this server alone: singletons that were first made for it are disposed with it. Default false; the
   * command says true, because there nobody else could dispose them.
   */
  readonly ownsContainer?: boolean
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
  return openServer(await readConfiguration(options), options, { place: 'code' })
}

/** The configuration that these options mean. @throws {ConfigError} */
export function readConfiguration(options: ServerOptions): Promise<LoadedConfiguration> {
  const {
    config,
    cwd = process.cwd(),
    env = process.env,
    flags = [],
    modulesFrom = [],
    container,
    ownsContainer,
    providers,
    clock,
    ...code
  } = options
  const saysWhat = code.listen !== undefined || code.listeners !== undefined
  return loadConfiguration({ cwd, config: config ?? !saysWhat, env, flags, code, modulesFrom })
}

/** Where a server stands: in a program of the user's, in the command's own process, or in a worker's. */
export interface ServerPlace {
  /** A worker has no control socket, pid file or companions: its supervisor has. */
  readonly place: 'code' | 'command' | 'worker'
  /** The worker's number. */
  readonly worker?: string
  /** Who binds, by listener and place among its endpoints. Left out: the transports. */
  readonly sockets?: (key: string, kind: SocketKind, endpoint: Endpoint) => SocketSource
  /** The supervisor's, for listeners with `tls` that have none of their own. */
  readonly ticketSecret?: TicketSecret
  /** Who answers at the control socket, in place of the server's own. */
  readonly steering?: (own: Control) => Pick<Control, 'ask'>
  /** Another program has the pid file and control socket; resolves when it has left them. */
  readonly namesAreFree?: () => Promise<void>
}

/** What others find a server by, in the hand of whoever takes it over. */
export interface ServerNames {
  /** What stands beside the server, and goes on. */
  readonly companions: Companions | undefined
  release(): Promise<void>
}

/** A server whose names can be taken from it. */
export interface PlacedServer extends ConfiguredServer {
  /** Which of the configuration's `plugins` have companions. */
  readonly hosted: readonly number[]
  takeNames(): ServerNames
}

/** @internal From a configuration that was read to a server. */
export async function openServer(
  loaded: LoadedConfiguration,
  options: ServerOptions,
  place: ServerPlace,
): Promise<PlacedServer> {
  if (place.place === 'code' && settleWorkers(loaded.values.workers) !== undefined) {
    const message =
      'workers: several server processes are started by the command (gaidaros serve), which runs the configuration in each; a ' +
      'program has its own process only: set workers to 1 here, or name a configuration file to gaidaros serve'
    throw new WiringError('BAD_OPTION', message, { option: 'workers', from: loaded.origin('workers')?.name })
  }
  const { cwd, clock, events, registry, hosted, injection, resolveRef, traced } = await furnish(
    options,
    loaded,
    place.worker,
  )
  const { values } = loaded
  // Without a listener there is one: nobody has named its endpoint.
  const isDefault = (path: readonly string[]) => path.join('.') === 'listeners.default.endpoint' && isUnnamed
  const isUnnamed = Object.keys(values.listeners ?? {}).length === 0
  const planner = new Planner({
    registry,
    shared: values,
    resolveHandler: resolveRef,
    planHandler: (definition) => injection.plan(definition),
    providedTo: (definition) => injection.providedTo(definition),
    processes: settleWorkers(values.workers)?.count ?? 1,
    origin: (path) => loaded.origin(path)?.name ?? (isDefault(path) ? 'default' : undefined),
    ...(place.sockets === undefined ? {} : { sockets: place.sockets }),
    ...(place.ticketSecret === undefined ? {} : { ticketSecret: place.ticketSecret }),
  })
  const listeners = Object.entries(values.listeners ?? {})
  if (listeners.length === 0) listeners.push(['default', { endpoint: defaultEndpoint }])
  const plans: ListenerPlan[] = []
  const faults: unknown[] = []
  for (const [name, listener] of listeners) {
    await traced(planner.plan(name, listener)).then(
      (plan) => plans.push(plan),
      (fault) => faults.push(fault),
    )
  }
  if (faults.length > 0) throw together(faults)
  planner.checkSharedSocket()
  checkAddresses(plans)

  const server: Configured = new Configured(loaded, registry.companions, hosted, place, {
    plans,
    bound: identityOf(values.daemon) === undefined ? undefined : () => server.becomeAnother(),
    plan: async (name, given) => {
      // Checked as if it had stood in the configuration.
      const one = await loadConfiguration({
        cwd,
        config: false,
        env: {},
        flags: [],
        code: { listeners: { [name]: given } },
      })
      const plan = await planner.plan(name, one.values.listeners?.[name] ?? given)
      const there = [...server.listeners].filter(({ state }) => state !== 'closed')
      checkAddresses([...there.map(({ name, plan, endpoints }) => ({ ...plan, name, endpoints })), plan])
      return plan
    },
    forget: (executor) => planner.forget(executor),
    clock,
    events,
    drain: drainOf(values.drain),
    limits: settle(defaultServerLimits, values.limits),
    descriptors: () => descriptors.look(),
    observers: registry.observers,
    accounts: registry.accounts,
    prepare: async (plan) => plan.handler.prepare?.(),
    dispose: () => injection.dispose(),
  })
  injection.provide(SERVER, server)
  return server
}

/** What stands before there is a server, or a node: the configuration read, things registered, handlers found. */
export async function furnish(options: ServerOptions, read?: LoadedConfiguration, worker?: string) {
  const {
    cwd = process.cwd(),
    container,
    ownsContainer = false,
    providers: givenProviders,
    clock: givenClock,
  } = options
  const providers = givenProviders === undefined ? undefined : madeParts(container ?? root, givenProviders)
  const given = givenBy(container ?? root, providers ?? [])
  const clock = givenClock ?? given<Clock>(CLOCK).at(-1) ?? systemClock
  const loaded = read ?? (await readConfiguration(options))
  const { values } = loaded
  const events = new EventHub()
  const places = {
    entry: new URL('./place.js', import.meta.url),
    seed: () => seedOf(loaded.directory, values),
    load: (reference: string, place = 'code') => loadExport(reference, place, loaded.modules),
    base: loaded.file === undefined ? loaded.directory : dirname(loaded.file),
  }
  const registry = registerBuiltIns(
    new ServerRegistry({
      events,
      clock,
      places,
      dataOrigin: (place: string) => loaded.modules.dataOrigin(place)?.name,
      worker,
      connect: (endpoint) => connect(endpoint, { codec: 'raw' }),
    }),
    values.cluster,
  )
  // What is wrong from here on is said with the file, variable or flag that it came from.
  const traced = <T>(work: Promise<T>): Promise<T> =>
    work.catch((thrown) => {
      throw withOrigin(thrown, loaded.origin)
    })
  const hosted: number[] = []
  for (const [index, entry] of (values.plugins ?? []).entries()) {
    const before = registry.companions.length
    await traced(plug(registry, entry, `plugins[${index}]`, loaded.modules))
    if (registry.companions.length > before) hosted.push(index)
  }
  registry.replacing('the application’s container', () => registerGiven(registry, given))

  const found = await traced(findHandlers(loaded, { definitionOf }))
  const hooks =
    values.hooks === undefined
      ? undefined
      : await traced(
          (await import('./core/hooks.js')).hooksHandler(values.hooks, {
            load: (module) => loaded.modules.load(module, 'hooks.module'),
          }),
        )
  const fallback =
    hooks === undefined ? cameFrom(echo, { eval: 'message => message' }) : hooked(hooks, values.hooks as HookOptions)
  const injection = new ServerContainer({
    ...(container === undefined ? {} : { parent: container }),
    ...(providers === undefined ? {} : { providers }),
    ownsParent: ownsContainer,
    failed: (name, error) => events.emit('disposal.failed', { name, error }),
    values: new Map<unknown, unknown>([
      [CLOCK, clock],
      [EVENTS, events],
      [REGISTRY, registry],
      [CONFIGURATION, values],
    ]),
  })
  const resolveRef = async (ref: HandlerRef | undefined, place: string): Promise<HandlerDefinition> => {
    if (ref instanceof Script) return (await import('./core/hooks.js')).scriptHandler(ref)
    if (isHandlerDefinition(ref) && sourceOf(ref) !== undefined) return ref
    const resolved = await resolveHandler(ref as string | HandlerLike | undefined, found, {
      definitionOf,
      place,
      loaded,
    })
    if (resolved === undefined) return fallback
    const definition = toDefinition(resolved.handler)
    return resolved.source === undefined ? definition : cameFrom(definition, resolved.source)
  }
  return { cwd, loaded, clock, events, registry, hosted, places, injection, found, resolveRef, traced }
}

/** The faults of several listeners, told at once, as an error of the first one's kind. */
function together(faults: readonly unknown[]): unknown {
  const [first] = faults
  const texts = new Set(faults.map((fault) => toError(fault).message))
  if (texts.size === 1 || !(first instanceof ConfigError || first instanceof WiringError)) return first
  const message = [...texts].join('\n')
  const fields = { ...first.fields, faults: [...texts] }
  return first instanceof ConfigError
    ? new ConfigError(first.code, message, fields)
    : new WiringError(first.code, message, fields)
}

class Configured extends GaidarosServer implements PlacedServer {
  readonly configuration: LoadedConfiguration
  readonly hosted: readonly number[]
  readonly #companions: readonly Companion[]
  /** Those that run. */
  #running: Companions | undefined
  readonly #events: EventHub
  /** What ends with this server, before it says so. */
  readonly #beside: (() => void | Promise<void>)[]
  /** The last thing to go: by its end others see that this server has stopped. */
  #endControl: () => void | Promise<void> = () => {}
  #removePidFile: (() => void) | undefined
  readonly #place: ServerPlace

  constructor(
    configuration: LoadedConfiguration,
    companions: readonly Companion[],
    hosted: readonly number[],
    place: ServerPlace,
    parts: ConstructorParameters<typeof GaidarosServer>[0],
  ) {
    const beside: (() => void | Promise<void>)[] = []
    super({
      ...parts,
      dispose: async () => {
        await this.#endBeside()
        await parts.dispose()
      },
    })
    this.configuration = configuration
    this.#companions = companions
    this.hosted = hosted
    this.#events = parts.events
    this.#beside = beside
    this.#place = place
  }

  override async start(): Promise<this> {
    // A second start is refused; it must not undo the first.
    if (this.state !== 'created') return super.start()
    const { pidFile } = controlOf(this.configuration.values.control)
    const isNamed = pidFile !== undefined && this.#place.place !== 'worker'
    if (isNamed && this.#place.namesAreFree === undefined) this.#removePidFile = writePidFile(pidFile)
    void this.stopped.then(async () => {
      this.#removePidFile?.()
      await this.#endBeside()
      await this.#endControl()
    })
    try {
      await super.start()
      if (this.#hasBeside) return this
      await this.#startBeside()
    } catch (error) {
      await this.stop({ timeoutMs: 0 })
      throw withOrigin(error, this.configuration.origin)
    }
    return this
  }

  /** Everything is bound, and nobody let in: what needs root is done, and root given up. */
  async becomeAnother(): Promise<void> {
    const identity = identityOf(this.configuration.values.daemon)
    if (identity === undefined) return
    const { dropPrivileges, idsOf } = await import('./core/privileges.js')
    if (this.#place.place === 'worker') {
      dropPrivileges(identity)
      return
    }
    await this.#startBeside()
    const ids = idsOf(identity)
    const { path } = controlOf(this.configuration.values.control)
    const bound = [...this.listeners].flatMap(({ endpoints }) => endpoints.map(String))
    if (ids !== undefined && process.geteuid?.() === 0) {
      const { handOverSockets } = await import('./core/root-files.js')
      handOverSockets(bound, path, ids)
    }
    dropPrivileges(identity)
  }

  /** The control socket and whatever plugins have beside the server. */
  async #startBeside(): Promise<void> {
    this.#hasBeside = true
    if (this.#place.place === 'worker') return
    const { path, pidFile, redact } = controlOf(this.configuration.values.control)
    if (this.#place.namesAreFree !== undefined) {
      await this.#place.namesAreFree()
      if (pidFile !== undefined) this.#removePidFile = writePidFile(pidFile)
    }
    if (path === undefined && this.#companions.length === 0) return
    const { Control } = await import('./core/control.js')
    const control = new Control(this, version, redact === undefined ? {} : { redact })
    this.#beside.push(() => control.close())
    if (path !== undefined) await this.#listenForControl(path, control)
    if (this.#companions.length === 0) return
    const steered = this.#place.steering?.(control) ?? control
    this.#running = companionsBeside(this.#events, (request) => steered.ask(request))
    await this.#running.start(this.#companions)
  }
  #hasBeside = false

  async #listenForControl(path: string, control: Control): Promise<void> {
    const server = await listenForControl(path, this.#place.steering?.(control) ?? control)
    this.#endControl = () => server.stop({ timeoutMs: 1_000 })
    if (this.state === 'stopped') await this.#endControl()
  }

  /** They outlive this server; whoever takes them lets go of them. */
  takeNames(): ServerNames {
    const removePidFile = this.#removePidFile
    const endControl = this.#endControl
    const companions = this.#running
    this.#removePidFile = undefined
    this.#endControl = () => {}
    this.#running = undefined
    return {
      companions,
      async release() {
        removePidFile?.()
        await companions?.end()
        await endControl()
      },
    }
  }

  async #endBeside(): Promise<void> {
    await this.#running?.end()
    await endAll(this.#beside)
  }
}

/** What is needed to run companions in this process. */
export function companionsBeside(events: EventHub, ask: CompanionHost['ask']): Companions {
  return new Companions({
    ask,
    bound: (plugin, address) => events.emit('plugin.bound', { plugin, address }),
    async serve(configuration: Configuration) {
      const server = await createServer({ ...configuration, config: false, env: {} })
      await server.start()
      return {
        endpoints: [...server.listeners].flatMap(({ endpoints }) => endpoints),
        stop: () => server.stop({ timeoutMs: 1_000 }),
      }
    },
  })
}

/** The configuration's plugins that have companions, as they stand there. */
export type PluginEntries = NonNullable<Configuration['plugins']>

/** The companions of these plugins alone, for whoever serves nothing itself. */
export async function companionsOf(entries: PluginEntries, events: EventHub): Promise<readonly Companion[]> {
  const registry = new ServerRegistry({ events, clock: systemClock })
  for (const [index, entry] of entries.entries()) {
    // The workers have let its module in.
    await plug(registry, entry, `plugins[${index}]`, { load: (reference) => loadModule(reference) })
  }
  return registry.companions
}

/** A server of its own: it goes on answering while the one it steers is suspended or drains. */
export async function listenForControl(path: string, control: Pick<Control, 'ask'>): Promise<Server> {
  const { handlerOf } = await import('./core/control.js')
  const server = await createServer({
    config: false,
    env: {},
    listen: `unix:${path}`,
    socket: { mode: 0o600 },
    handler: handlerOf(control),
    limits: { connections: 16 },
    // `gaidaros stop` waits here for as long as the drain takes, `reload` for as long as that does.
    timeouts: { idleMs: 'unlimited', handlerMs: 'unlimited' },
  })
  return server.start()
}

/** The latest first, each once. */
async function endAll(ends: (() => void | Promise<void>)[]): Promise<void> {
  for (let end = ends.pop(); end !== undefined; end = ends.pop()) await end()
}

/** Undefined when it stays who it is. */
export function identityOf(given: Configuration['daemon']): Identity | undefined {
  const { user, group } = typeof given === 'object' ? given : {}
  return user === undefined && group === undefined ? undefined : { user, group }
}

export function controlOf(given: Configuration['control']): {
  readonly path?: string | undefined
  readonly pidFile?: string | undefined
  readonly redact?: readonly string[] | undefined
} {
  if (given === undefined || given === false) return {}
  if (typeof given === 'string') return { path: given }
  const { path, pidFile, redact } = given === true ? ({} as ControlOptions) : given
  return { path: path ?? pidFile?.replace(/(\.pid)?$/, '.sock') ?? './gaidaros.sock', pidFile, redact }
}

/** Its functions may have been given in code, and then it has no source. */
function hooked({ definition, codec }: HookedHandler, options: HookOptions): HandlerDefinition {
  const whole: HandlerDefinition = { ...definition, options: { ...definition.options, codec } }
  return isPortable(options) ? cameFrom(whole, { hooks: options }) : whole
}

/** What answers where nobody said what to do: each message goes back. */
const echo = defineHandler({ name: 'echo', message: (message: unknown) => message })

/**
 * A plugin by package or file, with options, or the thing itself.
 *
 * @param found - Told the schema of its options before they are checked.
 */
export async function plug(
  registry: ServerRegistry,
  entry: NonNullable<Configuration['plugins']>[number],
  place: string,
  modules: Pick<ModuleDoor, 'load'>,
  found: (schema: unknown) => void = () => {},
): Promise<void> {
  if (typeof entry !== 'string' && !Array.isArray(entry)) return registry.plug(entry as AnyPlugin, {}, place)
  const [name, options] = (typeof entry === 'string' ? [entry, {}] : entry) as [string, unknown]
  const module = await modules.load(name, place)
  const plugin = (module.default ?? module.plugin) as AnyPlugin | undefined
  if (plugin === undefined || plugin === null) {
    throw new WiringError(
      'BAD_PLUGIN',
      `plugin ${name}: expected its module to have a default export made by definePlugin()`,
    )
  }
  found(plugin.options)
  await registry.plug(plugin, options, `${place}, ${name}`)
}
