/** The PROXY protocol's header: what the specification writes, what it forbids, and any split of either. */
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { HandshakeError } from '#src/core/errors.js'
import {
  crc32c,
  type ProxyHeader,
  readProxyHeader,
  readProxyTls,
  writeProxyHeader,
} from '#src/plugins/layers/proxy-header.js'

const MOST = 4_096
const read = (bytes: Buffer) => readProxyHeader(bytes, MOST)

/** As a connection reads it: a byte more each time. */
function grow(bytes: Buffer): { header: ProxyHeader; size: number } | 'refused' | 'more' {
  for (let end = 1; end <= bytes.length; end++) {
    try {
      const found = read(bytes.subarray(0, end))
      if (found !== undefined) return found
    } catch (error) {
      if (!(error instanceof HandshakeError)) throw error
      return 'refused'
    }
  }
  return 'more'
}

test('version 1 as the specification shows it', () => {
  const { header, size } = read(Buffer.from('PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET /')) as never as {
    header: ProxyHeader
    size: number
  }
  assert.is(size, 45)
  assert.equal(header.source, { host: '192.0.2.1', port: 56_324 })
  assert.equal(header.destination, { host: '198.51.100.2', port: 443 })
  assert.is(read(Buffer.from('PROXY UNKNOWN\r\n'))?.header.local, true)
  assert.is(read(Buffer.from('PROXY UNKNOWN ffff:f::1 ffff::1 65535 65535\r\n'))?.header.local, true)
  assert.is(read(Buffer.from('PROXY TCP6 2001:db8::1 ::1 1 0\r\n'))?.header.source?.host, '2001:db8::1')
})

test('version 1: what is not allowed (F61, F62)', () => {
  for (const line of [
    'PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n',
    'PROXY TCP4 ::1 ::1 1 1\r\n',
    'PROXY TCP6 192.0.2.1 192.0.2.2 1 1\r\n',
    'PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n',
    'PROXY TCP4 192.0.2.256 192.0.2.1 1 1\r\n',
    'PROXY  TCP4 192.0.2.1 192.0.2.1 1 1\r\n',
    'PROXY TCP4 192.0.2.1 192.0.2.1 1 1 \r\n',
    'proxy TCP4 192.0.2.1 192.0.2.1 1 1\r\n',
    'PROXY UNKNOWNS\r\n',
    'GET / HTTP/1.1\r\n',
    '\x16\x03\x01',
    `PROXY TCP4 ${'1'.repeat(120)}`,
  ]) {
    assert.is(grow(Buffer.from(line, 'latin1')), 'refused', line)
  }
  assert.is(grow(Buffer.from('PROXY TCP4 192.0.2.1')), 'more')
})

test('version 2: what is not allowed (F63)', () => {
  const good = writeProxyHeader(2, { host: '192.0.2.1', port: 1 }, { host: '192.0.2.2', port: 2 })
  const spoil = (at: number, ...bytes: number[]) => {
    const copy = Buffer.from(good)
    bytes.forEach((byte, index) => {
      copy[at + index] = byte
    })
    return copy
  }
  assert.is((grow(good) as { size: number }).size, 28)
  for (const bad of [
    spoil(12, 0x31),
    spoil(12, 0x22),
    spoil(13, 0x41),
    spoil(13, 0x13),
    spoil(14, 0, 11),
    spoil(14, 0xff, 0xff),
  ])
    assert.is(grow(bad), 'refused', bad.toString('hex'))
  assert.is((grow(spoil(12, 0x20)) as { header: ProxyHeader }).header.local, true)
  const short = writeProxyHeader(2, undefined, undefined, [{ type: 4, value: Buffer.from('ab') }])
  short.writeUInt16BE(4, 14)
  assert.is(grow(short), 'refused')
})

test('version 2: TLVs and the checksum (F63)', () => {
  const source = { host: '2001:db8::7', port: 7 }
  const tlvs = [
    { type: 2, value: Buffer.from('example.org') },
    { type: 3, value: Buffer.alloc(4) },
  ]
  const bytes = writeProxyHeader(2, source, { host: '::1', port: 9 }, tlvs)
  bytes.writeUInt32BE(crc32c(bytes), bytes.length - 4)
  const { header } = grow(bytes) as { header: ProxyHeader }
  assert.equal(header.source, source)
  assert.is(header.tlvs[0]?.value.toString(), 'example.org')
  bytes[20] = (bytes[20] as number) ^ 1
  assert.is(grow(bytes), 'refused')
  // RFC 3720, appendix B.4.
  assert.is(crc32c(Buffer.alloc(32)), 0x8a9136aa)
})

test('100,000 headers, true and spoilt: any split says the same, with typed errors only', () => {
  const address = fc.oneof(
    fc.ipV4(),
    fc.ipV6().filter((text) => !text.includes('.')),
  )
  const port = fc.integer({ min: 0, max: 65_535 })
  let cases = 0
  fc.assert(
    fc.property(
      fc.constantFrom(1 as const, 2 as const),
      address,
      address,
      port,
      fc.integer({ min: 0, max: 80 }),
      fc.integer({ min: 0, max: 255 }),
      (version, from, to, number, at, byte) => {
        cases++
        if (from.includes(':') !== to.includes(':')) return
        const bytes = writeProxyHeader(version, { host: from, port: number }, { host: to, port: number })
        if (at % 3 === 0 && at < bytes.length) bytes[at] = byte
        const split = grow(bytes)
        let whole: ReturnType<typeof grow>
        try {
          whole = read(bytes) ?? 'more'
        } catch (error) {
          if (!(error instanceof HandshakeError)) throw error
          whole = 'refused'
        }
        assert.equal(split, whole)
        if (at % 3 !== 0) assert.is((whole as { header: ProxyHeader }).header.source?.port, number)
      },
    ),
    { numRuns: 100_000 },
  )
  assert.is(cases, 100_000)
})

test('what a proxy says of TLS: 100,000 values, true and spoilt, with typed errors only', () => {
  const tlv = (type: number, value: Buffer) =>
    Buffer.concat([Buffer.from([type, value.length >> 8, value.length & 255]), value])
  let refused = 0
  fc.assert(
    fc.property(
      fc.constantFrom(0, 1, 3, 7),
      fc.boolean(),
      fc.string({ maxLength: 20 }),
      fc.nat(60),
      fc.nat(255),
      (client, isVerified, name, at, byte) => {
        const value = Buffer.concat([
          Buffer.from([client, 0, 0, 0, isVerified ? 0 : 1]),
          tlv(0x21, Buffer.from('TLSv1.3')),
          tlv(0x22, Buffer.from(name)),
        ])
        const isSpoilt = at < value.length && at % 2 === 0
        if (isSpoilt) value[at] = byte
        const given = at % 5 === 4 ? value.subarray(0, at) : value
        try {
          const facts = readProxyTls([{ type: 0x20, value: given }])
          if (isSpoilt || given !== value) return
          assert.equal([facts?.isTls, facts?.protocol, facts?.commonName], [(client & 1) === 1, 'TLSv1.3', name])
          assert.is(facts?.isVerified, client > 1 && isVerified)
        } catch (error) {
          if (!(error instanceof HandshakeError)) throw error
          refused++
        }
      },
    ),
    { numRuns: 100_000 },
  )
  assert.ok(refused > 1_000)
  assert.is(readProxyTls([]), undefined)
})

test.run()
