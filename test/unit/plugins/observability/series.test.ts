// time limit: 120 s
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { exposition } from '#src/plugins/observability/exposition.js'
import { mergeSnapshots } from '#src/plugins/observability/merge.js'
import { type Family, Histogram, type Snapshot, Values } from '#src/plugins/observability/series.js'
import { readExposition, total } from '../../../support/prometheus.js'

const snapshot = (families: readonly Family[], worker?: string): Snapshot => ({ worker, workers: 1, families })

test('what is written is what the format says, down to the byte', () => {
  const values = new Values('listener', 'code')
  values.add(2, 'a"b\\c\nd', 'X')
  const histogram = new Histogram([0.1, 1], { listener: 'x' })
  for (const value of [0.0625, 0.09375, 0.5, 7]) histogram.add(value)
  const text = exposition(
    snapshot(
      [
        { name: 'a_total', help: 'back\\slash\nfeed', type: 'counter', merge: 'sum', samples: values.samples },
        { name: 'b_seconds', help: 'h', type: 'histogram', bounds: [0.1, 1], samples: [histogram.sample] },
        { name: 'c', help: 'none', type: 'gauge', merge: 'sum', samples: [] },
        {
          name: 'd',
          help: 'g',
          type: 'gauge',
          merge: 'sum',
          samples: [{ labels: {}, value: Number.POSITIVE_INFINITY }],
        },
      ],
      'w1',
    ),
  )
  assert.is(
    text,
    `# HELP a_total back\\\\slash\\nfeed
# TYPE a_total counter
a_total{listener="a\\"b\\\\c\\nd",code="X",worker="w1"} 2
# HELP b_seconds h
# TYPE b_seconds histogram
b_seconds_bucket{listener="x",worker="w1",le="0.1"} 2
b_seconds_bucket{listener="x",worker="w1",le="1"} 3
b_seconds_bucket{listener="x",worker="w1",le="+Inf"} 4
b_seconds_sum{listener="x",worker="w1"} 7.65625
b_seconds_count{listener="x",worker="w1"} 4
# HELP d g
# TYPE d gauge
d{worker="w1"} +Inf
`,
  )
  assert.is(total(readExposition(text), 'b_seconds'), 4)
})

test('a total does not depend on the order in which processes are added up: it could fall when one of them ends', () => {
  const times = fc.array(fc.double({ min: 0, max: 1e3, noNaN: true }), { maxLength: 20 })
  fc.assert(
    fc.property(fc.array(times, { minLength: 2, maxLength: 6 }), (workers) => {
      const snapshots = workers.map((given) => {
        const histogram = new Histogram([1], {})
        for (const time of given) histogram.add(time)
        return snapshot([{ name: 's', help: '', type: 'histogram', bounds: [1], samples: [histogram.sample] }])
      })
      const sumOf = (of: readonly Snapshot[]) => (mergeSnapshots(of).families[0]?.samples[0] as { sum: number }).sum
      assert.is(sumOf(snapshots.toReversed()), sumOf(snapshots))
    }),
  )
})

test('whatever the labels and values are, a strict reader reads back the same', () => {
  const text = fc.string({ unit: 'binary', maxLength: 12 })
  fc.assert(
    fc.property(
      fc.array(fc.tuple(text, text, fc.double({ min: 0, max: 1e15, noNaN: true })), { minLength: 1, maxLength: 20 }),
      fc.array(fc.double({ min: 0, max: 100, noNaN: true }), { maxLength: 30 }),
      (samples, times) => {
        const values = new Values('one', 'two')
        for (const [one, two, value] of samples) values.set(value, one, two)
        const histogram = new Histogram([0.01, 0.5, 20], {})
        for (const time of times) histogram.add(time)
        const read = readExposition(
          exposition(
            snapshot([
              { name: 'x_total', help: samples[0]?.[0] ?? '', type: 'counter', merge: 'sum', samples: values.samples },
              { name: 'y_seconds', help: '', type: 'histogram', bounds: [0.01, 0.5, 20], samples: [histogram.sample] },
            ]),
          ),
        )
        assert.equal(
          read.get('x_total')?.series.map(({ labels, value }) => ({ labels, value })),
          values.samples.map(({ labels, value }) => ({ labels: { ...labels }, value })),
        )
        assert.is(total(read, 'y_seconds'), times.length)
      },
    ),
    { numRuns: 20_000 },
  )
})

test('reasons that somebody makes up do not become series without end', () => {
  const values = new Values('listener', 'code')
  for (let i = 0; i < 10_000; i++) values.add(1, 'a', `reason ${i}`)
  assert.is(values.samples.length, 101)
  assert.is(
    values.samples.reduce((sum, { value }) => sum + value, 0),
    10_000,
  )
  assert.is(values.samples.at(-1)?.labels.code, 'OTHER')
})

const arbitrary = fc
  .record({
    counts: fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.nat(1_000)), { maxLength: 4 }),
    most: fc.nat(1_000),
    times: fc.array(fc.integer({ min: 0, max: 30 }), { maxLength: 10 }),
  })
  .map(({ counts, most, times }): Snapshot => {
    const values = new Values('listener')
    for (const [listener, count] of counts) values.add(count, listener)
    const histogram = new Histogram([1, 10], { listener: 'a' })
    for (const time of times) histogram.add(time)
    return snapshot([
      { name: 'n_total', help: '', type: 'counter', merge: 'sum', samples: values.samples },
      { name: 'm', help: '', type: 'gauge', merge: 'max', samples: [{ labels: {}, value: most }] },
      { name: 't_seconds', help: '', type: 'histogram', bounds: [1, 10], samples: [histogram.sample] },
    ])
  })

const shown = (one: Snapshot) => {
  const read = readExposition(exposition(one))
  return [...read.values()]
    .flatMap(({ series }) => series.map(({ name, labels, value }) => `${name} ${JSON.stringify(labels)} ${value}`))
    .sort()
}

test('merging adds up: in any order, in any grouping, through JSON, and harms nothing', () => {
  fc.assert(
    fc.property(arbitrary, arbitrary, arbitrary, (a, b, c) => {
      const before = JSON.stringify([a, b, c])
      const all = mergeSnapshots([a, b, c])
      assert.is(all.workers, 3)
      assert.equal(shown(mergeSnapshots([mergeSnapshots([a, b]), c])), shown(all))
      assert.equal(shown(mergeSnapshots([c, b, a])), shown(all))
      assert.equal(shown(mergeSnapshots(JSON.parse(before))), shown(all))
      assert.is(JSON.stringify([a, b, c]), before)
      const sum = [a, b, c].reduce((total_, one) => total_ + total(readExposition(exposition(one)), 'n_total'), 0)
      assert.is(total(readExposition(exposition(all)), 'n_total'), sum)
    }),
    { numRuns: 5_000 },
  )
})

test('a family that only one has is kept; bounds that differ keep the first one’s', () => {
  const a = snapshot([
    { name: 't', help: '', type: 'histogram', bounds: [1], samples: [new Histogram([1], {}).sample] },
  ])
  const b = snapshot([
    { name: 't', help: '', type: 'histogram', bounds: [2], samples: [new Histogram([2], {}).sample] },
    { name: 'g', help: '', type: 'gauge', merge: 'sum', samples: [{ labels: {}, value: 4 }] },
  ])
  const { families } = mergeSnapshots([a, b])
  assert.equal(
    families.map(({ name }) => name),
    ['t', 'g'],
  )
  assert.equal(mergeSnapshots([]).families, [])
})

test('the strict reader refuses what is wrong', () => {
  for (const [text, why] of [
    ['a 1\n', /no sample of a family/],
    ['# HELP a x\n# TYPE a gauge\na 1', /no line feed/],
    ['# HELP a x\n# TYPE a counter\na 1\n', /_total/],
    ['# HELP a x\n# TYPE a gauge\na 1\na 2\n', /twice/],
    ['# HELP a x\n# TYPE a gauge\na{b="c} 1\n', /labels/],
    ['# HELP a x\n# TYPE a gauge\na{b="c",} 1\n', /comma/],
    ['# HELP a x\n# TYPE a histogram\na_bucket{le="1"} 3\na_bucket{le="+Inf"} 2\na_sum 1\na_count 2\n', /do not fit/],
    ['# HELP a x\n# TYPE a gauge\n', /no sample/],
  ] as const)
    assert.throws(() => readExposition(text), why)
})

test.run()
