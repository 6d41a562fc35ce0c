/**
 * Dependency injection of one server: what handlers ask for, made at the right time and disposed at the end.
 *
 * Room: core, mechanism. Stands on the application's tsyringe container: what is registered there is resolved there and
 * belongs to the application. What this server constructs itself (classes nobody registered, its own `providers`) it
 * owns and disposes. tsyringe's own dispose() is never called: a child's also disposes root singletons that were first
 * resolved through it.
 */
import 'reflect-metadata'
import { type DependencyContainer, Lifecycle, container as root } from 'tsyringe'
import { bindHandler } from './bound-handler.js'
import type { Connection } from './connection.js'
import {
  type AnyToken,
  type Constructor,
  demandToken,
  describeToken,
  isConstructor,
  type Making,
  parameterName,
  parametersOf,
  type Recipe,
} from './construction.js'
import { disposeAll, isDisposable } from './disposal.js'
import { GaidarosError, toError, WiringError } from './errors.js'
import type { BoundHandler, HandlerDefinition, HandlerPlan } from './handler.js'
import { CONNECTION } from './tokens.js'

/** What a token stands for, for one server. Overrides whatever is registered elsewhere. */
export type Provider = { readonly token: AnyToken } & (
  | { /** Never disposed by us: it was made elsewhere. */ readonly useValue: unknown }
  | {
      readonly useClass: Constructor
      /** One a server (default), one a connection, or one each time. */
      readonly scope?: 'server' | 'connection' | 'transient'
    }
  | {
      /** Makes it; `resolve` gives what it needs itself. Synchronous. */
      readonly useFactory: (resolve: <T = unknown>(token: AnyToken) => T) => unknown
      readonly scope?: 'server' | 'connection' | 'transient'
    }
)

export interface ContainerParts {
  /** Default: tsyringe's root. */
  readonly parent?: DependencyContainer
  readonly providers?: readonly Provider[]
  /** The parent serves nobody else: its singletons that were first made for this server are disposed with it. */
  readonly ownsParent?: boolean
  /** The server's own things by token. */
  readonly values: ReadonlyMap<unknown, unknown>
  /** Told of disposals that threw. */
  failed(name: string, error: Error): void
}

export class ServerContainer {
  readonly #child: DependencyContainer
  readonly #values: Map<unknown, unknown>
  readonly #providers = new Map<AnyToken, Provider>()
  readonly #failed: (name: string, error: unknown) => void
  /** Of `providers`, those that a handler's construction asks for. */
  readonly #used = new Map<HandlerDefinition, ReadonlySet<AnyToken>>()
  #using = new Set<AnyToken>()
  readonly #ownsParent: boolean
  /** Of the whole server. */
  readonly #making: Making = { connection: undefined, made: [], byToken: new Map() }

  constructor(parts: ContainerParts) {
    this.#child = (parts.parent ?? root).createChildContainer()
    this.#values = new Map(parts.values)
    this.#ownsParent = parts.ownsParent ?? false
    this.#failed = (name, error) => parts.failed(name, toError(error))
    for (const [token, value] of parts.values) this.#child.registerInstance(token as never, value)
    for (const provider of parts.providers ?? []) this.#override(provider)
  }

  /** Adds a value that did not exist when the container was made. */
  provide(token: symbol, value: unknown): void {
    this.#values.set(token, value)
    this.#child.registerInstance(token, value)
  }

  /**
   * Finds out how a handler is made.
   *
   * @throws {WiringError} `UNKNOWN_DEPENDENCY` naming class and parameter. Nothing is constructed.
   */
  plan(definition: HandlerDefinition): HandlerPlan {
    const { target, options, name } = definition
    if (target === undefined) {
      const bound = bindHandler(definition, undefined)
      return { definition, bind: () => bound, release: () => {} }
    }
    const isOwn = options.scope === 'connection'
    this.#using = new Set()
    const recipe = this.#construct(target, [], `handler ${name}`)
    this.#used.set(definition, this.#using)
    if (!isOwn && recipe.perConnection) {
      throw new WiringError(
        'BAD_OPTION',
        `handler ${name} asks for its connection, and is shared by all of them: write @Handler({ scope: 'connection' })`,
        { handler: name },
      )
    }
    return isOwn ? this.#planOwn(definition, recipe) : this.#planShared(definition, recipe)
  }

  /** Tokens of `providers` that a handler needs, itself or by what it needs: things of this process. */
  providedTo(definition: HandlerDefinition): readonly string[] {
    return [...(this.#used.get(definition) ?? [])].map(describeToken)
  }

  /** One of something, for the whole server. @throws {WiringError} */
  resolve<T>(token: AnyToken): T {
    return this.#recipe(token, [], 'resolve()').make(this.#making) as T
  }

  /** Disposes what this server constructed, latest first. */
  async dispose(): Promise<void> {
    await disposeAll(this.#making.made.splice(0), this.#failed)
    this.#making.byToken.clear()
  }

  #planShared(definition: HandlerDefinition, recipe: Recipe): HandlerPlan {
    let bound: BoundHandler | undefined
    const prepare = (): BoundHandler => {
      bound ??= bindHandler(definition, recipe.make(this.#making) as object)
      return bound
    }
    return { definition, prepare: () => void prepare(), bind: () => bound ?? prepare(), release: () => {} }
  }

  #planOwn(definition: HandlerDefinition, recipe: Recipe): HandlerPlan {
    /** Only of connections that own something to be disposed. */
    const owned = new WeakMap<Connection, object[]>()
    return {
      definition,
      bind: (connection) => {
        const making: Making = { connection, made: [], byToken: new Map() }
        try {
          return bindHandler(definition, recipe.make(making) as object)
        } finally {
          // Kept when the construction failed half-way too: release comes in either case.
          if (making.made.length > 0) owned.set(connection, making.made)
        }
      },
      release: (connection) => {
        const made = owned.get(connection)
        if (made === undefined) return
        owned.delete(connection)
        return disposeAll(made, this.#failed)
      },
    }
  }

  #override(provider: Provider): void {
    const forms = ['useValue', 'useClass', 'useFactory'].filter((key) => key in provider)
    if (forms.length !== 1 || provider.token === undefined) {
      const message =
        'providers: each is { token, useValue }, { token, useClass, scope? } or { token, useFactory, scope? }'
      throw new WiringError('BAD_OPTION', `${message}; got keys ${Object.keys(provider).join(', ')}`)
    }
    this.#providers.set(provider.token, provider)
    // For what the application's container constructs itself.
    const making = this.#making
    this.#child.register(
      provider.token as never,
      { useFactory: () => this.#recipe(provider.token, [], 'providers').make(making) } as never,
    )
  }

  /** How a token is made. @param path - Classes under construction, to find circles. */
  #recipe(token: AnyToken, path: readonly Constructor[], askedBy: string): Recipe {
    if (token === CONNECTION) return { perConnection: true, make: ({ connection }) => connection }
    const provider = this.#providers.get(token)
    if (provider !== undefined) {
      this.#using.add(token)
      return this.#provided(provider, path, askedBy)
    }
    if (this.#values.has(token)) return { perConnection: false, make: () => this.#values.get(token) }
    if (this.#child.isRegistered(token as never, true)) return this.#registered(token)
    if (isConstructor(token)) return this.#construct(token, path, askedBy)
    throw new WiringError(
      'UNKNOWN_DEPENDENCY',
      `${askedBy}: nothing is registered for the token ${describeToken(token)}; register it with tsyringe, or give createServer({ providers: [{ token, useValue }] })`,
      { token },
    )
  }

  #provided(provider: Provider, path: readonly Constructor[], askedBy: string): Recipe {
    if ('useValue' in provider) return { perConnection: false, make: () => provider.useValue }
    const { token, scope = 'server' } = provider
    const inner =
      'useClass' in provider ? this.#construct(provider.useClass, path, askedBy) : this.#factory(provider, askedBy)
    if (scope === 'transient') return inner
    if (scope === 'connection') return { perConnection: true, make: (making) => once(making, token, inner) }
    if (inner.perConnection) {
      const message = `the provider of ${describeToken(token)} needs the connection: give it scope: 'connection'`
      throw new WiringError('BAD_OPTION', message, { token })
    }
    return { perConnection: false, make: () => once(this.#making, token, inner) }
  }

  #factory(provider: Extract<Provider, { useFactory: unknown }>, askedBy: string): Recipe {
    const isOwn = provider.scope === 'connection'
    return {
      perConnection: isOwn,
      make: (making) => {
        const resolve = (token: AnyToken) => this.#recipe(token, [], askedBy).make(making) as never
        return keep(making, provider.useFactory(resolve))
      },
    }
  }

  /** Registered with tsyringe: resolved there. Container-scoped ones are one a connection, in a child made for it. */
  #registered(token: AnyToken): Recipe {
    const registration = (
      this.#child as unknown as { getRegistration?: (token: unknown) => { options?: { lifecycle?: Lifecycle } } | null }
    ).getRegistration?.(token)
    if (registration?.options?.lifecycle !== Lifecycle.ContainerScoped) {
      return { perConnection: false, make: () => this.#resolveThere(token) }
    }
    return {
      perConnection: true,
      make: (making) =>
        once(making, token, {
          perConnection: true,
          make: () => keep(making, this.#childOf(making).resolve(token as never)),
        }),
    }
  }

  /** What tsyringe makes on the way it remembers, in order; that is ours where the parent is. */
  #resolveThere(token: AnyToken): unknown {
    const { disposables } = this.#child as unknown as { readonly disposables?: ReadonlySet<object> }
    const before = disposables?.size ?? 0
    const resolved = this.#child.resolve(token as never)
    if (this.#ownsParent && disposables !== undefined && disposables.size > before) {
      this.#making.made.push(...[...disposables].slice(before))
    }
    return resolved
  }

  #childOf(making: Making): DependencyContainer {
    const known = making.byToken.get(CHILD)
    if (known !== undefined) return known as DependencyContainer
    const child = this.#child.createChildContainer()
    child.registerInstance(CONNECTION, making.connection)
    making.byToken.set(CHILD, child)
    return child
  }

  #construct(target: Constructor, path: readonly Constructor[], askedBy: string): Recipe {
    if (path.includes(target)) {
      const circle = [...path.slice(path.indexOf(target)), target].map(({ name }) => name).join(' → ')
      throw new WiringError('UNKNOWN_DEPENDENCY', `${askedBy}: these classes need each other: ${circle}`, { circle })
    }
    const inside = [...path, target]
    const parts = parametersOf(target, askedBy).map(({ token, isOptional, isMultiple }, index): Recipe => {
      const asked = `class ${target.name}, constructor parameter ${index + 1} (\`${parameterName(target, index)}\`)`
      const wanted = demandToken(target, index, token)
      if (isMultiple) return { perConnection: false, make: () => this.#all(wanted) }
      if (isOptional && !isConstructor(wanted) && !this.#isKnown(wanted))
        return { perConnection: false, make: () => undefined }
      // delay(() => Class) and transforms are tsyringe's own; it resolves them.
      if (typeof wanted === 'object') return { perConnection: false, make: () => this.#child.resolve(wanted as never) }
      return this.#recipe(wanted, inside, asked)
    })
    return {
      perConnection: parts.some(({ perConnection }) => perConnection),
      make: (making) => {
        const given = new Array<unknown>(parts.length)
        for (let i = 0; i < parts.length; i++) given[i] = (parts[i] as Recipe).make(making)
        return keep(making, construct(target, given))
      },
    }
  }

  #isKnown(token: AnyToken): boolean {
    return (
      token === CONNECTION ||
      this.#providers.has(token) ||
      this.#values.has(token) ||
      this.#child.isRegistered(token as never, true)
    )
  }

  #all(token: AnyToken): unknown[] {
    return this.#child.isRegistered(token as never, true) ? this.#child.resolveAll(token as never) : []
  }
}

const CHILD = Symbol('child container')

function once(making: Making, token: AnyToken, recipe: Recipe): unknown {
  if (!making.byToken.has(token)) making.byToken.set(token, recipe.make(making))
  return making.byToken.get(token)
}

/** Remembers what will have to be disposed. */
function keep<T>(making: Making, made: T): T {
  if (isDisposable(made)) making.made.push(made)
  return made
}

function construct(target: Constructor, given: readonly unknown[]): object {
  try {
    return new target(...(given as never[]))
  } catch (cause) {
    if (cause instanceof GaidarosError) throw cause
    const { message } = toError(cause)
    throw new WiringError('CONSTRUCTION_FAILED', `the constructor of class ${target.name} threw: ${message}`, {
      class: target.name,
      cause,
    })
  }
}
