import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { lengthField } from '#src/plugins/codecs/length-field.js'
import {
  Choices,
  checkCuts,
  checkPieces,
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

interface Options {
  size: number
  endian: 'big' | 'little'
  offset: number
  adjustment: number
  strip: number
}

const largest = BigInt(Number.MAX_SAFE_INTEGER)

function lengthIn(bytes: Uint8Array, { size, endian, offset }: Options): bigint {
  const field = [...bytes.subarray(offset, offset + size)]
  if (endian === 'little') field.reverse()
  return field.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n)
}

/** Netty's LengthFieldBasedFrameDecoder, read as arithmetic, with our limits. */
function referenceOf(options: Options): (bytes: Buffer, limit: number) => Outcome {
  const { size, offset, adjustment, strip } = options
  return (bytes, limit) => {
    const frames: string[] = []
    let at = 0
    for (;;) {
      const rest = bytes.subarray(at)
      const end = (error?: string): Outcome => ({ frames, error, leftover: rest.length })
      if (rest.length < offset + size) return end()
      const length = lengthIn(rest, options)
      const whole = BigInt(offset + size + adjustment) + length
      if (length > largest || length + BigInt(adjustment) < 0n || whole < BigInt(strip)) return end('MALFORMED')
      if (whole - BigInt(strip) > BigInt(limit)) return end('TOO_LARGE')
      if (BigInt(rest.length) < whole) return end()
      frames.push(rest.toString('latin1', strip, Number(whole)))
      at += Number(whole)
    }
  }
}

function optionsOf(choices: Choices): Options {
  const size = 1 + choices.below(8)
  const offset = choices.pick([0, 0, 1, 3])
  const header = offset + size
  return {
    size,
    endian: choices.pick(['big', 'little']),
    offset,
    adjustment: choices.pick([0, 0, 1, 4, -1, -size, -header]),
    strip: choices.pick([header, header, 0, offset, choices.below(header + 3)]),
  }
}

function writeLength(bytes: Buffer, length: bigint, { size, endian, offset }: Options): void {
  for (let index = 0; index < size; index++) {
    bytes[endian === 'little' ? offset + index : offset + size - 1 - index] = Number(
      (length >> BigInt(8 * index)) & 255n,
    )
  }
}

function generator(choices: Choices): Generator {
  const options = optionsOf(choices)
  return {
    framing: make(lengthField, options),
    reference: referenceOf(options),
    bait: Buffer.from([0, 1, 255]),
    stream(from, limit) {
      const parts: Buffer[] = []
      for (let count = from.below(5); count >= 0; count--) {
        const { size, offset, adjustment, strip } = options
        const header = from.bytes(offset + size, [0, 0, 7, 255])
        const message = from.below(limit + (from.below(10) === 0 ? 9 : 1))
        const body = Math.max(0, adjustment, message + strip - offset - size)
        // Hostile once in a while: any bytes in place of a length.
        if (from.below(16) > 0) writeLength(header, BigInt(body - adjustment), options)
        parts.push(header, from.bytes(body, [0, 1, 255]))
      }
      return Buffer.concat(parts)
    },
  }
}

test('any cuts give the frames, the error and the rest that the specification gives', () =>
  checkCuts('length-field', generator))

test('each message that can be decoded can be sent as it is, in every configuration', () => {
  const choices = new Choices(4)
  let round = 0
  while (round < 20_000) {
    const options = optionsOf(choices)
    const framing = make(lengthField, options)
    const { stream } = generator(choices)
    const outcome = framesOf(framing, stream(choices, 34))
    for (const frame of outcome.frames) {
      const bytes = framedBytes(framing, Buffer.from(frame, 'latin1'))
      assert.equal(
        framesOf(framing, bytes),
        { frames: [frame], error: undefined, leftover: 0 },
        JSON.stringify(options),
      )
      round++
    }
  }
})

test('the worked examples of the documentation', () => {
  const hex = (text: string) => text.replace(/[0-9a-f]{2} ?/g, (byte) => String.fromCharCode(Number.parseInt(byte, 16)))
  const hello = 'hello'
  for (const [front, options, kept] of [
    ['00 05', { size: 2 }, ''],
    ['05 00', { size: 2, endian: 'little' }, ''],
    ['00 05', { size: 2, strip: 0 }, '00 05'],
    ['00 07', { size: 2, adjustment: -2 }, ''],
    ['ca fe 00 05', { size: 2, offset: 2 }, ''],
    ['ca fe 00 05', { size: 2, offset: 2, strip: 0 }, 'ca fe 00 05'],
    ['00 05 ca fe', { size: 2, adjustment: 2 }, 'ca fe'],
    ['00 05 ca fe', { size: 2, adjustment: 2, strip: 4 }, ''],
    ['ca 00 09 fe', { size: 2, offset: 1, adjustment: -3, strip: 3 }, 'fe'],
  ] as const) {
    const framing = make(lengthField, options)
    const { frames, leftover } = framesOf(framing, Buffer.from(hex(front) + hello, 'latin1'))
    assert.equal(frames, [hex(kept) + hello], `${front} ${JSON.stringify(options)}`)
    assert.is(leftover, 0)
  }
})

test('hostile lengths are refused before anything is allocated for them', () => {
  const table: [string, object, string][] = [
    ['ffffffff', {}, 'TOO_LARGE'],
    ['80000000', {}, 'TOO_LARGE'],
    ['00100001', {}, 'TOO_LARGE'],
    ['ffffffff', { endian: 'little' }, 'TOO_LARGE'],
    ['ffffffffffffffff', { size: 8 }, 'MALFORMED'],
    ['0020000000000000', { size: 8 }, 'MALFORMED'],
    ['001fffffffffffff', { size: 8 }, 'TOO_LARGE'],
    ['ffffffffffff1f00', { size: 8, endian: 'little' }, 'TOO_LARGE'],
    ['00000003', { adjustment: -4 }, 'MALFORMED'],
    ['00000000', { adjustment: -1 }, 'MALFORMED'],
    ['00000001', { strip: 6 }, 'MALFORMED'],
  ]
  const before = process.memoryUsage().arrayBuffers
  for (const [hex, options, code] of table) {
    const bytes = Buffer.from(hex, 'hex')
    const reader = open(make(lengthField, options), limitsOf(1_048_576))
    assert.is(reader.next(bytes, 0, bytes.length - 1), -1)
    assert.throws(() => reader.next(bytes, 0, bytes.length), fails(code), `${hex} ${JSON.stringify(options)}`)
  }
  assert.ok(process.memoryUsage().arrayBuffers - before < 65_536)
})

test('without a limit a huge length is waited for, and asks for no memory', () => {
  const bytes = Buffer.from('001fffffffffff00aa', 'hex')
  const reader = open(make(lengthField, { size: 8 }), limitsOf(Number.POSITIVE_INFINITY))
  assert.is(reader.next(bytes, 0, bytes.length), -1)
  assert.is(reader.need, Number.MAX_SAFE_INTEGER - 255 + 8)
})

test('the limit is on the message, and equal passes', () => {
  assert.equal(framesOf(make(lengthField, { size: 1 }), Buffer.from('\x04abcd'), 4).frames, ['abcd'])
  assert.is(framesOf(make(lengthField, { size: 1, strip: 0 }), Buffer.from('\x04abcd'), 4).error, 'TOO_LARGE')
})

test('what is needed is told once the length is known', () => {
  const reader = open(make(lengthField), limitsOf(100))
  assert.is(reader.next(Buffer.from([0, 0, 0]), 0, 3), -1)
  assert.is(reader.need, 0)
  assert.is(reader.next(Buffer.from([0, 0, 0, 50, 1]), 0, 5), -1)
  assert.is(reader.need, 54)
})

test('text of few bytes stays text, other replies become bytes; all say the same', () => {
  const framing = make(lengthField)
  assert.is(framing.frame('hä'), '\0\0\0\x03hä')
  for (const text of ['', 'a', 'ä'.repeat(63), 'ä'.repeat(64), '€'.repeat(400), 'x'.repeat(70_000)]) {
    const bytes = Buffer.from(text)
    const expected = Buffer.alloc(4 + bytes.length)
    expected.writeUInt32BE(bytes.length)
    bytes.copy(expected, 4)
    assert.ok(framedBytes(framing, text).equals(expected))
    assert.ok(framedBytes(framing, bytes).equals(expected))
  }
})

test('a large reply of bytes is not copied, nor changed where its length is put right', () => {
  const large = Buffer.alloc(4_096, 0xff)
  assert.is((make(lengthField).frame(large) as readonly Uint8Array[])[1], large)
  const framing = make(lengthField, { strip: 0 })
  const sent = framedBytes(framing, large)
  assert.is(sent.readUInt32BE(0), 4_092)
  assert.is(sent.length, 4_096)
  assert.ok(large.every((byte) => byte === 0xff))
})

test('a reply that the length cannot say is an error that names the range', () => {
  const tiny = make(lengthField, { size: 1 })
  assert.is(framedBytes(tiny, 'x'.repeat(255)).length, 256)
  assert.throws(() => tiny.frame('x'.repeat(256)), fails('HANDLER_FAILED', /from 0 to 255 bytes, got one of 256/))
  assert.throws(() => make(lengthField, { adjustment: 2 }).frame('x'), fails('HANDLER_FAILED', /from 2 to/))
  assert.throws(() => make(lengthField, { strip: 0 }).frame('abc'), fails('HANDLER_FAILED', /from 4 to/))
  assert.throws(
    () => make(lengthField, { strip: 0, adjustment: -4 }).frame('abc'),
    fails('HANDLER_FAILED', /from 4 to/),
  )
})

test('refuses a configuration in which no frame can be read', () => {
  assert.throws(() => make(lengthField, { size: 1, adjustment: -256 }), /adjustment: expected at least -255/)
  assert.throws(() => make(lengthField, { size: 1, strip: 257 }), /strip: expected at most 256/)
  assert.ok(make(lengthField, { size: 1, adjustment: -255, strip: 1 }))
  for (const options of [
    { size: 0 },
    { size: 9 },
    { endian: 'middle' },
    { offset: -1 },
    { adjustment: 0.5 },
    { strip: -1 },
    { length: 4 },
  ]) {
    assert.throws(() => make(lengthField, options))
  }
})

test('any size, either end first: lengths up to 2^53 - 1 are read as they are written', () => {
  for (const endian of ['big', 'little'] as const) {
    for (let size = 1; size <= 8; size++) {
      const options: Options = { size, endian, offset: 0, adjustment: 0, strip: size }
      for (const length of [0n, 1n, 127n, 128n, 255n, 256n, 65_535n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 48n, largest]) {
        if (length >= 2n ** BigInt(8 * size)) continue
        const bytes = Buffer.alloc(size + 1)
        writeLength(bytes, length, options)
        const reader = open(make(lengthField, options), limitsOf(Number.POSITIVE_INFINITY))
        reader.next(bytes, 0, size)
        const found = length === 0n ? BigInt(reader.end - reader.start) : BigInt(reader.need) - BigInt(size)
        assert.is(
          found,
          length > largest - 8n ? BigInt(Number(length) + size) - BigInt(size) : length,
          `${size} ${endian} ${length}`,
        )
      }
    }
  }
})

test('a frame in small pieces costs its length, not its square', () => {
  const frame = Buffer.alloc(1_048_576)
  frame.writeUInt32BE(frame.length - 4)
  checkPieces('length-field', make(lengthField), frame)
})

test('nothing of one frame is left for the next', () => {
  const framing = make(lengthField, { size: 1 })
  const bytes = Buffer.from('\x02ab\x00\x03abc')
  for (let cut = 0; cut <= bytes.length; cut++) {
    assert.equal(drive(open(framing, limitsOf(3)), bytes, [cut], Buffer.from('\xff')).frames, ['ab', '', 'abc'])
  }
})

test.run()
