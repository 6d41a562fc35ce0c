/** What taps hide, and what it costs. */
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { addBuckets, countOf, LatencyRecorder, quantile, sinceBuckets } from '#src/core/control/latency.js'
import { Redaction } from '#src/core/control/redact.js'

const redaction = new Redaction(['pin-code'])

for (const [given, expected] of [
  ['hello', 'hello'],
  ['the author of this passage went home', 'the author of this passage went home'],
  ['password=abc&x=1', 'password=(hidden)&x=1'],
  ['{"api_key": "a\\"b", "x": 1}', '{"api_key": "(hidden)", "x": 1}'],
  ['{"token":"cut short', '{"token":"(hidden)"'],
  ['Authorization: Bearer abc\r\nHost: x', 'Authorization: (hidden)\r\nHost: x'],
  ['AUTH swordfish', 'AUTH (hidden)'],
  ['PASS swordfish', 'PASS (hidden)'],
  ['Set-Cookie: a=b; c=d', 'Set-Cookie: (hidden); c=d'],
  ['PinCode=1234', 'PinCode=(hidden)'],
] as const) {
  test(`text: ${JSON.stringify(given)}`, () => assert.is(redaction.text(given), expected))
}

test('objects, lists, maps and bytes hide what stands under a secret’s name', () => {
  const seen = redaction.value({
    user: 'ada',
    passwordHash: 'x',
    author: 'Bob',
    list: ['AUTH', 'user', 'x'],
    bytes: Buffer.from('token=abc'),
    map: new Map([['secret', 1]]),
    big: 5n,
    run: () => 1,
  })
  assert.is(
    JSON.stringify(seen),
    '{"user":"ada","passwordHash":"(hidden)","author":"Bob","list":["AUTH","(hidden)","x"],"bytes":"token=(hidden)","map":{"secret":"(hidden)"},"big":"5"}',
  )
  assert.equal(JSON.stringify(redaction.value(Buffer.from([0, 255, 1]))), '{"hex":"00ff01","bytes":3}')
})

test('what is deep, wide, long or goes round is cut', () => {
  const round: Record<string, unknown> = {}
  round.self = round
  assert.match(JSON.stringify(redaction.value(round)), /\(deeper\)/)
  assert.is((redaction.value(new Array(5_000).fill(1)) as unknown[]).length, 101)
  assert.ok((redaction.value('x'.repeat(1e6)) as string).length < 17_000)
  assert.equal(({} as Record<string, unknown>).polluted, undefined)
  assert.is(JSON.stringify(redaction.value(JSON.parse('{"__proto__":{"polluted":1}}'))), '{"__proto__":{"polluted":1}}')
})

test('no text makes it slow', () => {
  for (const piece of ['password', 'token"', 'a', 'auth ', '\\"', 'secret=:', '"', 'key key ']) {
    const text = piece.repeat(2_100).slice(0, 16_384)
    const began = performance.now()
    redaction.text(text)
    const took = performance.now() - began
    assert.ok(took < 500, `${piece}: ${took} ms`)
  }
})

test('a secret in JSON is hidden wherever it stands, and what is shown stays JSON', () => {
  const secret = 'S3CR3T-value'
  fc.assert(
    fc.property(
      fc.jsonValue({ maxDepth: 4 }),
      fc.constantFrom('password', 'accessToken', 'X-Api-Key'),
      (value, key) => {
        const shown = JSON.stringify(
          redaction.value({ before: value, [key]: { deep: secret }, after: [{ [key]: secret }] }),
        )
        assert.not.match(shown, /S3CR3T/)
        JSON.parse(shown)
      },
    ),
    { numRuns: 2_000 },
  )
})

test('quantiles of any latencies are within a bucket’s width', () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0.001, max: 90_000, noNaN: true }), { minLength: 1, maxLength: 200 }),
      (list) => {
        const recorder = new LatencyRecorder()
        for (const ms of list) recorder.record(ms)
        const sorted = [...list].sort((a, b) => a - b)
        for (const q of [0.5, 0.9, 0.99, 1]) {
          const exact = sorted[Math.ceil(sorted.length * q) - 1] as number
          const found = quantile(recorder.buckets, q) as number
          assert.ok(found / exact < 1.2 && exact / found < 1.2, `${q}: ${exact} ${found}`)
        }
      },
    ),
    { numRuns: 500 },
  )
})

test('buckets add up and subtract', () => {
  const recorder = new LatencyRecorder()
  recorder.record(1)
  const before = recorder.buckets
  recorder.record(1)
  recorder.record(100)
  assert.is(countOf(sinceBuckets(recorder.buckets, before)), 2)
  assert.is(countOf(addBuckets([before, recorder.buckets])), 4)
  assert.is(quantile([], 0.5), undefined)
})

test.run()
