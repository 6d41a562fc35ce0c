import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Pace } from '#src/core/pace.js'
import { play, settle } from '../../support/session.js'

test('who owes nothing is never too slow', () => {
  const pace = new Pace(240, 5_000)
  for (let now = 1_000; now < 100_000; now += 1_000) assert.is(pace.check(now, 0, 10, 0, 10), undefined)
})

test('a frame that trickles is too slow after the grace, and not before', () => {
  const pace = new Pace(240, 5_000)
  let found: number | undefined
  for (let now = 1_000; found === undefined && now < 60_000; now += 1_000) {
    if (pace.check(now, 500, now / 100, 0, 0) === 'sending') found = now
  }
  assert.is(found, 6_000)
})

test('one that keeps the pace may take as long as it likes; a burst at the beginning is no credit', () => {
  const steady = new Pace(240, 5_000)
  for (let now = 1_000; now < 100_000; now += 1_000) assert.is(steady.check(now, 500, now * 0.25, 0, 0), undefined)
  const burst = new Pace(240, 5_000)
  let found: number | undefined
  for (let now = 1_000; found === undefined && now < 60_000; now += 1_000) {
    if (burst.check(now, 500, now <= 2_000 ? now * 1_000 : 2_000_000, 0, 0) === 'sending') found = now
  }
  assert.is(found, 11_000)
})

test('the next frame has its own time', () => {
  const pace = new Pace(240, 5_000)
  for (let now = 1_000; now < 60_000; now += 1_000) {
    // Each frame of 40 bytes takes four seconds.
    const frame = Math.floor(now / 4_000) * 4_000
    assert.is(pace.check(now, frame + 1, frame / 100, 0, 0), undefined)
  }
})

test('replies that wait and are not taken are too slow', () => {
  const pace = new Pace(240, 5_000)
  const found = []
  for (let now = 1_000; now <= 12_000; now += 1_000) found.push(pace.check(now, 0, 0, 5_000, 10))
  assert.is(found.indexOf('taking'), 5)
})

test('a session whose peer trickles a frame is ended as TOO_SLOW', async () => {
  const played = play({
    handler: { message: (m) => m },
    limits: { minBytesPerSecond: 240 },
    timeouts: { frameMs: Number.POSITIVE_INFINITY },
  })
  played.give('whole\n')
  played.clock.advance(60_000)
  assert.not(played.events.includes('connection.expired TOO_SLOW'))
  played.give('x')
  for (let i = 0; i < 10; i++) {
    played.give('x')
    played.clock.advance(1_000)
  }
  assert.ok(played.events.includes('connection.expired TOO_SLOW'))
  assert.ok(played.link.calls.includes('end'))
  played.gone()
  await settle()
  assert.is(played.counters['closed.TOO_SLOW'], 1)
})

test('a session whose peer takes nothing is cut as TOO_SLOW', async () => {
  const played = play({ handler: { message: (m) => m }, limits: { minBytesPerSecond: 240 } })
  played.link.buffered = 0
  played.give('hello\n')
  played.link.buffered = 10_000
  played.clock.advance(8_000)
  await settle()
  assert.is(played.counters['closed.TOO_SLOW'], 1)
  assert.ok(played.link.calls.includes('abort'))
})

test('it is not the peer who is slow while the handler is at work', () => {
  const played = play({ handler: { message: () => new Promise(() => {}) }, limits: { minBytesPerSecond: 240 } })
  played.give('one\ntw')
  played.clock.advance(20_000)
  assert.not(played.events.includes('connection.expired TOO_SLOW'))
})

test('held for want of memory, a session reads nothing, blames nobody, and goes on', () => {
  const played = play({ handler: { message: (m) => m }, limits: { minBytesPerSecond: 240 } })
  played.give('half a li')
  assert.ok(played.session.heldBytes >= 9)
  played.session.holdReading()
  assert.equal(played.link.calls, ['pause'])
  assert.ok(played.events.includes('connection.paused memory'))
  played.clock.advance(60_000)
  assert.is(played.events.filter((one) => one.startsWith('connection.expired')).length, 0)
  played.session.releaseReading()
  assert.equal(played.link.calls, ['pause', 'resume'])
  played.give('ne\n')
  assert.is(played.link.sent, 'half a line\n')
  assert.is(played.session.heldBytes, 0)
})

test('each message is measured once: plain, waited for, failed, refused by its handler', async () => {
  const handled: number[] = []
  const clockOf = () => played.clock.now()
  const probe = {
    handled(since: number) {
      handled.push(clockOf() - since)
      return clockOf()
    },
  }
  let release = (_: unknown) => {}
  const played = play({
    plan: { probe },
    handler: {
      error: () => 'sorry',
      message: (m) => {
        if (m === 'wait') return new Promise((resolve) => (release = resolve))
        if (m === 'fail') throw new Error('no')
        return m === 'each' ? ['a', 'b'] : m === 'none' ? undefined : m
      },
    },
  })
  played.give('a\nb\nnone\nfail\n')
  assert.is(handled.length, 4)
  played.give('wait\nafter\n')
  assert.is(handled.length, 4)
  played.clock.advance(250)
  release('done')
  await settle()
  assert.equal(handled.slice(4), [250, 0])
  played.give('each\n')
  await settle()
  assert.is(handled.length, 7)
})

test.run()
