// time limit: 420 s
/** Several WebSocket listeners on one port, told apart by their paths: in one process, with workers, through reloads. */
import { createServer as createTcp } from 'node:net'
import { type Connection, createServer, defineHandler } from 'gaidaros'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { WebSocket } from 'ws'
import { gaidaros, killAll } from '../support/command.js'
import { serve, stopAll } from '../support/faults.js'
import { Folder, Serving } from '../support/workers.js'

const folder = new Folder()
const clients: WebSocket[] = []

async function freePort(): Promise<number> {
  const probe = createTcp()
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve))
  const { port } = probe.address() as { port: number }
  await new Promise((resolve) => probe.close(resolve))
  return port
}

const naming = (name: string) =>
  defineHandler({ name, codec: 'line', message: (line: unknown, { listener }: Connection) => `${listener}: ${line}` })

/** What an upgrade gives: an echo, the status that refused it, or the code of its error. */
async function ask(url: string, options: object = {}): Promise<string | number> {
  const ws = new WebSocket(url, options)
  clients.push(ws)
  return new Promise((resolve) => {
    ws.on('unexpected-response', (_request, { statusCode = 0 }) => resolve(statusCode))
    ws.on('error', (error) => resolve((error as { code?: string }).code ?? error.message))
    ws.on('open', () => ws.send('hi'))
    ws.on('message', (said) => resolve(String(said)))
  })
}

for (const scheme of ['ws', 'wss'] as const) {
  test(`${scheme}: each path is its own listener's, one that nobody has is 404`, async () => {
    const { private: key, cert } = await generate([{ name: 'commonName', value: 'localhost' }])
    const port = await freePort()
    const at = `${scheme}://127.0.0.1:${port}`
    const { server } = await serve({
      listen: undefined as never,
      ...(scheme === 'wss' ? { tls: { key, cert } } : {}),
      listeners: {
        a: { endpoint: `${at}/a`, handler: naming('a'), socket: { protocols: ['one'] } },
        b: { endpoint: `${at}/b`, handler: naming('b'), socket: { origins: ['https://b.example'] } },
      },
    } as never)
    const options = { rejectUnauthorized: false }
    assert.is(await ask(`${at}/a`, options), 'a: hi')
    assert.is(await ask(`${at}/b?query=1`, options), 'b: hi')
    assert.is(await ask(`${at}/c`, options), 404)
    // What belongs to a path is its own.
    assert.is(await ask(`${at}/b`, { ...options, origin: 'https://a.example' }), 403)
    assert.is(await ask(`${at}/a`, { ...options, origin: 'https://a.example' }), 'a: hi')
    // One goes, the other stays; one comes, and takes the rest.
    const staying = new WebSocket(`${at}/b`, options)
    clients.push(staying)
    await new Promise((resolve) => staying.once('open', resolve))
    await server.listeners.remove('a', { timeoutMs: 1_000 })
    assert.is(await ask(`${at}/a`, options), 404)
    assert.is(await ask(`${at}/b`, options), 'b: hi')
    await server.listeners.add('rest', { endpoint: at, handler: naming('rest') })
    assert.is(await ask(`${at}/a`, options), 'rest: hi')
    assert.is(await ask(`${at}/b`, options), 'b: hi')
    // A pause of one is none of the other's.
    server.listeners.get('rest')?.suspend()
    const waiting = ask(`${at}/anything`, options)
    assert.is(await ask(`${at}/b`, options), 'b: hi')
    server.listeners.get('rest')?.resume()
    assert.is(await waiting, 'rest: hi')
    // The one that bound the port, too, may go.
    await server.listeners.remove('b', { timeoutMs: 1_000 })
    assert.is(await ask(`${at}/b`, options), 'rest: hi')
    await server.stop({ timeoutMs: 500 })
    assert.is(await ask(`${at}/a`, options), 'ECONNREFUSED')
  })
}

const handler = naming('h')
for (const [what, one, other, said] of [
  ['one path', { endpoint: 'ws://127.0.0.1:PORT/a' }, { endpoint: 'ws://127.0.0.1:PORT/a' }, /same path/],
  [
    'two schemes',
    { endpoint: 'ws://127.0.0.1:PORT/a' },
    { endpoint: 'wss://127.0.0.1:PORT/b' },
    /wss:\/\/ and ws:\/\//,
  ],
  [
    'another backlog',
    { endpoint: 'ws://127.0.0.1:PORT/a' },
    { endpoint: 'ws://127.0.0.1:PORT/b', socket: { backlog: 7 } },
    /socket\.backlog/,
  ],
  [
    'another certificate',
    { endpoint: 'wss://127.0.0.1:PORT/a', tls: { cert: 'one.pem' } },
    { endpoint: 'wss://127.0.0.1:PORT/b', tls: { cert: 'two.pem' } },
    /tls\.cert/,
  ],
  [
    'another deadline of the handshake',
    { endpoint: 'ws://127.0.0.1:PORT/a' },
    { endpoint: 'ws://127.0.0.1:PORT/b', timeouts: { handshakeMs: 1_000 } },
    /timeouts\.handshakeMs/,
  ],
  [
    'a header before the upgrade',
    { endpoint: 'ws://127.0.0.1:PORT/a', layers: [{ name: 'proxy-protocol', trusted: ['127.0.0.1'] }] },
    { endpoint: 'ws://127.0.0.1:PORT/b' },
    /layers before the upgrade/,
  ],
] as const) {
  test(`two WebSocket listeners that differ in ${what} are refused, both by name`, async () => {
    const port = String(await freePort())
    const listeners = Object.fromEntries(
      [one, other].map((options, i) => [
        ['first', 'second'][i],
        { ...options, endpoint: options.endpoint.replace('PORT', port), handler },
      ]),
    )
    const error = await createServer({ config: false, listeners } as never).then(
      () => assert.unreachable('it was taken'),
      (thrown) => thrown,
    )
    assert.is(error.code, 'ADDRESS_IN_USE')
    assert.match(error.message, said)
    assert.match(error.message, /listeners\.second.*first/)
  })
}

test('check names two listeners of one address, and what to do where a wildcard takes both families', async () => {
  const port = await freePort()
  const module = folder.write('echo.mjs', 'export default (line) => line\n')
  const check = async (...endpoints: string[]) => {
    const names = ['one', 'two']
    const listeners = Object.fromEntries(endpoints.map((endpoint, i) => [names[i], { endpoint, handler: module }]))
    const command = gaidaros(['check', '--config', folder.write('check.json', { listeners })], { cwd: folder.path })
    return { status: await command.ended, err: command.stderr }
  }
  const twice = await check(`tcp://127.0.0.1:${port}`, `tls://127.0.0.1:${port}`)
  assert.is(twice.status, 2)
  assert.match(twice.err, /listeners\.two.*listener one.*\[ADDRESS_IN_USE\]/s)
  if (process.platform === 'linux') {
    const both = await check(`tcp://0.0.0.0:${port}`, `tcp://[::]:${port}`)
    assert.is(both.status, 2)
    assert.match(both.err, /ipv6Only/)
  }
  assert.is((await check(`tcp://127.0.0.1:${port}`, `udp://127.0.0.1:${port}`)).status, 0)
  assert.is((await check('tcp://127.0.0.1:0', 'tcp://127.0.0.1:0')).status, 0)
})

for (const [what, workers] of [
  ['one process', 1],
  ['two workers', 2],
  ['two workers that accept for themselves', { count: 2, balance: 'kernel' }],
] as const) {
  test(`reloads add and remove paths, and the others stay bound (${what})`, async () => {
    const port = await freePort()
    const at = `ws://127.0.0.1:${port}`
    const module = folder.write(
      'paths.mjs',
      "import { defineHandler } from 'gaidaros'\n" +
        "export default defineHandler({ name: 'h', codec: 'line', message: (line, c) => c.listener + ': ' + line })\n",
    )
    const write = (...names: string[]) =>
      folder.write(`paths-${port}.json`, {
        workers,
        listeners: Object.fromEntries(names.map((name) => [name, { endpoint: `${at}/${name}`, handler: module }])),
      })
    const serving = await Serving.start(folder, ['--config', write('a', 'b')])
    const paths = async () => Promise.all(['a', 'b', 'c'].map((name) => ask(`${at}/${name}`)))
    assert.equal(await paths(), ['a: hi', 'b: hi', 404])
    // Nobody is refused meanwhile, on the path that stays.
    const refusals: unknown[] = []
    let isOver = false
    const asking = (async () => {
      while (!isOver) {
        const answer = await ask(`${at}/b`)
        if (answer !== 'b: hi') refusals.push(answer)
      }
    })()
    const reload = async () => {
      const command = gaidaros(['reload', '--control', serving.control], { cwd: folder.path })
      assert.is(await command.ended, 0, command.stderr)
    }
    write('b', 'c')
    await reload()
    assert.equal((await paths()).slice(1), ['b: hi', 'c: hi'])
    write('c', 'a', 'b')
    await reload()
    assert.equal(await paths(), ['a: hi', 'b: hi', 'c: hi'])
    isOver = true
    await asking
    assert.equal(refusals, [])
    // One is suspended: its newcomers wait, the others go on.
    await serving.ask('suspend', { listener: 'c' })
    const waiting = ask(`${at}/c`)
    assert.is(await ask(`${at}/a`), 'a: hi')
    await serving.ask('resume', { listener: 'c' })
    assert.is(await waiting, 'c: hi')
    await serving.stop()
  })
}

test.after(async () => {
  for (const client of clients) client.terminate()
  await stopAll()
  await killAll()
  folder.remove()
})

test.run()
