import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { parseEndpoint } from '#src/core/endpoint.js'
import type { Link } from '#src/core/transport.js'
import { udp } from '#src/transports/udp.js'
import { cleanUp, codeOf, Far, listen, settled, UdpRecord, until } from './udp-record.js'

test.after.each(cleanUp)

const remotes = (links: readonly (Link | undefined)[]) => links.map((link) => link?.remote?.port)

test('when the table is full the peer least recently heard makes room', async () => {
  const { record, port } = await listen('udp://127.0.0.1:0', { limits: { peers: 3 } })
  const far = await Promise.all([1, 2, 3, 4, 5].map(() => Far.open(port)))
  const say = async (i: number) => {
    const before = record.messages.length
    await far[i]?.send(String(i))
    await until(() => record.messages.length > before, `peer ${i}`)
  }
  for (const i of [0, 1, 2, 0, 1, 3]) await say(i)
  assert.equal(remotes(record.closed.map(({ link }) => link)), [far[2]?.port])
  const [evicted] = record.closed
  assert.is(codeOf(evicted?.error), 'CLOSED')
  assert.match(evicted?.error?.message ?? '', /evicted.*limits\.peers/)
  // Heard since: 0, 1, 3; the first of them goes next.
  await say(4)
  assert.equal(remotes(record.closed.map(({ link }) => link)), [far[2]?.port, far[0]?.port])
  // The one evicted is welcome again, as a new link.
  await say(2)
  assert.is(record.opened.length, 6)
  assert.is(record.opened.length - record.closed.length, 3)
})

test('with whenPeersFull refuse newcomers are ignored and counted, the known go on', async () => {
  const { record, port, listener } = await listen('udp://127.0.0.1:0', {
    limits: { peers: 2, whenPeersFull: 'refuse' },
  })
  const far = await Promise.all([1, 2, 3, 4].map(() => Far.open(port)))
  for (const each of far) await each.send('hello')
  await far[3]?.send('again')
  await far[0]?.send('known')
  await until(() => record.messages.length === 3, 'the known peer')
  assert.equal(record.texts(), ['hello', 'hello', 'known'])
  await until(() => record.faults.length > 0, 'the fault')
  assert.is(codeOf(record.faults[0]?.error), 'ACCEPT_FAILED')
  await cleanUp()
  await listener.unbind()
  assert.is(record.lost('peers-full'), 3)
  assert.ok(record.faults.length <= 2, 'one report a second')
})

test('a peer that is silent for peerIdleMs ends in order, one that speaks stays', async () => {
  const { record, port } = await listen('udp://127.0.0.1:0', { timeouts: { peerIdleMs: 80 } })
  const [silent, speaking] = [await Far.open(port), await Far.open(port)]
  await silent.send('only once')
  await until(() => record.opened.length === 1, 'the silent peer')
  record.onData = (link) => {
    if (link !== record.opened[0]) setImmediate(() => void speaking.send('on and on'))
  }
  const since = performance.now()
  await speaking.send('first')
  await until(() => record.closed.length === 1, 'the silent peer to expire')
  assert.ok(performance.now() - since > 70, 'too soon')
  record.onData = () => {}
  assert.is(record.closed[0]?.link, record.opened[0])
  assert.is(record.closed[0]?.error, undefined)
  await until(() => record.closed.length === 2, 'the other, once silent too')
  await silent.send('back')
  await until(() => record.opened.length === 3, 'a new link')
  await until(() => record.closed.length === 3, 'that expires as well: the sweep starts again')
})

test('with peerIdleMs unlimited nothing expires', async () => {
  const { record, port } = await listen('udp://127.0.0.1:0', { timeouts: { peerIdleMs: Number.POSITIVE_INFINITY } })
  const other = await listen('udp://127.0.0.1:0', { timeouts: { peerIdleMs: 40 } })
  const [far, brief] = [await Far.open(port), await Far.open(other.port)]
  await far.send('1')
  await until(() => record.opened.length === 1, 'the peer')
  await brief.send('2')
  await until(() => other.record.closed.length === 1, 'a peer of a listener with a limit to expire')
  assert.is(record.closed.length, 0)
})

test('a paused listener opens no link; newcomers wait and are opened on resume, the known go on', async () => {
  const { record, port, listener } = await listen('udp://127.0.0.1:0')
  const [known, one, two] = [await Far.open(port), await Far.open(port), await Far.open(port)]
  await known.send('known')
  await until(() => record.opened.length === 1, 'the known peer')
  listener.pause()
  await one.send('a')
  await two.send('b')
  await one.send('c')
  await known.send('still known')
  await until(() => record.messages.length === 2, 'the known peer')
  assert.is(record.opened.length, 1)
  listener.resume()
  assert.is(record.opened.length, 1, 'open came inside resume')
  await until(() => record.messages.length === 5, 'those that waited')
  assert.is(record.opened.length, 3)
  assert.equal(record.texts(record.opened[1]), ['a', 'c'])
  assert.equal(record.texts(record.opened[2]), ['b'])
})

test('a listener paused from inside open opens no more until resume', async () => {
  const { record, port, listener } = await listen('udp://127.0.0.1:0')
  listener.pause()
  const far = await Promise.all([1, 2, 3].map(() => Far.open(port)))
  const marker = await listen('udp://127.0.0.1:0')
  for (const each of far) await each.send('x')
  const last = await Far.open(marker.port)
  await last.send('marker')
  await until(() => marker.record.messages.length === 1, 'a turn of the loop')
  record.onOpen = () => listener.pause()
  for (let opened = 1; opened <= 3; opened++) {
    listener.resume()
    await until(() => record.opened.length === opened, `link ${opened}`)
    assert.is(record.opened.length, opened)
  }
})

test('what waits in a pause is bounded by the backlog, the rest is counted', async () => {
  const { record, port, listener } = await listen('udp://127.0.0.1:0')
  const [known, far] = [await Far.open(port), await Far.open(port)]
  await known.send('known')
  await until(() => record.opened.length === 1, 'the known peer')
  listener.pause()
  for (let i = 0; i < 600; i++) await far.send('x')
  await known.send('marker')
  await until(() => record.messages.length === 2, 'the marker')
  listener.resume()
  await until(() => record.messages.length === 2 + 511, 'those that waited')
  await cleanUp()
  assert.is(record.lost('listener-paused'), 600 - 511)
})

test('unbind opens no more links, keeps those there are both ways, and frees the address with the last', async () => {
  const { record, port, listener } = await listen('udp://127.0.0.1:0')
  const [known, stranger] = [await Far.open(port), await Far.open(port)]
  await known.send('1')
  await until(() => record.opened.length === 1, 'the known peer')
  await Promise.all([listener.unbind(), listener.unbind()])
  await stranger.send('2')
  await known.send('3')
  await until(() => record.messages.length === 2, 'the known peer')
  assert.equal(record.texts(), ['1', '3'])
  const link = record.opened[0] as Link
  link.write(Buffer.from('reply'))
  await until(() => known.received.length === 1, 'the reply')
  assert.is(await listen(`udp://127.0.0.1:${port}`).then(() => 'bound', codeOf), 'ADDRESS_IN_USE')
  link.end()
  await until(() => record.closed.length === 1, 'close')
  const again = await listen(`udp://127.0.0.1:${port}`)
  await stranger.send('4')
  await until(() => again.record.messages.length === 1, 'a message to the new listener')
  assert.is(record.opened.length, 1)
})

test('unbind without links frees the address at once, and refuses those that wait in a pause', async () => {
  const { record, port, listener } = await listen('udp://127.0.0.1:0')
  const marker = await listen('udp://127.0.0.1:0')
  listener.pause()
  const [far, other] = [await Far.open(port), await Far.open(marker.port)]
  await far.send('waiting')
  await other.send('marker')
  await until(() => marker.record.messages.length === 1, 'a turn of the loop')
  await listener.unbind()
  listener.resume()
  await listener.unbind()
  await listen(`udp://127.0.0.1:${port}`)
  assert.is(record.opened.length, 0)
})

test('whoever unbinds when told of an eviction gets no link for the newcomer', async () => {
  const { record, port, listener } = await listen('udp://127.0.0.1:0', { limits: { peers: 1 } })
  const close = record.close.bind(record)
  record.close = (link, error) => {
    void listener.unbind()
    close(link, error)
  }
  const [one, two] = [await Far.open(port), await Far.open(port)]
  await one.send('1')
  await until(() => record.opened.length === 1, 'the first')
  await two.send('2')
  await until(() => record.closed.length === 1, 'the eviction')
  await listen(`udp://127.0.0.1:${port}`)
  assert.is(record.opened.length, 1)
})

test('replies pending when the last link of an unbound listener ends still go', async () => {
  const { record, port, listener } = await listen('udp://127.0.0.1:0')
  const far = await Far.open(port)
  record.onData = (link) => {
    void listener.unbind()
    for (let i = 0; i < 10; i++) link.write(Buffer.from(String(i)))
    link.end()
  }
  await far.send('ask')
  await until(() => far.received.length === 10, 'ten replies')
  assert.equal(far.texts(), ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
})

test('20,000 sources cost no more memory than the table holds; active ones are kept', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const peers = 500
  let opened = 0
  let alive = 0
  const links = new Set<Link>()
  const sink = new UdpRecord()
  // A record keeps everything.
  sink.open = (link) => {
    opened++
    links.add(link)
  }
  sink.close = (link) => void links.delete(link)
  sink.data = (link, buffer, start, end) => {
    if (end - start === 1) alive++
    link.write(Buffer.from(buffer.buffer, buffer.byteOffset + start, end - start))
  }
  const listener = await udp.listen(parseEndpoint('udp://0.0.0.0:0'), settled({ limits: { peers } }), sink)
  const port = listener.endpoint.port as number
  const active = await Far.open(port)

  const flood = async (from: number, to: number) => {
    for (let i = from; i < to; i += 100) {
      const batch = await Promise.all(
        Array.from({ length: 100 }, (_, j) => Far.open(port, '127.0.0.1', `127.1.${(i + j) >> 8}.${(i + j) & 255}`)),
      )
      await Promise.all(batch.map((far) => far.send('hello')))
      const before = active.received.length
      await until(() => batch.every((far) => far.received.length === 1), 'the echoes')
      await active.send('!')
      await until(() => active.received.length > before, 'the active peer')
      for (const far of batch) far.close()
    }
    collect()
    await new Promise(setImmediate)
    collect()
    const { heapUsed, external, arrayBuffers } = process.memoryUsage()
    return heapUsed + external + arrayBuffers
  }
  const early = await flood(0, 5_000)
  const late = await flood(5_000, 20_000)
  assert.is(links.size, peers)
  assert.is(opened, 20_001, 'the active peer was evicted and opened again, or a source was missed')
  assert.is(alive, 200)
  assert.ok(late - early < 2 * 1024 * 1024, `memory grew by ${late - early} bytes`)
  void listener.unbind()
  for (const link of links) link.abort()
})

test.run()
