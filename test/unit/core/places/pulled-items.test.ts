import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { PulledItems } from '#src/core/places/pulled-items.js'

function pulled() {
  const told: string[] = []
  const items = new PulledItems({ pull: (count) => told.push(`pull ${count}`), done: () => told.push('done') })
  const act = (what: string) => items.behind(() => told.push(what))
  return { items, told, act }
}

test('what is done between two items is done when the first one is sent, and before the second', async () => {
  const { items, told, act } = pulled()
  act('at once')
  const first = items.next()
  act('while somebody waits')
  items.add(1)
  act('behind 1')
  items.add(2)
  act('behind 2')
  items.finish()
  act('behind the end')
  assert.equal(told, ['at once', 'pull 16', 'while somebody waits', 'done'])
  for (const expected of [1, 2]) {
    const { value } = await (expected === 1 ? first : items.next())
    assert.is(value, expected)
    assert.not.ok(told.includes(`behind ${expected}`))
    if (expected === 1) continue
    assert.is(told.at(-1), 'behind 1')
  }
  assert.equal(await items.next(), { done: true, value: undefined })
  assert.equal(told.slice(-2), ['behind 2', 'behind the end'])
  act('afterwards')
  assert.is(told.at(-1), 'afterwards')
})

test('what was done behind items that nobody wants any more is done all the same', async () => {
  const { items, told, act } = pulled()
  const first = items.next()
  items.add(1)
  await first
  act('behind 1')
  items.add(2)
  act('behind 2')
  await items.return()
  assert.equal(told.slice(-2), ['behind 1', 'behind 2'])
  act('afterwards')
  assert.is(told.at(-1), 'afterwards')
})

test.run()
