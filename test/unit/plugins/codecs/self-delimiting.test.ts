// time limit: 480 s
/** Framings whose frames tell their own ends: any cuts, hostile bytes, small pieces. */
import { Encoder } from 'cbor-x'
import { Packr } from 'msgpackr'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Framing } from '#src/core/plugin.js'
import { beginEnd } from '#src/plugins/codecs/begin-end.js'
import { cbor, cborPayload } from '#src/plugins/codecs/cbor.js'
import { cobs, stuff } from '#src/plugins/codecs/cobs.js'
import { jsonStream } from '#src/plugins/codecs/json-stream.js'
import { msgpack, msgpackPayload } from '#src/plugins/codecs/msgpack.js'
import { slip } from '#src/plugins/codecs/slip.js'
import { tlv } from '#src/plugins/codecs/tlv.js'
import {
  type Choices,
  checkCuts,
  checkPieces,
  drive,
  fails,
  framedBytes,
  framesOf,
  type Generator,
  limitsOf,
  make,
  open,
} from './harness.js'

/** One push is the specification for every other way to cut; what one push must give is told by the cases below. */
const uncut = (framing: Framing, stream: Generator['stream'], bait: Buffer): Generator => ({
  framing,
  reference: (bytes, limit) => drive(open(framing, limitsOf(limit)), bytes, [], bait),
  bait,
  stream,
})

const some = (choices: Choices, make: () => Buffer, noise: readonly number[]): Buffer => {
  const parts: Buffer[] = []
  for (let count = choices.below(6); count >= 0; count--) {
    parts.push(choices.below(20) === 0 ? choices.bytes(choices.below(9), noise) : make())
  }
  return Buffer.concat(parts)
}

test('begin-end: any cuts give the same', () => {
  const framing = make(beginEnd, { begin: '\\x02', end: '\\x03\\r' })
  checkCuts('begin-end', () =>
    uncut(
      framing,
      (choices, limit) =>
        some(
          choices,
          () =>
            Buffer.concat([
              Buffer.from([2]),
              choices.bytes(choices.below(limit + 2), [3, 13, 65]),
              Buffer.from([3, 13]),
            ]),
          [2, 3, 13],
        ),
      Buffer.from([3, 13, 2]),
    ),
  )
})

test('begin-end: with noise between frames passed over', () => {
  const framing = make(beginEnd, { begin: 'AB', end: ';', between: 'skip' })
  assert.equal(framesOf(framing, Buffer.from('xxAABone;--AABtwo;A')).frames, ['one', 'two'])
  checkCuts('begin-end skip', () =>
    uncut(
      framing,
      (choices) => some(choices, () => Buffer.from('ABxA;'), [...Buffer.from('AB;x')]),
      Buffer.from('AB;'),
    ),
  )
})

test('cobs: any cuts give the same; the vectors of the paper', () => {
  const framing = make(cobs)
  checkCuts('cobs', () =>
    uncut(
      framing,
      (choices, limit) => some(choices, () => stuff(choices.bytes(1 + choices.below(limit + 2), [0, 1, 255])), [0, 5]),
      Buffer.from([0, 0]),
    ),
  )
  const run = (from: number, to: number) => Buffer.from(Array.from({ length: to - from + 1 }, (_, i) => from + i))
  const vectors: [Buffer, Buffer][] = [
    [Buffer.from('00', 'hex'), Buffer.from('010100', 'hex')],
    [Buffer.from('11220033', 'hex'), Buffer.from('031122023300', 'hex')],
    [Buffer.from('11000000', 'hex'), Buffer.from('021101010100', 'hex')],
    [run(1, 254), Buffer.concat([Buffer.from([255]), run(1, 254), Buffer.from([0])])],
    [run(0, 254), Buffer.concat([Buffer.from([1, 255]), run(1, 254), Buffer.from([0])])],
    [run(1, 255), Buffer.concat([Buffer.from([255]), run(1, 254), Buffer.from([2, 255, 0])])],
  ]
  for (const [plain, coded] of vectors) {
    assert.is(framedBytes(framing, plain).toString('hex'), coded.toString('hex'))
    assert.is(framing.unstuff?.(coded, 0, coded.length - 1).toString('hex'), plain.toString('hex'))
  }
  assert.throws(() => framing.unstuff?.(Buffer.from([5, 1]), 0, 2), fails('MALFORMED'))
})

test('slip: any cuts give the same; every byte survives', () => {
  const framing = make(slip)
  checkCuts('slip', () =>
    uncut(
      framing,
      (choices, limit) =>
        some(
          choices,
          () => framedBytes(framing, choices.bytes(1 + choices.below(limit + 1), [0xc0, 1, 2, 3, 4])),
          [0xc0],
        ),
      Buffer.from([0xc0, 0xdb]),
    ),
  )
  const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
  const wire = framedBytes(framing, all)
  assert.ok(framing.unstuff?.(wire, 1, wire.length - 1).equals(all))
  assert.throws(() => framing.unstuff?.(Buffer.from([0xdb]), 0, 1), fails('MALFORMED'))
})

test('json-stream: any cuts give the same', () => {
  const framing = make(jsonStream)
  checkCuts('json-stream', () =>
    uncut(
      framing,
      (choices) =>
        some(
          choices,
          () => Buffer.from(choices.pick(['{"a":"}\\""}', '[]', '[[1],{}]', '12 ', 'true\n', '"x]"', '\x1e{}\n', ' '])),
          [...Buffer.from('{}[]"\\ 1')],
        ),
      Buffer.from('}]" '),
    ),
  )
  assert.equal(framesOf(framing, Buffer.from('{"a":[1]}[2]"}"3 \x1enull')).frames, [
    '{"a":[1]}',
    '[2]',
    '"}"',
    '3',
    'null',
  ])
})

test('what stands between frames is not kept as the front of one', () => {
  for (const [framing, between] of [
    [make(jsonStream), '\n \x1e'],
    [make(cobs), '\0\0'],
    [make(slip), '\xc0\xc0'],
  ] as const) {
    const bytes = Buffer.from(between, 'latin1')
    assert.is(open(framing, limitsOf(8)).skip?.(bytes, 0, bytes.length), bytes.length)
  }
})

const packr = new Packr({ useRecords: false })
const coder = new Encoder({ useRecords: false })
const values = (choices: Choices, deep = 0): unknown =>
  choices.pick<() => unknown>([
    () => choices.below(300) - 100,
    () => 'x'.repeat(choices.below(40)),
    () => null,
    () => 1.5,
    () => Buffer.alloc(choices.below(5)),
    () => (deep > 3 ? [] : [values(choices, deep + 1), values(choices, deep + 1)]),
    () => (deep > 3 ? {} : { a: values(choices, deep + 1) }),
  ])()
const any = Array.from({ length: 256 }, (_, i) => i)

for (const [name, framing, encode] of [
  ['msgpack', make(msgpack), (value: unknown) => Buffer.from(packr.pack(value))],
  ['cbor', make(cbor), (value: unknown) => Buffer.from(coder.encode(value))],
] as const) {
  test(`${name}: any cuts give the same, and each value ends where the library says`, () => {
    checkCuts(name, () =>
      uncut(framing, (choices) => some(choices, () => encode(values(choices)), any), Buffer.alloc(8)),
    )
    const all = ['a', 1, [1, [2, { b: null }]], 'x'.repeat(70_000), new Array(20).fill(-1), 2 ** 40, Buffer.alloc(300)]
    const { frames, error } = framesOf(framing, Buffer.concat(all.map(encode)))
    assert.is(error, undefined)
    assert.equal(
      frames.map((frame) => frame.length),
      all.map((value) => encode(value).length),
    )
  })

  test(`${name}: nesting, claims and pieces`, () => {
    const deep = Buffer.alloc(101, name === 'cbor' ? 0x81 : 0x91)
    assert.is(framesOf(framing, deep).error, 'MALFORMED')
    const claim = Buffer.from(name === 'cbor' ? '9affffffff' : 'ddffffffff', 'hex')
    assert.is(framesOf(framing, claim).error, 'TOO_LARGE')
    checkPieces(name, framing, encode('x'.repeat(1_048_570)))
  })
}

test('cbor: what RFC 8949 calls indefinite, and what it forbids', () => {
  const framing = make(cbor)
  const whole = [
    '5f42010243030405ff',
    '7f6161ff',
    '9f018202039f0405ffff',
    'bf61610161629f0203ffff',
    'c11a514b67b0',
    'f97e00',
  ]
  for (const hex of whole) assert.is(framesOf(framing, Buffer.from(hex, 'hex')).frames.length, 1, hex)
  for (const hex of ['ff', '1c', 'df', '5f01', '5f6161', '1f', '3f'])
    assert.is(framesOf(framing, Buffer.from(hex, 'hex')).error, 'MALFORMED', hex)
})

test('payloads: typed errors for bytes that are no value', () => {
  for (const payload of [make(msgpackPayload), make(cborPayload)]) {
    const bytes = Buffer.from(payload.encode({ a: [1, 'ä'] }) as Uint8Array)
    assert.equal(payload.decodeAt(bytes, 0, bytes.length), { a: [1, 'ä'] })
    assert.throws(() => payload.decodeAt(Buffer.from([0xff, 0xc1]), 1, 2), fails('MALFORMED'))
    assert.ok(payload.isMessage?.([1]))
  }
})

test('F108 cbor: tags by an allow-list; big numbers of a bounded size; nothing a library would run', () => {
  const payload = make(cborPayload)
  const decode = (hex: string) => {
    const bytes = Buffer.from(hex, 'hex')
    return payload.decodeAt(bytes, 0, bytes.length, {} as never)
  }
  assert.is(decode('c24901000000000000000000'.slice(0, 22)), 18446744073709551616n)
  assert.equal(decode('c11a514b67b0'), new Date('2013-03-21T20:04:00Z'))
  assert.equal(decode('d9010283010203'), new Set([1, 2, 3]))
  assert.equal(decode('d9d9f7820102'), [1, 2])
  assert.equal(decode('d8404401020304'), new Uint8Array([1, 2, 3, 4]))
  const refused = {
    'a big number of 65 bytes': `c25841${'ff'.repeat(65)}`,
    'a big number of 200 KB': `c25a00030d40${'ff'.repeat(200_000)}`,
    'a big number in pieces': 'c25f4101ff',
    'a decimal fraction': 'c48221196ab3',
    'a big float': 'c5822003',
    'a regular expression': 'd8236161',
    'an object by name': 'd81b82654572726f72616d',
    'a shareable value': 'd81c80',
    'a reference': 'd81d00',
    'a map of maps': 'd9010380',
    'a packed table': 'd8338180',
    'a record of cbor-x': 'd9dfff8180',
    'a date that is a list': 'c1820102',
    'a date by a tagged number': 'c1c24101',
    'a URI that is bytes': 'd8204101',
    'a tag of 64 bits': 'db00000001000000014101',
  }
  for (const [what, hex] of Object.entries(refused)) {
    const began = process.cpuUsage()
    assert.throws(() => decode(hex), fails('MALFORMED'), what)
    // The framer says so before the payload is read at all.
    const { error } = drive(open(make(cbor), limitsOf(1 << 20)), Buffer.from(hex, 'hex'), [], Buffer.from('?'))
    assert.match(String(error), /MALFORMED/, what)
    assert.ok(process.cpuUsage(began).user < 1_000_000, what)
  }
})

test('F108 cbor and msgpack: whatever tag or extension a stranger writes, it is refused or one of those that are taken', () => {
  const payloads = { cbor: make(cborPayload), msgpack: make(msgpackPayload) }
  const decode = (name: keyof typeof payloads, bytes: Buffer) => {
    try {
      return payloads[name].decodeAt(bytes, 0, bytes.length, {} as never)
    } catch (error) {
      assert.ok(fails('MALFORMED')(error), `${bytes.toString('hex')}: ${error}`)
      return undefined
    }
  }
  for (let tag = 0; tag < 70_000; tag++) {
    const head =
      tag < 24
        ? [0xc0 | tag]
        : tag < 256
          ? [0xd8, tag]
          : tag < 65_536
            ? [0xd9, tag >> 8, tag & 255]
            : [0xda, 0, 1, tag >> 8, tag & 255].slice(0, 5)
    for (const content of [[0x01], [0x44, 1, 2, 3, 4], [0x64, 0x61, 0x62, 0x63, 0x64], [0x82, 0x01, 0x02], [0xa0]]) {
      const value = decode('cbor', Buffer.from([...head, ...content]))
      assert.not.instance(value, RegExp)
      assert.not.instance(value, Error)
    }
  }
  for (let type = 0; type < 256; type++) {
    for (const head of [
      [0xd4, type, 1],
      [0xd6, type, 1, 2, 3, 4],
      [0xc7, 4, type, 1, 2, 3, 4],
      [0xc8, 0, 4, type, 1, 2, 3, 4],
    ]) {
      const value = decode('msgpack', Buffer.from(head))
      if (type !== 0 && type !== 0xff) assert.is(value, undefined, `type ${type}`)
    }
  }
  assert.equal(decode('msgpack', Buffer.from('d6ff514b67b0', 'hex')), new Date('2013-03-21T20:04:00Z'))
})

test('tlv: tags, lengths and routes', () => {
  const codec = make(tlv, { tagBytes: 2, length: 'ber', endian: 'big' })
  const long = { tag: 0x1234, value: Buffer.alloc(200, 7) }
  const bytes = codec.encode(long, {} as never) as Buffer
  assert.is(bytes.subarray(0, 4).toString('hex'), '123481c8')
  assert.equal(codec.decode(bytes, {} as never), long)
  assert.is(codec.route?.(long), '4660')
  assert.throws(() => codec.encode({ tag: 65_536, value: Buffer.alloc(0) }, {} as never), fails('HANDLER_FAILED'))
})

test('protobuf messages behind varints are read as protobuf writes them', async () => {
  // sizeDelimitedEncode of { 1: "testing" }: the message 0a 07 …, its length before it.
  const { varint } = await import('#src/plugins/codecs/varint.js')
  const wire = Buffer.from('090a0774657374696e67020801', 'hex')
  assert.equal(framesOf(make(varint), wire).frames, ['\x0a\x07testing', '\x08\x01'])
})

test.run()
