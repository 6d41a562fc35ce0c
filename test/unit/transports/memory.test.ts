import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Endpoint, parseEndpoint } from '#src/core/endpoint.js'
import { BindError, ConnectionError } from '#src/core/errors.js'
import { validate } from '#src/core/standard-schema.js'
import type { Link, LinkSink } from '#src/core/transport.js'
import { createMemoryTransport, memory } from '#src/transports/memory.js'

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
const never = () => new AbortController().signal

/** Notes every call; `until` resolves when a call of that name has come. */
function recorder() {
  const calls: [string, unknown?][] = []
  const links: Link[] = []
  const waiting: [string, () => void][] = []
  const note = (name: string, value?: unknown) => {
    calls.push([name, value])
    for (const [wanted, resolve] of waiting) if (wanted === name) resolve()
  }
  const sink: LinkSink = {
    open(link) {
      links.push(link)
      note('open')
    },
    data: (_link, buffer, start, end) => note('data', Buffer.from(buffer.subarray(start, end)).toString('latin1')),
    end: () => note('end'),
    drain: () => note('drain'),
    close: (_link, error) => note('close', error),
    fault: (error) => note('fault', error),
  }
  const until = (name: string) =>
    calls.some(([given]) => given === name) ? undefined : new Promise<void>((resolve) => waiting.push([name, resolve]))
  return { sink, calls, links, until, names: () => calls.map(([name]) => name) }
}

async function pair(options = {}) {
  const transport = createMemoryTransport()
  const server = recorder()
  const client = recorder()
  const listener = await transport.listen(parseEndpoint('memory:'), options, server.sink)
  const near = await transport.connect!(listener.endpoint, options, client.sink, never())
  await server.until('open')
  return { transport, listener, server, client, near, far: server.links[0] as Link }
}

test('an empty name picks a fresh one that can be connected to', async () => {
  const one = await memory.listen(parseEndpoint('memory:'), {}, recorder().sink)
  const two = await memory.listen(parseEndpoint('memory:'), {}, recorder().sink)
  assert.instance(one.endpoint, Endpoint)
  assert.is.not(one.endpoint.path, '')
  assert.is.not(one.endpoint.path, two.endpoint.path)
  await one.unbind()
  await two.unbind()
})

test('a name is taken once, and free again after unbind', async () => {
  const endpoint = parseEndpoint('memory:taken')
  const first = await memory.listen(endpoint, {}, recorder().sink)
  try {
    await memory.listen(endpoint, {}, recorder().sink)
    assert.unreachable()
  } catch (error) {
    assert.instance(error, BindError)
    assert.is((error as BindError).code, 'ADDRESS_IN_USE')
  }
  await first.unbind()
  await (await memory.listen(endpoint, {}, recorder().sink)).unbind()
})

test("two transports do not see each other's names", async () => {
  const listener = await memory.listen(parseEndpoint('memory:mine'), {}, recorder().sink)
  const refused = await createMemoryTransport().connect!(listener.endpoint, {}, recorder().sink, never()).catch(
    (e: Error) => e,
  )
  assert.instance(refused, ConnectionError)
  assert.is((refused as ConnectionError).code, 'REFUSED')
  await listener.unbind()
})

test('writes of one turn arrive joined on the stream kind and apart on the message kind', async () => {
  for (const [kind, expected] of [
    ['stream', ['abc']],
    ['message', ['a', '', 'bc']],
  ] as const) {
    const { near, server, listener } = await pair({ kind })
    for (const part of ['a', '', 'bc']) near.write(Buffer.from(part))
    await server.until('data')
    assert.equal(
      server.calls.filter(([name]) => name === 'data').map(([, text]) => text),
      expected,
    )
    near.abort()
    await server.until('close')
    await listener.unbind()
  }
})

test('a sink that throws loses its own link and no other', async () => {
  const { transport, listener, near, client, server, far } = await pair()
  const data = server.sink.data
  server.sink.data = (link, buffer, start, end) => {
    if (link === far) throw new Error('a fault in the sink')
    data(link, buffer, start, end)
  }
  const honest = recorder()
  const other = await transport.connect!(listener.endpoint, {}, honest.sink, never())
  near.write(Buffer.from('x'))
  other.write(Buffer.from('y'))
  await client.until('close')
  await server.until('data')
  assert.is((client.calls.find(([name]) => name === 'close')?.[1] as ConnectionError).code, 'RESET')
  assert.match((server.calls.find(([name]) => name === 'close')?.[1] as Error).message, 'a fault in the sink')
  assert.not(honest.names().includes('close'))
  other.abort()
})

test('a paused listener holds a backlog and refuses one more', async () => {
  const transport = createMemoryTransport()
  const server = recorder()
  const listener = await transport.listen(parseEndpoint('memory:'), { backlog: 2 }, server.sink)
  listener.pause()
  const clients = [recorder(), recorder(), recorder()]
  const dialled = await Promise.allSettled(
    clients.map((client) => transport.connect!(listener.endpoint, {}, client.sink, never())),
  )
  assert.equal(
    dialled.map(({ status }) => status),
    ['fulfilled', 'fulfilled', 'rejected'],
  )
  assert.equal(server.names(), [])
  // One that gives up while it waits makes room, and is never opened.
  ;(dialled[0] as PromiseFulfilledResult<Link>).value.abort()
  const late = await transport.connect!(listener.endpoint, {}, recorder().sink, never())
  listener.resume()
  await server.until('open')
  await turn()
  assert.equal(server.names(), ['open', 'open'])
  late.abort()
})

test('unbind refuses those that wait in a pause', async () => {
  const transport = createMemoryTransport()
  const server = recorder()
  const client = recorder()
  const listener = await transport.listen(parseEndpoint('memory:'), {}, server.sink)
  listener.pause()
  await transport.connect!(listener.endpoint, {}, client.sink, never())
  await listener.unbind()
  await client.until('close')
  assert.is((client.calls.at(-1)?.[1] as ConnectionError).code, 'RESET')
  assert.equal(server.names(), [])
})

test('a sink may pause its listener from inside open', async () => {
  const transport = createMemoryTransport()
  const server = recorder()
  const listener = await transport.listen(parseEndpoint('memory:'), {}, server.sink)
  const open = server.sink.open
  server.sink.open = (link) => {
    open(link)
    listener.pause()
  }
  for (let i = 0; i < 3; i++) void transport.connect!(listener.endpoint, {}, recorder().sink, never())
  await server.until('open')
  await turn()
  assert.is(server.links.length, 1)
  listener.resume()
  await turn()
  assert.is(server.links.length, 2)
  await listener.unbind()
})

test('a message over the limit is reported, not sent, and the link lives', async () => {
  const { near, server, client } = await pair({ kind: 'message', maxMessageBytes: 4 })
  near.write(Buffer.from('12345'))
  near.write(Buffer.from('1234'))
  await server.until('data')
  assert.is((client.calls.find(([name]) => name === 'fault')?.[1] as ConnectionError).code, 'MESSAGE_TOO_LARGE')
  assert.equal(server.calls, [
    ['open', undefined],
    ['data', '1234'],
  ])
  near.abort()
})

test('a flood of empty messages is held back as well', async () => {
  const { near, far, client } = await pair({ kind: 'message' })
  far.pause()
  let taken = 1
  while (near.write(new Uint8Array(0))) taken++
  assert.is(taken, 1_024)
  far.resume()
  await client.until('drain')
  near.abort()
})

test("the marks are those of the listener's limits", async () => {
  const limits = { writeHighBytes: 10, writeLowBytes: 2 } as never
  const { near, far, client } = await pair({ limits })
  far.pause()
  assert.is(near.write(Buffer.alloc(9)), true)
  assert.is(near.write(Buffer.alloc(1)), false)
  assert.is(near.buffered, 10)
  far.resume()
  await client.until('drain')
  assert.is(near.buffered, 0)
  near.abort()
})

test('a wrong kind is refused with both kinds named', async () => {
  const { transport, listener, near } = await pair()
  const error = await transport.connect!(listener.endpoint, { kind: 'message' }, recorder().sink, never()).catch(
    (e) => e,
  )
  assert.is(error.code, 'REFUSED')
  assert.match(error.message, /stream.*message/)
  near.abort()
})

test('options are checked', () => {
  const issues = (validate(memory.options!, { knid: 'stream' }) as { issues: { message: string }[] }).issues
  assert.match(issues[0]!.message, 'nearest: `kind`')
  assert.equal(validate(memory.options!, {}), { value: { kind: 'stream', backlog: 511, maxMessageBytes: 65_507 } })
})

test.run()
