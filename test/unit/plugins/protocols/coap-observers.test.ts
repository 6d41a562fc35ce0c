/** CoAP's notifications by a clock in the hand: sent again, replaced by what is newer, given up. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Accounts } from '#src/core/accounts.js'
import type { Connection } from '#src/core/connection.js'
import type { CoapReply } from '#src/plugins/protocols/coap/index.js'
import { Observers } from '#src/plugins/protocols/coap/observers.js'
import { createVirtualClock } from '#src/testing/index.js'

function begin(most = 10, limit = 100_000) {
  const clock = createVirtualClock()
  const account = new Accounts().at('').open({ name: 'coap.kept', limit, whenFull: 'oldest' })
  const sent: { id: number; text: string; at: number }[] = []
  let lastId = 0
  const observers = new Observers<CoapReply>(
    most,
    account,
    clock,
    (_, { payload, code }, sequence) => ({ id: ++lastId, bytes: Buffer.from(`${sequence} ${payload ?? code}`) }),
    async (_, bytes) => void sent.push({ id: lastId, text: String(bytes), at: clock.now() }),
  )
  const peer = () => {
    let close = () => {}
    const closed = new Promise<void>((resolve) => {
      close = resolve
    })
    return { connection: { closed } as unknown as Connection, close: () => close() }
  }
  const add = (connection: Connection, token = 'a', path = '/t') =>
    observers.add({ connection, token: Buffer.from(token), path, key: path, wanted: undefined })
  return { account, clock, sent, observers, peer, add }
}
const reply = (payload: string, code = '2.05'): CoapReply => ({ code, payload })

test('what is not acknowledged is sent again four times, ever later, and then the client is forgotten', async () => {
  const { clock, sent, observers, peer, add } = begin()
  add(peer().connection)
  observers.notify('/t', reply('x'))
  await clock.advance(200_000)
  assert.equal([...new Set(sent.map(({ text }) => text))], ['2 x'])
  assert.is(sent.length, 5)
  const waits = sent.slice(1).map(({ at }, i) => at - (sent[i]?.at ?? 0))
  assert.ok(
    waits.every((wait, i) => wait >= 2_000 * 2 ** i && wait <= 3_000 * 2 ** i),
    String(waits),
  )
  assert.is(observers.notify('/t', reply('y')), 0)
  assert.is(clock.pending, 0)
})

test('what is sent again is what holds now, and it is not sent more often for that', async () => {
  const { clock, sent, observers, peer, add } = begin()
  const { connection } = peer()
  add(connection)
  observers.notify('/t', reply('1'))
  observers.notify('/t', reply('2'))
  observers.notify('/t', reply('3'))
  await clock.advance(3_000)
  assert.equal(
    sent.map(({ text }) => text),
    ['2 1', '3 3'],
  )
  // The first is answered at last: it is not what waits.
  observers.heard(connection, false, sent[0]?.id as number)
  observers.notify('/t', reply('4'))
  assert.is(sent.length, 2)
  observers.heard(connection, false, sent[1]?.id as number)
  assert.is(sent[2]?.text, '4 4')
  await clock.advance(200_000)
  assert.is(sent.length, 2 + 5)
})

test('the last one is sent again like any other, and ends it when it is acknowledged', async () => {
  const { clock, sent, observers, peer, add } = begin()
  const { connection } = peer()
  add(connection)
  observers.notify('/t', reply('gone', '4.04'))
  await clock.advance(3_000)
  assert.is(sent.length, 2)
  observers.heard(connection, false, sent[1]?.id as number)
  assert.is(observers.notify('/t', reply('x')), 0)
  assert.is(clock.pending, 0)
})

test('there are so many and no more, whoever they are; whoever leaves makes room', async () => {
  const { clock, observers, peer, add } = begin(3)
  const [one, other] = [peer(), peer()]
  assert.ok(add(one.connection, 'a') !== undefined && add(one.connection, 'b', '/u') !== undefined)
  assert.ok(add(other.connection, 'a') !== undefined)
  assert.is(add(other.connection, 'b'), undefined)
  // Once more the same: in its own place.
  assert.ok(add(other.connection, 'a') !== undefined)
  assert.equal([observers.notify('/t', reply('x')), observers.notify('/u', reply('x'))], [2, 1])
  one.close()
  await Promise.resolve()
  await Promise.resolve()
  assert.equal([observers.notify('/t', reply('y')), observers.notify('/u', reply('y'))], [1, 0])
  assert.ok(add(other.connection, 'b') !== undefined && add(other.connection, 'c') !== undefined)
  observers.cancel(other.connection, Buffer.from('a'))
  assert.is(observers.notify('/t', reply('z')), 2)
  await clock.advance(200_000)
  assert.is(clock.pending, 0)
})

test('F107 news that observers wait for is kept once for all, in the account, and given back', async () => {
  const { account, clock, sent, observers, peer, add } = begin(60)
  const all = Array.from({ length: 60 }, () => peer())
  for (const { connection } of all) add(connection)
  observers.notify('/t', reply('first'))
  assert.is(account.used, 0)
  for (let i = 0; i < 10; i++) observers.notify('/t', reply('x'.repeat(20_000)))
  assert.ok(account.used >= 20_000 && account.used < 22_000, `${account.used}`)
  // A third is told, a third leaves, a third has gone for good.
  for (const [i, { connection }] of all.entries()) if (i < 20) observers.heard(connection, false, sent[i]?.id as number)
  for (const { close } of all.slice(20, 40)) close()
  assert.ok(account.used >= 20_000)
  await clock.advance(300_000)
  assert.is(account.used, 0)
  assert.is(clock.pending, 0)
})

test('F107 news for which there is no room: who waits for it is told that it is over, and asks anew', async () => {
  const { account, clock, sent, observers, peer, add } = begin(10, 65_536)
  const { connection } = peer()
  const other = peer()
  add(connection)
  add(other.connection, 'b', '/u')
  for (const path of ['/t', '/u']) observers.notify(path, reply('first'))
  observers.notify('/t', reply('x'.repeat(40_000)))
  observers.notify('/u', reply('y'.repeat(40_000)))
  assert.ok(account.used < 65_536)
  observers.heard(connection, false, sent[0]?.id as number)
  assert.match(sent[2]?.text ?? '', /5\.03$/)
  observers.heard(connection, false, sent[2]?.id as number)
  assert.is(observers.notify('/t', reply('z')), 0)
  observers.heard(other.connection, false, sent[1]?.id as number)
  assert.match(sent[3]?.text ?? '', /y$/)
  // More than there is room for at all.
  observers.notify('/u', reply('y'.repeat(100_000)))
  observers.heard(other.connection, false, sent[3]?.id as number)
  assert.match(sent[4]?.text ?? '', /5\.03$/)
  assert.is(account.used, 0)
  await clock.advance(300_000)
  assert.is(clock.pending, 0)
})

test.run()
