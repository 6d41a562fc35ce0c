import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { parseEndpoint } from '#src/core/endpoint.js'
import type { Link } from '#src/core/transport.js'
import { udp } from '#src/transports/udp.js'
import { cleanUp, codeOf, Far, listen, until } from './udp-record.js'

test.after.each(cleanUp)

const IPV4_MOST = 65_507
const IPV6_MOST = 65_527

for (const [host, most] of [
  ['127.0.0.1', IPV4_MOST],
  ['[::1]', IPV6_MOST],
] as const) {
  test(`${host}: messages of 0, 1 and ${most} bytes come and go whole`, async () => {
    const { record, port, listener } = await listen(`udp://${host}:0`)
    record.onData = (link, bytes) => link.write(bytes)
    assert.is(udp.capabilities(listener.endpoint, {}).maxMessageBytes, most)
    const far = await Far.open(port, host.replace(/[[\]]/g, ''))
    for (const [i, size] of [0, 1, most].entries()) {
      const sent = Buffer.alloc(size, 'x')
      await far.send(sent)
      await until(() => far.received.length === i + 1, `an echo of ${size} bytes`)
      assert.ok(far.received[i]?.bytes.equals(sent), `${size} bytes came back different`)
      assert.is(record.messages[i]?.bytes.length, size)
    }
    assert.is(record.opened.length, 1)
  })

  test(`${host}: a message of ${most + 1} bytes is told of and not sent, the link lives`, async () => {
    const { record, port } = await listen(`udp://${host}:0`)
    const far = await Far.open(port, host.replace(/[[\]]/g, ''))
    await far.send('hello')
    await until(() => record.messages.length === 1, 'the peer')
    const link = record.opened[0] as Link
    assert.is(link.write(Buffer.alloc(most + 1)), true)
    await until(() => record.faults.length === 1, 'the fault')
    assert.is(codeOf(record.faults[0]?.error), 'MESSAGE_TOO_LARGE')
    assert.is(String(record.faults[0]?.remote), String(link.remote))
    assert.is(link.buffered, 0)
    link.write(Buffer.from('still here'))
    await until(() => far.received.length > 0, 'a reply')
    assert.equal(far.texts(), ['still here'])
    await assertRefusedByPlatform(far, most + 1)
  })
}

/** What the limit of ours rests on: the platform refuses the next byte itself. */
async function assertRefusedByPlatform(far: Far, size: number): Promise<void> {
  const error = await far.send(Buffer.alloc(size)).then(
    () => undefined,
    (thrown) => thrown,
  )
  assert.is(error?.code, 'EMSGSIZE')
}

test('a dual-stack listener sends no peer more than it declares', async () => {
  const { record, port } = await listen('udp://[::]:0')
  const far = await Far.open(port, '::1')
  await far.send('hello')
  await until(() => record.messages.length === 1, 'the peer')
  record.opened[0]?.write(Buffer.alloc(IPV4_MOST + 1))
  await until(() => record.faults.length === 1, 'the fault')
  record.opened[0]?.write(Buffer.alloc(IPV4_MOST))
  await until(() => far.received.length === 1, 'the largest')
  assert.is(far.received[0]?.bytes.length, IPV4_MOST)
})

test('what the capabilities say fits every peer that may come', () => {
  const most = (endpoint: string, options = {}) => udp.capabilities(parseEndpoint(endpoint), options).maxMessageBytes
  assert.is(most('udp://localhost:1'), IPV4_MOST)
  assert.is(most('udp://example.org:1'), IPV4_MOST)
  assert.is(most('udp://[::]:1'), IPV4_MOST)
  assert.is(most('udp://[::]:1', { ipv6Only: true }), IPV6_MOST)
  assert.is(most('udp://[::ffff:127.0.0.1]:1'), IPV4_MOST)
})

test('a link knows both its ends, and each peer has one of its own', async () => {
  const { record, port, listener } = await listen('udp://127.0.0.1:0')
  const [one, two] = [await Far.open(port), await Far.open(port, '127.0.0.1', '127.0.0.9')]
  await one.send('1')
  await until(() => record.opened.length === 1, 'the first')
  await two.send('2')
  await one.send('3')
  await until(() => record.messages.length === 3, 'three messages')
  assert.is(record.opened.length, 2)
  const [a, b] = record.opened as [Link, Link]
  assert.is(String(a.remote), `udp://127.0.0.1:${one.port}`)
  assert.is(String(b.remote), `udp://127.0.0.9:${two.port}`)
  assert.is(String(a.local), String(listener.endpoint))
  assert.equal(record.texts(a), ['1', '3'])
  assert.equal(record.texts(b), ['2'])
})

test('buffers are never written again: each datagram has its own memory', async () => {
  const { record, port } = await listen('udp://127.0.0.1:0')
  const far = await Far.open(port)
  for (let i = 0; i < 200; i++) await far.send(`datagram ${i}`)
  await until(() => record.messages.length === 200, '200 messages')
  assert.is(record.opened[0]?.stable, true)
  assert.is(new Set(record.messages.map(({ bytes }) => bytes.buffer)).size, 200)
  assert.equal(
    record.texts(),
    Array.from({ length: 200 }, (_, i) => `datagram ${i}`),
  )
})

test('write says false over the high mark and drain follows once', async () => {
  const { record, port } = await listen('udp://127.0.0.1:0')
  const far = await Far.open(port)
  await far.send('hello')
  await until(() => record.opened.length === 1, 'the peer')
  const link = record.opened[0] as Link
  const answers = [link.write(Buffer.alloc(60_000)), link.write(Buffer.alloc(10_000))]
  assert.equal(answers, [true, false])
  assert.is(link.buffered, 70_000)
  await until(() => record.drained.length > 0, 'drain')
  assert.is(link.buffered, 0)
  link.write(Buffer.alloc(1))
  await until(() => far.received.length === 3, 'three messages')
  assert.is(record.drained.length, 1)
})

test('an ended link sends what was written and closes later; the next datagram opens another', async () => {
  const { record, port } = await listen('udp://127.0.0.1:0')
  const far = await Far.open(port)
  let closedInside = 0
  record.onData = (link) => {
    link.write(Buffer.from('goodbye'))
    link.end()
    link.end()
    link.write(Buffer.from('late'))
    closedInside += record.closed.length
  }
  await far.send('1')
  await until(() => record.closed.length === 1 && far.received.length === 1, 'the end')
  assert.is(closedInside, 0)
  assert.is(record.closed[0]?.error, undefined)
  record.onData = () => {}
  await far.send('2')
  await until(() => record.messages.length === 2, 'another message')
  assert.is(record.opened.length, 2)
  assert.equal(far.texts(), ['goodbye'])
  assert.equal(record.order, ['open', 'data', 'close', 'open', 'data'])
})

test('abort closes once, with its reason', async () => {
  const { record, port } = await listen('udp://127.0.0.1:0')
  const far = await Far.open(port)
  await far.send('1')
  await until(() => record.opened.length === 1, 'the peer')
  const reason = new Error('enough')
  const link = record.opened[0] as Link
  link.abort(reason)
  assert.is(record.closed.length, 0)
  link.abort()
  link.end()
  await until(() => record.closed.length === 1, 'close')
  assert.is(record.closed[0]?.error, reason)
  link.write(Buffer.from('late'))
  assert.is(link.buffered, 0)
})

test('a link that open refuses delivers nothing', async () => {
  const { record, port } = await listen('udp://127.0.0.1:0')
  record.onOpen = (link) => link.abort()
  const far = await Far.open(port)
  await far.send('1')
  await until(() => record.closed.length === 1, 'close')
  assert.equal(record.order, ['open', 'close'])
})

test('a paused link holds 64 datagrams, counts the rest as lost, and goes on in order', async () => {
  const { record, port } = await listen('udp://127.0.0.1:0')
  const [far, other] = [await Far.open(port), await Far.open(port)]
  record.onOpen = (link) => {
    if (record.opened.length === 1) link.pause()
  }
  for (let i = 0; i < 74; i++) await far.send(String(i))
  await until(() => record.opened.length === 1, 'the peer')
  const link = record.opened[0] as Link
  await other.send('marker')
  await until(() => record.messages.length === 1, 'a later datagram of another peer')
  link.resume()
  assert.is(record.messages.length, 1, 'data came inside resume')
  await until(() => record.texts(link).length === 64, 'what was held')
  await far.send('after')
  await until(() => record.texts(link).includes('after'), 'what came after')
  assert.equal(record.texts(link), [...Array.from({ length: 64 }, (_, i) => String(i)), 'after'])
  await cleanUp()
  assert.is(record.lost('link-paused'), 10)
  assert.ok(record.faults.every(({ error }) => codeOf(error) === 'RATE_LIMITED'))
})

test('a paused link holds at most 64 KiB, but one datagram always', async () => {
  const { record, port } = await listen('udp://127.0.0.1:0')
  const [far, other] = [await Far.open(port), await Far.open(port)]
  record.onOpen = (link) => {
    if (record.opened.length === 1) link.pause()
  }
  await far.send(Buffer.alloc(IPV4_MOST))
  await far.send(Buffer.alloc(1_000))
  await until(() => record.opened.length === 1, 'the peer')
  await other.send('marker')
  await until(() => record.messages.length === 1, 'a later datagram of another peer')
  record.opened[0]?.resume()
  await until(() => record.messages.length === 2, 'what was held')
  await cleanUp()
  assert.is(record.messages[1]?.bytes.length, IPV4_MOST)
  assert.is(record.lost('link-paused'), 1)
})

test('pause inside data stops at once; what is unread when the link ends is told of', async () => {
  const { record, port } = await listen('udp://127.0.0.1:0')
  const [far, other] = [await Far.open(port), await Far.open(port)]
  record.onData = (link) => link.pause()
  for (const text of ['1', '2', '3', '4']) await far.send(text)
  await until(() => record.messages.length === 1, 'the first')
  await other.send('marker')
  await until(() => record.messages.length === 2, 'a later datagram of another peer')
  const link = record.opened[0] as Link
  link.resume()
  await until(() => record.texts(link).length === 2, 'the second')
  link.end()
  await until(() => record.closed.length === 1, 'close')
  await cleanUp()
  assert.equal(record.texts(link), ['1', '2'])
  assert.is(record.lost('unread'), 2)
})

test.run()
