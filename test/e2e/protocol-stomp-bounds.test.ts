// time limit: 120 s
/** STOMP under those who do not acknowledge, begin transactions and never end them, or subscribe by the thousand. */
import { defineHandler } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, memory, Peer, serve, stopAll, type Watched } from '../support/faults.js'

test.after(() => stopAll())

const MIB = 1024 * 1024
const relay = (options: object = {}) =>
  serve({
    handler: defineHandler({ name: 'Relay', routes: { SEND: () => undefined } }),
    protocol: { name: 'stomp', heartBeatMs: 0, ...options },
    limits: { frameBytes: 2 * MIB },
  } as never)

/** Counts what it hears, and remembers the end of it. */
async function begins(port: number) {
  const peer = await Peer.open(port)
  peer.socket.removeAllListeners('data')
  const seen = { messages: 0, bodies: [] as string[], acks: [] as string[], text: '' }
  let front = ''
  peer.socket.on('data', (chunk) => {
    const text = chunk.toString('latin1')
    const lines = (front + text).split('\n')
    front = (lines.pop() ?? '').slice(-500)
    for (const line of lines) {
      if (line.endsWith('MESSAGE')) seen.messages++
      if (line.startsWith('ack:')) seen.acks.push(line.slice(4))
      const [, body] = /^<(\d+)>/.exec(line) ?? []
      if (body !== undefined) seen.bodies.push(body)
    }
    seen.text = (seen.text + text).slice(-2_000)
  })
  const hears = (text: string) => eventually(() => seen.text.includes(text), `${text}; ${seen.text}`)
  peer.send('CONNECT\naccept-version:1.2\nhost:x\n\n\0')
  await hears('CONNECTED')
  let receipts = 0
  const asks = async (head: string, body: string | Buffer = '') => {
    const receipt = `r${++receipts}.`
    peer.send(Buffer.concat([Buffer.from(`${head}\nreceipt:${receipt}\n\n`), Buffer.from(body), Buffer.from('\0')]))
    await eventually(() => seen.text.includes(`receipt-id:${receipt}`) || peer.isOver, `the receipt ${receipt}`)
  }
  return { peer, seen, hears, asks }
}

const queued = ({ server }: Watched) => {
  const found = server.kept.find(({ account }) => account === 'stomp.queued')
  if (found === undefined) throw new Error('no account')
  return found
}

test('F107 who never acknowledges is cut: 100 x 1 MB hold no more than queueBytes', async () => {
  const watched = await relay()
  const honest = await begins(watched.port)
  const greedy = await begins(watched.port)
  await greedy.asks('SUBSCRIBE\nid:1\ndestination:/t\nack:client')
  const large = Buffer.alloc(1_000_000, 'x')
  const before = memory().resident
  let most = 0
  for (let i = 0; i < 100 && !greedy.peer.isOver; i++) {
    await greedy.asks(`SEND\ndestination:/t\ncontent-length:${large.length}`, large)
    most = Math.max(most, queued(watched).bytes)
    assert.ok(queued(watched).bytes <= queued(watched).limit, `${queued(watched).bytes} bytes`)
  }
  assert.is((await watched.until('connection.closed')).reason.code, 'SLOW_PEER')
  assert.match(greedy.seen.text, /ERROR\nmessage:there is no room/)
  assert.ok(most > 20 * MIB, `it was never near: ${most} bytes`)
  const grown = (memory().resident - before) / MIB
  assert.ok(grown < 128, `${grown} MiB more`)
  await honest.asks('SEND\ndestination:/t')
  assert.is(queued(watched).bytes, 0)
  for (const { peer } of [honest, greedy]) peer.leave()
})

test('F107 transactions that never end are bounded in bytes, and give them back at their end', async () => {
  const watched = await relay({ queueBytes: 4 * MIB })
  const honest = await begins(watched.port)
  const large = Buffer.alloc(500_000, 'x')
  const inside = `SEND\ndestination:/t\ntransaction:t\ncontent-length:${large.length}`
  for (const end of ['COMMIT', 'ABORT']) {
    await honest.asks('BEGIN\ntransaction:t')
    for (let i = 0; i < 4; i++) await honest.asks(inside, large)
    assert.ok(queued(watched).bytes > 2_000_000, `${queued(watched).bytes} bytes`)
    await honest.asks(`${end}\ntransaction:t`)
    assert.is(queued(watched).bytes, 0, end)
  }
  const greedy = await begins(watched.port)
  await greedy.asks('BEGIN\ntransaction:t')
  for (let i = 0; i < 20 && !greedy.peer.isOver; i++) {
    await greedy.asks(inside, large)
    assert.ok(queued(watched).bytes <= 4 * MIB)
  }
  assert.is((await watched.until('connection.closed')).reason.code, 'SLOW_PEER')
  assert.is(queued(watched).bytes, 0)
  await honest.asks('SEND\ndestination:/t')
  for (const { peer } of [honest, greedy]) peer.leave()
})

test('what waits for many is counted once; what is acknowledged is given back', async () => {
  const watched = await relay({ inFlight: 1 })
  const all = await Promise.all(Array.from({ length: 5 }, () => begins(watched.port)))
  for (const one of all) await one.asks('SUBSCRIBE\nid:1\ndestination:/t\nack:client')
  const idle = queued(watched).bytes
  const large = Buffer.alloc(500_000, 'x')
  const head = `SEND\ndestination:/t\ncontent-length:${large.length}`
  for (let i = 0; i < 3; i++) await all[0]?.asks(head, large)
  const used = queued(watched).bytes - idle
  // One is under way to each, two wait.
  assert.ok(used > 1_000_000 && used < 1_100_000, `${used} bytes`)
  for (const one of all) {
    for (let i = 1; i <= 3; i++) {
      await eventually(() => one.seen.acks.length >= i, `${i} messages`)
      await one.asks(`ACK\nid:${one.seen.acks[i - 1]}`)
    }
  }
  for (const { peer } of all) peer.leave()
  await eventually(() => queued(watched).bytes === 0, 'everything is given back')
})

test('F106 SENDs to thousands of subscriptions keep their order, and others are served between', async () => {
  const watched = await relay({ queueBytes: 64 * MIB })
  const honest = await begins(watched.port)
  const crowd = await Promise.all(Array.from({ length: 5 }, () => begins(watched.port)))
  for (const one of crowd) {
    const ids = Array.from({ length: 999 }, (_, i) => `SUBSCRIBE\nid:${i}\ndestination:/t\n\n\0`)
    one.peer.send(ids.join(''))
    await one.asks('SUBSCRIBE\nid:last\ndestination:/t')
  }
  const writer = await begins(watched.port)
  const source = [...watched.server.connections].find(({ remote }) => remote?.port === writer.peer.socket.localPort)
  if (source === undefined) throw new Error('no writer')
  const before = source.stats.messagesIn
  const count = 20
  writer.peer.send(Array.from({ length: count }, (_, i) => `SEND\ndestination:/t\n\n<${i}>\0`).join(''))
  await eventually(() => source.stats.messagesIn > before, 'the first one')
  await honest.asks('SEND\ndestination:/nobody')
  assert.ok(source.stats.messagesIn < before + count, 'nobody was served before all were sent')
  for (const one of crowd) await eventually(() => one.seen.messages === count * 1_000, 'all of them')
  for (const { seen } of crowd) {
    const numbers = seen.bodies.map(Number)
    assert.ok(
      numbers.every((number, i) => i === 0 || number >= (numbers[i - 1] as number)),
      'in their order',
    )
  }
  for (const { peer } of [honest, writer, ...crowd]) peer.leave()
})

test.run()
