// time limit: 60 s
/** Plugins with much to do for one message let others have their turn. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { systemClock } from '#src/core/clock.js'
import { SharedTurns } from '#src/core/turns.js'
import { HandClock } from '../../support/clock.js'

test('F106 after 5 ms of work, and not before, others have their turn', async () => {
  const clock = new HandClock()
  const turns = new SharedTurns(clock)
  assert.is(turns.breathe(), undefined)
  clock.advance(5)
  assert.is(turns.breathe(), undefined)
  clock.advance(1)
  const wait = turns.breathe()
  assert.ok(wait instanceof Promise)
  const order: string[] = []
  setImmediate(() => order.push('others'))
  await wait
  order.push('us')
  // Whoever goes on has 5 ms again.
  assert.is(turns.breathe(), undefined)
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal([...order].sort(), ['others', 'us'])
})

test('several share one turn: what one has used is not there for another', () => {
  const clock = new HandClock()
  const turns = new SharedTurns(clock)
  turns.breathe()
  clock.advance(6)
  const first = turns.breathe()
  assert.ok(first instanceof Promise)
  assert.is(turns.breathe(), first)
})

test('F106 whoever works for long, a timer and a socket are served between', async () => {
  const turns = new SharedTurns(systemClock)
  let served = 0
  const timer = setInterval(() => served++, 1)
  let waits = 0
  while (waits < 20) {
    const wait = turns.breathe()
    if (wait === undefined) continue
    waits++
    await wait
  }
  clearInterval(timer)
  assert.ok(served > 0, 'nobody else was served')
})

test.run()
