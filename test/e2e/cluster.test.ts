// time limit: 240 s
/** A cluster over a real NATS: front and nodes give the same transcripts as inline, keep order, and say what they do. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type NamedExecutor } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Command, gaidaros, root } from '../support/command.js'
import { eventually, Peer, serve } from '../support/faults.js'
import { endAll, type NatsServer, noNats, startNats } from '../support/nats.js'
import { skip } from '../support/skip.js'

const handlers = join(root, 'test/fixtures/placed-handlers.ts')
const everywhere = join(root, 'test/fixtures/everywhere-handlers.ts')
const folder = mkdtempSync(join(tmpdir(), 'gc-'))
let nats: NatsServer
const patient = { lostMs: 20_000 }

const clusterTest = (name: string, run: () => Promise<void>) =>
  test(name, async () => {
    if (noNats !== undefined) return skip(name, noNats)
    nats ??= await startNats()
    await run()
  })

/** A node with one handler of the fixtures. */
async function startNode(name: string, handler: string, ...args: string[]): Promise<Command> {
  const command = gaidaros(
    [
      'node',
      '--cluster',
      nats.url,
      '--set',
      `cluster.name=${name}`,
      '--set',
      'cluster.lostMs=20000',
      '--handler',
      handler.includes('#') ? handler : `${handlers}#${handler}`,
      ...args,
    ],
    { limitMs: 150_000 },
  )
  await command.shows(/^ready$/m)
  return command
}

async function end(command: Command): Promise<void> {
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0, command.stderr)
}

const cluster = (name: string, more: object = {}): NamedExecutor =>
  ({ type: 'cluster', servers: nats.url, name, ...patient, ...more }) as NamedExecutor

/** What a client hears of one script: hooks, attributes, iterables, errors, late replies. */
async function transcript(executor: NamedExecutor): Promise<string[]> {
  const { server } = await serve({ listen: 'tcp://127.0.0.1:0', handler: `${handlers}#Talker`, executor })
  const client = await connect([...server.listeners][0]?.endpoint as never)
  const heard: string[] = []
  const listening = (async () => {
    for await (const line of client.messages()) heard.push(line as string)
  })()
  for (const line of ['hello', 'items 40', 'late', 'push 5', 'refuse him', 'raw', 'last']) await client.send(line)
  await eventually(() => heard.some((line) => line.endsWith(' LAST')), `the last line by ${JSON.stringify(executor)}`)
  client.end()
  await client.closed
  await listening
  await server.stop()
  return heard
}

clusterTest(
  'F120 records that a stranger publishes again, at once and late, are ignored: answered once, in order, the link kept',
  async () => {
    const node = await startNode('again', 'Talker')
    const { connect: dial } = await import('@nats-io/transport-node')
    const stranger = await dial({ servers: nats.url.replace('nats://', '') })
    let published = 0
    const seen: { subject: string; data: Uint8Array; reply: string | undefined }[] = []
    const own = new Set<string>()
    const watching = stranger.subscribe('gai.again.>', {
      callback: (_, { subject, data, reply }) => {
        // What it has published itself comes to it as well.
        const key = `${subject} ${Buffer.from(data).toString('latin1')}`
        if (own.delete(key)) return
        seen.push({ subject, data: Uint8Array.from(data), reply })
        const again = (at: number) => {
          const one = seen[at] as (typeof seen)[number]
          own.add(`${one.subject} ${Buffer.from(one.data).toString('latin1')}`)
          stranger.publish(
            one.subject,
            one.data,
            one.reply === undefined || one.reply === '' ? undefined : { reply: one.reply },
          )
          published++
        }
        again(seen.length - 1)
        if (seen.length % 5 === 0) again(Math.floor(seen.length / 2))
      },
    })
    await stranger.flush()
    const { port, count } = await serve({
      handler: `${handlers}#Talker`,
      executor: cluster('again', { lostMs: 2_000 }),
    })
    const peers = await Promise.all(Array.from({ length: 8 }, () => Peer.open(port)))
    const expected = `welcome over tcp from default\n${Array.from({ length: 50 }, (_, i) => `${i + 1} X\n`).join('')}`
    await Promise.all(
      peers.map(async (peer) => {
        for (let i = 0; i < 50; i++) {
          peer.send('x\n')
          await peer.hears(`${i + 1} X\n`)
        }
        assert.is(peer.heard, expected)
      }),
    )
    // Two signs of life later, with those of before repeated.
    await new Promise((resolve) => setTimeout(resolve, 2_500))
    for (const peer of peers) {
      peer.heard = ''
      await peer.send('x\n').hears('51 X\n')
      assert.is(peer.heard, '51 X\n')
      peer.leave()
    }
    assert.is(count('executor.lost'), 0)
    assert.ok(published > 100, `${published} records were published again`)
    watching.unsubscribe()
    await stranger.close()
    await end(node)
  },
)

clusterTest(
  'each of two server processes is a front: connections of both are handled, and operators see both',
  async () => {
    const node = await startNode('two', `${everywhere}#Where`)
    const control = join(folder, 'two.sock')
    const executor = JSON.stringify(cluster('two'))
    const args = ['serve', '--listen', 'tcp://127.0.0.1:0', '--workers', '2', '--control', control]
    const command = gaidaros([...args, '--handler', `${everywhere}#Where`, '--set', `executor=${executor}`], {
      limitMs: 150_000,
    })
    const { default: port = 0 } = await command.ready()
    const peers: Peer[] = []
    for (let i = 0; i < 8; i++) peers.push(await Peer.open(port))
    for (const peer of peers) for (let i = 0; i < 20; i++) peer.send('where\n')
    for (const peer of peers) await eventually(() => peer.heard.split('\n').length === 21, 'all are answered', 60_000)
    // By the node's process, whichever worker they came through.
    for (const peer of peers) assert.match(peer.heard, new RegExp(`^(${node.child.pid}/\\d+\n){20}$`))
    const asked = gaidaros(['status', '--json', '--control', control])
    assert.is(await asked.ended, 0)
    const status = JSON.parse(asked.stdout)
    assert.equal(
      status.workers.map(({ connections }: { connections: number }) => connections),
      [4, 4],
    )
    const places = status.executors.flatMap((one: { places: { name: string }[] }) => one.places.map(({ name }) => name))
    assert.is(new Set(places.map((name: string) => name.split('/')[0])).size, 2, places.join())
    for (const peer of peers) peer.leave()
    await end(command)
    await end(node)
  },
)

clusterTest('the same transcript as inline, under every executor a node may have', async () => {
  const expected = await transcript('inline')
  assert.is(expected.at(-1), 'after 7')
  for (const executor of ['inline', 'task', 'thread-pool', 'process-pool']) {
    const node = await startNode(`talk-${executor}`, 'Talker', '--executor', executor)
    assert.match(node.stdout, new RegExp(`^joined talk-${executor} as [\\w-]+\nready\n$`))
    assert.equal(await transcript(cluster(`talk-${executor}`)), expected, executor)
    await end(node)
  }
})

clusterTest('order is kept over 200 connections and two nodes, which share them', async () => {
  const nodes = await Promise.all(['a', 'b'].map((name) => startNode('order', 'Numbers', '--name', name)))
  const { port, server } = await serve({ handler: `${handlers}#Numbers`, executor: cluster('order') })
  const places = () => server.listeners.get('default')?.plan.executors[0]?.load().places ?? []
  await eventually(() => places().filter(({ state }) => state === 'ready').length === 2, 'two nodes')
  const peers = await Promise.all(Array.from({ length: 200 }, () => Peer.open(port)))
  const lines = Array.from({ length: 50 }, (_, i) => `${i}\n`)
  for (const line of lines) for (const peer of peers) peer.send(line)
  for (const peer of peers) await peer.hears('\n49\n')
  for (const peer of peers) assert.is(peer.heard, lines.join(''))
  const shares = places().map(({ connections }) => connections)
  assert.is(shares[0]! + shares[1]!, 200)
  assert.ok(Math.min(...shares) >= 80, `shared ${shares.join(' to ')}`)
  for (const peer of peers) peer.leave()
  await server.listeners.get('default')?.waitForConnections(0)
  await eventually(() => places().every(({ connections }) => connections === 0), 'seats are given back')
  for (const node of nodes) await end(node)
})

clusterTest('a message over what NATS takes travels in pieces, there and back', async () => {
  const file = join(folder, 'large.mjs')
  writeFileSync(file, `export default (message) => Buffer.concat([message, Buffer.from('!')])`)
  const node = gaidaros(
    ['node', '--cluster', nats.url, '--set', 'cluster.name=large', '--set', 'cluster.lostMs=20000', '--handler', file],
    { limitMs: 60_000 },
  )
  await node.shows(/^ready$/m)
  const { server } = await serve({
    handler: file,
    codec: 'length-field',
    limits: { frameBytes: 8 * 1024 * 1024, writeHardBytes: 64 * 1024 * 1024 },
    executor: cluster('large'),
  })
  const client = await connect([...server.listeners][0]?.endpoint as never, {
    codec: 'length-field',
    limits: { frameBytes: 8 * 1024 * 1024 },
  })
  for (const size of [3 * 1024 * 1024, 1024 * 1024, 128 * 1024, 1]) {
    const message = Buffer.alloc(size, `${size} `)
    const reply = await client.request<Buffer>(message, { timeoutMs: 20_000 })
    assert.ok(Buffer.concat([message, Buffer.from('!')]).equals(reply), `${size} bytes`)
  }
  await client.close()
  await server.stop()
  await end(node)
})

clusterTest(
  'a node that drains takes nobody new; its connections finish and move on, or end with a reason',
  async () => {
    for (const whenLost of ['reopen', 'close'] as const) {
      const name = `drain-${whenLost}`
      const first = await startNode(name, 'Breaker')
      const { port, server, until, count } = await serve({
        handler: `${handlers}#Breaker`,
        executor: cluster(name, { whenLost }),
      })
      const peer = await Peer.open(port)
      await peer.send('one\n').hears('one\n')
      const second = await startNode(name, 'Breaker')
      const places = () => server.listeners.get('default')?.plan.executors[0]?.load().places ?? []
      await eventually(() => places().filter(({ state }) => state === 'ready').length === 2, 'two nodes')
      const busy = await Peer.open(port)
      // The second is the less busy one.
      await busy.send('one\n').hears(`${second.pid} one\n`)
      await end(first)
      assert.is(count('executor.lost'), 0, 'it left in order')
      await busy.send('two\n').hears(`${second.pid} two\n`)
      if (whenLost === 'reopen') await peer.send('two\n').hears(`${second.pid} two\n`)
      else {
        const { reason } = await until('connection.closed')
        assert.is(reason.code, 'LOST')
        await peer.over
      }
      busy.leave()
      peer.leave()
      await server.stop()
      await end(second)
    }
  },
)

clusterTest('a message that is being handled when the node drains is answered first', async () => {
  const node = await startNode('finish', 'Breaker')
  const { port, until, server } = await serve({ handler: `${handlers}#Breaker`, executor: cluster('finish') })
  const peer = await Peer.open(port)
  await peer.send('hello\n').hears('hello\n')
  peer.send('wait 700\n')
  const { executors } = server.listeners.get('default')?.plan ?? {}
  await eventually(() => executors?.[0]?.load().running === 1, 'it is there')
  node.child.kill('SIGTERM')
  await peer.hears('wait 700\n')
  await until('connection.closed', ({ reason }) => reason.code === 'LOST')
  assert.is(await node.ended, 0)
})

clusterTest('status shows the nodes and their load', async () => {
  const control = join(folder, 'c.sock')
  const node = await startNode('status', 'Breaker', '--name', 'alpha')
  const server = gaidaros(
    [
      'serve',
      '--listen',
      'tcp://127.0.0.1:0',
      '--handler',
      `${handlers}#Breaker`,
      '--executor',
      'cluster',
      '--cluster',
      nats.url,
      '--set',
      'cluster.name=status',
      '--control',
      control,
    ],
    { limitMs: 60_000 },
  )
  const { default: port = 0 } = await server.ready()
  const peer = await Peer.open(port)
  await peer.send('hello\n').hears('hello\n')
  const status = gaidaros(['status', '--control', control])
  assert.is(await status.ended, 0, status.stderr)
  assert.match(status.stdout, /^cluster +default +0 +0/m)
  assert.match(status.stdout, /^ +node alpha-[\w-]+ +ready +0 +1 done +[\d.]+ MiB/m)
  const json = gaidaros(['status', '--json', '--control', control])
  assert.is(await json.ended, 0)
  const { executors } = JSON.parse(json.stdout)
  assert.is(executors[0].name, 'cluster')
  assert.is(executors[0].isConnected, true)
  assert.is(executors[0].places[0].connections, 1)
  peer.leave()
  await end(server)
  await end(node)
})

clusterTest(
  'the same configuration elsewhere: handlers are found by their place relative to it, or by name',
  async () => {
    // Two copies in two folders, as on two machines; neither path exists for the other.
    const text = (who: string) => `export const Echo = (line) => '${who} ' + line`
    const configuration = {
      listen: 'tcp://127.0.0.1:0',
      handler: './src/echo.mjs#Echo',
      executor: { type: 'cluster', ...patient },
      cluster: { servers: nats.url, name: 'copies' },
    }
    const [here, there] = ['here', 'there'].map((who) => {
      const place = mkdtempSync(join(folder, `${who}-`))
      writeFileSync(join(place, 'gaidaros.config.json'), JSON.stringify(configuration))
      mkdirSync(join(place, 'src'))
      writeFileSync(join(place, 'src/echo.mjs'), text(who))
      return place
    }) as [string, string]
    const node = gaidaros(['node', '--config', join(there, 'gaidaros.config.json')], { cwd: tmpdir(), limitMs: 60_000 })
    await node.shows(/^ready$/m)
    const server = gaidaros(['serve', '--config', join(here, 'gaidaros.config.json')], { cwd: '/', limitMs: 60_000 })
    const { default: port = 0 } = await server.ready()
    const peer = await Peer.open(port)
    await peer.send('hello\n').hears('there hello\n')
    peer.leave()
    await end(server)
    await end(node)
  },
)

clusterTest('a handler that the node has not is refused there, whatever the server names', async () => {
  const node = await startNode('strange', 'Breaker')
  const server = gaidaros(
    [
      'serve',
      '--listen',
      'tcp://127.0.0.1:0',
      '--eval',
      'line => process.exit(1)',
      '--executor',
      'cluster',
      '--cluster',
      nats.url,
      '--set',
      'cluster.name=strange',
    ],
    { limitMs: 60_000 },
  )
  const { default: port = 0 } = await server.ready()
  await server.shows(/this node's configuration has no handler --eval with this text; it has: Breaker/)
  const peer = await Peer.open(port)
  peer.send('hello\n')
  await peer.over
  assert.is(node.child.exitCode, null)
  await end(server)
  await end(node)
})

clusterTest('example 33: two nodes with thread pools; one is killed, and its peers go on with the other', async () => {
  const file = join(root, 'examples/33-cluster/gaidaros.config.json')
  const common = ['--config', file, '--cluster', nats.url]
  const nodes = [1, 2].map(() => gaidaros(['node', ...common], { cwd: folder, limitMs: 60_000 })) as [Command, Command]
  for (const node of nodes) await node.shows(/^joined primes as \S+\nready$/m)
  const server = gaidaros(['serve', ...common, '--listen', 'tcp://127.0.0.1:0'], { cwd: folder, limitMs: 60_000 })
  const { default: port = 0 } = await server.ready()
  const peer = await Peer.open(port)
  await peer.send('1000\n').hears('168 primes below 1000, counted by process ')
  await peer.send('x\n').hears('please\n')
  const pid = Number(/process (\d+)/.exec(peer.heard)?.[1])
  const [victim, other] = nodes[0].pid === pid ? nodes : nodes.toReversed()
  assert.is(victim?.pid, pid)
  process.kill(pid, 'SIGKILL')
  await server.shows(/executor\.lost/)
  await peer.send('100000\n').hears(`9592 primes below 100000, counted by process ${other?.pid}\n`)
  peer.leave()
  await end(server)
  await end(other as Command)
})

test.after(() => endAll(folder))
test.run()
