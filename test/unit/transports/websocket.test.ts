/** WebSocket links: how they end, what breaks the rules, and what a pause holds. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { WebSocket } from 'ws'
import { parseEndpoint } from '#src/core/endpoint.js'
import { ConnectionError, FrameError } from '#src/core/errors.js'
import { defaultLimits, defaultTimeouts, type Limits, type Timeouts } from '#src/core/options.js'
import type { Listener } from '#src/core/transport.js'
import { WEBSOCKET, type WebSocketOptions, websocket } from '#src/transports/websocket.js'
import { nextTurn, type Peer, Recorder } from './recorder.js'

const never = new AbortController().signal
const listeners: Listener[] = []
const clients: WebSocket[] = []

interface Given extends WebSocketOptions {
  limits?: Partial<Limits>
  timeouts?: Partial<Timeouts>
}

async function listen({ limits, timeouts, ...options }: Given = {}) {
  const sink = new Recorder()
  const all = {
    ...options,
    limits: { ...defaultLimits, ...limits },
    timeouts: { ...defaultTimeouts, ...timeouts },
  }
  const listener = await websocket.listen(parseEndpoint('ws://127.0.0.1:0/chat'), all, sink)
  listeners.push(listener)
  return { sink, listener, url: String(listener.endpoint) }
}

/** A client of the library, and our side of it. */
async function open(given: Given = {}, options: object = {}) {
  const { sink, url } = await listen(given)
  const client = new WebSocket(url, options)
  clients.push(client)
  const closed = new Promise<[code: number, reason: string]>((resolve) => {
    client.on('close', (code, reason) => resolve([code, reason.toString()]))
  })
  client.on('error', () => {})
  await new Promise((resolve) => client.once('open', resolve))
  const peer = await sink.peer()
  return { sink, client, peer, closed }
}
const untilClosed = (sink: Recorder, peer: Peer) => sink.until(() => peer.closes > 0, 'close')
/** The socket beneath a client of the library, to break what it would not. */
const socketOf = (client: WebSocket) => (client as unknown as { _socket: import('node:net').Socket })._socket

for (const code of [1000, 1001, 1005, 3000, 4999]) {
  test(`a close by the peer with ${code} is an orderly end`, async () => {
    const { sink, client, peer } = await open()
    client.send('last words')
    if (code === 1005) client.close()
    else if (code === 1001) (client as unknown as { _sender: { close: Function } })._sender.close(1001, '', true)
    else client.close(code)
    await untilClosed(sink, peer)
    assert.equal(peer.events, ['open', 'data', 'end', 'close'])
    assert.is(peer.error, undefined)
  })
}

test('a close with a code of failure is an error that tells it', async () => {
  const { sink, client, peer } = await open()
  client.close(1011, 'out of order')
  await untilClosed(sink, peer)
  assert.instance(peer.error, ConnectionError)
  assert.match(peer.error?.message ?? '', /1011.*out of order/)
  assert.is(peer.ends, 0)
})

test('an end of the connection without a close frame is RESET', async () => {
  const { sink, client, peer } = await open()
  socketOf(client).end()
  await untilClosed(sink, peer)
  assert.is(peer.error?.code, 'RESET')
  assert.is(peer.ends, 0)
})

test('our end is close code 1000, after what was written', async () => {
  const { sink, client, peer, closed } = await open()
  let got = ''
  client.on('message', (data) => {
    got += data
  })
  peer.link.writeText?.('one ')
  peer.link.write(Buffer.from('two'))
  peer.link.end()
  assert.is((await closed)[0], 1000)
  assert.is(got, 'one two')
  await untilClosed(sink, peer)
  assert.is(peer.error, undefined)
})

test('a peer that does not answer our close frame is cut after halfClosedMs', async () => {
  const { sink, client, peer } = await open({ timeouts: { halfClosedMs: 100 } })
  socketOf(client).pause()
  peer.link.end()
  await untilClosed(sink, peer)
  assert.is(peer.error?.code, 'HALF_CLOSED_TIMEOUT')
})

test('a peer that answers our close frame with the end of the connection alone has ended in order', async () => {
  const { sink, client, peer } = await open()
  const socket = socketOf(client)
  socket.removeAllListeners('data')
  socket.once('data', () => socket.end())
  peer.link.end()
  await untilClosed(sink, peer)
  assert.is(peer.error, undefined)
})

test('abort is a reset: the peer sees 1006, our side its reason', async () => {
  const { sink, peer, closed } = await open()
  const reason = new Error('enough')
  peer.link.abort(reason)
  await untilClosed(sink, peer)
  assert.is(peer.error, reason)
  assert.is((await closed)[0], 1006)
})

test('a message over frameBytes is close code 1009 and FrameError TOO_LARGE; the largest one passes', async () => {
  const { sink, client, peer, closed } = await open({ limits: { frameBytes: 1_000 } })
  client.send(Buffer.alloc(1_000))
  await sink.until(() => peer.bytes === 1_000)
  client.send(Buffer.alloc(1_001))
  assert.is((await closed)[0], 1009)
  await untilClosed(sink, peer)
  assert.instance(peer.error, FrameError)
  assert.is(peer.error?.code, 'TOO_LARGE')
  assert.is(peer.bytes, 1_000)
  assert.is(peer.ends, 0)
})

test('a message of parts counts as a whole, one that says it is large at its first bytes', async () => {
  const parts = await open({ limits: { frameBytes: 1_000 } })
  for (let i = 0; i < 3; i++) parts.client.send(Buffer.alloc(400), { fin: false })
  assert.is((await parts.closed)[0], 1009)
  const liar = await open({ limits: { frameBytes: 1_000 } })
  // 2^40 bytes announced, none sent (RFC 6455, section 5.2).
  socketOf(liar.client).write(Buffer.of(0x82, 0x80 | 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0))
  assert.is((await liar.closed)[0], 1009)
  await untilClosed(liar.sink, liar.peer)
  assert.is(liar.peer.error?.code, 'TOO_LARGE')
})

test('a message of more parts than the library takes is TOO_LARGE', async () => {
  const { sink, client, peer } = await open()
  for (let i = 0; i < 17_000; i++) client.send(Buffer.alloc(0), { fin: false })
  await untilClosed(sink, peer)
  assert.is(peer.error?.code, 'TOO_LARGE')
})

for (const [what, bytes, status] of [
  ['no mask', [0x82, 0x01, 0x61], 1002],
  ['a reserved opcode', [0x83, 0x80, 0, 0, 0, 0], 1002],
  ['a reserved bit', [0xc2, 0x80, 0, 0, 0, 0], 1002],
  ['a part of nothing', [0x80, 0x80, 0, 0, 0, 0], 1002],
  ['text that is no UTF-8', [0x81, 0x81, 0, 0, 0, 0, 0xff], 1007],
] as const) {
  test(`a frame with ${what} is MALFORMED and close code ${status}`, async () => {
    const { sink, client, peer, closed } = await open()
    socketOf(client).write(Buffer.from(bytes))
    await untilClosed(sink, peer)
    assert.instance(peer.error, FrameError)
    assert.is(peer.error?.code, 'MALFORMED')
    assert.is((await closed)[0], status)
  })
}

test('a peer that breaks the rules and stays is cut after lingerMs', async () => {
  const { sink, client, peer } = await open({ timeouts: { lingerMs: 100 } })
  const socket = socketOf(client)
  socket.pause()
  socket.write(Buffer.of(0x83, 0x80, 0, 0, 0, 0))
  await untilClosed(sink, peer)
  assert.is(peer.error?.code, 'MALFORMED')
})

test('messages of one read that come in a pause are held, and a close behind them waits', async () => {
  const { sink, client, peer } = await open()
  let calls = 0
  sink.onData = ({ link }) => {
    calls++
    link.pause()
  }
  const socket = socketOf(client)
  socket.cork()
  for (let i = 0; i < 5; i++) client.send(String(i))
  client.close(1000)
  socket.uncork()
  await sink.until(() => calls === 1)
  await nextTurn(20)
  for (let i = 1; i < 5; i++) {
    assert.is(calls, i)
    assert.is(peer.closes, 0)
    peer.link.resume()
    assert.is(calls, i, 'delivered from inside resume')
    await sink.until(() => calls === i + 1)
  }
  await nextTurn(20)
  assert.is(peer.closes, 0)
  peer.link.resume()
  await untilClosed(sink, peer)
  assert.is(peer.text, '01234')
  assert.equal(peer.events, ['open', 'data', 'end', 'close'])
})

test('abort drops what a pause holds, and closes though the peer has gone already', async () => {
  const { sink, client, peer } = await open()
  sink.onData = ({ link }) => link.pause()
  const socket = socketOf(client)
  socket.cork()
  client.send('a')
  client.send('b')
  socket.uncork()
  await sink.until(() => peer.text === 'a')
  socket.destroy()
  peer.link.abort()
  assert.is(peer.closes, 0, 'closed from inside abort')
  await untilClosed(sink, peer)
  assert.is(peer.text, 'a')
})

test('compressed: both ways, in both kinds, and a bomb is 1009', async () => {
  const { sink, client, peer, closed } = await open({ compress: true, limits: { frameBytes: 100_000 } })
  assert.match(client.extensions, /permessage-deflate/)
  const text = 'all work and no play '.repeat(1_000)
  client.send(text)
  await sink.until(() => peer.text === text)
  const got = new Promise((resolve) => client.once('message', (data, isBinary) => resolve([isBinary, String(data)])))
  peer.link.writeText?.(text)
  assert.equal(await got, [false, text])
  client.send(Buffer.alloc(10_000_000))
  assert.is((await closed)[0], 1009)
  await untilClosed(sink, peer)
  assert.is(peer.error?.code, 'TOO_LARGE')
  assert.is(peer.bytes, text.length)
})

test('compressed messages that inflate in a pause to more than is held end the link', async () => {
  const { sink, client, peer } = await open({ compress: true, limits: { frameBytes: 100_000 } })
  peer.link.pause()
  const socket = socketOf(client)
  for (let i = 0; i < 10; i++) client.send(Buffer.alloc(100_000))
  void socket
  // The first read may hold a part of them only; the rest stays with the kernel.
  peer.link.resume()
  sink.onData = ({ link }) => link.pause()
  await sink.until(() => peer.closes > 0 || peer.bytes === 100_000)
  for (let turn = 0; peer.closes === 0 && turn < 50; turn++) await nextTurn()
  assert.ok(peer.closes === 0 || peer.error?.code === 'TOO_LARGE')
})

test('pings are answered', async () => {
  const { client } = await open()
  const pong = new Promise((resolve) => client.once('pong', (data) => resolve(String(data))))
  client.ping('are you there')
  assert.is(await pong, 'are you there')
})

test('our own client: subprotocol and facts of the response; text reaches it as bytes', async () => {
  const { sink, listener } = await listen({ protocols: ['v1.chat'] })
  const ours = new Recorder()
  const link = await websocket.connect?.(listener.endpoint, { protocols: ['v1.chat', 'v0'] } as never, ours, never)
  const peer = await sink.peer()
  assert.is(link?.feature?.(WEBSOCKET)?.protocol, 'v1.chat')
  assert.is(link?.feature?.(WEBSOCKET)?.headers.upgrade, 'websocket')
  assert.is(peer.link.feature?.(WEBSOCKET)?.protocol, 'v1.chat')
  peer.link.writeText?.('zwölf €')
  await ours.until(() => Buffer.from(ours.peers[0]?.text ?? '', 'latin1').toString() === 'zwölf €')
  link?.end()
  await sink.until(() => peer.closes > 0)
  assert.is(peer.error, undefined)
})

test('F22 an upgrade in a pause of the listener waits, and is refused by unbind', async () => {
  const { sink, listener, url } = await listen()
  const first = new WebSocket(url)
  clients.push(first)
  await new Promise((resolve) => first.once('open', resolve))
  listener.pause()
  const second = new WebSocket(url)
  clients.push(second)
  const failed = new Promise<Error>((resolve) => second.once('error', resolve))
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.is(sink.peers.length, 1)
  await listener.unbind()
  assert.instance(await failed, Error)
  assert.is(sink.peers.length, 1)
  assert.is(sink.peers[0]?.closes, 0)
})

test.after(async () => {
  for (const client of clients) client.terminate()
  await Promise.all(listeners.map((listener) => listener.unbind()))
})
test.run()
