// time limit: 120 s
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ConnectionError } from '#src/core/errors.js'
import { EventHub } from '#src/core/events.js'
import type { ObservedServer, Observer } from '#src/core/observer.js'
import { type AnyLogger, type LoggerOptions, logger } from '#src/plugins/observability/logger.js'
import { safeRecord, withoutSecrets } from '#src/plugins/observability/record.js'
import { HandClock } from '../../../support/clock.js'

const none: ReadonlySet<string> = new Set()

function rig(options: Partial<LoggerOptions> = {}) {
  const lines: { level: string; facts: Record<string, unknown>; message: string | undefined }[] = []
  const write = (level: string) => (facts: object, message?: string) =>
    void lines.push({ level, facts: facts as Record<string, unknown>, message })
  const given: AnyLogger = { error: write('error'), warn: write('warn'), info: write('info'), debug: write('debug') }
  const clock = new HandClock()
  const events = new EventHub()
  let observer: Observer | undefined
  const checked = logger.options?.['~standard'].validate({ logger: given, ...options }) as { value: LoggerOptions }
  const registry = { observer: (create: (services: unknown) => Observer) => (observer = create({ clock, events })) }
  void logger.setup(registry as never, checked.value)
  observer?.start?.(events as unknown as ObservedServer)
  return { lines, clock, events, observer: observer as Observer }
}

const refused = (reason = 'connections') => ({ listener: 'public', remote: undefined, reason })

test('an event is a line of its level, with its facts flat', () => {
  const { lines, events } = rig({ level: 'debug' })
  const connection = { id: '7', listener: 'public', transport: 'tcp', remote: 'tcp://192.0.2.1:5' }
  const error = new ConnectionError('RESET', 'gone')
  events.emit('connection.closed', { connection, reason: { code: 'RESET', by: 'network', error } } as never)
  events.emit('handler.failed', { connection, error } as never)
  const facts = { connection: '7', listener: 'public', transport: 'tcp', remote: 'tcp://192.0.2.1:5' }
  assert.equal(lines, [
    {
      level: 'debug',
      facts: { event: 'connection.closed', ...facts, code: 'RESET', by: 'network', error: 'gone' },
      message: 'connection.closed',
    },
    {
      level: 'error',
      facts: { event: 'handler.failed', ...facts, error: 'gone', code: 'RESET' },
      message: 'handler.failed',
    },
  ])
})

test('what is below the level is not listened to', () => {
  const { events } = rig({ level: 'warn' })
  assert.not(events.wants('connection.opened'))
  assert.not(events.wants('server.state'))
  assert.ok(events.wants('listener.fault'))
})

test('of one kind so many a second; those left out are counted and said when the second is over, and at the end', () => {
  const { lines, events, clock, observer } = rig({ perSecond: 3 })
  for (let i = 0; i < 10; i++) events.emit('connection.refused', refused())
  events.emit('server.state', { from: 'ready', to: 'draining' })
  assert.is(lines.length, 4)
  clock.advance(1_000)
  assert.equal(lines[4]?.facts, { event: 'connection.refused', suppressed: 7 })
  for (let i = 0; i < 5; i++) events.emit('connection.refused', refused())
  assert.is(lines.length, 8)
  void observer.stop?.()
  assert.equal(lines[8]?.facts, { event: 'connection.refused', suppressed: 2 })
  events.emit('connection.refused', refused())
  assert.is(lines.length, 9)
})

test('a logger that throws harms nobody, and is said once', () => {
  const warnings: string[] = []
  const { emitWarning } = process
  process.emitWarning = ((message: string) => void warnings.push(message)) as typeof emitWarning
  try {
    const boom = () => {
      throw new Error('disk full')
    }
    const { events } = rig({ logger: { error: boom, warn: boom, info: boom, debug: boom } })
    for (let i = 0; i < 5; i++) events.emit('connection.refused', refused())
  } finally {
    process.emitWarning = emitWarning
  }
  assert.equal(warnings, ['logger: it threw, lines are lost: disk full'])
})

test('what is no logger, and keys that are none, are refused', () => {
  const validate = (options: object) => (logger.options?.['~standard'].validate(options) as { issues?: unknown }).issues
  assert.ok(validate({ logger: { info() {} } }))
  assert.ok(validate({ logger: 'winston' }))
  assert.ok(validate({ redact: [7] }))
  assert.ok(validate({ levels: 'info' }))
  assert.not(validate({ level: 'debug', redact: ['user'] }))
})

test('secrets are not written: by key, in text, in addresses (F88)', () => {
  for (const [text, secret] of [
    ['login failed: password=hunter2 user=bob', 'hunter2'],
    ['{"token":"abc123","user":"bob"}', 'abc123'],
    ['Authorization: Bearer eyJhbGciOi.x.y', 'eyJhbGciOi'],
    ['basic dXNlcjpwYXNz', 'dXNlcjpwYXNz'],
    ['cannot reach redis://bob:s3cret@cache:6379/0', 's3cret'],
    ['-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----', 'MIIEow'],
    ["api_key: 'k-123'", 'k-123'],
    ['DB_PASSWORD=letmein', 'letmein'],
  ] as const) {
    assert.not.match(withoutSecrets(text), secret, text)
    assert.match(withoutSecrets(text), '[redacted]', text)
  }
  assert.is(withoutSecrets('a passage about tokens, nothing secret'), 'a passage about tokens, nothing secret')
  const record = safeRecord({ password: 'x', sessionToken: 'y', cookie: 'z', user: 'bob', code: 7 }, new Set(['user']))
  assert.equal(record, {
    password: '[redacted]',
    sessionToken: '[redacted]',
    cookie: '[redacted]',
    user: '[redacted]',
    code: 7,
  })
})

test('whatever a peer sends, it is one line below 1 KiB without a control character (F88)', () => {
  const nasty = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 3_000 }),
    fc.constantFrom(
      '\r\n{"level":60}',
      '\u001b[31m',
      '\u2028\u2029',
      '\u202e',
      'x'.repeat(1_000_000),
      '\ud800',
      '€'.repeat(5_000),
    ),
  )
  fc.assert(
    fc.property(
      fc.dictionary(fc.string({ maxLength: 20 }), fc.oneof(nasty, fc.integer(), fc.boolean()), { maxKeys: 12 }),
      (facts) => {
        const line = JSON.stringify(safeRecord(facts, none))
        assert.ok(Buffer.byteLength(line) <= 900, `${Buffer.byteLength(line)}`)
        for (const value of Object.values(JSON.parse(line)))
          assert.not.match(String(value), /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/)
      },
    ),
    { numRuns: 5_000 },
  )
})

test.run()
