/** `top` without a terminal: what keys do, and that no frame leaves its lines, whatever peers are called. */
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ansi, frame, plain } from '#src/cli/top/frame.js'
import { firstView, keysOf, press, type Sample, type View } from '#src/cli/top/state.js'
import type { ConnectionFacts, Status } from '#src/core/control.js'

const connection = (id: string, further: Partial<ConnectionFacts> = {}): ConnectionFacts => ({
  id,
  listener: 'public',
  transport: 'tcp',
  remote: `tcp://192.0.2.7:${id}`,
  state: 'open',
  ageMs: 1_000,
  idleMs: 5,
  bytesIn: 100,
  bytesOut: 200,
  messagesIn: 3,
  messagesOut: 3,
  unsentBytes: 0,
  unhandledBytes: 0,
  inFlight: 0,
  isPaused: false,
  ...further,
})

const status = (further: Partial<Status> = {}): Status => ({
  pid: 1,
  version: '1.2.3',
  state: 'ready',
  uptimeMs: 60_000,
  connections: 2,
  listeners: [
    {
      name: 'public',
      endpoints: ['tcp://127.0.0.1:8080'],
      state: 'listening',
      connections: 2,
      handshaking: 0,
      limit: 100,
      connectionsPerSource: 'unlimited',
      traffic: { bytesIn: 1_000, bytesOut: 2_000, messagesIn: 10, messagesOut: 10 },
      codec: 'line',
      handler: 'Echo',
      executor: 'inline',
      latency: [[40, 10]],
    },
  ],
  executors: [],
  counters: {},
  limits: { serverConnections: 'unlimited', memoryBytes: 'unlimited' },
  alarms: [],
  memory: { residentBytes: 1e8, heapBytes: 1e7, externalBytes: 1e6 },
  ...further,
})

const sample = (at: number, connections: readonly ConnectionFacts[], of: Status = status()): Sample => ({
  at,
  status: of,
  page: { total: connections.length, matched: connections.length, offset: 0, connections },
})

test('rates are what changed between two answers', () => {
  const before = sample(0, [connection('1')])
  const [listener] = status().listeners
  const traffic = { bytesIn: 11_000, bytesOut: 2_000, messagesIn: 110, messagesOut: 10 }
  const later = status({ listeners: [{ ...(listener as never as object), traffic, latency: [[40, 60]] } as never] })
  const now = sample(2_000, [connection('1', { bytesIn: 2_148 }), connection('2')], later)
  const text = frame(now, before, firstView, { columns: 130, rows: 24 }, plain).lines.join('\n')
  assert.match(text, /in 50\/s 4\.9 KiB\/s {2}out 0\/s 0 B\/s/)
  assert.match(text, /public +listening +2\/100 +50 4\.9 KiB/)
  assert.match(text, /p50 1\.1ms p99 1\.1ms/)
  assert.match(text, /^>1 .* 1\.0 KiB +0 B/m)
  assert.match(text, /^ 2 .* - +- /m)
})

test('keys: sorting and filters ask again, kills need a reason and Enter, Escape is a way out', () => {
  const rows = [connection('1'), connection('2')]
  const keys = (text: readonly string[], view: View = firstView) => {
    let step = press(text[0] as string, view, rows, 10)
    for (const key of text.slice(1)) step = press(key, step.view, rows, 10)
    return step
  }
  assert.equal(keys(['s']).deed, { do: 'ask' })
  assert.is(keys(['s']).view.sort, 'idleMs')
  assert.is(keys(['r']).view.isReversed, true)
  assert.is(keys(['p']).view.isPaused, true)
  assert.is(keys(['p', ' ']).view.isPaused, false)
  assert.equal(keys(['down', 'k', 'b', 'a', 'd', 'enter']).deed, { do: 'kill', connection: '2', reason: 'bad' })
  assert.equal(keys(['k', 'x', 'backspace', 'y', 'enter']).deed, { do: 'kill', connection: '1', reason: 'y' })
  assert.is(keys(['k', 'x', 'escape']).view.prompt, undefined)
  assert.is(keys(['k', 'q']).deed, undefined, 'typed, not obeyed')
  assert.equal(keys(['k', 'ctrl-c']).deed, { do: 'quit' })
  assert.equal(keys(['/', 'a', 'enter']).deed, { do: 'ask' })
  assert.is(keys(['/', 'a', 'enter']).view.filter, 'a')
  assert.equal(keys(['z']).deed, { do: 'toggle', listener: 'public' })
  assert.equal(keys(['q']).deed, { do: 'quit' })
  assert.is(press('k', firstView, [], 10).view.prompt, undefined)
  assert.is(press('z', firstView, [], 10).deed, undefined)
})

test('what a terminal sends is keys', () => {
  assert.equal(keysOf('\u001b[A\u001b[Bq'), ['up', 'down', 'q'])
  assert.equal(keysOf('ab\r\u007f\u0003'), ['a', 'b', 'enter', 'backspace', 'ctrl-c'])
  assert.equal(keysOf('\u001b'), ['escape'])
  assert.equal(keysOf('\u001b[99;5u\u0000'), [])
})

test('no frame is wider than its terminal or obeys a peer, whatever is in it', () => {
  const text = fc.string({ unit: 'binary', maxLength: 80 })
  const any = fc.record({ id: text, listener: text, remote: text, state: text, bytesIn: fc.nat(), ageMs: fc.nat() })
  fc.assert(
    fc.property(
      fc.array(any, { maxLength: 30 }),
      fc.integer({ min: 40, max: 160 }),
      fc.integer({ min: 12, max: 60 }),
      (list, columns, rows) => {
        const now = sample(
          1_000,
          list.map((one) => connection('1', one)),
        )
        for (const style of [plain, ansi]) {
          const { lines } = frame(now, undefined, firstView, { columns, rows }, style)
          assert.is(lines.length, rows)
          for (const line of lines) {
            const bare = style === ansi ? line.replace(/^\u001b\[\d+m|\u001b\[0m$/g, '') : line
            assert.ok(bare.length <= columns, `${bare.length} of ${columns}`)
            assert.not.match(bare, /[\u0000-\u001f\u007f-\u009f]/)
          }
        }
      },
    ),
    { numRuns: 500 },
  )
})

test('any keys in any order leave a view that can be drawn', () => {
  const keys = fc.array(
    fc.constantFrom(
      'q',
      'p',
      's',
      'r',
      '/',
      'k',
      'z',
      'up',
      'down',
      'page-up',
      'page-down',
      'home',
      'enter',
      'escape',
      'backspace',
      'x',
    ),
  )
  fc.assert(
    fc.property(keys, fc.integer({ min: 0, max: 5 }), (pressed, count) => {
      const rows = Array.from({ length: count }, (_, i) => connection(String(i)))
      let view: View = firstView
      for (const key of pressed) view = press(key, view, rows, 3).view
      assert.ok(view.offset >= 0 && view.offset <= Math.max(0, count))
      frame(sample(0, rows), undefined, view, { columns: 80, rows: 24 }, plain)
    }),
    { numRuns: 2_000 },
  )
})

test.run()
