import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Connection } from '#src/core/connection.js'
import { ConnectionError, FrameError, GaidarosError, HandlerError } from '#src/core/errors.js'
import { play, settle } from '../../support/session.js'

const echo = { message: (message: unknown) => message }
const never = new Promise<never>(() => {})

// ── messages and replies ──

test('frames are found however the stream is cut, and replies leave in one write a turn', () => {
  const { give, link } = play({ handler: echo })
  give('one\ntwo\nthr')
  give('ee\n')
  assert.equal(link.writes, ['one\ntwo\n', 'three\n'])
})

test('a synchronous handler is answered within the call', () => {
  const { give, link } = play({ handler: { message: (m) => String(m).toUpperCase() } })
  give('hi\n')
  assert.is(link.sent, 'HI\n')
})

test('undefined is no reply', () => {
  const { give, link } = play({ handler: { message: () => undefined } })
  give('hi\n')
  assert.is(link.sent, '')
})

test('serial: one at a time, replies in order, one write for a chain of settled promises', async () => {
  let atWork = 0
  const { give, link } = play({
    handler: {
      async message(message) {
        assert.is(++atWork, 1)
        await null
        atWork--
        return message
      },
    },
  })
  give('a\nb\nc\n')
  await settle()
  assert.equal(link.writes, ['a\nb\nc\n'])
})

test('concurrent: up to inFlight at a time', async () => {
  const waiting: ((reply: string) => void)[] = []
  const { give, link } = play({
    order: 'concurrent',
    limits: { inFlight: 2 },
    handler: { message: () => new Promise((resolve) => waiting.push(resolve)) },
  })
  give('a\nb\nc\n')
  assert.is(waiting.length, 2)
  waiting[1]?.('second')
  await settle()
  assert.is(link.sent, 'second\n')
  assert.is(waiting.length, 3, 'the third has its turn')
})

test('an iterable is a reply per item, an async one too', async () => {
  const { give, link } = play({
    handler: {
      message: (m) =>
        m === 'sync'
          ? ['1', '2']
          : (async function* () {
              yield '3'
              yield '4'
            })(),
    },
  })
  give('sync\nasync\n')
  await settle()
  assert.is(link.sent, '1\n2\n3\n4\n')
})

test('an iterable waits for a peer that is slow', async () => {
  let made = 0
  const { give, link, session } = play({
    limits: { writeLowBytes: 1, writeHighBytes: 10 },
    handler: {
      *message() {
        for (; made < 100; made++) yield 'x'.repeat(20)
      },
    },
  })
  link.isWritable = false
  give('go\n')
  await settle()
  assert.ok(made <= 2, `${made} items made for a peer that reads none`)
  link.isWritable = true
  session.drained()
  await settle()
  assert.is(made, 100)
})

test('a datagram is a frame, each reply a write', () => {
  const { give, link } = play({ kind: 'message', handler: echo })
  give('one')
  give('')
  assert.equal(link.writes, ['one\n', '\n'])
})

test('datagrams wait while a handler is at work, in order', async () => {
  let release: (value: string) => void = () => {}
  const { give, link } = play({
    kind: 'message',
    handler: { message: (m) => (m === 'slow' ? new Promise((resolve) => void (release = resolve)) : m) },
  })
  give('slow')
  give('2')
  give('')
  give('3')
  assert.is(link.sent, '')
  release('1')
  await settle()
  assert.equal(link.writes, ['1\n', '2\n', '\n', '3\n'])
})

test('routes go to their methods, the rest to the open one, and nobody in particular is an error', () => {
  const route = (message: string) => message.split(' ')[0] as string
  const codec = {
    ...play({}).session,
    decode: (f: Uint8Array) => Buffer.from(f).toString(),
    encode: (m: unknown) => `${m}\n`,
    route,
  }
  const routes = new Map([['GET', () => 'got']])
  const one = play({ kind: 'message', codec: codec as never, handler: { routes, message: () => 'other' } })
  one.give('GET x')
  one.give('PUT x')
  assert.is(one.link.sent, 'got\nother\n')
  const two = play({ kind: 'message', codec: codec as never, handler: { routes } })
  two.give('PUT x')
  assert.ok(two.events.includes('message.dropped UNROUTED'))
  assert.equal(two.link.calls, ['end'])
})

test('a long burst gives way to others and loses nothing', async () => {
  const { give, link, clock, counters } = play({ handler: { message: (m) => (clock.advance(1), m) } })
  give('x\n'.repeat(1_000))
  assert.ok(link.sent.length < 2_000, 'it gave way')
  for (let i = 0; i < 400 && link.sent.length < 2_000; i++) await settle()
  assert.is(link.sent, 'x\n'.repeat(1_000))
  assert.is(counters.failed, undefined)
})

// ── opening ──

test('what open returns is sent first; messages wait for an open that takes time', async () => {
  let opened: (value: string) => void = () => {}
  const { give, link, session } = play({
    handler: { ...echo, open: () => new Promise((resolve) => void (opened = resolve)) },
  })
  give('early\n')
  assert.is(link.sent, '')
  opened('welcome')
  await settle()
  assert.is(link.sent, 'welcome\nearly\n')
  assert.is(session.state, 'open')
})

test('connection middleware that does not go on refuses; nothing reaches the handler', () => {
  const { session, link, events } = play({
    handler: { open: () => assert.unreachable() },
    plan: { connectionPipeline: () => undefined },
  })
  assert.is(session.state, 'ending')
  assert.equal(link.calls, ['end'])
  assert.ok(events.some((event) => event.startsWith('connection.refused')))
})

test('connection middleware may take its time; reading waits', async () => {
  let go: () => void = () => {}
  const { give, link } = play({
    handler: echo,
    plan: {
      connectionPipeline: async (context, last) => {
        await new Promise<void>((resolve) => void (go = resolve))
        await last(context)
      },
    },
  })
  assert.equal(link.calls, ['pause'])
  give('early\n')
  go()
  await settle()
  assert.is(link.sent, 'early\n')
  assert.ok(link.calls.includes('resume'))
})

test('a handler that cannot be constructed costs its connection only', () => {
  const handler = {
    bind() {
      throw new GaidarosError('CONSTRUCTION_FAILED', 'no')
    },
    release() {},
  }
  const { link, events, session } = play({ plan: { handler: handler as never } })
  assert.equal(link.calls, ['end'])
  assert.ok(events.includes('handler.failed CONSTRUCTION_FAILED'))
  assert.is(session.state, 'ending')
})

// ── failures ──

test('a throw closes the connection with its cause, after the replies before it', async () => {
  const { give, link, session, events, gone } = play({
    handler: {
      message(m) {
        if (m === 'bad') throw new TypeError('boom')
        return m
      },
    },
  })
  give('good\nbad\nnever\n')
  assert.is(link.sent, 'good\n')
  assert.equal(link.calls, ['end'])
  gone()
  const reason = await session.closed
  assert.is(reason.code, 'HANDLER_FAILED')
  assert.is(reason.by, 'server')
  assert.instance(reason.error, HandlerError)
  assert.instance(reason.error?.cause, TypeError)
  assert.is(events.filter((event) => event.startsWith('handler.failed')).length, 1)
  assert.is(events.filter((event) => event.startsWith('connection.closed')).length, 1)
})

test('a rejection is a throw', async () => {
  const { give, link } = play({ handler: { message: () => Promise.reject(new Error('boom')) } })
  give('x\n')
  await settle()
  assert.equal(link.calls, ['end'])
})

test('@OnError answers and the connection goes on; its own throw does not', async () => {
  const { give, link, session } = play({
    handler: {
      message(m) {
        throw new Error(String(m))
      },
      error(error) {
        if (error.message === 'worse') throw error
        return `sorry: ${error.message}`
      },
    },
  })
  give('bad\n')
  assert.is(link.sent, 'sorry: bad\n')
  assert.is(session.state, 'open')
  give('worse\n')
  assert.is(session.state, 'ending')
})

test('a frame over the limit ends the connection; @OnError has the last word', async () => {
  const { give, link, session, events } = play({
    limits: { lineBytes: 3 },
    handler: { ...echo, error: (e) => (e as FrameError).code },
  })
  give('ok\nlonger\nnever\n')
  assert.is(link.sent, 'ok\nTOO_LARGE\n')
  assert.is(session.state, 'ending')
  assert.ok(events.includes('frame.refused TOO_LARGE'))
})

test('after the end 64 KiB are discarded, no more', () => {
  const { give, link } = play({ limits: { lineBytes: 3 }, handler: echo })
  give('longer\n')
  give('x'.repeat(60_000))
  assert.not(link.calls.includes('abort'))
  give('x'.repeat(60_000))
  assert.ok(link.calls.includes('abort'))
})

test('a reply that comes too late is said, not sent', async () => {
  let answer: (value: string) => void = () => {}
  const { give, link, session, events } = play({
    handler: { message: () => new Promise((resolve) => void (answer = resolve)) },
  })
  give('x\n')
  session.kill(new ConnectionError('KILLED', 'by the operator'), false)
  answer('late')
  await settle()
  assert.is(link.sent, '')
  assert.ok(events.includes('message.dropped CLOSED'))
})

// ── the peer's end ──

test('a peer that half-closes gets its whole answer, then our end', async () => {
  const { give, link, session } = play({ handler: { message: async (m) => m } })
  give('a\nb\n')
  session.peerEnded()
  assert.is(session.state, 'peer-ended')
  await settle()
  assert.is(link.sent, 'a\nb\n')
  assert.equal(link.calls, ['end'])
})

test('@OnPeerEnd is awaited and may say a last word', async () => {
  const { link, session } = play({ handler: { ...echo, peerEnd: async () => 'bye' } })
  session.peerEnded()
  await settle()
  assert.is(link.sent, 'bye\n')
  assert.equal(link.calls, ['end'])
})

test('a frame without its end is TRUNCATED and never delivered', async () => {
  const seen: unknown[] = []
  const { give, session, gone } = play({ handler: { message: (m) => void seen.push(m) } })
  give('whole\npart')
  session.peerEnded()
  gone()
  assert.equal(seen, ['whole'])
  const reason = await session.closed
  assert.equal([reason.code, reason.by], ['TRUNCATED', 'peer'])
})

test('after our own end the peer is still heard', () => {
  const seen: unknown[] = []
  const { give, session, link } = play({ handler: { message: (m) => void seen.push(m) } })
  session.end()
  give('more\n')
  assert.equal(seen, ['more'])
  assert.equal(link.calls, ['end'])
})

test('a reset is RESET by the network', async () => {
  const { session, gone } = play({ handler: echo })
  gone(new ConnectionError('RESET', 'reset'))
  assert.equal({ ...(await session.closed), error: undefined }, { code: 'RESET', by: 'network', error: undefined })
})

// ── sending ──

test('send from elsewhere is gathered into one write', async () => {
  const { session, link } = play({ handler: echo })
  session.send('1')
  session.send('2')
  assert.is(link.sent, '')
  await settle()
  assert.equal(link.writes, ['1\n2\n'])
})

test('send on a closed connection rejects CLOSED and is no unhandled rejection', async () => {
  const { session, gone } = play({ handler: echo })
  gone()
  const promise = session.send('x')
  await settle()
  await promise.then(
    () => assert.unreachable(),
    (error) => assert.is(error.code, 'CLOSED'),
  )
})

test('over the high mark reading stops, handling too, and send waits for the drain', async () => {
  const { give, session, link } = play({ handler: echo })
  link.isWritable = false
  give('a\n')
  assert.ok(link.calls.includes('pause'))
  let isSent = false
  session.send('b').then(() => (isSent = true))
  give('c\n')
  await settle()
  assert.is(isSent, false)
  assert.is(link.sent, 'a\nb\n', 'c waits')
  link.isWritable = true
  session.drained()
  await settle()
  assert.is(isSent, true)
  assert.is(link.sent, 'a\nb\nc\n')
  assert.ok(link.calls.includes('resume'))
})

test('over the hard mark the peer is cut as slow', async () => {
  const { session, link } = play({
    limits: { writeLowBytes: 1, writeHighBytes: 10, writeHardBytes: 100 },
    handler: echo,
  })
  link.buffered = 101
  session.send('x'.repeat(20))
  await settle()
  assert.is((await session.closed).code, 'SLOW_PEER')
})

test('one reply larger than the hard mark is no slow peer', async () => {
  const { session, link } = play({
    limits: { writeLowBytes: 1, writeHighBytes: 10, writeHardBytes: 100 },
    handler: echo,
  })
  session.send('x'.repeat(2_000))
  assert.not(link.calls.includes('abort'))
  assert.is(link.sent.length, 2_001)
})

test('a message over what the transport carries is refused, and the connection lives', async () => {
  const { session } = play({ kind: 'message', handler: echo, capabilities: { maxMessageBytes: 10 } })
  const error = await session.send('x'.repeat(20)).then(
    () => undefined,
    (error) => error,
  )
  assert.is(error.code, 'MESSAGE_TOO_LARGE')
  assert.is(session.state, 'open')
})

test('close in a handler waits for its reply', async () => {
  const { give, link } = play({
    handler: {
      message(_m, connection: Connection) {
        connection.close('DONE')
        return 'bye'
      },
    },
  })
  give('x\n')
  assert.is(link.sent, 'bye\n')
  assert.equal(link.calls, ['end'])
})

test('abort drops what waits', async () => {
  const { session, link } = play({ handler: echo })
  session.send('x')
  session.abort('WHY')
  await settle()
  assert.is(link.sent, '')
  const reason = await session.closed
  assert.equal([reason.code, reason.by], ['WHY', 'handler'])
})

test('pause stops handling and reading; resume goes on outside of the caller', async () => {
  const { give, link, session } = play({ handler: echo })
  session.pause()
  give('a\n')
  assert.is(link.sent, '')
  assert.equal(link.calls, ['pause'])
  session.resume()
  assert.is(link.sent, '')
  await settle()
  assert.is(link.sent, 'a\n')
  assert.equal(link.calls, ['pause', 'resume'])
})

test('unprocessed bytes over the mark pause reading', async () => {
  const { give, link } = play({ limits: { readPauseBytes: 10 }, handler: { message: () => never } })
  give('x\n')
  give('12345')
  assert.equal(link.calls, [])
  give('67890')
  assert.equal(link.calls, ['pause'])
})

// ── deadlines ──

test('idle: closed after its time without a byte', async () => {
  const { clock, events, session, give, gone } = play({ timeouts: { idleMs: 1_000 }, handler: echo })
  clock.advance(900)
  give('x\n')
  clock.advance(900)
  assert.is(session.state, 'open')
  clock.advance(600)
  assert.ok(events.includes('connection.expired IDLE_TIMEOUT'))
  gone()
  assert.is((await session.closed).code, 'IDLE_TIMEOUT')
})

test('@OnIdle keeps the connection when it says something, and does not when it is silent', async () => {
  let words: string | undefined = 'ping'
  const { clock, link, session } = play({ timeouts: { idleMs: 1_000 }, handler: { ...echo, idle: () => words } })
  clock.advance(1_300)
  assert.is(link.sent, 'ping\n')
  assert.is(session.state, 'open')
  words = undefined
  clock.advance(2_000)
  assert.is(session.state, 'ending')
})

test('a frame is due from its first byte; trickling does not help', async () => {
  const { clock, events, give, session } = play({ timeouts: { frameMs: 1_000 }, handler: echo })
  for (let i = 0; i < 12; i++) {
    give('x')
    clock.advance(100)
  }
  clock.advance(300)
  assert.ok(events.includes('frame.refused TIMEOUT'))
  assert.is(session.state, 'ending')
})

test('frames that come whole never expire, however long they come', () => {
  const { clock, give, session } = play({ timeouts: { frameMs: 500 }, handler: echo })
  for (let i = 0; i < 20; i++) {
    give('x\ny')
    clock.advance(100)
    give('\n')
  }
  assert.is(session.state, 'open')
})

test('a handler that never answers is ended, and its late reply dropped', async () => {
  let answer: (value: string) => void = () => {}
  const { clock, give, link, events } = play({
    timeouts: { handlerMs: 1_000 },
    handler: { message: () => new Promise((resolve) => void (answer = resolve)) },
  })
  give('x\n')
  clock.advance(1_300)
  assert.ok(events.includes('handler.failed TIMEOUT'))
  assert.equal(link.calls, ['end'])
  answer('late')
  await settle()
  assert.is(link.sent, '')
})

test('concurrent: a stream that makes progress keeps no hung handler alive, and is none itself', async () => {
  let next: () => void = () => {}
  const { clock, give, link, events } = play({
    order: 'concurrent',
    timeouts: { handlerMs: 1_000 },
    handler: {
      message: (m) =>
        m === 'hung'
          ? never
          : (async function* () {
              for (let i = 0; ; i++) {
                await new Promise<void>((resolve) => void (next = resolve))
                yield String(i)
              }
            })(),
      error: () => 'given up',
    },
  })
  give('hung\nstream\n')
  for (let i = 0; i < 10; i++) {
    clock.advance(400)
    next()
    await settle()
  }
  assert.equal(
    events.filter((event) => event.startsWith('handler.failed')),
    ['handler.failed TIMEOUT'],
  )
  assert.ok(link.sent.endsWith('9\n'))
})

test('a stream that was given up sends nothing more', async () => {
  let next: () => void = () => {}
  const { clock, give, link } = play({
    timeouts: { handlerMs: 1_000 },
    handler: {
      message: (m) =>
        m === 'echo'
          ? 'echo'
          : (async function* () {
              await new Promise<void>((resolve) => void (next = resolve))
              yield 'late'
            })(),
      error: () => 'given up',
    },
  })
  give('stream\n')
  clock.advance(1_300)
  await settle()
  give('echo\n')
  next()
  await settle()
  assert.is(link.sent, 'given up\necho\n')
})

test('no first byte in time', () => {
  const { clock, events } = play({ timeouts: { firstByteMs: 1_000 }, handler: echo })
  clock.advance(1_300)
  assert.ok(events.includes('connection.expired FIRST_BYTE_TIMEOUT'))
})

test('half-closed: reaped when nothing moves', async () => {
  const { clock, session } = play({ timeouts: { halfClosedMs: 1_000 }, handler: echo })
  session.peerEnded()
  clock.advance(1_300)
  await settle()
  assert.is((await session.closed).code, 'HALF_CLOSED_TIMEOUT')
})

test('a handler at work is not idle', async () => {
  const { clock, give, session } = play({
    timeouts: { idleMs: 100, handlerMs: 60_000 },
    handler: { message: () => never },
  })
  give('x\n')
  clock.advance(10_000)
  assert.is(session.state, 'open')
})

test('after close() a peer that stays is cut when the linger time is over', async () => {
  const { clock, session, link } = play({ timeouts: { lingerMs: 500 }, handler: echo })
  session.close()
  clock.advance(400)
  assert.equal(link.calls, ['end'])
  clock.advance(400)
  assert.equal(link.calls, ['end', 'abort'])
})

// ── drain ──

test('drain: what was received whole is answered, then the connection ends', async () => {
  let answer: (value: string) => void = () => {}
  const { give, link, session, gone } = play({
    handler: { message: (m) => (m === 'slow' ? new Promise((resolve) => void (answer = resolve)) : m) },
  })
  give('slow\nnext\n')
  session.drain(new Date())
  await settle()
  assert.equal(link.calls, [])
  answer('done')
  await settle()
  assert.is(link.sent, 'done\nnext\n')
  assert.equal(link.calls, ['end'])
  gone()
  assert.equal({ ...(await session.closed) }, { code: 'SHUTDOWN', by: 'server' })
})

test('drain: @OnDrain is told the deadline', async () => {
  const deadline = new Date()
  const { link, session } = play({
    handler: { ...echo, drain: (_c, given) => (given === deadline ? 'going' : 'what?') },
  })
  session.drain(deadline)
  await settle()
  await settle()
  assert.is(link.sent, 'going\n')
})

test('the drain deadline aborts handlers and says what was dropped', async () => {
  let signal: AbortSignal | undefined
  const { give, session, events } = play({
    handler: {
      message(_m, connection: Connection) {
        signal = connection.signal
        return never
      },
    },
  })
  give('x\n')
  session.drain(new Date())
  session.forceClose()
  await settle()
  assert.is(signal?.aborted, true)
  assert.ok(events.includes('message.dropped SHUTDOWN'))
  assert.is((await session.closed).error?.name, 'ShutdownError')
})

// ── closing ──

test('@OnClose is told once, with the reason; its throw is reported', async () => {
  const told: string[] = []
  const { session, gone, events } = play({
    handler: {
      ...echo,
      close(_c, reason) {
        told.push(reason.code)
        throw new Error('in close')
      },
    },
  })
  gone()
  gone()
  await settle()
  assert.equal(told, ['ENDED'])
  assert.ok(events.includes('handler.failed HANDLER_FAILED'))
  assert.is(session.state, 'closed')
})

test('stream() hands over what is held and what comes', async () => {
  const got: string[] = []
  const { give, link } = play({
    handler: {
      message(_m, connection: Connection) {
        const stream = connection.stream()
        stream.on('data', (bytes: Buffer) => got.push(bytes.toString()))
        stream.write('raw')
        return undefined
      },
    },
  })
  give('go\nrest of the chunk')
  await settle()
  give('and more')
  await settle()
  assert.is(got.join('|'), 'rest of the chunk|and more')
  assert.is(link.sent, 'raw')
})

test('upgrade refuses bytes that came before it', async () => {
  let failure: Error | undefined
  const played = play({
    capabilities: { upgrade: ['tls'] },
    handler: {
      async message(_m, connection: Connection) {
        await connection.upgrade('tls').catch((error) => (failure = error))
      },
    },
  })
  ;(played.link as { upgrade?: unknown }).upgrade = async () => assert.unreachable()
  played.give('STARTTLS\ninjected\n')
  await settle()
  assert.match(failure?.message ?? '', /came before the upgrade/)
  assert.ok(played.link.calls.includes('abort'))
})

// ── a patient drain ──

test('a patient drain waits for one more message, and ends together with its answer', async () => {
  const { session, give, link } = play({ handler: echo })
  give('before\n')
  session.drain(new Date(), 1_000)
  await settle()
  assert.not.ok(link.calls.includes('end'))
  give('one more\n')
  assert.is(link.sent, 'before\n', 'the answer is held back for the end to go with it')
  await settle()
  assert.is(link.sent, 'before\none more\n')
  assert.ok(link.calls.includes('end'))
})

test('a patient drain waits for the rest of a frame, and ends after its time whatever came', async () => {
  const { session, give, link, clock } = play({ handler: echo })
  session.drain(new Date(), 1_000)
  give('a\nhal')
  await settle()
  assert.not.ok(link.calls.includes('end'))
  give('f\n')
  await settle()
  assert.is(link.sent, 'a\nhalf\n')
  assert.ok(link.calls.includes('end'))

  const quiet = play({ handler: echo })
  quiet.session.drain(new Date(), 1_000)
  await settle()
  assert.not.ok(quiet.link.calls.includes('end'))
  quiet.clock.advance(1_001)
  await settle()
  assert.ok(quiet.link.calls.includes('end'))
  clock.advance(1_001)
})

test('a patient drain in the middle of a message ends with its answer', async () => {
  let answer: (reply: string) => void = () => {}
  const { session, give, link } = play({
    handler: {
      message: () =>
        new Promise((resolve) => {
          answer = resolve
        }),
    },
  })
  give('work\n')
  session.drain(new Date(), 1_000)
  await settle()
  answer('done')
  await settle()
  assert.is(link.sent, 'done\n')
  assert.ok(link.calls.includes('end'))
})

test.run()
