import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ConnectionError, ShutdownError } from '#src/core/errors.js'
import { TokenBucket } from '#src/core/token-bucket.js'
import { rateLimit } from '#src/plugins/middleware/rate-limit.js'
import { type Played, PlayedConnection, play, turn, watch } from './played-connection.js'

/** How many of so many messages come through at once. */
function passes(played: Played, connection: PlayedConnection, messages: number, frameBytes = 1): number {
  let passed = 0
  for (let i = 0; i < messages; i++) {
    try {
      played.message(connection, () => void passed++, { frameBytes })
    } catch (error) {
      assert.ok(error instanceof ConnectionError && error.code === 'RATE_LIMITED', String(error))
    }
  }
  return passed
}

test('a burst passes, then what the rate gives', () => {
  const played = play(rateLimit, { messages: 10, burst: 5, over: 'refuse' })
  const connection = new PlayedConnection('10.0.0.1')
  assert.is(passes(played, connection, 20), 5)
  played.clock.advance(100)
  assert.is(passes(played, connection, 20), 1)
  played.clock.advance(60_000)
  assert.is(passes(played, connection, 20), 5)
})

test('without a burst it is what one second allows', () => {
  assert.is(passes(play(rateLimit, { messages: 7, over: 'refuse' }), new PlayedConnection(), 20), 7)
})

test('bytes are counted by the payload', () => {
  const played = play(rateLimit, { bytes: 1_000, burst: 300, over: 'refuse' })
  const connection = new PlayedConnection()
  assert.is(passes(played, connection, 5, 100), 3)
  played.clock.advance(250)
  assert.is(passes(played, connection, 5, 100), 2)
})

test('with both, a message that one of them refuses costs the other nothing', () => {
  const played = play(rateLimit, { messages: 10, bytes: 100, over: 'refuse' })
  const connection = new PlayedConnection()
  assert.is(passes(played, connection, 1, 90), 1)
  assert.is(passes(played, connection, 50, 20), 0)
  assert.is(passes(played, connection, 50, 1), 9)
})

test('a message larger than a burst passes when the bucket is full, and its debt is paid', () => {
  const played = play(rateLimit, { bytes: 100, over: 'refuse' })
  const connection = new PlayedConnection()
  assert.is(passes(played, connection, 1, 1_000), 1)
  played.clock.advance(9_000)
  assert.is(passes(played, connection, 1, 1), 0)
  played.clock.advance(100)
  assert.is(passes(played, connection, 1, 1), 1)
})

test('a refusal says when to try again', () => {
  const played = play(rateLimit, { messages: 2, over: 'refuse' })
  const connection = new PlayedConnection()
  passes(played, connection, 2)
  assert.throws(
    () => played.message(connection),
    (error: unknown) => error instanceof ConnectionError && /try again in 500 ms/.test(error.message),
  )
  played.clock.advance(499)
  assert.is(passes(played, connection, 1), 0)
  played.clock.advance(1)
  assert.is(passes(played, connection, 1), 1)
})

test('close closes with RATE_LIMITED and handles nothing more', () => {
  const played = play(rateLimit, { messages: 1, over: 'close' })
  const connection = new PlayedConnection()
  assert.is(passes(played, connection, 2), 1)
  assert.equal(connection.closes, ['RATE_LIMITED'])
})

test('delay holds a message back until its time, and each waits behind the one before', async () => {
  const played = play(rateLimit, { messages: 10, burst: 1 })
  const connection = new PlayedConnection()
  const handled: number[] = []
  assert.is(
    played.message(connection, () => handled.push(0)),
    1,
  )
  const replies = [1, 2, 3].map((i) => watch(played.message(connection, () => `reply ${handled.push(i)}`)))
  played.clock.advance(99)
  assert.equal(handled, [0])
  played.clock.advance(1)
  assert.equal(handled, [0, 1])
  played.clock.advance(100)
  assert.equal(handled, [0, 1, 2])
  played.clock.advance(100)
  assert.equal(handled, [0, 1, 2, 3])
  await turn()
  assert.equal(
    replies.map(({ value }) => value),
    ['reply 2', 'reply 3', 'reply 4'],
  )
})

test('a handler that fails after a delay fails its message', async () => {
  const played = play(rateLimit, { messages: 10, burst: 1 })
  const connection = new PlayedConnection()
  passes(played, connection, 1)
  const fails = () => {
    throw new Error('mine')
  }
  const [thrown, rejected] = [
    watch(played.message(connection, fails)),
    watch(played.message(connection, () => Promise.reject(new Error('later')))),
  ]
  played.clock.advance(1_000)
  await turn()
  assert.is((thrown.error as Error).message, 'mine')
  assert.is((rejected.error as Error).message, 'later')
})

test('a message that would wait too long is refused, and costs nothing', () => {
  const played = play(rateLimit, { messages: 1, maxDelayMs: 2_000 })
  const connection = new PlayedConnection()
  passes(played, connection, 1)
  for (let i = 0; i < 2; i++) void played.message(connection)
  for (let i = 0; i < 10; i++) {
    assert.throws(
      () => played.message(connection),
      (error: unknown) => error instanceof ConnectionError && error.code === 'RATE_LIMITED',
    )
  }
  assert.is(played.clock.armed, 1, 'one timer, however many wait')
})

test('a peer that leaves while it waits gives its place back, and its message is told as dropped', async () => {
  const played = play(rateLimit, { messages: 1, per: 'listener' })
  const [first, gone, other] = [new PlayedConnection(), new PlayedConnection(), new PlayedConnection()]
  passes(played, first, 1)
  let handled = 0
  const waiting = Array.from({ length: 10 }, () => watch(played.message(gone, () => handled++)))
  await gone.gone({ code: 'RESET', by: 'network' })
  await turn()
  assert.ok(waiting.every(({ error }) => error instanceof ConnectionError && error.code === 'CLOSED'))
  assert.is(played.told.filter((event) => event === 'message.dropped CLOSED').length, 10)
  assert.is(played.clock.armed, 0)
  let isHandled = false
  void played.message(other, () => (isHandled = true))
  played.clock.advance(1_000)
  assert.ok(isHandled)
  played.clock.advance(60_000)
  assert.is(handled, 0)
})

test('what is cut at the drain deadline is left to the session to tell', async () => {
  const played = play(rateLimit, { messages: 1 })
  const connection = new PlayedConnection()
  passes(played, connection, 1)
  const waiting = watch(played.message(connection))
  await connection.gone({ code: 'SHUTDOWN', by: 'server', error: new ShutdownError('SHUTDOWN', 'deadline') })
  await turn()
  assert.ok(waiting.error instanceof ConnectionError)
  assert.equal(played.told, [])
})

test('a message that passed in time leaves nothing on its connection', async () => {
  const played = play(rateLimit, { messages: 1 })
  const connection = new PlayedConnection()
  passes(played, connection, 1)
  let handled = 0
  void played.message(connection, () => handled++)
  played.clock.advance(1_000)
  await connection.gone()
  assert.is(handled, 1)
  assert.equal(played.told, [])
})

test('a budget is of a connection, a source or a listener', () => {
  const peers = () => [
    new PlayedConnection('10.0.0.1', 'a'),
    new PlayedConnection('::ffff:10.0.0.1', 'a'),
    new PlayedConnection('10.0.0.2', 'a'),
    new PlayedConnection('10.0.0.2', 'b'),
  ]
  const shared = (per: string) => {
    const played = play(rateLimit, { messages: 2, over: 'refuse', per })
    return peers().map((connection) => passes(played, connection, 2))
  }
  assert.equal(shared('connection'), [2, 2, 2, 2])
  assert.equal(shared('source'), [2, 0, 2, 0])
  assert.equal(shared('listener'), [2, 0, 0, 2])
})

test('the sources remembered are bounded, and the one least recently seen goes first', () => {
  const played = play(rateLimit, { messages: 2, over: 'refuse', per: 'source', sources: 2 })
  const from = (host: string) => passes(played, new PlayedConnection(host), 2)
  assert.equal([from('10.0.0.1'), from('10.0.0.2')], [2, 2])
  assert.is(from('10.0.0.1'), 0)
  assert.is(from('10.0.0.3'), 2)
  // 10.0.0.2 was forgotten and begins anew; 10.0.0.3 is still known.
  assert.is(from('10.0.0.2'), 2)
  assert.is(from('10.0.0.3'), 0)
})

test('neither messages nor bytes is an error', () => {
  assert.throws(() => play(rateLimit, {}), /expected `messages` or `bytes`/)
})

test('a plain reply within the rate makes no promise', () => {
  assert.is(
    play(rateLimit, { messages: 1 }).message(new PlayedConnection(), () => 'plain'),
    'plain',
  )
})

const arrivals = fc.array(
  fc.record({ afterMs: fc.integer({ min: 0, max: 700 }), amount: fc.integer({ min: 1, max: 12 }) }),
  { minLength: 1, maxLength: 80 },
)

test('over any stretch of time no more passes than rate × time + burst', () => {
  fc.assert(
    fc.property(arrivals, fc.integer({ min: 1, max: 40 }), fc.integer({ min: 12, max: 30 }), (steps, rate, burst) => {
      const bucket = new TokenBucket(rate, burst, 0)
      const passed: { at: number; amount: number }[] = []
      let now = 0
      for (const { afterMs, amount } of steps) {
        now += afterMs
        if (bucket.lack(amount, now) > 0) continue
        bucket.spend(amount)
        passed.push({ at: now, amount })
      }
      for (let i = 0; i < passed.length; i++) {
        let sum = 0
        for (const { at, amount } of passed.slice(i)) {
          sum += amount
          const most = (rate * (at - (passed[i] as { at: number }).at)) / 1_000 + burst
          assert.ok(sum <= most + 1e-6, `${sum} of at most ${most}`)
        }
      }
    }),
    { numRuns: 300 },
  )
})

test('what was delayed keeps to the rate too, in the order it came, and all of it is handled', () => {
  fc.assert(
    fc.property(arrivals, fc.integer({ min: 1, max: 40 }), (steps, rate) => {
      const played = play(rateLimit, { messages: rate, maxDelayMs: 1_000_000 })
      const connection = new PlayedConnection()
      const handled: { at: number; index: number }[] = []
      steps.forEach(({ afterMs }, index) => {
        played.clock.advance(afterMs)
        void played.message(connection, () => void handled.push({ at: played.clock.now(), index }))
      })
      played.clock.advance(1_000_000)
      assert.equal(
        handled.map(({ index }) => index),
        steps.map((_, index) => index),
      )
      for (let i = 0; i < handled.length; i++) {
        for (let j = i; j < handled.length; j++) {
          const most = (rate * ((handled[j]?.at ?? 0) - (handled[i]?.at ?? 0))) / 1_000 + rate
          assert.ok(j - i + 1 <= most + 1e-6)
        }
      }
    }),
    {
      numRuns: 200,
      examples: [[[0, 76, 450, 468, 0].map((afterMs) => ({ afterMs, amount: 1 })), 1]],
    },
  )
})

test('whoever waits as long as he is told passes', () => {
  fc.assert(
    fc.property(arrivals, fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 20 }), (steps, rate, burst) => {
      const bucket = new TokenBucket(rate, burst, 0)
      let now = 0
      for (const { afterMs, amount } of steps) {
        now += afterMs
        now += Math.ceil(bucket.lack(amount, now))
        assert.ok(bucket.lack(amount, now) < 1e-6)
        bucket.spend(amount)
      }
    }),
    { numRuns: 300 },
  )
})

test('F126 one that pipelines makes nobody wait longer than a turn, and nothing after it has left', async () => {
  const played = play(rateLimit, { messages: 5, burst: 5, per: 'listener' })
  const [greedy, honest, late] = [new PlayedConnection(), new PlayedConnection(), new PlayedConnection()]
  const handled: string[] = []
  for (let i = 0; i < 64; i++) void watch(played.message(greedy, () => handled.push('greedy')))
  assert.is(handled.length, 5)
  void played.message(honest, () => handled.push('honest'))
  played.clock.advance(400)
  assert.equal(handled.slice(5), ['greedy', 'honest'])
  await greedy.gone({ code: 'RESET', by: 'network' })
  void played.message(late, () => handled.push('late'))
  played.clock.advance(200)
  assert.equal(handled.slice(7), ['late'])
  await turn()
})

test('however many messages of a connection wait, it has one listener for its end', () => {
  const played = play(rateLimit, { messages: 1, maxDelayMs: 1_000_000 })
  const connection = new PlayedConnection()
  let listeners = 0
  const { signal } = connection
  const add = signal.addEventListener.bind(signal)
  signal.addEventListener = ((...given: Parameters<typeof add>) => {
    listeners++
    add(...given)
  }) as typeof add
  for (let i = 0; i < 50; i++) void watch(played.message(connection))
  assert.is(listeners, 1)
})

test.run()
