/** What a protocol may do with a session: steps of its own, errors in its words, and taking the connection over. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { connect } from '#src/connect.js'
import type { Codec } from '#src/core/codec.js'
import { defineHandler } from '#src/core/handler.js'
import { compose } from '#src/core/pipeline.js'
import type { Protocol, ProtocolPort } from '#src/core/plugin.js'
import { createServer } from '#src/gaidaros.js'
import { lines, play, settle } from '../../support/session.js'

const codec: Codec = { ...(lines as Codec), route: (message) => String(message).split(' ')[0] }

function served(handler: Parameters<typeof play>[0]['handler'], given: Partial<Parameters<typeof play>[0]> = {}) {
  let port: ProtocolPort | undefined
  const protocol: Protocol = { codec, serve: (given) => void (port = given) }
  const played = play({ ...given, handler: handler ?? {}, plan: { protocol, ...given.plan } })
  return { ...played, port: port as unknown as ProtocolPort }
}

test('a protocol answers by itself what the handler has no method for', () => {
  const protocol: Protocol = {
    codec,
    middleware: { name: 'p', message: ({ route }, next) => (route === 'PING' ? 'PONG' : next()) },
  }
  const steps = protocol.middleware?.message
  const { give, link, events } = play({
    codec,
    handler: { routes: new Map([['GET', () => 'got']]) },
    plan: {
      protocol: { ...protocol, errorReply: (error) => `ERR ${error.message}`, survives: () => true },
      messagePipeline: compose(steps === undefined ? [] : [steps]),
    },
  })
  give('PING\nGET a\nPUT a\nGET b\n')
  assert.is(link.sent, 'PONG\ngot\nERR no @OnMessage takes route `PUT`\ngot\n')
  assert.is(events.filter((name) => name.startsWith('handler.failed')).length, 1)
})

test('routes that pass its steps meet everybody else’s, and those without a method meet its steps', async () => {
  const seen: string[] = []
  const step = (who: string) => ({
    name: who,
    message: ({ route }: { route: string | undefined }, next: () => unknown) => {
      seen.push(`${who} ${route}`)
      return who === 'protocol' && route === 'PING' ? 'PONG' : next()
    },
  })
  const server = await createServer({
    config: false,
    listen: 'memory:passes',
    protocol: { codec, middleware: step('protocol'), passes: (route: string) => route !== 'PUT' } as Protocol,
    middleware: [step('global')],
    handler: defineHandler({ routes: { GET: () => 'got', PUT: () => 'put' } }),
  })
  await server.start()
  const client = await connect('memory:passes')
  const heard = []
  for (const line of ['GET a', 'PUT a', 'PING']) {
    await client.send(line)
    heard.push((await client.messages()[Symbol.asyncIterator]().next()).value)
  }
  assert.equal(heard, ['got', 'put', 'PONG'])
  assert.equal(seen, ['global GET', 'global PUT', 'protocol PUT', 'global PING', 'protocol PING'])
  await server.stop({ timeoutMs: 0 })
})

test('one that takes over gets replies as they are, in the turn', () => {
  const { port } = served({ message: (message) => ({ echo: message }), routes: new Map([['GET', () => 'got']]) })
  assert.equal(port.handle('a', undefined, 1), { echo: 'a' })
  assert.is(port.handle('a', 'GET', 1), 'got')
  assert.equal(port.handle('a', 'PUT', 1), { echo: 'a' })
  assert.is(port.connection.stats.messagesIn, 3)
})

test('what the handler throws is the protocol’s to answer, unless @OnError has', async () => {
  const { port, events } = served({ message: () => Promise.reject(new Error('no')) })
  await (port.handle('a', undefined, 1) as Promise<unknown>).then(
    () => assert.unreachable(),
    (error) => assert.match(error.message, /the message failed: no/),
  )
  assert.ok(events.includes('handler.failed HANDLER_FAILED'))
  assert.throws(() => served({ routes: new Map() }).port.handle('a', 'GET', 1), /no @OnMessage takes route `GET`/)
  const told = served({
    message: () => {
      throw new Error('no')
    },
    error: (error) => `sorry: ${error.message}`,
  })
  assert.is(told.port.handle('a', undefined, 1), 'sorry: no')
})

test('a handler that hangs fails at its deadline, and the connection is the protocol’s to end', async () => {
  const { port, clock, link } = served({ message: () => new Promise(() => {}) }, { timeouts: { handlerMs: 1_000 } })
  const reply = port.handle('a', undefined, 1) as Promise<unknown>
  clock.advance(2_000)
  await reply.then(
    () => assert.unreachable(),
    (error) => assert.match(error.message, /has not answered within handlerMs \(1000 ms\)/),
  )
  assert.equal(link.calls, [])
})

test('a drain is told, and the connection ends when the protocol says so', async () => {
  const { port, session, link } = served({ message: () => undefined })
  session.drain(new Date())
  await port.draining
  await settle()
  assert.equal(link.calls, [])
  void port.connection.close()
  assert.equal(link.calls, ['end'])
})

test('bytes go to the stream from the first one', async () => {
  const { port, give } = served({})
  const stream = port.connection.stream()
  give('raw bytes')
  await settle()
  assert.is(String(stream.read()), 'raw bytes')
})

test.run()
