import 'reflect-metadata'
import { inject, injectAll, injectable, Lifecycle, container as root, scoped, singleton } from 'tsyringe'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Connection } from '#src/core/connection.js'
import { type Provider, ServerContainer } from '#src/core/container.js'
import { definitionOf, Handler, OnMessage } from '#src/core/decorators.js'
import type { WiringError } from '#src/core/errors.js'
import type { HandlerPlan } from '#src/core/handler.js'
import { CLOCK, CONNECTION } from '#src/core/tokens.js'

const failed: string[] = []
const make = (providers: readonly Provider[] = []) =>
  new ServerContainer({ providers, values: new Map([[CLOCK, 'the clock']]), failed: (name) => void failed.push(name) })
const connection = (id: string) => ({ id }) as unknown as Connection
const planOf = (container: ServerContainer, target: unknown): HandlerPlan =>
  container.plan(definitionOf(target) as NonNullable<ReturnType<typeof definitionOf>>)
const ask = (plan: HandlerPlan, message: unknown = '', of: Connection = connection('1')) =>
  plan.bind(of).message?.(message, of)
const refusal = (run: () => unknown): WiringError => {
  try {
    run()
  } catch (error) {
    return error as WiringError
  }
  throw new Error('nothing was thrown')
}

interface Shape {
  area(): number
}
class Book {
  nick(name: unknown) {
    return `${name}!`
  }
}

test('what a constructor asks for by class, token and value is given', () => {
  @Handler()
  class Greeter {
    constructor(
      private readonly book: Book,
      @inject(CLOCK) private readonly clock: string,
    ) {}
    @OnMessage() greet(name: string) {
      return `${this.book.nick(name)} ${this.clock}`
    }
  }
  assert.is(ask(planOf(make(), Greeter), 'Ada'), 'Ada! the clock')
})

test('providers override: a value, a class, a factory', () => {
  @Handler()
  class Greeter {
    constructor(private readonly book: Book) {}
    @OnMessage() greet(name: string) {
      return this.book.nick(name)
    }
  }
  class Loud extends Book {
    override nick(name: unknown) {
      return String(name).toUpperCase()
    }
  }
  const providers: readonly Provider[] = [
    { token: Book, useValue: new Loud() },
    { token: Book, useClass: Loud },
    { token: Book, useFactory: () => new Loud() },
  ]
  for (const provider of providers) assert.is(ask(planOf(make([provider]), Greeter), 'ada'), 'ADA')
  assert.is(refusal(() => make([{ token: Book } as never])).code, 'BAD_OPTION')
})

test('an interface is gone at run time: the error names class, parameter and remedy', () => {
  @Handler()
  class Drawer {
    constructor(readonly shape: Shape) {}
    @OnMessage() draw() {}
  }
  const error = refusal(() => planOf(make(), Drawer))
  assert.is(error.code, 'UNKNOWN_DEPENDENCY')
  assert.match(error.message, /class Drawer, constructor parameter 1 \(`shape`\).*Object.*@inject\(TOKEN\)/)
})

test('a token nobody registered is named', () => {
  const UNKNOWN = Symbol('UNKNOWN')
  @Handler()
  class Lost {
    constructor(@inject(UNKNOWN) readonly what: unknown) {}
    @OnMessage() find() {}
  }
  assert.match(refusal(() => planOf(make(), Lost)).message, /class Lost.*Symbol\(UNKNOWN\)/)
})

test('plain JavaScript says what it wants with `static inject`', () => {
  class Plain {
    static inject = [Book, CLOCK]
    readonly parts: unknown[]
    constructor(...parts: unknown[]) {
      this.parts = parts
    }
    hear() {
      return this.parts.map((part) => (part instanceof Book ? 'book' : part)).join()
    }
  }
  OnMessage()(Plain.prototype, 'hear', Object.getOwnPropertyDescriptor(Plain.prototype, 'hear') as PropertyDescriptor)
  Handler()(Plain)
  assert.is(ask(planOf(make(), Plain)), 'book,the clock')
})

test('classes that need each other are told as a circle', () => {
  class A {
    static inject: unknown[] = []
    constructor(readonly b: unknown) {}
  }
  class B {
    static inject = [A]
    constructor(readonly a: unknown) {}
  }
  A.inject = [B]
  @Handler()
  class Circle {
    static inject = [A]
    constructor(readonly a: unknown) {}
    @OnMessage() hear() {}
  }
  assert.match(refusal(() => planOf(make(), Circle)).message, /A → B → A/)
})

test('scope server: one instance for all, made before the first connection, disposed in the end', async () => {
  const told: string[] = []
  class Inner {
    async dispose() {
      await null
      told.push('inner')
    }
  }
  @Handler()
  class Shared {
    static made = 0
    constructor(readonly inner: Inner) {
      Shared.made++
    }
    @OnMessage() hear() {
      return this
    }
    dispose() {
      told.push('handler')
    }
  }
  const container = make()
  const plan = planOf(container, Shared)
  assert.is(Shared.made, 0, 'planning constructs nothing')
  await plan.prepare?.()
  assert.is(Shared.made, 1)
  assert.is(ask(plan, '', connection('1')), ask(plan, '', connection('2')))
  await container.dispose()
  assert.equal(told, ['handler', 'inner'], 'latest first')
})

test('scope connection: one each, with its connection; release disposes its own, in reverse and awaited', async () => {
  const told: string[] = []
  class Part {
    constructor(@inject(CONNECTION) readonly connection: { id: string }) {}
    async [Symbol.asyncDispose]() {
      await null
      told.push(`part of ${this.connection.id}`)
    }
  }
  injectable()(Part)
  @Handler({ scope: 'connection' })
  class Own {
    constructor(
      readonly part: Part,
      readonly book: Book,
    ) {}
    @OnMessage() hear() {
      return this
    }
    dispose() {
      told.push(`handler of ${this.part.connection.id}`)
    }
  }
  const plan = planOf(make(), Own)
  const [one, two] = [connection('1'), connection('2')]
  const [a, b] = [ask(plan, '', one) as Own, ask(plan, '', two) as Own]
  assert.is.not(a, b)
  assert.equal([a.part.connection, b.part.connection], [one, two])
  await plan.release(one)
  assert.equal(told, ['handler of 1', 'part of 1'])
  await plan.release(one)
  assert.is(told.length, 2)
  await plan.release(two)
})

test('a shared handler that asks for its connection is refused with the remedy', () => {
  @Handler()
  class Wrong {
    constructor(@inject(CONNECTION) readonly connection: Connection) {}
    @OnMessage() hear() {}
  }
  assert.match(refusal(() => planOf(make(), Wrong)).message, /scope: 'connection'/)
})

test('providers by scope: one a server, one a connection, one each time', () => {
  class Thing {}
  @Handler({ scope: 'connection' })
  class Own {
    constructor(
      readonly a: Thing,
      readonly b: Thing,
    ) {}
    @OnMessage() hear() {
      return this
    }
  }
  const things = (scope: 'server' | 'connection' | 'transient') => {
    const plan = planOf(make([{ token: Thing, useClass: Thing, scope }]), Own)
    const [x, y] = [ask(plan, '', connection('1')) as Own, ask(plan, '', connection('2')) as Own]
    return new Set([x.a, x.b, y.a, y.b]).size
  }
  assert.equal([things('server'), things('connection'), things('transient')], [1, 2, 4])
})

test('a singleton of the application is used, and never disposed by the server', async () => {
  let disposed = 0
  @singleton()
  class Pool {
    dispose() {
      disposed++
    }
  }
  @Handler()
  class User {
    constructor(readonly pool: Pool) {}
    @OnMessage() hear() {
      return this.pool
    }
  }
  const container = make()
  const plan = planOf(container, User)
  await plan.prepare?.()
  assert.is(ask(plan), root.resolve(Pool))
  await container.dispose()
  assert.is(disposed, 0)
})

test('where the container is the server’s alone, singletons made for it go with it, in reverse and awaited', async () => {
  const gone: string[] = []
  const dispose = async (name: string) => {
    await null
    gone.push(name)
  }
  @singleton()
  class Database {
    dispose = () => dispose('database')
  }
  @singleton()
  class Store {
    constructor(readonly database: Database) {}
    dispose = () => dispose('store')
  }
  @singleton()
  class Before {
    dispose = () => dispose('before')
  }
  @Handler()
  class User {
    constructor(
      readonly store: Store,
      readonly before: Before,
    ) {}
    @OnMessage() hear() {}
    dispose = () => dispose('handler')
  }
  root.resolve(Before)
  const container = new ServerContainer({ ownsParent: true, values: new Map(), failed: () => {} })
  await planOf(container, User).prepare?.()
  await container.dispose()
  assert.equal(gone, ['handler', 'store', 'database'], 'what the application had before stays')
})

test('container-scoped classes are one a connection', () => {
  @scoped(Lifecycle.ContainerScoped)
  class Cart {}
  @Handler({ scope: 'connection' })
  class Shop {
    constructor(
      readonly a: Cart,
      readonly b: Cart,
    ) {}
    @OnMessage() hear() {
      return this
    }
  }
  const plan = planOf(make(), Shop)
  const [x, y] = [ask(plan, '', connection('1')) as Shop, ask(plan, '', connection('2')) as Shop]
  assert.is(x.a, x.b)
  assert.is.not(x.a, y.a)
})

test('all registrations of a token come as a list', () => {
  const RULE = Symbol('RULE')
  root.register(RULE as never, { useValue: 1 } as never)
  root.register(RULE as never, { useValue: 2 } as never)
  @Handler()
  class Judge {
    constructor(@injectAll(RULE as never) readonly rules: number[]) {}
    @OnMessage() hear() {
      return this.rules.join()
    }
  }
  assert.is(ask(planOf(make(), Judge)), '1,2')
})

test('a constructor that throws is CONSTRUCTION_FAILED with its cause, and what was made before it is disposed', async () => {
  let disposed = 0
  class Part {
    dispose() {
      disposed++
    }
  }
  @Handler({ scope: 'connection' })
  class Fragile {
    constructor(readonly part: Part) {
      throw new RangeError('no')
    }
    @OnMessage() hear() {}
  }
  const plan = planOf(make(), Fragile)
  const one = connection('1')
  const error = refusal(() => plan.bind(one))
  assert.is(error.code, 'CONSTRUCTION_FAILED')
  assert.instance(error.cause, RangeError)
  await plan.release(one)
  assert.is(disposed, 1)
})

test('a disposal that throws is told, and stops no other', async () => {
  const told: string[] = []
  class First {
    dispose() {
      told.push('first')
    }
  }
  class Second {
    dispose() {
      throw new Error('stuck')
    }
  }
  @Handler()
  class Both {
    constructor(
      readonly first: First,
      readonly second: Second,
    ) {}
    @OnMessage() hear() {}
  }
  const container = make()
  await planOf(container, Both).prepare?.()
  failed.length = 0
  await container.dispose()
  assert.equal([told, failed], [['first'], ['Second']])
})

test('a hundred thousand connections leave nothing behind', () => {
  @Handler({ scope: 'connection' })
  class Small {
    constructor(readonly book: Book) {}
    @OnMessage() hear() {}
  }
  const plan = planOf(make(), Small)
  const gc = (globalThis as { gc?: () => void }).gc
  gc?.()
  const before = process.memoryUsage().heapUsed
  for (let i = 0; i < 100_000; i++) plan.bind(connection(String(i)))
  gc?.()
  if (gc !== undefined) assert.ok(process.memoryUsage().heapUsed - before < 2_000_000)
})

test.run()
