/** How a connection ends: after what is at work, at the pace of its peer, and never in silence. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Connection } from '#src/core/connection.js'
import { FrameError } from '#src/core/errors.js'
import { lines, type Played, play, settle } from '../../support/session.js'

const never = new Promise<never>(() => {})

/** A promise that the test settles. */
function held<T = string>(): { promise: Promise<T>; resolve(value: T): void; reject(error: Error): void } {
  let resolve: (value: T) => void = () => {}
  let reject: (error: Error) => void = () => {}
  const promise = new Promise<T>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve: (value) => resolve(value), reject: (error) => reject(error) }
}

/** Handlers by the ways they can run, each of which ends the connection and then replies. */
const ways: Readonly<
  Record<string, (verb: (connection: Connection) => void) => (m: unknown, c: Connection) => unknown>
> = {
  'a method': (verb) => (m, c) => {
    verb(c)
    return `re ${m}`
  },
  'an async method': (verb) => async (m, c) => {
    verb(c)
    return `re ${m}`
  },
  'an async method after a wait': (verb) => async (m, c) => {
    await new Promise((resolve) => setImmediate(resolve))
    verb(c)
    await null
    return `re ${m}`
  },
  'a generator': (verb) =>
    function* (m: unknown, c: Connection) {
      verb(c)
      yield 're'
      yield m
    } as never,
  'an async generator': (verb) =>
    async function* (m: unknown, c: Connection) {
      yield 're'
      await null
      verb(c)
      yield m
    } as never,
}
const verbs: Readonly<Record<string, (connection: Connection) => void>> = {
  end: (connection) => connection.end(),
  close: (connection) => void connection.close('DONE'),
}

for (const [way, make] of Object.entries(ways)) {
  for (const [verb, call] of Object.entries(verbs)) {
    test(`F100 ${verb}() in ${way} takes effect after its reply`, async () => {
      const { give, link, events, session, gone } = play({ handler: { message: make(call) } })
      give('x\n')
      await settle()
      await settle()
      assert.is(link.sent.replaceAll('\n', ' '), 're x ')
      assert.equal(
        link.calls.filter((one) => one !== 'resume'),
        ['end'],
      )
      assert.not.ok(events.some((event) => event.startsWith('message.dropped')))
      gone()
      const reason = await session.closed
      assert.equal([reason.code, reason.by], [verb === 'end' ? 'ENDED' : 'DONE', 'handler'])
    })
  }
}

for (const [verb, call] of Object.entries(verbs)) {
  test(`F100 ${verb}(), order concurrent: whatever was at work is answered first, and what came behind it is not`, async () => {
    const work = { a: held(), b: held() }
    const { give, link, events } = play({
      order: 'concurrent',
      handler: {
        async message(m, c) {
          if (m === 'bye') call(c)
          return m === 'a' || m === 'b' ? work[m].promise : m
        },
      },
    })
    give('a\nb\nbye\nlate\n')
    await settle()
    assert.is(link.sent, 'bye\n')
    assert.equal(link.calls, [])
    work.b.resolve('re b')
    await settle()
    work.a.resolve('re a')
    await settle()
    assert.is(link.sent, 'bye\nre b\nre a\n')
    assert.equal(
      link.calls.filter((one) => one === 'end'),
      ['end'],
    )
    assert.equal(
      events.filter((event) => event.startsWith('message.dropped')),
      ['message.dropped CLOSED'],
    )
  })

  test(`F100 ${verb}() waits for a handler that hangs no longer than handlerMs`, async () => {
    const { give, link, clock } = play({
      order: 'concurrent',
      timeouts: { handlerMs: 1_000 },
      handler: {
        async *message(m, c) {
          // Progress keeps a stream alive, and must not keep an end away.
          for (let i = 0; m === 'stream'; i++) yield await new Promise((resolve) => setImmediate(resolve, i))
          call(c)
          yield 'bye'
        },
      },
    })
    give('stream\nbye\n')
    await settle()
    for (let i = 0; i < 12 && !link.calls.includes('end'); i++) {
      await settle()
      clock.advance(100)
    }
    assert.ok(link.calls.includes('end'))
    assert.ok(link.sent.includes('bye\n'))
  })
}

test('F100 an async @OnOpen that ends the connection is answered before', async () => {
  for (const call of Object.values(verbs)) {
    const { link } = play({
      handler: {
        async open(connection) {
          await null
          call(connection)
          await null
          return 'go away'
        },
      },
    })
    await settle()
    assert.is(link.sent, 'go away\n')
    assert.equal(
      link.calls.filter((one) => one === 'end'),
      ['end'],
    )
  }
})

test('F100 what a handler sends behind its end() goes before the end, while it is at work', async () => {
  const { give, link } = play({
    handler: {
      async message(_m, c) {
        c.end()
        assert.is(c.state, 'ending')
        await c.send('sent')
        return 'returned'
      },
    },
  })
  give('x\n')
  await settle()
  assert.is(link.sent, 'sent\nreturned\n')
})

test('F100 abort() is now', async () => {
  const { give, link } = play({
    handler: {
      async message(_m, c) {
        await null
        c.abort('NOW')
        return 'no'
      },
    },
  })
  give('x\n')
  await settle()
  assert.is(link.sent, '')
  assert.ok(link.calls.includes('abort'))
})

const protocol = { codec: lines, errorReply: (error: Error) => `error ${(error as { code?: string }).code}` }

test('F100 a refused frame behind messages at work: their replies, its error, the end', async () => {
  const work = held()
  const { give, link } = play({
    order: 'concurrent',
    limits: { lineBytes: 10 },
    plan: { protocol: protocol as never },
    handler: { message: () => work.promise },
  })
  give(`a\nb\n${'x'.repeat(20)}\nmore\n`)
  await settle()
  assert.is(link.sent, '')
  give('and more\n')
  work.resolve('re')
  await settle()
  assert.is(link.sent, 're\nre\nerror TOO_LARGE\n')
  assert.equal(
    link.calls.filter((one) => one === 'end'),
    ['end'],
  )
})

test('F100 a throw behind messages at work: their replies, its error, the end', async () => {
  const work = held()
  const { give, link, session, gone } = play({
    order: 'concurrent',
    plan: { protocol: protocol as never },
    handler: {
      message(m) {
        if (m === 'bad') throw new Error('bad')
        return work.promise
      },
    },
  })
  give('a\nbad\nlate\n')
  await settle()
  assert.is(link.sent, '')
  work.resolve('re')
  await settle()
  assert.is(link.sent, 're\nerror HANDLER_FAILED\n')
  gone()
  assert.is((await session.closed).code, 'HANDLER_FAILED')
})

test('F100 a message over the limit behind messages that wait: they are handled first', async () => {
  const work = held()
  const { give, link } = play({
    kind: 'message',
    limits: { frameBytes: 10 },
    plan: { protocol: protocol as never },
    handler: { message: (m) => (m === 'a' ? work.promise : `re ${m}`) },
  })
  give('a')
  give('b')
  give('x'.repeat(20))
  work.resolve('re a')
  await settle()
  assert.equal(link.writes, ['re a\n', 're b\n', 'error TOO_LARGE\n'])
  assert.ok(link.calls.includes('end'))
})

test('an @OnError that never settles is under handlerMs, and is asked once', async () => {
  for (const text of [`${'x'.repeat(20)}\n`, 'throw\n']) {
    let asked = 0
    const { give, link, clock, events } = play({
      limits: { lineBytes: 10 },
      timeouts: { handlerMs: 1_000 },
      handler: {
        message: () => {
          throw new Error('bad')
        },
        error: () => {
          asked++
          return never
        },
      },
    })
    give(text)
    clock.advance(900)
    assert.equal(
      link.calls.filter((one) => one === 'end'),
      [],
    )
    clock.advance(300)
    await settle()
    assert.equal(
      link.calls.filter((one) => one === 'end'),
      ['end'],
    )
    assert.ok(events.includes('message.dropped TIMEOUT'))
    assert.is(asked, 1)
  }
})

// ── what waits is sent ──

/** A peer that takes so many bytes a step, until none wait. */
function take({ link, clock, session }: Played, bytes: number, everyMs: number, steps: number): void {
  for (let i = 0; i < steps && link.buffered > 0 && !link.calls.includes('abort'); i++) {
    clock.advance(everyMs)
    link.buffered = Math.max(0, link.buffered - bytes)
    if (link.buffered === 0) session.drained()
  }
}

const timeouts = { idleMs: 60_000, halfClosedMs: 10_000, lingerMs: 2_000, handlerMs: 5_000 }

test('F101 close(): a peer that takes slowly gets all; lingerMs begins when all is sent', () => {
  const played = play({ timeouts, handler: {} })
  const { link, session, clock } = played
  link.buffered = 8_000_000
  void session.close()
  take(played, 100_000, 1_000, 100)
  assert.is(link.buffered, 0)
  assert.equal(link.calls, ['end'])
  clock.advance(1_500)
  assert.not.ok(link.calls.includes('abort'), 'it may still take what the kernel has')
  clock.advance(2_000)
  assert.ok(link.calls.includes('abort'))
})

test('F101 close(): a peer that takes nothing is cut, and what it did not take is told', () => {
  const { link, session, clock, events } = play({ timeouts, handler: {} })
  link.buffered = 8_000_000
  void session.close()
  clock.advance(9_000)
  assert.not.ok(link.calls.includes('abort'))
  clock.advance(4_000)
  assert.ok(link.calls.includes('abort'))
  assert.ok(events.includes('message.dropped CLOSED'))
})

test('F101 a half-closed peer that takes slowly gets all; one that takes nothing is cut', () => {
  for (const bytes of [100_000, 0]) {
    const played = play({ timeouts, limits: { writeHighBytes: 1 }, handler: { message: (m) => m } })
    const { link, session, give } = played
    link.isWritable = false
    link.buffered = 8_000_000
    give('x\n')
    session.peerEnded()
    take(played, bytes, 1_000, 100)
    assert.is(link.calls.includes('abort'), bytes === 0)
    assert.is(link.buffered, bytes === 0 ? 8_000_000 : 0)
  }
})

test('F101 an open connection whose queue shrinks is not idle; one whose queue stands still is', () => {
  for (const bytes of [50_000, 0]) {
    const played = play({ timeouts, limits: { writeHighBytes: 1 }, handler: { message: (m) => m } })
    const { link, give, events } = played
    link.isWritable = false
    link.buffered = 8_000_000
    give('x\n')
    take(played, bytes, 1_000, 300)
    assert.is(events.includes('connection.expired IDLE_TIMEOUT'), bytes === 0)
  }
})

// ── half-close ──

test('F102 a peer that finishes within a patient drain is answered, whenever its answer comes', async () => {
  for (const isAsync of [false, true]) {
    const work = held()
    const { session, give, link, events } = play({ handler: { message: () => (isAsync ? work.promise : 'a') } })
    session.drain(new Date(), 1_000)
    give('q\n')
    session.peerEnded()
    work.resolve('a')
    await settle()
    await settle()
    assert.is(link.sent, 'a\n')
    assert.ok(link.calls.includes('end'))
    assert.not.ok(events.some((event) => event.startsWith('message.dropped')))
  }
})

test('F102 every way to end within the moment of parting sends the answer', async () => {
  const ends: Readonly<Record<string, (played: Played) => void>> = {
    'end()': ({ session }) => session.end(),
    'close()': ({ session }) => void session.close(),
    'the peer': ({ session }) => session.peerEnded(),
    'the operator': ({ session }) => void session.kill(new FrameError('TIMEOUT', 'over') as never, false),
  }
  for (const [who, end] of Object.entries(ends)) {
    const played = play({ handler: { message: () => 'a' } })
    played.session.drain(new Date(), 1_000)
    played.give('q\n')
    assert.is(played.link.sent, '', 'it is held back for the end')
    end(played)
    assert.is(played.link.sent, 'a\n', who)
    assert.ok(played.link.calls.includes('end'), who)
    await settle()
  }
})

test('F102 an answer that was held back when the link went is told', () => {
  const { session, give, gone, events } = play({ handler: { message: () => 'a' } })
  session.drain(new Date(), 1_000)
  give('q\n')
  gone()
  assert.ok(events.includes('message.dropped CLOSED'))
})

test('F102 a sender that waits for room goes on before our side ends behind the peer`s', async () => {
  const { session, give, link } = play({
    limits: { writeLowBytes: 1, writeHighBytes: 10 },
    handler: {
      message(_m, c) {
        void (async () => {
          for (let i = 0; i < 5; i++) await c.send('x'.repeat(20))
        })()
      },
    },
  })
  link.isWritable = false
  give('go\n')
  session.peerEnded()
  for (let i = 0; i < 20 && !link.calls.includes('end'); i++) {
    session.drained()
    await settle()
  }
  assert.is(link.sent.length, 5 * 21)
  assert.ok(link.calls.includes('end'))
})

test('halfOpen: our side stays open behind the peer`s until the handler or the idle deadline ends it', async () => {
  const { session, give, link, clock } = play({
    timeouts,
    plan: { halfOpen: true },
    handler: { message: (m) => m, peerEnd: () => 'heard' },
  })
  give('x\n')
  session.peerEnded()
  assert.is(link.sent, 'x\nheard\n')
  assert.equal(link.calls, [])
  clock.advance(30_000)
  await session.send('pushed')
  await settle()
  assert.is(link.sent, 'x\nheard\npushed\n')
  session.end()
  assert.equal(link.calls, ['end'])

  const idle = play({ timeouts, plan: { halfOpen: true }, handler: {} })
  idle.session.peerEnded()
  idle.clock.advance(59_000)
  assert.equal(idle.link.calls, [])
  idle.clock.advance(2_000)
  assert.ok(idle.events.includes('connection.expired IDLE_TIMEOUT'))
})

// ── frames that mean nothing ──

const picky = {
  ...lines,
  decode(frame: Uint8Array) {
    const text = Buffer.from(frame).toString()
    if (text.startsWith('bad')) throw new FrameError('MALFORMED', 'bad')
    return text
  },
}

for (const kind of ['stream', 'message'] as const) {
  for (const badFrame of ['close', 'skip', undefined] as const) {
    for (const error of [undefined, () => 'sorry', async () => 'sorry'] as const) {
      const goesOn = error !== undefined || (badFrame ?? (kind === 'stream' ? 'close' : 'skip')) === 'skip'
      const title = `F110 a bad frame of a ${kind} transport, badFrame ${badFrame}, ${error === undefined ? 'no' : error()} @OnError`
      test(`${title}: ${goesOn ? 'the connection goes on' : 'the end'}`, async () => {
        const { give, link, counters, events } = play({
          kind,
          codec: picky as never,
          plan: { badFrame },
          handler: { message: (m) => m, error },
        })
        for (const text of ['a', 'bad', 'b']) give(kind === 'stream' ? `${text}\n` : text)
        await settle()
        const said = error === undefined ? '' : 'sorry\n'
        assert.is(link.sent, goesOn ? `a\n${said}b\n` : 'a\n')
        assert.is(link.calls.includes('end'), !goesOn)
        assert.ok(events.includes('frame.refused MALFORMED'))
        if (goesOn && error === undefined) {
          assert.is(counters['dropped.MALFORMED'], 1)
          assert.ok(events.includes('message.dropped MALFORMED'))
        }
      })
    }
  }
}

test('F110 no datagram ends the session of the address it claims to come from', async () => {
  const codec = { ...picky, route: (m: unknown) => String(m).split(' ')[0] }
  const { give, link, counters } = play({
    kind: 'message',
    codec: codec as never,
    capabilities: { reliable: false },
    limits: { frameBytes: 10 },
    handler: { routes: new Map([['GET', () => 'got']]) },
  })
  give('bad')
  give('x'.repeat(20))
  give('PUT x')
  give('GET x')
  assert.is(link.sent, 'got\n')
  assert.equal(link.calls, [])
  assert.is(counters['dropped.MALFORMED'], 1)
  assert.is(counters['dropped.TOO_LARGE'], 1)
  assert.is(counters['dropped.UNROUTED'], 1)
})

test('a framer that lost its place closes whatever badFrame says', () => {
  const { give, link } = play({ limits: { lineBytes: 10 }, plan: { badFrame: 'skip' }, handler: { message: (m) => m } })
  give(`${'x'.repeat(20)}\nb\n`)
  assert.is(link.sent, '')
  assert.equal(link.calls, ['end'])
})

// ── streams and iterators ──

test('stream() gives the messages that waited, before those that come', async () => {
  const { session, give } = play({ kind: 'message', handler: { message: () => never } })
  give('first')
  give('a')
  give('b')
  const stream = session.stream()
  give('c')
  await settle()
  give('d')
  assert.is(String(stream.read()), 'abcd')
})

test('F116 a reset under a stream() that nobody listens to is told, and stays with its connection', async () => {
  const { session, gone, events } = play({ handler: {} })
  session.stream()
  await settle()
  gone(new Error('reset'))
  await settle()
  assert.equal(
    events.filter((event) => event.startsWith('handler.failed')),
    ['handler.failed HANDLER_FAILED'],
  )

  const listened = play({ handler: {} })
  const heard: string[] = []
  listened.session.stream().on('error', (error) => heard.push(error.message))
  await settle()
  listened.gone(new Error('reset'))
  await settle()
  assert.equal(heard, ['reset'])
  assert.not.ok(listened.events.some((event) => event.startsWith('handler.failed')))
})

/** An async iterator that waits in `next()` for ever, and says when it is ended. */
function waiting(): { items: AsyncIterableIterator<string>; ended: () => number } {
  let ended = 0
  const items = {
    next: () => never,
    return: async () => {
      ended++
      return { done: true, value: undefined }
    },
    [Symbol.asyncIterator]: () => items,
  } as AsyncIterableIterator<string>
  return { items, ended: () => ended }
}

test('a reply that waits in next() is ended by return() when its peer goes, when it is given up, when the end is due', async () => {
  const ways: Readonly<Record<string, (played: Played) => void>> = {
    'the peer goes': ({ gone }) => gone(new Error('reset')),
    'it is given up': ({ clock }) => clock.advance(6_000),
    'the operator': ({ session }) => void session.kill(new FrameError('TIMEOUT', 'over') as never, false),
    'the end is due': ({ session, clock }) => {
      session.end()
      clock.advance(6_000)
    },
  }
  for (const [way, happen] of Object.entries(ways)) {
    const { items, ended } = waiting()
    const played = play({ timeouts, handler: { message: () => items } })
    played.give('x\n')
    await settle()
    happen(played)
    await settle()
    assert.is(ended(), 1, way)
  }
})

test('a generator runs its finally when its peer goes between two items', async () => {
  let isOver = false
  const { give, gone, link } = play({
    limits: { writeLowBytes: 1, writeHighBytes: 10 },
    handler: {
      *message() {
        try {
          for (;;) yield 'x'.repeat(20)
        } finally {
          isOver = true
        }
      },
    },
  })
  link.isWritable = false
  give('x\n')
  await settle()
  gone()
  await settle()
  assert.ok(isOver)
})

// ── fairness ──

for (const order of ['serial', 'concurrent'] as const) {
  for (const way of ['sync', 'async', 'iterable'] as const) {
    test(`F106 messages that take 10 ms each, ${order}, ${way}: others have a turn after few of them`, async () => {
      let handled = 0
      const { give, clock } = play({
        order,
        handler: {
          message(m) {
            if (way === 'iterable') {
              return (function* () {
                for (let i = 0; i < 50; i++) {
                  handled++
                  clock.advance(10)
                  yield i
                }
              })()
            }
            handled++
            clock.advance(10)
            return way === 'sync' ? m : Promise.resolve(m)
          },
        },
      })
      give(way === 'iterable' ? 'x\n' : 'x\n'.repeat(50))
      let most = handled
      for (let turns = 0; handled < 50 && turns < 500; turns++) {
        const before = handled
        await new Promise((resolve) => setImmediate(resolve))
        most = Math.max(most, handled - before)
      }
      assert.is(handled, 50)
      assert.ok(most <= 3, `${most} in one turn`)
    })
  }
}

test('F106 a run of quick messages does not hide the slow ones behind it', async () => {
  let slow = 0
  const { give, clock } = play({
    handler: {
      message(m) {
        if (m === 'slow') {
          slow++
          clock.advance(10)
        }
        return m
      },
    },
  })
  give('q\n'.repeat(200) + 'slow\n'.repeat(50))
  assert.ok(slow <= 4, `${slow} slow ones before others had a turn`)
  for (let turns = 0; slow < 50 && turns < 500; turns++) {
    const before = slow
    await new Promise((resolve) => setImmediate(resolve))
    assert.ok(slow - before <= 4)
  }
  assert.is(slow, 50)
})

test.run()
