import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { describe } from '#src/cli/describe.js'
import { ConfigError } from '#src/core/errors.js'

test('an error of ours is its message, its code and its causes, without a stack', () => {
  const error = new ConfigError('BAD_VALUE', 'that is wrong', { cause: new Error('this is why') })
  assert.is(describe(error, false), 'gaidaros: that is wrong [BAD_VALUE]\n  because: this is why\n')
  assert.match(describe(error, true), /\n {2}at .*describe\.test/)
})

test('several faults are a line each', () => {
  assert.is(describe(new ConfigError('UNKNOWN_KEY', 'a\nb'), false), 'gaidaros: a\ngaidaros: b [UNKNOWN_KEY]\n')
})

test('a cause that the message quotes is not said twice', () => {
  const error = new ConfigError('BAD_VALUE', 'cannot read it: ENOENT', { cause: new Error('ENOENT') })
  assert.not.match(describe(error, false), /because/)
})

test('an error of the application shows where it was thrown', () => {
  assert.match(describe(new TypeError('stray'), false), /^gaidaros: stray\n {2}at .*describe\.test/)
})

test('an error that is its own cause is said once', () => {
  const error = new Error('round') as Error & { cause: unknown }
  error.cause = error
  assert.is(describe(error, false).match(/round/g)?.length, 1)
})

test('what a peer wrote into a message forges no line and moves no cursor', () => {
  const text = describe(
    new Error('bad\r\u001b[2Jready\u2028listening', { cause: new Error('x\ngaidaros: fine') }),
    false,
  )
  assert.not.match(text, /[\r\u001b\u2028]/)
  assert.not.match(text, /^gaidaros: fine/m)
})

test.run()
