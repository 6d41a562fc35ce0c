/** The opening handshake against raw clients: what is refused, with which status, and that it is told. */
import * as net from 'node:net'
import { connect as connectTls } from 'node:tls'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Endpoint, parseEndpoint } from '#src/core/endpoint.js'
import { HandshakeError } from '#src/core/errors.js'
import { TLS } from '#src/core/feature.js'
import { defaultTimeouts, type Timeouts, type TlsOptions } from '#src/core/options.js'
import type { Listener } from '#src/core/transport.js'
import { WEBSOCKET, type WebSocketOptions, websocket } from '#src/transports/websocket.js'
import { failure, nextTurn, Raw, Recorder, rawConnect } from './recorder.js'

const never = new AbortController().signal
const listeners: Listener[] = []
const recorders: Recorder[] = []

interface Given extends WebSocketOptions {
  timeouts?: Partial<Timeouts>
  tls?: TlsOptions
}

async function listen(endpoint: string, { timeouts, ...options }: Given = {}) {
  const sink = new Recorder()
  const all = { ...options, timeouts: { ...defaultTimeouts, ...timeouts } }
  const listener = await websocket.listen(parseEndpoint(endpoint), all, sink)
  listeners.push(listener)
  recorders.push(sink)
  return { sink, listener, endpoint: listener.endpoint }
}

const head = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
  `${method} ${path} HTTP/1.1\r\n${Object.entries({ Host: 'localhost', ...headers })
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('')}\r\n`
const upgrade = (more: Record<string, string> = {}) => ({
  Upgrade: 'websocket',
  Connection: 'Upgrade',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
  ...more,
})

/** Sends a request: the whole answer, once the server has ended. */
async function ask(endpoint: Endpoint, text: string): Promise<string> {
  const raw = await rawConnect(endpoint)
  raw.socket.write(text)
  await raw.ended
  raw.socket.destroy()
  return raw.text
}

/** A masked frame of a client with a mask of zeros (RFC 6455, section 5.2). */
const frame = (opcode: number, payload: Buffer, fin = true) => {
  const length =
    payload.length < 126
      ? Buffer.of(0x80 | payload.length)
      : Buffer.of(0x80 | 126, payload.length >> 8, payload.length & 255)
  return Buffer.concat([Buffer.of((fin ? 0x80 : 0) | opcode), length, Buffer.alloc(4), payload])
}

test('the answer of RFC 6455, section 1.3; text and binary arrive as bytes', async () => {
  const { sink, endpoint } = await listen('ws://127.0.0.1:0/chat')
  assert.is(endpoint.path, '/chat')
  const raw = await rawConnect(endpoint)
  raw.socket.write(head('/chat?room=1', upgrade({ Origin: 'https://example.org' })))
  await raw.until('\r\n\r\n')
  assert.match(raw.text, /^HTTP\/1\.1 101 /)
  assert.match(raw.text, /Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=/)
  assert.not.match(raw.text, /Extensions/i)
  const peer = await sink.peer()
  raw.socket.write(Buffer.concat([frame(1, Buffer.from('text ')), frame(2, Buffer.from('binary'))]))
  await sink.until(() => peer.text === 'text binary')
  const facts = peer.link.feature?.(WEBSOCKET)
  assert.is(facts?.path, '/chat?room=1')
  assert.is(facts?.origin, 'https://example.org')
  assert.is(facts?.headers.host, 'localhost')
  assert.is(facts?.protocol, undefined)
  assert.is(peer.link.feature?.(TLS), undefined)
  peer.link.write(Buffer.from('b'))
  peer.link.writeText?.('t')
  await raw.until('\x82\x01b\x81\x01t')
  raw.socket.destroy()
})

test('a request in the first bytes of which stands the first message loses nothing', async () => {
  const { sink, endpoint } = await listen('ws://127.0.0.1:0')
  const raw = await rawConnect(endpoint)
  raw.socket.write(Buffer.concat([Buffer.from(head('/', upgrade())), frame(1, Buffer.from('early'))]))
  const peer = await sink.peer()
  await sink.until(() => peer.text === 'early')
  raw.socket.destroy()
})

const { Connection: _, ...unconnected } = upgrade()
const { 'Sec-WebSocket-Key': __, ...keyless } = upgrade()
const refusals: [what: string, request: string, status: number, says: RegExp][] = [
  ['a wrong path', head('/other', upgrade()), 404, /\/other/],
  ['a wrong path of a plain request', head('/other'), 404, /\/other/],
  ['a longer path', head('/chat/more', upgrade()), 404, /\/chat\/more/],
  ['a plain request', head('/chat'), 426, /plain/],
  ['an Upgrade header that Connection does not name', head('/chat', unconnected), 426, /plain/],
  ['an upgrade to something else', head('/chat', upgrade({ Upgrade: 'h2c' })), 426, /plain/],
  ['another version', head('/chat', upgrade({ 'Sec-WebSocket-Version': '12' })), 426, /12/],
  ['another method', head('/chat', upgrade(), 'POST'), 405, /POST/],
  ['a missing key', head('/chat', keyless), 400, /Key/],
  ['a foreign origin', head('/chat', upgrade({ Origin: 'https://evil.example' })), 403, /evil/],
  ['bytes that are no HTTP', '\x16\x03\x01\x02\x00\x01', 400, /./],
  [
    'headers without end',
    `GET /chat HTTP/1.1\r\n${'X-Filler: '.padEnd(8_000, 'x').concat('\r\n').repeat(4)}`,
    431,
    /./,
  ],
]
for (const [what, request, status, says] of refusals) {
  test(`${what} is refused with ${status}`, async () => {
    const { sink, endpoint } = await listen('ws://127.0.0.1:0/chat', { origins: ['https://example.org'] })
    const answer = await ask(endpoint, request)
    assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `))
    assert.match(answer, /\r\nConnection: (Upgrade, )?close\r\n/i)
    if (status === 426) assert.match(answer, /Upgrade: websocket\r\n[\s\S]*Sec-WebSocket-Version: 13/)
    await sink.until(() => sink.faults.length > 0)
    await nextTurn(5)
    assert.is(sink.faults.length, 1)
    const { error, remote } = sink.faults[0] as (typeof sink.faults)[0]
    assert.instance(error, HandshakeError)
    assert.is(error.code, 'HANDSHAKE_FAILED')
    assert.is(error.fields?.status, status)
    assert.match(error.message, says)
    assert.is(remote?.scheme, 'ws')
    assert.is(sink.peers.length, 0)
  })
}

test('the origins that are listed, and clients that send none, are let in', async () => {
  const { sink, endpoint } = await listen('ws://127.0.0.1:0', { origins: ['https://Example.org'] })
  for (const headers of [upgrade({ Origin: 'https://example.org' }), upgrade()]) {
    const raw = await rawConnect(endpoint)
    raw.socket.write(head('/', headers))
    await raw.until('101 Switching')
    raw.socket.destroy()
  }
  assert.is(sink.faults.length, 0)
})

test('the first of our subprotocols that the client offers is agreed on; none is made up', async () => {
  const { sink, endpoint } = await listen('ws://127.0.0.1:0', { protocols: ['v2.chat', 'v1.chat'] })
  const agreed = async (offered: string) => {
    const raw = await rawConnect(endpoint)
    raw.socket.write(head('/', upgrade({ 'Sec-WebSocket-Protocol': offered })))
    await raw.until('\r\n\r\n')
    raw.socket.destroy()
    return /Sec-WebSocket-Protocol: (.*)\r\n/.exec(raw.text)?.[1]
  }
  assert.is(await agreed('v1.chat, v2.chat'), 'v2.chat')
  assert.is(await agreed('v1.chat, v0.chat'), 'v1.chat')
  assert.is(await agreed('v0.chat'), undefined)
  await sink.until(() => sink.peers.length === 3)
  const facts = sink.peers.map(({ link }) => link.feature?.(WEBSOCKET)?.protocol)
  assert.equal(facts, ['v2.chat', 'v1.chat', undefined])
})

test('F29 a request that trickles in is ended at the deadline, which trickling does not extend', async () => {
  const { sink, endpoint } = await listen('ws://127.0.0.1:0', { timeouts: { handshakeMs: 300 } })
  const raw = await rawConnect(endpoint)
  const began = performance.now()
  raw.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n')
  const trickle = setInterval(() => raw.socket.write('X-A: b\r\n'), 20)
  await raw.ended
  const took = performance.now() - began
  clearInterval(trickle)
  raw.socket.destroy()
  assert.match(raw.text, /^HTTP\/1\.1 408 /)
  assert.ok(took > 250, `ended after ${took} ms`)
  assert.ok(took < 3_000, `ended after ${took} ms`)
  assert.is(sink.faults[0]?.error.code, 'HANDSHAKE_TIMEOUT')
  assert.is(sink.faults.length, 1)
})

test('a peer that says nothing is ended at the deadline; one that leaves is told at once', async () => {
  const { sink, endpoint } = await listen('ws://127.0.0.1:0', { timeouts: { handshakeMs: 200 } })
  const silent = await rawConnect(endpoint)
  await silent.ended
  assert.is(sink.faults[0]?.error.code, 'HANDSHAKE_TIMEOUT')
  silent.socket.destroy()
  const leaving = await rawConnect(endpoint)
  leaving.socket.write('GET / HT')
  leaving.socket.resetAndDestroy()
  await sink.until(() => sink.faults.length === 2)
  assert.is(sink.faults[1]?.error.code, 'HANDSHAKE_FAILED')
})

test('a link that is open is not ended by the deadline of its handshake', async () => {
  const { sink, endpoint } = await listen('ws://127.0.0.1:0', { timeouts: { handshakeMs: 100 } })
  const raw = await rawConnect(endpoint)
  raw.socket.write(head('/', upgrade()))
  const peer = await sink.peer()
  // The absence of an end has no event to wait for.
  await new Promise((resolve) => setTimeout(resolve, 250))
  raw.socket.write(frame(1, Buffer.from('still here')))
  await sink.until(() => peer.text === 'still here')
  assert.is(peer.closes, 0)
  raw.socket.destroy()
})

test('wss: the facts of TLS; the deadline covers both handshakes', async () => {
  const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }])
  const { sink, endpoint } = await listen('wss://127.0.0.1:0', { tls: { cert, key }, timeouts: { handshakeMs: 800 } })
  const open = () =>
    new Promise<Raw>((resolve, reject) => {
      const socket = connectTls({ host: '127.0.0.1', port: endpoint.port as number, ca: cert, servername: 'localhost' })
      socket.once('secureConnect', () => resolve(new Raw(socket as net.Socket))).once('error', reject)
    })
  const raw = await open()
  raw.socket.write(head('/', upgrade()))
  const { link } = await sink.peer()
  assert.match(link.feature?.(TLS)?.protocol ?? '', /^TLSv1\.[23]$/)
  assert.is(link.feature?.(WEBSOCKET)?.path, '/')
  assert.is(link.remote?.scheme, 'wss')
  raw.socket.destroy()
  const slow = await open()
  await slow.ended
  slow.socket.destroy()
  assert.is(sink.faults.at(-1)?.error.code, 'HANDSHAKE_TIMEOUT')
  const plain = await rawConnect(endpoint)
  plain.socket.write(head('/', upgrade()))
  await plain.ended
  plain.socket.destroy()
  assert.is(sink.faults.at(-1)?.error.code, 'HANDSHAKE_FAILED')
})

test('wss without a certificate binds nothing', async () => {
  const error = await failure(listen('wss://127.0.0.1:0'))
  assert.is(error.code, 'BAD_VALUE')
  const unchecked = await failure(Promise.resolve(websocket.check?.(parseEndpoint('wss://127.0.0.1:0'), {})))
  assert.is(unchecked.code, 'BAD_VALUE')
})

test('options that make no sense are refused', () => {
  const issues = (options: object) => {
    const result = websocket.options?.['~standard'].validate(options)
    return (result as { issues?: unknown[] }).issues?.length ?? 0
  }
  assert.is(
    issues({ origins: ['https://example.org', 'null'], protocols: ['a', 'b'], compress: true, noDelay: false }),
    0,
  )
  assert.is(issues({ origins: ['example.org'] }), 1)
  assert.is(issues({ origins: ['https://example.org/path'] }), 1)
  assert.is(issues({ origins: 'https://example.org' }), 1)
  assert.is(issues({ protocols: ['a', 'a'] }), 1)
  assert.is(issues({ protocols: ['a b'] }), 1)
  assert.is(issues({ compres: true }), 1)
})

test('a client hears why: a status, an end before the answer, a server that never answers', async () => {
  const { endpoint } = await listen('ws://127.0.0.1:0/chat')
  const dial = (to: Endpoint, options = {}) => failure(websocket.connect?.(to, options, new Recorder(), never) as never)
  const refused = await dial(endpoint.with({ path: '/other' }))
  assert.is(refused.code, 'HANDSHAKE_FAILED')
  assert.is(refused.fields.status, 404)
  const sockets: net.Socket[] = []
  const server = net.createServer((socket) => {
    sockets.push(socket)
    if (sockets.length === 1) socket.end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const other = endpoint.with({ port: (server.address() as net.AddressInfo).port })
  assert.is((await dial(other)).code, 'RESET')
  assert.is((await dial(other, { timeouts: { ...defaultTimeouts, handshakeMs: 100 } })).code, 'HANDSHAKE_TIMEOUT')
  for (const socket of sockets) socket.destroy()
  server.close()
})

test.after(async () => {
  for (const sink of recorders) for (const { link } of sink.peers) link.abort()
  await Promise.all(listeners.map((listener) => listener.unbind()))
})
test.run()
