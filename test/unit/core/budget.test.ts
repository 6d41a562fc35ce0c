import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Holder, MemoryBudget } from '#src/core/budget.js'
import type { ConnectionError } from '#src/core/errors.js'
import { HandClock } from '../../support/clock.js'

class Played implements Holder {
  charged = 0
  heldBytes = 0
  isStopped = false
  shedWith: ConnectionError | undefined
  constructor(
    readonly id: string,
    readonly budget: () => MemoryBudget,
  ) {}
  hold(bytes: number): this {
    this.heldBytes = bytes
    if (this.shedWith === undefined) this.budget().charge(this)
    return this
  }
  holdReading(): void {
    this.isStopped = true
  }
  releaseReading(): void {
    this.isStopped = false
  }
  shed(error: ConnectionError): void {
    this.shedWith = error
    this.heldBytes = 0
  }
}

function rig(limit: number, count: number) {
  const clock = new HandClock()
  const pressure: boolean[] = []
  const budget = new MemoryBudget(limit, { clock, pressed: (isOn) => void pressure.push(isOn) })
  const all = Array.from({ length: count }, (_, i) => new Played(String(i), () => budget))
  const states = () =>
    all.map(({ isStopped, shedWith }) => (shedWith !== undefined ? 'cut' : isStopped ? 'stopped' : 'read'))
  return { clock, pressure, budget, all, states }
}

test('below 80 % nobody is harmed', () => {
  const { budget, all, states, pressure } = rig(1_000, 4)
  for (const one of all) one.hold(200)
  assert.is(budget.used, 800)
  assert.equal(states(), ['read', 'read', 'read', 'read'])
  assert.equal(pressure, [])
})

test('above it the greediest are no longer read, and read again once it is better', () => {
  const { budget, all, states, pressure, clock } = rig(1_000, 4)
  const sizes = [100, 400, 50, 300]
  all.forEach((one, i) => one.hold(sizes[i] as number))
  assert.equal(states(), ['read', 'stopped', 'read', 'read'])
  assert.equal(pressure, [true])
  all[1]?.hold(0)
  clock.advance(100)
  assert.equal(states(), ['read', 'read', 'read', 'read'])
  assert.equal(pressure, [true, false])
  assert.is(budget.used, 450)
  assert.is(clock.armed, 0)
})

test('above 100 % the greediest are cut, with a reason and figures, until there is room', () => {
  const { budget, all, states } = rig(1_000, 4)
  const sizes = [150, 350, 190, 320]
  all.forEach((one, i) => one.hold(sizes[i] as number))
  assert.equal(
    states(),
    ['read', 'cut', 'read', 'read'].map((one, i) => (i === 3 ? (all[3]?.isStopped ? 'stopped' : 'read') : one)),
  )
  const error = all[1]?.shedWith as ConnectionError
  assert.is(error.code, 'MEMORY_PRESSURE')
  assert.match(error.message, /350 bytes held for connection 1, 1010 for all; limits.memoryBytes is 1000/)
  assert.ok(budget.used <= 700)
})

test('stopping that has not helped for 5 s is followed by cutting', () => {
  const { all, states, clock } = rig(1_000, 3)
  const sizes = [500, 200, 150]
  all.forEach((one, i) => one.hold(sizes[i] as number))
  assert.equal(states(), ['stopped', 'read', 'read'])
  clock.advance(4_800)
  assert.equal(states(), ['stopped', 'read', 'read'])
  clock.advance(400)
  assert.equal(states(), ['cut', 'read', 'read'])
})

test('bytes that links have sent by themselves are found out before anybody is harmed', () => {
  const { budget, all, states } = rig(1_000, 3)
  for (const one of all) one.hold(250)
  for (const one of all.slice(0, 2)) one.heldBytes = 0
  const late = new Played('late', () => budget).hold(700)
  assert.is(late.isStopped, true)
  assert.equal(states(), ['read', 'read', 'read'])
  assert.is(budget.measure(), 950)
})

test('a limit that is lowered while it runs is met at once; one that is lifted lets everybody go on', () => {
  const { budget, all, states } = rig(10_000, 4)
  for (const one of all) one.hold(1_000)
  budget.setLimit(2_000)
  assert.ok(budget.used <= 2_000)
  assert.ok(states().includes('cut'))
  budget.close()
  assert.ok(!states().includes('stopped'))
  assert.is(budget.used, 0)
})

test('whatever is held and given back, no more than the limit stays, and what is counted is what is held', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(7), fc.nat(600), fc.nat(40)), { maxLength: 60 }),
      fc.integer({ min: 1, max: 2_000 }),
      (steps, limit) => {
        const { budget, all, clock } = rig(limit, 8)
        for (const [who, bytes, ms] of steps) {
          const one = all[who] as Played
          one.hold(bytes)
          if (one.shedWith !== undefined) {
            budget.forget(one)
            all[who] = new Played(String(who), () => budget)
          }
          clock.advance(ms)
          assert.ok(budget.used >= 0)
        }
        clock.advance(20)
        const held = all.reduce((sum, { heldBytes, shedWith }) => sum + (shedWith === undefined ? heldBytes : 0), 0)
        assert.is(budget.measure(), held)
        // A chunk or two may come between two looks at everybody.
        clock.advance(6_000)
        assert.ok(budget.used <= limit, `${budget.used} of ${limit}`)
      },
    ),
    { numRuns: 3_000 },
  )
})

test.run()
