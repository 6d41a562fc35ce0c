import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { bytes } from '#src/plugins/codecs/bytes-payload.js'
import { text } from '#src/plugins/codecs/text-payload.js'
import { fails, make } from './harness.js'

const decode = (options: object, given: readonly number[]) => {
  // Away from the buffer's start, with something behind.
  const buffer = Buffer.from([0xff, 0xc3, ...given, 0xa9, 0xff])
  return make(text, options).decodeAt(buffer, 2, 2 + given.length)
}
const encode = (options: object, reply: unknown) => Buffer.from(make(text, options).encode(reply) as string)

test('UTF-8 by default; what is none becomes U+FFFD', () => {
  assert.is(decode({}, [0x68, 0xc3, 0xa9]), 'hé')
  assert.is(decode({}, [0x68, 0xc3]), 'h\ufffd')
  assert.is(decode({}, [0xef, 0xbb, 0xbf, 0x68]), '\ufeffh')
  assert.is(decode({}, [0xed, 0xa0, 0x80]), '\ufffd\ufffd\ufffd')
  assert.is(decode({}, []), '')
  assert.is(decode({ encoding: 'utf-8' }, [0xc3, 0xa9]), 'é')
})

test('with fatal, what is not of the encoding is refused, and a real U+FFFD is not', () => {
  assert.is(decode({ fatal: true }, [0xef, 0xbf, 0xbd]), '\ufffd')
  for (const [encoding, given] of [
    ['utf8', [0x68, 0xc3]],
    ['utf8', [0xef, 0xbf, 0xbd, 0xff]],
    ['utf8', [0xc0, 0x80]],
    ['ascii', [0x68, 0x80]],
    ['utf16le', [0x00, 0xd8]],
    ['utf16le', [0x00, 0xdc, 0x61, 0x00]],
    ['utf16le', [0x61]],
  ] as const) {
    assert.throws(() => decode({ encoding, fatal: true }, given), fails('MALFORMED'), `${encoding} ${given}`)
  }
  assert.is(decode({ encoding: 'utf16le', fatal: true }, [0x3d, 0xd8, 0x00, 0xde]), '😀')
  assert.is(decode({ encoding: 'ascii', fatal: true }, [0x68]), 'h')
})

test('half a unit of UTF-16 is refused always, because it would be lost', () => {
  assert.throws(() => decode({ encoding: 'utf16le' }, [0x61, 0x00, 0x62]), fails('MALFORMED', /odd/))
})

test('every encoding gives back what it was given', () => {
  for (const encoding of [
    'utf8',
    'utf-8',
    'latin1',
    'binary',
    'ascii',
    'utf16le',
    'ucs2',
    'hex',
    'base64',
    'base64url',
  ]) {
    const isWide = /^u/.test(encoding)
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.string({ unit: 'binary' }), (raw, wide) => {
        const sent = isWide
          ? wide
          : make(text, { encoding }).decodeAt(
              Buffer.from(encoding === 'ascii' ? raw.map((byte) => byte & 127) : raw),
              0,
              raw.length,
            )
        const out = Buffer.from(make(text, { encoding }).encode(sent) as Uint8Array)
        assert.is(make(text, { encoding }).decodeAt(out, 0, out.length), sent)
      }),
    )
  }
})

test('a reply may be text, a number, a boolean; bytes go out as they are', () => {
  for (const [reply, expected] of [
    ['ä', 'ä'],
    [7, '7'],
    [0, '0'],
    [-1.5, '-1.5'],
    [true, 'true'],
    [false, 'false'],
    [9n, '9'],
    ['', ''],
  ] as const) {
    assert.is(make(text).encode(reply), expected)
  }
  const given = Buffer.from([0xff])
  assert.is(make(text, { encoding: 'latin1' }).encode(given), given)
  assert.is(make(text).encode(new String('tcp://localhost:1')), 'tcp://localhost:1')
  assert.ok(make(text).isMessage?.(new String('a')))
  assert.not(make(text).isMessage?.(['a']))
})

test('other replies are an error that says what to do', () => {
  for (const [reply, what] of [
    [{ a: 1 }, 'an object'],
    [[1], 'an array'],
    [null, 'null'],
    [new Date(), 'a Date'],
    [() => 1, 'a function'],
    [Symbol('a'), 'a symbol'],
    [Object.create(null), 'an object'],
  ] as const) {
    const expected = new RegExp(`got ${what}; return text, or use payload: 'json'`)
    assert.throws(() => make(text).encode(reply), fails('HANDLER_FAILED', expected))
  }
})

test('text that the encoding cannot write is an error, not cut', () => {
  for (const [encoding, reply] of [
    ['latin1', 'a€'],
    ['latin1', 'a\n€'],
    ['ascii', 'é'],
    ['hex', 'abc'],
    ['hex', 'zz'],
    ['base64', 'a'],
    ['base64', 'ab!c'],
    ['base64', 'a=bc'],
    ['base64url', 'abcde'],
  ] as const) {
    assert.throws(
      () => encode({ encoding }, reply),
      fails('HANDLER_FAILED', new RegExp(encoding)),
      `${encoding} ${reply}`,
    )
  }
})

test('unknown encodings are refused when they are configured', () => {
  assert.throws(() => make(text, { encoding: 'utf7' }), /encoding: expected one of "utf8"/)
  assert.throws(() => make(bytes, { encoding: 'utf8' } as never) && make(text, { fatl: true }), /nearest: `fatal`/)
})

test('bytes are a view, not a copy', () => {
  const buffer = Buffer.from('xhellox')
  const message = make(bytes).decodeAt(buffer, 1, 6) as Buffer
  assert.ok(Buffer.isBuffer(message))
  assert.is(message.toString(), 'hello')
  assert.is(message.buffer, buffer.buffer)
})

test('a reply of bytes or text goes out as it is, others are an error', () => {
  const given = Uint8Array.of(1, 2)
  assert.is(make(bytes).encode(given), given)
  assert.is(make(bytes).encode('ä'), 'ä')
  for (const reply of [7, null, {}, [1, 2]])
    assert.throws(() => make(bytes).encode(reply), fails('HANDLER_FAILED', /return bytes/))
})

test.run()
