// time limit: 180 s
/** The examples of the protocols, each asked by the client that its head names. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Command, gaidaros, killAll, root } from '../support/command.js'
import { eventually, Peer } from '../support/faults.js'
import { begin, endPrograms, run, withTool } from '../support/programs.js'

const folder = mkdtempSync(join(tmpdir(), 'gx-'))
test.after(() => {
  killAll()
  endPrograms()
  rmSync(folder, { recursive: true, force: true })
})

/** Starts an example on a free port, lets a client at it, and stops it. */
function example(
  tool: string,
  name: string,
  body: (port: string, command: Command) => Promise<void>,
  listen = ['tcp://127.0.0.1:0'],
) {
  withTool(tool, `examples/${name}, by ${tool}`, async () => {
    const given = listen.flatMap((endpoint) => ['--listen', endpoint])
    const command = gaidaros(['serve', '--config', join(root, 'examples', name), ...given], { cwd: folder })
    const ports = await command.ready()
    await body(String(Object.values(ports)[0]), command)
    command.child.kill('SIGTERM')
    assert.is(await command.ended, 0, command.stderr)
  })
}
const udp = ['udp://127.0.0.1:0']

example('redis-cli', '11-stores/redis.ts', async (port) => {
  const cli = async (...words: string[]) => (await run('redis-cli', ['-p', port, '--no-raw', ...words])).output.trim()
  assert.is(await cli('SET', 'name', 'Ada'), 'OK')
  assert.is(await cli('GET', 'name'), '"Ada"')
  assert.is(await cli('INCR', 'n'), '(integer) 1')
  assert.match(await cli('SET', 'name'), /wrong number of arguments/)
  assert.is(await cli('DEL', 'name', 'n', 'x'), '(integer) 2')
  const bench = await run('redis-benchmark', ['-p', port, '-t', 'set,get', '-n', '2000', '-P', '16', '-q'])
  assert.match(bench.output, /GET: [\d.]+ requests per second/)
})

example('memccat', '11-stores/memcached.ts', async (port) => {
  const servers = `--servers=127.0.0.1:${port}`
  writeFileSync(join(folder, 'note'), 'hello\n')
  assert.is((await run('memccp', [servers, join(folder, 'note')])).status, 0)
  assert.match((await run('memccat', [servers, 'note'])).output, /^hello\n/)
  assert.match((await run('memcstat', [servers])).output, /curr_items: 1/)
})

example('mosquitto_pub', '12-mqtt/topics.ts', async (port) => {
  const at = ['-h', '127.0.0.1', '-p', port]
  for (const qos of ['0', '1', '2'])
    assert.is((await run('mosquitto_pub', [...at, '-t', 'sensors/kitchen', '-q', qos, '-m', '81'])).status, 0)
  // The alarm is kept for those who come later.
  const { output } = await run('mosquitto_sub', [...at, '-t', 'alarms/#', '-v', '-C', '1', '-W', '10'])
  assert.is(output, 'alarms/kitchen too warm: 81\n')
})

example('mosquitto_sub', '12-mqtt/broker.ts', async (port) => {
  const at = ['-h', '127.0.0.1', '-p', port]
  const reader = [...at, '-t', 'news/#', '-i', 'reader', '-c', '-q', '2', '-W', '10']
  assert.is((await run('mosquitto_sub', [...reader, '-E'])).status, 0)
  // A session that outlives its connection: what came meanwhile is there.
  for (const qos of ['1', '2']) await run('mosquitto_pub', [...at, '-t', 'news/today', '-q', qos, '-m', `qos ${qos}`])
  const { output } = await run('mosquitto_sub', [...reader, '-v', '-C', '2'])
  assert.is(output, 'news/today qos 1\nnews/today qos 2\n')
})

example('stomp', '13-stomp.ts', async (port) => {
  const at = ['-H', '127.0.0.1', '-P', port]
  const listener = begin('stomp', [...at, '-L', '/topic/news'])
  await eventually(() => /Subscribing/i.test(listener.output), 'subscribed')
  writeFileSync(join(folder, 'commands'), 'send /topic/news good morning\nquit\n')
  await eventually(() => listener.output.includes('news'), 'begun')
  await run('stomp', [...at, '-F', join(folder, 'commands')])
  await eventually(() => /\d: good morning/.test(listener.output), `heard: ${listener.output}`)
  listener.child.kill('SIGTERM')
  await listener.over
})

example(
  'dig',
  '14-dns.ts',
  async (port) => {
    const dig = async (...words: string[]) =>
      (await run('dig', ['@127.0.0.1', '-p', port, '+tries=1', '+time=5', ...words])).output
    assert.is((await dig('www.home.test', '+short')).trim(), '192.0.2.7')
    assert.match(await dig('nobody.home.test'), /NXDOMAIN/)
    assert.match(await dig('elsewhere.test'), /REFUSED/)
    assert.match(await dig('big.home.test', 'TXT', '+ignore'), /flags:[^;]* tc/)
  },
  udp,
)
example('dig', '14-dns.ts', async (port) => {
  const { output } = await run('dig', ['@127.0.0.1', '-p', port, '+tcp', '+time=5', 'big.home.test', 'TXT'])
  assert.match(output, /MSG SIZE {2}rcvd: 4\d\d\d/)
})

example(
  'curl',
  '15-http/fastify.ts',
  async (port) => {
    assert.is((await run('curl', ['-sS', `127.0.0.1:${port}/hello/Ada`])).output, '{"hello":"Ada"}')
    const local = ['--unix-socket', join(folder, 'web.sock'), 'http://x/hello/Bob']
    assert.is((await run('curl', ['-sS', ...local])).output, '{"hello":"Bob"}')
  },
  ['tcp://127.0.0.1:0', `unix:${join(folder, 'web.sock')}`],
)
example('ab', '15-http/fastify.ts', async (port) => {
  const { output } = await run('ab', ['-q', '-k', '-n', '1000', '-c', '20', `http://127.0.0.1:${port}/hello/Ada`])
  assert.match(output, /Failed requests:\s+0/)
})

example('curl', '15-http/pages.ts', async (port) => {
  const url = `127.0.0.1:${port}/guests`
  assert.is((await run('curl', ['-sS', url])).output, '[]')
  assert.is((await run('curl', ['-sS', '-d', '{"name":"Ada"}', url])).output, '{"guests":1}')
  assert.is((await run('curl', ['-sS', url])).output, '["Ada"]')
})

example('swaks', '16-mail.ts', async (port, command) => {
  const at = ['--server', '127.0.0.1', '--port', port, '--from', 'bob@x.test']
  const sent = await run('swaks', [...at, '--tls', '--to', 'ada@home.test', '--body', 'good morning'])
  assert.match(sent.output, /250 2\.0\.0 kept as 1/)
  await command.shows('over TLS')
  assert.match((await run('swaks', [...at, '--to', 'nobody@home.test'])).output, /550 no such mailbox/)
})

example('curl', '17-socks5.ts', async (port) => {
  const pages = gaidaros([
    'serve',
    '--config',
    join(root, 'examples/15-http/pages.ts'),
    '--listen',
    'tcp://127.0.0.1:0',
  ])
  const { default: target } = await pages.ready()
  const curl = async (proxy: string) =>
    (await run('curl', ['-sS', '-m', '5', '--socks5', proxy, `http://127.0.0.1:${target}/guests`])).output
  assert.is(await curl(`ada:secret@127.0.0.1:${port}`), '[]')
  assert.match(await curl(`127.0.0.1:${port}`), /No authentication method/)
  pages.child.kill('SIGTERM')
  await pages.ended
})

example('logger', '18-syslog.ts', async (port, command) => {
  const at = ['-n', '127.0.0.1', '-P', port, '-T', '-t', 'gate']
  await run('logger', [...at, '--octet-count', '-p', 'local3.info', 'all is well'])
  await command.shows('info gate: all is well')
  await run('logger', [...at, '--rfc3164', '-p', 'local3.err', 'the door is open'])
  await command.shows(/ALARM \S+: the door is open/)
})
example(
  'logger',
  '18-syslog.ts',
  async (port, command) => {
    await run('logger', ['-n', '127.0.0.1', '-P', port, '-d', '-p', 'local3.err', 'over datagrams'])
    await command.shows(/ALARM \S+: over datagrams/)
  },
  udp,
)

example(
  'coap-client-notls',
  '19-coap.ts',
  async (port) => {
    const url = `coap://127.0.0.1:${port}/sensors/kitchen`
    await run('coap-client-notls', ['-m', 'put', '-e', '21', url])
    assert.is((await run('coap-client-notls', ['-B', '5', url])).output.trim(), '21')
    const observer = begin('coap-client-notls', ['-s', '15', '-w', url])
    await eventually(() => observer.output === '21\n', `the first: ${observer.output}`)
    await run('coap-client-notls', ['-m', 'put', '-e', '22', url])
    await eventually(() => observer.output === '21\n22\n', `the change: ${observer.output}`)
    await run('coap-client-notls', ['-m', 'delete', url])
    await eventually(() => /4\.04/.test(observer.output), `the end: ${observer.output}`)
    observer.child.kill('SIGTERM')
    await observer.over
    assert.match((await run('coap-client-notls', ['-B', '5', url])).output, /4\.04/)
  },
  udp,
)

example('ncat', '28-json-rpc.ts', async (port) => {
  const ncat = begin('ncat', ['127.0.0.1', port])
  const say = (message: unknown) => ncat.child.stdin?.write(`${JSON.stringify(message)}\n`)
  const heard = () =>
    ncat.output
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line))
  const hears = (count: number) => eventually(() => heard().length === count, `${count} messages: ${ncat.output}`)
  const jsonrpc = '2.0'
  say({ jsonrpc, id: 1, method: 'add', params: [2, 3] })
  await hears(1)
  say([
    { jsonrpc, method: 'post', params: ['tea is ready'] },
    { jsonrpc, id: 2, method: 'list' },
    { jsonrpc, id: 3, method: 'nobody' },
  ])
  await hears(2)
  say({ jsonrpc, method: 'post', params: ['it is cold'] })
  say({ jsonrpc, id: 4, method: 'sign' })
  await hears(3)
  const { id, method } = heard()[2]
  assert.is(method, 'name')
  say({ jsonrpc, id, result: 'Ada' })
  await hears(4)
  say({ jsonrpc, id: 5, method: 'list' })
  await hears(5)
  assert.equal(heard(), [
    { jsonrpc, id: 1, result: 5 },
    [
      { jsonrpc, id: 2, result: ['tea is ready'] },
      { jsonrpc, id: 3, error: { code: -32_601, message: 'Method not found' } },
    ],
    { jsonrpc, method: 'name', id },
    { jsonrpc, id: 4, result: 'thank you, Ada' },
    { jsonrpc, id: 5, result: ['tea is ready', 'it is cold', 'signed: Ada'] },
  ])
  ncat.child.stdin?.end()
  await ncat.over
})

test('the cache answers plain lines', async () => {
  const command = gaidaros([
    'serve',
    '--config',
    join(root, 'examples/11-stores/memcached.ts'),
    '--listen',
    'tcp://127.0.0.1:0',
  ])
  const { default: port = 0 } = await command.ready()
  const peer = await Peer.open(port)
  await peer.send('set a 0 0 2\r\nhi\r\nget a\r\n').hears('STORED\r\nVALUE a 0 2\r\nhi\r\nEND\r\n')
  peer.leave()
  command.child.kill('SIGTERM')
  await command.ended
})

test.run()
