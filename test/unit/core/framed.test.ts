import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Codec, CodecContext, Payload } from '#src/core/codec.js'
import { framed } from '#src/core/framed.js'
import type { Factory, Framing } from '#src/core/plugin.js'
import { codecs, framers, payloads } from '#src/plugins/codecs/index.js'
import { fails, framesOf, make, messages, stream } from '../plugins/codecs/harness.js'

const framing = (name: string, options: object = {}): Framing =>
  make(framers.find((factory) => factory.name === name) as unknown as Factory<Framing, object>, options)
const payload = (name: string, options: object = {}): Payload =>
  make(payloads.find((factory) => factory.name === name) as unknown as Factory<Payload, object>, options)
const codecOf = (name: string, payloadName?: string, options: object = {}): Codec => {
  const made = framing(name, options)
  return framed(made, payload(payloadName ?? made.payload ?? 'bytes'))
}
const received = (codec: Codec, text: string, context: CodecContext): unknown => {
  const bytes = Buffer.from(`xx${text}yy`, 'latin1')
  return codec.decodeAt?.(bytes, 2, bytes.length - 2, context)
}

test('the built-in names are those of the documentation', () => {
  const names = framers.map(({ name }) => name)
  assert.is(
    names.join(' '),
    'raw line delimiter begin-end fixed length-field header-body varint netstring cobs slip json-lines json-stream msgpack cbor',
  )
  assert.is(payloads.map(({ name }) => name).join(' '), 'text bytes json msgpack cbor')
  assert.is(codecs.map(({ name }) => name).join(' '), 'tlv')
})

test('each framing has its payload', () => {
  const options: Record<string, object> = {
    delimiter: { delimiter: '|' },
    fixed: { size: 1 },
    'begin-end': { begin: '<', end: '>' },
    'header-body': { headerBytes: 1, length: () => 0, header: () => Buffer.alloc(1) },
  }
  const chosen = framers.map(({ name }) => framing(name, options[name]).payload)
  assert.is(chosen.join(' '), 'bytes text text text bytes bytes bytes bytes bytes bytes bytes json json msgpack cbor')
})

test('text stays text as long as both sides allow it', () => {
  assert.is(codecOf('line').encode('ä', stream), 'ä\n')
  assert.is(codecOf('json-lines').encode({ a: [1] }, stream), '{"a":[1]}\n')
  assert.is(codecOf('netstring', 'json').encode(1, stream), '1:1,')
})

test('pieces are joined for those who ask for one', () => {
  const codec = codecOf('length-field')
  const body = Buffer.alloc(1_000, 'x')
  const pieces = codec.encodePieces?.(body, stream) as readonly Uint8Array[]
  assert.is(pieces.length, 2)
  assert.is(pieces[1], body)
  assert.ok(Buffer.concat(pieces).equals(codec.encode(body, stream) as Buffer))
})

test('no framing is read or written on a message transport', () => {
  for (const name of ['length-field', 'varint', 'netstring', 'raw']) {
    const codec = codecOf(name, 'text')
    assert.is(codec.encode('hello', messages()), 'hello')
    assert.is(received(codec, '3:abc,\n', messages()), '3:abc,\n')
  }
  const fixed = codecOf('fixed', 'text', { size: 3 })
  assert.is(fixed.encode('hello', messages()), 'hello')
  assert.throws(() => fixed.encode('hello', stream), fails('HANDLER_FAILED'))
})

test('a terminator behind a datagram is cut off, and stands behind replies to that peer', () => {
  const codec = codecOf('line')
  const one = messages()
  const other = messages()
  assert.is(codec.encode('first', one), 'first')
  for (const [text, message, end] of [
    ['a\n', 'a', '\n'],
    ['b\r\n', 'b', '\r\n'],
    ['c\r\n', 'c', '\r\n'],
    ['d', 'd', ''],
    ['\n', '', '\n'],
  ] as const) {
    assert.is(received(codec, text, one), message)
    assert.is(codec.encode('reply', one), `reply${end}`)
    assert.equal(
      codec.encode(Buffer.from('reply'), one),
      end === '' ? Buffer.from('reply') : Buffer.from(`reply${end}`),
    )
  }
  assert.is(codec.encode('reply', other), 'reply')
})

test('the terminator of a datagram outlives the buffer it came in', () => {
  const codec = codecOf('line')
  const context = messages()
  const bytes = Buffer.from('a\n')
  codec.decodeAt?.(bytes, 0, 2, context)
  bytes.fill(0x78)
  assert.is(codec.encode('b', context), 'b\n')
  assert.equal(codec.encode(Buffer.from('b'), context), Buffer.from('b\n'))
})

test('a terminator that is no UTF-8 is given back as bytes', () => {
  const codec = codecOf('delimiter', 'text', { delimiter: [0xff, 0xfe] })
  const context = messages()
  assert.is(received(codec, 'a\xff\xfe', context), 'a')
  assert.equal(codec.encode('b', context), Buffer.from([0x62, 0xff, 0xfe]))
})

test('a stream keeps no state in the context', () => {
  const context: CodecContext = { ...stream }
  assert.is(received(codecOf('line'), 'a', context), 'a')
  assert.is(context.state, undefined)
})

test('a frame alone is read like one in a buffer', () => {
  const codec = codecOf('line')
  assert.is(codec.decode(new Uint8Array(Buffer.from('hé')), stream), 'hé')
  assert.is(codec.decode(Buffer.from('xhey').subarray(1), stream), 'hey')
  assert.is(codec.decode(Buffer.from('hey\n'), messages()), 'hey')
})

test('what a payload can do, its codec can do; what it cannot, the codec lacks', () => {
  const able: Payload = {
    decodeAt: () => 1,
    encode: () => '',
    isMessage(value) {
      return value === this
    },
    route: () => 'route',
    correlate: () => 7,
  }
  const codec = framed(framing('line'), able)
  assert.ok(codec.isMessage?.(able))
  assert.is(codec.route?.(1), 'route')
  assert.is(codec.correlate?.(1), 7)
  const plain = codecOf('raw')
  for (const key of ['framer', 'isMessage', 'route', 'correlate'] as const) assert.not(key in plain, key)
  assert.ok(codec.framer)
})

test('what is encoded is decoded, in every pair of framing and payload, on both kinds of transport', () => {
  const anyBytes = fc.uint8Array({ maxLength: 700 }).map((given) => Buffer.from(given))
  const anyText = fc.string({ unit: 'grapheme', maxLength: 200 })
  const kinds: Record<string, fc.Arbitrary<unknown>> = {
    bytes: anyBytes,
    text: anyText,
    json: fc.jsonValue({ maxDepth: 5 }).map((value) => JSON.parse(JSON.stringify(value)) as unknown),
  }
  const options: Record<string, object> = { delimiter: { delimiter: '\n.\n' } }
  let count = 0
  // Those that take any payload; the others' frames are their values' own.
  for (const name of ['line', 'delimiter', 'length-field', 'varint', 'netstring', 'json-lines']) {
    for (const kind of Object.keys(kinds)) {
      const made = framing(name, options[name])
      const codec = framed(made, payload(kind, kind === 'json' ? { proto: 'keep' } : {}))
      // What holds the end of a frame is not carried by frames that have one.
      const isCarried = (out: Buffer) => made.trim === undefined || !(out.includes('\n') || out.at(-1) === 0x0d)
      fc.assert(
        fc.property(kinds[kind] as fc.Arbitrary<unknown>, (message) => {
          const plain = Buffer.from(codec.encode(message, messages()) as Uint8Array)
          if (!isCarried(plain)) return
          assert.equal(codec.decode(plain, messages()), message)
          const out = Buffer.from(codec.encode(message, stream) as Uint8Array)
          const { frames, error, leftover } = framesOf(made, out)
          assert.equal([frames.length, error, leftover], [1, undefined, 0])
          assert.equal(codec.decode(Buffer.from(frames[0] as string, 'latin1'), stream), message)
          count++
        }),
        { numRuns: 200 },
      )
    }
  }
  assert.ok(count > 3_000, `${count} messages went round`)
})

test.run()
