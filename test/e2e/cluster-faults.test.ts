// time limit: 400 s
/**
 * Nodes, servers and NATS that end, hang or are cut off, with a ledger: acknowledged ⊆ handled ⊆ sent, nothing doubled, and
 * what is not known stands on connections that were closed with a reason (F90, F91, F92, F94).
 */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, connect as dial, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectNats } from '@nats-io/transport-node'
import { connect, type NamedExecutor } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Command, gaidaros, root } from '../support/command.js'
import { eventually, Peer, serve, type Watched } from '../support/faults.js'
import { endAll, noNats, startNats } from '../support/nats.js'
import { skip } from '../support/skip.js'

const handlers = join(root, 'test/fixtures/cluster-handlers.mjs')
const folder = mkdtempSync(join(tmpdir(), 'gf-'))
let files = 0

const natsTest = (name: string, run: () => Promise<void>) =>
  test(name, async () => (noNats === undefined ? run() : skip(name, noNats)))

interface NodeOptions {
  readonly url: string
  readonly ledger: string
  readonly handler?: string
  readonly more?: Readonly<Record<string, string | number>>
}

async function startNode({ url, ledger, handler = 'Ledger', more = {} }: NodeOptions): Promise<Command> {
  const sets = Object.entries(more).flatMap(([key, value]) => ['--set', `cluster.${key}=${value}`])
  const command = gaidaros(['node', '--cluster', url, '--handler', `${handlers}#${handler}`, ...sets], {
    limitMs: 200_000,
    env: { LEDGER: ledger },
  })
  await command.shows(/^ready$/m)
  return command
}

const newLedger = () => {
  const path = join(folder, `ledger-${++files}`)
  writeFileSync(path, '')
  return path
}
const cluster = (servers: string, more: object = {}): NamedExecutor => ({ type: 'cluster', servers, ...more })
const placesOf = ({ server }: Watched) => server.listeners.get('default')?.plan.executors[0]?.load().places ?? []
const nodesReady = (watched: Watched, count: number) =>
  eventually(() => placesOf(watched).filter(({ state }) => state === 'ready').length === count, `${count} nodes`)

/** Peers that send numbered lines, one under way each, and begin anew when they are cut. */
class Load {
  readonly sent = new Set<string>()
  readonly acked = new Set<string>()
  readonly unknown = new Set<string>()
  doubled = 0
  disordered = 0
  #isOver = false
  #runs: Promise<void>[] = []

  constructor(
    readonly port: number,
    peers: number,
  ) {
    for (let i = 0; i < peers; i++) this.#runs.push(this.#run(i))
  }

  async #run(peer: number): Promise<void> {
    for (let life = 0; !this.#isOver; life++) await this.#live(`${peer}-${life}`)
  }

  async #live(id: string): Promise<void> {
    let underWay: string | undefined
    await new Promise<void>((resolve) => {
      const socket = dial(this.port, '127.0.0.1')
      let seq = 0
      let held = ''
      const next = () => {
        if (this.#isOver) return void socket.destroy()
        underWay = `${id} ${seq++}`
        this.sent.add(underWay)
        socket.write(`${underWay}\n`)
      }
      socket.setEncoding('utf8').on('connect', next)
      socket.on('data', (chunk: string) => {
        held += chunk
        const lines = held.split('\n')
        held = lines.pop() as string
        for (const line of lines) {
          if (this.acked.has(line)) this.doubled++
          if (line !== underWay) this.disordered++
          this.acked.add(line)
          underWay = undefined
          next()
        }
      })
      socket.on('error', () => {}).on('close', () => resolve())
    })
    if (underWay !== undefined && !this.acked.has(underWay)) this.unknown.add(underWay)
    if (underWay !== undefined) await new Promise((resolve) => setTimeout(resolve, 20))
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#runs)
  }

  /** Holds it against what the handlers wrote down. */
  check(ledger: string): { readonly handled: Set<string> } {
    const lines = readFileSync(ledger, 'utf8').split('\n')
    const all = lines.filter((line) => line.startsWith('handled ')).map((line) => line.slice(8))
    const handled = new Set(all)
    assert.is(handled.size, all.length, 'nothing was handled twice')
    assert.is(this.doubled, 0, 'nothing was acknowledged twice')
    assert.is(this.disordered, 0, 'replies in order')
    for (const line of this.acked) assert.ok(handled.has(line), `${line} was acknowledged and not handled`)
    for (const line of handled) assert.ok(this.sent.has(line), `${line} was handled and not sent`)
    assert.is(this.sent.size, this.acked.size + this.unknown.size)
    return { handled }
  }
}

/** Every connection that was cut has a reason of its own. */
function reasons({ seen }: Watched): Map<string, number> {
  const counted = new Map<string, number>()
  for (const { name, event } of seen) {
    if (name !== 'connection.closed') continue
    const { code } = (event as { reason: { code: string } }).reason
    counted.set(code, (counted.get(code) ?? 0) + 1)
  }
  return counted
}

for (const whenLost of ['close', 'reopen'] as const) {
  natsTest(`F92 nodes killed under load, policy ${whenLost}: the ledger holds`, async () => {
    const nats = await startNats()
    const ledger = newLedger()
    const node = () => startNode({ url: nats.url, ledger })
    let nodes = [await node(), await node()]
    const watched = await serve({ handler: `${handlers}#Ledger`, executor: cluster(nats.url, { whenLost }) })
    await nodesReady(watched, 2)
    const idle = await Peer.open(watched.port)
    const load = new Load(watched.port, 40)
    for (let round = 0; round < 4; round++) {
      const before = load.acked.size
      await eventually(() => load.acked.size > before + 500, 'work goes on', 20_000)
      const [victim, other] = nodes as [Command, Command]
      process.kill(victim.pid, 'SIGKILL')
      await watched.until('executor.lost')
      nodes = [other, await node()]
      await nodesReady(watched, 2)
    }
    await load.stop()
    load.check(ledger)
    assert.ok(load.unknown.size > 0 && load.unknown.size <= 4 * 40, `${load.unknown.size} unknown`)
    const counted = reasons(watched)
    assert.ok((counted.get('LOST') ?? 0) >= load.unknown.size - 40, JSON.stringify([...counted]))
    // Of those that had nothing under way: `reopen` lost none.
    if (whenLost === 'reopen') {
      assert.not.ok(idle.isOver)
      await idle.send('idle 1\n').hears('idle 1\n')
    }
    idle.leave()
    await watched.server.stop({ timeoutMs: 0 })
    for (const one of nodes) process.kill(one.pid, 'SIGTERM')
    for (const one of nodes) assert.is(await one.ended, 0)
    await nats.kill()
  })
}

natsTest(
  'F90 NATS killed under load, `fail`: everything under way is LOST within two seconds, and it goes on when it is back',
  async () => {
    let nats = await startNats()
    const ledger = newLedger()
    const node = await startNode({ url: nats.url, ledger })
    const watched = await serve({ handler: `${handlers}#Ledger`, executor: cluster(nats.url) })
    await nodesReady(watched, 1)
    const load = new Load(watched.port, 30)
    await eventually(() => load.acked.size > 500, 'work goes on')
    await nats.kill()
    const killed = performance.now()
    const { error } = await watched.until('executor.lost')
    const took = performance.now() - killed
    console.log(`# everything under way was LOST ${Math.round(took)} ms after the kill`)
    assert.match(error.message, /NATS has been away/)
    // Refused at once from then on.
    const peer = await Peer.open(watched.port)
    await peer.over
    await eventually(() => (reasons(watched).get('LOST') ?? 0) > 30, 'each with its reason')
    nats = await nats.restart()
    const before = load.acked.size
    await eventually(() => load.acked.size > before + 500, 'work goes on again', 20_000)
    await load.stop()
    load.check(ledger)
    await watched.server.stop({ timeoutMs: 0 })
    node.child.kill('SIGTERM')
    assert.is(await node.ended, 0, node.stderr)
    await nats.kill()
  },
)

natsTest('F90 NATS killed, `wait`: messages wait, `queue` of them, more are refused; nothing is lost', async () => {
  let nats = await startNats()
  const ledger = newLedger()
  const more = { whenDown: 'wait', lostMs: 20_000 }
  const node = await startNode({ url: nats.url, ledger, more })
  const watched = await serve({ handler: `${handlers}#Ledger`, executor: cluster(nats.url, { ...more, queue: 20 }) })
  await nodesReady(watched, 1)
  const peers = await Promise.all(Array.from({ length: 20 }, () => Peer.open(watched.port)))
  for (const [i, peer] of peers.entries()) await peer.send(`${i} before\n`).hears('before\n')
  await nats.kill()
  await eventually(
    () => watched.server.listeners.get('default')?.plan.executors[0]?.load().isConnected === false,
    'noticed',
  )
  for (const [i, peer] of peers.entries()) peer.send(`${i} meanwhile\n`)
  await eventually(() => watched.server.listeners.get('default')?.plan.executors[0]?.load().running === 20, 'they wait')
  const extra = await Peer.open(watched.port)
  extra.send('one too many\n')
  const { reason } = await watched.until('connection.closed')
  assert.is(reason.code, 'OVERLOADED')
  await new Promise((resolve) => setTimeout(resolve, 2_500))
  nats = await nats.restart()
  for (const peer of peers) await peer.hears('meanwhile\n')
  for (const [i, peer] of peers.entries()) await peer.send(`${i} after\n`).hears('after\n')
  assert.is(watched.count('executor.lost'), 0)
  assert.equal(
    readFileSync(ledger, 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('handled')).length,
    60,
  )
  for (const peer of peers) peer.leave()
  await watched.server.stop()
  node.child.kill('SIGTERM')
  assert.is(await node.ended, 0, node.stderr)
  await nats.kill()
})

for (const whenDown of ['fail', 'wait'] as const) {
  natsTest(
    `F90 NATS killed again and again under load and back at once, policy ${whenDown}: the ledger holds`,
    async () => {
      let nats = await startNats()
      const ledger = newLedger()
      const more = { whenDown, lostMs: 20_000 }
      const node = await startNode({ url: nats.url, ledger, more })
      const watched = await serve({
        handler: `${handlers}#Ledger`,
        executor: cluster(nats.url, { ...more, timeoutMs: 15_000 }),
      })
      await nodesReady(watched, 1)
      const load = new Load(watched.port, 30)
      for (let round = 0; round < 5; round++) {
        const before = load.acked.size
        await eventually(() => load.acked.size > before + 300, 'work goes on', 20_000)
        await nats.kill()
        nats = await nats.restart()
      }
      const before = load.acked.size
      await eventually(() => load.acked.size > before + 300, 'work goes on', 20_000)
      await load.stop()
      load.check(ledger)
      const counted = reasons(watched)
      // Each that was cut with something under way says why.
      assert.ok((counted.get('LOST') ?? 0) >= load.unknown.size - 30, JSON.stringify([...counted]))
      for (const code of counted.keys()) assert.ok(['LOST', 'RESET', 'PEER_ENDED', 'ENDED'].includes(code), code)
      await watched.server.stop({ timeoutMs: 0 })
      node.child.kill('SIGTERM')
      assert.is(await node.ended, 0, node.stderr)
      await nats.kill()
    },
  )
}

natsTest('with `wait`, a server may start before its first node', async () => {
  const nats = await startNats()
  const watched = await serve({ handler: `${handlers}#Ledger`, executor: cluster(nats.url, { whenDown: 'wait' }) })
  const peers = await Promise.all(Array.from({ length: 5 }, () => Peer.open(watched.port)))
  for (const [i, peer] of peers.entries()) peer.send(`${i} early\n`)
  await watched.until('connection.opened')
  const node = await startNode({ url: nats.url, ledger: newLedger() })
  for (const [i, peer] of peers.entries()) await peer.hears(`${i} early\n`)
  for (const peer of peers) peer.leave()
  await watched.server.stop()
  node.child.kill('SIGTERM')
  assert.is(await node.ended, 0)
  await nats.kill()
})

natsTest('a server that is killed: its node releases every seat, and is there for the next one', async () => {
  const nats = await startNats()
  const ledger = newLedger()
  const node = await startNode({ url: nats.url, ledger })
  const start = () =>
    gaidaros(
      [
        'serve',
        '--listen',
        'tcp://127.0.0.1:0',
        '--handler',
        `${handlers}#Ledger`,
        '--executor',
        'cluster',
        '--cluster',
        nats.url,
      ],
      {
        env: { LEDGER: ledger },
      },
    )
  const first = start()
  const { default: port = 0 } = await first.ready()
  const peers = await Promise.all(Array.from({ length: 10 }, () => Peer.open(port)))
  for (const [i, peer] of peers.entries()) await peer.send(`${i} x\n`).hears('x\n')
  process.kill(first.pid, 'SIGKILL')
  const closed = () =>
    readFileSync(ledger, 'utf8')
      .split('\n')
      .filter((line) => /^close \w+ LOST$/.test(line)).length
  await eventually(() => closed() === 10, 'ten close hooks')
  const second = start()
  const { default: next = 0 } = await second.ready()
  const peer = await Peer.open(next)
  await peer.send('again 1\n').hears('again 1\n')
  peer.leave()
  for (const one of [second, node]) {
    one.child.kill('SIGTERM')
    assert.is(await one.ended, 0, one.stderr)
  }
  await nats.kill()
})

natsTest(
  'a node that hangs is lost by its silence; when it wakes it gives up what it had, and is used again',
  async () => {
    const nats = await startNats()
    const ledger = newLedger()
    const more = { lostMs: 700, heartbeatMs: 100 }
    const node = await startNode({ url: nats.url, ledger, more })
    const watched = await serve({ handler: `${handlers}#Ledger`, executor: cluster(nats.url, more) })
    await nodesReady(watched, 1)
    const peer = await Peer.open(watched.port)
    await peer.send('a 1\n').hears('a 1\n')
    process.kill(node.pid, 'SIGSTOP')
    const { error } = await watched.until('executor.lost')
    assert.match(error.message, /silent for/)
    await peer.over
    process.kill(node.pid, 'SIGCONT')
    await eventually(() => /^close \w+ LOST$/m.test(readFileSync(ledger, 'utf8')), 'its seat is given up there')
    await nodesReady(watched, 1)
    const next = await Peer.open(watched.port)
    await next.send('a 2\n').hears('a 2\n')
    next.leave()
    await watched.server.stop()
    node.child.kill('SIGTERM')
    assert.is(await node.ended, 0)
    await nats.kill()
  },
)

/** A wire that can be cut without either end being told. */
async function wireTo(port: number) {
  const pairs = new Set<[Socket, Socket]>()
  let isCut = false
  const server = createServer((near) => {
    const far = dial(port, '127.0.0.1')
    const pair: [Socket, Socket] = [near, far]
    pairs.add(pair)
    const pass = (from: Socket, to: Socket) => {
      from.on('data', (chunk) => isCut || to.write(chunk))
      from.on('error', () => {})
      from.on('close', () => {
        pairs.delete(pair)
        if (!isCut) to.destroy()
      })
    }
    pass(near, far)
    pass(far, near)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port: own } = server.address() as { port: number }
  return {
    url: `nats://127.0.0.1:${own}`,
    cut() {
      isCut = true
    },
    heal() {
      isCut = false
      // What was swallowed is gone: these connections are of no use any more.
      for (const [near, far] of pairs) {
        near.destroy()
        far.destroy()
      }
    },
    close() {
      server.close()
      for (const [near, far] of pairs) {
        near.destroy()
        far.destroy()
      }
    },
  }
}

natsTest(
  'F94 a node cut off from NATS: lost by both sides, nothing doubled, and back when the wire heals',
  async () => {
    const nats = await startNats()
    const wire = await wireTo(nats.port)
    const ledger = newLedger()
    const more = { lostMs: 700, heartbeatMs: 100 }
    const [far, near] = [
      await startNode({ url: wire.url, ledger, more }),
      await startNode({ url: nats.url, ledger, more }),
    ]
    const watched = await serve({
      handler: `${handlers}#Ledger`,
      executor: cluster(nats.url, { ...more, whenLost: 'reopen' }),
    })
    await nodesReady(watched, 2)
    const load = new Load(watched.port, 20)
    await eventually(() => load.acked.size > 300, 'work goes on')
    wire.cut()
    await watched.until('executor.lost')
    const before = load.acked.size
    await eventually(() => load.acked.size > before + 300, 'on the other node', 20_000)
    wire.heal()
    await nodesReady(watched, 2)
    await load.stop()
    load.check(ledger)
    await watched.server.stop({ timeoutMs: 0 })
    for (const one of [far, near]) {
      one.child.kill('SIGTERM')
      assert.is(await one.ended, 0, one.stderr)
    }
    wire.close()
    await nats.kill()
  },
)

natsTest('F91 a server that may hold little for a slow reader, and small payloads: floods arrive whole', async () => {
  const nats = await startNats('max_payload: 16KB\nmax_pending: 256KB\nwrite_deadline: "2s"')
  const more = { windowBytes: 65_536, lostMs: 20_000 }
  const node = await startNode({ url: nats.url, ledger: newLedger(), handler: 'Flood', more })
  const watched = await serve({
    handler: `${handlers}#Flood`,
    limits: { lineBytes: 200_000, frameBytes: 200_000 },
    executor: cluster(nats.url, more),
  })
  const clients = await Promise.all(
    Array.from({ length: 4 }, () =>
      connect([...watched.server.listeners][0]?.endpoint as never, {
        limits: { lineBytes: 200_000, frameBytes: 200_000 },
      }),
    ),
  )
  await Promise.all(
    clients.map(async (client) => {
      await client.send('300 50000')
      let expected = 0
      for await (const line of client.messages()) {
        assert.ok((line as string).startsWith(`${expected} x`))
        assert.is((line as string).length, String(expected).length + 1 + 50_000)
        // Slower than it comes.
        if (expected % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 20))
        if (++expected === 300) break
      }
      assert.is(expected, 300)
      await client.close()
    }),
  )
  assert.is(watched.count('executor.lost'), 0)
  assert.not.match(nats.log(), /Slow Consumer/i)
  await watched.server.stop()
  node.child.kill('SIGTERM')
  assert.is(await node.ended, 0)
  await nats.kill()
})

natsTest('what others publish is dropped, counted and never believed', async () => {
  const nats = await startNats()
  const ledger = newLedger()
  const node = await startNode({ url: nats.url, ledger })
  const watched = await serve({ handler: `${handlers}#Ledger`, executor: cluster(nats.url) })
  await nodesReady(watched, 1)
  const stranger = await connectNats({ servers: nats.url })
  const subjects = new Set<string>()
  const seen = stranger.subscribe('gai.>', { callback: (_, message) => void subjects.add(message.subject) })
  const peer = await Peer.open(watched.port)
  await peer.send('a 1\n').hears('a 1\n')
  await eventually(
    () => [...subjects].some((one) => one.includes('.front.')) && [...subjects].some((one) => one.includes('.inst.')),
    'both ways',
  )
  seen.unsubscribe()
  const front = [...subjects].find((one) => one.includes('.front.')) as string
  const instance = [...subjects].find((one) => one.includes('.inst.')) as string
  const elsewhere = (subject: string) => subject.replace(/[^.]+$/, 'nobody-s-link')
  const words = [
    Buffer.alloc(0),
    Buffer.from('GN'),
    Buffer.alloc(16),
    Buffer.from('{"instance":"x","state":"ready"}'),
    Buffer.alloc(5_000, 7),
  ]
  for (const word of words) {
    for (const subject of [
      'gai.gaidaros.nodes',
      'gai.gaidaros.who',
      front,
      instance,
      elsewhere(front),
      elsewhere(instance),
    ])
      stranger.publish(subject, word, { reply: 'gai.gaidaros.front.x.y' })
  }
  // A link for somewhere that is no front of the cluster: it would make the node say things to strangers.
  const open = Buffer.concat([
    Buffer.from([0x47, 0x4e, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0]),
    Buffer.from('other.one'),
  ])
  stranger.publish(elsewhere(instance), open)
  await stranger.flush()
  const dropped = () => watched.server.listeners.get('default')?.plan.executors[0]?.load().dropped ?? 0
  await eventually(() => dropped() >= 10, 'counted')
  // What carries the number that is due is a batch of nonsense: that link ends, and nothing else does.
  await peer.send('a 2\n').hears('a 2\n')
  assert.is(watched.count('executor.lost'), 0)
  await stranger.close()
  peer.leave()
  await watched.server.stop()
  node.child.kill('SIGTERM')
  assert.is(await node.ended, 0, node.stderr)
  await nats.kill()
})

test.after(() => endAll(folder))
test.run()
