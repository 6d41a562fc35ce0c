// time limit: 240 s
/** CoAP, by libcoap's client and by packets written here: blocks, repeats, slow handlers, what is no CoAP. */
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generate, parse } from 'coap-packet'
import { type Connection, defineHandler } from 'gaidaros'
import { CoapError, type CoapRequest, notify } from 'gaidaros/plugins/coap'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, serve, stopAll } from '../support/faults.js'
import { begin, endPrograms, run, withTool } from '../support/programs.js'

const folder = mkdtempSync(join(tmpdir(), 'gc-'))
const sockets = new Set<Socket>()
test.after(async () => {
  await stopAll()
  endPrograms()
  for (const socket of sockets) socket.close()
  rmSync(folder, { recursive: true, force: true })
})

const large = 'y'.repeat(5_000)

async function sensors(options: object = {}) {
  const asked: CoapRequest[] = []
  let release = () => {}
  const released = new Promise<void>((resolve) => {
    release = resolve
  })
  const handler = defineHandler({
    name: 'Sensors',
    routes: {
      GET: async (request: CoapRequest) => {
        asked.push(request)
        if (request.path === '/large') return large
        if (request.path === '/slow') return released.then(() => 'at last')
        if (request.path === '/none') return null
        if (request.path === '/broken') throw new Error('a secret of ours')
        if (request.path === '/mine') throw new CoapError('4.03', 'not yours')
        return `${request.path} ${request.query.get('unit') ?? ''}`.trim()
      },
      PUT: ({ payload, format }: CoapRequest) => {
        const sum = payload.reduce((total, byte) => (total + byte) % 65_521, 0)
        return { code: '2.04', payload: `${payload.length} bytes, ${sum}, ${format ?? '-'}` }
      },
      DELETE: () => undefined,
    },
  })
  const watched = await serve({
    listen: 'udp://127.0.0.1:0',
    handler,
    protocol: { name: 'coap', ...options },
    limits: { frameBytes: 20_000 },
  } as never)
  return { ...watched, asked, release }
}

withTool('coap-client-notls', 'coap-client: methods, codes, bodies in blocks both ways', async () => {
  const { port, asked } = await sensors()
  const client = async (path: string, ...args: string[]) =>
    (await run('coap-client-notls', ['-B', '5', ...args, `coap://127.0.0.1:${port}${path}`])).output
  assert.is((await client('/sensors/kitchen?unit=C')).trim(), '/sensors/kitchen C')
  assert.is((await client('/sensors/kitchen', '-N')).trim(), '/sensors/kitchen')
  assert.is((await client('/large')).trim(), large)
  assert.is((await client('/large', '-b', '64')).trim(), large)
  // A body in blocks is asked for once.
  assert.is(asked.filter(({ path }) => path === '/large').length, 2)
  assert.match(await client('/none'), /4\.04/)
  const broken = await client('/broken')
  assert.match(broken, /5\.00/)
  assert.not.match(broken, /secret/)
  assert.match(await client('/mine'), /4\.03 not yours/)
  assert.match(await client('/x', '-m', 'post', '-e', 'x'), /4\.05/)
  assert.is((await client('/x', '-m', 'delete')).trim(), '')
  const file = join(folder, 'body')
  writeFileSync(file, 'z'.repeat(12_345))
  const sum = (12_345 * 0x7a) % 65_521
  assert.match(await client('/x', '-m', 'put', '-t', '50', '-f', file), new RegExp(`12345 bytes, ${sum}, 50`))
  assert.match(await client('/x', '-m', 'put', '-b', '32', '-e', 'q'.repeat(100)), /100 bytes/)
  writeFileSync(file, 'z'.repeat(30_000))
  assert.match(await client('/x', '-m', 'put', '-f', file), /4\.13/)
  assert.match(await client('/x', '-O', '65001,x'), /4\.02/)
})

/** A device of few words: sends packets, keeps what comes back. */
async function device(port: number) {
  const socket = createSocket('udp4')
  sockets.add(socket)
  socket.connect(port, '127.0.0.1')
  await once(socket, 'connect')
  const heard: ReturnType<typeof parse>[] = []
  socket.on('message', (bytes) => heard.push(parse(bytes)))
  const hears = async (count: number) => {
    await eventually(() => heard.length >= count, `${count} packets, ${heard.length} came`)
    return heard.at(-1) as ReturnType<typeof parse>
  }
  return { send: (bytes: Uint8Array) => socket.send(bytes), heard, hears }
}

const get = (path: string, messageId: number, more: object = {}) =>
  generate({
    code: 'GET' as never,
    messageId,
    confirmable: true,
    token: Buffer.from('tok'),
    options: [{ name: 'Uri-Path', value: Buffer.from(path) }],
    ...more,
  })

test('a request that comes twice is handled once, its answer sent again', async () => {
  const { port, asked } = await sensors()
  const { send, heard, hears } = await device(port)
  send(get('a', 7))
  const first = await hears(1)
  assert.equal(
    [first.ack, first.messageId, first.code, String(first.token), String(first.payload)],
    [true, 7, '2.05', 'tok', '/a'],
  )
  send(get('a', 7))
  await hears(2)
  assert.equal(heard[1], heard[0])
  assert.is(asked.length, 1)
})

test('a slow handler: acknowledged at once, answered on its own, once', async () => {
  const { port, asked, release } = await sensors({ ackMs: 50 })
  const { send, heard, hears } = await device(port)
  send(get('slow', 8))
  const acknowledged = await hears(1)
  assert.equal([acknowledged.ack, acknowledged.code, acknowledged.messageId], [true, '0.00', 8])
  send(get('slow', 8))
  await hears(2)
  assert.equal([heard[1]?.ack, heard[1]?.code], [true, '0.00'])
  // Nothing stands behind it meanwhile.
  send(get('b', 9))
  assert.is(String((await hears(3)).payload), '/b')
  release()
  const answer = await hears(4)
  assert.equal(
    [answer.ack, answer.confirmable, String(answer.token), String(answer.payload)],
    [false, false, 'tok', 'at last'],
  )
  assert.is(asked.length, 2)
})

test('pings and what is no CoAP are reset; answers are never answered', async () => {
  const { port, asked, until } = await sensors()
  const { send, heard, hears } = await device(port)
  send(generate({ code: '0.00', messageId: 1, confirmable: true }))
  assert.equal([(await hears(1)).reset, heard[0]?.messageId], [true, 1])
  // A token, an option, a payload beyond the datagram; a token of nine bytes; a marker without a payload; a reserved code.
  for (const [index, hex] of [
    '48010002',
    '40010002bd',
    '40010002ff',
    '4901000200000000000000000000',
    '40010002b5',
    '40e10002',
  ].entries()) {
    send(Buffer.from(hex, 'hex'))
    const reset = await hears(index + 2)
    assert.equal([reset.reset, reset.messageId], [true, 2], hex)
  }
  const before = heard.length
  // An answer, an acknowledgement, a reset, a malformed one that is not confirmable.
  for (const hex of ['40450003', '60000003', '70000003', '5801000300'])
    if (hex !== '40450003') send(Buffer.from(hex, 'hex'))
  send(get('last', 4))
  assert.is(String((await hears(before + 1)).payload), '/last')
  assert.is(heard.length, before + 1)
  assert.is(asked.length, 1)
  // Another version has no ids to answer to.
  const stranger = await device(port)
  stranger.send(Buffer.from('00010002', 'hex'))
  assert.match((await until('frame.refused')).error.message, /a CoAP header of version 1/)
})

/** A thermometer that can be observed, and set from beside. */
async function thermometer(options: object = {}, more: object = {}) {
  let value = '20'
  let known: Connection | undefined
  let asked = 0
  const handler = defineHandler({
    name: 'Thermometer',
    routes: {
      GET: ({ path }: CoapRequest, connection: Connection) => {
        known = connection
        asked++
        return { payload: value, observable: path !== '/fixed' }
      },
    },
  })
  const protocol = { name: 'coap', ...options }
  const watched = await serve({ listen: 'udp://127.0.0.1:0', handler, protocol, ...more } as never)
  const set = (now: string | null, path = '/t') => {
    if (now !== null) value = now
    return notify(known as Connection, path, now)
  }
  return { ...watched, set, asked: () => asked }
}
const observe = (value: number, path: string, messageId: number, token = 'obs') =>
  get(path, messageId, {
    token: Buffer.from(token),
    options: [
      { name: 'Observe', value: Buffer.from(value === 0 ? [] : [value]) },
      { name: 'Uri-Path', value: Buffer.from(path) },
    ],
  })
type Packet = ReturnType<typeof parse>
const sequenceOf = ({ options }: Packet) => {
  const found = options.find(({ name }) => String(name) === 'Observe')
  return found === undefined ? undefined : Number.parseInt(`0${found.value.toString('hex')}`, 16)
}
const acknowledge = ({ messageId }: Packet, how: object = { ack: true }) =>
  generate({ code: '0.00', messageId, ...how })

withTool('coap-client-notls', 'coap-client -s is told of changes, and takes its wish back (RFC 7641)', async () => {
  const { port, set, asked } = await thermometer({ blockBytes: 64 })
  const client = begin('coap-client-notls', ['-s', '3', '-w', '-B', '10', `coap://127.0.0.1:${port}/t`])
  await eventually(() => client.output === '20\n', `heard ${client.output}`)
  assert.is(set('21'), 1)
  await eventually(() => client.output === '20\n21\n', `heard ${client.output}`)
  // In blocks: the client asks for the rest.
  const long = 'z'.repeat(200)
  set(long)
  await eventually(() => client.output === `20\n21\n${long}\n`, `heard ${client.output}`)
  assert.is(asked(), 1)
  // When its time is over it asks once more, with Observe 1.
  await client.over
  await eventually(() => set('22') === 0, 'taken back')
})

test('notifications: confirmable, in order, one at a time, the newest', async () => {
  const { port, set } = await thermometer()
  const { send, heard, hears } = await device(port)
  send(observe(0, 't', 1))
  const first = await hears(1)
  assert.equal([first.ack, String(first.payload), sequenceOf(first)], [true, '20', 1])
  set('21')
  set('22')
  set('23')
  const second = await hears(2)
  assert.equal([second.confirmable, String(second.token), String(second.payload)], [true, 'obs', '21'])
  send(acknowledge(second))
  const third = await hears(3)
  assert.is(String(third.payload), '23')
  assert.ok((sequenceOf(third) as number) > (sequenceOf(second) as number))
  send(acknowledge(third))
  // The same token again: one observation all the same.
  send(observe(0, 't', 2))
  assert.ok((sequenceOf(await hears(4)) as number) > (sequenceOf(third) as number))
  assert.is(set('24'), 1)
  send(acknowledge(await hears(5)))
  // What is no success is the last, and has no place in the order.
  set(null)
  const last = await hears(6)
  assert.equal([last.code, sequenceOf(last)], ['4.04', undefined])
  send(acknowledge(last))
  send(observe(1, 't', 3))
  await hears(7)
  assert.is(set('25'), 0)
  assert.is(heard.length, 7)
})

test('an observation ends by Observe 1, by a reset, and with its connection', async () => {
  const { port, set, until, server } = await thermometer({}, { timeouts: { idleMs: 300 } })
  const { send, hears } = await device(port)
  send(observe(0, 't', 1))
  await hears(1)
  send(observe(1, 't', 2))
  assert.is(sequenceOf(await hears(2)), undefined)
  assert.is(set('21'), 0)
  send(observe(0, 't', 3))
  await hears(3)
  assert.is(set('22'), 1)
  send(acknowledge(await hears(4), { reset: true }))
  await eventually(() => set('23') === 0, 'forgotten')
  send(observe(0, 't', 4))
  await hears(5)
  await until('connection.closed')
  assert.is(server.connections.size, 0)
  await eventually(() => set('24') === 0, 'gone with it')
})

test('who is not observable is read as ever; so is one more than are kept', async () => {
  const { port, set } = await thermometer({ observers: 2 })
  const { send, hears } = await device(port)
  send(observe(0, 'fixed', 1))
  assert.is(sequenceOf(await hears(1)), undefined)
  for (const [i, token] of ['a', 'b', 'c'].entries()) {
    send(observe(0, 't', 2 + i, token))
    const said = await hears(2 + i)
    assert.equal([String(said.payload), sequenceOf(said) !== undefined], ['20', i < 2])
  }
  assert.is(set('21'), 2)
  assert.is(set('21', '/elsewhere'), 0)
})

test('proxying is refused, and so are block sizes that do not exist', async () => {
  const { port } = await sensors()
  const { send, hears } = await device(port)
  const withOption = (name: string, value: Buffer, messageId: number) =>
    get('a', messageId, { options: [{ name, value }] })
  send(withOption('Proxy-Uri', Buffer.from('coap://elsewhere/'), 1))
  assert.is((await hears(1)).code, '5.05')
  send(withOption('Block2', Buffer.of(7), 2))
  assert.is((await hears(2)).code, '4.00')
  send(get('a', 3, { code: 'PUT', options: [{ name: 'Block1', value: Buffer.of(0x16) }], payload: Buffer.from('x') }))
  assert.is((await hears(3)).code, '4.08')
})

test('on a stream it is an error at the start', async () => {
  await serve({ handler: () => undefined, protocol: 'coap' }).then(
    () => assert.unreachable(),
    (error) => assert.match(error.message, /protocol coap needs messages with bounds.*transport tcp/s),
  )
})

test.run()
