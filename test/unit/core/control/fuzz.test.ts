/** Whatever comes over the control socket is answered, and harms nobody. */

import fc from 'fast-check'
import { createServer } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { filterOf } from '#src/core/control/connections.js'
import { answerOf, Control, type ControlRequest } from '#src/core/control.js'

const commands = ['status', 'connections', 'kill', 'limit', 'tap', 'untap', 'suspend', 'resume', 'nonsense']
const keys = [
  'listener',
  'filter',
  'sort',
  'limit',
  'offset',
  'reverse',
  'source',
  'reason',
  'now',
  'path',
  'value',
  'connection',
  'rate',
  'characters',
  'watch',
]

test('any request has an answer: ok with a result, or an error in words', async () => {
  const server = await createServer({ config: false, listen: 'memory:fuzz', handler: (line: string) => line })
  await server.start()
  const control = new Control(server, '1')
  const asker = { tell: () => true, closed: new Promise(() => {}) }
  const value = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.constantFrom(
      'limits.connections',
      'default',
      '127.0.0.0/8',
      'idleMs>5',
      'unlimited',
      'ageMs',
      '__proto__',
      'constructor',
    ),
    fc.integer(),
    fc.string(),
  )
  const request = fc.record({
    command: fc.oneof(fc.constantFrom(...commands), fc.jsonValue()),
    body: fc.dictionary(fc.constantFrom(...keys), value),
  })
  fc.assert(
    fc.property(fc.oneof(request, fc.jsonValue()), (given) => {
      const { command, body } = (given ?? {}) as { command?: unknown; body?: object }
      if (command === 'stop' || command === 'drain') return
      const asked = body === undefined ? given : { ...body, command, id: 7 }
      if ((asked as ControlRequest)?.command === 'stop' || (asked as ControlRequest)?.command === 'drain') return
      const answer = answerOf(control, asked as ControlRequest, asker) as {
        ok: boolean
        error?: unknown
        result?: unknown
      }
      assert.ok(answer.ok ? answer.result !== undefined : typeof answer.error === 'string', JSON.stringify(asked))
      JSON.stringify(answer)
    }),
    { numRuns: 20_000 },
  )
  assert.is(server.state, 'ready')
  control.close()
  await server.stop()
})

test('any filter is a filter or an error, at once', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 200 }), (text) => {
      try {
        assert.type(filterOf(text), 'function')
      } catch (error) {
        assert.match((error as Error).message, /^filter: expected a number such as/)
      }
    }),
    { numRuns: 20_000 },
  )
})

test.run()
