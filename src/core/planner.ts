/**
 * From a listener's options to its plan: names resolved, limits filled in, middleware composed, needs held against what the
 * transport can.
 *
 * Room: core, mechanism. Everything that can be wrong about a listener is found here, before anything is bound.
 */
import { atKey } from './config/trace.js'
import type { HandlerRef, ListenerOptions, ProtocolChoice, SharedOptions } from './configuration.js'
import type { MessageContext } from './context.js'
import { type Endpoint, parseEndpoint } from './endpoint.js'
import { ConfigError, ExecutorError, FrameError, WiringError } from './errors.js'
import type { Executor, Placement } from './executor.js'
import { type Elsewhere, mixedPlan, runPlan } from './executor-plan.js'
import type { CodecRef, HandlerDefinition, HandlerPlan, MiddlewareRef, Named, NamedExecutor, Needs } from './handler.js'
import { checkStack, type PlacedLayer } from './layer-stack.js'
import { nearest } from './nearest.js'
import { joinProbes } from './observer.js'
import { defaultLimits, defaultTimeouts, type Limits, socketRows, type Timeouts } from './options.js'
import { compose, type MiddlewareLevel, type MiddlewareSet, type PlacedMiddleware } from './pipeline.js'
import { sourceOf } from './places/handler-source.js'
import type { Binding, ListenerPlan, SessionPlan } from './plan.js'
import type { Protocol } from './plugin.js'
import { checkOptions, type ServerRegistry } from './registry.js'
import type { Session } from './session.js'
import { issuePath, type SchemaResult, type StandardSchemaV1, validate } from './standard-schema.js'
import { ownedBy, type TicketSecret } from './ticket-secret.js'
import type { Capabilities, SocketKind, SocketSource, Transport, TransportOptions } from './transport.js'

export interface PlannerParts {
  readonly registry: ServerRegistry
  /** The top of the configuration: defaults for every listener. */
  readonly shared: SharedOptions
  /** Finds what a handler reference names. @param place - For errors. */
  resolveHandler(ref: HandlerRef | undefined, place: string): Promise<HandlerDefinition>
  planHandler(definition: HandlerDefinition): HandlerPlan
  /** Where a value came from, for `explain`. */
  origin(path: readonly string[]): string | undefined
  /** Where somebody else binds: by listener and place among its endpoints, as in `public/0`. */
  sockets?(key: string, kind: SocketKind, endpoint: Endpoint): SocketSource
  /** Things of this process that a handler's construction needs, by name. */
  providedTo?(definition: HandlerDefinition): readonly string[]
  /** Server processes that serve these listeners. Default: 1. */
  readonly processes?: number
  /** For listeners with `tls` and no keys of their own. */
  readonly ticketSecret?: TicketSecret
}

/** One protocol of a listener; without one, its codec and handler alone. */
interface Choice {
  /** Where it stands, for errors. */
  readonly place: string
  readonly protocol: { readonly name: string; readonly protocol: Protocol } | undefined
  readonly codec: CodecRef | undefined
  readonly handler: HandlerRef | undefined
}

interface ChosenExecutor {
  readonly name: string
  /** Undefined: inline. */
  readonly executor: Executor | undefined
  readonly place: string
}

export class Planner {
  readonly #parts: PlannerParts
  /** Made once: what is global is shared by all listeners (a limit by source counts over all of them). */
  #global: readonly PlacedMiddleware[] | undefined
  readonly #ofListener = new WeakMap<ListenerOptions, readonly PlacedMiddleware[]>()
  readonly #handlers = new WeakMap<HandlerDefinition, HandlerPlan>()
  readonly #transports = new Set<Transport>()
  /** By what names them: a listener, the top of the configuration, a handler, a method. */
  readonly #executors = new Map<object, ChosenExecutor>()

  constructor(parts: PlannerParts) {
    this.#parts = parts
  }

  /** @throws {ConfigError | WiringError} Nothing is bound. */
  async plan(name: string, options: ListenerOptions): Promise<ListenerPlan> {
    const { shared, origin } = this.#parts
    const at = `listeners.${name}`
    const where = (key: string) =>
      origin(['listeners', name, key]) ?? origin([key]) ?? (key in options || key in shared ? 'code' : 'default')
    const endpoints = this.#endpoints(name, options)
    await this.#load(endpoints, options)
    const choices = this.#choices(options, at)
    const limits = settle<Limits>(defaultLimits, shared.limits, options.limits)
    const timeouts = settle<Timeouts>(defaultTimeouts, shared.timeouts, options.timeouts)
    checkLimits(limits, at)
    const bindings = this.#bindings(name, endpoints, options, limits, timeouts)
    const layers = bindings[0]?.layers ?? []
    const planned = []
    for (const choice of choices)
      planned.push(await this.#session(name, options, choice, { limits, timeouts, bindings }, where))
    const [first] = planned as [(typeof planned)[0]]
    return {
      ...first.plan,
      name,
      bindings,
      executors: [...new Set(planned.flatMap(({ executors }) => executors))],
      candidates:
        planned.length === 1
          ? undefined
          : planned.map(({ plan, chosen }) => ({ name: chosen.codec, protocol: plan.protocol, plan })),
      chosen: {
        ...first.chosen,
        candidates:
          planned.length === 1
            ? []
            : planned.map(({ plan, chosen }) => ({ ...chosen, handler: plan.handler.definition.name })),
        reasons: {
          ...first.chosen.reasons,
          endpoint: where('endpoint'),
          layers: layers.length > 0 ? where('layers') : '',
        },
      },
    }
  }

  /**
   * Holds what stands in `socket` at the top against every transport that was planned: each takes what it has, but a key that
   * none of them and no built-in one has is a slip.
   *
   * @throws {ConfigError} `UNKNOWN_KEY`.
   */
  checkSharedSocket(): void {
    const tables = [...this.#transports].map(fieldsOf)
    // A transport of somebody else may check its options with a schema that names none.
    if (tables.some((fields) => fields === undefined)) return
    const known = new Set([...Object.keys(socketRows), ...tables.flatMap((fields) => Object.keys(fields ?? {}))])
    const faults = Object.keys(this.#parts.shared.socket ?? {}).flatMap((key) => {
      if (known.has(key)) return []
      const near = nearest(key, known)
      const hint = near === undefined ? `; known: ${[...known].join(', ')}` : `; nearest: \`${near}\``
      const origin = this.#parts.origin(['socket', key])
      return `socket.${key}: unknown key \`${key}\`${hint}${origin === undefined ? '' : ` (${origin})`}`
    })
    if (faults.length > 0) throw new ConfigError('UNKNOWN_KEY', faults.join('\n'), { path: 'socket', faults })
  }

  #endpoints(name: string, { endpoint }: ListenerOptions): readonly Endpoint[] {
    const place = `listeners.${name}.endpoint`
    const given = (Array.isArray(endpoint) ? endpoint : [endpoint]) as readonly (string | Endpoint)[]
    if (given.length === 0) throw new ConfigError('BAD_VALUE', `${place}: expected at least one endpoint`)
    return given.map((one) => endpointAt(one, this.#parts.registry.schemes, place))
  }

  /** What the listener names, and comes with Gaidaros, is loaded now. What its handlers name comes with them. */
  async #load(endpoints: readonly Endpoint[], options: ListenerOptions): Promise<void> {
    const { registry, shared } = this.#parts
    const protocol = options.protocol ?? shared.protocol
    const schemes = endpoints.map(({ scheme }) => scheme)
    await registry.ready({
      schemes,
      layers: options.layers ?? shared.layers,
      protocols: Array.isArray(protocol) ? protocol : [protocol],
      middleware: [...(shared.middleware ?? []), ...(options.middleware ?? [])],
      executors: [options.executor, shared.executor],
    })
    if ((options.layers ?? shared.layers ?? []).length === 0) return
    const over = schemes.flatMap((scheme) => registry.transportOf(scheme).over ?? [])
    await registry.ready({ schemes: over.map(({ scheme }) => scheme), layers: over.map(({ layer }) => layer) })
  }

  /** The protocols of a listener, each with what it says of handler and codec; one without a protocol where none is named. */
  #choices(options: ListenerOptions, at: string): readonly Choice[] {
    const { registry, shared } = this.#parts
    const given = options.protocol ?? shared.protocol
    if (given === undefined) return [{ place: at, protocol: undefined, codec: undefined, handler: undefined }]
    if (!Array.isArray(given)) {
      const place = `${at}.protocol`
      return [
        {
          place,
          protocol: registry.resolveProtocol(given as Named | Protocol, place),
          codec: undefined,
          handler: undefined,
        },
      ]
    }
    const choices = (given as readonly ProtocolChoice[]).map((one, index): Choice => {
      const place = `${at}.protocol[${index}]`
      if (typeof one === 'string')
        return { place, protocol: registry.resolveProtocol(one, place), codec: undefined, handler: undefined }
      const { handler, codec, ...rest } = one as { handler?: HandlerRef; codec?: CodecRef; name?: string }
      const isRest = rest.name === undefined && codec !== undefined && !('detect' in one)
      const inFull = { ...rest, ...(codec === undefined ? {} : { codec }) }
      const protocol = isRest ? undefined : registry.resolveProtocol(inFull as Named, place)
      if (protocol === undefined && index < given.length - 1) {
        throw new ConfigError(
          'BAD_VALUE',
          `${place}: takes everything; it has to stand last, behind the protocols that are told apart`,
          { place },
        )
      }
      return { place, protocol, codec: isRest ? codec : undefined, handler }
    })
    for (const { place, protocol } of choices) {
      if (protocol === undefined || protocol.protocol.detect !== undefined || choices.length === 1) continue
      const message = `${place}: protocol ${protocol.name} cannot be told from its first bytes; give it an endpoint of its own`
      throw new ConfigError('BAD_VALUE', message, { place })
    }
    return choices
  }

  /** What a session of one protocol needs. */
  async #session(
    name: string,
    options: ListenerOptions,
    choice: Choice,
    settled: { limits: Limits; timeouts: Timeouts; bindings: readonly Binding[] },
    where: (key: string) => string,
  ) {
    const { registry, shared } = this.#parts
    const at = `listeners.${name}`
    const { protocol } = choice
    const { limits, timeouts, bindings } = settled
    const handlerRef = choice.handler ?? options.handler ?? shared.handler
    const definition = await this.#parts.resolveHandler(
      handlerRef,
      choice.handler === undefined ? `${at}.handler` : `${choice.place}.handler`,
    )
    const { messages } = definition
    await registry.ready({
      middleware: [...(definition.options.middleware ?? []), ...messages.flatMap((one) => one.middleware ?? [])],
      executors: [definition.options.executor, ...messages.map((one) => one.executor)],
    })
    const codecRef = choice.codec ?? options.codec ?? shared.codec
    const codec =
      protocol !== undefined && (codecRef === undefined || choice.place !== `${at}.protocol`)
        ? { name: protocol.name, codec: protocol.protocol.codec }
        : registry.resolveCodec(codecRef ?? definition.options.codec ?? 'line', `${at}.codec`)
    const executor = this.#executor(options, definition, at)
    for (const binding of bindings) {
      checkNeeds(`handler ${definition.name}`, definition.options.needs, name, binding)
      if (protocol !== undefined) checkNeeds(`protocol ${protocol.name}`, protocol.protocol.needs, name, binding)
    }

    const placement = { source: sourceOf(definition), limits, timeouts }
    const { handler, executors } = this.#placeHandler(definition, executor, placement, at)
    if (protocol?.protocol.keepsState) this.#checkState(choice.place, protocol.name, executors)

    const own = protocol?.protocol.middleware
    const middleware: PlacedMiddleware[] = [
      ...registry.observers.flatMap(({ middleware: set }) =>
        set === undefined ? [] : [{ level: 'observer' as const, set }],
      ),
      ...this.#globalMiddleware(),
      ...this.#listenerMiddleware(name, options),
      ...(own === undefined ? [] : [{ level: 'protocol' as const, set: own }]),
      ...schemaStep('handler', definition.options.schema),
      ...this.#place('handler', definition.options.middleware, `handler ${definition.name}`),
    ]
    const methods = new Map<string | undefined, readonly PlacedMiddleware[]>()
    for (const { route, middleware: refs, schema } of definition.messages) {
      const steps = [
        ...schemaStep('method', schema),
        ...this.#place('method', refs, `handler ${definition.name}, @OnMessage(${route ?? ''})`),
      ]
      if (steps.length > 0) methods.set(route, steps)
    }
    const onMessage = (steps: readonly PlacedMiddleware[]) => {
      const sets = steps.flatMap(({ set }) =>
        set.message === undefined ? [] : [{ name: set.name, step: set.message }],
      )
      return compose(
        sets.map(({ step }) => step),
        { names: sets.map((one) => one.name), failed: failedLate },
      )
    }
    const methodPipelines = new Map<string | undefined, NonNullable<ReturnType<typeof onMessage>> | null>()
    const without = middleware.filter(({ level }) => level !== 'protocol')
    for (const { route } of definition.messages) {
      const steps = methods.get(route) ?? []
      const isPassed = own?.message !== undefined && route !== undefined && protocol?.protocol.passes?.(route) === true
      if (steps.length === 0 && !isPassed) continue
      methodPipelines.set(route, onMessage([...(isPassed ? without : middleware), ...steps]) ?? null)
    }
    const plan: SessionPlan = {
      codec: codec.codec,
      handler,
      limits,
      timeouts,
      protocol: protocol?.protocol,
      order: definition.options.order ?? protocol?.protocol.order ?? 'serial',
      halfOpen: definition.options.halfOpen,
      badFrame: definition.options.badFrame,
      connectionPipeline: compose(
        middleware.flatMap(({ set }) => (set.connection === undefined ? [] : [set.connection])),
      ),
      messagePipeline: onMessage(middleware),
      probe: joinProbes(registry.observers.flatMap((observer) => observer.probe?.(name) ?? [])),
      methodPipelines: methodPipelines.size === 0 ? undefined : methodPipelines,
    }
    const codecReason =
      protocol !== undefined && codec.name === protocol.name
        ? `protocol ${protocol.name}`
        : codecRef !== undefined
          ? where('codec')
          : definition.options.codec
            ? `handler ${definition.name}`
            : 'default'
    const executorReason =
      options.executor || shared.executor
        ? where('executor')
        : definition.options.executor
          ? `handler ${definition.name}`
          : 'default'
    return {
      plan,
      executors,
      chosen: {
        codec: codec.name,
        executor: executor.name,
        middleware,
        methods,
        reasons: {
          handler: choice.handler === undefined ? where('handler') : choice.place,
          codec: codecReason,
          executor: executorReason,
          middleware: where('middleware'),
        },
      },
    }
  }

  /** @throws {WiringError} `NEEDS_UNMET` where what a protocol remembers would silently be several things. */
  #checkState(place: string, name: string, executors: readonly Executor[]): void {
    const refuse = (several: string, remedy: string) => {
      const message = `${place}: protocol ${name} keeps state of all its connections (subscriptions, retained messages), and ${several} would each have a part of it; ${remedy}`
      throw new WiringError('NEEDS_UNMET', message, { protocol: name, place })
    }
    const { processes = 1 } = this.#parts
    if (processes > 1)
      refuse(
        `${processes} server processes (workers)`,
        'set workers to 1, and serve other listeners by a second command',
      )
    const spread = executors.find(({ runners = 1 }) => runners > 1)
    if (spread !== undefined) {
      const count = spread.runners === Number.POSITIVE_INFINITY ? 'the runners' : `${spread.runners} runners`
      refuse(`${count} of executor ${spread.name}`, 'run its handler inline, as a task, or in an executor of size 1')
    }
  }

  /** An executor ends: whoever names it next gets another. */
  forget(executor: Executor): void {
    for (const [owner, chosen] of this.#executors) if (chosen.executor === executor) this.#executors.delete(owner)
  }

  /** Where its handler runs: one pool for whatever names it once. */
  #executor(options: ListenerOptions, definition: HandlerDefinition, at: string): ChosenExecutor {
    const { shared } = this.#parts
    const candidates = [
      { owner: options, ref: options.executor, place: `${at}.executor` },
      { owner: this, ref: shared.executor, place: 'executor' },
      { owner: definition, ref: definition.options.executor, place: `handler ${definition.name}, executor` },
    ]
    const found = candidates.find(({ ref }) => ref !== undefined)
    return found?.ref === undefined
      ? { name: 'inline', executor: undefined, place: at }
      : this.#makeExecutor(found.owner, found.ref, found.place)
  }

  #makeExecutor(owner: object, ref: NamedExecutor, place: string): ChosenExecutor {
    const known = this.#executors.get(owner)
    if (known !== undefined) return known
    const made = { ...this.#parts.registry.resolveExecutor(ref, place), place }
    this.#executors.set(owner, made)
    return made
  }

  /** The handler's plan, seen through its executor and those of single methods. */
  #placeHandler(
    definition: HandlerDefinition,
    { executor, place }: ChosenExecutor,
    given: Omit<Placement, 'place' | 'hooks'>,
    at: string,
  ): { handler: HandlerPlan; executors: readonly Executor[] } {
    const own = this.#planHandler(definition)
    const executors: Executor[] = executor === undefined ? [] : [executor]
    const isAway = executor?.place !== undefined
    if (executor !== undefined && isAway) this.#checkProvided(definition, executor, place)
    let handler = own
    if (executor !== undefined)
      handler = executor.place?.(own, { ...given, place, hooks: true }) ?? runPlan(own, executor)
    const elsewhere = new Map<string | undefined, Elsewhere>()
    for (const message of definition.messages) {
      if (message.executor === undefined) continue
      const where = `${at}: handler ${definition.name}, @OnMessage(${message.route ?? ''}), executor`
      const { executor: one } = this.#makeExecutor(message, message.executor, where)
      if (one !== undefined) executors.push(one)
      if (one?.place !== undefined) this.#checkProvided(definition, one, where)
      const placed = one?.place?.(own, { ...given, place: where, hooks: false })
      if (placed !== undefined) elsewhere.set(message.route, { plan: placed, seats: true })
      else if (!isAway && one !== undefined) elsewhere.set(message.route, { run: one })
      // Here, though its handler is away: an instance of its own, of which only this method is called.
      else if (isAway) elsewhere.set(message.route, { plan: one === undefined ? own : runPlan(own, one), seats: false })
    }
    if (elsewhere.size > 0) handler = mixedPlan(handler, elsewhere)
    return { handler, executors }
  }

  /** @throws {ExecutorError} `NOT_PORTABLE` for a handler that needs what only this process has. */
  #checkProvided(definition: HandlerDefinition, executor: Executor, place: string): void {
    this.#planHandler(definition)
    const [first, ...more] = this.#parts.providedTo?.(definition) ?? []
    if (first === undefined) return
    const tokens = [first, ...more].join(', ')
    const message = `${place}: handler ${definition.name} needs ${tokens}, given to createServer in \`providers\`: a value of this process, which executor ${executor.name} cannot take elsewhere; register it with tsyringe in the handler's module, or run the handler inline`
    throw new ExecutorError('NOT_PORTABLE', message, { handler: definition.name, executor: executor.name, tokens })
  }

  #planHandler(definition: HandlerDefinition): HandlerPlan {
    const known = this.#handlers.get(definition)
    if (known !== undefined) return known
    const plan = this.#parts.planHandler(definition)
    this.#handlers.set(definition, plan)
    return plan
  }

  #bindings(
    name: string,
    endpoints: readonly Endpoint[],
    options: ListenerOptions,
    limits: Limits,
    timeouts: Timeouts,
  ): readonly Binding[] {
    const { registry, shared } = this.#parts
    const place = `listeners.${name}.layers`
    const named = (options.layers ?? shared.layers ?? []).map((ref, index) =>
      registry.resolveLayer(ref, `${place}[${index}]`),
    )
    const { sockets, ticketSecret: secret } = this.#parts
    return endpoints.map((endpoint, index) => {
      const asked = registry.transportOf(endpoint.scheme)
      const { transport, layers } = this.#between(asked, named, place)
      this.#transports.add(transport)
      const socket = { ...fitting(shared.socket, transport), ...options.socket }
      const checked = checkOptions(
        transport.options as StandardSchemaV1 | undefined,
        socket,
        `listeners.${name}.socket`,
      )
      const tls =
        shared.tls === undefined && options.tls === undefined
          ? {}
          : { tls: ownedBy({ listener: name, secret }, { ...shared.tls, ...options.tls }) }
      const elsewhere =
        sockets === undefined || transport.binds === undefined
          ? {}
          : { sockets: sockets(`${name}/${index}`, transport.binds, endpoint) }
      const transportOptions: TransportOptions = { ...(checked as object), ...tls, ...elsewhere, limits, timeouts }
      const offered = transport.capabilities(endpoint, transportOptions)
      const preambles = transport.preambles ? leadingPreambles(layers) : 0
      checkStack(layers.slice(0, preambles), { ...offered, kind: 'stream', upgrade: [] }, asked.name, place)
      const capabilities = checkStack(layers.slice(preambles), offered, asked.name, place)
      return { endpoint, transport, options: transportOptions, capabilities, layers, preambles, name: asked.name }
    })
  }

  /** A layer that belongs before the handshake of `tls://` gets its place: TCP, that layer, and TLS as a layer. */
  #between(
    asked: Transport,
    layers: readonly PlacedLayer[],
    place: string,
  ): { transport: Transport; layers: readonly PlacedLayer[] } {
    if (asked.over === undefined) return { transport: asked, layers }
    const { registry } = this.#parts
    const repeated = layers.some(({ name }) => name === asked.over?.layer)
    if (repeated) {
      const message = `${place}: layer ${asked.over.layer} stands in the endpoint's scheme \`${asked.name}\` already; name it once`
      throw new ConfigError('BAD_VALUE', message, { transport: asked.name })
    }
    const count = leadingPreambles(layers)
    if (count === 0) return { transport: asked, layers }
    const between = registry.resolveLayer(asked.over.layer, place)
    return {
      transport: registry.transportOf(asked.over.scheme),
      layers: [...layers.slice(0, count), between, ...layers.slice(count)],
    }
  }

  #globalMiddleware(): readonly PlacedMiddleware[] {
    this.#global ??= this.#place('global', this.#parts.shared.middleware, 'middleware')
    return this.#global
  }

  /** Made once a listener, so that its protocols share what counts. */
  #listenerMiddleware(name: string, options: ListenerOptions): readonly PlacedMiddleware[] {
    const known = this.#ofListener.get(options)
    if (known !== undefined) return known
    const placed = this.#place('listener', options.middleware, `listeners.${name}.middleware`)
    this.#ofListener.set(options, placed)
    return placed
  }

  #place(level: MiddlewareLevel, refs: readonly MiddlewareRef[] | undefined, place: string): PlacedMiddleware[] {
    return (refs ?? []).map((ref, index) => ({
      level,
      set: this.#parts.registry.resolveMiddleware(ref, `${place}[${index}]`),
    }))
  }
}

/** How many there are before the first of another stage. */
function leadingPreambles(layers: readonly PlacedLayer[]): number {
  const first = layers.findIndex(({ layer }) => layer.stage !== 'preamble')
  return first === -1 ? layers.length : first
}

function endpointAt(text: string | Endpoint, schemes: Iterable<string>, place: string): Endpoint {
  try {
    return parseEndpoint(text, schemes)
  } catch (thrown) {
    if (!(thrown instanceof ConfigError)) throw thrown
    const { code, message, fields } = thrown
    throw atKey(new ConfigError(code, message.replace(/^endpoint /, ''), fields), place)
  }
}

/** Defaults under the shared options under the listener's own; `unlimited` is read as Infinity. */
export function settle<T extends object>(
  defaults: Readonly<T>,
  ...layers: (Readonly<Record<string, unknown>> | undefined)[]
): T {
  const result: Record<string, unknown> = { ...defaults }
  for (const layer of layers) {
    for (const [key, value] of Object.entries(layer ?? {})) {
      // At the top stand limits of the whole server as well; they are no listener's.
      if (value !== undefined && key in defaults) result[key] = value === 'unlimited' ? Number.POSITIVE_INFINITY : value
    }
  }
  return result as T
}

function checkLimits(limits: Limits, at: string): void {
  const { writeLowBytes: low, writeHighBytes: high, writeHardBytes: hard } = limits
  if (low < high && high < hard) return
  const message = `${at}.limits: expected writeLowBytes < writeHighBytes < writeHardBytes, got ${low}, ${high}, ${hard}`
  throw new ConfigError('BAD_VALUE', message, { low, high, hard })
}

/** Of socket options meant for all listeners, those this transport has. Its own listener's are not filtered. */
function fitting(socket: Readonly<Record<string, unknown>> | undefined, transport: Transport): Record<string, unknown> {
  const fields = fieldsOf(transport)
  return Object.fromEntries(Object.entries(socket ?? {}).filter(([key]) => fields !== undefined && key in fields))
}

/** The names of a transport's socket options; undefined where only its schema knows them. */
function fieldsOf({ options }: Transport): object | undefined {
  return options === undefined ? {} : (options as { fields?: object }).fields
}

function checkNeeds(
  who: string,
  needs: Needs | undefined,
  listener: string,
  { endpoint, name, capabilities }: Binding,
): void {
  const missing = unmet(needs ?? {}, capabilities)
  if (missing === undefined) return
  throw new WiringError(
    'NEEDS_UNMET',
    `${who} needs ${missing}; listener ${listener} (${endpoint}) is served by transport ${name}`,
    { who, listener, endpoint },
  )
}

function unmet(needs: Needs, can: Capabilities): string | undefined {
  if (needs.ordered && !can.ordered) return 'ordered messages, and these come in any order'
  if (needs.reliable && !can.reliable) return 'reliable delivery, and messages get lost here'
  if (needs.stream && can.kind !== 'stream') return 'a stream of bytes, and these are messages with bounds'
  if (needs.message && can.kind !== 'message') return 'messages with bounds, and this is a stream of bytes'
  const most = can.maxMessageBytes
  if (needs.maxMessage !== undefined && most !== undefined && needs.maxMessage > most) {
    return `messages of ${needs.maxMessage} bytes, and ${most} is the most here`
  }
  return undefined
}

/** Behind middleware that did not wait for it. */
function failedLate({ connection }: MessageContext, name: string, thrown: unknown): void {
  ;(connection as Session).failedLate(thrown, `the message, behind middleware ${name}`)
}

/** A message schema as the step that applies it. */
function schemaStep(level: MiddlewareLevel, schema: StandardSchemaV1 | undefined): PlacedMiddleware[] {
  if (schema === undefined) return []
  const accept = (result: SchemaResult<unknown>): unknown => {
    if (result.issues === undefined) return result.value
    const issue = result.issues[0]
    const path = issue === undefined ? '' : issuePath(issue)
    throw new FrameError(
      'MALFORMED',
      `the message does not fit its schema${path ? ` at ${path}` : ''}: ${issue?.message}`,
      {
        issues: result.issues,
      },
    )
  }
  const set: MiddlewareSet = {
    name: 'schema',
    message(context, next) {
      const result = validate(schema, context.message)
      if (result instanceof Promise) {
        return result.then((settled) => {
          context.message = accept(settled)
          return next()
        })
      }
      context.message = accept(result)
      return next()
    },
  }
  return [{ level, set }]
}
