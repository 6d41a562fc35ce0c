import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { varint } from '#src/plugins/codecs/varint.js'
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

/** protobuf.dev, encoding, "Base 128 Varints". */
function reference(bytes: Buffer, limit: number): Outcome {
  const frames: string[] = []
  let at = 0
  for (;;) {
    const rest = bytes.subarray(at)
    const end = (error?: string): Outcome => ({ frames, error, leftover: rest.length })
    const last = rest.subarray(0, 10).findIndex((byte) => byte < 0x80)
    if (last < 0) return end(rest.length < 10 ? undefined : 'MALFORMED')
    const head = last + 1
    const length = [...rest.subarray(0, head)].reduceRight((sum, byte) => sum * 128n + BigInt(byte & 127), 0n)
    if (length > BigInt(Number.MAX_SAFE_INTEGER)) return end('MALFORMED')
    if (length > BigInt(limit)) return end('TOO_LARGE')
    if (rest.length < head + Number(length)) return end()
    frames.push(rest.toString('latin1', head, head + Number(length)))
    at += head + Number(length)
  }
}

const generator: Generator = {
  framing: make(varint),
  reference,
  bait: Buffer.from([0x80, 0x00, 0x01, 0xff]),
  stream(choices, limit) {
    const parts: Buffer[] = []
    for (let count = choices.below(6); count >= 0; count--) {
      const length = choices.below(limit + (choices.below(12) === 0 ? 3 : 1))
      // Written longer than it must be, now and then; or any bytes.
      const excess = choices.pick([0, 0, 0, 1, 4, 9, 10])
      const head = Buffer.concat([Buffer.from([length | (excess > 0 ? 0x80 : 0)]), Buffer.alloc(excess, 0x80)])
      if (excess > 0) head[head.length - 1] = 0
      parts.push(choices.below(20) === 0 ? choices.bytes(choices.below(13), [0, 1, 0x7f, 0x80, 0xff]) : head)
      parts.push(choices.bytes(length, [0, 0x80, 0xff]))
    }
    return Buffer.concat(parts)
  },
}

test('any cuts give the frames, the error and the rest that the specification gives', () =>
  checkCuts('varint', () => generator))

test('hostile lengths are refused', () => {
  const table: [string, string | undefined][] = [
    ['8080808080', undefined],
    ['80808080808080808000', ''],
    ['80808080808080808080', 'MALFORMED'],
    ['ffffffffffffffffff01', 'MALFORMED'],
    ['8080808080808010', 'MALFORMED'],
    ['ffffffffffffff0f', 'TOO_LARGE'],
    ['ffffffff0f', 'TOO_LARGE'],
    ['8080808008', 'TOO_LARGE'],
    ['818040', 'TOO_LARGE'],
  ]
  for (const [hex, expected] of table) {
    const { frames, error } = framesOf(make(varint), Buffer.from(hex, 'hex'))
    if (expected === '') assert.equal(frames, [''], hex)
    else assert.is(error, expected, hex)
  }
})

test('a length is written in as few bytes as it takes', () => {
  for (const [length, hex] of [
    [0, '00'],
    [1, '01'],
    [127, '7f'],
    [128, '8001'],
    [300, 'ac02'],
    [16_384, '808001'],
  ] as const) {
    const bytes = framedBytes(make(varint), Buffer.alloc(length))
    assert.is(bytes.subarray(0, bytes.length - length).toString('hex'), hex)
    assert.ok(framedBytes(make(varint), '\0'.repeat(length)).equals(bytes))
  }
})

test('text is counted in bytes', () => {
  assert.is(make(varint).frame('ä'), '\x02ä')
  const text = 'ä'.repeat(64)
  assert.equal(framesOf(make(varint), framedBytes(make(varint), text)).frames, [Buffer.from(text).toString('latin1')])
})

test('the limit is on the message, and equal passes', () => {
  assert.equal(framesOf(make(varint), Buffer.from('\x04abcd'), 4).frames, ['abcd'])
  assert.throws(
    () => open(make(varint), limitsOf(4)).next(Buffer.from('\x05'), 0, 1),
    fails('TOO_LARGE', /at most 4 bytes/),
  )
})

test('what is needed is told once the length is known', () => {
  const reader = open(make(varint), limitsOf(1_000))
  reader.next(Buffer.from([0xac, 0x02, 1]), 0, 3)
  assert.is(reader.need, 302)
})

test('a frame in small pieces costs its length, not its square', () => {
  checkPieces('varint', make(varint), framedBytes(make(varint), Buffer.alloc(1_048_576)))
})

test.run()
