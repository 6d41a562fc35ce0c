/** What a worker tells of a tapped connection, on its way to one asker. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Asker } from '#src/core/control.js'
import type { Worker } from '#src/core/workers/worker.js'
import { WorkerTaps } from '#src/worker-taps.js'

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve))

function rig() {
  const heard: object[] = []
  let isFull = false
  let end = () => {}
  const asker: Asker = {
    closed: new Promise(() => {}),
    tell(line) {
      if (isFull) return false
      heard.push(line)
      return true
    },
  }
  const worker = {
    ended: new Promise<void>((resolve) => {
      end = resolve
    }),
  } as unknown as Worker
  const ear = new WorkerTaps().earOf(asker, worker, '0')
  return { heard, ear, end, fill: (full: boolean) => (isFull = full) }
}

test('what is told before the answer is out comes behind it, in order, and no more than is bounded', async () => {
  const { heard, ear } = rig()
  for (let n = 0; n < 70; n++) ear.tell({ tap: 'a', message: n })
  ear.answered('a')
  ear.tell({ tap: 'a', message: 70 })
  assert.equal(heard, [], 'the answer leaves first')
  await nextTurn()
  // 64 were kept; the seven behind them are counted where the next line is told.
  assert.equal(heard[0], { tap: '0/a', leftOut: 7 })
  assert.equal(
    heard.slice(1),
    Array.from({ length: 64 }, (_, message) => ({ tap: '0/a', message })),
  )
  ear.tell({ tap: 'a', message: 71 })
  assert.equal(heard.at(-1), { tap: '0/a', message: 71 })
})

test('what a slow asker misses is counted, and said before the next line', async () => {
  const { heard, ear, fill } = rig()
  ear.answered('a')
  await nextTurn()
  fill(true)
  for (let n = 0; n < 3; n++) assert.is(ear.tell({ tap: 'a', message: n }), false)
  fill(false)
  ear.tell({ tap: 'a', message: 3 })
  assert.equal(heard, [
    { tap: '0/a', leftOut: 3 },
    { tap: '0/a', message: 3 },
  ])
})

test('the end of a worker is told of each connection that was tapped there, once', async () => {
  const { heard, ear, end } = rig()
  ear.answered('a')
  end()
  await nextTurn()
  await nextTurn()
  assert.equal(heard, [{ tap: '0/a', closed: { code: 'WORKER_ENDED', by: 'server', error: 'worker 0 has ended' } }])
})

test.run()
