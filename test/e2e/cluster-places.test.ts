// time limit: 300 s
/** Which node, which executor there, which methods; and what a handler two steps away knows of its connection. */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type NamedExecutor } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Command, gaidaros, root } from '../support/command.js'
import { eventually, Peer, serve, type Watched } from '../support/faults.js'
import { endAll, type NatsServer, noNats, startNats } from '../support/nats.js'
import { skip } from '../support/skip.js'

const handlers = join(root, 'test/fixtures/everywhere-handlers.ts')
const talker = join(root, 'test/fixtures/placed-handlers.ts#Talker')
const folder = mkdtempSync(join(tmpdir(), 'gp-'))
let nats: NatsServer

const clusterTest = (name: string, run: () => Promise<void>) =>
  test(name, async () => {
    if (noNats !== undefined) return skip(name, noNats)
    nats ??= await startNats()
    await run()
  })

interface NodeOptions {
  readonly cluster: string
  readonly args: readonly string[]
  readonly env?: Record<string, string>
}

async function startNode({ cluster, args, env = {} }: NodeOptions): Promise<Command> {
  const sets = ['--set', `cluster.name=${cluster}`, '--set', 'cluster.lostMs=20000']
  const command = gaidaros(['node', '--cluster', nats.url, ...sets, ...args], { limitMs: 100_000, env, cwd: folder })
  await command.shows(/^ready$/m)
  return command
}
async function end(...commands: Command[]): Promise<void> {
  for (const { child } of commands) child.kill('SIGTERM')
  for (const command of commands) assert.is(await command.ended, 0, command.stderr)
}
const cluster = (name: string, more: object = {}): NamedExecutor =>
  ({ type: 'cluster', servers: nats.url, name, lostMs: 20_000, ...more }) as NamedExecutor
const placesOf = ({ server }: Watched) => server.listeners.get('default')?.plan.executors[0]?.load().places ?? []

for (const listen of ['udp://127.0.0.1:0', `unix:${join(folder, 'x.sock')}`]) {
  const scheme = listen.split(':')[0]
  clusterTest(`the same transcript as inline over ${scheme}`, async () => {
    const node = await startNode({ cluster: `over-${scheme}`, args: ['--handler', talker] })
    const heard: string[][] = []
    for (const executor of ['inline', cluster(`over-${scheme}`)]) {
      const { server } = await serve({ listen, handler: talker, executor })
      const client = await connect([...server.listeners][0]?.endpoint as never)
      const lines: string[] = []
      heard.push(lines)
      const listening = (async () => {
        for await (const line of client.messages()) lines.push(line as string)
      })()
      for (const line of ['hello', 'items 20', 'late', 'push 5', 'refuse him', 'last']) await client.send(line)
      await eventually(() => lines.some((line) => line.endsWith(' LAST')), 'the last line')
      await client.close()
      await listening
      await server.stop()
    }
    assert.is(heard[0]?.[0], `welcome over ${scheme} from default`)
    assert.equal(heard[1], heard[0])
    await end(node)
  })
}

clusterTest('two steps away, in a pool of a node, a handler knows of its connection what it knows here', async () => {
  const node = await startNode({
    cluster: 'facts',
    args: ['--handler', `${handlers}#Facts`, '--executor', 'process-pool'],
  })
  const plugins = [
    {
      name: 'turns',
      setup: (registry: { middleware(factory: object): unknown }) => {
        registry.middleware({
          name: 'turns',
          create: () => ({
            message(context: { connection: { attributes: Map<unknown, unknown> } }, next: () => unknown) {
              const { attributes } = context.connection
              attributes.set('turn', Number(attributes.get('turn') ?? 0) + 1)
              return next()
            },
          }),
        })
      },
    },
  ]
  const told: unknown[] = []
  for (const executor of ['inline', cluster('facts')]) {
    const { port, server } = await serve({
      handler: `${handlers}#Facts`,
      plugins: plugins as never,
      middleware: ['turns'],
      layers: [{ name: 'proxy-protocol', trusted: ['127.0.0.1'] }],
      executor,
    })
    const peer = await Peer.open(port)
    await peer.send('PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\n{}\n').hears('\n')
    peer.send('{}\n')
    await eventually(() => peer.heard.split('\n').length === 3, 'both')
    told.push(
      peer.heard
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    )
    peer.leave()
    await server.stop()
  }
  assert.is((told[0] as { turn: number }[])[1]?.turn, 2)
  assert.equal(told[1], told[0])
  await end(node)
})

clusterTest('the signal of a message that is given up is aborted, two steps away', async () => {
  const file = join(folder, 'aborted')
  writeFileSync(file, '')
  const node = await startNode({
    cluster: 'signal',
    args: ['--handler', `${handlers}#Patient`, '--executor', 'thread-pool'],
  })
  const { port, server } = await serve({
    handler: `${handlers}#Patient`,
    executor: cluster('signal', { timeoutMs: 300, heartbeatMs: 100 }),
  })
  const peer = await Peer.open(port)
  await peer.send(`wait ${file}\n`).hears('sorry: TIMEOUT\n')
  await eventually(() => readFileSync(file, 'utf8') === 'aborted ExecutorError TIMEOUT\n', 'told')
  await peer.send('now\n').hears('now false\n')
  peer.leave()
  await server.stop()
  await end(node)
})

clusterTest('affinity: a connection keeps its node; a key shares one; none takes any', async () => {
  const args = ['--handler', `${handlers}#Where`]
  const nodes = await Promise.all([1, 2].map(() => startNode({ cluster: 'affinity', args })))
  const pids = new Set(nodes.map(({ pid }) => pid))
  const ask = async (peer: Peer, times: number) => {
    const from = peer.heard.length
    for (let i = 1; i <= times; i++) {
      peer.send('where\n')
      await eventually(() => peer.heard.slice(from).split('\n').length > i, 'told')
    }
    return peer.heard
      .slice(from)
      .trim()
      .split('\n')
      .map((line) => Number(line.split('/')[0]))
  }
  const start = async (more: object) => {
    const watched = await serve({ handler: `${handlers}#Where`, executor: cluster('affinity', more) })
    await eventually(() => placesOf(watched).filter(({ state }) => state === 'ready').length === 2, 'two nodes')
    return watched
  }
  const kept = await start({})
  const [one, two] = [await Peer.open(kept.port), await Peer.open(kept.port)]
  const [first, second] = [new Set(await ask(one, 5)), new Set(await ask(two, 5))]
  assert.equal([first.size, second.size], [1, 1])
  assert.equal(new Set([...first, ...second]), pids)
  one.leave()
  two.leave()
  await kept.server.stop()

  const keyed = await start({ affinity: () => 'one for all' })
  const peers = await Promise.all(Array.from({ length: 6 }, () => Peer.open(keyed.port)))
  const all = new Set((await Promise.all(peers.map((peer) => ask(peer, 2)))).flat())
  assert.is(all.size, 1)
  for (const peer of peers) peer.leave()
  await keyed.server.stop()

  const any = await start({ affinity: 'none' })
  const many = await Promise.all(Array.from({ length: 12 }, () => Peer.open(any.port)))
  const taken = new Set((await Promise.all(many.map((peer) => ask(peer, 10)))).flat())
  assert.equal(taken, pids)
  for (const peer of many) peer.leave()
  await any.server.listeners.get('default')?.waitForConnections(0)
  await eventually(() => placesOf(any).every(({ connections }) => connections === 0), 'seats are given back')
  await any.server.stop()
  await end(...nodes)
})

for (const executor of ['inline', 'thread-pool']) {
  clusterTest(`a single method on the cluster, under ${executor} there: hooks stay where the rest is`, async () => {
    const ledger = join(folder, `shared-${executor}`)
    writeFileSync(ledger, '')
    const name = `shared-${executor}`
    const node = await startNode({
      cluster: name,
      args: ['--handler', `${handlers}#Shared`, '--executor', executor],
      env: { LEDGER: ledger },
    })
    const watched = await serve({
      handler: `${handlers}#Shared`,
      protocol: 'json-rpc',
      cluster: { servers: nats.url, name, lostMs: 20_000 },
    })
    const peer = await Peer.open(watched.port)
    for (const [id, method] of ['near', 'far', 'far', 'near'].entries()) {
      peer.send(`${JSON.stringify({ jsonrpc: '2.0', id, method })}\n`)
      await eventually(() => peer.heard.split('\n').length === id + 2, 'answered')
    }
    const at = peer.heard
      .trim()
      .split('\n')
      .map((line) => Number(JSON.parse(line).result.at.split('/')[0]))
    assert.equal(at, [process.pid, node.pid, node.pid, process.pid])
    assert.is(placesOf(watched)[0]?.connections, 1)
    peer.leave()
    await watched.server.listeners.get('default')?.waitForConnections(0)
    await eventually(() => placesOf(watched)[0]?.connections === 0, 'its seat is given back')
    assert.is(readFileSync(ledger, 'utf8'), '', 'no close hook over there')
    await watched.server.stop()
    await end(node)
  })
}

clusterTest('plain hooks travel by name, wherever their module lies', async () => {
  const configuration = (place: string, who: string) => {
    writeFileSync(join(place, 'hooks.mjs'), `export const answer = (request) => '${who} ' + request`)
    writeFileSync(
      join(place, 'gaidaros.config.json'),
      JSON.stringify({
        listen: 'tcp://127.0.0.1:0',
        hooks: { module: './hooks.mjs', handleRequest: 'answer' },
        executor: 'cluster',
        cluster: { servers: nats.url, name: 'hooks' },
      }),
    )
    return join(place, 'gaidaros.config.json')
  }
  const [there, here] = ['there', 'here'].map((who) => configuration(mkdtempSync(join(folder, `${who}-`)), who))
  const node = gaidaros(['node', '--config', there as string], { cwd: '/', limitMs: 60_000 })
  await node.shows(/^ready$/m)
  const server = gaidaros(['serve', '--config', here as string], { cwd: folder, limitMs: 60_000 })
  const { default: port = 0 } = await server.ready()
  const peer = await Peer.open(port)
  await peer.send('hello\n').hears('there hello')
  peer.leave()
  await end(server, node)
})

clusterTest('what is configured: names by flag and environment, secrets hidden, faults named', async () => {
  const shown = gaidaros(['config', '--cluster', nats.url, '--set', 'cluster.user=gus'], {
    cwd: folder,
    env: { GAIDAROS_CLUSTER__PASSWORD: '12345678', GAIDAROS_CLUSTER__NAME: 'eu' },
  })
  assert.is(await shown.ended, 0, shown.stderr)
  assert.match(shown.stdout, /cluster\.name.*eu/)
  assert.not.match(shown.stdout, /12345678/)
  for (const [args, why] of [
    [['--executor', 'cluster'], /node\.executor: a node runs handlers itself/],
    [['--set', 'node.nam=x'], /nearest: `name`/],
    [['--set', 'cluster.heartbeat=1'], /unknown option; nearest: `heartbeatMs`/],
    [['--handler', './missing.ts'], /there is no file .*missing\.ts/],
    [['--listen', 'tcp://x:1'], /unknown option --listen/],
  ] as const) {
    const node = gaidaros(['node', '--cluster', nats.url, ...args], { cwd: folder })
    assert.is(await node.ended, 2, node.stdout + node.stderr)
    assert.match(node.stderr, why)
  }
})

test.after(() => endAll(folder))
test.run()
