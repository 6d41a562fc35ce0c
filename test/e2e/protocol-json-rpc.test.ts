// time limit: 90 s
/** JSON-RPC 2.0: the specification's examples, both directions, what a peer may not do. */
import { connect, defineHandler } from 'gaidaros'
import { RpcError, rpc, rpcClient } from 'gaidaros/plugins/json-rpc'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Peer, serve, stopAll } from '../support/faults.js'
import { endPrograms } from '../support/programs.js'

test.after(async () => {
  await stopAll()
  endPrograms()
})

const calculator = defineHandler({
  name: 'Calculator',
  routes: {
    add: ([a, b]: number[]) => (a as number) + (b as number),
    later: async (params: unknown) => params,
    refuse: () => {
      throw new RpcError(7, 'not today', { until: 'tomorrow' })
    },
    fail: () => {
      throw new Error('a secret of ours')
    },
    back: async (_: unknown, connection) => [
      await rpc(connection).call('name'),
      await rpc(connection)
        .call('missing')
        .catch((error) => error.code),
    ],
  },
})

for (const framing of ['lines', 'headers'] as const) {
  test(`json-rpc over ${framing}: the examples of the specification`, async () => {
    const { port, count } = await serve({ handler: calculator, protocol: { name: 'json-rpc', framing } })
    const peer = await Peer.open(port)
    const asks = async (sent: string, answer: unknown) => {
      peer.heard = ''
      peer.send(framing === 'lines' ? `${sent}\n` : `Content-Length: ${sent.length}\r\n\r\n${sent}`)
      if (answer === undefined) return
      await peer.hears(JSON.stringify(answer))
    }
    const error = (id: unknown, code: number, message: string, data?: unknown) => ({
      jsonrpc: '2.0',
      id,
      error: { code, message, ...(data ? { data } : {}) },
    })
    await asks('{"jsonrpc":"2.0","method":"add","params":[1,2],"id":1}', { jsonrpc: '2.0', id: 1, result: 3 })
    await asks('{"jsonrpc":"2.0","method":"add","params":[1,2]}', undefined)
    await asks('{"jsonrpc":"2.0","method":"nothing","id":"x"}', error('x', -32601, 'Method not found'))
    await asks('{"jsonrpc":"2.0","method":"refuse","id":2}', error(2, 7, 'not today', { until: 'tomorrow' }))
    await asks('{"jsonrpc":"2.0","method":"fail","id":3}', error(3, -32603, 'Internal error'))
    await asks('{"jsonrpc":"2.0","method":"foobar,"params":"bar","baz]', error(null, -32700, 'Parse error'))
    await asks('{"jsonrpc":"2.0","method":1}', error(null, -32600, 'Invalid Request'))
    await asks('[]', error(null, -32600, 'Invalid Request: an empty batch'))
    await asks('[1]', [error(null, -32600, 'Invalid Request')])
    await asks(
      '[{"jsonrpc":"2.0","method":"later","params":{"a":1},"id":1},{"jsonrpc":"2.0","method":"add","params":[1,2]},{"jsonrpc":"2.0","method":"fail","id":2},{"foo":1}]',
      [
        { jsonrpc: '2.0', id: 1, result: { a: 1 } },
        error(2, -32603, 'Internal error'),
        error(null, -32600, 'Invalid Request'),
      ],
    )
    assert.not.match(peer.heard, /secret/)
    assert.is(count('connection.closed'), 0)
    peer.leave()
  })
}

test('json-rpc: both directions on one connection', async () => {
  const { server } = await serve({ handler: calculator, protocol: 'json-rpc' })
  const client = await connect([...server.listeners][0]?.endpoint as never, { protocol: 'json-rpc' })
  const peer = rpcClient(client, { name: () => 'ada' })
  assert.is(await peer.call('add', [2, 3]), 5)
  assert.equal(await peer.call('back'), ['ada', -32601])
  const waiting = peer.call('later', {}).catch((error) => error.code)
  void client.abort()
  assert.is(await waiting, 'CLOSED')
})

test('deep, polluting and ill-encoded requests are parse errors, and the connection goes on', async () => {
  const { port, count } = await serve({ handler: calculator, protocol: 'json-rpc' })
  const peer = await Peer.open(port)
  const call = (params: string) => `{"jsonrpc":"2.0","method":"later","params":${params},"id":1}\n`
  for (const bad of [
    call(`${'['.repeat(200_000)}${']'.repeat(200_000)}`),
    call('{"__proto__":{"polluted":1}}'),
    call('{"\\u005f_proto__":{"polluted":1}}'),
    call('[{"constructor":{"prototype":{"polluted":1}}}]'),
    Buffer.from(call('["\xff"]'), 'latin1'),
    'null\n',
    '\u2028\n',
  ]) {
    peer.heard = ''
    await peer.send(bad).hears('"id":null,"error":{"code":-32700')
  }
  assert.is(({} as { polluted?: unknown }).polluted, undefined)
  peer.heard = ''
  await peer.send(call('{"constructor":"a word","x":"__proto__"}')).hears('"result":{"constructor":"a word"')
  assert.is(count('connection.closed'), 0)
  peer.leave()
})

test('a peer may answer our calls as it likes, and call us by a number of our own', async () => {
  let answer: unknown
  const handler = defineHandler({
    name: 'Caller',
    routes: {
      go: async (_: unknown, connection) => {
        answer = await rpc(connection)
          .call('name')
          .catch((error) => [error instanceof RpcError, error.code])
        return 'done'
      },
    },
  })
  const { port, server } = await serve({ handler, protocol: 'json-rpc' })
  const peer = await Peer.open(port)
  await peer.send('{"jsonrpc":"2.0","method":"go","id":1}\n').hears('"method":"name"')
  await peer.send('{"jsonrpc":"2.0","id":1,"error":null}\n').hears('"result":"done"')
  assert.equal(answer, [true, -32603])
  await peer
    .send('{"jsonrpc":"2.0","id":99,"result":1}\n{"jsonrpc":"2.0","method":"go","id":2}\n')
    .hears('"method":"name","id":2')
  peer.leave()
  // The server's call 1 comes before the answer to our request 1.
  const client = await connect([...server.listeners][0]?.endpoint as never, { protocol: 'json-rpc' })
  const reply = client.request<{ result: unknown }>({ jsonrpc: '2.0', method: 'go', id: 1 })
  for await (const call of client.messages<{ id: number; method: string }>()) {
    assert.is(call.method, 'name')
    await client.send({ jsonrpc: '2.0', id: call.id, result: 'ada' })
    break
  }
  assert.is((await reply).result, 'done')
  assert.is(answer, 'ada')
  await client.close()
})

test('headers that are none are answered, then the end', async () => {
  const { port, until } = await serve({ handler: calculator, protocol: { name: 'json-rpc', framing: 'headers' } })
  for (const [sent, code] of [
    ['Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}', 'MALFORMED'],
    ['Content-Length: -1\r\n\r\n', 'MALFORMED'],
    ['Content-Length: 99999999\r\n\r\n', 'TOO_LARGE'],
    ['x'.repeat(5_000), 'MALFORMED'],
  ] as const) {
    const peer = await Peer.open(port)
    await peer.send(sent).hears('-32700')
    await peer.over
    assert.is((await until('connection.closed')).reason.code, code, sent.slice(0, 40))
    peer.leave()
  }
})

test.run()
