/** How WebSocket connections end, seen from both sides: close codes, pings, messages that trickle, offers that do not fit. */
import { mkdtempSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type CloseReason, type Connection, connect, defineHandler, WEBSOCKET } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { WebSocket } from 'ws'
import { eventually, serve, stopAll, type Watched } from '../support/faults.js'

const listen = 'ws://127.0.0.1:0'
const folder = mkdtempSync(join(tmpdir(), 'gaidaros-ws-'))
const clients: WebSocket[] = []
const urlOf = ({ port }: Watched) => `ws://127.0.0.1:${port}/`
const socketOf = (client: WebSocket) => (client as unknown as { _socket: Socket })._socket

interface Client {
  readonly ws: WebSocket
  readonly said: string[]
  readonly closed: Promise<[code: number, text: string]>
}

async function dial(watched: Watched, options: object = {}): Promise<Client> {
  const ws = new WebSocket(urlOf(watched), options)
  clients.push(ws)
  ws.on('error', () => {})
  const said: string[] = []
  ws.on('message', (data) => said.push(String(data)))
  const closed = new Promise<[number, string]>((resolve) =>
    ws.on('close', (code, text) => resolve([code, String(text)])),
  )
  await new Promise((resolve) => ws.once('open', resolve))
  return { ws, said, closed }
}

/** Ends as it is told. */
const obedient = defineHandler({
  name: 'obedient',
  codec: 'line',
  async message(line: unknown, connection: Connection) {
    const [word, ...rest] = String(line).split(' ')
    if (word === 'close') void connection.close(rest.length === 0 ? undefined : rest.join(' '))
    else if (word === 'end') connection.end()
    else if (word === 'throw') throw new Error('boom')
    else if (word === 'hang') await new Promise(() => {})
    else return line
    return undefined
  },
})

const long = `${'ä'.repeat(61)}x and more`
for (const [what, code, text] of [
  ['end', 1000, ''],
  ['close', 1000, ''],
  ['close 3000', 3000, '3000'],
  ['close 4001', 4001, '4001'],
  ['close 4999', 4999, '4999'],
  ['close 5000', 1000, '5000'],
  ['close 400', 1000, '400'],
  ['close BANNED', 1000, 'BANNED'],
  ['close RATE_LIMITED', 1008, 'RATE_LIMITED'],
  ['close OVERLOADED', 1013, 'OVERLOADED'],
  [`close ${long}`, 1000, `${'ä'.repeat(61)}x`],
  ['throw', 1011, 'HANDLER_FAILED'],
  ['hang', 1011, 'TIMEOUT'],
] as const) {
  test(`a handler that says \`${what.slice(0, 30)}\` sends close code ${code}`, async () => {
    const watched = await serve({ listen, handler: obedient, timeouts: { handlerMs: what === 'hang' ? 200 : 30_000 } })
    const client = await dial(watched)
    client.ws.send(what)
    assert.equal(await client.closed, [code, text])
    const { reason } = await watched.until('connection.closed')
    assert.is(reason.by, what === 'throw' || what === 'hang' ? 'server' : 'handler')
  })
}

test('a drain is 1001, so that clients which reconnect do', async () => {
  const watched = await serve({ listen, handler: obedient })
  const client = await dial(watched)
  const [closed] = await Promise.all([client.closed, watched.server.stop()])
  assert.equal(closed, [1001, 'SHUTDOWN'])
})

test('a connection refused by middleware is 1008, a message over frameBytes 1009', async () => {
  const refused = await serve({ listen, handler: obedient, middleware: [{ name: 'ip-filter', allow: ['192.0.2.1'] }] })
  assert.equal(await (await dial(refused)).closed, [1008, 'REFUSED'])
  const watched = await serve({ listen, handler: obedient, limits: { frameBytes: 1_000 } })
  const client = await dial(watched)
  client.ws.send(Buffer.alloc(2_000))
  assert.is((await client.closed)[0], 1009)
})

for (const [code, text, expected] of [
  [4001, 'app reason', { code: '4001', by: 'peer' }],
  [3000, '', { code: '3000', by: 'peer' }],
  [4999, 'ü', { code: '4999', by: 'peer' }],
  [1000, 'done', { code: 'ENDED', by: 'peer' }],
] as const) {
  test(`a peer that closes with ${code} is ${expected.code}, and what it said is there`, async () => {
    let seen: (CloseReason & { close: unknown }) | undefined
    const handler = defineHandler({
      name: 'listens',
      codec: 'line',
      message: (line: unknown) => line,
      close(connection: Connection, { code, by }: CloseReason) {
        seen = { code, by, close: connection.feature(WEBSOCKET)?.close }
      },
    } as never)
    const watched = await serve({ listen, handler })
    const client = await dial(watched)
    client.ws.send('one')
    await eventually(() => client.said.length === 1, 'the answer')
    client.ws.close(code, text)
    const { reason } = await watched.until('connection.closed')
    assert.equal([reason.code, reason.by, reason.error], [expected.code, expected.by, undefined])
    assert.equal(seen, { ...expected, close: { code, reason: text } })
    assert.is(watched.server.counters[`closed.${expected.code}`], 1)
  })
}

test('our own client says and hears them as well', async () => {
  const watched = await serve({ listen, handler: obedient })
  const leaving = await connect(urlOf(watched), { codec: 'line' })
  await leaving.close('4002')
  const { reason } = await watched.until('connection.closed')
  assert.equal([reason.code, reason.by], ['4002', 'peer'])
  for (const [word, code] of [
    ['close 4003', '4003'],
    ['end', 'ENDED'],
  ] as const) {
    const client = await connect(urlOf(watched), { codec: 'line' })
    await client.send(word)
    const { code: heard, by } = await client.closed
    assert.equal([heard, by], [code, 'peer'])
  }
  const drained = await connect(urlOf(watched), { codec: 'line' })
  assert.is(await drained.request('hi'), 'hi')
  const [closed] = await Promise.all([drained.closed, watched.server.stop()])
  assert.equal([closed.code, closed.by, closed.error], ['ENDED', 'peer', undefined])
})

test('a silent peer that answers pings stays, one that vanished leaves at idleMs with 1001', async () => {
  const watched = await serve({ listen, handler: obedient, timeouts: { idleMs: 1_500, pingMs: 300 } })
  const alive = await dial(watched)
  let pings = 0
  alive.ws.on('ping', () => pings++)
  const vanished = await dial(watched, { autoPong: false })
  assert.equal(await vanished.closed, [1001, 'IDLE_TIMEOUT'])
  const before = pings
  await eventually(() => pings >= before + 8, 'eight more pings, which take longer than idleMs')
  assert.is(alive.ws.readyState, WebSocket.OPEN)
  alive.ws.send('still here')
  await eventually(() => alive.said.length === 1, 'an answer')
})

for (const name of ['wire-log', 'pcap']) {
  test(`codes and pings pass the layer ${name}`, async () => {
    const layers = [{ name, file: join(folder, name) }]
    const watched = await serve({ listen, handler: obedient, layers, timeouts: { pingMs: 200 } } as never)
    const client = await dial(watched)
    await new Promise((resolve) => client.ws.once('ping', resolve))
    client.ws.send('close 4001')
    assert.equal(await client.closed, [4001, '4001'])
    const other = await dial(watched)
    other.ws.close(4005)
    const { reason } = await watched.until(
      'connection.closed',
      (event: { reason: CloseReason }) => event.reason.by === 'peer',
    )
    assert.is(reason.code, '4005')
  })
}

test('a peer that pings by itself stays, though it is never asked', async () => {
  const watched = await serve({
    listen,
    handler: obedient,
    timeouts: { idleMs: 1_500, pingMs: Number.POSITIVE_INFINITY },
  })
  const client = await dial(watched)
  let asked = 0
  let answers = 0
  client.ws.on('ping', () => asked++)
  client.ws.on('pong', () => answers++)
  const pinging = setInterval(() => client.ws.ping(), 200)
  await eventually(() => answers >= 15, 'fifteen pongs', 60_000)
  clearInterval(pinging)
  assert.is(client.ws.readyState, WebSocket.OPEN)
  assert.is(asked, 0)
  assert.equal(await client.closed, [1001, 'IDLE_TIMEOUT'])
})

/** A part of a message, with its header: masked with zeros. */
const part = (opcode: number, isLast: boolean, text: string) =>
  Buffer.concat([Buffer.of((isLast ? 0x80 : 0) | opcode, 0x80 | text.length, 0, 0, 0, 0), Buffer.from(text)])
const ping = part(9, true, '')

for (const [what, pieces] of [
  ['the bytes of one frame', () => [...part(2, true, 'x'.repeat(120))].map((byte) => Buffer.of(byte))],
  ['parts of one byte', () => [part(2, false, 'x'), ...Array.from({ length: 120 }, () => part(0, false, 'x'))]],
  [
    'parts with pings between',
    () => [part(2, false, 'x'), ...Array.from({ length: 120 }, (_, i) => (i % 2 ? ping : part(0, false, 'x')))],
  ],
  ['a header that does not end', () => [Buffer.of(0x82), ...Array.from({ length: 120 }, () => Buffer.alloc(0))]],
] as const) {
  test(`F112 a message that trickles is cut by frameMs: ${what}`, async () => {
    const watched = await serve({ listen, handler: obedient, timeouts: { frameMs: 1_000, idleMs: 600_000 } })
    const client = await dial(watched)
    const honest = await dial(watched)
    const rest = pieces()
    const trickle = setInterval(() => {
      const next = rest.shift()
      if (next !== undefined && next.length > 0 && !socketOf(client.ws)?.destroyed) socketOf(client.ws).write(next)
      honest.ws.send('hello')
    }, 50)
    const [code, text] = await client.closed
    clearInterval(trickle)
    assert.equal([code, text], [1008, 'TIMEOUT'])
    assert.ok(rest.length > 0, 'it was cut before it was whole')
    const { reason } = await watched.until('connection.closed')
    assert.equal([reason.code, reason.by, reason.error?.name], ['TIMEOUT', 'server', 'FrameError'])
    assert.is(honest.ws.readyState, WebSocket.OPEN)
    assert.ok(honest.said.length > 0)
  })
}

test('F112 peers that send whole messages, parts in time and pings, longer than frameMs in all, are let be', async () => {
  const watched = await serve({ listen, handler: obedient, timeouts: { frameMs: 5_000, idleMs: 600_000 } })
  const client = await dial(watched)
  const whole = Buffer.concat([part(1, false, 'on'), ping, part(0, true, 'e')])
  let sent = 0
  const until = performance.now() + 7_000
  while (performance.now() < until) {
    // Each piece ends inside a message and begins in another one.
    const shifted = Buffer.concat([whole.subarray(9), whole.subarray(0, 9)])
    socketOf(client.ws).write(sent === 0 ? Buffer.concat([whole, whole.subarray(0, 9)]) : shifted)
    sent++
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  await eventually(() => client.said.length === sent, 'all answers')
  assert.is(client.ws.readyState, WebSocket.OPEN)
})

test('an offer of compression that does not fit is declined, one that fits is taken', async () => {
  const watched = await serve({ listen, handler: obedient, socket: { compress: true } as never })
  const unfit = await dial(watched, { perMessageDeflate: { serverMaxWindowBits: 8 } })
  assert.is(unfit.ws.extensions, '')
  unfit.ws.send('hello')
  await eventually(() => unfit.said[0] === 'hello', 'the echo')
  const fit = await dial(watched, { perMessageDeflate: { serverMaxWindowBits: 11 } })
  assert.match(fit.ws.extensions, /permessage-deflate/)
  fit.ws.send('z'.repeat(20_000))
  await eventually(() => fit.said[0]?.length === 20_000, 'the echo')
})

test.after(async () => {
  for (const client of clients) client.terminate()
  await stopAll()
  rmSync(folder, { recursive: true, force: true })
})

test.run()
