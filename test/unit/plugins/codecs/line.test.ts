import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { jsonLines } from '#src/plugins/codecs/json-lines.js'
import { line } from '#src/plugins/codecs/line.js'
import {
  type Choices,
  checkCuts,
  checkPieces,
  checkRest,
  drive,
  fails,
  framedBytes,
  framesOf,
  type Generator,
  limitsOf,
  make,
  type Outcome,
  open,
} from './harness.js'

const alphabet = [0x0a, 0x0d, 0x61, 0x62, 0x00, 0xff]

/** RFC 5321, section 2.3.8, with a bare line feed taken as well. */
function reference(bytes: Buffer, limit: number): Outcome {
  const frames: string[] = []
  let at = 0
  for (;;) {
    const feed = bytes.indexOf(0x0a, at)
    const lineBytes = bytes.subarray(at, feed < 0 ? bytes.length : feed)
    const isReturned = lineBytes.at(-1) === 0x0d
    // Without its end, a carriage return that came last may still belong to it.
    const length = isReturned ? lineBytes.length - 1 : lineBytes.length
    if (length > limit) return { frames, error: 'TOO_LARGE', leftover: bytes.length - at }
    if (feed < 0) return { frames, error: undefined, leftover: bytes.length - at }
    frames.push(bytes.toString('latin1', at, at + length))
    at = feed + 1
  }
}

function generator(_choices: Choices): Generator {
  return {
    framing: make(line),
    reference,
    bait: Buffer.from('\r\n\n\nx\n'),
    stream(choices, limit) {
      const lines: Buffer[] = []
      for (let count = choices.below(6); count >= 0; count--) {
        const excess = choices.below(12) === 0 ? 3 : 1
        lines.push(
          choices.bytes(choices.below(limit + excess), alphabet),
          Buffer.from(choices.pick(['\n', '\r\n', ''])),
        )
      }
      return Buffer.concat(lines)
    },
  }
}

test('any cuts give the frames, the error and the rest that the specification gives', () =>
  checkCuts('line', generator))

test('a carriage return before the line feed belongs to the terminator, others do not', () => {
  const { frames, leftover } = framesOf(make(line), Buffer.from('a\r\nb\n\r\n\nc\rd\r\r\ne'))
  assert.equal(frames, ['a', 'b', '', '', 'c\rd\r'])
  assert.is(leftover, 1)
})

test('the limit is the smaller of both, its terminator excluded, and equal passes', () => {
  for (const [frameBytes, lineBytes] of [
    [4, 9],
    [9, 4],
  ] as const) {
    assert.equal(framesOf(make(line), Buffer.from('abcd\r\nabcd\n'), frameBytes, lineBytes).frames, ['abcd', 'abcd'])
    assert.is(framesOf(make(line), Buffer.from('abcde\n'), frameBytes, lineBytes).error, 'TOO_LARGE')
  }
})

test('a line without end is refused one byte after the limit', () => {
  const bytes = Buffer.from('abcde')
  const reader = open(make(line), limitsOf(4))
  assert.is(reader.next(bytes, 0, 4), -1)
  assert.throws(() => reader.next(bytes, 0, 5), fails('TOO_LARGE', /at most 4 bytes.*limits\.lineBytes/))
})

test('the carriage return of a terminator does not count against the limit', () => {
  const reader = open(make(line), limitsOf(4))
  assert.is(reader.next(Buffer.from('abcd\r'), 0, 5), -1)
  assert.throws(() => reader.next(Buffer.from('abcd\rx'), 0, 6), fails('TOO_LARGE'))
})

test('without a limit a line may be of any length', () => {
  const long = Buffer.alloc(3_000_000, 'x')
  long[long.length - 1] = 0x0a
  const reader = open(make(line), limitsOf(Number.POSITIVE_INFINITY))
  assert.is(reader.next(long, 0, long.length - 1), -1)
  assert.is(reader.next(long, 0, long.length), long.length)
})

test('a last line without its end is refused, or delivered where the option says so', () => {
  const bytes = Buffer.from('a\nbc\r')
  assert.equal(framesOf(make(line), bytes).frames, ['a'])
  assert.equal(framesOf(make(line, { unterminated: 'deliver' }), bytes).frames, ['a', 'bc'])
  assert.equal(framesOf(make(jsonLines, { unterminated: 'deliver' }), Buffer.from('1\n2')).frames, ['1', '2'])
})

test('a reply ends as the option says; text stays text', () => {
  assert.is(make(line).frame('a'), 'a\n')
  assert.is(make(line, { terminator: 'crlf' }).frame('a'), 'a\r\n')
  assert.is(framedBytes(make(line), Buffer.from([0xff])).toString('latin1'), '\xff\n')
})

test('a large reply of bytes is not copied', () => {
  const large = Buffer.alloc(4_096, 'x')
  const pieces = make(line).frame(large) as readonly Uint8Array[]
  assert.is(pieces[0], large)
  assert.is(framedBytes(make(line), large).length, 4_097)
})

test('a reply with line feeds is several lines, or an error where the option says so', () => {
  assert.equal(framesOf(make(line), framedBytes(make(line), 'a\nb')).frames, ['a', 'b'])
  const strict = make(line, { embedded: 'refuse' })
  assert.is(strict.frame('ab'), 'ab\n')
  for (const reply of ['a\nb', 'a\n', 'a\r', Buffer.from('a\nb'), Buffer.from('a\r')]) {
    assert.throws(() => strict.frame(reply), fails('HANDLER_FAILED'))
  }
  const crlf = make(line, { embedded: 'refuse', terminator: 'crlf' })
  assert.equal(framesOf(crlf, framedBytes(crlf, 'a\r')).frames, ['a\r'])
})

test('the end of a datagram is one terminator at most', () => {
  const { trim } = make(line)
  for (const [text, kept] of [
    ['a\n', 1],
    ['a\r\n', 1],
    ['a\n\n', 2],
    ['a', 1],
    ['a\r', 2],
    ['\n', 0],
    ['\r\n', 0],
    ['', 0],
  ] as const) {
    assert.is(trim?.(Buffer.from(`\r${text}\n`), 1, 1 + text.length), 1 + kept, JSON.stringify(text))
  }
})

test('unknown options are refused', () => {
  assert.throws(() => make(line, { terminater: 'lf' }), /nearest: `terminator`/)
  assert.throws(() => make(line, { terminator: 'cr' }), /expected one of "lf", "crlf"/)
})

test('a line in small pieces costs its length, not its square', () => {
  const frame = Buffer.alloc(1_048_577, 'x')
  frame[frame.length - 1] = 0x0a
  checkPieces('line', make(line), frame)
})

test('the unused rest of a buffer is not searched', () => checkRest(make(line)))

test('a line feed behind the bytes is none of the line, though one was found at that place before', () => {
  const reader = open(make(line), limitsOf(1_000))
  const buffer = Buffer.alloc(4_096, 'x')
  buffer[100] = 0x0a
  assert.is(reader.next(buffer, 0, 200), 101)
  assert.is(reader.next(buffer, 0, 50), -1)
})

test('a moved buffer changes nothing', () => {
  const reader = open(make(line), limitsOf(100))
  const bytes = Buffer.from('hello world, how are you\nx')
  assert.equal(drive(reader, bytes, [10, 20, 25], Buffer.from('\n')), {
    frames: ['hello world, how are you'],
    error: undefined,
    leftover: 1,
  })
})

test.run()
