/** Requests and replies: whatever is given up, and however late its reply, none is taken for another's (F118). */
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ConnectionError } from '#src/core/errors.js'
import { Requests } from '#src/core/requests.js'
import { createVirtualClock } from '#src/testing/virtual-clock.js'

const sent = () => Promise.resolve()
const caught = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error: Error) => error,
  )

test('F118 a request whose signal was aborted before sends nothing, and rejects with its reason', async () => {
  const requests = new Requests(createVirtualClock())
  let sends = 0
  const reason = new Error('changed my mind')
  const send = async () => void sends++
  assert.is(await caught(requests.ask(undefined, { signal: AbortSignal.abort(reason) }, send)), reason)
  assert.is(sends, 0)
  const later = new AbortController()
  const asked = caught(requests.ask(undefined, { signal: later.signal }, send))
  later.abort(reason)
  assert.is(await asked, reason)
  assert.is(sends, 1)
  assert.is(requests.take(undefined, 'late'), true, 'its reply is swallowed')
  assert.is(requests.take(undefined, 'unasked'), false)
})

test('F118 a deadline is TIMEOUT, by the clock that was given; its id is not free while the reply may come', async () => {
  const clock = createVirtualClock()
  const requests = new Requests(clock)
  const asked = caught(requests.ask(7, { timeoutMs: 50 }, sent))
  await clock.advance(50)
  const error = (await asked) as ConnectionError
  assert.instance(error, ConnectionError)
  assert.equal([error.code, error.fields.sent], ['TIMEOUT', true])
  assert.match(((await caught(requests.ask(7, {}, sent))) as Error).message, /its reply may still come/)
  assert.is(requests.take(7, 'late'), true)
  const again = requests.ask(7, {}, sent)
  assert.is(requests.take(7, 'own'), true)
  assert.is(await again, 'own')
})

test('F118 what was given up is remembered within a bound', async () => {
  const clock = createVirtualClock()
  const requests = new Requests(clock)
  const all = Array.from({ length: 10_000 }, (_, id) => caught(requests.ask(id, { timeoutMs: 1 }, sent)))
  await clock.advance(1)
  await Promise.all(all)
  const remembered = Array.from({ length: 10_000 }, (_, id) => requests.take(id, 'late')).filter(Boolean).length
  assert.is(remembered, 4_096)
})

for (const kind of ['by id', 'in order'] as const) {
  test(`F118 ${kind}: over any sequence of requests, aborts and late replies each gets its own or none`, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom('ask', 'abort', 'answer', 'fail'), { maxLength: 60 }),
        async (steps) => {
          const requests = new Requests(createVirtualClock())
          const asked: { id: number; answer: Promise<unknown>; abort: AbortController; isSettled: boolean }[] = []
          /** What the peer has got and not yet answered. */
          const pending: number[] = []
          for (const [at, step] of steps.entries()) {
            if (step === 'ask' || step === 'fail') {
              const abort = new AbortController()
              const isLost = step === 'fail'
              if (!isLost) pending.push(at)
              const send = () => (isLost ? Promise.reject(new Error('not sent')) : sent())
              const answer = requests.ask(kind === 'by id' ? at : undefined, { signal: abort.signal }, send)
              const one = { id: at, answer: answer.catch((error) => error), abort, isSettled: false }
              void one.answer.then(() => {
                one.isSettled = true
              })
              asked.push(one)
              // A send that fails says so before the next step, as a socket that is gone does.
              if (isLost) await one.answer
            } else if (step === 'abort') asked.find(({ isSettled }) => !isSettled)?.abort.abort(new Error('given up'))
            else {
              const id = kind === 'by id' ? pending.pop() : pending.shift()
              if (id !== undefined) assert.ok(requests.take(kind === 'by id' ? id : undefined, `reply to ${id}`))
            }
            await Promise.resolve()
          }
          requests.fail(() => new Error('over'))
          for (const { id, answer } of asked) {
            const got = await answer
            assert.ok(got instanceof Error || got === `reply to ${id}`, `${id} got ${got}`)
          }
        },
      ),
      { numRuns: 500 },
    )
  })
}

test.run()
