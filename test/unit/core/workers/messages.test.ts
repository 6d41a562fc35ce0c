// time limit: 120 s
/** What a worker says, whatever it is, is read without a throw; what is taken has the shape that is promised. F59. */
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { defaultDrain } from '#src/core/options.js'
import { type FromWorker, readMessage } from '#src/core/workers/messages.js'
import { misfitOfWorkers, settleWorkers } from '#src/core/workers/options.js'

const want = {
  key: 'a/0',
  listener: 'a',
  kind: 'tcp',
  endpoint: { scheme: 'tcp', host: '::1', port: 1 },
  options: {},
  waits: false,
}
const traffic = { bytesIn: 4, bytesOut: 3, messagesIn: 2, messagesOut: 1 }
const carried = { name: 'a', traffic, latency: [[20, 5]] as const }
const good: readonly FromWorker[] = [
  { t: 'planned', wants: [want as never], workers: { count: 2, balance: 'kernel' }, drain: { ...defaultDrain }, handlerMs: 9, companions: [1], seed: undefined }, // biome-ignore format: a line each
  { t: 'ready', listeners: [{ name: 'a', endpoints: ['tcp://[::1]:1'] }] },
  { t: 'failed', error: 'x' },
  { t: 'pong', connections: 3, heapShare: 0.5, counters: { accepted: 4 }, figures: [] },
  { t: 'full', listener: 'a', isFull: true },
  { t: 'copy', id: 4 },
  { t: 'answer', id: 4, result: [], error: undefined },
  { t: 'dying', error: 'x' },
  { t: 'drained', connections: 0, heapShare: 0.1, counters: {}, figures: [carried], reports: { metrics: {} } },
  { t: 'took', count: 2 },
  { t: 'told', asker: 2, line: { tap: '1' } },
  { t: 'junk' },
]

test('what workers say is understood', () => {
  for (const message of good) assert.equal(readMessage(message), message)
})

/** Anything, and anything in the place of a field of something good. */
const spoiled = fc.tuple(fc.nat(), fc.nat(), fc.anything()).map(([which, field, value]) => {
  const message = { ...(good[which % good.length] as object) } as Record<string, unknown>
  const keys = Object.keys(message)
  message[keys[field % keys.length] as string] = value
  return message
})

test('100,000 other things are refused, or are really what they say', () => {
  fc.assert(
    fc.property(fc.oneof(fc.anything(), spoiled), (given) => {
      const message = readMessage(given)
      if (message === undefined) return
      assert.is((given as { t: string }).t, message.t)
      if (message.t === 'planned') {
        assert.is(misfitOfWorkers(message.workers), undefined)
        assert.ok(message.wants.every(({ key, kind }) => typeof key === 'string' && typeof kind === 'string'))
        assert.ok(
          Object.keys(defaultDrain).every((key) => message.drain[key as 'udpMs'] >= 0) && message.handlerMs >= 0,
        )
        assert.ok(message.companions.every((index) => index >= 0))
      }
      if (message.t === 'pong') {
        assert.ok(Object.values(message.counters).every((one) => typeof one === 'number'))
        assert.ok(message.figures.every(({ traffic: { bytesIn } }) => Number.isSafeInteger(bytesIn) && bytesIn >= 0))
      }
      if (message.t === 'copy') assert.ok(message.id >= 0)
    }),
    { numRuns: 100_000 },
  )
})

test('more counters or listeners than any server has are refused', () => {
  const counters = Object.fromEntries(Array.from({ length: 2_000 }, (_, i) => [`c${i}`, i]))
  assert.is(readMessage({ t: 'pong', connections: 1, heapShare: 0, counters, figures: [] }), undefined)
  const pong = (figures: unknown) => readMessage({ t: 'pong', connections: 1, heapShare: 0, counters: {}, figures })
  assert.ok(pong([carried]))
  for (const figures of [
    undefined,
    [{ ...carried, traffic: {} }],
    [{ ...carried, latency: [[1]] }],
    Array(2_000).fill(carried),
  ])
    assert.is(pong(figures), undefined)
  const wants = Array.from({ length: 2_000 }, () => want)
  assert.is(
    readMessage({
      t: 'planned',
      wants,
      workers: 2,
      drain: defaultDrain,
      handlerMs: 1,
      companions: [],
      seed: undefined,
    }),
    undefined,
  )
})

test('the key `workers`: what it may be, and what it means', () => {
  for (const value of [1, 8, 'auto', {}, { count: 'auto' }, { count: 2, balance: 'source' }, { readyMs: 1 }]) {
    assert.is(misfitOfWorkers(value), undefined, JSON.stringify(value))
  }
  for (const [value, expected] of [
    [0, /a number from 1/],
    [1.5, /a number from 1/],
    ['two', /"auto"/],
    [[2], /a number from 1/],
    [null, /a number from 1/],
    [{ count: -1 }, /expected count to be/],
    [{ count: 2, balance: 'fair' }, /expected balance to be one of round-robin, kernel, source, reuse-port/],
    [{ readyMs: 0 }, /expected readyMs to be milliseconds/],
    [{ cuont: 2 }, /expected no key `cuont`; nearest: `count`/],
  ] as const) {
    assert.match(misfitOfWorkers(value) ?? 'nothing', expected)
  }
  assert.is(settleWorkers(undefined), undefined)
  assert.is(settleWorkers(1), undefined, 'the process itself')
  assert.is(settleWorkers({ count: 1 })?.count, 1)
  assert.is(settleWorkers(3)?.balance, 'round-robin')
  assert.ok((settleWorkers('auto')?.count ?? 0) >= 1)
})

test.run()
