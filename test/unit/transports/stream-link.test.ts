import * as net from 'node:net'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { parseEndpoint } from '#src/core/endpoint.js'
import { ConnectionError } from '#src/core/errors.js'
import { defaultLimits } from '#src/core/options.js'
import type { LinkSink, Listener } from '#src/core/transport.js'
import { StreamLink } from '#src/transports/stream-link.js'
import { streamScope } from '#src/transports/stream-options.js'
import { tcp } from '#src/transports/tcp.js'
import { type Peer, Recorder, rawConnect } from './recorder.js'

const ANY = parseEndpoint('tcp://127.0.0.1:0')
const KiB = 1024
const never = new AbortController().signal
const listeners: Listener[] = []
const recorders: Recorder[] = []
const recorder = () => {
  const made = new Recorder()
  recorders.push(made)
  return made
}

async function listen(sink: LinkSink, options: object = {}): Promise<Listener> {
  const listener = await tcp.listen(ANY, options, sink)
  listeners.push(listener)
  return listener
}

test.after.each(async () => {
  // Half-open is allowed: what a test has not ended would live on.
  for (const { peers } of recorders.splice(0)) for (const { link } of peers) link.abort()
  await Promise.all(listeners.splice(0).map((listener) => listener.unbind()))
})

test('a reply still arrives after the peer half-closes (F9)', async () => {
  const sink = recorder()
  sink.onEnd = ({ link }) => {
    link.write(Buffer.from('late reply'))
    link.end()
  }
  const { endpoint } = await listen(sink)
  const raw = await rawConnect(endpoint)
  raw.socket.end('question')
  await raw.ended
  await raw.closed
  assert.is(raw.text, 'late reply')
  await sink.until(() => sink.peers[0]?.closes === 1)
  assert.equal(sink.peers[0]?.events, ['open', 'data', 'end', 'close'])
  assert.is(sink.peers[0]?.error, undefined)
})

test('after our end the peer is still heard (F10)', async () => {
  const sink = recorder()
  sink.onOpen = ({ link }) => link.end()
  const { endpoint } = await listen(sink)
  const raw = await rawConnect(endpoint)
  await raw.ended
  raw.socket.end('still talking')
  await sink.until(() => sink.peers[0]?.closes === 1)
  assert.is(sink.peers[0]?.text, 'still talking')
  assert.is(sink.peers[0]?.error, undefined)
})

test('a FIN inside a frame gives the part, then the end (F11)', async () => {
  const sink = recorder()
  const { endpoint } = await listen(sink)
  const raw = await rawConnect(endpoint)
  raw.socket.end('half a li')
  const peer = await sink.peer()
  await sink.until(() => peer.ends === 1)
  assert.is(peer.text, 'half a li')
  peer.link.end()
  await sink.until(() => peer.closes === 1)
})

test('a reset is one close with ConnectionError RESET and its cause (F13)', async () => {
  const sink = recorder()
  const { endpoint } = await listen(sink)
  const raw = await rawConnect(endpoint)
  raw.socket.write('part')
  const peer = await sink.peer()
  await sink.until(() => peer.bytes === 4)
  raw.socket.resetAndDestroy()
  await sink.until(() => peer.closes > 0)
  assert.equal(peer.events, ['open', 'data', 'close'])
  assert.instance(peer.error, ConnectionError)
  assert.is(peer.error?.code, 'RESET')
  assert.is((peer.error?.cause as NodeJS.ErrnoException | undefined)?.code, 'ECONNRESET')
})

test('a reset close behind the last bytes is RESET, not an end', async () => {
  const sink = recorder()
  const { endpoint } = await listen(sink)
  for (let i = 0; i < 20; i++) {
    const raw = await rawConnect(endpoint)
    raw.socket.write('half a li')
    raw.socket.resetAndDestroy()
    await raw.closed
  }
  await sink.until(() => sink.peers.length === 20 && sink.peers.every(({ closes }) => closes === 1))
  assert.equal([...new Set(sink.peers.map(({ error }) => error?.code))], ['RESET'])
  assert.is(
    sink.peers.reduce((sum, { ends }) => sum + ends, 0),
    0,
  )
})

test('abort is seen by the peer as a reset, also with bytes waiting and after end', async () => {
  const sink = recorder()
  const { endpoint } = await listen(sink)
  for (const before of [
    (_: Peer) => {},
    ({ link }: Peer) => void link.write(Buffer.alloc(32 * KiB * KiB)),
    ({ link }: Peer) => {
      link.write(Buffer.alloc(32 * KiB * KiB))
      link.end()
    },
  ]) {
    const index = sink.peers.length
    const raw = await rawConnect(endpoint)
    raw.socket.pause()
    const peer = await sink.peer(index)
    before(peer)
    peer.link.abort(new Error('enough'))
    await sink.until(() => peer.closes === 1)
    assert.is(peer.error?.message, 'enough')
    raw.socket.resume()
    // libuv shows a reset behind a short read as an end; to write tells the two apart.
    await Promise.race([raw.closed, raw.ended])
    if (raw.error === undefined) raw.socket.write('x')
    await raw.closed
    assert.match(raw.error?.code ?? 'no error', /^(ECONNRESET|EPIPE)$/)
  }
})

test('abort while our end is under way closes once and leaves no handle', async () => {
  const sink = recorder()
  const { endpoint } = await listen(sink)
  const raw = await rawConnect(endpoint)
  const peer = await sink.peer()
  peer.link.end()
  peer.link.abort()
  await sink.until(() => peer.closes === 1)
  raw.socket.end()
  await raw.closed
  assert.is(peer.closes, 1)
})

test('write says stop at the high mark, drain comes once at or below the low mark', async () => {
  const sink = recorder()
  const limits = { ...defaultLimits, writeHighBytes: 128 * KiB, writeLowBytes: 32 * KiB }
  const { endpoint } = await listen(sink, { limits })
  const raw = await rawConnect(endpoint)
  raw.socket.pause()
  const { link } = await sink.peer()
  const peer = sink.peers[0] as Peer
  let written = 0
  let buffered = 0
  sink.drain = () => {
    peer.drains++
    buffered = link.buffered
  }
  while (link.write(Buffer.alloc(16 * KiB))) written += 16 * KiB
  written += 16 * KiB
  assert.ok(written >= 128 * KiB, `stopped at ${written}`)
  assert.is(link.write(Buffer.alloc(10)), false, 'taken, and still: stop')
  written += 10
  raw.socket.resume()
  await new Promise<void>((resolve) => {
    raw.socket.on('data', () => raw.text.length === written && resolve())
  })
  assert.is(peer.drains, 1)
  assert.ok(buffered <= 32 * KiB, `drain at ${buffered}`)
  assert.is(link.write(Buffer.from('x')), true)
  assert.is(link.buffered, 0)
})

test('F101 what waits for a peer that takes slowly shrinks while one large write is under way', async () => {
  const sink = recorder()
  const { endpoint } = await listen(sink)
  const raw = await rawConnect(endpoint)
  raw.socket.pause()
  const { link } = await sink.peer()
  const total = 32 * 1024 * KiB
  assert.is(link.write(Buffer.alloc(total)), false)
  const before = link.buffered
  assert.ok(before > 0 && before < total, `${before} of ${total} wait: the kernel has taken some`)
  let taken = 0
  raw.socket.on('data', (chunk) => {
    taken += chunk.length
    if (link.buffered < before && link.buffered > 0) raw.socket.emit('shrunk')
  })
  const shrunk = new Promise<void>((resolve) => raw.socket.once('shrunk', () => resolve()))
  raw.socket.resume()
  await shrunk
  assert.ok(taken < total)
})

test('text of several bytes a character counts for the marks and arrives as UTF-8', async () => {
  const sink = recorder()
  const { endpoint } = await listen(sink)
  const raw = await rawConnect(endpoint)
  raw.socket.pause()
  const { link } = await sink.peer()
  let written = 0
  while (link.writeText?.('€'.repeat(30_000))) written += 90_000
  written += 90_000
  assert.ok(written >= 64 * KiB)
  raw.socket.resume()
  await new Promise<void>((resolve) => {
    raw.socket.on('data', () => raw.text.length === written && resolve())
  })
  assert.is(Buffer.from(raw.text.slice(0, 9), 'latin1').toString(), '€€€')
})

test('writeMany sends its pieces in order, and true from it owes no drain', async () => {
  const sink = recorder()
  const { endpoint } = await listen(sink)
  const raw = await rawConnect(endpoint)
  const { link } = await sink.peer()
  const pieces = Array.from({ length: 40 }, (_, i) => Buffer.alloc(4 * KiB, 65 + (i % 26)))
  link.writeText?.('<')
  assert.is(link.writeMany?.(pieces), true, '160 KiB went to the kernel at once')
  link.writeText?.('>')
  await raw.until('>')
  assert.is(raw.text, `<${pieces.join('')}>`)
  assert.is(sink.peers[0]?.drains, 0)
})

test('endpoints are made when asked for, and stay', async () => {
  const sink = recorder()
  const { endpoint } = await listen(sink)
  const raw = await rawConnect(endpoint)
  const { link } = await sink.peer()
  const peer = sink.peers[0] as Peer
  assert.is(String(link.local), String(endpoint))
  assert.is(String(link.remote), `tcp://127.0.0.1:${raw.socket.localPort}`)
  raw.socket.resetAndDestroy()
  await sink.until(() => peer.closes === 1)
  assert.is(link.remote?.port, raw.socket.localPort ?? link.remote?.port)
  assert.is(link.remote?.host, '127.0.0.1')
})

test('a sink that throws loses its own link only', async () => {
  const sink = recorder()
  const { endpoint } = await listen(sink)
  sink.onOpen = (peer) => {
    if (sink.peers.indexOf(peer) === 1) throw new Error('open threw')
  }
  sink.onData = (peer, chunk) => {
    if (String(chunk) === 'bad') throw new Error('data threw')
    peer.link.write(chunk)
  }
  const honest = await rawConnect(endpoint)
  await sink.peer(0)
  // The reset may come before the connect was told.
  await rawConnect(endpoint).then(
    ({ closed }) => closed,
    () => {},
  )
  await sink.until(() => sink.peers.length === 2)
  const atData = await rawConnect(endpoint)
  atData.socket.write('bad')
  await atData.closed
  await sink.until(() => sink.peers[1]?.closes === 1 && sink.peers[2]?.closes === 1)
  assert.is(sink.peers[1]?.error?.message, 'open threw')
  assert.is(sink.peers[2]?.error?.message, 'data threw')
  honest.socket.write('good')
  await honest.until('good')
  honest.socket.destroy()
})

test('an error event out of nowhere ends its link and not the process (F49)', async () => {
  const server = net.createServer({ allowHalfOpen: true })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const sink = recorder()
  const accepted = new Promise<net.Socket>((resolve) => server.once('connection', resolve))
  const raw = await rawConnect({ port: (server.address() as net.AddressInfo).port, host: '127.0.0.1' })
  const socket = await accepted
  new StreamLink(socket, undefined, streamScope(ANY, 'accepted', {}, sink)).open()
  socket.emit('error', new Error('out of nowhere'))
  socket.emit('error', new Error('and again'))
  const peer = sink.peers[0] as Peer
  await sink.until(() => peer.closes === 1)
  assert.is(peer.error?.code, 'TRANSPORT_FAILED')
  assert.match(peer.error?.message ?? '', /out of nowhere/)
  await raw.ended
  raw.socket.destroy()
  server.close()
})

test('connect refuses to wait for nobody and for a signal that is aborted', async () => {
  const listener = await tcp.listen(ANY, {}, recorder())
  await listener.unbind()
  const refused = await tcp.connect?.(listener.endpoint, {}, recorder(), never).catch((error) => error)
  assert.is(refused.code, 'REFUSED')
  assert.match(refused.message, new RegExp(String(listener.endpoint)))
  const givenUp = await tcp
    .connect?.(listener.endpoint, {}, recorder(), AbortSignal.abort('why'))
    .catch((error) => error)
  assert.is(givenUp.code, 'CONNECT_TIMEOUT')
  const unknown = await tcp
    .connect?.(parseEndpoint('tcp://no-such-host.invalid:1'), {}, recorder(), never)
    .catch((error) => error)
  assert.is(unknown.code, 'TRANSPORT_FAILED')
})

test.run()
