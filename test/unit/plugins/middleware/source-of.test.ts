import { BlockList } from 'node:net'
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { addressOf, sourceOf } from '#src/plugins/middleware/source-of.js'
import { PlayedConnection } from './played-connection.js'

const source = (host: string | undefined, prefix = 64) => sourceOf(new PlayedConnection(host).asConnection, prefix)

test('an IPv4 address is a source of its own, mapped or not', () => {
  assert.is(source('192.0.2.7'), '192.0.2.7')
  assert.is(source('::ffff:192.0.2.7'), '192.0.2.7')
  assert.is(source('::ffff:c000:207'), '192.0.2.7')
})

test('IPv6 addresses of one network are one source', () => {
  assert.is(source('2001:db8:1:2::1'), source('2001:db8:1:2:ffff:ffff:ffff:ffff'))
  assert.is.not(source('2001:db8:1:2::1'), source('2001:db8:1:3::1'))
  assert.is.not(source('2001:db8:1:2::1', 128), source('2001:db8:1:2::2', 128))
})

test('a tail written as IPv4 counts in full', () => {
  assert.is.not(source('64:ff9b::192.0.2.1', 128), source('64:ff9b::192.0.2.2', 128))
  assert.is(source('64:ff9b::192.0.2.1', 128), source('64:ff9b::c000:201', 128))
})

test('ffff elsewhere than in a mapped address is nothing special', () => {
  assert.is(addressOf(new PlayedConnection('2001:ffff::1').asConnection), '2001:ffff::1')
  assert.is(addressOf(new PlayedConnection('::ffff:0:1.2.3.4').asConnection), '::ffff:0:1.2.3.4')
})

test('a zone is no part of the source', () => {
  assert.is(source('fe80::1%eth0'), source('fe80::1%eth1'))
})

test('a peer without an address has no source', () => {
  assert.is(source(undefined), undefined)
})

test("two IPv6 addresses are one source exactly where Node's BlockList sees one network", () => {
  const groups = fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 })
  const text = (parts: readonly number[]) => parts.map((part) => part.toString(16)).join(':')
  fc.assert(
    fc.property(groups, fc.integer({ min: 0, max: 127 }), fc.integer({ min: 1, max: 128 }), (a, flipped, prefix) => {
      // No mapped address: it is IPv4 and has no prefix here.
      a[0] = (a[0] as number) | 1
      const b = [...a]
      const at = flipped >> 4
      b[at] = (b[at] as number) ^ (0x8000 >> (flipped & 15))
      if (at === 0 && (flipped & 15) === 15) return
      const list = new BlockList()
      list.addSubnet(text(a), prefix, 'ipv6')
      assert.is(source(text(a), prefix) === source(text(b), prefix), list.check(text(b), 'ipv6'))
    }),
    { numRuns: 500 },
  )
})

test.run()
