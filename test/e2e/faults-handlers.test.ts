/** Handlers, middleware and construction that fail, hostile payloads: F48–F52, F67–F69 of the catalogue. */

import { type Connection, defineHandler, Handler, HandlerError, type MiddlewareSet, OnMessage } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Peer, serve, stopAll } from '../support/faults.js'

test('F48 a throw closes this connection with its cause, and no other', async () => {
  const { port, until, count } = await serve({
    handler: (line: string) => {
      if (line === 'bad') throw new RangeError('boom')
      return line
    },
  })
  const [bad, good] = [await Peer.open(port), await Peer.open(port)]
  await good.echoes('before')
  bad.send('bad\n')
  await bad.over
  const { reason } = await until('connection.closed')
  assert.is(reason.code, 'HANDLER_FAILED')
  assert.instance(reason.error, HandlerError)
  assert.instance(reason.error?.cause, RangeError)
  assert.is(count('handler.failed'), 1)
  await good.echoes('after')
  good.leave()
})

test('F48 a rejection is reported once and is no unhandled rejection', async () => {
  const { port, until, count } = await serve({ handler: async () => Promise.reject(new Error('later')) })
  const peer = (await Peer.open(port)).send('x\n')
  await peer.over
  await until('connection.closed')
  assert.is(count('handler.failed'), 1)
})

test('F48 a handler that never answers is given up after handlerMs', async () => {
  const { port, until } = await serve({ handler: () => new Promise(() => {}), timeouts: { handlerMs: 150 } })
  const peer = (await Peer.open(port)).send('x\n')
  await peer.over
  assert.is((await until('handler.failed')).error.name, 'ExecutorError')
  assert.is((await until('connection.closed')).reason.code, 'TIMEOUT')
})

test('F48 with error-reply the peer is told, without secrets, and goes on', async () => {
  const { port, count } = await serve({
    middleware: ['error-reply'],
    handler: (line: string) => {
      if (line === 'bad') throw new Error('password=hunter2')
      return line
    },
  })
  const peer = await Peer.open(port)
  peer.send('bad\n')
  await peer.echoes('good')
  assert.match(peer.heard, /HANDLER_FAILED|error/i)
  assert.not.match(peer.heard, /hunter2/)
  assert.is(count('connection.closed'), 0)
  peer.leave()
})

test('F50 middleware that throws at the open refuses the connection', async () => {
  const broken: MiddlewareSet = {
    name: 'broken',
    connection() {
      throw new Error('not you')
    },
  }
  const { port, until, count } = await serve({ middleware: [broken], handler: (line: string) => line })
  const peer = await Peer.open(port)
  await peer.over
  await until('connection.refused')
  assert.is(count('connection.opened'), 0)
  assert.is(count('handler.failed'), 1)
})

test('F50 middleware that throws at a message: one error, one close', async () => {
  const broken: MiddlewareSet = {
    name: 'broken',
    message() {
      throw new Error('not this')
    },
  }
  const { port, until, count } = await serve({ middleware: [broken], handler: (line: string) => line })
  const peer = (await Peer.open(port)).send('x\n')
  await peer.over
  await until('connection.closed')
  assert.equal([count('handler.failed'), count('connection.closed')], [1, 1])
})

test('F50 middleware that throws after the close, and @OnClose that throws: the close stands, once', async () => {
  const broken: MiddlewareSet = {
    name: 'broken',
    async connection(_context, next) {
      await next()
      throw new Error('too late')
    },
  }
  const { port, until, count } = await serve({
    middleware: [broken],
    handler: defineHandler({
      message: (line: string) => line,
      close() {
        throw new Error('in close')
      },
    }),
  })
  const peer = await Peer.open(port)
  await peer.echoes('x')
  peer.leave()
  assert.is((await until('connection.closed')).reason.code, 'ENDED')
  await until('handler.failed')
  const next = await Peer.open(port)
  await next.echoes('served on')
  next.leave()
  assert.ok(count('connection.closed') <= 2)
})

test('F51 construction that fails six times costs six connections, not the listener', async () => {
  let attempts = 0
  class Fragile {
    constructor() {
      if (++attempts <= 6) throw new Error('no database')
    }
    echo(line: string) {
      return line
    }
  }
  OnMessage()(
    Fragile.prototype,
    'echo',
    Object.getOwnPropertyDescriptor(Fragile.prototype, 'echo') as PropertyDescriptor,
  )
  Handler({ scope: 'connection' })(Fragile)
  const { port, until, count } = await serve({ handler: Fragile })
  for (let i = 0; i < 6; i++) {
    const peer = await Peer.open(port)
    await peer.over
    assert.is((await until('handler.failed')).error.name, 'WiringError')
  }
  const seventh = await Peer.open(port)
  await seventh.echoes('constructed')
  assert.is(count('handler.failed'), 6)
  seventh.leave()
})

test('F52 a generator without an end that never has to wait: others have their turn', async () => {
  let isServed = false
  let isStarved = false
  function* endless() {
    const until = performance.now() + 10_000
    while (!isServed && !isStarved) {
      yield undefined
      isStarved = performance.now() > until
    }
  }
  const { port } = await serve({ handler: (line: string) => (line === 'go' ? endless() : line) })
  const greedy = await Peer.open(port)
  greedy.send('go\n')
  const honest = await Peer.open(port)
  await honest.echoes('hello')
  isServed = true
  assert.not(isStarved, 'the generator had ten seconds for itself')
  greedy.leave()
  honest.leave()
})

test('F49 an error event on a socket nobody listens to is contained', async () => {
  const { port, until } = await serve({ handler: (line: string) => line })
  for (let i = 0; i < 20; i++) {
    const peer = await Peer.open(port)
    peer.send('x\ny\nz')
    peer.socket.resetAndDestroy()
  }
  await until('connection.closed')
  const after = await Peer.open(port)
  await after.echoes('alive')
  after.leave()
})

test('F67 a prototype in JSON is refused, and pollutes nothing', async () => {
  const { port, until } = await serve({
    codec: 'json-lines',
    handler: (message: object) => ({ keys: Object.keys(message) }),
  })
  const peer = (await Peer.open(port)).send('{"__proto__":{"polluted":true}}\n')
  await peer.over
  assert.is((await until('connection.closed')).reason.code, 'MALFORMED')
  assert.is(({} as { polluted?: unknown }).polluted, undefined)
})

for (const [what, text] of [
  ['200,000 deep', `${'['.repeat(60_000)}\n`],
  ['not JSON', '{"a":}\n'],
  ['cut off', '{"a":"\n'],
] as const) {
  test(`F68 JSON that is ${what} is MALFORMED, and others are served`, async () => {
    const { port, until } = await serve({ codec: 'json-lines', handler: (message: unknown) => message })
    const peer = (await Peer.open(port)).send(text)
    await peer.over
    assert.is((await until('connection.closed')).reason.code, 'MALFORMED')
    const good = await Peer.open(port)
    await good.echoes('{"ok":1}')
    good.leave()
  })
}

for (const [what, bytes] of [
  ['a number beyond all numbers', Buffer.from('1e999999\n')],
  ['bad UTF-8', Buffer.from([0x22, 0xff, 0xfe, 0x22, 0x0a])],
] as const) {
  test(`F68 ${what} is MALFORMED`, async () => {
    const { port, until } = await serve({ codec: 'json-lines', handler: (message: unknown) => message })
    const peer = (await Peer.open(port)).send(bytes)
    await peer.over
    assert.is((await until('connection.closed')).reason.code, 'MALFORMED')
    peer.leave()
  })
}

test('F68 a lone surrogate passes as what it is', async () => {
  const { port } = await serve({ codec: 'json-lines', handler: (message: string) => message.length })
  const peer = (await Peer.open(port)).send('"\\ud800"\n')
  await peer.hears('1\n')
  peer.leave()
})

test('F69 routes are looked up, never matched: 64 KiB of a route cost no time', async () => {
  const handler = defineHandler({ routes: { GET: () => 'got' }, message: (m: string) => String(m.length) })
  const { port } = await serve({ handler, limits: { lineBytes: 65_536 } })
  const peer = await Peer.open(port)
  const began = process.cpuUsage()
  peer.send(`${'a'.repeat(65_000)}!\n`)
  await peer.hears('65001')
  const { user } = process.cpuUsage(began)
  assert.ok(user < 500_000, `${user} µs`)
  peer.leave()
})

test('a broadcast falls over no peer that has left', async () => {
  const room = new Set<Connection>()
  const { port, until } = await serve({
    handler: defineHandler({
      open: (connection) => void room.add(connection),
      message: (line: string) => {
        for (const one of room) one.send(line)
      },
    }),
  })
  const [a, b] = [await Peer.open(port), await Peer.open(port)]
  await a.echoes('both here')
  b.socket.resetAndDestroy()
  await until('connection.closed')
  await a.echoes('one left')
  a.leave()
})

test.after(stopAll)
test.run()
