import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { delimiter } from '#src/plugins/codecs/delimiter.js'
import {
  type Choices,
  checkCuts,
  checkPieces,
  checkRest,
  fails,
  framedBytes,
  framesOf,
  type Generator,
  limitsOf,
  make,
  type Outcome,
  open,
} from './harness.js'

/** The first whole delimiter ends a frame; what comes before it is the frame. */
function referenceOf(sought: Buffer): (bytes: Buffer, limit: number) => Outcome {
  return (bytes, limit) => {
    const frames: string[] = []
    let at = 0
    for (;;) {
      const found = bytes.indexOf(sought, at)
      // How much of the rest is surely payload: all but the longest end that a delimiter may begin with.
      let length = found < 0 ? bytes.length - at : found - at
      if (found < 0) {
        const begun = [...sought.keys()].filter(
          (n) => n <= length && bytes.subarray(bytes.length - n).equals(sought.subarray(0, n)),
        )
        length -= Math.max(...begun)
      }
      if (length > limit) return { frames, error: 'TOO_LARGE', leftover: bytes.length - at }
      if (found < 0) return { frames, error: undefined, leftover: bytes.length - at }
      frames.push(bytes.toString('latin1', at, found))
      at = found + sought.length
    }
  }
}

const sought = ['|', '\r\n', 'aa', 'aab', 'abab', '\n.\n', 'aaaaaaaab'].map((text) => Buffer.from(text))

function generator(choices: Choices): Generator {
  const bytes = choices.pick(sought)
  const alphabet = [...bytes, ...bytes, 0x78]
  return {
    framing: make(delimiter, { delimiter: bytes }),
    reference: referenceOf(bytes),
    bait: Buffer.concat([bytes.subarray(1), bytes, bytes]),
    stream(from, limit) {
      const parts: Buffer[] = []
      for (let count = from.below(8); count >= 0; count--) {
        parts.push(
          from.below(3) === 0 ? from.bytes(from.below(limit + 2), alphabet) : Buffer.alloc(from.below(limit + 1), 'x'),
        )
        if (from.below(8) > 0) parts.push(bytes)
      }
      return Buffer.concat(parts)
    },
  }
}

test('any cuts give the frames, the error and the rest that the specification gives', () =>
  checkCuts('delimiter', generator))

test('text with escapes, or bytes', () => {
  for (const [given, bytes] of [
    ['\\r\\n', [13, 10]],
    ['\r\n', [13, 10]],
    ['\\0', [0]],
    ['\\x1b\\\\\\t', [27, 92, 9]],
    ['€', [0xe2, 0x82, 0xac]],
    [
      [3, 255],
      [3, 255],
    ],
    [Uint8Array.of(3), [3]],
  ] as const) {
    assert.equal([...framedBytes(make(delimiter, { delimiter: given }), '')], bytes)
  }
})

test('refuses what is no delimiter, when it is configured', () => {
  for (const given of ['', '\\q', '\\', '\\x1', [], [256], [-1], [1.5], 'x'.repeat(65), 7, undefined]) {
    assert.throws(
      () => make(delimiter, { delimiter: given }),
      /delimiter: (expected 1 to 64 bytes|is required)/,
      JSON.stringify(given),
    )
  }
})

test('a frame without end is refused one byte after the limit, the front of a delimiter apart', () => {
  const framing = make(delimiter, { delimiter: '\r\n.\r\n' })
  const reader = open(framing, limitsOf(4))
  assert.is(reader.next(Buffer.from('abcd\r\n.\r'), 0, 8), -1)
  assert.throws(() => reader.next(Buffer.from('abcd\r\n.\rx'), 0, 9), fails('TOO_LARGE'))
  assert.equal(framesOf(framing, Buffer.from('abcd\r\n.\r\n'), 4).frames, ['abcd'])
  assert.is(framesOf(framing, Buffer.from('abcde'), 4).error, 'TOO_LARGE')
})

test('the limit is frameBytes: what is delimited need not be lines', () => {
  assert.equal(framesOf(make(delimiter, { delimiter: '|' }), Buffer.from('abcd|'), 4, 2).frames, ['abcd'])
})

test('text stays text, unless the delimiter is none', () => {
  assert.is(make(delimiter, { delimiter: '|' }).frame('ä'), 'ä|')
  assert.equal([...framedBytes(make(delimiter, { delimiter: [255] }), 'ä')], [0xc3, 0xa4, 255])
})

test('a reply with a delimiter in it is several frames, or an error where the option says so', () => {
  assert.equal(
    framesOf(make(delimiter, { delimiter: '|' }), framedBytes(make(delimiter, { delimiter: '|' }), 'a|b')).frames,
    ['a', 'b'],
  )
  const strict = make(delimiter, { delimiter: 'aa', embedded: 'refuse' })
  assert.equal(framesOf(strict, framedBytes(strict, 'xab')).frames, ['xab'])
  for (const reply of ['aab', 'baa', 'ba', Buffer.from('ba')])
    assert.throws(() => strict.frame(reply), fails('HANDLER_FAILED'))
})

test('the end of a datagram is one delimiter at most', () => {
  const { trim } = make(delimiter, { delimiter: 'ab' })
  for (const [text, kept] of [
    ['xab', 1],
    ['abab', 2],
    ['b', 1],
    ['', 0],
    ['xa', 2],
  ] as const) {
    assert.is(trim?.(Buffer.from(`a${text}b`), 1, 1 + text.length), 1 + kept, text)
  }
})

test('a frame in small pieces costs its length, not its square', () => {
  const delimiters: [string, string][] = [
    ['|', 'x'],
    ['aaaaaaab', 'a'],
    ['baaaaaaa', 'a'],
  ]
  for (const [text, filling] of delimiters) {
    const frame = Buffer.concat([Buffer.alloc(1_048_576 - 9, filling), Buffer.from(`x${text}`)])
    checkPieces(`delimiter ${text}`, make(delimiter, { delimiter: text }), frame)
  }
})

test('the unused rest of a buffer is not searched', () => {
  for (const text of ['|', '\r\n', 'xxxxxxxy']) checkRest(make(delimiter, { delimiter: text }))
})

test.run()
