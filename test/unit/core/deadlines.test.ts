import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Deadlines, type Expiring } from '#src/core/deadlines.js'
import { HandClock } from '../../support/clock.js'

class Entry implements Expiring {
  bucket = undefined
  before = undefined
  after = undefined
  readonly expired: number[] = []
  then: (() => void) | undefined
  expire(now: number) {
    this.expired.push(now)
    this.then?.()
  }
}

test('is never early and late by the coarseness at most', () => {
  const clock = new HandClock()
  const deadlines = new Deadlines(clock)
  for (const delay of [1, 9, 10, 11, 500, 999, 1_000, 1_001, 30_000, 300_000]) {
    const entry = new Entry()
    const due = clock.now() + delay
    deadlines.arm(entry, due)
    clock.advance(delay + 300)
    assert.is(entry.expired.length, 1, `${delay} ms`)
    const late = (entry.expired[0] as number) - due
    assert.ok(late >= 0 && late <= (delay < 1_000 ? 11 : 251), `${delay} ms came ${late} ms late`)
  }
})

test('an earlier time replaces a later one, a later one is left to the owner', () => {
  const clock = new HandClock()
  const deadlines = new Deadlines(clock)
  const entry = new Entry()
  deadlines.arm(entry, clock.now() + 5_000)
  deadlines.arm(entry, clock.now() + 100)
  deadlines.arm(entry, clock.now() + 9_000)
  clock.advance(200)
  assert.is(entry.expired.length, 1)
  clock.advance(20_000)
  assert.is(entry.expired.length, 1, 'disarmed once it came')
})

test('disarming one leaves its neighbours, and an entry may arm again as it expires', () => {
  const clock = new HandClock()
  const deadlines = new Deadlines(clock)
  const [a, b, c] = [new Entry(), new Entry(), new Entry()]
  for (const entry of [a, b, c]) deadlines.arm(entry, clock.now() + 50)
  deadlines.disarm(b)
  a.then = () => a.expired.length < 3 && deadlines.arm(a, clock.now() + 50)
  clock.advance(1_000)
  assert.equal([a.expired.length, b.expired.length, c.expired.length], [3, 0, 1])
})

test('ten thousand entries share one timer', () => {
  const clock = new HandClock()
  const deadlines = new Deadlines(clock)
  const entries = Array.from({ length: 10_000 }, () => new Entry())
  entries.forEach((entry, i) => deadlines.arm(entry, clock.now() + 1 + (i % 3_000)))
  assert.is(clock.armed, 1)
  clock.advance(4_000)
  assert.ok(entries.every((entry) => entry.expired.length === 1))
  assert.is(clock.armed, 0, 'nothing is left behind')
})

test('infinity arms nothing; close forgets', () => {
  const clock = new HandClock()
  const deadlines = new Deadlines(clock)
  const entry = new Entry()
  deadlines.arm(entry, Number.POSITIVE_INFINITY)
  assert.is(clock.armed, 0)
  deadlines.arm(entry, clock.now() + 10)
  deadlines.close()
  clock.advance(100)
  assert.is(entry.expired.length, 0)
})

test.run()
