import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Alarms, Threshold } from '#src/core/alarms.js'
import { EventHub } from '#src/core/events.js'
import type { Usage } from '#src/core/usage.js'
import { Watch } from '#src/core/watch.js'
import { HandClock } from '../../support/clock.js'

function rig() {
  const clock = new HandClock()
  const events = new EventHub()
  const told: string[] = []
  events.on(
    'alarm.raised',
    ({ alarm, listener, value, limit }) => void told.push(`+${alarm} ${listener ?? '-'} ${value}/${limit}`),
  )
  events.on(
    'alarm.cleared',
    ({ alarm, listener, lastedMs }) => void told.push(`-${alarm} ${listener ?? '-'} ${lastedMs}`),
  )
  return { clock, told, alarms: new Alarms(clock, events, 10_000) }
}

test('an alarm is raised once, and cleared when its cause has stayed away', () => {
  const { clock, told, alarms } = rig()
  alarms.set('memory', undefined, false, 1, 100)
  alarms.set('memory', undefined, true, 90, 100)
  alarms.set('memory', undefined, true, 95, 100)
  alarms.set('connections', 'public', true, 9, 10)
  assert.equal(
    alarms.active.map(({ alarm, listener }) => `${alarm} ${listener}`),
    ['memory undefined', 'connections public'],
  )
  alarms.set('memory', undefined, false, 50, 100)
  clock.advance(9_999)
  assert.equal(told, ['+memory - 90/100', '+connections public 9/10'])
  clock.advance(1)
  assert.equal(told.slice(2), ['-memory - 10000'])
  assert.is(alarms.active.length, 1)
})

test('one that comes and goes is told once', () => {
  const { clock, told, alarms } = rig()
  for (let i = 0; i < 100; i++) {
    alarms.set('descriptors', undefined, i % 2 === 0, 9, 10)
    clock.advance(5_000)
  }
  assert.equal(told, ['+descriptors - 9/10'])
  clock.advance(5_000)
  assert.is(told.length, 2)
})

test('nothing is cleared after the end, and no timer is left', () => {
  const { clock, told, alarms } = rig()
  alarms.set('budget', undefined, true, 9, 10)
  alarms.set('budget', undefined, false, 1, 10)
  alarms.close()
  assert.is(clock.armed, 0)
  clock.advance(60_000)
  assert.is(told.length, 1)
})

test('a threshold is on at one mark and off at a lower one; an infinite limit has none', () => {
  const threshold = new Threshold(0.9, 0.8)
  const marks = [89, 90, 85, 80, 79, 85, 91].map((value) => threshold.at(value, 100))
  assert.equal(marks, [false, true, true, true, false, false, true])
  assert.is(threshold.at(1e9, Number.POSITIVE_INFINITY), false)
  assert.is(threshold.at(0, 0), false)
  assert.is(threshold.at(1, 0), true)
})

function watch(of: () => Partial<Usage>) {
  const { clock, told, alarms } = rig()
  const base: Usage = {
    residentBytes: 10,
    residentLimit: 100,
    heapBytes: 10,
    heapLimit: 100,
    descriptors: undefined,
    descriptorLimit: undefined,
    heldBytes: undefined,
    heldLimit: undefined,
  }
  const watched = new Watch({
    clock,
    everyMs: 1_000,
    alarms,
    measure: () => ({ ...base, ...of() }),
    failed: () => {},
    holdNewcomers: (isHeld) => void told.push(isHeld ? 'hold' : 'release'),
    shedIdle: (share) => void told.push(`shed ${share}`),
  })
  watched.start()
  return { clock, told, watched }
}

test('at 85 % of the memory newcomers wait, at 95 % idle connections go, below 80 % all is well (F27)', () => {
  let residentBytes = 84
  const { clock, told, watched } = watch(() => ({ residentBytes }))
  clock.advance(1_000)
  assert.equal(told, [])
  residentBytes = 86
  clock.advance(1_000)
  assert.equal(told, ['+memory - 86/100', 'hold'])
  residentBytes = 96
  clock.advance(2_000)
  assert.equal(told.slice(2), ['shed 0.1', 'shed 0.1'])
  residentBytes = 82
  clock.advance(1_000)
  assert.is(told.length, 4)
  residentBytes = 70
  clock.advance(1_000)
  assert.equal(told.slice(4), ['release'])
  clock.advance(10_000)
  assert.match(told.at(-1) as string, /^-memory/)
  watched.stop()
  assert.is(clock.armed, 0)
})

test('the heap counts as well, against its own limit', () => {
  const { clock, told } = watch(() => ({ heapBytes: 60, heapLimit: 64 }))
  clock.advance(1_000)
  assert.equal(told, ['+memory - 60/64', 'hold'])
})

test('descriptors at 90 % are an alarm, and no alarm where they are not known', () => {
  let descriptors = 89
  const { clock, told } = watch(() => ({ descriptors, descriptorLimit: 100 }))
  clock.advance(1_000)
  assert.equal(told, [])
  descriptors = 90
  clock.advance(1_000)
  assert.equal(told, ['+descriptors - 90/100'])
})

test.run()
