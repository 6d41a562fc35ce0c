import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Distribution, type Item, type Seat, type Source } from '#src/core/workers/distribution.js'
import { rendezvous } from '#src/core/workers/rendezvous.js'
import { HandClock } from '../../../support/clock.js'

interface Newcomer extends Item {
  readonly id: number
}

class PlayedSource implements Source {
  readonly calls: string[] = []
  stop(): void {
    this.calls.push('stop')
  }
  go(): void {
    this.calls.push('go')
  }
}

/** A worker that takes what it is given when the test says so. */
class PlayedSeat implements Seat<Newcomer> {
  readonly given: number[] = []
  isAtLimit = false
  isPatient = false
  #done: (() => void) | undefined
  constructor(
    readonly slot: number,
    readonly isQuick = false,
  ) {}
  serves(): boolean {
    return true
  }
  isFull(): boolean {
    return this.isAtLimit
  }
  waits(): boolean {
    return this.isPatient
  }
  give({ id }: Newcomer, done: () => void): void {
    this.given.push(id)
    if (this.isQuick) done()
    else this.#done = done
  }
  take(): void {
    const done = this.#done
    this.#done = undefined
    done?.()
  }
}

function rig(balance: 'round-robin' | 'source' = 'round-robin') {
  const clock = new HandClock()
  const source = new PlayedSource()
  const distribution = new Distribution<Newcomer>({ balance, clock, window: 4, hold: 3 })
  let id = 0
  const come = (count: number, address = '') => {
    for (let i = 0; i < count; i++) distribution.offer({ id: ++id, source, address })
  }
  return { clock, source, distribution, come }
}

test('each in turn, whatever the order in which they came', () => {
  const { distribution, come } = rig()
  const seats = [2, 0, 1].map((slot) => new PlayedSeat(slot, true))
  for (const seat of seats) distribution.add(seat)
  come(7)
  assert.equal(
    seats.map(({ given }) => given),
    [
      [3, 6],
      [1, 4, 7],
      [2, 5],
    ],
  )
})

test('what is under way at one worker is bounded, what waits too; then the source is stopped, and goes on later', () => {
  const { source, distribution, come } = rig()
  const seats = [new PlayedSeat(0), new PlayedSeat(1)]
  for (const seat of seats) distribution.add(seat)
  come(8)
  assert.equal(source.calls, [])
  come(3)
  assert.equal(source.calls, ['stop'])
  assert.is(distribution.waiting, 9, 'two are being taken')
  // Whatever takes: only when nobody waits any more the source goes on.
  for (let i = 0; i < 3; i++) seats[0]?.take()
  assert.equal(source.calls, ['stop', 'go'])
  for (let i = 0; i < 20; i++) for (const seat of seats) seat.take()
  assert.is(distribution.waiting, 0)
  assert.is(seats[0]?.given.length ?? 0, (seats[1]?.given.length ?? 0) + 3)
})

test('a worker that goes leaves what it had not been given to the others; nothing is lost or doubled', () => {
  const { distribution, come } = rig()
  const seats = [new PlayedSeat(0), new PlayedSeat(1)]
  for (const seat of seats) distribution.add(seat)
  come(8)
  const [first, second] = seats as [PlayedSeat, PlayedSeat]
  distribution.remove(first)
  for (let i = 0; i < 20; i++) second.take()
  assert.equal(
    [...first.given, ...second.given].sort((a, b) => a - b),
    [1, 2, 3, 4, 5, 6, 7, 8],
  )
  assert.is(first.given.length, 1)
})

test('nobody there: they wait within the bound, and the first worker gets them in order', () => {
  const { source, distribution, come } = rig()
  come(3)
  assert.equal(source.calls, ['stop'])
  const seat = new PlayedSeat(0, true)
  distribution.add(seat)
  assert.equal(seat.given, [1, 2, 3])
  assert.equal(source.calls, ['stop', 'go'])
})

test('a worker that does not move is passed over, and what waits for it goes to the others', () => {
  const { clock, distribution, come } = rig()
  const stuck = new PlayedSeat(0)
  const quick = new PlayedSeat(1, true)
  distribution.add(stuck)
  distribution.add(quick)
  come(4)
  assert.equal([stuck.given, quick.given], [[1], [2, 4]])
  clock.advance(301)
  assert.equal(quick.given, [2, 4, 3])
  come(2)
  assert.equal(quick.given, [2, 4, 3, 5, 6])
})

test('workers at their limit come last; where all are, they refuse, or peers wait, as the listener says', () => {
  const { distribution, come } = rig()
  const [full, free] = [new PlayedSeat(0, true), new PlayedSeat(1, true)]
  full.isAtLimit = true
  distribution.add(full)
  distribution.add(free)
  come(3)
  assert.equal([full.given, free.given], [[], [1, 2, 3]])
  free.isAtLimit = true
  come(2)
  assert.is(full.given.length + free.given.length, 5, 'the worker says no itself')
  full.isPatient = free.isPatient = true
  come(1)
  assert.is(distribution.waiting, 1)
  full.isAtLimit = false
  distribution.check()
  assert.is(distribution.waiting, 0)
})

test('by source: an address stays with its worker, also when others come and go', () => {
  const { distribution, come } = rig('source')
  const seats = [0, 1, 2].map((slot) => new PlayedSeat(slot, true))
  for (const seat of seats) distribution.add(seat)
  const homeOf = (address: string) => {
    const before = seats.map(({ given }) => given.length)
    come(1, address)
    return seats.findIndex(({ given }, i) => given.length > (before[i] as number))
  }
  const addresses = Array.from({ length: 300 }, (_, i) => `10.0.${i >> 8}.${i & 255}`)
  const homes = addresses.map(homeOf)
  assert.equal(addresses.map(homeOf), homes)
  for (const slot of [0, 1, 2]) {
    const share = homes.filter((home) => home === slot).length
    assert.ok(share > 60 && share < 140, `${share} of 300`)
  }
  distribution.remove(seats[1] as PlayedSeat)
  addresses.map(homeOf).forEach((home, i) => {
    if (homes[i] !== 1) assert.is(home, homes[i], 'only those of the one that went have moved')
  })
  distribution.add(seats[1] as PlayedSeat)
  assert.equal(addresses.map(homeOf), homes, 'and they come back')
})

test('rendezvous is the same for the same, whatever the order of the places', () => {
  for (let i = 0; i < 1_000; i++) {
    const key = `2001:db8::${i.toString(16)} ${i}`
    const here = [0, 1, 2, 3][rendezvous(key, [0, 1, 2, 3])]
    assert.is([3, 1, 0, 2][rendezvous(key, [3, 1, 0, 2])], here)
  }
})

test.run()
