/** Pings, and messages that do not come to their end, as a session sees them: time stands still but for what the test lets pass. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { PlayedLink, play, settle } from '../../support/session.js'

const message = (said: unknown) => said
const timeouts = { pingMs: 1_000, idleMs: 3_500, frameMs: 5_000 }

/** A session whose link has pings; each is written down with its moment. */
function pinged(given: Parameters<typeof play>[0] = {}) {
  const pings: number[] = []
  let now = () => 0
  const own = PlayedLink.prototype as { ping?: () => void }
  own.ping = () => pings.push(now())
  const played = play({ kind: 'message', handler: { message }, ...given, timeouts: { ...timeouts, ...given.timeouts } })
  delete own.ping
  const { link, clock } = played
  const began = clock.now()
  now = () => clock.now() - began
  Object.assign(link, { ping: () => pings.push(now()) })
  return { ...played, pings }
}
const near = (got: readonly number[], expected: readonly number[]) => {
  assert.is(got.length, expected.length, `${got}`)
  // A deadline is late by up to 250 ms, and never early.
  for (const [i, at] of expected.entries())
    assert.ok((got[i] as number) >= at && (got[i] as number) <= at + 750, `${got}`)
}

test('a silent peer is pinged each pingMs, and one that does not answer leaves at idleMs', async () => {
  const { clock, pings, events, link } = pinged()
  clock.advance(3_400)
  near(pings, [1_000, 2_000, 3_000])
  assert.not(events.some((event) => event.includes('IDLE')))
  clock.advance(400)
  assert.ok(events.includes('connection.expired IDLE_TIMEOUT'))
  assert.ok(link.calls.includes('end'))
  const count = pings.length
  clock.advance(1_500)
  assert.is(pings.length, count)
})

test('one that answers stays for ever', () => {
  const { clock, pings, session, events } = pinged()
  for (let i = 0; i < 400; i++) {
    clock.advance(100)
    if (pings.length > 0) session.heard(undefined)
    pings.length = 0
  }
  assert.is(session.state, 'open')
  assert.not(events.some((event) => event.includes('expired')))
})

test('its own pings keep it as well; messages either way put ours off', () => {
  const { clock, pings, session, give } = pinged()
  for (let i = 0; i < 40; i++) {
    clock.advance(400)
    if (i % 2 === 0) give('hello')
    else session.heard(undefined)
  }
  assert.is(pings.length, 0)
  assert.is(session.state, 'open')
})

test('`unlimited` turns them off, and a link without pings has none', () => {
  const off = pinged({ timeouts: { pingMs: Number.POSITIVE_INFINITY } })
  off.clock.advance(3_900)
  assert.is(off.pings.length, 0)
  assert.ok(off.events.includes('connection.expired IDLE_TIMEOUT'))
})

test('while we do not read there are no pings, since no answer would be heard; then they go on', async () => {
  const { clock, pings, session } = pinged()
  session.pause()
  clock.advance(20_000)
  assert.is(pings.length, 0)
  session.resume()
  await settle()
  clock.advance(2_500)
  assert.ok(pings.length > 0)
  assert.is(session.state, 'open')
})

test('F112 a message is cut frameMs after its first byte, whatever comes between', async () => {
  const { clock, session, events, link } = pinged()
  session.heard('begun')
  for (let i = 0; i < 48; i++) {
    clock.advance(100)
    session.heard(undefined)
  }
  assert.is(session.state, 'open')
  clock.advance(800)
  assert.ok(events.includes('connection.expired TIMEOUT'))
  assert.ok(events.some((event) => event.startsWith('frame.refused TIMEOUT')))
  assert.ok(link.calls.includes('end'))
})

test('F112 each message has its own time; one that is whole has none', () => {
  const { clock, session, events } = pinged()
  for (let i = 0; i < 30; i++) {
    session.heard(i % 3 === 2 ? 'whole' : 'begun')
    clock.advance(3_000)
  }
  assert.is(session.state, 'open')
  session.heard('whole')
  for (let i = 0; i < 30; i++) {
    clock.advance(1_000)
    session.heard(undefined)
  }
  assert.not(events.some((event) => event.includes('expired')))
})

test('F112 the time in which we do not read is not the peer’s', async () => {
  const { clock, session, events } = pinged()
  session.heard('begun')
  clock.advance(1_000)
  session.pause()
  clock.advance(60_000)
  assert.is(session.state, 'open')
  session.resume()
  await settle()
  clock.advance(3_000)
  session.heard(undefined)
  assert.is(session.state, 'open')
  clock.advance(3_000)
  assert.ok(events.includes('connection.expired TIMEOUT'))
})

test.run()
