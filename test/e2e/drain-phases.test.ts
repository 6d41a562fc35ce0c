// time limit: 120 s
/** What comes before connections are ended, and how their ends are spread: over TCP, with time in the test's hand. */
import { connect as connectSocket } from 'node:net'
import { defineHandler, type ServerOptions } from 'gaidaros'
import { createVirtualClock } from 'gaidaros/testing'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, Peer, serve, stopAll, turns } from '../support/faults.js'

const echo = (line: string) => line

/** A server whose time does not move by itself. */
async function held(options: ServerOptions = {}) {
  const clock = createVirtualClock()
  return { clock, ...(await serve({ handler: echo, clock, ...options })) }
}

function refusal(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connectSocket(port, '127.0.0.1')
    socket
      .on('connect', () => resolve('connected'))
      .on('error', (error: Error & { code?: string }) => resolve(error.code ?? ''))
  })
}

for (const [what, configured, given] of [
  ['as configured', { delayMs: 60_000, timeoutMs: 5_000 }, {}],
  ['as the call says', undefined, { delayMs: 60_000 }],
] as const) {
  test(`delayMs: not ready at once, and newcomers are let in and served until it has passed (${what})`, async () => {
    const { server, port, clock, count } = await held(configured === undefined ? {} : { drain: configured })
    const early = await Peer.open(port)
    await early.echoes('early')
    const stopped = server.stop(given)
    await turns(1)
    assert.is(server.state, 'draining', 'whoever asks for readiness is told at once')
    await clock.advance(59_000)
    const late = await Peer.open(port)
    await late.echoes('late')
    await early.echoes('still here')
    assert.is(count('drain.started'), 0)
    await clock.advance(1_500)
    await Promise.all([early.over, late.over])
    assert.is(early.error ?? late.error, undefined)
    early.leave()
    late.leave()
    await stopped
    assert.is(await refusal(port), 'ECONNREFUSED')
  })
}

test('delayMs is not for whoever wants the end at once, and a sooner stop ends it', async () => {
  const first = await held({ drain: { delayMs: 60_000 } })
  await first.server.stop({ timeoutMs: 0 })
  assert.is(first.server.state, 'stopped')
  const second = await held({ drain: { delayMs: 60_000 } })
  const stopped = second.server.stop()
  await turns(3)
  assert.is(second.server.state, 'draining')
  void second.server.stop({ timeoutMs: 1_000, delayMs: 0 })
  await stopped
})

test('jitterMs spreads the ends of connections over its time, evenly, and nobody is cut by it', async () => {
  const { server, port, clock, until } = await held({ drain: { jitterMs: 20_000, timeoutMs: 60_000 } })
  const peers = await Promise.all(Array.from({ length: 40 }, () => Peer.open(port)))
  await Promise.all(peers.map((peer) => peer.echoes('x')))
  const over = () => peers.filter(({ isOver }) => isOver).length
  const stopped = server.stop()
  await eventually(() => over() >= 1, 'the first one is ended at once')
  for (const [passed, least, most] of [
    [5_000, 9, 13],
    [10_000, 19, 23],
    [15_000, 29, 33],
  ] as const) {
    for (let ms = 0; ms < 5_000; ms += 100) {
      await clock.advance(100)
      await turns(1)
    }
    await eventually(() => over() >= least, `${least} of 40 are ended after ${passed} ms`)
    await turns(5)
    assert.ok(over() <= most, `${over()} of 40 are ended after ${passed} ms`)
  }
  for (let ms = 0; ms < 6_000; ms += 100) {
    await clock.advance(100)
    await turns(1)
  }
  await Promise.all(peers.map((peer) => peer.over))
  for (const peer of peers) {
    assert.is(peer.error, undefined)
    peer.leave()
  }
  await stopped
  assert.is((await until('drain.finished')).forced, 0)
})

test('jitterMs takes no more than half of the time that connections have, and a sooner stop ends it', async () => {
  const { server, port, clock } = await held({ drain: { jitterMs: 3_600_000, timeoutMs: 10_000 } })
  const peers = await Promise.all(Array.from({ length: 8 }, () => Peer.open(port)))
  await Promise.all(peers.map((peer) => peer.echoes('x')))
  const stopped = server.stop()
  for (let ms = 0; ms < 5_500; ms += 50) {
    await clock.advance(50)
    await turns(1)
  }
  await Promise.all(peers.map((peer) => peer.over))
  for (const peer of peers) peer.leave()
  await stopped

  const hurried = await held({ drain: { jitterMs: 3_600_000, timeoutMs: 7_200_000 } })
  const more = await Promise.all(Array.from({ length: 8 }, () => Peer.open(hurried.port)))
  await Promise.all(more.map((peer) => peer.echoes('x')))
  const ended = hurried.server.stop()
  await eventually(() => more.some(({ isOver }) => isOver), 'one is ended')
  assert.ok(more.some(({ isOver }) => !isOver))
  void hurried.server.stop({ timeoutMs: 1_000 })
  await Promise.all(more.map((peer) => peer.over))
  for (const peer of more) {
    assert.is(peer.error, undefined)
    peer.leave()
  }
  await ended
})

test('serveMs: those connected are served on and nobody else is let in; then comes the drain of a stop, as RELOADED', async () => {
  const told: string[] = []
  const { server, port, clock, until, count } = await held({
    timeouts: { idleMs: 'unlimited' },
    handler: defineHandler({
      message: echo,
      drain: (connection) => {
        told.push(connection.id)
        return 'goodbye'
      },
    }),
  })
  const [idle, busy, leaves] = await Promise.all([Peer.open(port), Peer.open(port), Peer.open(port)])
  for (const peer of [idle, busy, leaves]) await peer?.echoes('hello')
  const stopped = server.stop({ serveMs: 300_000, timeoutMs: 5_000, code: 'RELOADED' })
  await until('listener.unbound')
  assert.is(await refusal(port), 'ECONNREFUSED')
  leaves?.leave()
  for (let round = 0; round < 5; round++) {
    await clock.advance(50_000)
    await busy?.echoes(`round ${round}`)
  }
  assert.is(server.state, 'ready', 'it does not drain yet')
  assert.equal(told, [])
  assert.is(idle?.isOver, false)
  await clock.advance(51_000)
  await Promise.all([idle?.over, busy?.over])
  assert.is(told.length, 2)
  assert.match(idle?.heard ?? '', /goodbye\n$/)
  idle?.leave()
  busy?.leave()
  for (let i = 0; i < 2; i++) await until('connection.closed', ({ reason }) => reason.code === 'RELOADED')
  await stopped
  assert.is(count('drain.started'), 1)
})

test('serveMs ends with the last connection, and a stop that comes meanwhile is a stop', async () => {
  const { server, port } = await held()
  const peer = await Peer.open(port)
  await peer.echoes('x')
  const stopped = server.stop({ serveMs: 300_000, code: 'RELOADED' })
  await turns(3)
  peer.leave()
  await stopped

  const second = await held()
  const stays = await Peer.open(second.port)
  await stays.echoes('x')
  const ended = second.server.stop({ serveMs: 300_000, code: 'RELOADED' })
  await turns(3)
  void second.server.stop()
  await stays.over
  stays.leave()
  assert.is((await second.until('connection.closed')).reason.code, 'SHUTDOWN')
  await ended
})

test.after(stopAll)
test.run()
