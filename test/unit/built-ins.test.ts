// time limit: 60 s
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { registerBuiltIns } from '#src/built-ins.js'
import { systemClock } from '#src/core/clock.js'
import { EventHub } from '#src/core/events.js'
import { ServerRegistry } from '#src/core/registry.js'
import { executors } from '#src/plugins/executors/index.js'
import { layers } from '#src/plugins/layers/index.js'
import { middleware } from '#src/plugins/middleware/index.js'
import { protocols } from '#src/plugins/protocols/index.js'

const registry = () => registerBuiltIns(new ServerRegistry({ events: new EventHub(), clock: systemClock }))
const namesOf = (things: readonly { readonly name: string }[]) => things.map(({ name }) => name)

test('everything that comes with Gaidaros is in the catalogue, under its own name', async () => {
  const known = registry()
  const wanted = {
    schemes: [...known.schemes],
    layers: namesOf(layers),
    protocols: namesOf(protocols),
    middleware: namesOf(middleware),
    executors: [...namesOf(executors), 'cluster'],
  }
  await known.ready(wanted)
  for (const scheme of wanted.schemes) assert.ok(known.transportOf(scheme).schemes.includes(scheme), scheme)
  // Each is found, or its options are at fault: it is no unknown name, and none that was not loaded.
  const resolves = (resolve: () => unknown) => {
    try {
      resolve()
    } catch (error) {
      const { code } = error as { code?: string }
      assert.ok(code === 'BAD_VALUE' || code === 'UNKNOWN_KEY' || code === 'NOT_SUPPORTED', String(error))
    }
  }
  for (const name of wanted.layers) resolves(() => known.resolveLayer(name, 'test'))
  for (const name of wanted.protocols) resolves(() => known.resolveProtocol(name, 'test'))
  for (const name of wanted.middleware) resolves(() => known.resolveMiddleware(name, 'test'))
  for (const name of wanted.executors) resolves(() => known.resolveExecutor(name, 'test'))
})

test('a name is taken before its code is loaded', async () => {
  const known = registry()
  const mine = { codec: { decode: (frame: Uint8Array) => frame, encode: () => '' } }
  const another = { name: 'mqtt', create: () => mine }
  assert.throws(() => known.protocol(another as never), /two things are the protocol `mqtt`/)
  known.replacing('the application', () => known.protocol(another as never))
  await known.ready({ protocols: ['mqtt'] })
  const { protocol } = known.resolveProtocol('mqtt', 'test')
  assert.is(protocol, mine)
})

test('what is named with options is loaded by its name, whatever the options are called', async () => {
  const known = registry()
  const executor = { type: 'cluster', name: 'a-cluster', servers: 'nats://127.0.0.1:1' }
  const layer = { name: 'throttle', type: 'gzip' }
  await known.ready({ executors: [executor, { type: 'task', name: 'thread' }], layers: [layer] })
  assert.is(known.resolveExecutor(executor, 'test').executor?.name, 'cluster')
  const isLoaded = (resolve: () => unknown) => assert.throws(resolve, (error: Error) => !/defect/.test(error.message))
  isLoaded(() => known.resolveExecutor({ type: 'task', name: 'thread' }, 'test'))
  isLoaded(() => known.resolveLayer(layer, 'test'))
  assert.throws(() => known.resolveExecutor('thread', 'test'), /before it is loaded/)
  assert.throws(() => known.resolveLayer('gzip', 'test'), /before it is loaded/)
})

test('a server of lines over TCP loads no code of what it does not name', async () => {
  const hook = `
    import { writeSync } from 'node:fs'
    export const load = (url, context, next) => (writeSync(2, url + '\\n'), next(url, context))`
  const loader = `import { register } from 'node:module'; register('data:text/javascript,' + ${JSON.stringify(encodeURIComponent(hook))})`
  const program = `
    import { createServer } from 'gaidaros'
    const server = await createServer({ config: false, listen: 'tcp://127.0.0.1:0' })
    await server.start()
    await server.stop()`
  const flags = [
    '--input-type=module',
    '--import',
    `data:text/javascript,${encodeURIComponent(loader)}`,
    '--eval',
    program,
  ]
  const { stderr } = await promisify(execFile)(process.execPath, flags)
  const loaded = stderr.split('\n').flatMap((url) => /\/dist\/(.+)\.js$/.exec(url)?.[1] ?? [])
  assert.ok(loaded.includes('core/session'), stderr)
  assert.ok(loaded.includes('transports/tcp'), stderr)
  const needless = loaded.filter((file) =>
    /^plugins\/(protocols|executors|middleware|observability|console)|^plugins\/layers\/(?!proxy-facts)|^transports\/(udp|tls(?!-facts)|websocket(?!-facts)|memory)|^core\/(hooks|client|control)/.test(
      file,
    ),
  )
  assert.equal(needless, [])
})

test.run()
