/**
 * The names one can configure, and what they stand for.
 *
 * Room: core, mechanism. Built-ins are registered at the door, plugins add to them through the same calls; a second thing
 * under one name is refused, with both places named.
 */
import { Accounts } from './accounts.js'
import type { Codec, Payload } from './codec.js'
import { atKey } from './config/trace.js'
import { ConfigError, WiringError } from './errors.js'
import type { Executor } from './executor.js'
import { framed } from './framed.js'
import type { CodecRef, MiddlewareRef, Named } from './handler.js'
import { nearest } from './nearest.js'
import type { Observer } from './observer.js'
import type { OptionField } from './option-schema.js'
import { type MiddlewareSet, toMiddlewareSet } from './pipeline.js'
import type { AnyPlugin, Companion, Factory, Framing, Layer, PluginServices, Protocol, Registry } from './plugin.js'
import { checkMade, checkRegistered, type Kind } from './registered.js'
import { Secrets } from './secrets.js'
import { issuePath, type StandardSchemaV1 } from './standard-schema.js'
import type { Transport } from './transport.js'
import { SharedTurns } from './turns.js'

/** A registered thing and who registered it; or how it is fetched when it is first named. */
interface Entry<T> {
  thing: T | undefined
  readonly by: string
  readonly fetch?: (() => Promise<T>) | undefined
}
type Shelf<T> = Map<string, Entry<T>>
type AnyFactory<T> = Factory<T, never>

/** What can be registered before it is loaded. */
export type OnDemandKind = 'layer' | 'protocol' | 'middleware' | 'executor'

/** References as configuration and handlers hold them: names, names with options, things themselves. */
export interface Wanted {
  readonly schemes?: readonly string[]
  readonly layers?: readonly unknown[] | undefined
  readonly protocols?: readonly unknown[] | undefined
  readonly middleware?: readonly unknown[] | undefined
  readonly executors?: readonly unknown[] | undefined
}

/** What the registry is given of the services; the rest is its own. */
export type GivenServices = Omit<PluginServices, 'budget' | 'turns'>
/** Keys of a configuration at which things are named. */
export type NamedKind = 'codec' | 'protocol' | 'layers' | 'middleware' | 'executor'

export class ServerRegistry implements Registry {
  readonly #services: PluginServices
  /** What the plugins keep; the server joins it to its own budget. */
  readonly accounts = new Accounts()
  readonly #transports: Shelf<Transport> = new Map()
  readonly #schemes: Shelf<Transport> = new Map()
  readonly #codecs: Shelf<AnyFactory<Codec>> = new Map()
  readonly #framers: Shelf<AnyFactory<Framing>> = new Map()
  readonly #payloads: Shelf<AnyFactory<Payload>> = new Map()
  readonly #layers: Shelf<AnyFactory<Layer>> = new Map()
  readonly #protocols: Shelf<AnyFactory<Protocol>> = new Map()
  readonly #middleware: Shelf<AnyFactory<MiddlewareSet | unknown>> = new Map()
  readonly #executors: Shelf<AnyFactory<Executor>> = new Map()
  /** Those whose things may come on demand. */
  readonly #shelves: Readonly<Record<OnDemandKind, Shelf<AnyFactory<unknown>>>> = {
    layer: this.#layers,
    protocol: this.#protocols,
    middleware: this.#middleware,
    executor: this.#executors,
  }
  readonly #observers: Observer[] = []
  readonly #companions: Shelf<Companion> = new Map()
  /** Who registered what makes things. */
  readonly #makers = new WeakMap<object, string>()
  /** Who registers now; shown when two collide. */
  #by = 'gaidaros'
  /** Whatever is registered now takes the place of what has its name. */
  #isReplacing = false

  constructor(services: GivenServices) {
    this.#services = { ...services, budget: this.accounts.at(''), turns: new SharedTurns(services.clock) }
  }

  get schemes(): Iterable<string> {
    return this.#schemes.keys()
  }

  transport(transport: Transport<never> | Transport, options: { readonly replace?: boolean } = {}): this {
    checkRegistered('transport', transport, this.#by)
    const thing = transport as Transport
    if (options.replace || this.#isReplacing) {
      this.#transports.delete(thing.name)
      for (const scheme of thing.schemes) this.#schemes.delete(scheme)
    }
    put(this.#transports, 'transport', thing.name, thing, this.#by)
    for (const scheme of thing.schemes) put(this.#schemes, 'scheme', scheme, thing, this.#by)
    return this
  }
  codec<O>(factory: Factory<Codec, O> | Factory<Codec<never, never>, O>): this {
    return this.#register('codec', this.#codecs, factory as unknown as AnyFactory<Codec>)
  }
  framer<O>(factory: Factory<Framing, O>): this {
    return this.#register('framer', this.#framers, factory as AnyFactory<Framing>)
  }
  payload<O>(factory: Factory<Payload, O>): this {
    return this.#register('payload', this.#payloads, factory as AnyFactory<Payload>)
  }
  layer<O>(factory: Factory<Layer, O>): this {
    return this.#register('layer', this.#layers, factory as AnyFactory<Layer>)
  }
  protocol<O>(factory: Factory<Protocol, O>): this {
    return this.#register('protocol', this.#protocols, factory as AnyFactory<Protocol>)
  }
  middleware<O>(factory: Factory<MiddlewareSet | ((...args: never[]) => unknown), O>): this {
    return this.#register('middleware', this.#middleware, factory as AnyFactory<unknown>)
  }
  executor<O>(factory: Factory<Executor, O>): this {
    return this.#register('executor', this.#executors, factory as AnyFactory<Executor>)
  }

  observer(create: (services: PluginServices) => Observer): this {
    if (typeof create !== 'function') checkRegistered('observer', create, this.#by)
    const made = create(this.#services)
    checkMade('observer', '', made, { by: this.#by, place: 'registry.observer' })
    const twice = this.#observers.some(({ name }) => name === made.name)
    if (twice)
      throw new WiringError('DUPLICATE', `the observer \`${made.name}\` is there already; name its plugin once`)
    this.#observers.push(made)
    return this
  }

  get observers(): readonly Observer[] {
    return this.#observers
  }

  companion(companion: Companion): this {
    checkRegistered('companion', companion, this.#by)
    return put(this.#companions, 'companion', companion.name, companion, this.#by, this)
  }
  get companions(): readonly Companion[] {
    return [...this.#companions.values()].map(({ thing }) => thing as Companion)
  }

  /**
   * Registers what is loaded only when something names it; `ready()` does that. A server that needs none of it neither reads
   * nor keeps its code.
   */
  onDemand<O>(kind: OnDemandKind, name: string, fetch: () => Promise<Factory<unknown, O>>): this {
    shelve(this.#shelves[kind], kind, name, { thing: undefined, by: this.#by, fetch: fetch as never })
    return this
  }

  transportOnDemand(
    name: string,
    schemes: readonly string[],
    fetch: () => Promise<Transport<never> | Transport>,
  ): this {
    const entry: Entry<Transport> = { thing: undefined, by: this.#by, fetch: fetch as () => Promise<Transport> }
    shelve(this.#transports, 'transport', name, entry)
    for (const scheme of schemes) shelve(this.#schemes, 'scheme', scheme, entry)
    return this
  }

  /** Loads what these name, where it has to be loaded. Whoever resolves a name has waited for this; unknown names are told then. */
  async ready(wanted: Wanted): Promise<void> {
    const { layer, protocol, middleware, executor } = this.#shelves
    await Promise.all([
      ...fetchAll(this.#schemes, wanted.schemes),
      ...fetchAll(layer, wanted.layers),
      ...fetchAll(protocol, wanted.protocols),
      ...fetchAll(middleware, wanted.middleware),
      ...fetchAll(executor, wanted.executors, 'type'),
    ])
  }

  /**
   * The schemas of the options that stand beside a name, loaded where they have to be; none for what is unknown or has none.
   *
   * @returns for each where its options stand, below the reference.
   */
  async schemasOf(kind: NamedKind, ref: unknown): Promise<(readonly [at: readonly string[], schema: unknown])[]> {
    const key = kind === 'executor' ? 'type' : 'name'
    const named = (typeof ref === 'string' ? { [key]: ref } : (ref ?? {})) as Readonly<Record<string, unknown>>
    const name = named[key]
    if (typeof name !== 'string') return []
    const shelves: readonly Shelf<AnyFactory<unknown>>[] =
      kind === 'codec' ? [this.#codecs, this.#framers] : [this.#shelves[kind === 'layers' ? 'layer' : kind]]
    const entry = shelves.map((shelf) => shelf.get(name)).find((one) => one !== undefined)
    const factory = entry?.thing ?? (await entry?.fetch?.())
    const { payload } = named as { payload?: string | { name?: string } }
    const beside = this.#payloads.get(typeof payload === 'object' ? (payload?.name ?? '') : (payload ?? ''))?.thing
    return [
      [[], factory?.options],
      [['payload'], kind === 'codec' ? beside?.options : undefined],
    ]
  }

  /** Runs `register` with leave to replace: for what the application itself put into its container. */
  replacing(by: string, register: () => void): void {
    const before = this.#by
    this.#by = by
    this.#isReplacing = true
    try {
      register()
    } finally {
      this.#by = before
      this.#isReplacing = false
    }
  }

  #register<T>(kind: Kind, shelf: Shelf<AnyFactory<T>>, factory: AnyFactory<T>): this {
    checkRegistered(kind, factory, this.#by)
    const { name } = factory
    if (this.#isReplacing) shelf.delete(name)
    // A framer stands where a codec is named.
    shelve(shelf, kind === 'framer' ? 'codec' : kind, name, { thing: factory, by: this.#by })
    this.#makers.set(factory, this.#by)
    return this
  }

  /**
   * @param from - Where the configuration names it: `plugins[0], ./mine.js`.
   * @throws {WiringError} `BAD_PLUGIN` when its setup throws, it registers nonsense, or its options do not fit.
   */
  async plug(plugin: AnyPlugin, options: unknown, from?: string): Promise<void> {
    const where = `plugin \`${plugin?.name}\``
    if (typeof plugin?.setup !== 'function') {
      throw new WiringError(
        'BAD_PLUGIN',
        `${where}: expected { name, setup(registry, options) }, as definePlugin() gives`,
      )
    }
    const checked = checkOptions(plugin.options as StandardSchemaV1 | undefined, options, where)
    const before = this.#by
    this.#by = from === undefined ? where : `${where} (${from})`
    try {
      await plugin.setup(this, checked as never)
    } catch (cause) {
      if (cause instanceof WiringError || cause instanceof ConfigError) throw cause
      const message = cause instanceof Error ? cause.message : String(cause)
      throw new WiringError('BAD_PLUGIN', `${where}: its setup threw: ${message}`, { cause })
    } finally {
      this.#by = before
    }
  }

  /** The transport of a scheme; the endpoint was parsed against `schemes` before. */
  transportOf(scheme: string): Transport {
    return find(this.#schemes, 'transport for the scheme', scheme, '')
  }

  /** @param place - Where the reference stands, for errors: `listeners.public.codec`. */
  resolveCodec(ref: CodecRef, place: string): { name: string; codec: Codec } {
    if (typeof ref === 'object' && ('decode' in ref || 'decodeAt' in ref))
      return { name: 'given in code', codec: ref as Codec }
    const { name, ...options } = typeof ref === 'string' ? { name: ref } : (ref as Named & object)
    const whole = this.#codecs.get(name)
    if (whole?.thing !== undefined) return { name, codec: this.#make('codec', whole.thing, options, place) }
    const known: Shelf<unknown> = new Map<string, Entry<unknown>>([...this.#codecs, ...this.#framers])
    const factory = find(known, 'codec', name, place) as AnyFactory<Framing>
    const { payload: payloadRef, ...framerOptions } = options as { payload?: Named }
    const framing = this.#make('framer', factory, framerOptions, place)
    const chosen = payloadRef ?? framing.payload ?? 'bytes'
    const { name: payloadName, ...payloadOptions } = typeof chosen === 'string' ? { name: chosen } : chosen
    const payloadPlace = `${place}.payload`
    const payload = this.#make(
      'payload',
      find(this.#payloads, 'payload', payloadName, payloadPlace),
      payloadOptions,
      payloadPlace,
    )
    const isDefault = payloadRef === undefined || payloadName === framing.payload
    return { name: isDefault ? name : `${name}+${payloadName}`, codec: framed(framing, payload) }
  }

  resolveMiddleware(ref: MiddlewareRef, place: string): MiddlewareSet {
    if (typeof ref === 'function') return toMiddlewareSet(ref)
    if (typeof ref === 'object' && ('connection' in ref || 'message' in ref))
      return toMiddlewareSet(ref as MiddlewareSet)
    const { name, ...options } = typeof ref === 'string' ? { name: ref } : (ref as Named & object)
    const made = this.#make('middleware', find(this.#middleware, 'middleware', name, place), options, place)
    const set = toMiddlewareSet(made as MiddlewareSet)
    return set.name === name ? set : { ...set, name }
  }

  /** @returns undefined for `inline`, which needs none. */
  resolveExecutor(ref: unknown, place: string): { name: string; executor: Executor | undefined } {
    const { type, ...options } = (typeof ref === 'string' ? { type: ref } : ref) as { type: string }
    if (type === 'inline') {
      checkOptions(undefined, options, place)
      return { name: type, executor: undefined }
    }
    const inline: Entry<unknown> = { thing: undefined, by: 'gaidaros' }
    const known = new Map<string, Entry<unknown>>([['inline', inline], ...this.#executors])
    const factory = find(known, 'executor', type, place) as AnyFactory<Executor>
    return { name: type, executor: this.#make('executor', factory, options, place) }
  }

  resolveLayer(ref: Named | Layer, place: string): { name: string; layer: Layer } {
    if (typeof ref === 'object' && 'wrap' in ref) return { name: 'given in code', layer: ref as Layer }
    const { name, ...options } = (typeof ref === 'string' ? { name: ref } : ref) as Exclude<Named, string>
    return { name, layer: this.#make('layer', find(this.#layers, 'layer', name, place), options, place) }
  }
  resolveProtocol(ref: Named | Protocol, place: string): { name: string; protocol: Protocol } {
    if (typeof ref === 'object' && !('name' in ref)) return { name: 'given in code', protocol: ref as Protocol }
    const { name, ...options } = (typeof ref === 'string' ? { name: ref } : ref) as Exclude<Named, string>
    return { name, protocol: this.#make('protocol', find(this.#protocols, 'protocol', name, place), options, place) }
  }

  /** @throws {ConfigError} `BAD_VALUE` for what only code or the command line may say (`fromData` of an option's row). */
  #refuseFromData(schema: unknown, options: Readonly<Record<string, unknown>> | object, place: string): void {
    const { fields = {} } = (schema ?? {}) as { fields?: Readonly<Record<string, OptionField>> }
    for (const [key, { fromData }] of Object.entries(fields)) {
      const expected = fromData?.((options as Record<string, unknown>)[key])
      if (expected === undefined) continue
      const at = `${place}.${key}`
      const origin = this.#services.dataOrigin?.(at)
      if (origin === undefined) continue
      throw new ConfigError('BAD_VALUE', `${at}: expected ${expected} (${origin})`, { place: at, origin })
    }
  }

  #make<T>(kind: Kind, factory: AnyFactory<T>, options: object, place: string): T {
    const checked = checkOptions(factory.options as StandardSchemaV1 | undefined, options, place)
    this.#refuseFromData(factory.options, checked as object, place)
    const { places } = this.#services
    // What its options name is let in by who said them.
    const services =
      places === undefined
        ? this.#services
        : { ...this.#services, places: { ...places, load: (reference: string) => places.load(reference, place) } }
    let made: T
    try {
      made = factory.create(checked as never, { ...services, budget: this.accounts.at(place) })
    } catch (thrown) {
      throw atKey(thrown, place)
    }
    checkMade(kind, factory.name, made, { by: this.#makers.get(factory) ?? 'gaidaros', place })
    return made
  }
}

function put<T, R>(shelf: Shelf<T>, kind: string, name: string, thing: T, by: string, result?: R): R {
  shelve(shelf, kind, name, { thing, by })
  return result as R
}

function shelve<T>(shelf: Shelf<T>, kind: string, name: string, entry: Entry<T>): void {
  const present = shelf.get(name)
  if (present !== undefined && (present.thing === undefined || present.thing !== entry.thing)) {
    const message = `two things are the ${kind} \`${name}\`: one of ${present.by}, one of ${entry.by}`
    throw new WiringError('DUPLICATE', message, { name })
  }
  shelf.set(name, entry)
}

/** @param key - Where options have the name beside them. */
function fetchAll<T>(shelf: Shelf<T>, refs: readonly unknown[] = [], key: 'name' | 'type' = 'name'): Promise<void>[] {
  return refs.flatMap((ref) => {
    const entry = shelf.get(
      typeof ref === 'object' && ref !== null ? ((ref as Record<string, string>)[key] as string) : (ref as string),
    )
    if (entry?.fetch === undefined || entry.thing !== undefined) return []
    return entry.fetch().then((thing) => {
      entry.thing ??= thing
    })
  })
}

function find<T>(shelf: Shelf<T>, kind: string, name: string, place: string): T {
  const entry = shelf.get(name)
  if (entry?.thing !== undefined) return entry.thing
  if (entry !== undefined) throw new Error(`${kind} \`${name}\` is resolved before it is loaded: a defect of ours`)
  const near = nearest(name, shelf.keys())
  const known = [...shelf.keys()].join(', ') || 'none'
  const where = place === '' ? '' : `${place}: `
  throw new ConfigError(
    'UNKNOWN_NAME',
    `${where}unknown ${kind} \`${name}\`${near ? `; nearest: \`${near}\`` : ''}; known: ${known}`,
    { name, place },
  )
}

/**
 * Checks options that stand beside a name.
 *
 * @throws {ConfigError} `BAD_VALUE`, with each fault on its line.
 */
export function checkOptions(schema: StandardSchemaV1 | undefined, options: unknown, place: string): unknown {
  if (schema === undefined) {
    const keys = Object.keys((options as object | undefined) ?? {})
    if (keys.length === 0) return {}
    throw new ConfigError(
      'UNKNOWN_KEY',
      `${place}: takes no options, got ${keys.map((key) => `\`${key}\``).join(', ')}`,
      { place },
    )
  }
  const result = schema['~standard'].validate(options ?? {})
  if (result instanceof Promise)
    throw new WiringError('BAD_OPTION', `${place}: the options' schema must be synchronous`)
  if (result.issues === undefined) return result.value
  // Libraries quote what they were given.
  const secrets = new Secrets().add([], schema)
  const faults = result.issues.map((issue) => {
    const path = issuePath(issue)
    return `${place}${path ? `.${path}` : ''}: ${secrets.scrub(issue.message, options)}`
  })
  const isUnknown = result.issues.every((issue) => /unknown|unrecognized/i.test(issue.message))
  throw new ConfigError(isUnknown ? 'UNKNOWN_KEY' : 'BAD_VALUE', faults.join('\n'), { place, faults })
}
