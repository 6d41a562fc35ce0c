// time limit: 400 s
/** The packed package, installed as a user installs it: every entry point loads, the command runs, `require` works. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { root } from '../support/command.js'

const folder = mkdtempSync(join(tmpdir(), 'gp-'))
const project = join(folder, 'project')
mkdirSync(project)
const run = (command: string, args: readonly string[], cwd = project) =>
  execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], timeout: 120_000 })

test('it packs, installs, and has what its users need and nothing else', () => {
  run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], root)
  const { version, dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'project', private: true, type: 'module' }))
  run('npm', [
    'install',
    '--no-audit',
    '--no-fund',
    '--prefer-offline',
    '--loglevel=error',
    join(folder, `gaidaros-${version}.tgz`),
  ])
  const installed = JSON.parse(readFileSync(join(project, 'node_modules/gaidaros/package.json'), 'utf8'))
  assert.equal(Object.keys(installed.dependencies), Object.keys(dependencies))
  assert.throws(() => readFileSync(join(project, 'node_modules/gaidaros/src/index.ts')))
  for (const file of ['console.html', 'console.css', 'console.js', 'charts.js', 'format.js', 'icon.svg']) {
    assert.ok(readFileSync(join(project, 'node_modules/gaidaros/dist/plugins/console/page', file)).length > 0, file)
  }
  assert.is(run('npx', ['gaidaros', '--version']).trim(), version)
})

test('every entry point loads', () => {
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const names = Object.keys(exports).filter((name) => !name.endsWith('.json'))
  writeFileSync(join(project, 'all.mjs'), names.map((name) => `await import('gaidaros${name.slice(1)}')`).join('\n'))
  run('node', ['all.mjs'])
  const schema = JSON.parse(
    run('node', [
      '--input-type=module',
      '-e',
      `console.log(JSON.stringify((await import('gaidaros/schema.json', { with: { type: 'json' } })).default))`,
    ]),
  )
  assert.ok(schema.properties.listeners)
})

test('require() gives the same classes as import', () => {
  const script = `
    const { Endpoint } = require('gaidaros')
    import('gaidaros').then((imported) => console.log(imported.Endpoint === Endpoint))`
  writeFileSync(join(project, 'require.cjs'), script)
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const flags = major === 20 && minor < 19 ? ['--experimental-require-module'] : []
  assert.match(run('node', [...flags, 'require.cjs']), /^true/)
})

test('strict TypeScript users compile against it, libraries checked, and their metadata is injected', () => {
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const names = Object.keys(exports).filter((name) => !name.endsWith('.json'))
  mkdirSync(join(project, 'src'))
  const everything = names.map((name, i) => `export * as m${i} from 'gaidaros${name.slice(1)}'`)
  writeFileSync(join(project, 'src/everything.ts'), everything.join('\n'))
  writeFileSync(
    join(project, 'src/app.ts'),
    `import { type Clock, CLOCK, type CloseReason, type Connection, connect, createServer, defineConfig, defineHandler, definePlugin,
      Handler, type MessageContext, type Middleware, OnClose, OnDrain, OnError, OnIdle, OnMessage, OnOpen, OnPeerEnd, TLS } from 'gaidaros'
    import { inject, singleton } from 'tsyringe'

    @singleton()
    class NameBook {
      nick(name: string) { return name.toUpperCase() }
    }
    const passing: Middleware<MessageContext> = (_context, next) => next()

    @Handler({ codec: 'line', scope: 'connection', order: 'serial', needs: { stream: true, maxMessage: 100 }, middleware: [passing] })
    export class Greeter {
      constructor(private readonly names: NameBook, @inject(CLOCK) readonly clock: Clock) {}
      @OnOpen() welcome(connection: Connection) { return 'hello over ' + connection.transport }
      @OnMessage('bye') bye(_: string, connection: Connection): void { void connection.close('BYE') }
      @OnMessage() async greet(name: string): Promise<string> { return this.names.nick(name) }
      @OnIdle() idle(_: Connection) { return undefined }
      @OnPeerEnd() ended(_: Connection) {}
      @OnDrain() drain(_: Connection, deadline: Date) { return String(deadline) }
      @OnError() failed(error: Error, _: Connection) { return error.message }
      @OnClose() closed(_: Connection, { code, by, error }: CloseReason) { void [code, by, error?.message] }
    }
    export const configuration = defineConfig({
      handlers: ['./handlers/*.ts', Greeter],
      listeners: { a: { endpoint: ['tcp://[::]:0', 'unix:./a.sock'], handler: Greeter, limits: { connections: 5, lineBytes: 'unlimited' } } },
      plugins: [definePlugin({ name: 'p', setup(registry) { registry.middleware({ name: 'passing', create: () => passing }) } }), ['x', { a: 1 }]],
      executor: { type: 'thread-pool', size: 4 },
      drain: { timeoutMs: 15_000 },
    })
    export const plain = defineHandler({ codec: 'line', open: () => 'hi', message: (line: string, connection: Connection) => line + connection.id })

    const server = await createServer({ config: false, listen: 'tcp://127.0.0.1:0', handler: Greeter })
    await server.start()
    const client = await connect(server.listeners.get('default')!.endpoint, { codec: 'line' })
    const messages = client.messages()[Symbol.asyncIterator]()
    console.log((await messages.next()).value)
    console.log(await client.request<string>('Ada', { timeoutMs: 5_000 }), client.feature(TLS)?.protocol)
    await client.close()
    await server.stop({ timeoutMs: 1_000 })
    `,
  )
  const compilerOptions = {
    target: 'es2022',
    module: 'nodenext',
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: false,
    experimentalDecorators: true,
    emitDecoratorMetadata: true,
    rootDir: 'src',
    outDir: 'out',
    typeRoots: [join(root, 'node_modules/@types')],
    types: ['node'],
  }
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['src'] }))
  try {
    run('node', [join(root, 'node_modules/typescript/bin/tsc'), '-p', '.'])
  } catch (error) {
    assert.unreachable((error as { stdout: string }).stdout)
  }
  assert.is(run('node', ['out/app.js']), 'hello over tcp\nADA undefined\n')
})

test('a server of the installed package answers', () => {
  const script = `
    import { connect, createServer } from 'gaidaros'
    const server = await createServer({ listen: 'tcp://localhost:0', handler: (line) => line.toUpperCase() })
    await server.start()
    const client = await connect(server.listeners.get('default').endpoint)
    console.log(await client.request('hello'))
    await client.close()
    await server.stop()`
  writeFileSync(join(project, 'serve.mjs'), script)
  assert.is(run('node', ['serve.mjs']), 'HELLO\n')
})

test.after(() => rmSync(folder, { recursive: true, force: true }))
test.run()
