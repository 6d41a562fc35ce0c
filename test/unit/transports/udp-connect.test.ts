import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Link } from '#src/core/transport.js'
import { cleanUp, codeOf, connect, Far, listen, until } from './udp-record.js'

test.after.each(cleanUp)

async function closedPort(): Promise<number> {
  const socket = createSocket('udp4')
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const { port } = socket.address()
  socket.close()
  await once(socket, 'close')
  return port
}

for (const host of ['127.0.0.1', '[::1]', 'localhost']) {
  test(`${host}: both sides know each other and talk`, async () => {
    const server = await listen(`udp://${host}:0`)
    server.record.onData = (link, bytes) => link.write(bytes)
    const { link, record } = await connect(String(server.listener.endpoint))
    assert.is(record.opened[0], link)
    link.write(Buffer.from('hello'))
    await until(() => record.messages.length === 1, 'the echo')
    assert.equal(record.texts(), ['hello'])
    assert.is(String(server.record.opened[0]?.remote), String(link.local))
    assert.is(String(server.record.opened[0]?.local), String(link.remote))
    link.end()
    await until(() => record.closed.length === 1, 'close')
    assert.is(record.closed[0]?.error, undefined)
  })
}

test('a refusal by the far host closes that link only, with REFUSED', async () => {
  const server = await listen('udp://127.0.0.1:0')
  const other = await connect(String(server.listener.endpoint))
  const { link, record } = await connect(`udp://127.0.0.1:${await closedPort()}`)
  link.write(Buffer.from('anybody there?'))
  await until(() => record.closed.length === 1, 'the refusal')
  assert.is(codeOf(record.closed[0]?.error), 'REFUSED')
  const cause = record.closed[0]?.error?.cause as NodeJS.ErrnoException | undefined
  assert.is(cause?.code, 'ECONNREFUSED')
  assert.not.throws(() => link.write(Buffer.from('late')))
  other.link.write(Buffer.from('well'))
  await until(() => server.record.messages.length === 1, 'the other link')
  assert.is(other.record.closed.length, 0)
})

test('a listener survives peers that are gone when it replies', async () => {
  const { record, port } = await listen('udp://127.0.0.1:0')
  const [gone, other] = [await Far.open(port), await Far.open(port)]
  await gone.send('hello')
  await until(() => record.opened.length === 1, 'the peer')
  gone.close()
  const link = record.opened[0] as Link
  for (let i = 0; i < 5; i++) {
    link.write(Buffer.from('reply to nobody'))
    await other.send(`well ${i}`)
    await until(() => record.messages.length === i + 2, 'the other peer')
  }
  assert.is(record.closed.length, 0)
  assert.is(record.faults.length, 0)
})

test('a connected link hears its peer only', async () => {
  const server = await listen('udp://127.0.0.1:0')
  const { link, record } = await connect(String(server.listener.endpoint))
  const stranger = await Far.open(link.local?.port as number)
  await stranger.send('listen to me').catch(() => {})
  link.write(Buffer.from('ask'))
  server.record.onData = (peer) => peer.write(Buffer.from('answer'))
  await until(() => record.messages.length === 1, 'the answer')
  assert.equal(record.texts(), ['answer'])
  link.end()
  await until(() => record.closed.length === 1, 'close')
})

test('a client link does not expire', async () => {
  const server = await listen('udp://127.0.0.1:0')
  const { link, record } = await connect(String(server.listener.endpoint), { timeouts: { peerIdleMs: 1 } })
  const marker = await listen('udp://127.0.0.1:0', { timeouts: { peerIdleMs: 20 } })
  const far = await Far.open(marker.port)
  await far.send('1')
  await until(() => marker.record.closed.length === 1, "a listener's link to expire meanwhile")
  assert.is(record.closed.length, 0)
  link.abort()
  await until(() => record.closed.length === 1, 'close')
})

test('connecting is given up when the signal says so', async () => {
  const giveUp = new AbortController()
  const underWay = connect('udp://127.0.0.1:9', {}, giveUp.signal)
  giveUp.abort()
  assert.is(await underWay.then(() => 'connected', codeOf), 'CONNECT_TIMEOUT')
  assert.is(
    await connect('udp://127.0.0.1:9', {}, AbortSignal.abort()).then(() => 'connected', codeOf),
    'CONNECT_TIMEOUT',
  )
})

test('what cannot be connected to is told', async () => {
  // Without `broadcast` the kernel refuses (ip(7)); port 0 is nobody's.
  assert.is(await connect('udp://255.255.255.255:9').then(() => 'connected', codeOf), 'TRANSPORT_FAILED')
  assert.is(await connect('udp://127.0.0.1:0').then(() => 'connected', codeOf), 'TRANSPORT_FAILED')
  assert.is(await connect('udp://no-such-host.invalid:9').then(() => 'connected', codeOf), 'TRANSPORT_FAILED')
})

test.run()
