/** What listeners of several processes have carried adds up, in any order, and takes the place of one process's own. */
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { addFigures, figuresOf, type ListenerFigures, withFigures } from '#src/core/control/figures.js'
import type { ListenerStatus } from '#src/core/control.js'

const status = (name: string, messagesIn: number): ListenerStatus => ({
  name,
  endpoints: [],
  state: 'listening',
  connections: 0,
  handshaking: 0,
  limit: 1,
  connectionsPerSource: 'unlimited',
  traffic: { bytesIn: 0, bytesOut: 0, messagesIn, messagesOut: 0 },
  codec: 'line',
  handler: 'default',
  executor: 'inline',
})

test('figures replace those of the process that answered, and leave the rest alone', () => {
  const figures = addFigures([figuresOf([status('a', 1)]), figuresOf([status('a', 2), status('gone', 9)])])
  const [a, b] = withFigures([status('a', 1), status('b', 5)], figures)
  assert.is(a?.traffic.messagesIn, 3)
  assert.is(b?.traffic.messagesIn, 5)
  assert.is(a?.codec, 'line')
  assert.is(a && 'latency' in a, false)
})

const count = fc.nat(1_000)
const one: fc.Arbitrary<ListenerFigures> = fc.record({
  name: fc.constantFrom('a', 'b', '__proto__'),
  traffic: fc.record({ bytesIn: count, bytesOut: count, messagesIn: count, messagesOut: count }),
  latency: fc.uniqueArray(fc.tuple(fc.nat(5), count), { selector: ([bucket]) => bucket }),
})

test('sums are those of all, whatever the order', () => {
  fc.assert(
    fc.property(fc.array(fc.array(one)), (all) => {
      const sorted = (figures: readonly ListenerFigures[]) => [...figures].sort((a, b) => (a.name < b.name ? -1 : 1))
      const sums = addFigures(all)
      assert.equal(sorted(addFigures([...all].reverse())), sorted(sums))
      for (const name of ['a', 'b', '__proto__']) {
        const those = all.flat().filter((figures) => figures.name === name)
        const sum = sums.find((figures) => figures.name === name)
        const total = (of: (figures: ListenerFigures) => number) =>
          those.reduce((total, figures) => total + of(figures), 0)
        assert.is(
          sum?.traffic.bytesOut ?? 0,
          total(({ traffic }) => traffic.bytesOut),
        )
        const counted = (figures: ListenerFigures) => (figures.latency ?? []).reduce((total, [, n]) => total + n, 0)
        assert.is(sum === undefined ? 0 : counted(sum), total(counted))
      }
    }),
  )
})

test.run()
