/** The middleware that comes with the package, on real sockets: what a peer sees of it. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { HandClock } from '../support/clock.js'
import { eventually, Peer, serve, stopAll } from '../support/faults.js'

const echo = (line: string) => line

// A server whose time stands still would wait for its lingering peers for ever.
const clocks: HandClock[] = []
const handClock = () => clocks[clocks.push(new HandClock()) - 1] as HandClock
test.after(async () => {
  const moving = setInterval(() => {
    for (const clock of clocks) clock.advance(1_000)
  }, 5)
  await stopAll()
  clearInterval(moving)
})

test('ip-filter keeps a peer out before its first byte is read, and lets its neighbour in', async () => {
  const handled: string[] = []
  const { port, until } = await serve({
    middleware: [{ name: 'ip-filter', deny: ['127.0.0.2'] }],
    handler: (line: string) => {
      handled.push(line)
      return line
    },
  })
  const bad = (await Peer.open(port, { localAddress: '127.0.0.2' })).send('let me in\n')
  await bad.over
  assert.is(bad.heard, '')
  const { reason, remote } = await until('connection.refused')
  assert.is(reason, 'REFUSED')
  assert.is(remote?.host, '127.0.0.2')
  await (await Peer.open(port)).echoes('hello')
  assert.equal(handled, ['hello'])
})

test('ip-filter knows an IPv4 peer of a dual-stack listener', async () => {
  const { port } = await serve({
    listen: 'tcp://[::]:0',
    middleware: [{ name: 'ip-filter', allow: ['127.0.0.1', '::1'] }],
    handler: echo,
  })
  await (await Peer.open(port)).echoes('mapped')
  await (await Peer.open(port, { host: '::1' })).echoes('six')
  const other = await Peer.open(port, { localAddress: '127.0.0.2' })
  await other.over
})

test('max-per-source refuses what is over, touches no other source, and counts those that leave', async () => {
  const { port, count, server } = await serve({ middleware: [{ name: 'max-per-source', max: 20 }], handler: echo })
  const greedy = await Promise.all(Array.from({ length: 60 }, () => Peer.open(port, { localAddress: '127.0.0.2' })))
  await eventually(() => count('connection.refused') === 40, '40 of 60 are refused')
  await eventually(() => greedy.filter(({ isOver }) => isOver).length === 40, '40 of 60 see their end')
  await (await Peer.open(port)).echoes('from elsewhere')
  const staying = greedy.filter(({ isOver }) => !isOver)
  assert.is(staying.length, 20)
  for (const peer of staying) await peer.echoes('still here')
  for (const peer of greedy) peer.leave()
  await eventually(() => server.connections.size === 1, 'all from the greedy source are gone')
  await (await Peer.open(port, { localAddress: '127.0.0.2' })).echoes('again')
})

test('error-reply answers and the connection goes on', async () => {
  const { port, until } = await serve({
    middleware: ['error-reply'],
    handler: async (line: string) => {
      if (line === 'bad') throw new Error('secret')
      return line
    },
  })
  const peer = await Peer.open(port)
  peer.send('bad\n')
  await peer.hears('error HANDLER_FAILED\n')
  await peer.echoes('good')
  assert.not.match(peer.heard, 'secret')
  const { error } = await until('handler.failed')
  assert.match(error.message, 'secret')
})

test('rate-limit delays in order and loses nothing', async () => {
  const clock = handClock()
  const { port } = await serve({
    clock,
    middleware: [{ name: 'rate-limit', messages: 10, burst: 2 }],
    handler: echo,
  })
  const peer = await Peer.open(port)
  peer.send('1\n2\n3\n4\n5\n')
  await peer.hears('1\n2\n')
  assert.is(peer.heard, '1\n2\n')
  for (const heard of ['1\n2\n3\n', '1\n2\n3\n4\n', '1\n2\n3\n4\n5\n']) {
    clock.advance(100)
    await peer.hears(heard)
    assert.is(peer.heard, heard)
  }
})

test('rate-limit stops reading a peer that floods while its message waits', async () => {
  const clock = handClock()
  const { port, until, server } = await serve({
    clock,
    middleware: [{ name: 'rate-limit', messages: 1 }],
    limits: { readPauseBytes: 4_096 },
    handler: () => undefined,
  })
  const peer = await Peer.open(port)
  const flood = Buffer.alloc(1 << 20, 'x\n')
  for (let i = 0; i < 16; i++) peer.send(flood)
  const { cause } = await until('connection.paused')
  assert.is(cause, 'unprocessed')
  const [connection] = [...server.connections]
  assert.ok((connection?.stats.bytesIn ?? 0) < 1 << 20, `${connection?.stats.bytesIn} bytes read`)
  assert.is(connection?.stats.messagesIn, 2)
  peer.leave()
})

test('rate-limit tells of the message of a peer that is cut while it waits, and does not handle it', async () => {
  const handled: string[] = []
  const { port, until } = await serve({
    clock: handClock(),
    middleware: [{ name: 'rate-limit', messages: 1 }],
    handler: (line: string) => {
      handled.push(line)
      return line
    },
  })
  const peer = await Peer.open(port)
  peer.send('1\n2\n')
  await peer.hears('1\n')
  peer.socket.resetAndDestroy()
  const { error } = await until('message.dropped')
  assert.match(error.message, 'waited for the rate limit')
  for (const clock of clocks) clock.advance(5_000)
  assert.equal(handled, ['1'])
})

test('rate-limit refuses through error-reply, and the connection goes on', async () => {
  const clock = handClock()
  const { port } = await serve({
    clock,
    middleware: ['error-reply', { name: 'rate-limit', messages: 1, over: 'refuse' }],
    handler: echo,
  })
  const peer = await Peer.open(port)
  peer.send('1\n2\n')
  await peer.hears('1\nerror RATE_LIMITED\n')
  clock.advance(1_000)
  await peer.echoes('3')
})

test('rate-limit closes where it is told to', async () => {
  const { port, until } = await serve({
    middleware: [{ name: 'rate-limit', messages: 1, over: 'close' }],
    handler: echo,
  })
  const peer = await Peer.open(port)
  peer.send('1\n2\n3\n')
  await peer.over
  assert.is(peer.heard, '1\n')
  peer.leave()
  const { reason } = await until('connection.closed')
  assert.is(reason.code, 'RATE_LIMITED')
})

test('idle-timeout closes a peer that trickles bytes and no message', async () => {
  const clock = handClock()
  const { port, until, server } = await serve({
    clock,
    middleware: [{ name: 'idle-timeout', ms: 1_000 }],
    handler: echo,
  })
  const peer = await Peer.open(port)
  await peer.echoes('hello')
  for (let i = 0; i < 9; i++) {
    clock.advance(100)
    peer.send('x')
    await eventually(() => [...server.connections][0]?.stats.bytesIn === 7 + i, 'the byte has come')
  }
  assert.not.ok(peer.isOver)
  clock.advance(100)
  await peer.over
  peer.leave()
  const { reason } = await until('connection.closed')
  assert.is(reason.code, 'IDLE_TIMEOUT')
})

test('a mistake in a list is told at the start, with the entry', async () => {
  let error: unknown
  try {
    await serve({ middleware: [{ name: 'ip-filter', allow: ['10.0.0.0/33'] }], handler: echo })
  } catch (thrown) {
    error = thrown
  }
  assert.match(String(error), '10.0.0.0/33')
})

test.run()
