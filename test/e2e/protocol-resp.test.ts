// time limit: 90 s
/** RESP, by redis-cli, redis-benchmark and our own client. */
import { connect, defineHandler } from 'gaidaros'
import { push, RespError, simple } from 'gaidaros/plugins/resp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Peer, serve, stopAll } from '../support/faults.js'
import { endPrograms, run, withTool } from '../support/programs.js'

test.after(async () => {
  await stopAll()
  endPrograms()
})

withTool('redis-cli', 'resp: redis-cli and redis-benchmark, RESP2 and RESP3', async () => {
  const map = new Map<string, string>()
  const handler = defineHandler({
    name: 'Store',
    routes: {
      GET: ({ args: [key = ''] }: { args: string[] }) => map.get(key) ?? null,
      SET: ({ args: [key = '', value = ''] }: { args: string[] }) => (map.set(key, value), 'OK'),
      KEYS: () => [...map.keys()],
      ALL: () => map,
    },
  })
  const { port } = await serve({ handler, protocol: 'resp' })
  const cli = async (...args: string[]) =>
    (await run('redis-cli', ['-p', String(port), '--no-raw', ...args])).output.trim()
  assert.is(await cli('PING'), 'PONG')
  assert.is(await cli('SET', 'a', 'ü b'), '"OK"')
  assert.is(await cli('GET', 'nothing'), '(nil)')
  assert.match(await cli('KEYS', '*'), /1\) "a"/)
  assert.match(await cli('-3', 'ALL'), /1# "a" => /)
  assert.match(await cli('NONSENSE'), /\(error\) ERR unknown command 'NONSENSE'/)
  const bench = await run('redis-benchmark', ['-p', String(port), '-n', '2000', '-P', '16', '-t', 'set,get', '-q'])
  assert.is(bench.status, 0, bench.output)
  assert.match(bench.output, /GET: [\d.]+ requests per second/)
})

test('our own client: pipelined, RESP3 by HELLO, pushes, errors as values', async () => {
  const handler = defineHandler({
    name: 'Store',
    routes: {
      GET: ({ args: [key] }: { args: string[] }) => (key === 'none' ? null : { key }),
      SET: () => simple('OK'),
      FAIL: () => {
        throw new RespError('not now', 'BUSY')
      },
      SUBSCRIBE: ({ args }: { args: string[] }, connection) => {
        void connection.send(push(['message', args[0], 'hello']))
        return simple('OK')
      },
    },
  })
  const { server } = await serve({ handler, protocol: 'resp' })
  const client = await connect([...server.listeners][0]?.endpoint as never, { protocol: 'resp' })
  const ask = (...words: unknown[]) => client.request<never>(words)
  const [two, hello, three, none, failed, bad, ok] = await Promise.all([
    ask('GET', 'a'),
    ask('HELLO', 3),
    ask('GET', 'a'),
    ask('GET', 'none'),
    ask('FAIL'),
    ask('NOTHING'),
    ask('SUBSCRIBE', 'news'),
  ])
  assert.equal(two, ['key', 'a'])
  assert.is((hello as Map<string, unknown>).get('proto'), 3)
  assert.equal(three, new Map([['key', 'a']]))
  assert.is(none, null)
  assert.equal([(failed as RespError).code, (failed as RespError).message], ['BUSY', 'not now'])
  assert.match((bad as RespError).message, /unknown command 'NOTHING'/)
  assert.is(ok, 'OK')
  for await (const { items } of client.messages<{ items: unknown[] }>()) {
    assert.equal(items, ['message', 'news', 'hello'])
    break
  }
  await client.close()
})

test('what breaks the grammar is answered, then the end with its reason', async () => {
  const { port, until } = await serve({
    handler: defineHandler({ name: 'None', routes: { GET: () => null } }),
    protocol: 'resp',
  })
  for (const [sent, words, code] of [
    ['*1\r\n$-1\r\n', '-ERR Protocol error: ', 'MALFORMED'],
    ['*2147483648\r\n', '-ERR Protocol error: ', 'TOO_LARGE'],
    ['*1\r\n$2147483648\r\n', '-ERR Protocol error: ', 'TOO_LARGE'],
    ['GET "a\r\n', '-ERR Protocol error: ', 'MALFORMED'],
    [`${'x'.repeat(70_000)}`, '-ERR Protocol error: inline commands of at most 65536', 'TOO_LARGE'],
  ] as const) {
    const peer = await Peer.open(port)
    await peer.send(sent).hears(words)
    await peer.over
    assert.is((await until('connection.closed')).reason.code, code, sent.slice(0, 30))
    peer.leave()
  }
  const peer = await Peer.open(port)
  await peer.send('*-1\r\n*0\r\n\r\nping\r\n').hears('+PONG\r\n')
  peer.leave()
})

test.run()
