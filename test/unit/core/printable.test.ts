import * as fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { pairs, printable } from '#src/core/printable.js'

test('control characters, line separators and direction marks are shown as escapes', () => {
  assert.is(printable('a\r\nb\u001b[2J\u0000\u2028\u202e'), 'a\\u000d\\u000ab\\u001b[2J\\u0000\\u2028\\u202e')
  assert.is(printable('naïve — 日本 🫏'), 'naïve — 日本 🫏')
})

test('a long text ends within 1 KiB, in a whole character', () => {
  assert.is(printable('x'.repeat(1_000)).length, 1_000)
  for (const character of ['x', 'é', '日', '🫏']) {
    const text = printable(character.repeat(2_000))
    assert.ok(Buffer.byteLength(text) <= 1_024)
    assert.match(text, /…$/)
    assert.not.match(text, /\ufffd/)
  }
})

test('any text is one line of at most 1 KiB', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 3_000 }), (text) => {
      const line = printable(text)
      assert.ok(Buffer.byteLength(line) <= 1_024)
      assert.not.match(line, /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/)
    }),
  )
})

test('pairs quote what would read as another pair, and leave out what is not known', () => {
  assert.is(pairs({ a: 1, b: 'x y', c: 'd=e', f: undefined, g: '' }), 'a=1 b="x y" c="d=e" g=""')
})

test.run()
