// time limit: 120 s
/** Each option of the executors, by what it changes: how many, how much may wait, when a place has served its time. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Connection } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { root } from '../support/command.js'
import { eventually, Peer, serve, stopAll, type Watched } from '../support/faults.js'

const handler = `${join(root, 'build/fixtures/option-handlers.js')}#Measured`
const folder = mkdtempSync(join(tmpdir(), 'go-'))
test.after(async () => {
  await stopAll()
  rmSync(folder, { recursive: true, force: true })
})

const loadOf = ({ server }: Watched) => server.listeners.get('default')?.plan.executors[0]?.load()
const placesOf = (watched: Watched) => loadOf(watched)?.places ?? []
const whereIs = (peer: Peer) => peer.heard.split(' ')[0]
const open = (port: number, count: number) => Promise.all(Array.from({ length: count }, () => Peer.open(port)))

for (const type of ['thread-pool', 'process-pool'] as const) {
  test(`size: ${type} has so many places, and connections are spread over all of them`, async () => {
    const watched = await serve({ handler, executor: { type, size: 3 } })
    assert.is(placesOf(watched).length, 3)
    const peers = await open(watched.port, 6)
    for (const peer of peers) await peer.send('hello\n').hears('hello\n')
    assert.is(new Set(peers.map(whereIs)).size, 3)
    assert.equal(
      placesOf(watched).map(({ connections }) => connections),
      [2, 2, 2],
    )
    for (const peer of peers) peer.leave()
    await watched.server.stop()
  })

  test(`queueBytes: what waits for ${type} is bounded in bytes too`, async () => {
    const watched = await serve({
      handler,
      executor: { type, size: 1, queueBytes: 30_000 },
      limits: { lineBytes: 20_000, frameBytes: 20_000 },
    })
    const peers = await open(watched.port, 4)
    const large = `wait 2000 ${'x'.repeat(12_000)}\n`
    for (const [i, peer] of peers.slice(0, 3).entries()) {
      peer.send(large)
      await eventually(() => loadOf(watched)?.running === i + 1, 'under way')
    }
    peers[3]?.send('hello\n')
    const { reason } = await watched.until('connection.closed')
    assert.is(reason.code, 'OVERLOADED')
    assert.match(String(reason.error?.message), /bytes of messages wait for executor \S+; queueBytes is 30000/)
    // What is done makes room again.
    for (const peer of peers.slice(0, 3)) await peer.hears('wait\n')
    for (const peer of peers) peer.leave()
    const next = await Peer.open(watched.port)
    await next.send('hello\n').hears('hello\n')
    next.leave()
    await watched.server.stop({ timeoutMs: 0 })
  })

  test(`recycleBytes: a place of ${type} that has grown is replaced; its connection stays to its end`, async () => {
    const watched = await serve({ handler, executor: { type, size: 1, recycleBytes: 400 * 1024 * 1024 } })
    const first = await Peer.open(watched.port)
    await first.send('hello\n').hears('hello\n')
    assert.is(placesOf(watched).length, 1)
    await first.send('keep 500\n').hears('keep\n')
    await eventually(() => placesOf(watched).some(({ state }) => state === 'retiring'), 'seen to be large', 20_000)
    const second = await Peer.open(watched.port)
    await second.send('hello\n').hears('hello\n')
    assert.is.not(whereIs(second), whereIs(first))
    await first.send('still\n').hears(`${whereIs(first)} still\n`)
    first.leave()
    await eventually(() => placesOf(watched).every(({ name }) => !name.includes(String(whereIs(first)))), 'gone')
    assert.is(watched.count('executor.lost'), 0)
    second.leave()
    await watched.server.stop()
  })
}

test('recycleMessages: a thread of a pool has served its time after so many, and none is lost', async () => {
  const watched = await serve({ handler, executor: { type: 'thread-pool', size: 1, recycleMessages: 5 } })
  const threads = new Set<string | undefined>()
  for (let i = 0; i < 12; i++) {
    const peer = await Peer.open(watched.port)
    await peer.send('hello\n').hears('hello\n')
    threads.add(whereIs(peer))
    peer.leave()
    await watched.server.listeners.get('default')?.waitForConnections(0)
  }
  assert.ok(threads.size >= 2 && threads.size <= 4, `${threads.size} threads`)
  assert.is(watched.count('executor.lost'), 0)
  await watched.server.stop()
})

for (const type of ['thread', 'process'] as const) {
  test(`per: each connection has a ${type} of its own, \`size\` of them; one more is refused`, async () => {
    const watched = await serve({ handler, executor: { type, per: 'connection', size: 2 } })
    const peers = await open(watched.port, 2)
    for (const peer of peers) await peer.send('hello\n').hears('hello\n')
    assert.is(new Set(peers.map(whereIs)).size, 2)
    const third = await Peer.open(watched.port)
    await third.over
    const { reason } = await watched.until('connection.closed')
    assert.is(reason.code, 'OVERLOADED')
    assert.match(String(reason.error?.message), new RegExp(`2 connections have a ${type} each; executor.size is 2`))
    peers[0]?.leave()
    await eventually(() => placesOf(watched).length === 1, 'it ends with its connection', 20_000)
    const next = await Peer.open(watched.port)
    await next.send('hello\n').hears('hello\n')
    for (const peer of [peers[1], next]) peer?.leave()
    await watched.server.stop()
  })

  test(`per: all connections share one ${type}`, async () => {
    const watched = await serve({ handler, executor: { type, per: 'server' } })
    const peers = await open(watched.port, 3)
    for (const peer of peers) await peer.send('hello\n').hears('hello\n')
    assert.is(new Set(peers.map(whereIs)).size, 1)
    for (const peer of peers) peer.leave()
    await watched.server.stop()
  })
}

test('affinity: a function in code gives the key, and equal keys share a place', async () => {
  const affinity = (connection: Connection) => `${Number(connection.remote?.port) % 2}`
  const watched = await serve({ handler, executor: { type: 'thread-pool', size: 4, affinity } })
  const peers = await open(watched.port, 12)
  for (const peer of peers) await peer.send('hello\n').hears('hello\n')
  const byKey = new Map<number, Set<string | undefined>>()
  for (const peer of peers) {
    const key = Number(peer.socket.localPort) % 2
    byKey.set(key, (byKey.get(key) ?? new Set()).add(whereIs(peer)))
  }
  for (const places of byKey.values()) assert.is(places.size, 1, [...places].join(' '))
  for (const peer of peers) peer.leave()
  await watched.server.stop()
})

test('execArgv and heapMb: a process is started with them', async () => {
  const watched = await serve({
    handler,
    executor: { type: 'process-pool', size: 1, heapMb: 77, execArgv: ['--stack-trace-limit=13'] },
  })
  const peer = await Peer.open(watched.port)
  await peer.send('flags\n').hears('\n')
  assert.match(peer.heard, /--max-old-space-size=77\b.*--stack-trace-limit=13\b/)
  peer.leave()
  await watched.server.stop()
})

for (const per of ['server', 'connection'] as const) {
  test(`task, per ${per}: so many handlers are at work, the rest waits its turn, and more than \`queue\` is refused`, async () => {
    const watched = await serve({
      handler: (await import(join(root, 'build/fixtures/option-handlers.js'))).Measured,
      executor: { type: 'task', per, concurrency: 2, queue: 3 },
      limits: { inFlight: 16 },
    })
    const peers = await open(watched.port, 6)
    for (const peer of peers.slice(0, 5)) peer.send('wait 300\n')
    const load = () => loadOf(watched)
    if (per === 'server') {
      await eventually(() => load()?.running === 2 && load()?.queued === 3, 'two at work, three wait')
      peers[5]?.send('wait 1\n')
      const { reason } = await watched.until('connection.closed')
      assert.is(reason.code, 'OVERLOADED')
    } else await eventually(() => load()?.running === 5 && load()?.queued === 0, 'each has its own two')
    for (const peer of peers.slice(0, 5)) await peer.hears('wait\n')
    for (const peer of peers) peer.leave()
    await watched.server.stop()
  })
}

for (const type of ['task', 'thread-pool', 'process-pool'] as const) {
  test(`timeoutMs: what takes longer by ${type} is given up, and its signal says why`, async () => {
    const file = join(folder, type)
    const code = (await import(join(root, 'build/fixtures/option-handlers.js'))).Measured
    const watched = await serve({ handler: type === 'task' ? code : handler, executor: { type, timeoutMs: 200 } })
    const peer = await Peer.open(watched.port)
    peer.send(`never ${file}\n`)
    const { reason } = await watched.until('connection.closed')
    assert.is(reason.code, 'TIMEOUT')
    await eventually(() => existsSync(file) && readFileSync(file, 'utf8') !== '', 'the handler was told')
    assert.is(readFileSync(file, 'utf8'), 'TIMEOUT')
    assert.is(watched.count('executor.lost'), 0, 'one that listens to its signal costs no place')
    await watched.server.stop()
  })
}

test.run()
