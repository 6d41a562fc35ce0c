import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { createVirtualClock } from '#src/testing/virtual-clock.js'

test('timers run in order of time, then of setting, at their own time', async () => {
  const clock = createVirtualClock()
  const log: string[] = []
  const note = (name: string) => () => log.push(`${name}@${clock.now()}`)
  clock.after(20, note('c'))
  clock.after(10, note('a'))
  clock.after(10, note('b'))
  clock.after(31, note('late'))
  await clock.advance(30)
  assert.equal(log, ['a@10', 'b@10', 'c@20'])
  assert.is(clock.now(), 30)
  assert.is(clock.pending, 1)
})

test('promises settle between two timers', async () => {
  const clock = createVirtualClock()
  const log: string[] = []
  clock.after(1, async () => {
    log.push('one')
    for (let i = 0; i < 10; i++) await null
    log.push('one, later')
  })
  clock.after(2, () => log.push('two'))
  await clock.advance(5)
  assert.equal(log, ['one', 'one, later', 'two'])
})

test('a timer set by a timer runs in the same advance when it is due', async () => {
  const clock = createVirtualClock()
  const times: number[] = []
  const tick = () => {
    times.push(clock.now())
    clock.after(10, tick)
  }
  clock.after(10, tick)
  await clock.advance(45)
  assert.equal(times, [10, 20, 30, 40])
})

test('a cancelled timer does not run, and does not wait either', async () => {
  const clock = createVirtualClock()
  let runs = 0
  const cancels = Array.from({ length: 1_000 }, () => clock.after(5, () => runs++))
  for (const cancel of cancels.slice(1)) {
    cancel()
    cancel()
  }
  assert.is(clock.pending, 1)
  await clock.advance(5)
  assert.is(runs, 1)
  cancels[0]!()
  assert.is(clock.pending, 0)
})

test('advances follow one another', async () => {
  const clock = createVirtualClock()
  const both = Promise.all([clock.advance(10), clock.advance(10)])
  await both
  assert.is(clock.now(), 20)
})

test('what a timer throws comes out of advance, and the clock goes on', async () => {
  const clock = createVirtualClock()
  clock.after(1, () => {
    throw new Error("a timer's fault")
  })
  const error = await clock.advance(2).catch((e: Error) => e)
  assert.match((error as Error).message, "a timer's fault")
  await clock.advance(2)
  assert.is(clock.pending, 0)
})

test('time does not go back', async () => {
  assert.instance(
    await createVirtualClock()
      .advance(-1)
      .catch((e: Error) => e),
    RangeError,
  )
  assert.instance(
    await createVirtualClock()
      .advance(Number.NaN)
      .catch((e: Error) => e),
    RangeError,
  )
})

test('settle waits for the watched, and gives up on what never rests', async () => {
  const clock = createVirtualClock()
  let left = 50
  clock.watch(() => left-- > 0)
  await clock.settle()
  assert.ok(left < 0)
  clock.watch(() => true)
  assert.match(((await clock.settle().catch((e: Error) => e)) as Error).message, 'no rest')
})

test.run()
