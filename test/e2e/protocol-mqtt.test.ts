// time limit: 90 s
/** MQTT 3.1.1 and 5, by mosquitto and by packets written here. */
import { connect, defineHandler } from 'gaidaros'

import type { MqttMessage } from 'gaidaros/plugins/mqtt'
import mqttPacket from 'mqtt-packet'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, Peer, serve, stopAll } from '../support/faults.js'
import { begin, endPrograms, run, withTool } from '../support/programs.js'

test.after(async () => {
  await stopAll()
  endPrograms()
})

withTool('mosquitto_pub', 'mqtt: mosquitto publishes and subscribes, QoS 0 to 2, 3.1.1 and 5', async () => {
  const taken: MqttMessage[] = []
  const handler = defineHandler({
    name: 'Sensors',
    routes: {
      'refused/topic': () => {
        throw new Error('no')
      },
    },
    message: async (message: MqttMessage) => void taken.push(message),
  })
  const { port, until, server } = await serve({
    handler,
    protocol: {
      name: 'mqtt',
      authenticate: (client: { user?: string }, password: string) => client.user !== 'eve' || password === 'secret',
    },
  } as never)
  const at = ['-h', '127.0.0.1', '-p', String(port)]
  for (const version of ['mqttv311', 'mqttv5']) {
    for (const qos of ['0', '1', '2']) {
      const topic = `sensors/${version}/${qos}`
      const listener = begin('mosquitto_sub', [
        ...[...at, '-V', version, '-q', qos, '-t', 'sensors/+/#', '-C', '2', '-v', '-W', '10'],
      ])
      // CONNECT and SUBSCRIBE handled; a publish before would be for nobody.
      const { connection } = await until('connection.opened', (event) => event.connection.state === 'open')
      await eventually(() => connection.stats.messagesOut >= 2, 'subscribed')
      const published = await run('mosquitto_pub', [...at, '-V', version, '-q', qos, '-t', topic, '-l'], 'one\ntwo\n')
      assert.is(published.status, 0, published.output)
      const { output: heard } = await listener.over
      await server.listeners.get('default')?.waitForConnections(0)
      assert.is(heard, `${topic} one\n${topic} two\n`)
    }
  }
  assert.equal(
    taken.map(({ qos }) => qos),
    [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2],
  )
  assert.is(String(taken[0]?.payload), 'one')
  const eve = await run('mosquitto_pub', [...at, '-u', 'eve', '-P', 'wrong', '-t', 'x', '-m', 'x'])
  assert.match(eve.output, /not authori[sz]ed|bad user name/i)
  assert.is((await run('mosquitto_pub', [...at, '-u', 'eve', '-P', 'secret', '-t', 'x', '-m', 'x'])).status, 0)
})

withTool('mosquitto_sub', 'retained messages, wills, no local, MQTT 5 properties', async () => {
  const { port, until } = await serve({
    handler: defineHandler({ name: 'None', message: () => undefined }),
    protocol: 'mqtt',
  })
  const at = ['-h', '127.0.0.1', '-p', String(port)]
  const pub = (...args: string[]) => run('mosquitto_pub', [...at, ...args])
  for (const version of ['mqttv311', 'mqttv5']) {
    const own = ['-V', version]
    await pub(...own, '-t', 'kept/one', '-m', 'first', '-r', '-q', '1')
    await pub(...own, '-t', 'kept/one', '-m', 'last', '-r', '-q', '2')
    await pub(...own, '-t', 'kept/two', '-m', 'other', '-r')
    await pub(...own, '-t', 'gone/one', '-m', 'x', '-r')
    await pub(...own, '-t', 'gone/one', '-n', '-r')
    const late = await run('mosquitto_sub', [
      ...at,
      ...own,
      '-t',
      'kept/#',
      '-t',
      'gone/#',
      '-q',
      '2',
      '-F',
      '%r %q %t %p',
      '-C',
      '2',
      '-W',
      '5',
    ])
    assert.equal(late.output.trim().split('\n').sort(), ['1 0 kept/two other', '1 2 kept/one last'])
  }
  const listener = begin('mosquitto_sub', [
    ...at,
    '-V',
    'mqttv5',
    '-t',
    'will/#',
    '-F',
    '%t %p %C',
    '-C',
    '2',
    '-W',
    '10',
  ])
  const { connection } = await until('connection.opened', (event) => event.connection.state === 'open')
  await eventually(() => connection.stats.messagesOut >= 2, 'subscribed')
  await pub('-V', 'mqttv5', '-t', 'will/props', '-m', 'text', '-D', 'publish', 'content-type', 'text/plain')
  const dying = begin('mosquitto_sub', [
    ...at,
    '-t',
    'x',
    '--will-topic',
    'will/of',
    '--will-payload',
    'gone',
    '-i',
    'mortal',
  ])
  const mortal = await until(
    'connection.opened',
    (event) => event.connection !== connection && event.connection.state === 'open',
  )
  await eventually(() => mortal.connection.stats.messagesOut >= 2, 'connected')
  dying.child.kill('SIGKILL')
  assert.is((await listener.over).output, 'will/props text text/plain\nwill/of gone \n')
})

const CONNECT = {
  three: Buffer.from('101000044d5154540402003c000474657374', 'hex'),
  five: Buffer.from('101100044d5154540502003c00000474657374', 'hex'),
}

test('what is no packet: version 5 is told why, and the connection ends with a reason', async () => {
  const { port, until } = await serve({ handler: () => undefined, protocol: 'mqtt', limits: { frameBytes: 1_000 } })
  for (const [sent, answer, code] of [
    // Not CONNECT first; FF FF FF 7F; a length of five bytes; QoS 3; a wildcard in a topic; no packet identifier; AUTH.
    ['c000', '', 'MALFORMED'],
    [`${CONNECT.three.toString('hex')}30ffffff7f`, '20020000', 'TOO_LARGE'],
    [`${CONNECT.five.toString('hex')}30ffffff7f`, 'e00295', 'TOO_LARGE'],
    [`${CONNECT.five.toString('hex')}30ffffffff01`, 'e00281', 'MALFORMED'],
    [`${CONNECT.five.toString('hex')}36050001610001`, 'e00281', 'MALFORMED'],
    [`${CONNECT.five.toString('hex')}30040001 2300`.replace(' ', ''), 'e00281', 'MALFORMED'],
    [`${CONNECT.five.toString('hex')}320600016100 0000`.replace(' ', ''), 'e00281', 'MALFORMED'],
    [`${CONNECT.five.toString('hex')}${CONNECT.five.toString('hex')}`, 'e00281', 'MALFORMED'],
    // Version 9: told in the words of 3.1.1.
    ['101000044d5154540902003c000474657374', '20020001', 'MALFORMED'],
  ] as const) {
    const peer = await Peer.open(port)
    peer.send(Buffer.from(sent, 'hex'))
    await peer.over
    const heard = Buffer.from(peer.heard, 'latin1').toString('hex')
    assert.ok(heard.includes(answer), `${sent}: ${heard}`)
    assert.is((await until('connection.closed')).reason.code, code, sent)
    peer.leave()
  }
})

test('QoS 2 is handled once; a second connection takes the name over; a silent one is ended', async () => {
  const taken: string[] = []
  const handler = defineHandler({
    name: 'Once',
    message: ({ payload }: MqttMessage) => void taken.push(String(payload)),
  })
  const { port, until } = await serve({ handler, protocol: 'mqtt' })
  const peer = await Peer.open(port)
  const hears = (hex: string) => peer.hears(Buffer.from(hex, 'hex').toString('latin1'))
  peer.send(CONNECT.five)
  await hears('20070000')
  const packet = Buffer.concat([Buffer.from('34080001610007', 'hex'), Buffer.from('00', 'hex'), Buffer.from('hi')])
  peer.send(packet)
  await hears('50040007')
  peer.heard = ''
  peer.send(packet)
  await hears('50040007')
  peer.heard = ''
  peer.send(Buffer.from('62020007', 'hex'))
  await hears('70020007')
  peer.heard = ''
  // Released already: not found.
  peer.send(Buffer.from('62020007', 'hex'))
  await hears('7004000792')
  assert.equal(taken, ['hi'])
  const second = await Peer.open(port)
  second.send(CONNECT.five)
  await hears('e0028e')
  assert.is((await until('connection.closed')).reason.code, 'TAKEN_OVER')
  const silent = await Peer.open(port)
  const hurried = Buffer.from(CONNECT.five)
  hurried[11] = 1
  hurried[hurried.length - 1] = 0x78
  silent.send(hurried)
  assert.is((await until('connection.closed')).reason.code, 'KEEP_ALIVE_TIMEOUT')
  await silent.hears(Buffer.from('e0028d', 'hex').toString('latin1'))
  for (const one of [peer, second, silent]) one.leave()
})

const silent = () => defineHandler({ name: 'None', message: () => undefined })

withTool('mosquitto_sub', 'a session outlives its connection, where the client asks for it: 3.1.1 and 5', async () => {
  const { port } = await serve({ handler: silent(), protocol: 'mqtt' })
  const at = ['-h', '127.0.0.1', '-p', String(port)]
  for (const own of [
    ['-V', 'mqttv311'],
    ['-V', 'mqttv5', '-x', '100'],
  ]) {
    const reader = [...at, ...own, '-i', `reader ${own[1]}`, '-c', '-q', '2', '-t', 'news/#', '-W', '10']
    assert.is((await run('mosquitto_sub', [...reader, '-E'])).status, 0)
    for (const qos of ['0', '1', '2'])
      await run('mosquitto_pub', [...at, '-t', 'news/today', '-q', qos, '-m', `qos ${qos}`])
    const { output } = await run('mosquitto_sub', [...reader, '-v', '-C', '2'])
    assert.is(output, 'news/today qos 1\nnews/today qos 2\n', String(own))
    // Clean: nothing is left of it.
    const clean = reader.filter((word) => word !== '-c' && word !== '-x' && word !== '100')
    assert.is((await run('mosquitto_sub', [...clean, '-E'])).status, 0)
    await run('mosquitto_pub', [...at, '-t', 'news/today', '-q', '1', '-m', 'for nobody'])
    const after = await run('mosquitto_sub', [...reader.slice(0, -1), '1'])
    assert.not.match(after.output, /nobody/)
    await run('mosquitto_sub', [...clean, '-E'])
  }
})

/** A client of few words: packets out, packets in. */
async function dial(port: number, given: object = {}) {
  const peer = await Peer.open(port)
  const heard: mqttPacket.Packet[] = []
  const parser = mqttPacket.parser()
  parser.on('packet', (packet) => heard.push(packet))
  peer.socket.on('data', (chunk) => parser.parse(chunk))
  const say = (packet: object) => peer.send(mqttPacket.generate(packet as mqttPacket.Packet))
  const hears = async (count: number) => {
    await eventually(() => heard.length >= count, `${count} packets; ${JSON.stringify(heard)}`)
    return heard[count - 1] as unknown as Record<string, unknown>
  }
  say({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clientId: 'c', keepalive: 0, clean: false, ...given })
  const { sessionPresent, returnCode } = await hears(1)
  return { peer, heard, say, hears, sessionPresent, returnCode }
}
const subscribe = (topic: string, qos: number) => ({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic, qos }] })
const publication = (payload: string, qos: number, messageId = 1) => ({
  cmd: 'publish',
  topic: 't',
  payload,
  qos,
  messageId,
})

test('what was not acknowledged is sent again, marked, in its order; then what came meanwhile', async () => {
  const { port, until, server } = await serve({ handler: silent(), protocol: { name: 'mqtt', inFlight: 2 } } as never)
  const first = await dial(port)
  assert.is(first.sessionPresent, false)
  first.say(subscribe('t', 2))
  await first.hears(2)
  const writer = await dial(port, { clientId: 'w', clean: true })
  writer.say(publication('one', 1))
  writer.say(publication('two', 2, 2))
  const [one, two] = [await first.hears(3), await first.hears(4)]
  assert.equal([one.dup, String(one.payload), two.dup, String(two.payload)], [false, 'one', false, 'two'])
  // Of the second it has said that it came.
  first.say({ cmd: 'pubrec', messageId: two.messageId })
  assert.is((await first.hears(5)).cmd, 'pubrel')
  first.peer.leave()
  await until('connection.closed', ({ connection }) => connection.stats.messagesIn === 3)
  for (const [i, text] of ['three', 'four', 'five'].entries()) writer.say(publication(text, 1, 10 + i))
  await eventually(() => writer.heard.filter(({ cmd }) => cmd === 'puback').length === 4, 'all taken')
  const again = await dial(port)
  assert.is(again.sessionPresent, true)
  const [third, fourth] = [await again.hears(2), await again.hears(3)]
  assert.equal([third.cmd, third.dup, String(third.payload), third.messageId], ['publish', true, 'one', one.messageId])
  assert.equal([fourth.cmd, fourth.messageId], ['pubrel', two.messageId])
  assert.is(again.heard.length, 3, 'no more than inFlight')
  again.say({ cmd: 'puback', messageId: third.messageId })
  again.say({ cmd: 'pubcomp', messageId: fourth.messageId })
  for (const [i, text] of ['three', 'four', 'five'].entries()) {
    const next = await again.hears(4 + i)
    assert.equal([next.dup, String(next.payload)], [false, text])
    again.say({ cmd: 'puback', messageId: next.messageId })
  }
  // It lives on with the third connection, while the second is still there.
  const third_ = await dial(port)
  assert.is(third_.sessionPresent, true)
  await again.peer.over
  writer.say(publication('six', 1, 20))
  assert.is(String((await third_.hears(2)).payload), 'six')
  assert.is(server.connections.size <= 3, true)
  for (const { peer } of [third_, again, writer]) peer.leave()
})

test('a session is found by its own user, for as long as it is kept, and is one of so many', async () => {
  const { port, until } = await serve({
    handler: silent(),
    protocol: { name: 'mqtt', sessions: 1, sessionMs: 60_000 },
  } as never)
  const leave = async (given: object) => {
    const client = await dial(port, given)
    client.say(subscribe('t', 1))
    await client.hears(2)
    client.say({ cmd: 'disconnect' })
    await client.peer.over
    client.peer.leave()
    await until('connection.closed')
    return client
  }
  const isKept = async (given: object) => (await leave(given)).sessionPresent
  await leave({ clientId: 'a', username: 'ada', password: 'x' })
  assert.is(await isKept({ clientId: 'a', username: 'eve', password: 'x' }), false)
  assert.is(await isKept({ clientId: 'a', username: 'eve', password: 'x' }), true)
  await leave({ clientId: 'b' })
  assert.is(await isKept({ clientId: 'a', username: 'eve', password: 'x' }), false, 'the longest away made room')
  const brief = await serve({ handler: silent(), protocol: { name: 'mqtt', sessionMs: 50 } } as never)
  const one = await dial(brief.port)
  one.peer.leave()
  await brief.until('connection.closed')
  await new Promise((resolve) => setTimeout(resolve, 200))
  assert.is((await dial(brief.port)).sessionPresent, false)
  const none = await serve({ handler: silent(), protocol: { name: 'mqtt', sessions: 0 } } as never)
  ;(await dial(none.port)).peer.leave()
  await none.until('connection.closed')
  assert.is((await dial(none.port)).sessionPresent, false)
})

test('who is away for long costs no more than what is bounded', async () => {
  const { port, until } = await serve({
    handler: silent(),
    protocol: 'mqtt',
    limits: { frameBytes: 2_000_000 },
  } as never)
  const reader = await dial(port)
  reader.say(subscribe('t', 1))
  await reader.hears(2)
  reader.peer.leave()
  await until('connection.closed')
  const writer = await dial(port, { clientId: 'w', clean: true })
  const large = 'x'.repeat(1_000_000)
  for (let i = 1; i <= 20; i++) {
    writer.say(publication(large, 1, i))
    await writer.hears(1 + i)
  }
  for (let i = 1; i <= 1_200; i++) writer.say(publication('y', 1, 100 + i))
  await writer.hears(21 + 1_200)
  const back = await dial(port)
  const seen = { x: 0, y: 0 }
  let read = 1
  await eventually(() => {
    for (; read < back.heard.length; read++) {
      const { payload, messageId } = back.heard[read] as mqttPacket.IPublishPacket
      seen[String(payload)[0] as 'x' | 'y']++
      back.say({ cmd: 'puback', messageId })
    }
    return seen.x + seen.y === 1_000
  }, 'a thousand messages')
  assert.equal(seen, { x: 16, y: 984 })
  writer.peer.leave()
  back.peer.leave()
})

test('over WebSockets packets may be cut and joined as they please', async () => {
  const taken: string[] = []
  const handler = defineHandler({
    name: 'Web',
    message: ({ payload }: MqttMessage) => void taken.push(String(payload)),
  })
  const { server } = await serve({ listen: 'ws://127.0.0.1:0/mqtt', handler, protocol: 'mqtt' })
  const client = await connect([...server.listeners][0]?.endpoint as never, { codec: 'raw' })
  const publish = (text: string) => Buffer.concat([Buffer.of(0x30, 3 + text.length, 0, 1, 0x61), Buffer.from(text)])
  const all = Buffer.concat([CONNECT.three, publish('one'), publish('two'), Buffer.from('c000', 'hex')])
  for (const [from, to] of [
    [0, 1],
    [1, 20],
    [20, 27],
    [27, all.length],
  ] as const)
    await client.send(all.subarray(from, to))
  const heard: string[] = []
  for await (const message of client.messages<Buffer>()) {
    heard.push(message.toString('hex'))
    if (heard.length === 2) break
  }
  assert.equal(heard, ['20020000', 'd000'])
  assert.equal(taken, ['one', 'two'])
  await client.close()
})

test.run()
