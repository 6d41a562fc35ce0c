// time limit: 400 s
/**
 * One handler module, one client's script, every place a handler can run in, over TCP, UDP and Unix sockets: the transcripts
 * are the same. With one server process, and with two where this version has them.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import { type Connection, connect, createServer, definePlugin, type NamedExecutor } from 'gaidaros'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros, killAll, root } from '../support/command.js'
import { eventually, Peer, serve, stopAll } from '../support/faults.js'
import { skip } from '../support/skip.js'

const placed = join(root, 'test/fixtures/placed-handlers.ts')
const handlers = join(root, 'test/fixtures/everywhere-handlers.ts')
const folder = mkdtempSync(join(tmpdir(), 'ge-'))
test.after(async () => {
  killAll()
  await stopAll()
  rmSync(folder, { recursive: true })
})

const executors: readonly NamedExecutor[] = [
  'inline',
  'task',
  { type: 'task', per: 'connection', concurrency: 1 },
  'thread',
  { type: 'thread', per: 'connection', size: 64 },
  { type: 'thread-pool', size: 2 },
  'process',
  { type: 'process', per: 'connection', size: 4 },
  { type: 'process-pool', size: 2 },
]
const away = [
  { type: 'thread-pool', size: 1 },
  { type: 'process-pool', size: 1 },
] as const
const shown = (executor: NamedExecutor) => JSON.stringify(executor).replace(/"/g, '')

// ── the transcript ───────────────────────────────────────────────────────────────────────────────────────────────────

/** A server of so many processes; in this process where it is one. */
async function serving(workers: number, executor: NamedExecutor, listen: string): Promise<Serving> {
  if (workers === 1) {
    const { server } = await serve({ listen, handler: `${placed}#Talker`, executor })
    return { endpoint: String([...server.listeners][0]?.endpoint), stop: () => server.stop() }
  }
  const args = ['serve', '--listen', listen, '--handler', `${placed}#Talker`, '--workers', String(workers)]
  const command = gaidaros([...args, '--set', `executor=${JSON.stringify(executor)}`], { limitMs: 120_000 })
  const [, endpoint = ''] = await command.shows(/^listening default (\S+)$/m)
  await command.ready()
  return {
    endpoint,
    async stop() {
      command.child.kill('SIGTERM')
      assert.is(await command.ended, 0, command.stderr)
    },
  }
}
interface Serving {
  readonly endpoint: string
  stop(): Promise<void>
}

/** What a client hears over one endpoint. */
async function transcript({ endpoint, stop }: Serving, what: string): Promise<string[]> {
  const client = await connect(endpoint)
  const heard: string[] = []
  const listening = (async () => {
    for await (const line of client.messages()) heard.push(line as string)
  })()
  // A datagram peer exists from its first datagram on.
  for (const line of ['hello', 'items 40', 'late', 'push 5', 'refuse him', 'raw', 'last']) await client.send(line)
  await eventually(() => heard.some((line) => line.endsWith(' LAST')), `the last line by ${what}`, 60_000)
  if (endpoint.startsWith('udp')) await client.close()
  else {
    client.end()
    await client.closed
  }
  await listening
  await stop()
  return heard
}

/** Why there are no two server processes here; undefined when there are. */
const asked = gaidaros(['check', '--listen', 'tcp://127.0.0.1:0', '--handler', `${placed}#Talker`, '--workers', '2'])
const noWorkers = (await asked.ended) === 0 ? undefined : asked.stderr.trim()

for (const workers of [1, 2]) {
  for (const scheme of ['tcp', 'udp', 'unix']) {
    const listen = scheme === 'unix' ? `unix:${join(folder, 'x.sock')}` : `${scheme}://127.0.0.1:0`
    test(`the same transcript by every executor over ${scheme}, ${workers} server process(es)`, async () => {
      if (workers > 1 && noWorkers !== undefined) return skip(`${workers} server processes`, noWorkers)
      const expected = await transcript(await serving(1, 'inline', listen), 'inline')
      assert.is(expected[0], `welcome over ${scheme} from default`)
      assert.is(expected.filter((line) => line.startsWith('item ')).length, 40)
      assert.ok(expected.includes('refused: him'), expected.join('\n'))
      if (scheme !== 'udp') assert.is(expected.at(-1), 'after 7')
      // Two processes are started anew for each; one of every kind is enough there.
      const chosen = workers === 1 ? executors : executors.filter((one) => typeof one !== 'object' || !('per' in one))
      for (const executor of chosen) {
        const heard = await transcript(await serving(workers, executor, listen), shown(executor))
        assert.equal(heard, expected, shown(executor))
      }
    })
  }
}

// ── order ────────────────────────────────────────────────────────────────────────────────────────────────────────────

for (const executor of executors) {
  // A thread or process for each connection: as many as one would have.
  const count = typeof executor === 'object' && 'per' in executor && executor.type !== 'task' ? 4 : 1_000
  test(`order is kept over ${count} connections of interleaved numbers by ${shown(executor)}`, async () => {
    const { port, server } = await serve({ handler: `${placed}#Numbers`, executor })
    const peers: Peer[] = []
    while (peers.length < count)
      peers.push(
        ...(await Promise.all(Array.from({ length: Math.min(100, count - peers.length) }, () => Peer.open(port)))),
      )
    const lines = Array.from({ length: 20 }, (_, i) => `${i}\n`)
    for (const line of lines) for (const peer of peers) peer.send(line)
    for (const peer of peers) await peer.hears('\n19\n')
    const wrong = peers.filter(({ heard }) => heard !== lines.join(''))
    assert.is(wrong.length, 0, wrong[0]?.heard)
    for (const peer of peers) peer.leave()
    await server.stop()
  })
}

// ── where it is named ────────────────────────────────────────────────────────────────────────────────────────────────

test('an executor for the server, a listener, a handler, one method; the nearest to the listener wins', async () => {
  const server = await createServer({
    config: false,
    executor: { type: 'thread-pool', size: 1 },
    listeners: {
      shared: { endpoint: 'tcp://127.0.0.1:0', handler: `${handlers}#Where` },
      again: { endpoint: 'tcp://127.0.0.1:0', handler: `${handlers}#Where` },
      own: { endpoint: 'tcp://127.0.0.1:0', handler: `${handlers}#Where`, executor: 'process' },
      here: { endpoint: 'tcp://127.0.0.1:0', handler: `${handlers}#Where`, executor: 'inline' },
    },
  })
  await server.start()
  const ask = async (name: string) => {
    const peer = await Peer.open(server.listeners.get(name)?.endpoint.port ?? 0)
    await peer.send('where\n').hears('\n')
    peer.leave()
    return peer.heard.trim().split('/').map(Number) as [number, number]
  }
  const [shared, again, own, here] = [await ask('shared'), await ask('again'), await ask('own'), await ask('here')]
  assert.is(shared[0], process.pid)
  assert.ok(shared[1] > 0, 'a thread')
  assert.equal(again, shared, 'one pool for the server')
  assert.not.equal(own[0], process.pid)
  assert.equal(here, [process.pid, 0])
  await server.stop()

  const decided = await serve({ handler: `${handlers}#Decided` })
  const peer = await Peer.open(decided.port)
  await peer.send('where\n').hears('\n')
  assert.not.equal(peer.heard.trim(), `${process.pid}/0`)
  assert.match(peer.heard, new RegExp(`^${process.pid}/`))
  peer.leave()
})

test('single methods run elsewhere, the rest where the handler does', async () => {
  const { port } = await serve({ handler: `${handlers}#Split`, protocol: 'json-rpc' })
  const peer = await Peer.open(port)
  const ask = async (method: string, id: number) => {
    peer.send(`${JSON.stringify({ jsonrpc: '2.0', id, method })}\n`)
    await peer.hears(`"id":${id}`)
    await peer.hears('\n')
    const line = peer.heard.split('\n').find((one) => one.includes(`"id":${id}`))
    return (JSON.parse(line as string).result.at as string).split('/').map(Number)
  }
  const [rest, thread, child] = [await ask('rest', 1), await ask('away', 2), await ask('apart', 3)]
  assert.equal(rest, [process.pid, 0])
  assert.is(thread[0], process.pid)
  assert.ok((thread[1] ?? 0) > 0)
  assert.not.equal(child[0], process.pid)
  peer.leave()
})

test('affinity: a connection keeps its place; a key, named by its file, shares one; none takes any', async () => {
  const tenants = {
    name: 'tenants',
    setup: (registry: Parameters<Parameters<typeof definePlugin>[0]['setup']>[0]) => {
      let count = 0
      registry.middleware({
        name: 'tenant',
        create: () => ({
          name: 'tenant',
          connection: ({ connection }: { connection: Connection }, next: () => unknown) => {
            connection.attributes.set('tenant', count++ % 2)
            return next()
          },
        }),
      })
    },
  }
  const places = async (affinity: string) => {
    const { port, server } = await serve({
      handler: `${handlers}#Where`,
      plugins: [definePlugin(tenants)],
      middleware: ['tenant'],
      executor: { type: 'thread-pool', size: 4, affinity },
    })
    const peers: Peer[] = []
    for (let i = 0; i < 8; i++) peers.push(await Peer.open(port))
    for (const peer of peers) for (let i = 0; i < 8; i++) peer.send('where\n')
    await eventually(() => peers.every(({ heard }) => heard.split('\n').length === 9), 'all answered')
    const sets = peers.map(({ heard }) => new Set(heard.trim().split('\n')))
    for (const peer of peers) peer.leave()
    await server.stop()
    return sets
  }
  const kept = await places('connection')
  assert.ok(
    kept.every(({ size }) => size === 1),
    'one place each',
  )
  assert.is(new Set(kept.flatMap((set) => [...set])).size, 4, 'all places are used')
  const keyed = await places(`${handlers}#byTenant`)
  for (const [i, set] of keyed.entries()) assert.equal(set, keyed[i % 2], 'tenants share')
  const any = await places('none')
  assert.ok(new Set(any.flatMap((set) => [...set])).size > 1)

  for (const [affinity, message] of [
    [`${handlers}#notAFunction`, /expected to be a function of the connection/],
    [`${handlers}#byTenent`, /has no export `byTenent`; nearest: `byTenant`/],
    ['conection', /expected connection, none, or a function/],
  ] as const) {
    try {
      await serve({ handler: `${handlers}#Where`, executor: { type: 'thread-pool', size: 1, affinity } })
      assert.unreachable(affinity)
    } catch (error) {
      assert.match((error as Error).message, message)
    }
  }
})

// ── what is known there ──────────────────────────────────────────────────────────────────────────────────────────────

test('facts, TLS, identity, PROXY, attributes and injection are there as they are here', async () => {
  const pems = await generate([{ name: 'commonName', value: 'alice' }], { keySize: 2048 })
  const pair = { cert: Buffer.from(pems.cert), key: Buffer.from(pems.private) }
  const turns = {
    name: 'turns',
    create: () => ({
      name: 'turns',
      message: ({ connection }: { connection: Connection }, next: () => unknown) => {
        const turn = Number(connection.attributes.get('turn') ?? 0) + 1
        connection.attributes.set('turn', turn)
        return next()
      },
    }),
  }
  const plugins = [definePlugin({ name: 'turns', setup: (registry) => void registry.middleware(turns) })]
  const told: unknown[][] = []
  for (const executor of ['inline', ...away] as const) {
    const facts: unknown[] = []
    const secure = await serve({
      listen: 'tls://127.0.0.1:0',
      tls: { ...pair, ca: pair.cert, requestCert: true },
      handler: `${handlers}#Facts`,
      plugins,
      middleware: [{ name: 'client-identity', by: 'cn' }, 'turns'],
      executor,
    })
    const socket = connectTls({ port: secure.port, host: '127.0.0.1', servername: 'a.test', ca: pair.cert, ...pair, checkServerIdentity: () => undefined }) // biome-ignore format: one call
    let heard = ''
    socket.on('data', (chunk) => {
      heard += chunk
    })
    for (const count of [1, 2]) {
      socket.write('{}\n')
      await eventually(() => heard.split('\n').length === count + 1, 'answered')
    }
    facts.push(
      ...heard
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    )
    socket.destroy()
    await secure.server.stop()

    const proxied = await serve({
      handler: `${handlers}#Facts`,
      plugins,
      middleware: ['turns'],
      layers: [{ name: 'proxy-protocol', trusted: ['127.0.0.1'] }],
      executor,
    })
    const peer = await Peer.open(proxied.port)
    await peer.send('PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\n{}\n').hears('\n')
    facts.push(JSON.parse(peer.heard))
    peer.leave()
    await proxied.server.stop()
    told.push(facts)
  }
  const [first, ...others] = told as Record<string, unknown>[][]
  assert.equal(first?.[1], {
    transport: 'tls',
    listener: 'default',
    endpoint: 'tls',
    remote: '127.0.0.1',
    state: 'open',
    protocol: 'TLSv1.3',
    serverName: 'a.test',
    certificate: 'alice',
    isRaw: true,
    identity: 'alice',
    turn: 2,
    injected: 'INJECTED',
  })
  assert.is(first?.[2]?.remote, '192.0.2.7')
  assert.is(first?.[2]?.proxy, '127.0.0.1')
  for (const other of others) assert.equal(other, first)
})

// ── the signal ───────────────────────────────────────────────────────────────────────────────────────────────────────

for (const executor of ['task', ...away] as const) {
  const own = typeof executor === 'string' ? { type: executor } : executor
  test(`the signal aborts what is given up by ${shown(executor)}, and the connection's state goes on`, async () => {
    for (const limit of [{ executor: { ...own, timeoutMs: 150 } }, { executor: own, timeouts: { handlerMs: 150 } }]) {
      const { port, server } = await serve({ handler: `${handlers}#Patient`, ...limit })
      const peer = await Peer.open(port)
      await peer.send('wait\n').hears('sorry: TIMEOUT\n')
      // The next message has a new signal; the state is that of the connection.
      await peer.send('now\n').hears('now false\n')
      await peer.send('what\n').hears('3 ExecutorError TIMEOUT false\n')
      peer.leave()
      await server.stop()
    }
  })

  test(`the signal aborts at the drain's deadline and when the peer is gone, by ${shown(executor)}`, async () => {
    const file = join(folder, `aborted-${own.type}`)
    const { port, server } = await serve({ handler: `${handlers}#Patient`, executor })
    const gone = await Peer.open(port)
    gone.send(`wait ${file}\n`)
    await eventually(() => [...server.connections][0]?.stats.messagesIn === 1, 'sent')
    gone.socket.resetAndDestroy()
    await eventually(() => read(file).includes('ConnectionError'), 'the peer is gone')
    const peer = await Peer.open(port)
    peer.send(`wait ${file}\n`)
    await eventually(() => [...server.connections][0]?.stats.messagesIn === 1, 'sent')
    await server.stop({ timeoutMs: 200 })
    await eventually(() => read(file).includes('ShutdownError SHUTDOWN'), `the drain: ${read(file)}`)
    assert.match(peer.heard, /draining/)
  })
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

test.run()
