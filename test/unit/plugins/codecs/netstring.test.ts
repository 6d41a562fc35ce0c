import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { netstring } from '#src/plugins/codecs/netstring.js'
import {
  checkCuts,
  checkPieces,
  fails,
  framedBytes,
  framesOf,
  type Generator,
  limitsOf,
  make,
  type Outcome,
  open,
} from './harness.js'

/** cr.yp.to/proto/netstrings.txt: digits without leading zeros, a colon, so many bytes, a comma. */
function reference(bytes: Buffer, limit: number): Outcome {
  const frames: string[] = []
  let at = 0
  for (;;) {
    const rest = bytes.toString('latin1', at)
    const end = (error?: string): Outcome => ({ frames, error, leftover: rest.length })
    const digits = /^(?:0(?!\d)|[1-9]\d*)?/.exec(rest)?.[0] ?? ''
    if (Number(digits) > limit) return end('TOO_LARGE')
    const next = rest[digits.length]
    if (next === undefined) return end()
    if (digits === '' || next !== ':') return end('MALFORMED')
    const body = digits.length + 1
    const length = Number(digits)
    if (rest.length <= body + length) return end()
    if (rest[body + length] !== ',') return end('MALFORMED')
    frames.push(rest.slice(body, body + length))
    at += body + length + 1
  }
}

const generator: Generator = {
  framing: make(netstring),
  reference,
  bait: Buffer.from('0:,1:'),
  stream(choices, limit) {
    const parts: Buffer[] = []
    for (let count = choices.below(6); count >= 0; count--) {
      const length = choices.below(limit + (choices.below(12) === 0 ? 3 : 1))
      const body = choices.bytes(length, [0x2c, 0x3a, 0x30, 0xff])
      const isHostile = choices.below(16) === 0
      const head = isHostile ? choices.bytes(choices.below(6), [...Buffer.from('0019:, -')]) : Buffer.from(`${length}:`)
      parts.push(head, body, Buffer.from(choices.below(30) === 0 ? ';' : ','))
    }
    return Buffer.concat(parts)
  },
}

test('any cuts give the frames, the error and the rest that the specification gives', () =>
  checkCuts('netstring', () => generator))

test('what is no netstring is refused at the byte that says so', () => {
  const table: [string, string][] = [
    [':', 'MALFORMED'],
    [',', 'MALFORMED'],
    ['-', 'MALFORMED'],
    [' ', 'MALFORMED'],
    ['00', 'MALFORMED'],
    ['01', 'MALFORMED'],
    ['1,', 'MALFORMED'],
    ['1 ', 'MALFORMED'],
    ['1:ab', 'MALFORMED'],
    ['0:0', 'MALFORMED'],
    ['1048577', 'TOO_LARGE'],
    ['4294967295', 'TOO_LARGE'],
    ['99999999999999999999', 'TOO_LARGE'],
  ]
  for (const [text, code] of table) {
    const bytes = Buffer.from(text)
    const reader = open(make(netstring), limitsOf(1_048_576))
    let thrown: unknown
    for (let end = 1; end <= bytes.length && thrown === undefined; end++) {
      try {
        assert.is(reader.next(bytes, 0, end), -1, text)
      } catch (error) {
        thrown = error
      }
    }
    assert.ok(fails(code)(thrown), `${text}: ${thrown}`)
  }
})

test('without a limit a length ends at 2^53 - 1', () => {
  const reader = open(make(netstring), limitsOf(Number.POSITIVE_INFINITY))
  assert.throws(() => reader.next(Buffer.from('99999999999999999'), 0, 17), fails('MALFORMED'))
})

test('the limit is on the message, and equal passes', () => {
  assert.equal(framesOf(make(netstring), Buffer.from('4:abcd,'), 4).frames, ['abcd'])
  assert.is(framesOf(make(netstring), Buffer.from('5'), 4).error, 'TOO_LARGE')
})

test('text stays text and is counted in bytes; bytes say the same', () => {
  assert.is(make(netstring).frame('hä'), '3:hä,')
  assert.is(make(netstring).frame(''), '0:,')
  for (const length of [0, 5, 600]) {
    const text = 'x'.repeat(length)
    assert.is(framedBytes(make(netstring), Buffer.from(text)).toString(), make(netstring).frame(text))
  }
})

test('a frame in small pieces costs its length, not its square', () => {
  checkPieces('netstring', make(netstring), framedBytes(make(netstring), Buffer.alloc(1_048_576)))
})

test.run()
