// time limit: 240 s
/** Protocols, proved by clients that nobody here wrote. */
import { spawn } from 'node:child_process'
import { connect, defineHandler } from 'gaidaros'
import { DnsError, type DnsQuery } from 'gaidaros/plugins/dns'
import { RpcError, rpc, rpcClient } from 'gaidaros/plugins/json-rpc'
import type { MqttMessage } from 'gaidaros/plugins/mqtt'
import { type SmtpAddress, SmtpError, type SmtpMessage } from 'gaidaros/plugins/smtp'
import type { SyslogMessage } from 'gaidaros/plugins/syslog'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, Peer, serve, stopAll } from '../support/faults.js'
import { skip } from '../support/skip.js'
import { hasTool } from '../support/tools.js'

test.after(stopAll)

/** Runs a program to its end. */
function run(program: string, args: readonly string[], input = ''): Promise<{ status: number | null; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(program, args)
    let output = ''
    child.stdout.on('data', (chunk) => (output += chunk))
    child.stderr.on('data', (chunk) => (output += chunk))
    child.stdin.on('error', () => {})
    child.stdin.end(input)
    const limit = setTimeout(() => child.kill('SIGKILL'), 20_000)
    child.on('close', (status) => {
      clearTimeout(limit)
      resolve({ status, output })
    })
  })
}

const withTool = (tool: string, name: string, body: () => Promise<void>) =>
  test(name, () => (hasTool(tool) ? body() : skip(name, `${tool} is not installed`)))

// ── dns ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

const zone = defineHandler({
  name: 'Zone',
  routes: {
    A: ({ name }: DnsQuery) => {
      if (name === 'nobody.test') return null
      if (name === 'broken.test') throw new Error('a secret of ours')
      if (name === 'mine.test') throw new DnsError('REFUSED')
      return [{ type: 'A', name, ttl: 60, data: '192.0.2.7' }]
    },
    TXT: async ({ name }: DnsQuery) => [
      { type: 'TXT', name, ttl: 60, data: Array.from({ length: 20 }, (_, i) => `${i}`.padEnd(200, 'x')) },
    ],
  },
})

withTool('dig', 'dns: dig over UDP and TCP, with a 4 KiB answer that comes by TCP', async () => {
  const first = await serve({ listen: 'tcp://127.0.0.1:0', handler: zone, protocol: 'dns' })
  const port = String(first.port)
  await serve({ listen: `udp://127.0.0.1:${port}`, handler: zone, protocol: 'dns' })
  const dig = async (...args: string[]) =>
    (await run('dig', ['@127.0.0.1', '-p', port, '+tries=1', '+time=5', ...args])).output
  assert.match(await dig('www.test', 'A'), /status: NOERROR[\s\S]*www\.test\.\s+60\s+IN\s+A\s+192\.0\.2\.7/)
  assert.match(await dig('+tcp', '+noedns', 'www.test', 'A'), /192\.0\.2\.7/)
  const large = await dig('big.test', 'TXT')
  assert.match(large, /Truncated, retrying in TCP mode/)
  assert.match(large, /MSG SIZE {2}rcvd: 4\d\d\d/)
  assert.match(await dig('+ignore', 'big.test', 'TXT'), /flags:[^;]* tc/)
  assert.match(await dig('nobody.test', 'A'), /status: NXDOMAIN/)
  const broken = await dig('broken.test', 'A')
  assert.match(broken, /status: SERVFAIL/)
  assert.not.match(broken, /secret/)
  assert.match(await dig('mine.test', 'A'), /status: REFUSED/)
  assert.match(await dig('www.test', 'MX'), /status: REFUSED/)
  assert.match(await dig('+opcode=NOTIFY', 'www.test'), /status: NOTIMP/)
  assert.match(await dig('www.test', 'A'), /status: NOERROR/)
})

test('dns: what is no question (F81), and answers nobody asked for (F35)', async () => {
  const { server } = await serve({ listen: 'udp://127.0.0.1:0', handler: zone, protocol: 'dns' })
  const client = await connect([...server.listeners][0]?.endpoint as never, { codec: 'raw' })
  const question = Buffer.from('1234010000010000000000000377777704746573740000010001', 'hex')
  const spoilt = (at: number, hex: string) => {
    const copy = Buffer.from(question)
    Buffer.from(hex, 'hex').copy(copy, at)
    return copy
  }
  // Said before each, a good question: whatever answers second is the bad one's answer, or nothing.
  for (const [bytes, rcode] of [
    [spoilt(4, 'ffff'), 1],
    [spoilt(4, '0000'), 1],
    [spoilt(6, '0001'), 1],
    [spoilt(12, 'c00c'), 1],
    [spoilt(12, 'ff'), 1],
    [question.subarray(0, 20), 1],
    [spoilt(2, '2800'), 4],
  ] as const) {
    const answer = (await client.request(bytes)) as Buffer
    assert.is(answer.readUInt16BE(0), 0x1234)
    assert.is((answer[3] as number) & 15, rcode, bytes.toString('hex'))
  }
  await client.send(spoilt(2, '8180'))
  const next = (await client.request(spoilt(0, 'abcd'))) as Buffer
  assert.is(next.readUInt16BE(0), 0xabcd)
  await client.close()
})

// ── syslog ───────────────────────────────────────────────────────────────────────────────────────────────────────────

withTool('logger', 'syslog: logger over UDP and TCP, both formats, both framings', async () => {
  const heard: SyslogMessage[] = []
  const handler = defineHandler({ name: 'Collector', message: (message: SyslogMessage) => void heard.push(message) })
  const tcp = await serve({ handler, protocol: 'syslog' })
  const udp = await serve({ listen: 'udp://127.0.0.1:0', handler, protocol: 'syslog' })
  const logger = (port: number, ...args: string[]) =>
    run('logger', ['-n', '127.0.0.1', '-P', String(port), '-p', 'local3.warning', '-t', 'gate', ...args])
  await logger(tcp.port, '-T', '--rfc5424', '--msgid', 'M7', '--sd-id', 'x@1', '--sd-param', 'a="b"', 'one')
  await logger(tcp.port, '-T', '--octet-count', '--rfc5424', 'two')
  await logger(tcp.port, '-T', '--rfc3164', 'three')
  await logger(udp.port, '-d', '--rfc5424', 'four')
  await logger(udp.port, '-d', '--rfc3164', 'five')
  await eventually(() => heard.length === 5, `five messages; ${JSON.stringify(heard)}`)
  const of = (text: string) => heard.find(({ message }) => message === text) as SyslogMessage
  for (const text of ['one', 'two', 'four']) assert.is(of(text).format, '5424')
  for (const text of ['three', 'five']) assert.is(of(text).format, '3164')
  for (const { facility, severity, app } of heard) assert.equal([facility, severity, app], [19, 'warning', 'gate'])
  assert.is(of('one').msgid, 'M7')
  assert.is(of('one').structured?.['x@1']?.a, 'b')
})

// ── smtp ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

async function mailbox(options: object = {}) {
  const pems = await generate([{ name: 'commonName', value: 'localhost' }], { keySize: 2048 })
  const mails: SmtpMessage[] = []
  const handler = defineHandler({
    name: 'Mailbox',
    routes: {
      RCPT: ({ address }: SmtpAddress) => {
        if (address.startsWith('nobody')) throw new SmtpError(550, 'no such mailbox')
      },
      MESSAGE: (mail: SmtpMessage) => {
        mails.push(mail)
        return `kept as ${mails.length}`
      },
    },
  })
  const watched = await serve({
    handler,
    protocol: { name: 'smtp', hostname: 'mx.test', startTls: 'offer', ...options },
    tls: { cert: Buffer.from(pems.cert), key: Buffer.from(pems.private) },
    limits: { frameBytes: 10_000 },
  })
  return { ...watched, mails }
}

withTool('swaks', 'smtp: swaks, plain, with STARTTLS, and with AUTH under it', async () => {
  const { port, mails } = await mailbox({ authenticate: undefined })
  const swaks = (target: number, ...args: string[]) =>
    run('swaks', ['--server', '127.0.0.1', '--port', String(target), '--from', 'a@x.test', '--to', 'b@y.test', ...args])
  const plain = await swaks(port, '--body', '.dots\n..stay')
  assert.is(plain.status, 0, plain.output)
  assert.match(plain.output, /250 2\.0\.0 kept as 1/)
  const secure = await swaks(port, '--tls')
  assert.is(secure.status, 0, secure.output)
  assert.match(secure.output, /TLS started/)
  assert.equal(
    mails.map(({ tls, from, to }) => [tls, from, to[0]]),
    [
      [false, 'a@x.test', 'b@y.test'],
      [true, 'a@x.test', 'b@y.test'],
    ],
  )
  assert.match(String(mails[0]?.data), /\r\n\.dots\r\n\.\.stay\r\n/)
  const refused = await swaks(port, '--to', 'nobody@y.test')
  assert.match(refused.output, /550 no such mailbox/)
  const guarded = await mailbox({
    authenticate: (user: string, password: string) => user === 'ada' && password === 'secret',
  })
  assert.match((await swaks(guarded.port)).output, /530 5\.7\.0 authentication/)
  for (const mechanism of ['PLAIN', 'LOGIN']) {
    const auth = ['--tls', '--auth', mechanism, '--auth-user', 'ada']
    const known = await swaks(guarded.port, ...auth, '--auth-password', 'secret')
    assert.is(known.status, 0, known.output)
    assert.match((await swaks(guarded.port, ...auth, '--auth-password', 'wrong')).output, /535 5\.7\.8/)
  }
  assert.equal(
    guarded.mails.map(({ user }) => user),
    ['ada', 'ada'],
  )
})

test('smtp: order of commands, sizes, bare line feeds, too many errors', async () => {
  const { port, mails, until } = await mailbox()
  const peer = await Peer.open(port)
  await peer.hears('220 mx.test ESMTP\r\n')
  const says = async (line: string, answer: string) => {
    peer.heard = ''
    await peer.send(`${line}\r\n`).hears(answer)
  }
  await says('MAIL FROM:<a@b>', '503 5.5.1 begin with EHLO')
  await says('EHLO me', '250 STARTTLS')
  await says('RCPT TO:<a@b>', '503')
  await says('MAIL FROM:<a@b> SIZE=20000', '552')
  await says('MAIL FROM:<>\r\nRCPT TO:<"a b"@c>\r\nDATA', '354')
  await says('one\n.\r\nMAIL FROM:<smuggled@x>\r\n.', '550 5.6.0 lines end in CR LF')
  await says('MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA', '354')
  await says(`${`${'x'.repeat(900)}\r\n`.repeat(12)}.`, '552 5.3.4 too large')
  await says('MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA', '354')
  await says('hello\r\n.', '250 2.0.0 kept as 1')
  assert.equal(
    mails.map(({ from, to, data }) => [from, to, String(data)]),
    [['a@b', ['c@d'], 'hello\r\n']],
  )
  for (let i = 0; i < 10; i++) peer.send('NONSENSE\r\n')
  await peer.hears('421 mx.test too many errors')
  assert.is((await until('connection.closed')).reason.code, 'TOO_MANY_ERRORS')
  const eager = await Peer.open(port)
  await eager.send('STARTTLS\r\nEHLO injected\r\n').over
  assert.is((await until('connection.closed')).reason.code, 'MALFORMED')
})

// ── json-rpc ─────────────────────────────────────────────────────────────────────────────────────────────────────────

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

// ── resp ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

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

// ── mqtt ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

withTool('mosquitto_pub', 'mqtt: mosquitto publishes and subscribes, QoS 0 to 2, 3.1.1 and 5', async () => {
  const taken: MqttMessage[] = []
  const handler = defineHandler({
    name: 'Sensors',
    routes: {
      'refused/topic': () => {
        throw new Error('no')
      },
    },
    message: async (message: MqttMessage) => void taken.push(message),
  })
  const { port, until, server } = await serve({
    handler,
    protocol: {
      name: 'mqtt',
      authenticate: (client: { user?: string }, password: string) => client.user !== 'eve' || password === 'secret',
    },
  } as never)
  const at = ['-h', '127.0.0.1', '-p', String(port)]
  for (const version of ['mqttv311', 'mqttv5']) {
    for (const qos of ['0', '1', '2']) {
      const topic = `sensors/${version}/${qos}`
      const listener = spawn('mosquitto_sub', [
        ...at,
        '-V',
        version,
        '-q',
        qos,
        '-t',
        'sensors/+/#',
        '-C',
        '2',
        '-v',
        '-W',
        '10',
      ])
      let heard = ''
      listener.stdout.on('data', (chunk) => (heard += chunk))
      const over = new Promise((resolve) => listener.once('close', resolve))
      // CONNECT and SUBSCRIBE handled; a publish before would be for nobody.
      const { connection } = await until('connection.opened', (event) => event.connection.state === 'open')
      await eventually(() => connection.stats.messagesOut >= 2, 'subscribed')
      const published = await run('mosquitto_pub', [...at, '-V', version, '-q', qos, '-t', topic, '-l'], 'one\ntwo\n')
      assert.is(published.status, 0, published.output)
      await over
      await server.listeners.get('default')?.waitForConnections(0)
      assert.is(heard, `${topic} one\n${topic} two\n`)
    }
  }
  assert.equal(
    taken.map(({ qos }) => qos),
    [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2],
  )
  assert.is(String(taken[0]?.payload), 'one')
  const eve = await run('mosquitto_pub', [...at, '-u', 'eve', '-P', 'wrong', '-t', 'x', '-m', 'x'])
  assert.match(eve.output, /not authori[sz]ed|bad user name/i)
  assert.is((await run('mosquitto_pub', [...at, '-u', 'eve', '-P', 'secret', '-t', 'x', '-m', 'x'])).status, 0)
})

// ── socks5 ───────────────────────────────────────────────────────────────────────────────────────────────────────────

withTool('curl', 'socks5: curl by name and address, users, and what is out of reach', async () => {
  const pages = await serve({
    handler: defineHandler({ name: 'Page', routes: { GET: () => 'the page' } }),
    protocol: 'http',
  })
  const url = `http://127.0.0.1:${pages.port}/`
  const curl = async (proxy: number, how: string, target: string, user = '') =>
    (await run('curl', ['-sS', '-m', '5', how, `${user}127.0.0.1:${proxy}`, target])).output
  const open = await serve({ protocol: { name: 'socks5', allow: ['127.0.0.0/8', '::1'] } } as never)
  assert.is(await curl(open.port, '--socks5', url), 'the page')
  assert.is(await curl(open.port, '--socks5-hostname', url.replace('127.0.0.1', 'localhost')), 'the page')
  assert.match(await curl(open.port, '--socks5', 'http://127.0.0.1:1/'), /\(5\)|refused/i)
  const guarded = await serve({ protocol: { name: 'socks5', users: { ada: 'pw' } } } as never)
  assert.match(await curl(guarded.port, '--socks5', url), /No authentication method|rejected|denied/i)
  assert.match(await curl(guarded.port, '--socks5', url, 'ada:bad@'), /reject|denied|User was/i)
  // Let in, and still not to what is private.
  assert.match(await curl(guarded.port, '--socks5', url, 'ada:pw@'), /\(2\)|not allowed|request failed/i)
  const peer = await Peer.open(open.port)
  peer.send(Buffer.from([5, 1, 0, 5, 3, 0, 1, 127, 0, 0, 1, 0, 80]))
  await peer.over
  assert.is(Buffer.from(peer.heard, 'latin1').toString('hex'), '050005070001000000000000')
})

test.run()
