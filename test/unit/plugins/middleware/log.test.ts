import { spawn } from 'node:child_process'
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { log } from '#src/plugins/middleware/log.js'
import { type Played, PlayedConnection, play, turn } from './played-connection.js'

function logged(options: Record<string, unknown> = {}): { readonly played: Played; readonly lines: string[] } {
  const lines: string[] = []
  const played = play(log, { write: (line: string) => void lines.push(line), ...options })
  return { played, lines }
}

const connection = new PlayedConnection('10.0.0.1')
const fails = () => {
  throw new Error('mine')
}

test('a connection has a line when it opens and one when it closes, with the reason', async () => {
  const { played, lines } = logged()
  const one = new PlayedConnection('10.0.0.1')
  assert.ok(played.open(one).opened)
  played.clock.advance(1_500)
  await one.gone({ code: 'RESET', by: 'network', error: new Error('cut') })
  assert.is(lines.length, 2)
  assert.match(
    lines[0] as string,
    new RegExp(
      `^\\S+Z connection=${one.id} remote=tcp://10\\.0\\.0\\.1:40000 event=open endpoint=tcp://127.0.0.1:8080\\n$`,
    ),
  )
  assert.match(
    lines[1] as string,
    / event=close code=RESET by=network lastedMs=1500 bytesIn=1 bytesOut=2 messagesIn=3 messagesOut=4 error=cut\n$/,
  )
})

test('a message has a line with its size and how long its handler took', async () => {
  const { played, lines } = logged()
  assert.is(
    played.message(connection, () => {
      played.clock.advance(20)
      return 'reply'
    }),
    'reply',
  )
  let finish: (reply: string) => void = () => {}
  const reply = played.message(connection, () => new Promise((resolve) => (finish = resolve)), { route: 'GET' })
  assert.is(lines.length, 1)
  played.clock.advance(300)
  finish('later')
  assert.is(await reply, 'later')
  assert.match(lines[0] as string, / event=message bytes=5 tookMs=20\n$/)
  assert.match(lines[1] as string, / event=message route=GET bytes=5 tookMs=300\n$/)
})

test('a failure is in the line, and passes on as it was', async () => {
  const { played, lines } = logged()
  assert.throws(() => played.message(connection, fails), /mine/)
  const rejected = await (played.message(connection, () => Promise.reject('text')) as Promise<unknown>).catch((e) => e)
  assert.is(rejected, 'text')
  assert.match(lines[0] as string, / error=mine\n$/)
  assert.match(lines[1] as string, / error=text\n$/)
})

test('each level writes what it says and no more', async () => {
  const count = async (level: string) => {
    const { played, lines } = logged({ level })
    for (const error of [undefined, new Error('cut')]) {
      const one = new PlayedConnection()
      played.open(one)
      played.message(one)
      assert.throws(() => played.message(one, fails))
      await one.gone({ code: 'X', by: 'peer', ...(error === undefined ? {} : { error }) })
    }
    return lines.map((line) => /event=(\w+)/.exec(line)?.[1]).join(' ')
  }
  assert.is(await count('errors'), 'message message close')
  assert.is(await count('connections'), 'open message close open message close')
  assert.is(await count('messages'), 'open message message close open message message close')
})

test('payloads are not written unless asked for, and then cut', () => {
  const secret = 'password=hunter2'
  const without = logged()
  without.played.message(connection, () => 'ok', { message: secret })
  assert.not.match(without.lines.join(''), 'hunter2')
  const withThem = logged({ payload: true, payloadBytes: 8 })
  for (const message of [secret, Buffer.from(secret), { text: secret }, 'ääääääää']) {
    withThem.played.message(connection, () => 'ok', { message })
  }
  assert.equal(
    withThem.lines.map((line) => /payload=(.*)\n/.exec(line)?.[1]),
    ['password', 'password', '"{\\"text\\":"', 'ääää'],
  )
})

test('a message that cannot be shown harms nothing', () => {
  const { played, lines } = logged({ payload: true })
  const circle: Record<string, unknown> = {}
  circle.self = circle
  const hostile = {
    toJSON() {
      throw new Error('no')
    },
  }
  for (const message of [circle, hostile, 1n, Symbol('s'), undefined, null, () => 1, Object.create(null)]) {
    assert.is(
      played.message(connection, () => 'ok', { message }),
      'ok',
    )
  }
  assert.is(lines.length, 8)
})

// What may not stand in a line: C0 and C1 controls, Unicode's line separators, direction marks.
const forging = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/
const attack = 'x\r\n2026-01-01T00:00:00.000Z connection=1 event=open\u001b[2J\u2028\u0085\u202e"} \\'

for (const format of ['text', 'json']) {
  test(`nothing a peer sends forges or breaks a line of ${format}`, () => {
    const { played, lines } = logged({ format, payload: true, payloadBytes: 512 })
    const anything = fc.oneof(
      fc.constant(attack),
      fc.string({ unit: 'binary', maxLength: 3_000 }),
      fc.uint8Array({ maxLength: 3_000 }),
      fc.json(),
    )
    fc.assert(
      fc.property(anything, anything, (message, said) => {
        lines.length = 0
        const error = new Error(String(said))
        assert.throws(() =>
          played.message(
            connection,
            () => {
              throw error
            },
            { message, route: String(said).slice(0, 40) },
          ),
        )
        assert.is(lines.length, 1)
        const line = lines[0] as string
        assert.ok(line.endsWith('\n'))
        assert.not.match(line.slice(0, -1), forging)
        assert.ok(Buffer.byteLength(line) <= 1_025, `${Buffer.byteLength(line)} bytes`)
        if (format === 'json') {
          const { event, bytes, connection: id } = JSON.parse(line)
          assert.equal([event, bytes, id], ['message', 5, connection.id])
        }
      }),
      { numRuns: 300 },
    )
  })

  test(`a megabyte is cut to a line of ${format}`, () => {
    const { played, lines } = logged({ format, payload: true, payloadBytes: 512 })
    const error = new Error('\0'.repeat(1 << 20))
    const throws = () => {
      throw error
    }
    assert.throws(() => played.message(connection, throws, { message: '\0'.repeat(1 << 20) }))
    assert.ok(Buffer.byteLength(lines[0] as string) <= 1_025)
    if (format === 'json') JSON.parse(lines[0] as string)
  })
}

test('a place to write to that throws harms no connection, and is said once', async () => {
  const warnings: string[] = []
  const { emitWarning } = process
  process.emitWarning = ((message: string) => void warnings.push(message)) as typeof emitWarning
  try {
    const played = play(log, {
      write: () => {
        throw new Error('disk full')
      },
    })
    const one = new PlayedConnection()
    assert.ok(played.open(one).opened)
    assert.is(
      played.message(one, () => 'reply'),
      'reply',
    )
    await one.gone()
    await turn()
  } finally {
    process.emitWarning = emitWarning
  }
  assert.is(warnings.length, 1)
  assert.match(warnings[0] ?? '', 'disk full')
})

const program = `
  import { log } from '#src/plugins/middleware/log.js'
  const { value } = log.options['~standard'].validate({})
  const set = log.create(value, { clock: { now: () => 0 } })
  const connection = { id: '1', endpoint: 'e', stats: {}, closed: new Promise(() => {}) }
  process.stdin.once('data', () => {
    for (let i = 0; i < 3; i++) set.connection({ connection }, () => {})
    setImmediate(() => setImmediate(() => process.exit(7)))
  })
  console.log('up')`

for (const [what, shell] of [
  ['that nobody reads any more', 'exec "$0" "$@"'],
  ['without room', 'exec "$0" "$@" 2>/dev/full'],
] as const) {
  test(`a standard error ${what} does not end the process`, async () => {
    const node = [process.execPath, '--input-type=module', '-e', program]
    const child = spawn('sh', ['-c', shell, ...node], { stdio: 'pipe' })
    const isUp = new Promise((resolve) => child.stdout.once('data', resolve))
    const isClosed = new Promise((resolve) => child.stderr.once('close', resolve))
    await isUp
    child.stderr.destroy()
    await isClosed
    child.stdin.write('go')
    assert.is(await new Promise((resolve) => child.once('exit', resolve)), 7)
  })
}

test('the next step is called once and its result is given back untouched', async () => {
  const { played } = logged()
  const one = new PlayedConnection()
  const { result } = played.open(one)
  await one.gone({ code: 'ENDED', by: 'peer' })
  assert.equal(await result, { code: 'ENDED', by: 'peer' })
})

test('an unknown level or place to write to is refused', () => {
  assert.throws(() => play(log, { level: 'all' }), /one of "errors", "connections", "messages"/)
  assert.throws(() => play(log, { write: 'file' }), /a function/)
  assert.throws(() => play(log, { payloadBytes: 513 }), /from 0 to 512/)
})

test.run()
