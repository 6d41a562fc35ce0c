// time limit: 60 s
/** Accounts of what plugins keep: limits hold, bytes add up, and whoever is dropped is told. */
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Holding } from '#src/core/account.js'
import { Accounts } from '#src/core/accounts.js'
import { MemoryBudget } from '#src/core/budget.js'
import { HandClock } from '../../support/clock.js'

const place = 'listeners.public.protocol'

function rig(whenFull: 'oldest' | 'largest' | 'refuse', limit: number, memoryBytes?: number) {
  const accounts = new Accounts()
  const counted: string[] = []
  const alarms: string[] = []
  const budget =
    memoryBytes === undefined
      ? undefined
      : new MemoryBudget(memoryBytes, { clock: new HandClock(), pressed: () => undefined })
  accounts.attach({
    budget,
    count: (counter) => void counted.push(counter),
    full: (listener, isOn, bytes, most) => void alarms.push(`${listener} ${isOn} ${bytes} of ${most}`),
  })
  const account = accounts.at(place).open({ name: 'x.kept', limit, whenFull })
  const dropped: string[] = []
  const hold = (name: string) => account.hold((reason) => void dropped.push(`${name} ${reason}`))
  return { accounts, account, hold, dropped, counted, alarms, budget }
}

test('oldest: what was opened first goes first, until there is room', () => {
  const { account, hold, dropped, counted } = rig('oldest', 100)
  for (const name of ['a', 'b', 'c']) assert.ok(hold(name).take(30))
  assert.ok(hold('d').take(65))
  assert.equal(dropped, ['a FULL', 'b FULL'])
  assert.is(account.used, 95)
  assert.equal(counted, ['kept.x.kept.dropped', 'kept.x.kept.dropped'])
})

test('largest: whoever has most goes, be it the one that asks', () => {
  const { account, hold, dropped } = rig('largest', 100)
  const [a, b] = [hold('a'), hold('b')]
  assert.ok(a.take(60) && b.take(30))
  assert.not.ok(a.take(20))
  assert.equal(dropped, ['a FULL'])
  assert.is(account.used, 30)
  // What is dropped keeps nothing any more, and owes nothing.
  assert.not.ok(a.take(1))
  a.release()
  assert.is(account.used, 30)
})

test('refuse: nobody else loses anything', () => {
  const { account, hold, dropped, counted } = rig('refuse', 100)
  const [a, b] = [hold('a'), hold('b')]
  assert.ok(a.take(60))
  assert.not.ok(b.take(50))
  assert.ok(b.take(40))
  assert.is(account.used, 100)
  assert.equal([dropped, counted], [[], ['kept.x.kept.refused']])
})

test('what would not fit an empty account makes nobody else go', () => {
  const { account, hold, dropped } = rig('oldest', 100)
  assert.ok(hold('a').take(90))
  assert.not.ok(hold('b').take(101))
  assert.equal(dropped, ['b FULL'])
  assert.is(account.used, 90)
})

test('an alarm of the listener, from 90 % until it is below 80 %', () => {
  const { hold, alarms } = rig('refuse', 100)
  const a = hold('a')
  a.take(89)
  a.take(1)
  a.give(5)
  a.give(6)
  assert.equal(alarms, ['public true 90 of 100', 'public false 79 of 100'])
})

test('the bytes are of the server, which gets them back when memory is short', () => {
  const { account, hold, dropped, budget, counted } = rig('oldest', 10_000, 1_000)
  for (let i = 0; i < 9; i++) hold(String(i)).take(100)
  assert.is(budget?.used, account.used)
  const last = hold('last')
  // Below the limit of its own, over the server's: others go, and the server stays within its budget.
  while (account.used < 10_000 && last.take(100)) if (dropped.length > 0) break
  assert.ok((budget?.used ?? 0) <= 1_000, `${budget?.used} bytes`)
  assert.is(budget?.measure(), account.used)
  assert.ok(dropped.length > 0 && counted.length > 0, 'nothing was given back')
})

test('an account ends with its listener, and gives everything back', () => {
  const { accounts, account, hold, budget } = rig('oldest', 1_000, 10_000)
  hold('a').take(500)
  accounts.close('another')
  assert.equal(accounts.facts, [{ listener: 'public', account: 'x.kept', bytes: 500, limit: 1_000 }])
  accounts.close('public')
  assert.is(account.used, 0)
  assert.is(budget?.used, 0)
  assert.equal(accounts.facts, [])
})

test('a client has no server: limits hold all the same', () => {
  const account = new Accounts().at('protocol').open({ name: 'x', limit: 10, whenFull: 'refuse' })
  const holding = account.hold(() => undefined)
  assert.ok(holding.take(10))
  assert.not.ok(holding.take(1))
})

test('F107 property: what is used is what holdings have, and never more than the limit', () => {
  const step = fc.record({
    what: fc.constantFrom('hold' as const, 'take' as const, 'take' as const, 'give' as const, 'release' as const),
    which: fc.nat(20),
    bytes: fc.nat(400),
  })
  fc.assert(
    fc.property(
      fc.constantFrom('oldest' as const, 'largest' as const, 'refuse' as const),
      fc.option(fc.integer({ min: 100, max: 2_000 }), { nil: undefined }),
      fc.array(step, { maxLength: 200 }),
      (whenFull, memoryBytes, steps) => {
        const { account, budget } = rig(whenFull, 1_000, memoryBytes)
        const all: Holding[] = []
        const gone = new Set<number>()
        for (const { what, which, bytes } of steps) {
          if (what === 'hold') {
            const index = all.length
            all.push(account.hold(() => void gone.add(index)))
          }
          const holding = all[which % Math.max(1, all.length)]
          if (holding === undefined) continue
          const index = all.indexOf(holding)
          const before = holding.bytes
          if (what === 'take') {
            const isKept = holding.take(bytes)
            assert.is(holding.bytes, gone.has(index) ? 0 : isKept ? before + bytes : before)
          } else if (what === 'give') holding.give(bytes)
          else if (what === 'release') {
            holding.release()
            gone.add(index)
          }
          const sum = all.reduce((bytesOfAll, one) => bytesOfAll + one.bytes, 0)
          assert.is(account.used, sum)
          assert.ok(sum <= 1_000, `${sum} bytes`)
          for (const one of gone) assert.is(all[one]?.bytes, 0)
          if (budget !== undefined) assert.is(budget.used, sum)
        }
      },
    ),
    { numRuns: 300 },
  )
})

test.run()
