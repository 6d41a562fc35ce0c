import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ConnectionError, GaidarosError, toError } from '#src/core/errors.js'
import { play, settle } from '../../support/session.js'

test('an error that was thrown stays the error it is', () => {
  const error = new ConnectionError('RESET', 'cut')
  assert.is(toError(error), error)
})

test('anything else becomes an error that keeps it as its cause', () => {
  const hostile = {
    toString() {
      throw new Error('no text')
    },
  }
  for (const thrown of ['text', 7, null, undefined, Symbol('s'), Object.create(null), hostile]) {
    const error = toError(thrown)
    assert.instance(error, Error)
    assert.is(error.cause, thrown)
    assert.ok(error.message.length > 0)
  }
})

test('a class of a second copy of the package is recognised by its name', () => {
  assert.ok(new ConnectionError('RESET', 'cut') instanceof GaidarosError)
  assert.not.ok(new GaidarosError('X', 'x') instanceof ConnectionError)
  const fromACopy = Object.defineProperty(new Error('cut'), Symbol.for('gaidaros.ConnectionError'), { value: true })
  assert.ok(fromACopy instanceof ConnectionError)
})

for (const [how, handler] of [
  [
    'throws',
    () => {
      throw Object.create(null)
    },
  ],
  ['rejects with', () => Promise.reject(Object.create(null))],
] as const) {
  test(`a handler that ${how} what has no text ends its own connection and nothing else`, async () => {
    const played = play({ handler: { message: handler } })
    played.give('one\n')
    await settle()
    assert.ok(played.events.includes('handler.failed HANDLER_FAILED'), played.events.join(', '))
    assert.is(played.session.state, 'ending')
  })
}

test.run()
