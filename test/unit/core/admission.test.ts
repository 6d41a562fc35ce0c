import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Admission, checkLive } from '#src/core/admission.js'

const open = {
  connections: Number.POSITIVE_INFINITY,
  connectionsPerSource: Number.POSITIVE_INFINITY,
  acceptRate: Number.POSITIVE_INFINITY,
}
const enter = (admission: Admission, host: string) => {
  const refusal = admission.refusal(0, () => host, 0)
  if (refusal === undefined) admission.entered(() => host)
  return refusal
}

test('a source is an IPv4 address, an IPv6 /64, and an IPv4-mapped address is its IPv4', () => {
  const admission = new Admission({ ...open, connectionsPerSource: 2 }, 0)
  assert.is(enter(admission, '2001:db8:1:2::1'), undefined)
  assert.is(enter(admission, '2001:db8:1:2:ffff::2'), undefined)
  assert.is(enter(admission, '2001:db8:1:2:3:4:5:6'), 'source')
  assert.is(enter(admission, '2001:db8:1:3::1'), undefined)
  assert.is(enter(admission, '192.0.2.1'), undefined)
  assert.is(enter(admission, '::ffff:192.0.2.1'), undefined)
  assert.is(enter(admission, '0:0:0:0:0:ffff:c000:201'), 'source')
  admission.left(() => '::ffff:c000:201')
  assert.is(enter(admission, '192.0.2.1'), undefined)
})

test('a limit by source that is set later counts those who are there', () => {
  const admission = new Admission(open, 0)
  admission.change({ connectionsPerSource: 2 }, ['192.0.2.1', '::ffff:192.0.2.1', undefined, '192.0.2.2'], 0)
  assert.is(enter(admission, '192.0.2.1'), 'source')
  assert.is(enter(admission, '192.0.2.2'), undefined)
  admission.change({ connectionsPerSource: Number.POSITIVE_INFINITY }, [], 0)
  assert.is(enter(admission, '192.0.2.1'), undefined)
})

test('the limit of connections decides first, and peers without an address have no source', () => {
  const admission = new Admission({ ...open, connections: 3, connectionsPerSource: 0 }, 0)
  assert.is(
    admission.refusal(3, () => '192.0.2.1', 0),
    'connections',
  )
  assert.is(
    admission.refusal(2, () => '192.0.2.1', 0),
    'source',
  )
  assert.is(
    new Admission({ ...open, connectionsPerSource: 1 }, 0).refusal(0, () => undefined, 0),
    undefined,
  )
})

test('newcomers a second: as many at once, then what the rate gives', () => {
  const admission = new Admission({ ...open, acceptRate: 10 }, 0)
  const come = (now: number, count: number) =>
    Array.from({ length: count }, () => admission.refusal(0, () => 'x', now)).filter((one) => one === undefined).length
  assert.is(come(0, 50), 10)
  assert.is(
    admission.refusal(0, () => 'x', 0),
    'rate',
  )
  assert.is(admission.waitMs(0), 100)
  assert.is(come(100, 50), 1)
  assert.is(come(10_000, 50), 10)
  admission.change({ acceptRate: Number.POSITIVE_INFINITY }, [], 10_000)
  assert.is(come(10_000, 500), 500)
  assert.is(admission.waitMs(10_000), 0)
})

test('where newcomers wait instead, one that came all the same is let in, and the next waits longer', () => {
  const admission = new Admission({ ...open, acceptRate: 10, whenFull: 'pause' }, 0)
  for (let i = 0; i < 13; i++)
    assert.is(
      admission.refusal(0, () => 'x', 0),
      undefined,
    )
  assert.is(admission.waitMs(0), 400)
})

test('a refusal by another limit uses up no rate', () => {
  const admission = new Admission({ ...open, connections: 1, acceptRate: 1 }, 0)
  for (let i = 0; i < 10; i++)
    assert.is(
      admission.refusal(1, () => 'x', 0),
      'connections',
    )
  assert.is(
    admission.refusal(0, () => 'x', 0),
    undefined,
  )
})

test('live limits are whole numbers or Infinity, of the names there are', () => {
  const known = ['a', 'b']
  assert.equal(checkLive('listener x', { a: 0, b: Number.POSITIVE_INFINITY }, known), {
    a: 0,
    b: Number.POSITIVE_INFINITY,
  })
  for (const bad of [{ a: -1 }, { a: 1.5 }, { a: Number.NaN }, { a: 'unlimited' }, { c: 1 }, { a: undefined }])
    assert.throws(() => checkLive('listener x', bad, known), /listener x: setLimits takes a or b/)
})

test.run()
