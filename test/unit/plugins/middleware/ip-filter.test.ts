import { BlockList } from 'node:net'
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ConfigError, ConnectionError } from '#src/core/errors.js'
import { ipFilter } from '#src/plugins/middleware/ip-filter.js'
import { PlayedConnection, play } from './played-connection.js'

const lets = (options: unknown, host: string | undefined) =>
  play(ipFilter, options).open(new PlayedConnection(host)).opened

test('an allow list keeps everybody else out', () => {
  const options = { allow: ['10.0.0.0/8', '192.0.2.7', '2001:db8::/32'] }
  for (const host of ['10.255.0.1', '192.0.2.7', '2001:db8:1::9']) assert.ok(lets(options, host), host)
  for (const host of ['11.0.0.1', '192.0.2.8', '2001:db9::1']) assert.not.ok(lets(options, host), host)
})

test('an empty allow list lets nobody in', () => {
  assert.not.ok(lets({ allow: [] }, '127.0.0.1'))
})

test('a deny list lets everybody else in, and wins over allow', () => {
  assert.ok(lets({ deny: ['10.0.0.0/8'] }, '11.0.0.1'))
  assert.not.ok(lets({ deny: ['10.0.0.0/8'] }, '10.0.0.1'))
  assert.not.ok(lets({ allow: ['10.0.0.0/8'], deny: ['10.9.0.0/16'] }, '10.9.1.1'))
})

test('an IPv4-mapped peer is the IPv4 peer it stands for, in each spelling', () => {
  for (const host of ['::ffff:10.1.2.3', '::FFFF:10.1.2.3', '::ffff:a01:203', '0:0:0:0:0:ffff:0a01:0203']) {
    assert.ok(lets({ allow: ['10.0.0.0/8'] }, host), host)
    assert.not.ok(lets({ deny: ['10.0.0.0/8'] }, host), host)
  }
})

test('a mapped network in a list is the IPv4 network it stands for', () => {
  for (const entry of ['::ffff:10.0.0.0/104', '::ffff:a00:0/104']) {
    assert.not.ok(lets({ deny: [entry] }, '10.1.2.3'), entry)
    assert.ok(lets({ deny: [entry] }, '11.1.2.3'), entry)
  }
  assert.not.ok(lets({ deny: ['::ffff:0:0/96'] }, '203.0.113.9'))
})

test('a list of all IPv6 says nothing of IPv4, and the other way round', () => {
  assert.ok(lets({ deny: ['::/0'] }, '10.0.0.1'))
  assert.not.ok(lets({ deny: ['::/0'] }, '2001:db8::1'))
  assert.ok(lets({ deny: ['0.0.0.0/0'] }, '2001:db8::1'))
  assert.not.ok(lets({ deny: ['0.0.0.0/0'] }, '::ffff:1.2.3.4'))
})

test('the zone of a link-local peer does not matter', () => {
  assert.not.ok(lets({ deny: ['fe80::/10'] }, 'fe80::1%eth0'))
})

const letsOverUnix = (options: unknown) =>
  play(ipFilter, options).open(new PlayedConnection(undefined, 'default', 'unix:./it.sock')).opened

test('a peer that has no address by nature passes unless it is refused', () => {
  assert.ok(letsOverUnix({ allow: ['10.0.0.0/8'] }))
  assert.not.ok(letsOverUnix({ allow: ['10.0.0.0/8'], unknown: 'refuse' }))
  assert.not.ok(lets({ deny: ['10.0.0.0/8'], unknown: 'refuse' }, 'somewhere.example'))
})

test('F96 a peer whose address is not known is refused where others have one, whatever is said of those without', () => {
  for (const unknown of ['allow', 'refuse']) {
    assert.not.ok(lets({ allow: ['10.0.0.0/8'], unknown }, undefined))
    assert.not.ok(lets({ deny: ['10.0.0.0/8'], unknown }, undefined))
  }
})

test('a refusal is a ConnectionError that names the address', () => {
  const { error, opened } = play(ipFilter, { deny: ['10.0.0.0/8'] }).open(new PlayedConnection('10.0.0.1'))
  assert.not.ok(opened)
  assert.ok(error instanceof ConnectionError)
  assert.is(error.code, 'REFUSED')
  assert.match(error.message, '10.0.0.1')
})

const wrong = [
  '10.0.0.0/33',
  '10.0.0.0/8/9',
  '10.0.0.0/',
  '10.0.0.0/-1',
  '10.0.0.0/8 ',
  '10.0.0',
  '010.0.0.1',
  '2001:db8::/129',
  '::ffff:10.0.0.0/95',
  'fe80::1%eth0',
  'example.org',
  '',
  '/8',
]
for (const entry of wrong) {
  test(`\`${entry}\` is an error that names the list and the entry`, () => {
    for (const key of ['allow', 'deny']) {
      assert.throws(
        () => play(ipFilter, { [key]: ['10.0.0.1', entry] }),
        (error: unknown) =>
          error instanceof ConfigError && error.message.startsWith(`ip-filter.${key}: \`${entry}\` is no address`),
      )
    }
  })
}

test('neither list is an error', () => {
  assert.throws(() => play(ipFilter, {}), /expected `allow` or `deny`/)
})

test('an IPv4 network holds the addresses that share its bits', () => {
  const address = fc.integer({ min: 0, max: 0xffff_ffff })
  const text = (n: number) => [n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255].join('.')
  fc.assert(
    fc.property(address, address, fc.integer({ min: 0, max: 32 }), fc.boolean(), (network, other, bits, isNear) => {
      // Random addresses share few bits: half of the cases differ in the last ones only.
      const peer = isNear ? (network ^ (other >>> Math.min(31, bits))) >>> 0 : other
      const mask = bits === 0 ? 0 : (0xffff_ffff << (32 - bits)) >>> 0
      const expected = (network & mask) >>> 0 === (peer & mask) >>> 0
      assert.is(lets({ allow: [`${text(network)}/${bits}`] }, text(peer)), expected)
      assert.is(lets({ allow: [`${text(network)}/${bits}`] }, `::ffff:${text(peer)}`), expected)
    }),
    { numRuns: 300 },
  )
})

test('whatever stands in a list, it is read or refused as a mistake of the operator', () => {
  const near = fc.stringMatching(/^[0-9a-f:.%/]{0,24}$/)
  fc.assert(
    fc.property(fc.oneof(fc.string(), near, fc.ipV4(), fc.ipV6()), (entry) => {
      try {
        lets({ allow: [entry] }, '10.0.0.1')
      } catch (error) {
        assert.ok(error instanceof ConfigError, String(error))
      }
    }),
    { numRuns: 500 },
  )
})

test('every IPv6 address is in a list that names it', () => {
  fc.assert(
    fc.property(fc.ipV6(), (address) => {
      const list = new BlockList()
      list.addAddress(address, 'ipv6')
      assert.ok(lets({ allow: [address] }, address), address)
    }),
  )
})

test.run()
