/**
 * From a listener's options to its plan: names resolved, limits filled in, middleware composed, needs held against what the
 * transport can.
 *
 * Room: core, mechanism. Everything that can be wrong about a listener is found here, before anything is bound.
 */
import type { HandlerRef, ListenerOptions, SharedOptions } from './configuration.js'
import { type Endpoint, parseEndpoint } from './endpoint.js'
import { ConfigError, FrameError, WiringError } from './errors.js'
import type { HandlerDefinition, HandlerPlan, MiddlewareRef, Needs } from './handler.js'
import { defaultLimits, defaultTimeouts, type Limits, type Timeouts } from './options.js'
import { compose, type MiddlewareLevel, type MiddlewareSet, type PlacedMiddleware } from './pipeline.js'
import type { Binding, ListenerPlan } from './plan.js'
import { checkOptions, type ServerRegistry } from './registry.js'
import { issuePath, type SchemaResult, type StandardSchemaV1, validate } from './standard-schema.js'
import type { Capabilities, Transport, TransportOptions } from './transport.js'

export interface PlannerParts {
  readonly registry: ServerRegistry
  /** The top of the configuration: defaults for every listener. */
  readonly shared: SharedOptions
  /** Finds what a handler reference names. @param place - For errors. */
  resolveHandler(ref: HandlerRef | undefined, place: string): Promise<HandlerDefinition>
  planHandler(definition: HandlerDefinition): HandlerPlan
  /** Where a value came from, for `explain`. */
  origin(path: readonly string[]): string | undefined
}

export class Planner {
  readonly #parts: PlannerParts
  /** Made once: what is global is shared by all listeners (a limit by source counts over all of them). */
  #global: readonly PlacedMiddleware[] | undefined
  readonly #handlers = new Map<HandlerDefinition, HandlerPlan>()

  constructor(parts: PlannerParts) {
    this.#parts = parts
  }

  /** @throws {ConfigError | WiringError} Nothing is bound. */
  async plan(name: string, options: ListenerOptions): Promise<ListenerPlan> {
    const { registry, shared, origin } = this.#parts
    const at = `listeners.${name}`
    const where = (key: string) =>
      origin(['listeners', name, key]) ?? origin([key]) ?? (key in options || key in shared ? 'code' : 'default')
    const definition = await this.#parts.resolveHandler(options.handler ?? shared.handler, `${at}.handler`)
    const handler = this.#planHandler(definition)
    const refused = options.layers ?? shared.layers
    if (refused !== undefined && refused.length > 0) registry.resolveLayer(refused[0] as string, `${at}.layers`)

    const protocolRef = options.protocol ?? shared.protocol
    const protocol = protocolRef === undefined ? undefined : registry.resolveProtocol(protocolRef, `${at}.protocol`)
    const codecRef = options.codec ?? shared.codec
    const codec =
      codecRef === undefined && protocol !== undefined
        ? { name: protocol.name, codec: protocol.protocol.codec }
        : registry.resolveCodec(codecRef ?? definition.options.codec ?? 'line', `${at}.codec`)
    const executorRef = options.executor ?? shared.executor ?? definition.options.executor ?? 'inline'
    const executor = registry.resolveExecutor(executorRef, `${at}.executor`)

    const limits = settle<Limits>(defaultLimits, shared.limits, options.limits)
    const timeouts = settle<Timeouts>(defaultTimeouts, shared.timeouts, options.timeouts)
    checkLimits(limits, at)
    const bindings = this.#bindings(name, options, limits, timeouts)
    for (const binding of bindings) checkNeeds(definition, name, binding)

    const middleware = [
      ...this.#globalMiddleware(),
      ...this.#place('listener', options.middleware, `${at}.middleware`),
      ...schemaStep('handler', definition.options.schema),
      ...this.#place('handler', definition.options.middleware, `handler ${definition.name}`),
    ]
    const methods = new Map<string | undefined, readonly PlacedMiddleware[]>()
    for (const { route, middleware: refs, schema } of definition.messages) {
      const own = [
        ...schemaStep('method', schema),
        ...this.#place('method', refs, `handler ${definition.name}, @OnMessage(${route ?? ''})`),
      ]
      if (own.length > 0) methods.set(route, own)
    }
    const onMessage = (steps: readonly PlacedMiddleware[]) =>
      compose(steps.flatMap(({ set }) => (set.message === undefined ? [] : [set.message])))
    return {
      name,
      bindings,
      codec: codec.codec,
      handler,
      limits,
      timeouts,
      protocol: protocol?.protocol,
      order: definition.options.order ?? 'serial',
      executor: executor.executor,
      connectionPipeline: compose(
        middleware.flatMap(({ set }) => (set.connection === undefined ? [] : [set.connection])),
      ),
      messagePipeline: onMessage(middleware),
      methodPipelines:
        methods.size === 0
          ? undefined
          : new Map(
              [...methods].map(([route, own]) => [
                route,
                onMessage([...middleware, ...own]) as NonNullable<ReturnType<typeof onMessage>>,
              ]),
            ),
      chosen: {
        codec: codec.name,
        executor: executor.name,
        middleware,
        methods,
        reasons: {
          endpoint: where('endpoint'),
          handler: where('handler'),
          codec:
            codecRef !== undefined
              ? where('codec')
              : protocol
                ? `protocol ${protocol.name}`
                : definition.options.codec
                  ? `handler ${definition.name}`
                  : 'default',
          executor:
            options.executor || shared.executor
              ? where('executor')
              : definition.options.executor
                ? `handler ${definition.name}`
                : 'default',
          middleware: where('middleware'),
        },
      },
    }
  }

  #planHandler(definition: HandlerDefinition): HandlerPlan {
    const known = this.#handlers.get(definition)
    if (known !== undefined) return known
    const plan = this.#parts.planHandler(definition)
    this.#handlers.set(definition, plan)
    return plan
  }

  #bindings(name: string, options: ListenerOptions, limits: Limits, timeouts: Timeouts): readonly Binding[] {
    const { registry, shared } = this.#parts
    const given = Array.isArray(options.endpoint) ? options.endpoint : [options.endpoint]
    if (given.length === 0)
      throw new ConfigError('BAD_VALUE', `listeners.${name}.endpoint: expected at least one endpoint`)
    return (given as (string | Endpoint)[]).map((text) => {
      const endpoint = parseEndpoint(text, registry.schemes)
      const transport = registry.transportOf(endpoint.scheme)
      const socket = { ...fitting(shared.socket, transport), ...options.socket }
      const checked = checkOptions(
        transport.options as StandardSchemaV1 | undefined,
        socket,
        `listeners.${name}.socket`,
      )
      const tls =
        shared.tls === undefined && options.tls === undefined ? {} : { tls: { ...shared.tls, ...options.tls } }
      const transportOptions: TransportOptions = { ...(checked as object), ...tls, limits, timeouts }
      const capabilities = transport.capabilities(endpoint, transportOptions)
      return { endpoint, transport, options: transportOptions, capabilities }
    })
  }

  #globalMiddleware(): readonly PlacedMiddleware[] {
    this.#global ??= this.#place('global', this.#parts.shared.middleware, 'middleware')
    return this.#global
  }

  #place(level: MiddlewareLevel, refs: readonly MiddlewareRef[] | undefined, place: string): PlacedMiddleware[] {
    return (refs ?? []).map((ref, index) => ({
      level,
      set: this.#parts.registry.resolveMiddleware(ref, `${place}[${index}]`),
    }))
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
      if (value !== undefined) result[key] = value === 'unlimited' ? Number.POSITIVE_INFINITY : value
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
  const fields = (transport.options as { fields?: object } | undefined)?.fields
  return Object.fromEntries(Object.entries(socket ?? {}).filter(([key]) => fields !== undefined && key in fields))
}

function checkNeeds(
  definition: HandlerDefinition,
  listener: string,
  { endpoint, transport, capabilities }: Binding,
): void {
  const missing = unmet(definition.options.needs ?? {}, capabilities)
  if (missing === undefined) return
  throw new WiringError(
    'NEEDS_UNMET',
    `handler ${definition.name} needs ${missing}; listener ${listener} (${endpoint}) is served by transport ${transport.name}`,
    { handler: definition.name, listener, endpoint },
  )
}

function unmet(needs: Needs, can: Capabilities): string | undefined {
  if (needs.ordered && !can.ordered) return 'ordered messages, and these come in any order'
  if (needs.reliable && !can.reliable) return 'reliable delivery, and messages get lost here'
  if (needs.stream && can.kind !== 'stream') return 'a stream of bytes, and these are messages with bounds'
  const most = can.maxMessageBytes
  if (needs.maxMessage !== undefined && most !== undefined && needs.maxMessage > most) {
    return `messages of ${needs.maxMessage} bytes, and ${most} is the most here`
  }
  return undefined
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
