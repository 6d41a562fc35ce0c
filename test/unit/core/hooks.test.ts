import { Script } from 'node:vm'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Connection } from '#src/core/connection.js'
import { evalHandler, type HookedHandler, hooksHandler, scriptHandler } from '#src/core/hooks.js'

const module = {
  Shout: class {
    constructor(readonly mark: string) {}
    shout(request: string) {
      return request.toUpperCase() + this.mark
    }
    both() {
      return 'from the class'
    }
  },
  both: () => 'from the module',
  trim: (bytes: Buffer) => bytes.toString().trim(),
}
const load = async () => module
const hooks = (options: object) => hooksHandler({ module: './m.js', ...options }, { load })
const refusal = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'nothing was refused',
    (error) => error.message,
  )

/** Frames, then handles what a peer sent; what went out, and whether the connection was closed. */
async function talk({ codec, definition }: HookedHandler, text: string, frameBytes = 1_000) {
  const sent: unknown[] = []
  let isClosed = false
  const connection = {
    send: (message: unknown) => sent.push(codec.encode(message as never, {} as never)),
    close: () => {
      isClosed = true
    },
  } as unknown as Connection
  const reader = codec.framer?.open({ frameBytes, lineBytes: frameBytes })
  const buffer = Buffer.from(text)
  let at = 0
  for (;;) {
    const after = reader?.next(buffer, at, buffer.length) ?? -1
    if (after < 0) break
    at = after
    const request = codec.decode(buffer.subarray(reader?.start, reader?.end), {} as never)
    const method = definition.messages[0]?.method as (request: unknown, connection: Connection) => unknown
    const reply = await method(request, connection)
    if (reply !== undefined) sent.push(codec.encode(reply as never, {} as never))
    if (isClosed) break
  }
  return { sent: sent.join(''), isClosed, rest: buffer.length - at }
}

test('left out, hooks are lines, text and echo: one reply, then closed', async () => {
  assert.equal(await talk(await hooks({}), 'one\r\ntwo\n'), { sent: 'one\n', isClosed: true, rest: 4 })
})

test('a name is looked up on the class’s instance, then on the module', async () => {
  const options = { class: 'Shout', args: ['!'], decodeRequest: 'trim', handleRequest: 'shout' }
  assert.is((await talk(await hooks(options), ' hi \n')).sent, 'HI!\n')
  assert.is(
    (await talk(await hooks({ class: 'Shout', args: [''], handleRequest: 'both' }), 'x\n')).sent,
    'from the class\n',
  )
  assert.is((await talk(await hooks({ handleRequest: 'both' }), 'x\n')).sent, 'from the module\n')
})

test('[reply, true] keeps the connection; a promise may be waited for', async () => {
  const handleRequest = async (request: string) => [request, request !== 'bye']
  assert.equal(await talk(await hooks({ handleRequest }), 'a\nb\nbye\nc\n'), {
    sent: 'a\nb\nbye\n',
    isClosed: true,
    rest: 2,
  })
})

test('a script is a function, or is run with `input`', async () => {
  assert.is((await talk(await hooks({ handleRequest: new Script('(r) => r + r') }), 'a\n')).sent, 'aa\n')
  assert.is((await talk(await hooks({ handleRequest: new Script('input + input') }), 'a\n')).sent, 'aa\n')
  assert.is((await talk(await hooks({ handleRequest: new Script('request + request') }), 'a\n')).sent, 'aa\n')
  assert.is((await talk(await hooks({ encodeResponse: new Script('`<${reply}>`') }), 'a\n')).sent, '<a>')
  const method = scriptHandler(new Script('input.length')).messages[0]?.method as (message: unknown) => unknown
  assert.is(method('four'), 4)
})

test('endRequest and splitRequest find requests', async () => {
  const splitRequest = (buffer: Buffer) => (buffer.length < 3 ? undefined : [buffer.subarray(0, 3), buffer.subarray(3)])
  const handleRequest = (request: string) => [`<${request}>`, true]
  assert.equal(await talk(await hooks({ splitRequest, handleRequest }), 'abcdefgh'), {
    sent: '<abc><def>',
    isClosed: false,
    rest: 2,
  })
  const endRequest = (buffer: Buffer) => buffer.at(-1) === 46
  assert.is((await talk(await hooks({ endRequest, handleRequest }), 'all of it.')).sent, '<all of it.>')
  assert.is((await talk(await hooks({ endRequest, handleRequest }), 'not yet')).sent, '')
})

for (const [what, options, text] of [
  ['a framing hook that throws', { endRequest: () => assert.unreachable('boom') }, 'x'],
  ['a split that takes nothing', { splitRequest: (b: Buffer) => [Buffer.alloc(0), b] }, 'x'],
  ['a split that is no pair', { splitRequest: () => 'x' }, 'x'],
  ['a split that invents bytes', { splitRequest: () => ['zz', ''] }, 'x'],
  ['a decoding hook that takes its time', { decodeRequest: async () => 1 }, 'x\n'],
] as const) {
  test(`${what} makes the request MALFORMED`, async () => {
    const failure = await talk(await hooks(options), text).catch((error) => error)
    assert.is(failure.code, 'MALFORMED')
  })
}

test('hooks are never asked about more than a frame may have', async () => {
  let most = 0
  const endRequest = (buffer: Buffer) => {
    most = Math.max(most, buffer.length)
    return false
  }
  const { codec } = await hooks({ endRequest })
  const reader = codec.framer?.open({ frameBytes: 100, lineBytes: 100 })
  const buffer = Buffer.alloc(1_000, 'x')
  assert.throws(() => {
    for (let end = 10; end <= 1_000; end += 10) reader?.next(buffer, 0, end)
  }, /over frameBytes \(100\)/)
  assert.ok(most <= 110)
})

test('names that lead nowhere are told with the nearest', async () => {
  assert.match(await refusal(hooks({ class: 'Shot' })), /exports no class `Shot`; nearest: `Shout`/)
  assert.match(
    await refusal(hooks({ class: 'Shout', args: [], handleRequest: 'shoot' })),
    /hooks\.handleRequest: no function `shoot` in class Shout or module .*nearest: `shout`/,
  )
  assert.match(await refusal(hooksHandler({ handleRequest: 'x' }, { load })), /hooks\.module is not set/)
})

test('--eval takes a function or a definition, and shows the compiler’s words', () => {
  const method = evalHandler('line => line.length').messages[0]?.method as (line: string) => unknown
  assert.is(method('four'), 4)
  assert.throws(() => evalHandler('line =>'), /--eval: SyntaxError/)
  assert.throws(() => evalHandler('42'), /expected a function.*got number/)
})

test.run()
