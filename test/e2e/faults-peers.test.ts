/** Slow, greedy and absurd peers, ends and resets: F1–F16, F20–F23 and F37 of the catalogue, on real sockets. */
import { existsSync, readdirSync } from 'node:fs'
import { type Connection, defineHandler } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, memory, Peer, serve, stopAll, turns } from '../support/faults.js'

const echo = (line: string) => line

test('F1 slowloris: a line that trickles is cut at its deadline, honest peers are served meanwhile', async () => {
  const { port, until, server } = await serve({ handler: echo, timeouts: { frameMs: 300 } })
  const slow = await Promise.all(Array.from({ length: 200 }, () => Peer.open(port)))
  const trickle = setInterval(() => slow.forEach((peer) => !peer.isOver && peer.send('x')), 40)
  const honest = await Peer.open(port)
  for (let i = 0; i < 20; i++) await honest.echoes(`line ${i}`)
  await Promise.all(slow.map((peer) => peer.over))
  clearInterval(trickle)
  const { reason } = await until('connection.closed', ({ reason }) => reason.code === 'TIMEOUT')
  assert.is(reason.error?.name, 'FrameError')
  await eventually(() => server.counters['closed.TIMEOUT'] === 200, 'all 200 are closed')
  await honest.echoes('still here')
  honest.leave()
})

test('F2 a peer that says nothing is closed as idle', async () => {
  const { port, until } = await serve({ handler: echo, timeouts: { idleMs: 200 } })
  const peer = await Peer.open(port)
  await peer.over
  peer.leave()
  assert.is((await until('connection.closed')).reason.code, 'IDLE_TIMEOUT')
})

test('F2 where a first byte is demanded, its absence closes', async () => {
  const { port, until } = await serve({ handler: echo, timeouts: { firstByteMs: 150 } })
  const peer = await Peer.open(port)
  await peer.over
  peer.leave()
  assert.is((await until('connection.closed')).reason.code, 'FIRST_BYTE_TIMEOUT')
})

test('F3 a line without end is refused at 64 KiB, and little more is read', async () => {
  const { port, until } = await serve({ handler: echo })
  const before = memory()
  const peer = await Peer.open(port)
  const block = 'x'.repeat(16 * 1024)
  const push = () => {
    while (!peer.isOver && !peer.socket.destroyed && peer.socket.write(block));
  }
  peer.socket.on('drain', push)
  push()
  const { connection, reason } = await until('connection.closed')
  assert.is(reason.code, 'TOO_LARGE')
  assert.ok(connection.stats.bytesIn <= 64 * 1024 + 128 * 1024, `${connection.stats.bytesIn} bytes were read`)
  assert.ok(memory().buffers - before.buffers < 5 * 1024 * 1024)
  peer.leave()
})

test('F4 absurd lengths are refused before anything is allocated for them', async () => {
  const { port, server } = await serve({ handler: (m: Buffer) => m, codec: 'length-field' })
  const before = memory()
  for (const head of ['ffffffff', '80000000', '7fffffff']) {
    const peer = (await Peer.open(port)).send(Buffer.from(head, 'hex'))
    await peer.over
    peer.leave()
  }
  await eventually(() => server.counters['closed.TOO_LARGE'] === 3, 'all three are refused')
  assert.ok(memory().buffers - before.buffers < 1024 * 1024)
})

test('F4 lengths of eight bytes beyond any number, and ones that are below their own header', async () => {
  const wide = await serve({ handler: (m: Buffer) => m, codec: { name: 'length-field', size: 8 } })
  const before = memory()
  for (const head of ['ffffffffffffffff', '8000000000000000', '0020000000000000', '001fffffffffffff']) {
    const peer = (await Peer.open(wide.port)).send(Buffer.from(head, 'hex'))
    await peer.over
    peer.leave()
  }
  const refused = ['TOO_LARGE', 'MALFORMED'].map((code) => `closed.${code}`)
  const count = () => refused.reduce((sum, name) => sum + (wide.server.counters[name] ?? 0), 0)
  await eventually(() => count() === 4, 'all four are refused')
  assert.ok(memory().buffers - before.buffers < 1024 * 1024)
  // The length counts its own four bytes: three is a frame of -1.
  const counted = await serve({ handler: (m: Buffer) => m, codec: { name: 'length-field', adjustment: -4 } })
  for (const head of ['00000003', '00000000']) {
    const peer = (await Peer.open(counted.port)).send(Buffer.from(head, 'hex'))
    await peer.over
    peer.leave()
  }
  await eventually(() => counted.server.counters['closed.MALFORMED'] === 2, 'both are refused')
  const honest = (await Peer.open(counted.port)).send(Buffer.from('0000000568', 'hex'))
  await honest.hears('h')
  honest.leave()
})

test('F5 a peer that asks and never reads is paused, bounded and, at the hard mark, cut; others are served', async () => {
  const { port, until, server } = await serve({
    handler: () => 'y'.repeat(64 * 1024),
    limits: { writeHardBytes: 4 * 1024 * 1024 },
  })
  const greedy = await Peer.open(port)
  greedy.socket.pause()
  for (let i = 0; i < 2_000; i++) greedy.send('more\n')
  await until('connection.paused', ({ cause }) => cause === 'write')
  const honest = await Peer.open(port)
  await honest.send('hi\n').hears('yyy')
  // Its requests wait in the kernel: nothing piles up here.
  await turns(50)
  assert.is(server.counters['closed.SLOW_PEER'], undefined)
  const [connection] = server.connections
  assert.ok((connection?.stats.messagesIn ?? 0) < 500, 'handling stopped with the reading')
  greedy.leave()
  honest.leave()
})

test('F5 what is pushed to a peer that does not read ends it as SLOW_PEER', async () => {
  let victim: Connection | undefined
  const { port, until } = await serve({
    handler: defineHandler({ open: (connection) => void (victim = connection), message: echo }),
    limits: { writeHardBytes: 2 * 1024 * 1024 },
  })
  const deaf = await Peer.open(port)
  deaf.socket.pause()
  await until('connection.opened')
  let isClosed = false
  void victim?.closed.then(() => (isClosed = true))
  for (let i = 0; i < 5_000 && !isClosed; i++) {
    victim?.send('z'.repeat(16 * 1024))
    if (i % 50 === 0) await turns(1)
  }
  assert.is((await until('connection.closed')).reason.code, 'SLOW_PEER')
  deaf.leave()
})

test('F9 a peer that half-closes after its request gets the whole answer, then the end', async () => {
  const answer = 'a'.repeat(1_000_000)
  const { port } = await serve({ handler: async () => answer })
  const peer = await Peer.open(port)
  peer.socket.end('x\n')
  await peer.over
  assert.is(peer.heard.length, answer.length + 1)
})

test('F10 we half-close first; what the peer still sends is handled', async () => {
  const heard: string[] = []
  const { port, until } = await serve({
    handler: defineHandler({
      open: (connection) => connection.end(),
      message: (line: string) => void heard.push(line),
    }),
  })
  const peer = await Peer.open(port)
  await peer.over
  peer.socket.end('one\ntwo\n')
  assert.is((await until('connection.closed')).reason.by, 'handler')
  assert.equal(heard, ['one', 'two'])
})

test('F11 an end inside a frame is TRUNCATED and the part is never delivered', async () => {
  const heard: string[] = []
  const { port, until } = await serve({ handler: (line: string) => void heard.push(line) })
  const peer = await Peer.open(port)
  peer.socket.end('whole\npart')
  assert.is((await until('connection.closed')).reason.code, 'TRUNCATED')
  assert.equal(heard, ['whole'])
  peer.leave()
})

test('F12 half-open: a peer that never finishes is reaped', async () => {
  const { port, until } = await serve({
    handler: defineHandler({ open: (connection) => connection.end(), message: echo }),
    timeouts: { halfClosedMs: 200 },
  })
  const peer = await Peer.open(port)
  assert.is((await until('connection.closed')).reason.code, 'HALF_CLOSED_TIMEOUT')
  peer.leave()
})

test('F13 a reset inside a frame, and one inside a reply: one close each, and the server serves on', async () => {
  const { port, until, count } = await serve({ handler: () => 'z'.repeat(8 * 1024 * 1024) })
  const first = await Peer.open(port)
  first.send('par')
  await until('connection.opened')
  await turns(5)
  first.socket.resetAndDestroy()
  assert.is((await until('connection.closed')).reason.code, 'RESET')
  const second = await Peer.open(port)
  second.socket.pause()
  second.send('go\n')
  await until('connection.opened')
  await until('connection.paused')
  second.socket.resetAndDestroy()
  assert.is((await until('connection.closed')).reason.code, 'RESET')
  assert.is(count('connection.closed'), 2)
  const third = await Peer.open(port)
  await third.send('go\n').hears('zzz')
  third.leave()
})

test('F14 a frame of 1 MiB in tiny writes arrives whole', async () => {
  const { port } = await serve({
    handler: (frame: Buffer) => `${frame.length}`,
    codec: { name: 'length-field', payload: 'bytes' },
  })
  const peer = await Peer.open(port)
  const frame = Buffer.alloc(4 + (1 << 20))
  frame.writeUInt32BE(1 << 20)
  for (let at = 0; at < frame.length; at += 64) {
    if (!peer.socket.write(frame.subarray(at, at + 64)))
      await new Promise((resolve) => peer.socket.once('drain', resolve))
  }
  await peer.hears('1048576')
  peer.leave()
})

test('F15 a million smallest frames in one burst: no recursion, and others have their turn', async () => {
  let count = 0
  const { port } = await serve({ handler: () => void count++ })
  const peer = await Peer.open(port)
  let ticks = 0
  const timer = setInterval(() => ticks++, 1)
  const block = Buffer.alloc(100_000, 'x\n')
  for (let i = 0; i < 20; i++) peer.send(block)
  await eventually(() => count === 1_000_000, 'all are handled', 30_000)
  clearInterval(timer)
  assert.ok(ticks > 10, `the loop turned ${ticks} times meanwhile`)
  peer.leave()
})

test('F16 100,000 pipelined requests, then the end: all answered, then our end', async () => {
  const { port } = await serve({ handler: echo })
  const peer = await Peer.open(port)
  peer.socket.end('ping\n'.repeat(100_000))
  await peer.over
  assert.is(peer.heard.length, 500_000)
})

test('F20 one over the limit is refused with a reason, never let in', async () => {
  const { port, until, server } = await serve({ handler: echo, limits: { connections: 3 } })
  const peers = await Promise.all([1, 2, 3].map(() => Peer.open(port)))
  await Promise.all(peers.map((peer, i) => peer.echoes(`p${i}`)))
  const fourth = new Peer(port)
  assert.is((await until('connection.refused')).reason, 'connections')
  await fourth.over
  assert.is(server.connections.size, 3)
  assert.is(server.counters['refused.connections'], 1)
  peers[0]?.leave()
  await until('limit.cleared')
  const fifth = await Peer.open(port)
  await fifth.echoes('in')
  for (const peer of [...peers, fourth, fifth]) peer.leave()
})

test('F20 by the policy `pause` newcomers wait and are served when there is room', async () => {
  const { port, until } = await serve({ handler: echo, limits: { connections: 1, whenFull: 'pause' } })
  const first = await Peer.open(port)
  await first.echoes('first')
  const second = await Peer.open(port)
  second.send('second\n')
  await turns(20)
  assert.is(second.heard, '')
  first.leave()
  await until('connection.closed')
  await second.hears('second')
  second.leave()
})

test('F21 a limit lowered below the count kills nobody and lets nobody in', async () => {
  const { port, until, server } = await serve({ handler: echo })
  const peers = await Promise.all([1, 2, 3].map(() => Peer.open(port)))
  await Promise.all(peers.map((peer, i) => peer.echoes(`p${i}`)))
  const listener = server.listeners.get('default')
  listener?.setLimits({ connections: 2 })
  new Peer(port)
  await until('connection.refused')
  await Promise.all(peers.map((peer, i) => peer.echoes(`still ${i}`)))
  peers[0]?.leave()
  peers[1]?.leave()
  await listener?.waitForConnections(1)
  const next = await Peer.open(port)
  await next.echoes('in again')
  for (const peer of [...peers, next]) peer.leave()
})

test('F22 suspend, ten connect, resume: ten of ten are served', async () => {
  const { port, server } = await serve({ handler: echo })
  const listener = server.listeners.get('default')
  listener?.suspend()
  assert.is(listener?.state, 'suspended')
  const peers = await Promise.all(Array.from({ length: 10 }, () => Peer.open(port)))
  peers.forEach((peer, i) => peer.send(`hello ${i}\n`))
  await turns(20)
  assert.is(server.connections.size, 0)
  listener?.resume()
  await Promise.all(peers.map((peer, i) => peer.hears(`hello ${i}`)))
  for (const peer of peers) peer.leave()
})

test('F23 a hundred from one source address, 400 refused; another source is untouched', async () => {
  const { port, server } = await serve({ handler: echo, limits: { connectionsPerSource: 100 } })
  const bad = Array.from({ length: 500 }, () => new Peer(port, { localAddress: '127.0.0.2' }))
  await eventually(() => (server.counters['refused.source'] ?? 0) === 400, 'the rest is refused')
  assert.is(server.connections.size, 100)
  const good = await Peer.open(port)
  await good.echoes('untouched')
  for (const peer of [...bad, good]) peer.leave()
})

test('waitForConnections resolves when the count is met', async () => {
  const { port, server } = await serve({ handler: echo })
  const listener = server.listeners.get('default')
  const three = listener?.waitForConnections((count) => count >= 3)
  const peers = [1, 2, 3].map(() => new Peer(port))
  await three
  for (const peer of peers) peer.leave()
  await listener?.waitForConnections(0)
})

test('F5 what a deaf peer had asked for is not worked off once it has gone', async () => {
  const answer = 'y'.repeat(16 * 1024)
  let handled = 0
  const { port, until } = await serve({
    handler: () => {
      handled++
      return answer
    },
  })
  const deaf = await Peer.open(port)
  deaf.socket.pause()
  const asked = 4_000
  deaf.send('give\n'.repeat(asked))
  await until('connection.paused', ({ cause }) => cause === 'write')
  await turns(50)
  const before = handled
  assert.ok(before < asked / 2, `${before} of ${asked} were handled while nobody read`)
  deaf.socket.resetAndDestroy()
  await until('connection.closed')
  // What is on its way when the reset comes: no more than the high mark lets out.
  assert.ok(handled - before < 100, `${handled - before} were handled for nobody`)
})

test('F6 a handler that pauses its connection: the peer is held by the kernel, nothing piles up here', async () => {
  const { port, until, server } = await serve({
    handler: defineHandler({
      message: (line: string, connection) => {
        if (line !== 'wait') return String(line.length)
        connection.pause()
        return undefined
      },
    }),
  })
  const peer = await Peer.open(port)
  const line = `${'x'.repeat(1_023)}\n`
  peer.send('wait\n')
  await until('connection.paused')
  const before = memory()
  const asked = 32 * 1_024
  for (let i = 0; i < 32; i++) peer.send(line.repeat(1_024))
  const honest = await Peer.open(port)
  for (let i = 0; i < 50; i++) await honest.send('hello\n').hears('5\n'.repeat(i + 1))
  const [paused] = server.connections as Iterable<Connection>
  const { bytesIn, messagesIn } = (paused as Connection).stats
  assert.is(messagesIn, 1)
  assert.ok(bytesIn < 1024 * 1024, `${bytesIn} bytes were read in the pause`)
  // What the peer itself holds back is its own, and of this process: a MiB each of 32.
  assert.ok(memory().heap - before.heap < 16 * 1024 * 1024)
  paused?.resume()
  await eventually(() => peer.heard.length === asked * '1023\n'.length, 'all of it is handled after the pause')
  peer.leave()
  honest.leave()
})

test('F7 a hundred subscribers, one of them deaf: it is cut, the others have everything in order', async () => {
  const subscribers = new Set<Connection>()
  const { port, until, server } = await serve({
    handler: defineHandler({
      open: (connection) => void subscribers.add(connection),
      message: echo,
      close: (connection) => void subscribers.delete(connection),
    }),
    limits: { writeHardBytes: 1024 * 1024 },
  })
  const peers = await Promise.all(Array.from({ length: 100 }, () => Peer.open(port)))
  await eventually(() => subscribers.size === 100, 'all are there')
  const [deaf, ...others] = peers as [Peer, ...Peer[]]
  deaf.socket.pause()
  const filler = 'z'.repeat(16 * 1024)
  // More than the kernel takes for it (some 6 MB) and the hard mark.
  const rounds = 1_000
  const received = others.map(() => ({ rest: '', next: 0 }))
  others.forEach((peer, index) => {
    const own = received[index] as { rest: string; next: number }
    peer.socket.removeAllListeners('data')
    peer.socket.on('data', (chunk) => {
      const lines = (own.rest + chunk.toString('latin1')).split('\n')
      own.rest = lines.pop() as string
      for (const line of lines) if (line === `${own.next} ${filler}`) own.next++
    })
  })
  for (let i = 0; i < rounds; i++) {
    await Promise.all(
      [...subscribers].map((one) => {
        const sent = one.send(`${i} ${filler}`)
        // The deaf one is not waited for: a publisher that did would be as deaf.
        return one.remote?.port === deaf.socket.localPort ? undefined : sent
      }),
    )
  }
  assert.is((await until('connection.closed')).reason.code, 'SLOW_PEER')
  await eventually(() => received.every(({ next }) => next === rounds), 'the 99 have all of it')
  assert.is(server.counters['closed.SLOW_PEER'], 1)
  assert.is(subscribers.size, 99)
  for (const peer of peers) peer.leave()
})

test('F37 a storm of 10,000 connects: counters balance, descriptors and heap are as before', async () => {
  const { port, server, seen } = await serve({ handler: echo })
  const storm = async (count: number) => {
    const lane = async (own: number) => {
      for (let i = 0; i < own; i++) {
        const peer = await Peer.open(port)
        await peer.echoes('hello')
        peer.socket.resetAndDestroy()
      }
    }
    await Promise.all(Array.from({ length: 50 }, () => lane(count / 50)))
    await eventually(() => server.connections.size === 0, 'all are gone')
  }
  await storm(1_000)
  seen.length = 0
  const descriptors = () => (existsSync('/proc/self/fd') ? readdirSync('/proc/self/fd').length : 0)
  const before = { descriptors: descriptors(), heap: memory().heap }
  await storm(10_000)
  seen.length = 0
  await turns(20)
  const after = { descriptors: descriptors(), heap: memory().heap }
  assert.is(server.counters.accepted ?? server.counters.opened, 11_000)
  assert.is(after.descriptors, before.descriptors)
  assert.ok(after.heap - before.heap < 2_000_000, `${after.heap - before.heap} bytes of heap stayed`)
})

test.after(stopAll)
test.run()
