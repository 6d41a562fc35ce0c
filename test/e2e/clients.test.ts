// time limit: 90 s
/** The client's side: late replies, aborted requests, greetings, keys (F118). */
import { connect, defineHandler, GaidarosError } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, serve, stopAll } from '../support/faults.js'

test.after(stopAll)

const code = (promise: Promise<unknown>) =>
  promise.then(
    () => 'answered',
    (error) => (error instanceof GaidarosError ? error.code : String(error)),
  )

test('F118 two hundred late replies, then a fast one: it is answered, and nothing late is heard of again', async () => {
  let handled = 0
  let release = () => {}
  const gate = new Promise<void>((resolve) => {
    release = resolve
  })
  const { port } = await serve({
    protocol: 'json-rpc',
    limits: { inFlight: 500 },
    handler: defineHandler({
      name: 'Slow',
      routes: {
        slow: async () => {
          handled++
          await gate
          return 'late'
        },
        fast: () => 'soon',
      },
    }),
  })
  const client = await connect(`tcp://127.0.0.1:${port}`, { protocol: 'json-rpc' })
  const asked = Array.from({ length: 200 }, (_, id) =>
    code(client.request({ jsonrpc: '2.0', method: 'slow', params: [], id }, { timeoutMs: 50 })),
  )
  assert.equal(new Set(await Promise.all(asked)), new Set(['TIMEOUT']))
  await eventually(() => handled === 200, 'all of them have arrived')
  release()
  const fast = await client.request<{ result: string }>({ jsonrpc: '2.0', method: 'fast', params: [], id: 1_000 })
  assert.is(fast.result, 'soon')
  await client.close()
  for await (const message of client.messages()) assert.unreachable(`an unasked message: ${JSON.stringify(message)}`)
})

test('F118 in order: a late reply goes to nobody, the next request gets its own', async () => {
  const { port } = await serve({
    handler: async (line: string) => {
      if (line === 'slow') await new Promise((resolve) => setTimeout(resolve, 100))
      return `re ${line}`
    },
  })
  const client = await connect(`tcp://127.0.0.1:${port}`)
  assert.is(await code(client.request('slow', { timeoutMs: 10 })), 'TIMEOUT')
  assert.is(await client.request('next'), 're next')
  await client.close()
})

test('F118 a request that was aborted before it was made is not sent', async () => {
  const heard: string[] = []
  const { port } = await serve({
    handler: (line: string) => {
      heard.push(line)
      return line
    },
  })
  const client = await connect(`tcp://127.0.0.1:${port}`)
  assert.match(await code(client.request('never', { signal: AbortSignal.abort() })), /AbortError/)
  assert.is(await client.request('x'), 'x')
  assert.equal(heard, ['x'])
  await client.close()
})

test('F118 a greeting is never a reply', async () => {
  const { port } = await serve({
    handler: defineHandler({ name: 'Greets', open: () => 'who are you?', message: (line: string) => `hello ${line}` }),
  })
  const client = await connect(`tcp://127.0.0.1:${port}`, { greeting: true })
  // Asked before the greeting has come.
  const first = client.request('Ada')
  assert.is(await client.next(), 'who are you?')
  assert.is(await first, 'hello Ada')
  assert.is(await client.request('Bob'), 'hello Bob')
  await client.close()
  assert.is(await client.next(), undefined)
})

test('F118 unknown keys of connect are refused with the nearest', async () => {
  const refused = (options: object) =>
    connect('tcp://127.0.0.1:9', options).then(
      () => 'connected',
      (error) => `${error.code} ${error.message}`,
    )
  assert.match(await refused({ protocl: 'resp' }), /UNKNOWN_KEY connect: unknown key `protocl`; nearest: `protocol`/)
  assert.match(await refused({ reconnect: true }), /UNKNOWN_KEY connect: unknown key `reconnect`; known: codec/)
  assert.match(await refused({ limits: { frameByte: 1 } }), /unknown key `frameByte` in limits; nearest: `frameBytes`/)
})

test.run()
