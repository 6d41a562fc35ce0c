/** UDP in depth: sources that would make loops, and peers that are not there. */
import { spawn } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { type Connection, connect, defineHandler } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, serve, stopAll } from '../support/faults.js'
import { skip } from '../support/skip.js'

test.after(stopAll)

/** A socket on a port of its own. */
async function bound(port: number) {
  const socket = createSocket('udp4')
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(port, '127.0.0.1', resolve)
  })
  return socket
}

test('a source is counted out as what it was counted in, though its peer has moved to another', async () => {
  const { port, server } = await serve({
    listen: 'udp://127.0.0.1:0',
    socket: { sessionKey: { length: 8 } },
    limits: { connectionsPerSource: 1 },
    timeouts: { peerIdleMs: 400 },
    handler: (line: string) => line,
  })
  const ask = async (address: string, text: string) => {
    const socket = createSocket('udp4')
    await new Promise<void>((resolve) => socket.bind(0, address, resolve))
    const heard = new Promise<string>((resolve) => socket.once('message', (message) => resolve(String(message).trim())))
    socket.send(text, port, '127.0.0.1')
    const answer = await heard
    socket.close()
    return answer
  }
  for (let i = 0; i < 3; i++) {
    assert.is(await ask('127.0.0.1', `key0000${i} one`), `key0000${i} one`)
    assert.is(await ask('127.0.0.2', `key0000${i} two`), `key0000${i} two`)
    await eventually(() => server.connections.size === 0, 'it was silent for long enough')
  }
  assert.is(server.counters['refused.source'] ?? 0, 0)
})

test('reserved source ports are never answered (F35)', async () => {
  const { port, until, server } = await serve({ listen: 'udp://127.0.0.1:0', handler: (line: string) => line })
  let heard = 0
  for (const source of [7, 19, 53]) {
    const socket = await bound(source).catch(() => undefined)
    if (socket === undefined) return skip('source ports', `port ${source} cannot be bound here`)
    socket.on('message', () => heard++)
    socket.send('loop', port, '127.0.0.1')
    const { error } = await until('listener.fault')
    assert.match(error.message, /that would be a loop/)
    socket.close()
  }
  assert.is(heard, 0)
  assert.is(server.connections.size, 0)
})

test('the list is the operator’s', async () => {
  const spare = await bound(0)
  const { port: mine } = spare.address()
  const { port, until } = await serve({
    listen: 'udp://127.0.0.1:0',
    socket: { refusePorts: [mine] },
    handler: (line: string) => line,
  })
  spare.send('hello', port, '127.0.0.1')
  await until('listener.fault')
  const other = await bound(0)
  other.send('hello', port, '127.0.0.1')
  assert.is(String(await new Promise((resolve) => other.once('message', resolve))), 'hello')
  spare.close()
  other.close()
})

test('a peer that is gone harms no other (F36)', async () => {
  const seen: Connection[] = []
  const handler = defineHandler({
    name: 'Echo',
    message: (line: string, connection: Connection) => {
      seen.push(connection)
      return line
    },
  })
  const { port } = await serve({ listen: 'udp://127.0.0.1:0', handler })
  const [gone, living] = [await bound(0), await bound(0)]
  gone.send('hello', port, '127.0.0.1')
  await new Promise((resolve) => gone.once('message', resolve))
  await new Promise<void>((resolve) => gone.close(resolve))
  // Nobody is there: the kernel is told by ICMP, and tells us with a later call.
  for (let i = 0; i < 5; i++) await seen[0]?.send('anybody?').catch(() => {})
  for (let i = 0; i < 5; i++) {
    living.send(`still ${i}`, port, '127.0.0.1')
    assert.is(String(await new Promise((resolve) => living.once('message', resolve))), `still ${i}`)
  }
  living.close()
})

/** Says `message` from a socket and gives the next answer. */
const asks = async (socket: Socket, message: string, port: number) => {
  const answer = new Promise((resolve) => socket.once('message', resolve))
  socket.send(message, port, '127.0.0.1')
  return String(await answer)
}

for (const [how, sessionKey] of Object.entries({
  'bytes of the datagram': { offset: 0, length: 4 },
  'a function': (datagram: Buffer) => (datagram[4] === 32 ? datagram.toString('latin1', 0, 4) : undefined),
})) {
  test(`a peer told by ${how} keeps its connection when its address changes; several share an address`, async () => {
    const handler = defineHandler({
      name: 'Counting',
      scope: 'connection',
      message: (line: string, connection: Connection) => {
        const count = ((connection.attributes.get('count') as number | undefined) ?? 0) + 1
        connection.attributes.set('count', count)
        return `${line.slice(5)} ${count} ${connection.remote?.port}`
      },
    })
    const { port, server } = await serve({ listen: 'udp://127.0.0.1:0', socket: { sessionKey }, handler })
    const [home, away] = [await bound(0), await bound(0)]
    const [here, there] = [home.address().port, away.address().port]
    assert.is(await asks(home, 'ada1 a', port), `a 1 ${here}`)
    assert.is(await asks(home, 'bob2 b', port), `b 1 ${here}`)
    assert.is(await asks(away, 'ada1 c', port), `c 2 ${there}`)
    assert.is(await asks(home, 'bob2 d', port), `d 2 ${here}`)
    // Without a key the address decides.
    assert.is(await asks(home, 'xy', port), ` 1 ${here}`)
    assert.is(server.connections.size, 3)
    home.close()
    away.close()
  })
}

test('a known key from a reserved port moves nobody; a key that throws loses one datagram', async () => {
  const spare = await bound(0)
  const { port: mine } = spare.address()
  const { port, until, server } = await serve({
    listen: 'udp://127.0.0.1:0',
    socket: {
      refusePorts: [mine],
      sessionKey: (datagram: Buffer) => {
        if (datagram[0] === 33) throw new Error('no key in this')
        return datagram.toString('latin1', 0, 1)
      },
    },
    handler: (line: string) => line,
  })
  const peer = await bound(0)
  assert.is(await asks(peer, 'k1', port), 'k1')
  spare.send('k2', port, '127.0.0.1')
  await until('listener.fault', ({ error }) => /would be a loop/.test(error.message))
  assert.is(await asks(peer, 'k3', port), 'k3')
  peer.send('!', port, '127.0.0.1')
  await until('listener.fault', ({ error }) => /sessionKey threw: no key in this/.test(error.message))
  assert.is(server.counters['lost.unkeyed'], 1)
  assert.is(server.connections.size, 1)
  spare.close()
  peer.close()
})

test('what is sent keeps to the rate; what waits is buffered, and the end comes behind it', async () => {
  const rate = 200_000
  const { port } = await serve({
    listen: 'udp://127.0.0.1:0',
    socket: { sendRate: rate },
    handler: async (_line: string, connection: Connection) => {
      for (let i = 0; i < 200; i++) await connection.send('x'.repeat(1_000))
      connection.end()
    },
  })
  const peer = await bound(0)
  let heard = 0
  const began = performance.now()
  await new Promise<void>((resolve) => {
    peer.on('message', (datagram) => {
      heard += datagram.length
      if (heard === 200_000) resolve()
    })
    peer.send('go', port, '127.0.0.1')
  })
  const speed = 200_000 / ((performance.now() - began) / 1_000)
  // A busy machine makes it slower, never faster.
  assert.ok(speed < rate * 1.1, `${Math.round(speed)} bytes a second`)
  peer.close()
})

test('our own client keeps to its rate as well', async () => {
  let heard = 0
  const { port } = await serve({ listen: 'udp://127.0.0.1:0', handler: (line: string) => void (heard += line.length) })
  const client = await connect(`udp://127.0.0.1:${port}`, { socket: { sendRate: 100_000 } })
  const began = performance.now()
  for (let i = 0; i < 50; i++) await client.send('y'.repeat(1_000))
  await eventually(() => heard === 50_000, 'all of it')
  assert.ok(performance.now() - began > 400, 'half a second at least, less a burst')
  await client.close()
})

test('what the kernel dropped is counted (F32)', async () => {
  if (process.platform !== 'linux') return skip('kernel drops', 'this platform does not tell them')
  let received = 0
  const { port, server, until } = await serve({
    listen: 'udp://127.0.0.1:0',
    socket: { receiveBuffer: 4_096 },
    handler: () => {
      received++
      // Nothing is read meanwhile.
      if (received === 1) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300)
    },
  })
  const script = `const s = require('dgram').createSocket('udp4'); let left = 500
    for (let i = 0; i < 500; i++) s.send('z'.repeat(500), ${port}, '127.0.0.1', () => --left || s.close())`
  const sender = spawn(process.execPath, ['-e', script])
  await new Promise((resolve) => sender.once('exit', resolve))
  const { error } = await until('listener.fault', (fault) => /dropped by the kernel/.test(fault.error.message))
  assert.match(error.message, /receive buffer was full; raise net\.core\.rmem_max/)
  await eventually(
    () => received + (server.counters['lost.kernel'] ?? 0) === 500,
    'received and dropped make what was sent',
  )
})

test('options of UDP that make no sense are refused at the start', async () => {
  for (const [socket, words] of [
    [{ sessionKey: { offset: 0 } }, /sessionKey.*\{ offset, length \}/],
    [{ sendRate: 0 }, /sendRate.*at least 1/],
  ] as const) {
    await serve({ listen: 'udp://127.0.0.1:0', socket: socket as never, handler: () => undefined }).then(
      () => assert.unreachable(),
      (error) => assert.match((error as Error).message, words),
    )
  }
})

test.run()
