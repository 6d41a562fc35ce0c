/** The door: what createServer and connect make of what they are given. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Script } from 'node:vm'
import {
  CLOCK,
  type Clock,
  CODEC,
  connect,
  createServer,
  defineHandler,
  definePlugin,
  EXECUTOR,
  Handler,
  MIDDLEWARE,
  OnMessage,
  type ServerOptions,
  systemClock,
  type Task,
  TRANSPORT,
} from 'gaidaros'
import { createMemoryNetwork, createVirtualClock } from 'gaidaros/testing'
import { inject } from 'tsyringe'
import { test } from 'uvu'
import * as assert from 'uvu/assert'

let last = 0
/** Serves on a memory endpoint of its own, asks one thing, stops. */
async function ask(options: ServerOptions, message: unknown, connectOptions: object = {}): Promise<unknown> {
  const endpoint = `memory:door-${++last}`
  const server = await createServer({ config: false, listen: endpoint, ...options })
  await server.start()
  const client = await connect(endpoint, connectOptions)
  try {
    return await client.request(message)
  } finally {
    await client.close()
    await server.stop({ timeoutMs: 500 })
  }
}

test('what is wrong is said with its key and where the value came from, for all listeners at once', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gd-'))
  const refusal = async (settings: object, more: ServerOptions = {}): Promise<string> => {
    writeFileSync(join(folder, 'gaidaros.config.json'), JSON.stringify(settings))
    writeFileSync(join(folder, 'package.json'), '{}')
    return createServer({ config: true, cwd: folder, env: {}, ...more }).then(
      (server) =>
        server.start().then(
          () => assert.unreachable('it started') as never,
          (error) => error.message,
        ),
      (error) => error.message,
    )
  }
  const at = (rest: string) => new RegExp(`^${rest}.* \\(.*/gaidaros\\.config\\.json\\)$`, 'm')
  const listening = (one: object, more: object = {}) => ({
    ...more,
    listeners: { a: { endpoint: 'memory:x', ...one } },
  })
  const endpoint = await refusal(listening({ endpoint: 'tpc://localhost:1' }))
  assert.match(endpoint, at('listeners\\.a\\.endpoint: `tpc://localhost:1`: unknown scheme `tpc`; nearest: `tcp`'))
  assert.match(await refusal(listening({ codec: 'lien' })), at('listeners\\.a\\.codec: unknown codec `lien`'))
  assert.match(await refusal(listening({}, { codec: 'lien' })), at('codec: unknown codec `lien`'))
  assert.match(
    await refusal(listening({}, { middleware: ['ip-filter'] })),
    at('middleware\\[0\\]: ip-filter: expected'),
  )
  assert.match(await refusal(listening({ handler: './no.js' })), at('listeners\\.a\\.handler: there is no file'))
  assert.match(await refusal(listening({}, { handlers: ['./no/*.js'] })), at('handlers: no file matches'))
  assert.match(await refusal(listening({}, { plugins: ['./no.js'] })), at('plugins\\[0\\]: there is no file'))
  assert.match(await refusal(listening({}, { hooks: { module: './no.js' } })), at('hooks\\.module: there is no file'))
  const tls = { cert: './no.pem', key: './no.pem' }
  const secure = { endpoint: 'tls://localhost:0' }
  assert.match(await refusal(listening({ ...secure, tls })), at('listeners\\.a\\.tls\\.cert: cannot read the file'))
  assert.match(await refusal(listening(secure, { tls })), at('tls\\.cert: cannot read the file'))
  const flag = { path: 'codec', value: 'lien', origin: { kind: 'flag', name: '--codec' } } as const
  assert.match(await refusal(listening({}), { flags: [flag] }), /^codec: unknown codec `lien`.* \(--codec\)$/)
  const env = { GAIDAROS_CODEC: 'lien' }
  assert.match(await refusal(listening({}), { env }), /^codec: unknown codec `lien`.* \(GAIDAROS_CODEC\)$/)
  const two = { a: { endpoint: 'memory:x', codec: 'lien' }, b: { endpoint: 'memory:y', middleware: ['lgo'] } }
  const both = await refusal({ listeners: two })
  assert.match(both, at('listeners\\.a\\.codec: unknown codec `lien`'))
  assert.match(both, at('listeners\\.b\\.middleware\\[0\\]: unknown middleware `lgo`'))
  rmSync(folder, { recursive: true })
})

test('a function, a definition, a class, a method and a script are handlers', async () => {
  class Book {
    prefix = 'hello'
    greet(name: string) {
      return `${this.prefix} ${name}`
    }
  }
  const book = new Book()
  @Handler()
  class Greeter {
    @OnMessage() greet(name: string) {
      return `hello ${name}`
    }
  }
  assert.is(await ask({ handler: (name: string) => `hello ${name}` }, 'Ada'), 'hello Ada')
  assert.is(await ask({ handler: defineHandler({ message: (name: string) => `hello ${name}` }) }, 'Ada'), 'hello Ada')
  assert.is(await ask({ handler: Greeter }, 'Ada'), 'hello Ada')
  assert.is(await ask({ handlers: [Greeter] }, 'Ada'), 'hello Ada')
  assert.is(await ask({ handler: book.greet.bind(book) }, 'Ada'), 'hello Ada')
  assert.is(await ask({ handler: new Script('(name) => `hello ${name}`') }, 'Ada'), 'hello Ada')
  assert.is(await ask({ handler: new Script('`hello ${input}`') }, 'Ada'), 'hello Ada')
  assert.is(await ask({}, 'echo'), 'echo')
})

test('a file is searched for only where code does not say what to serve', async () => {
  const cwd = mkdtempSync(join(tmpdir(), 'door-'))
  writeFileSync(
    join(cwd, 'package.json'),
    JSON.stringify({ gaidaros: { listen: 'memory:from-file', limits: { inFlight: 7 } } }),
  )
  const found = await createServer({ cwd, env: {} })
  assert.is(String(found.listeners.get('default')?.endpoint), 'memory:from-file')
  const own = await createServer({ cwd, env: {}, listen: 'memory:from-code' })
  assert.is(String(own.listeners.get('default')?.endpoint), 'memory:from-code')
  assert.is(own.listeners.get('default')?.plan.limits.inFlight, 64)
  const both = await createServer({ cwd, env: {}, config: true, listen: 'memory:from-code' })
  assert.is(String(both.listeners.get('default')?.endpoint), 'memory:from-code')
  assert.is(both.listeners.get('default')?.plan.limits.inFlight, 7)
  const steered = await createServer({ env: { GAIDAROS_LIMITS__IN_FLIGHT: '9' }, listen: 'memory:x' })
  assert.is(steered.listeners.get('default')?.plan.limits.inFlight, 9)
  rmSync(cwd, { recursive: true, force: true })
})

test('what the application registers for a token takes a built-in’s place', async () => {
  const shout = {
    name: 'log',
    create: () => ({ name: 'log', message: (_context: unknown, next: () => unknown) => `${next()}!` }),
  }
  const providers = [{ token: MIDDLEWARE, useValue: shout }]
  assert.is(await ask({ providers, middleware: ['log'], handler: (line: string) => line }, 'hi'), 'hi!')
})

test('any part may be given by value, class or factory, for each of its contracts', async () => {
  const clocked = { calls: 0 }
  class Marked implements Clock {
    now = () => (clocked.calls++, systemClock.now())
    after = systemClock.after
  }
  class Shout {
    name = 'log'
    create = () => ({ name: 'log', message: (_context: unknown, next: () => unknown) => `${next()}!` })
  }
  class Upper {
    name = 'line'
    create = () => ({
      decode: (frame: Uint8Array) => Buffer.from(frame).toString().toUpperCase(),
      encode: (reply: unknown) => `${reply}\n`,
    })
  }
  const network = createMemoryNetwork({ seed: 1 })
  const server = await createServer({
    config: false,
    listen: 'memory:parts',
    middleware: ['log'],
    executor: 'mine',
    handler: defineHandler({ message: (line: string) => line }),
    providers: [
      { token: CLOCK, useClass: Marked },
      { token: MIDDLEWARE, useFactory: () => new Shout() },
      { token: CODEC, useClass: Upper },
      { token: TRANSPORT, useFactory: () => network.transport },
      {
        token: EXECUTOR,
        useValue: {
          name: 'mine',
          create: () => ({
            name: 'mine',
            start: async () => {},
            run: ({ handler, message, connection }: Task) => `<${handler.message?.(message, connection)}>`,
            drain: async () => {},
            load: () => ({ running: 0, queued: 0 }),
          }),
        },
      },
    ],
  })
  await server.start()
  const plugin = definePlugin({
    name: 'network',
    setup: (registry) => void registry.transport(network.transport, { replace: true }),
  })
  const client = await connect('memory:parts', { plugins: [plugin], codec: 'raw' })
  const messages = client.messages()[Symbol.asyncIterator]()
  await client.write(Buffer.from('hi'))
  assert.is(String((await messages.next()).value), '<HI>!\n')
  assert.ok(clocked.calls > 0)
  await client.close()
  await server.stop()
})

test('a clock among the providers is the server’s own', async () => {
  let asked = 0
  const clock: Clock = { now: () => (asked++, systemClock.now()), after: systemClock.after }
  @Handler()
  class Timed {
    constructor(@inject(CLOCK) private readonly given: Clock) {}
    @OnMessage() tell() {
      return String(this.given === clock)
    }
  }
  assert.is(await ask({ providers: [{ token: CLOCK, useValue: clock }], handler: Timed }, '?'), 'true')
  assert.ok(asked > 0)
})

test('with time in the hand an idle peer is closed without waiting', async () => {
  const clock = createVirtualClock()
  const network = createMemoryNetwork({ seed: 7, clock })
  const plugin = definePlugin({
    name: 'network',
    setup: (registry) => void registry.transport(network.transport, { replace: true }),
  })
  const server = await createServer({
    config: false,
    clock,
    plugins: [plugin],
    listen: 'memory:idle',
    handler: (line: string) => line,
  })
  const closed = new Promise<string>((resolve) => server.on('connection.closed', ({ reason }) => resolve(reason.code)))
  await server.start()
  const connecting = connect('memory:idle', { clock, plugins: [plugin], timeouts: { idleMs: 'unlimited' } })
  await clock.advance(10)
  const client = await connecting
  await clock.advance(300_500)
  await clock.advance(3_000)
  assert.is(await closed, 'IDLE_TIMEOUT')
  client.abort()
  const stopping = server.stop({ timeoutMs: 0 })
  await clock.advance(2_000)
  await stopping
})

test('listeners come and go while the server runs', async () => {
  const server = await createServer({ config: false, listen: 'memory:first', handler: (line: string) => line })
  await server.start()
  const added = await server.listeners.add('second', {
    endpoint: 'memory:second',
    handler: (line: string) => line.toUpperCase(),
  })
  assert.is(added.state, 'listening')
  assert.equal(
    [...server.listeners].map(({ name }) => name),
    ['default', 'second'],
  )
  const client = await connect('memory:second')
  assert.is(await client.request('hi'), 'HI')
  for (const [options, code] of [
    [{ endpoint: 'memory:second' }, 'DUPLICATE'],
    [{ endpoint: 'memory:third', codec: 'lin' }, 'UNKNOWN_NAME'],
    [{ endpoint: 'memory:first' }, 'ADDRESS_IN_USE'],
  ] as const) {
    const name = code === 'DUPLICATE' ? 'second' : `other-${code}`
    const failure = await server.listeners.add(name, options as never).catch((error) => error)
    assert.is(failure.code, code)
  }
  const removing = server.listeners.remove('second')
  assert.is((await client.closed).code, 'ENDED')
  await removing
  assert.is(server.listeners.get('second'), undefined)
  assert.is(await connect('memory:second').catch((error) => error.code), 'REFUSED')
  await server.stop()
})

test('needs are held against what a transport can, and both are named', async () => {
  const handler = defineHandler({
    name: 'Ledger',
    message: (line: string) => line,
    needs: { ordered: true, reliable: true },
  })
  const failure = await createServer({ config: false, listen: 'udp://127.0.0.1:0', handler }).catch((error) => error)
  assert.is(failure.code, 'NEEDS_UNMET')
  assert.match(failure.message, /Ledger needs ordered.*udp/)
})

test('start is once; handle serves one request', async () => {
  const server = await createServer({ config: false, listen: 'memory:once', handler: (line: string) => line })
  const handled = server.handle()
  assert.is(await server.start().catch((error) => error.code), 'BAD_STATE')
  const client = await connect('memory:once').catch(async () => {
    await new Promise((resolve) => setImmediate(resolve))
    return connect('memory:once')
  })
  assert.is(await client.request('one'), 'one')
  assert.is(await handled, true)
  assert.is(server.state, 'stopped')
})

test('requests in order, with a time limit, and messages nobody asked for', async () => {
  const server = await createServer({
    config: false,
    listen: 'memory:client',
    handler: defineHandler({
      open: () => 'welcome',
      message: (line: string) => (line === 'never' ? undefined : line),
    }),
  })
  await server.start()
  const client = await connect('memory:client')
  const messages = client.messages()
  assert.is((await messages.next()).value, 'welcome')
  assert.equal(await Promise.all(['1', '2', '3'].map((line) => client.request(line))), ['1', '2', '3'])
  const late = await client.request('never', { timeoutMs: 30 }).catch((error: Error) => error)
  assert.match((late as Error).message, /within 30 ms/)
  const waiting = client.request('never').catch((error) => error.code)
  client.abort()
  assert.is(await waiting, 'CLOSED')
  assert.is(await client.request('x').catch((error) => error.code), 'CLOSED')
  await server.stop({ timeoutMs: 200 })
})

test.run()
