import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isMulticast, udpOptions } from '#src/transports/udp-options.js'

type Result = { value?: Record<string, unknown>; issues?: readonly { message: string }[] }
const check = (value: unknown) => udpOptions['~standard'].validate(value) as Result

test('a listener without options asks for 4 MiB of receive buffer', () => {
  assert.is(check({}).value?.receiveBuffer, 4 * 1024 * 1024)
  assert.is(check(undefined).value?.reusePort, false)
})

test('everything multicast can be told', () => {
  const multicast = {
    groups: ['239.1.2.3', 'ff02::1234', { group: '232.1.1.1', interface: '127.0.0.1', source: '127.0.0.2' }],
    ttl: 0,
    loopback: true,
    interface: '127.0.0.1',
  }
  assert.equal(check({ multicast }).value?.multicast, multicast)
})

for (const [given, expected] of [
  [{ noDelay: true }, /unknown option/],
  [{ recieveBuffer: 1 }, /nearest: `receiveBuffer`/],
  [{ receiveBuffer: 0 }, /from 1 to/],
  [{ multicast: '239.1.2.3' }, /an object of groups/],
  [{ multicast: { group: '239.1.2.3' } }, /`group` is none; nearest: `groups`/],
  [{ multicast: { groups: '239.1.2.3' } }, /groups to be a list/],
  [{ multicast: { groups: ['10.1.2.3'] } }, /multicast address/],
  [{ multicast: { groups: [{ grup: '239.1.2.3' }] } }, /nearest: `group`/],
  [{ multicast: { groups: [{ group: '239.1.2.3', interface: 'eth0' }] } }, /interface to be an address/],
  [{ multicast: { groups: [{ group: '239.1.2.3', source: 1 }] } }, /source to be an address/],
  [{ multicast: { ttl: 256 } }, /ttl/],
  [{ multicast: { loopback: 1 } }, /loopback/],
  [{ multicast: { interface: 'eth0' } }, /interface/],
] as const) {
  test(`refuses ${JSON.stringify(given)}`, () => {
    assert.match(check(given).issues?.[0]?.message ?? 'accepted', expected)
  })
}

test('whatever is given, the answer is a value or issues, never a throw', () => {
  const group = fc.oneof(fc.string(), fc.ipV4(), fc.ipV6(), fc.object())
  const multicast = fc.record(
    { groups: fc.array(group), ttl: fc.anything(), interface: fc.anything() },
    { requiredKeys: [] },
  )
  fc.assert(
    fc.property(fc.oneof(multicast, fc.anything()), (value) => {
      const result = check({ multicast: value })
      assert.ok(result.issues === undefined || result.issues.length > 0)
    }),
  )
})

test('multicast addresses are 224.0.0.0/4 and ff00::/8', () => {
  for (const address of ['224.0.0.1', '239.255.255.255', 'ff02::1', 'FF05::2']) assert.ok(isMulticast(address), address)
  for (const address of ['223.255.255.255', '240.0.0.0', 'fe80::1', '::ffff:224.0.0.1', 'all-hosts', 224]) {
    assert.not(isMulticast(address), String(address))
  }
})

test.run()
