import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ConnectionError } from '#src/core/errors.js'
import { maxPerSource } from '#src/plugins/middleware/max-per-source.js'
import { PlayedConnection, play } from './played-connection.js'

test('of 500 connections from one address 100 are let in, and others are untouched', () => {
  const played = play(maxPerSource, { max: 100 })
  const outcomes = Array.from({ length: 500 }, () => played.open(new PlayedConnection('127.0.0.2')))
  assert.is(outcomes.filter(({ opened }) => opened).length, 100)
  const refused = outcomes.filter(({ error }) => error instanceof ConnectionError && error.code === 'REFUSED')
  assert.is(refused.length, 400)
  assert.match((refused[0]?.error as Error).message, '127.0.0.2 has 100 connections already')
  assert.ok(played.open(new PlayedConnection('127.0.0.1')).opened)
})

test('one that leaves makes room for one, and only one', async () => {
  const played = play(maxPerSource, { max: 2 })
  const first = new PlayedConnection('10.0.0.1')
  assert.ok(played.open(first).opened)
  assert.ok(played.open(new PlayedConnection('10.0.0.1')).opened)
  assert.not.ok(played.open(new PlayedConnection('10.0.0.1')).opened)
  await first.gone()
  assert.ok(played.open(new PlayedConnection('10.0.0.1')).opened)
  assert.not.ok(played.open(new PlayedConnection('10.0.0.1')).opened)
})

test('one refused further in is not counted once it is gone', async () => {
  const { set } = play(maxPerSource, { max: 1 })
  const refused = new PlayedConnection('10.0.0.1')
  assert.throws(
    () =>
      set.connection?.({ connection: refused.asConnection }, () => {
        throw new Error('refused further in')
      }),
    /further in/,
  )
  await refused.gone()
  let isOpen = false
  set.connection?.({ connection: new PlayedConnection('10.0.0.1').asConnection }, () => {
    isOpen = true
  })
  assert.ok(isOpen)
})

test('IPv6 is counted by network, of a length one can set', () => {
  const wide = play(maxPerSource, { max: 1 })
  assert.ok(wide.open(new PlayedConnection('2001:db8::1')).opened)
  assert.not.ok(wide.open(new PlayedConnection('2001:db8::2')).opened)
  assert.ok(wide.open(new PlayedConnection('2001:db8:0:1::1')).opened)
  const narrow = play(maxPerSource, { max: 1, ipv6Prefix: 128 })
  assert.ok(narrow.open(new PlayedConnection('2001:db8::1')).opened)
  assert.ok(narrow.open(new PlayedConnection('2001:db8::2')).opened)
})

test('peers that have no address by nature are not counted', () => {
  const played = play(maxPerSource, { max: 1 })
  const local = () => new PlayedConnection(undefined, 'default', 'unix:./it.sock')
  assert.ok(played.open(local()).opened)
  assert.ok(played.open(local()).opened)
})

test('F96 a peer whose address is not known is refused where others have one', () => {
  assert.not.ok(play(maxPerSource, { max: 5 }).open(new PlayedConnection()).opened)
})

test('what opens is the close, so that the session can wait for it', async () => {
  const connection = new PlayedConnection('10.0.0.1')
  const { result } = play(maxPerSource, { max: 1 }).open(connection)
  await connection.gone({ code: 'RESET', by: 'network' })
  assert.equal(await result, { code: 'RESET', by: 'network' })
})

test('max is required', () => {
  assert.throws(() => play(maxPerSource, {}), /max: is required/)
})

test('whatever comes and goes, no source has more than its most and none is refused below it', async () => {
  const step = fc.record({ isComing: fc.boolean(), source: fc.integer({ min: 1, max: 3 }) })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 4 }), async (steps, max) => {
      const played = play(maxPerSource, { max })
      const open: PlayedConnection[][] = [[], [], [], []]
      for (const { isComing, source } of steps) {
        const there = open[source] as PlayedConnection[]
        if (!isComing) {
          await there.pop()?.gone()
          continue
        }
        const connection = new PlayedConnection(`10.0.0.${source}`)
        const { opened } = played.open(connection)
        assert.is(opened, there.length < max)
        if (opened) there.push(connection)
      }
    }),
  )
})

test.run()
