import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { idleTimeout } from '#src/plugins/middleware/idle-timeout.js'
import { PlayedConnection, play, turn } from './played-connection.js'

test('a connection without a message is closed once the time has passed, not before', () => {
  const played = play(idleTimeout, { ms: 1_000 })
  const connection = new PlayedConnection()
  assert.ok(played.open(connection).opened)
  played.clock.advance(999)
  assert.equal(connection.closes, [])
  played.clock.advance(1)
  assert.equal(connection.closes, ['IDLE_TIMEOUT'])
})

test('each message begins the time anew, with one timer for all of them', () => {
  const played = play(idleTimeout, { ms: 1_000 })
  const connection = new PlayedConnection()
  played.open(connection)
  for (let i = 0; i < 50; i++) {
    played.clock.advance(900)
    assert.is(
      played.message(connection, () => 'reply'),
      'reply',
    )
    assert.is(played.clock.armed, 1)
  }
  assert.equal(connection.closes, [])
  played.clock.advance(999)
  assert.equal(connection.closes, [])
  played.clock.advance(1)
  assert.equal(connection.closes, ['IDLE_TIMEOUT'])
})

test('connections are timed apart', () => {
  const played = play(idleTimeout, { ms: 1_000 })
  const [quiet, busy] = [new PlayedConnection(), new PlayedConnection()]
  played.open(quiet)
  played.open(busy)
  played.clock.advance(600)
  played.message(busy)
  played.clock.advance(600)
  assert.equal([quiet.closes, busy.closes], [['IDLE_TIMEOUT'], []])
})

test('a handler at work is no idleness; the time begins when it has finished', async () => {
  const played = play(idleTimeout, { ms: 1_000 })
  const connection = new PlayedConnection()
  played.open(connection)
  let finish: (reply: string) => void = () => {}
  const reply = played.message(connection, () => new Promise((resolve) => (finish = resolve)))
  played.clock.advance(10_000)
  assert.equal(connection.closes, [])
  finish('late')
  assert.is(await reply, 'late')
  await turn()
  played.clock.advance(999)
  assert.equal(connection.closes, [])
  played.clock.advance(1_000)
  assert.equal(connection.closes, ['IDLE_TIMEOUT'])
})

test('a handler that fails is at work no longer, and its error passes', async () => {
  const played = play(idleTimeout, { ms: 1_000 })
  const connection = new PlayedConnection()
  played.open(connection)
  const reply = played.message(connection, () => Promise.reject(new Error('mine'))) as Promise<unknown>
  await reply.then(
    () => assert.unreachable(),
    (error) => assert.is(error.message, 'mine'),
  )
  await turn()
  assert.throws(() =>
    played.message(connection, () => {
      throw new Error('at once')
    }),
  )
  played.clock.advance(2_000)
  assert.equal(connection.closes, ['IDLE_TIMEOUT'])
})

test('a connection that is gone leaves no timer behind', async () => {
  const played = play(idleTimeout, { ms: 1_000 })
  const connection = new PlayedConnection()
  played.open(connection)
  await connection.gone()
  assert.is(played.clock.armed, 0)
  played.clock.advance(5_000)
  assert.equal(connection.closes, [])
})

test('more than a timer of Node can wait is refused', () => {
  assert.throws(() => play(idleTimeout, { ms: 2 ** 31 }), /from 1 to 2147483647/)
  assert.throws(() => play(idleTimeout, { ms: 0 }), /from 1/)
})

test.run()
