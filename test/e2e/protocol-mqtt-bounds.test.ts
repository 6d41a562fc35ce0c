// time limit: 180 s
/** MQTT under those who ask for much, keep much or say nothing: what is kept is bounded, and others have their turn. */
import { type Connection, defineHandler } from 'gaidaros'
import type { MqttMessage } from 'gaidaros/plugins/mqtt'
import mqttPacket from 'mqtt-packet'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, memory, Peer, serve, stopAll, type Watched } from '../support/faults.js'

test.after(() => stopAll())

const MIB = 1024 * 1024
const silent = () => defineHandler({ name: 'None', message: () => undefined })

/** A client of few words, that counts publications and remembers the rest. */
async function dial(port: number, clientId: string, given: object = {}) {
  const peer = await Peer.open(port)
  peer.socket.removeAllListeners('data')
  const published: { readonly topic: string; readonly text: string }[] = []
  const heard: mqttPacket.Packet[] = []
  const parser = mqttPacket.parser({ protocolVersion: (given as { protocolVersion?: number }).protocolVersion ?? 4 })
  parser.on('packet', (packet) => {
    if (packet.cmd !== 'publish') heard.push(packet)
    else published.push({ topic: packet.topic, text: String(packet.payload).slice(0, 20) })
  })
  peer.socket.on('data', (chunk) => parser.parse(chunk))
  const hears = (count: number) => eventually(() => heard.length >= count, `${count} packets, got ${heard.length}`)
  const say = (packet: object) =>
    peer.send(mqttPacket.generate(packet as mqttPacket.Packet, given as { protocolVersion?: number }))
  say({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clientId, keepalive: 0, clean: true, ...given })
  await hears(1)
  return { peer, published, heard, hears, say }
}
type Client = Awaited<ReturnType<typeof dial>>

const publication = (topic: string, payload: string | Buffer, further: object = {}) => ({
  cmd: 'publish',
  topic,
  payload,
  qos: 0,
  messageId: 1,
  ...further,
})
const subscribe = (topics: readonly string[], qos = 0) => ({
  cmd: 'subscribe',
  messageId: 1,
  subscriptions: topics.map((topic) => ({ topic, qos })),
})

async function pings(client: Client): Promise<void> {
  const before = client.heard.length
  client.say({ cmd: 'pingreq' })
  await client.hears(before + 1)
  assert.is(client.heard[before]?.cmd, 'pingresp')
}

async function retains(client: Client, topics: readonly string[]): Promise<void> {
  for (const topic of topics) client.say(publication(topic, 'x', { retain: true }))
  await pings(client)
}

const kept = ({ server }: Watched, account: string) => {
  const found = server.kept.find((one) => one.account === account)
  if (found === undefined) throw new Error(`no account ${account}`)
  return found
}
const connectionOf = ({ server }: Watched, client: Client): Connection => {
  const { localPort } = client.peer.socket
  const found = [...server.connections].find(({ remote }) => remote?.port === localPort)
  if (found === undefined) throw new Error('it is gone')
  return found
}

test('F106 one SUBSCRIBE that names # 200,000 times is refused, and others are served', async () => {
  const watched = await serve({ handler: silent(), protocol: 'mqtt' })
  const honest = await dial(watched.port, 'honest')
  await retains(
    honest,
    Array.from({ length: 500 }, (_, i) => `kept/${i}`),
  )
  const greedy = await dial(watched.port, 'greedy')
  const connection = connectionOf(watched, greedy)
  greedy.say(subscribe(Array.from({ length: 200_000 }, () => '#')))
  await pings(honest)
  assert.is((await watched.until('connection.closed')).reason.code, 'MALFORMED')
  assert.ok(connection.stats.messagesOut < 10, `${connection.stats.messagesOut} messages to one that is refused`)
  await pings(honest)
  for (const { peer } of [honest, greedy]) peer.leave()
})

test('equal filters of one packet are one: retained messages come once', async () => {
  const watched = await serve({ handler: silent(), protocol: 'mqtt' })
  const honest = await dial(watched.port, 'honest')
  await retains(honest, ['a', 'b', 'c'])
  const twice = await dial(watched.port, 'twice')
  twice.say(subscribe(['#', '#', 'a', '#'], 1))
  await twice.hears(2)
  assert.equal((twice.heard[1] as mqttPacket.ISubackPacket).granted, [1, 1, 1, 1])
  await eventually(() => twice.published.length >= 4, 'retained messages')
  await pings(twice)
  assert.equal(twice.published.map(({ topic }) => topic).sort(), ['a', 'a', 'b', 'c'])
  for (const { peer } of [honest, twice]) peer.leave()
})

test('F106 retained messages for many filters: others are served before it has them all, and it gets them all', async () => {
  const watched = await serve({ handler: silent(), protocol: 'mqtt' })
  const honest = await dial(watched.port, 'honest')
  await retains(
    honest,
    Array.from({ length: 500 }, (_, i) => `a/b/c/d/e/f/${i}`),
  )
  // Each of them takes all topics.
  const filters = Array.from({ length: 64 }, (_, bits) =>
    ['a', 'b', 'c', 'd', 'e', 'f']
      .map((level, i) => ((bits >> i) & 1 ? '+' : level))
      .join('/')
      .concat('/#'),
  )
  const total = 500 * filters.length
  const late = await dial(watched.port, 'late')
  const flooded = connectionOf(watched, late)
  late.say(subscribe(filters))
  await eventually(() => flooded.stats.messagesOut > 2, 'the first ones')
  await pings(honest)
  assert.ok(flooded.stats.messagesOut < total, `all ${total} were sent before anybody else was answered`)
  await eventually(() => late.published.length === total, 'all of them')
  for (const { peer } of [honest, late]) peer.leave()
})

test('F107 retained messages go at the pace of a client that does not read, and end with its connection', async () => {
  const watched = await serve({
    handler: silent(),
    protocol: { name: 'mqtt', retainedBytes: 32 * MIB },
    timeouts: { slowGraceMs: 120_000 },
  } as never)
  const honest = await dial(watched.port, 'honest')
  const large = Buffer.alloc(100_000, 'x')
  for (let i = 0; i < 200; i++) honest.say(publication(`kept/${i}`, large, { retain: true }))
  await pings(honest)
  const deaf = await dial(watched.port, 'deaf')
  const connection = connectionOf(watched, deaf)
  deaf.peer.socket.pause()
  deaf.say(subscribe(['kept/#', '#', '+/+'], 0))
  await eventually(() => connection.stats.messagesOut > 2, 'the first ones')
  await pings(honest)
  await pings(honest)
  const { messagesOut } = connection.stats
  assert.ok(messagesOut < 300, `${messagesOut} of 600 messages for one that reads none`)
  deaf.peer.leave()
  await watched.until('connection.closed', (event) => event.connection === connection)
  await pings(honest)
  assert.ok(connection.stats.messagesOut <= messagesOut + 50, 'it went on for a connection that is over')
  honest.peer.leave()
})

test('F107 QoS 1 of retained messages waits for acknowledgements, beside which all else is served', async () => {
  const watched = await serve({ handler: silent(), protocol: { name: 'mqtt', inFlight: 4 } } as never)
  const honest = await dial(watched.port, 'honest')
  for (let i = 0; i < 50; i++) honest.say(publication(`kept/${i}`, 'x', { retain: true, qos: 1, messageId: i + 1 }))
  await honest.hears(51)
  const slow = await dial(watched.port, 'slow')
  slow.say(subscribe(['kept/#'], 1))
  await eventually(() => slow.published.length === 4, 'four of them')
  await pings(slow)
  assert.is(slow.published.length, 4)
  for (let id = 1; id <= 50; id++) {
    slow.say({ cmd: 'puback', messageId: id })
    await eventually(() => slow.published.length === Math.min(50, 4 + id), `${4 + id} of them`)
  }
  for (const { peer } of [honest, slow]) peer.leave()
})

test('F107 who never acknowledges is cut: 100 x 1 MB hold no more than queueBytes', async () => {
  const watched = await serve({
    handler: silent(),
    protocol: 'mqtt',
    limits: { frameBytes: 2 * MIB },
  } as never)
  const honest = await dial(watched.port, 'honest')
  const greedy = await dial(watched.port, 'greedy')
  greedy.say(subscribe(['t'], 1))
  await greedy.hears(2)
  const large = Buffer.alloc(1_000_000, 'x')
  const before = memory().resident
  const queued = () => kept(watched, 'mqtt.queued')
  assert.is(queued().limit, 32 * MIB)
  let most = 0
  for (let i = 1; i <= 100; i++) {
    if (greedy.peer.isOver) break
    greedy.say(publication('t', large, { qos: 1, messageId: i }))
    await eventually(() => greedy.heard.length >= 2 + i || greedy.peer.isOver, `${i} taken`)
    most = Math.max(most, queued().bytes)
    assert.ok(queued().bytes <= queued().limit, `${queued().bytes} bytes are kept`)
  }
  assert.is((await watched.until('connection.closed')).reason.code, 'SLOW_PEER')
  assert.ok(most > 20 * MIB, `it was never near: ${most} bytes`)
  assert.ok(most < 33 * MIB)
  assert.is(watched.server.counters['kept.mqtt.queued.dropped'], 1)
  const grown = (memory().resident - before) / MIB
  assert.ok(grown < 128, `${grown} MiB more`)
  await pings(honest)
  assert.ok(queued().bytes < 10_000, `${queued().bytes} bytes of one that is gone`)
  for (const { peer } of [honest, greedy]) peer.leave()
})

test('F107 what waits for many is counted once, and the slowest pays in the end', async () => {
  const watched = await serve({
    handler: silent(),
    protocol: { name: 'mqtt', inFlight: 1, queueBytes: 2 * MIB },
    limits: { frameBytes: 2 * MIB },
  } as never)
  const honest = await dial(watched.port, 'honest')
  const readers = await Promise.all(['a', 'b', 'c', 'd', 'e'].map((id) => dial(watched.port, id)))
  for (const reader of readers) {
    reader.say(subscribe(['t'], 1))
    await reader.hears(2)
  }
  const large = Buffer.alloc(500_000, 'x')
  const send = (id: number) => honest.say(publication('t', large, { qos: 1, messageId: id }))
  for (let id = 1; id <= 3; id++) send(id)
  await honest.hears(4)
  // One is under way to each, two wait: 5 x 2 x 500 KB, of which 1 MB is there.
  assert.ok(kept(watched, 'mqtt.queued').bytes > 1_000_000)
  assert.ok(kept(watched, 'mqtt.queued').bytes < 1_100_000, `${kept(watched, 'mqtt.queued').bytes} bytes`)
  const slow = readers[0] as Client
  const quick = readers.slice(1)
  for (let id = 1; id <= 6; id++) {
    for (const reader of quick) {
      await eventually(() => reader.published.length >= id, `${id} publications`)
      reader.say({ cmd: 'puback', messageId: id })
    }
    if (id > 3) continue
    send(3 + id)
    await honest.hears(4 + id)
  }
  await slow.peer.over
  assert.is((await watched.until('connection.closed')).reason.code, 'SLOW_PEER')
  for (const reader of quick) await pings(reader)
  for (const { peer } of [honest, ...readers]) peer.leave()
})

test('F107 retained messages: bytes beside the count, the oldest goes first', async () => {
  const watched = await serve({
    handler: silent(),
    protocol: 'mqtt',
    limits: { frameBytes: 2 * MIB },
  } as never)
  const honest = await dial(watched.port, 'honest')
  for (let i = 0; i < 40; i++) {
    honest.say(publication(`kept/${i}`, Buffer.alloc(1_000_000, 'x'), { retain: true, qos: 1, messageId: i + 1 }))
    await honest.hears(2 + i)
    const { bytes, limit } = kept(watched, 'mqtt.retained')
    assert.ok(bytes <= limit, `${bytes} of ${limit}`)
  }
  const late = await dial(watched.port, 'late')
  late.say(subscribe(['kept/#']))
  await eventually(() => late.published.some(({ topic }) => topic === 'kept/39'), 'the last one')
  assert.equal(
    late.published.map(({ topic }) => topic),
    Array.from({ length: 16 }, (_, i) => `kept/${24 + i}`),
  )
  assert.is(watched.server.counters['kept.mqtt.retained.dropped'], 24)
  for (const { peer } of [honest, late]) peer.leave()
})

test('F107 long filters are paid for: whoever has most of them is cut', async () => {
  const watched = await serve({ handler: silent(), protocol: { name: 'mqtt', queueBytes: MIB } } as never)
  const honest = await dial(watched.port, 'honest')
  honest.say(subscribe(['mine']))
  await honest.hears(2)
  const greedy = await dial(watched.port, 'greedy')
  for (let i = 0; i < 20; i++) greedy.say(subscribe([`${i}${'x'.repeat(60_000)}`]))
  assert.is((await watched.until('connection.closed')).reason.code, 'SLOW_PEER')
  await pings(honest)
  assert.ok(kept(watched, 'mqtt.queued').bytes < 2_000)
  honest.say(publication('mine', 'x'))
  await eventually(() => honest.published.length === 1, 'what it subscribed to')
  for (const { peer } of [honest, greedy]) peer.leave()
})

test('F107 limits.memoryBytes counts what is kept, and gets it back', async () => {
  const watched = await serve({
    handler: silent(),
    protocol: 'mqtt',
    limits: { frameBytes: 2 * MIB, memoryBytes: 8 * MIB },
  } as never)
  const honest = await dial(watched.port, 'honest')
  for (let i = 0; i < 14; i++) {
    honest.say(publication(`kept/${i}`, Buffer.alloc(500_000, 'x'), { retain: true, qos: 1, messageId: i + 1 }))
    await honest.hears(2 + i)
    assert.ok((watched.server.usage().heldBytes ?? Number.NaN) <= 8 * MIB)
  }
  assert.ok(kept(watched, 'mqtt.retained').bytes > MIB, 'nothing is kept')
  assert.ok((watched.server.usage().heldBytes ?? 0) >= kept(watched, 'mqtt.retained').bytes)
  await pings(honest)
  honest.peer.leave()
})

test('F107 topics and filters have at most 200 levels', async () => {
  const watched = await serve({ handler: silent(), protocol: 'mqtt' })
  const deep = (levels: number) => Array.from({ length: levels }, () => 'x').join('/')
  const one = await dial(watched.port, 'one')
  one.say(subscribe([deep(200), deep(201), `${deep(200)}/#`, '/'.repeat(16_000)]))
  await one.hears(2)
  assert.equal((one.heard[1] as mqttPacket.ISubackPacket).granted, [0, 128, 128, 128])
  one.say(publication(deep(200), 'x'))
  await eventually(() => one.published.length === 1, 'of 200 levels')
  one.say(publication(deep(201), 'x'))
  assert.is((await watched.until('connection.closed')).reason.code, 'MALFORMED')
  const dying = await Peer.open(watched.port)
  dying.send(
    mqttPacket.generate({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 4,
      clientId: 'deep',
      clean: true,
      keepalive: 0,
      will: { topic: deep(201), payload: Buffer.from('x'), qos: 0, retain: false },
    }),
  )
  assert.is((await watched.until('connection.closed')).reason.code, 'MALFORMED')
  for (const { peer } of [one, { peer: dying }]) peer.leave()
})

test('F106 filters by the thousand: publications keep their order, and others are served between', async () => {
  const watched = await serve({ handler: silent(), protocol: { name: 'mqtt', queueBytes: 64 * MIB } } as never)
  const path = 'x/'.repeat(150)
  const crowd = await Promise.all(Array.from({ length: 6 }, (_, i) => dial(watched.port, `crowd ${i}`)))
  for (const [index, one] of crowd.entries()) {
    one.say(subscribe(Array.from({ length: 1_000 }, (_, i) => `${path}+/${index}/${i}`)))
    await one.hears(2)
  }
  const reader = await dial(watched.port, 'reader')
  reader.say(subscribe([`${path}#`]))
  await reader.hears(2)
  const honest = await dial(watched.port, 'honest')
  const writer = await dial(watched.port, 'writer')
  const source = connectionOf(watched, writer)
  for (let i = 0; i < 200; i++) writer.say(publication(`${path}t`, String(i)))
  await eventually(() => source.stats.messagesIn > 1, 'the first one')
  await pings(honest)
  assert.ok(reader.published.length < 200, 'nobody was served before all were published')
  await eventually(() => reader.published.length === 200, 'all of them')
  assert.equal(
    reader.published.map(({ text }) => text),
    Array.from({ length: 200 }, (_, i) => String(i)),
  )
  for (const { peer } of [...crowd, reader, honest, writer]) peer.leave()
})

test('F107 a client that is away: what has no room is lost, the rest is kept', async () => {
  const watched = await serve({
    handler: silent(),
    protocol: { name: 'mqtt', sessionBytes: 100_000 },
  } as never)
  const away = await dial(watched.port, 'away', { clean: false })
  away.say(subscribe(['t'], 1))
  await away.hears(2)
  away.peer.leave()
  await watched.until('connection.closed')
  const honest = await dial(watched.port, 'honest')
  for (let i = 0; i < 20; i++) honest.say(publication('t', `${i} ${'x'.repeat(10_000)}`, { qos: 1, messageId: i + 1 }))
  await honest.hears(21)
  assert.ok(kept(watched, 'mqtt.away').bytes <= 100_000)
  assert.ok((watched.server.counters['kept.mqtt.away.refused'] ?? 0) >= 10)
  const back = await dial(watched.port, 'away', { clean: false })
  await eventually(() => back.published.length === 9, 'what was kept')
  assert.equal(
    back.published.map(({ text }) => text.split(' ')[0]),
    Array.from({ length: 9 }, (_, i) => String(i)),
  )
  assert.is(kept(watched, 'mqtt.away').bytes, 0)
  for (const { peer } of [honest, back]) peer.leave()
})

test('a will passes the handler of its topic: what that throws is told, and nobody gets the will', async () => {
  const states: string[] = []
  const closes: string[] = []
  const note = (message: MqttMessage, connection: Connection) => {
    states.push(`${message.topic} ${message.client.clientId} ${connection.state}`)
  }
  const handler = defineHandler({
    name: 'Gate',
    routes: {
      'will/sync': (message: MqttMessage, connection: Connection) => {
        note(message, connection)
        throw new Error('no such will')
      },
      'will/later': async (message: MqttMessage, connection: Connection) => {
        note(message, connection)
        await new Promise((resolve) => setImmediate(resolve))
        throw new Error('no, later')
      },
      'will/good': async (message: MqttMessage, connection: Connection) => {
        note(message, connection)
        await new Promise((resolve) => setImmediate(resolve))
        closes.push('asked')
      },
    },
    close: () => void closes.push('closed'),
  })
  const watched = await serve({ handler, protocol: 'mqtt' })
  const reader = await dial(watched.port, 'reader')
  reader.say(subscribe(['#']))
  await reader.hears(2)
  const dies = async (topic: string, farewell?: object) => {
    const will = { topic, payload: Buffer.from('gone'), qos: 0, retain: true }
    const mortal = await dial(watched.port, topic, { will })
    if (farewell !== undefined) mortal.say(farewell)
    else mortal.peer.leave()
    await watched.until('connection.closed')
  }
  await dies('will/sync')
  await watched.until('handler.failed', ({ error }) => error.message.includes('no such will'))
  await dies('will/later')
  await watched.until('handler.failed', ({ error }) => error.message.includes('no, later'))
  await eventually(() => closes.length === 2, '@OnClose of both')
  closes.length = 0
  await dies('will/good')
  await eventually(() => reader.published.length === 1, 'the good one')
  await eventually(() => closes.length === 2, '@OnClose')
  assert.equal(closes, ['asked', 'closed'], 'the handler is let go when its last message is handled')
  // No method takes it: for subscribers alone.
  await dies('will/unrouted')
  await eventually(() => reader.published.length === 2, 'the unrouted one')
  await dies('will/good', { cmd: 'disconnect' })
  await pings(reader)
  assert.equal(
    reader.published.map(({ topic }) => topic),
    ['will/good', 'will/unrouted'],
  )
  assert.equal(
    states,
    ['sync', 'later', 'good'].map((topic) => `will/${topic} will/${topic} closed`),
  )
  // None of those refused was retained.
  const late = await dial(watched.port, 'late')
  late.say(subscribe(['will/#']))
  await eventually(() => late.published.length === 2, 'two are kept')
  await pings(late)
  assert.equal(late.published.map(({ topic }) => topic).sort(), ['will/good', 'will/unrouted'])
  assert.is(watched.count('handler.failed'), 2)
  for (const { peer } of [reader, late]) peer.leave()
})

test('a will whose method never ends holds the end of its handler for handlerMs at most', async () => {
  const closes: string[] = []
  const handler = defineHandler({
    name: 'Stuck',
    routes: { 'will/stuck': () => new Promise(() => undefined) },
    close: () => void closes.push('closed'),
  })
  const watched = await serve({ handler, protocol: 'mqtt', timeouts: { handlerMs: 300 } } as never)
  const reader = await dial(watched.port, 'reader')
  reader.say(subscribe(['#']))
  await reader.hears(2)
  const will = { topic: 'will/stuck', payload: Buffer.from('gone'), qos: 0, retain: false }
  const mortal = await dial(watched.port, 'mortal', { will })
  mortal.peer.leave()
  await watched.until('connection.closed')
  assert.equal(closes, [])
  await watched.until('handler.failed', ({ error }) => (error as { code?: string }).code === 'TIMEOUT')
  await eventually(() => closes.length === 1, '@OnClose')
  await pings(reader)
  assert.is(reader.published.length, 0)
  reader.peer.leave()
})

test.run()
