// time limit: 400 s
/** The ends of connections, over real sockets and in every place a handler can run. */

import { createSocket } from 'node:dgram'
import { mkdtempSync } from 'node:fs'
import { connect as connectTcp } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, defineHandler, type NamedExecutor } from 'gaidaros'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros, killAll, root } from '../support/command.js'
import { eventually, Peer, serve, stopAll } from '../support/faults.js'
import { endAll, noNats, startNats } from '../support/nats.js'
import { skip } from '../support/skip.js'

const handlers = join(root, 'test/fixtures/ending-handlers.ts')
const folder = mkdtempSync(join(tmpdir(), 'ge-'))
test.after(async () => {
  await stopAll()
  killAll()
  await endAll(folder)
})

const executors: readonly NamedExecutor[] = [
  'inline',
  'task',
  'thread',
  { type: 'thread-pool', size: 2 },
  'process',
  { type: 'process-pool', size: 2 },
]
const ways = ['sync', 'async', 'late', 'generator', 'stream'] as const
const verbs = ['end', 'close'] as const

/** What a client hears until the server's end. */
async function heard(endpoint: string, lines: readonly string[], tls?: object): Promise<string[]> {
  const client = await connect(endpoint, { codec: 'line', ...(tls === undefined ? {} : { tls }) } as never)
  const replies: string[] = []
  for (const line of lines) void client.send(line)
  for await (const reply of client.messages()) replies.push(reply as string)
  await client.close()
  return replies
}

/** The replies of a script as one text: those of a stream in several items joined. */
const text = (replies: readonly string[]) => {
  const own = replies.filter((reply) => reply !== 're slow')
  return `${own.join('')}, ${replies.filter((reply) => reply === 're slow').length} slow`
}

async function everyEnd(endpoint: string, tls?: object): Promise<void> {
  for (const verb of verbs) {
    const lines = ways.map((way) => `${way} ${verb}`)
    const all = await Promise.all(lines.map((line) => heard(endpoint, ['slow', line], tls)))
    all.forEach((replies, i) => assert.is(text(replies), 'bye, 1 slow', `${lines[i]}: ${replies}`))
  }
}

for (const executor of executors) {
  const name = typeof executor === 'string' ? executor : executor.type
  test(`F100 ${name}: end() and close() take effect after the replies of what is at work`, async () => {
    const { port, server, count } = await serve({ handler: `${handlers}#Ender`, executor })
    await everyEnd(`tcp://127.0.0.1:${port}`)
    await server.listeners.get('default')?.waitForConnections(0)
    assert.is(count('message.dropped'), 0)
  })

  test(`F100 ${name}: an @OnOpen that closes is answered before`, async () => {
    const { port } = await serve({ handler: `${handlers}#Doorman`, executor })
    assert.equal(await heard(`tcp://127.0.0.1:${port}`, []), ['go away'])
  })
}

for (const listen of [`unix:${join(folder, 'e.sock')}`, 'ws://127.0.0.1:0', 'tls://127.0.0.1:0']) {
  test(`F100 ${listen.split(':')[0]}: end() and close() take effect after the replies of what is at work`, async () => {
    const pems = await generate([{ name: 'commonName', value: 'localhost' }], { keySize: 2048 })
    const tls = listen.startsWith('tls') ? { cert: Buffer.from(pems.cert), key: Buffer.from(pems.private) } : undefined
    for (const executor of ['inline', { type: 'thread-pool', size: 1 }] as const) {
      const options = { listen, handler: `${handlers}#Ender`, executor, ...(tls === undefined ? {} : { tls }) }
      const { server } = await serve(options as never)
      const endpoint = String([...server.listeners][0]?.endpoint)
      await everyEnd(endpoint, tls === undefined ? undefined : { ca: tls.cert, rejectUnauthorized: false })
      await server.stop()
    }
  })
}

test('F100 cluster: end() and close() take effect after the replies of what is at work', async () => {
  if (noNats !== undefined) return skip('ends in a cluster', noNats)
  const nats = await startNats()
  const sets = ['--set', 'cluster.name=ends', '--set', 'cluster.lostMs=20000', '--handler', `${handlers}#Ender`]
  const node = gaidaros(['node', '--cluster', nats.url, ...sets], { limitMs: 100_000, cwd: folder })
  await node.shows(/^ready$/m)
  const executor = { type: 'cluster', servers: nats.url, name: 'ends', lostMs: 20_000 } as NamedExecutor
  const { port } = await serve({ handler: `${handlers}#Ender`, executor })
  await everyEnd(`tcp://127.0.0.1:${port}`)
  node.child.kill('SIGTERM')
  assert.is(await node.ended, 0, node.stderr)
})

test('F100 a frame too long behind messages at work: their replies first', async () => {
  for (const executor of ['inline', { type: 'thread-pool', size: 1 }] as const) {
    const { port } = await serve({ handler: `${handlers}#Ender`, executor, limits: { lineBytes: 100 } })
    const peer = await Peer.open(port)
    peer.send(`slow\nslow\nslow\n${'x'.repeat(200)}\n`)
    await peer.over
    assert.is(peer.heard, 're slow\n'.repeat(3))
  }
})

/** Reads at a pace of so many bytes a second. @returns how many came. */
function readSlowly(port: number, first: string, bytesPerSecond: number, halfCloses: boolean): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = connectTcp({ port, host: '127.0.0.1', allowHalfOpen: true })
    let count = 0
    const began = performance.now()
    socket.on('error', reject)
    socket.on('data', (chunk) => {
      count += chunk.length
      const dueMs = (count / bytesPerSecond) * 1_000 - (performance.now() - began)
      if (dueMs <= 1) return
      socket.pause()
      setTimeout(() => socket.resume(), dueMs)
    })
    socket.on('end', () => {
      resolve(count)
      socket.end()
    })
    if (halfCloses) socket.end(first)
    else socket.write(first)
  })
}

const MEBIBYTE = 1024 * 1024

test('F101 a peer that reads slowly gets all that stands before close(), and behind its own half-close', async () => {
  const big = Buffer.alloc(16 * MEBIBYTE, 'x')
  const timeouts = { lingerMs: 300, halfClosedMs: 1_500, idleMs: 1_500 }
  const { port, count, until } = await serve({
    codec: 'raw',
    timeouts,
    handler: (what: Buffer, connection) => {
      if (String(what).startsWith('close')) void connection.close()
      return big
    },
  })
  const asked = ['close', 'half'] as const
  const took = await Promise.all(asked.map((what) => readSlowly(port, what, 3 * MEBIBYTE, what === 'half')))
  assert.equal(took, [big.length, big.length])
  assert.is(count('message.dropped'), 0)
  // One that takes nothing is cut.
  const stuck = await Peer.open(port)
  stuck.socket.pause()
  stuck.send('close')
  const { error } = await until('message.dropped')
  assert.match(error.message, /took no more/)
  stuck.leave()
})

test('F102 a peer that asks and finishes is answered: in a drain, with patience and without, sync and async', async () => {
  for (const patienceMs of [0, 1_000]) {
    for (const delay of [0, 20]) {
      const { port, server, count } = await serve({
        handler: (line: string) => (delay === 0 ? line : new Promise((resolve) => setTimeout(resolve, delay, line))),
      })
      const peers = await Promise.all(Array.from({ length: 30 }, () => Peer.open(port)))
      await Promise.all(peers.map((peer) => peer.send('hello\n').hears('hello\n')))
      const stopping = server.stop({ timeoutMs: 10_000, patienceMs } as never)
      peers.forEach((peer, i) => peer.socket.end(`q${i}\n`))
      await Promise.all(peers.map(({ over }) => over))
      await stopping
      const mute = peers.filter((peer, i) => !peer.heard.includes(`q${i}\n`)).length
      // Without patience one may be ended before its question is on the way.
      if (patienceMs > 0) assert.is(mute, 0, `${mute} of 30, after ${delay} ms`)
      assert.is(count('message.dropped'), 0)
    }
  }
})

test('halfOpen: a peer that finished goes on hearing what is pushed', async () => {
  for (const halfOpen of [true, false]) {
    const handler = defineHandler({
      codec: 'line',
      halfOpen,
      message(_line: string, connection) {
        let sent = 0
        const push = () => {
          if (sent === 40) return connection.end()
          void connection.send(`n${++sent}`)
          setTimeout(push, 5)
        }
        push()
      },
    })
    const { port } = await serve({ handler })
    const peer = await Peer.open(port)
    peer.socket.end('go\n')
    await peer.over
    const lines = peer.heard.split('\n').length - 1
    if (halfOpen) assert.is(lines, 40)
    else assert.ok(lines < 40)
  }
})

test('F110 a datagram that means nothing ends no session, and is told', async () => {
  const opened = new Set<string>()
  const handler = defineHandler({
    codec: 'json-lines',
    open: (connection) => void opened.add(connection.id),
    message: (message: unknown) => message,
  })
  const { port, until, server } = await serve({ listen: 'udp://127.0.0.1:0', handler })
  const socket = createSocket('udp4')
  const replies: string[] = []
  socket.on('message', (message) => replies.push(String(message).trim()))
  const say = (text: string) => socket.send(text, port, '127.0.0.1')
  say('1')
  await eventually(() => replies.length === 1, 'the first reply')
  say('{ nonsense')
  await until('message.dropped')
  say('2')
  await eventually(() => replies.length === 2, 'the second reply')
  assert.equal(replies, ['1', '2'])
  assert.is(opened.size, 1, 'one session')
  assert.is(server.counters['dropped.MALFORMED'], 1)
  socket.close()
})

test('F116 a reset under a stream() without a listener for `error` leaves the server serving', async () => {
  const handler = defineHandler({
    codec: 'line',
    message(line: string, connection) {
      if (line !== 'stream') return line
      connection.stream().resume()
      return 'taken'
    },
  })
  const { port, until } = await serve({ handler })
  const peer = await Peer.open(port)
  await peer.send('stream\n').hears('taken\n')
  peer.socket.resetAndDestroy()
  const { error } = await until('handler.failed')
  assert.is((error as { code?: string }).code, 'RESET')
  const other = await Peer.open(port)
  await other.echoes('still here')
  other.leave()
})

test('F109 a handler that passes its peer`s words on grows no map of counters', async () => {
  const { port, server } = await serve({ handler: (line: string, connection) => void connection.close(line) })
  for (let i = 0; i < 300; i += 20) {
    const peers = await Promise.all(Array.from({ length: 20 }, () => Peer.open(port)))
    peers.forEach((peer, k) => peer.send(`reason ${i + k}\n`))
    await Promise.all(peers.map(({ over }) => over))
    for (const peer of peers) peer.leave()
    await server.listeners.get('default')?.waitForConnections(0)
  }
  const names = Object.keys(server.counters).filter((name) => name.startsWith('closed.'))
  assert.is(names.length, 101)
  assert.is(server.counters['closed.OTHER'], 200)
})

test('F106 one peer`s messages of 10 ms leave others their turn', async () => {
  const { port } = await serve({
    handler: (line: string) => {
      if (line === 'slow') for (const until = performance.now() + 10; performance.now() < until; );
      return line
    },
  })
  const [greedy, honest] = [await Peer.open(port), await Peer.open(port)]
  greedy.send('slow\n'.repeat(100))
  await greedy.hears('slow\n')
  await honest.echoes('hello')
  const before = greedy.heard.split('\n').length - 1
  assert.ok(before < 30, `${before} messages of 10 ms stood before an honest one`)
  greedy.leave()
  honest.leave()
})

test.run()
