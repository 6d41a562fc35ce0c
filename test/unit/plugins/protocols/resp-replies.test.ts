/** RESP, replies: in both versions, and as a client reads them. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { CodecContext } from '#src/core/codec.js'
import { ExecutorError, FrameError, HandlerError, UnroutedMessageError } from '#src/core/errors.js'
import { defaultLimits } from '#src/core/options.js'
import { encodeReply } from '#src/plugins/protocols/resp/encode.js'
import { isPush, push, RespError, resp, simple } from '#src/plugins/protocols/resp/index.js'
import { drive, fails, limitsOf, make, stream } from '../codecs/harness.js'

const protocol = make(resp)
const { codec } = protocol
const client = protocol.clientCodec as NonNullable<typeof protocol.clientCodec>
const text = (encoded: ReturnType<typeof encodeReply>): string =>
  typeof encoded === 'string'
    ? encoded
    : Buffer.from(encoded instanceof Uint8Array ? encoded : Buffer.concat(encoded)).toString('latin1')
const two = (value: unknown) => text(encodeReply(value, 2))
const three = (value: unknown) => text(encodeReply(value, 3))

const replies: readonly [value: unknown, resp2: string, resp3: string][] = [
  ['hi', '$2\r\nhi\r\n', '$2\r\nhi\r\n'],
  ['', '$0\r\n\r\n', '$0\r\n\r\n'],
  ['é', '$2\r\né\r\n', '$2\r\né\r\n'],
  [42, ':42\r\n', ':42\r\n'],
  [-0, ':0\r\n', ':0\r\n'],
  [1.5, '$3\r\n1.5\r\n', ',1.5\r\n'],
  [Number.NEGATIVE_INFINITY, '$4\r\n-inf\r\n', ',-inf\r\n'],
  [2n ** 62n, ':4611686018427387904\r\n', ':4611686018427387904\r\n'],
  [2n ** 64n, '$20\r\n18446744073709551616\r\n', '(18446744073709551616\r\n'],
  [null, '$-1\r\n', '_\r\n'],
  [true, ':1\r\n', '#t\r\n'],
  [false, ':0\r\n', '#f\r\n'],
  [['a', [1], null], '*3\r\n$1\r\na\r\n*1\r\n:1\r\n$-1\r\n', '*3\r\n$1\r\na\r\n*1\r\n:1\r\n_\r\n'],
  [{ a: 1 }, '*2\r\n$1\r\na\r\n:1\r\n', '%1\r\n$1\r\na\r\n:1\r\n'],
  [new Map([['a', 1]]), '*2\r\n$1\r\na\r\n:1\r\n', '%1\r\n$1\r\na\r\n:1\r\n'],
  [new Set([1]), '*1\r\n:1\r\n', '~1\r\n:1\r\n'],
  [
    push(['message', 'c', 'x']),
    '*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n',
    '>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n',
  ],
  [simple('OK'), '+OK\r\n', '+OK\r\n'],
  [new Error('no'), '-ERR no\r\n', '-ERR no\r\n'],
  [new RespError('Operation', 'WRONGTYPE'), '-WRONGTYPE Operation\r\n', '-WRONGTYPE Operation\r\n'],
]

test('every value in RESP2 and RESP3', () => {
  for (const [value, resp2, resp3] of replies) {
    assert.is(two(value), resp2)
    assert.is(three(value), resp3)
  }
})

test('bytes stay bytes, small and large, alone and within a list', () => {
  for (const size of [0, 3, 600, 5_000]) {
    const bytes = Buffer.alloc(size, 0xff)
    assert.is(two(bytes), `$${size}\r\n${bytes.toString('latin1')}\r\n`)
    assert.is(three([bytes, 'x']), `*2\r\n$${size}\r\n${bytes.toString('latin1')}\r\n$1\r\nx\r\n`)
  }
})

test('a status or an error is one line, whoever wrote its words', () => {
  assert.is(two(simple('a\r\n+b')), '+a  +b\r\n')
  assert.is(two(new Error('a\r\n$1\r\nx')), '-ERR a  $1  x\r\n')
  const status = simple('SAME')
  assert.is(two(status) + two(status), '+SAME\r\n+SAME\r\n')
  const thawed = { ...simple('ONE') }
  assert.is(two(thawed), '+ONE\r\n')
  Object.assign(thawed, { value: 'TWO' })
  assert.is(two(thawed), '+TWO\r\n')
})

test('what RESP has no form for is the handler`s fault, and says so', () => {
  const ring: unknown[] = []
  ring.push(ring)
  for (const bad of [() => {}, Symbol('x'), new Date(), ring, [[() => {}]]])
    assert.throws(() => two(bad), fails('HANDLER_FAILED', /protocol resp/))
})

test('the version changes with the greeting, for this connection alone', () => {
  const context = (): CodecContext => ({
    connection: {} as never,
    kind: 'stream',
    limits: defaultLimits,
    limit: 0,
    state: undefined,
  })
  const [one, other] = [context(), context()]
  assert.is(codec.encode(null, one), '$-1\r\n')
  const greeting = { 'gaidaros.resp': 'hello', version: 3, facts: { proto: 3 } }
  assert.is(codec.encode(greeting, one), '%1\r\n$5\r\nproto\r\n:3\r\n')
  assert.is(codec.encode(null, one), '_\r\n')
  assert.is(codec.encode(null, other), '$-1\r\n')
})

test('errors in the protocol`s words, secrets kept', () => {
  const reply = (error: Error) => two(protocol.errorReply?.(error, {} as never))
  const failed = (cause: Error) => new HandlerError('HANDLER_FAILED', `it failed: ${cause.message}`, { cause })
  assert.is(reply(new UnroutedMessageError('UNROUTED', 'no', { route: 'X\r\nY' })), "-ERR unknown command 'X  Y'\r\n")
  assert.is(reply(failed(new Error('secret'))), '-ERR internal error (HANDLER_FAILED)\r\n')
  assert.is(reply(failed(new RespError('told'))), '-ERR told\r\n')
  assert.is(reply(new ExecutorError('OVERLOADED', 'x')), '-ERR internal error (OVERLOADED)\r\n')
  assert.match(reply(new FrameError('MALFORMED', 'expected x, got y')), '-ERR Protocol error: expected x, got y\r\n')
  assert.is(protocol.survives?.(failed(new Error('x'))), true)
  assert.is(protocol.survives?.(new UnroutedMessageError('UNROUTED', 'no')), true)
  assert.is(protocol.survives?.(new FrameError('MALFORMED', 'x')), false)
})

const decode = (reply: string) => client.decode(Buffer.from(reply), stream)

test('a client reads every value', () => {
  assert.is(decode('+OK\r\n'), 'OK')
  assert.is(decode('$2\r\nhi\r\n'), 'hi')
  assert.is(decode('$-1\r\n'), null)
  assert.is(decode('*-1\r\n'), null)
  assert.is(decode('_\r\n'), null)
  assert.is(decode(':-7\r\n'), -7)
  assert.is(decode(':9223372036854775807\r\n'), 9223372036854775807n)
  assert.is(decode('(18446744073709551616\r\n'), 2n ** 64n)
  assert.is(decode(',1e3\r\n'), 1000)
  assert.is(decode(',-inf\r\n'), Number.NEGATIVE_INFINITY)
  assert.ok(Number.isNaN(decode(',nan\r\n')))
  assert.is(decode('#t\r\n'), true)
  assert.is(decode('=6\r\ntxt:hi\r\n'), 'hi')
  assert.equal(decode('*2\r\n:1\r\n*0\r\n'), [1, []])
  assert.equal(decode('%1\r\n+a\r\n:1\r\n'), new Map([['a', 1]]))
  assert.equal(decode('~2\r\n:1\r\n:1\r\n'), new Set([1]))
  assert.equal(decode('|1\r\n+ttl\r\n:9\r\n*1\r\n:1\r\n'), [1])
  const error = decode('-WRONGTYPE no\r\n') as RespError
  assert.ok(error instanceof RespError)
  assert.equal([error.code, error.message], ['WRONGTYPE', 'no'])
  assert.is((decode('!5\r\nERR x\r\n') as RespError).message, 'x')
  const pushed = decode('>2\r\n+message\r\n+x\r\n')
  assert.ok(isPush(pushed))
  assert.is(client.correlate?.(pushed), 'push')
  assert.is(client.correlate?.(['GET', 'push']), undefined)
})

test('a client refuses what is no reply', () => {
  for (const bad of [
    '?1\r\n',
    ':x\r\n',
    ':9223372036854775808\r\n',
    '#x\r\n',
    ',1.2.3\r\n',
    '(1x\r\n',
    '_x\r\n',
    '=2\r\nab\r\n',
    '+a',
    '*2\r\n:1\r\n',
    '%-1\r\n',
    `${'*1\r\n'.repeat(66)}:1\r\n`,
  ])
    assert.throws(() => decode(bad), fails('MALFORMED'))
  const framer = client.framer as NonNullable<typeof client.framer>
  const read = (reply: string, limit = 100) =>
    drive(framer.open(limitsOf(limit)), Buffer.from(reply), [], Buffer.from('?')).error
  assert.is(read(`${'*1\r\n'.repeat(65)}:1\r\n`, 1_000), 'MALFORMED')
  assert.is(read(`${'*1\r\n'.repeat(64)}:1\r\n`, 1_000), undefined)
  assert.is(read('%-1\r\n'), 'MALFORMED')
  assert.is(read('*34\r\n'), 'TOO_LARGE')
  assert.is(read('%999999999999999\r\n'), 'TOO_LARGE')
  assert.is(read('$101\r\n'), 'TOO_LARGE')
  assert.is(read(`+${'x'.repeat(101)}`), 'TOO_LARGE')
  assert.is(read('$?\r\n'), 'MALFORMED')
  assert.is(read('+a\nb\r\n'), 'MALFORMED')
})

test('a client writes requests, and nothing that is none', () => {
  const write = (request: unknown) => text(client.encode(request, stream) as never)
  assert.is(
    write(['SET', 'k', 1, 2n, Buffer.from('x')]),
    '*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\nx\r\n',
  )
  assert.is(write('PING'), '*1\r\n$4\r\nPING\r\n')
  assert.is(write({ command: 'GET', args: ['a b'] }), '*2\r\n$3\r\nGET\r\n$3\r\na b\r\n')
  for (const bad of [[], null, 7, {}, [{}], ['GET', undefined]])
    assert.throws(() => write(bad), fails('HANDLER_FAILED'))
})

test.run()
