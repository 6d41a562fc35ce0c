import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Admission, checkLive } from '#src/core/admission.js'

const open = {
  connections: Number.POSITIVE_INFINITY,
  connectionsPerSource: Number.POSITIVE_INFINITY,
  acceptRate: Number.POSITIVE_INFINITY,
}
const enter = (admission: Admission, host: string, who: object = {}) => {
  const refusal = admission.refusal(0, () => host, 0)
  if (refusal === undefined)
    assert.is(
      admission.enter(who, () => host),
      true,
    )
  return refusal
}

test('a source is an IPv4 address, an IPv6 /64, and an IPv4-mapped address is its IPv4', () => {
  const admission = new Admission({ ...open, connectionsPerSource: 2 }, 0)
  assert.is(enter(admission, '2001:db8:1:2::1'), undefined)
  assert.is(enter(admission, '2001:db8:1:2:ffff::2'), undefined)
  assert.is(enter(admission, '2001:db8:1:2:3:4:5:6'), 'source')
  assert.is(enter(admission, '2001:db8:1:3::1'), undefined)
  const mapped = {}
  assert.is(enter(admission, '192.0.2.1'), undefined)
  assert.is(enter(admission, '::ffff:192.0.2.1', mapped), undefined)
  assert.is(enter(admission, '0:0:0:0:0:ffff:c000:201'), 'source')
  admission.left(mapped)
  assert.is(enter(admission, '192.0.2.1'), undefined)
})

test('a limit by source that is set later counts those who are there', () => {
  const admission = new Admission(open, 0)
  const there = ['192.0.2.1', '::ffff:192.0.2.1', undefined, '192.0.2.2'].map((host) => [{}, host] as const)
  admission.change({ connectionsPerSource: 2 }, there, 0)
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

test('F96 where peers have addresses, one whose address is not known is no peer without one', () => {
  const admission = new Admission({ ...open, connectionsPerSource: 1 }, 0)
  const unknown = () => undefined
  assert.is(admission.refusal(0, unknown, 0, true), 'unknown-address')
  // By whom it comes is said later; that it has no address now is reason enough.
  assert.is(admission.refusal(0, unknown, 0, true, false), 'unknown-address')
  assert.is(admission.refusal(0, unknown, 0, false), undefined)
})

/** What happens to those who are in, and to the limit, in any order. */
type Step =
  | { readonly step: 'come' | 'roam' | 'learn'; readonly who: number; readonly host: number }
  | { readonly step: 'leave' | 'become'; readonly who: number }
  | { readonly step: 'limit'; readonly limit: number }

const who = fc.nat(11)
const host = fc.nat(3)
const steps = fc.array(
  fc.oneof(
    fc.record({ step: fc.constantFrom('come', 'roam', 'learn'), who, host }),
    fc.record({ step: fc.constantFrom('leave', 'become'), who }),
    fc.record({ step: fc.constant('limit'), limit: fc.constantFrom(0, 1, 2, 3, Number.POSITIVE_INFINITY) }),
  ) as fc.Arbitrary<Step>,
  { maxLength: 120 },
)
// Some are one source in two spellings.
const HOSTS = ['192.0.2.1', '::ffff:192.0.2.1', '2001:db8::1', '2001:db8::2:1'] as const
const SOURCES = ['four', 'four', 'six', 'six'] as const

test('whoever was counted in is counted out of the same source, wherever it has moved and whatever was set', () => {
  fc.assert(
    fc.property(steps, (list) => {
      const admission = new Admission({ ...open, connectionsPerSource: 2 }, 0)
      let limit = 2
      /** Who is in: where it is now, and as what it was counted; undefined: it was not. */
      const inside = new Map<number, { key: object; at: number; source: string | undefined }>()
      const count = (source: string) => [...inside.values()].filter((one) => one.source === source).length
      for (const one of list) {
        const known = 'who' in one ? inside.get(one.who) : undefined
        if (one.step === 'limit') {
          const counted = limit !== Number.POSITIVE_INFINITY
          limit = one.limit
          const present = [...inside.values()].map(({ key, at }) => [key, HOSTS[at]] as const)
          admission.change({ connectionsPerSource: limit }, present, 0)
          for (const peer of inside.values()) {
            if (limit === Number.POSITIVE_INFINITY) peer.source = undefined
            else if (!counted) peer.source = SOURCES[peer.at]
          }
        } else if (one.step === 'come' && known === undefined) {
          const source = SOURCES[one.host] as string
          const refusal = admission.refusal(inside.size, () => HOSTS[one.host], 0)
          assert.is(refusal, count(source) >= limit ? 'source' : undefined)
          if (refusal !== undefined) continue
          const key = {}
          admission.enter(key, () => HOSTS[one.host])
          inside.set(one.who, { key, at: one.host, source: limit === Number.POSITIVE_INFINITY ? undefined : source })
        } else if (known === undefined) continue
        else if (one.step === 'roam') known.at = one.host
        else if (one.step === 'learn') {
          const source = SOURCES[one.host] as string
          known.source = undefined
          const fits = count(source) < limit
          assert.is(
            admission.move(known.key, () => HOSTS[one.host]),
            fits,
          )
          known.at = one.host
          if (!fits) inside.delete(one.who)
          else if (limit !== Number.POSITIVE_INFINITY) known.source = source
        } else if (one.step === 'become') {
          const key = {}
          admission.handOver(known.key, key)
          known.key = key
        } else if (one.step === 'leave') {
          admission.left(known.key)
          // Told twice, it is still one.
          admission.left(known.key)
          inside.delete(one.who)
        }
      }
      for (const { key } of inside.values()) admission.left(key)
      inside.clear()
      admission.change({ connectionsPerSource: 1 }, [], 0)
      for (const address of ['192.0.2.1', '2001:db8::9']) assert.is(enter(admission, address), undefined)
    }),
    { numRuns: 2_000 },
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
