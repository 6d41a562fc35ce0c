/** UDP in depth: sources that would make loops, and peers that are not there. */
import { createSocket } from 'node:dgram'
import { type Connection, defineHandler } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { serve, stopAll } from '../support/faults.js'
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

test.run()
