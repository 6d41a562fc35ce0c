import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { fixed } from '#src/plugins/codecs/fixed.js'
import { raw } from '#src/plugins/codecs/raw.js'
import {
  type Choices,
  checkCuts,
  checkPieces,
  fails,
  framedBytes,
  framesOf,
  type Generator,
  limitsOf,
  make,
  open,
} from './harness.js'

function generator(choices: Choices): Generator {
  const size = 1 + choices.below(9)
  return {
    framing: make(fixed, { size }),
    bait: Buffer.from('?!'),
    reference(bytes, limit) {
      if (size > limit && bytes.length > 0) return { frames: [], error: 'TOO_LARGE', leftover: bytes.length }
      const whole = Math.floor(bytes.length / size)
      const frames = Array.from({ length: whole }, (_, index) =>
        bytes.toString('latin1', index * size, (index + 1) * size),
      )
      return { frames, error: undefined, leftover: bytes.length % size }
    },
    stream: (from) => from.bytes(from.below(60), [0, 10, 97, 255]),
  }
}

test('any cuts give the frames, the error and the rest that the specification gives', () =>
  checkCuts('fixed', generator))

test('a size over the limit is refused with the first byte', () => {
  assert.throws(
    () => open(make(fixed, { size: 9 }), limitsOf(8)).next(Buffer.from('a'), 0, 1),
    fails('TOO_LARGE', /at most 8/),
  )
  assert.equal(framesOf(make(fixed, { size: 8 }), Buffer.from('12345678'), 8).frames, ['12345678'])
})

test('a reply of another size is an error that says both', () => {
  const framing = make(fixed, { size: 3 })
  assert.is(framing.frame('abc'), 'abc')
  assert.is(framing.frame('ä!'), 'ä!')
  for (const reply of ['', 'ab', 'äb!', Buffer.from('abcd')]) {
    assert.throws(() => framing.frame(reply), fails('HANDLER_FAILED', /a reply of 3 bytes, got [024]/))
  }
})

test('refuses what is no size, when it is configured', () => {
  for (const size of [0, -1, 1.5, '3', undefined]) assert.throws(() => make(fixed, { size }), /size: /)
})

test('the whole size is asked for at once', () =>
  assert.is(open(make(fixed, { size: 70_000 }), limitsOf(70_000)).need, 70_000))

test('a frame in small pieces costs its length, not its square', () => {
  checkPieces('fixed', make(fixed, { size: 1_048_576 }), Buffer.alloc(1_048_576))
})

test('raw has no framer and bounds nothing', () => {
  const framing = make(raw)
  assert.is(framing.framer, undefined)
  const bytes = Buffer.from('a')
  assert.is(framing.frame(bytes), bytes)
  assert.is(framing.frame('a'), 'a')
})

test('an empty reply is framed like any other', () => assert.is(framedBytes(make(raw), '').length, 0))

test.run()
