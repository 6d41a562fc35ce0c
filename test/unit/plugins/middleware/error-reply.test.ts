import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ExecutorError, FrameError } from '#src/core/errors.js'
import { errorReply } from '#src/plugins/middleware/error-reply.js'
import { PlayedConnection, play } from './played-connection.js'

const connection = new PlayedConnection('10.0.0.1')
const secret = new Error('password hunter2 in /etc/app')
const fails = () => {
  throw secret
}

test('a handler that throws or rejects is answered with a code and nothing else', async () => {
  const { message } = play(errorReply)
  assert.is(message(connection, fails), 'error HANDLER_FAILED')
  assert.is(await message(connection, () => Promise.reject(secret)), 'error HANDLER_FAILED')
})

test('an error of the framework is answered with its own code', () => {
  const { message } = play(errorReply, { format: 'json' })
  const overloaded = () => {
    throw new ExecutorError('OVERLOADED', 'the queue is full')
  }
  assert.equal(message(connection, overloaded), { error: 'OVERLOADED' })
})

test('the detail is there only where it was asked for, on one line', () => {
  const lines = () => {
    throw new Error('first\r\nsecond\u001b[31m')
  }
  assert.is(
    play(errorReply, { detail: true }).message(connection, lines),
    ['error HANDLER_FAILED: first\\u000d\\u000asecond\\u001b[31m'][0],
  )
  assert.equal(play(errorReply, { detail: true, format: 'json' }).message(connection, fails), {
    error: 'HANDLER_FAILED',
    message: secret.message,
  })
})

test('a function makes the reply from what was thrown', () => {
  const { message } = play(errorReply, { format: (error: Error) => ({ sorry: error === secret }) })
  assert.equal(message(connection, fails), { sorry: true })
})

test('what is thrown need not be an error', () => {
  const played = play(errorReply)
  for (const thrown of ['text', undefined, null, 7, Object.create(null)]) {
    const throws = () => {
      throw thrown
    }
    assert.is(played.message(connection, throws), 'error HANDLER_FAILED')
  }
})

test('each failure is told as handler.failed, since nobody further out sees it', async () => {
  const played = play(errorReply)
  played.message(connection, fails)
  await played.message(connection, () => Promise.reject(new ExecutorError('LOST', 'gone')))
  assert.equal(played.told, ['handler.failed HANDLER_FAILED', 'handler.failed LOST'])
})

test('a frame that breaks the grammar passes through: the framer is lost', async () => {
  const played = play(errorReply)
  const broken = new FrameError('MALFORMED', 'not JSON')
  assert.throws(
    () =>
      played.message(connection, () => {
        throw broken
      }),
    (error: unknown) => error === broken,
  )
  const rejected = await (played.message(connection, () => Promise.reject(broken)) as Promise<unknown>).catch((e) => e)
  assert.is(rejected, broken)
  assert.equal(played.told, [])
})

test('a reply passes as it is, and a plain one makes no promise', async () => {
  const { message } = play(errorReply)
  const reply = { is: 'mine' }
  assert.is(
    message(connection, () => reply),
    reply,
  )
  assert.is(
    message(connection, () => undefined),
    undefined,
  )
  assert.is(await message(connection, () => Promise.resolve(reply)), reply)
})

test('what can be awaited runs once and is answered when it fails', async () => {
  const { message } = play(errorReply)
  let runs = 0
  // As the queries of some libraries are.
  const query = {
    then(_resolve: unknown, reject: (error: Error) => void) {
      runs++
      reject(secret)
    },
  }
  assert.is(await message(connection, () => query), 'error HANDLER_FAILED')
  assert.is(runs, 1)
})

test('an unknown format is refused', () => {
  assert.throws(() => play(errorReply, { format: 'xml' }), /"text", "json" or a function/)
})

test.run()
