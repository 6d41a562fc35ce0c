// time limit: 60 s
/** What many wait for is kept once and paid for once, whoever leaves in whatever order. */
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Holding } from '#src/core/account.js'
import { Accounts } from '#src/core/accounts.js'
import { InOrder } from '#src/plugins/protocols/give-way.js'
import { Parcel, weightOf } from '#src/plugins/protocols/parcel.js'

const ENTRY = 128

test('F107 property: the sum is each parcel once and each entry, within the limit; who is dropped waits for nothing', () => {
  const step = fc.record({ leave: fc.boolean(), who: fc.nat(5), which: fc.nat(7) })
  fc.assert(
    fc.property(fc.integer({ min: 1_000, max: 20_000 }), fc.array(step, { maxLength: 120 }), (limit, steps) => {
      const account = new Accounts().at('').open({ name: 'x', limit, whenFull: 'largest' })
      const parcels = Array.from({ length: 8 }, (_, i) => new Parcel(200 * (i + 1)))
      /** Who waits for what, as somebody who writes it down would have it. */
      const waiting = Array.from({ length: 6 }, () => new Set<Parcel>())
      const gone = new Set<number>()
      const holdings: Holding[] = waiting.map((own, who) =>
        account.hold(() => {
          gone.add(who)
          for (const parcel of own) parcel.leave(holdings[who] as Holding)
          own.clear()
        }),
      )
      for (const { leave, who, which } of steps) {
        const [own, parcel, holding] = [waiting[who], parcels[which], holdings[who]]
        if (own === undefined || parcel === undefined || holding === undefined) continue
        if (leave) {
          parcel.leave(holding)
          own.delete(parcel)
        } else if (!own.has(parcel)) {
          const isKept = parcel.join(holding)
          assert.is(isKept, !gone.has(who), 'nobody is refused who is not dropped')
          if (isKept) own.add(parcel)
        }
        const kept = new Set(waiting.flatMap((all) => [...all]))
        let sum = 0
        for (const one of kept) sum += one.bytes
        for (const all of waiting) sum += ENTRY * all.size
        assert.is(account.used, sum)
        assert.ok(account.used <= limit)
      }
    }),
    { numRuns: 500 },
  )
})

test('what headers and properties take is never far too little', () => {
  assert.ok(weightOf({ a: 'x'.repeat(1_000) }) >= 2_000)
  assert.ok(weightOf({ a: Buffer.alloc(1_000) }) >= 1_000)
  assert.ok(weightOf({ userProperties: { a: ['1', '2', '3'] } }) >= 3 * 32)
  assert.is(weightOf(undefined), 8)
})

test('work that takes several turns is followed by the next, though it failed', async () => {
  const order = new InOrder()
  const done: string[] = []
  const later = (name: string, fails = false) =>
    order.run(async () => {
      await new Promise((resolve) => setImmediate(resolve))
      done.push(name)
      if (fails) throw new Error(name)
    })
  assert.is(
    order.run(() => void done.push('at once') as undefined),
    undefined,
  )
  const failed = later('one', true) as Promise<void>
  const second = later('two')
  const third = order.run(() => void done.push('three') as undefined)
  assert.ok(third instanceof Promise)
  await failed.then(
    () => assert.unreachable(),
    ({ message }) => assert.is(message, 'one'),
  )
  await second
  await third
  assert.equal(done, ['at once', 'one', 'two', 'three'])
  await new Promise((resolve) => setImmediate(resolve))
  assert.is(
    order.run(() => undefined),
    undefined,
  )
})

test.run()
