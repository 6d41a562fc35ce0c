// time limit: 90 s
/** Layers on real sockets, with HAProxy before us and tshark behind. */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createNet } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import { createGzip, gzipSync } from 'node:zlib'
import { type Connection, connect, PROXY, TLS } from 'gaidaros'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, memory, Peer, serve, stopAll } from '../support/faults.js'
import { skip } from '../support/skip.js'
import { hasTool } from '../support/tools.js'

const folder = mkdtempSync(join(tmpdir(), 'gl-'))
const children: ReturnType<typeof spawn>[] = []
test.after(async () => {
  for (const child of children) child.kill('SIGKILL')
  await stopAll()
  rmSync(folder, { recursive: true })
})

const trusted = ['127.0.0.1']
const who = (line: string, connection: Connection) => {
  const facts = connection.feature(PROXY)
  return `${line} from ${connection.remote} v${facts?.version} tls ${connection.feature(TLS)?.protocol ?? 'none'}`
}

async function freePort(): Promise<number> {
  const server = createNet().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

async function haproxy(target: number, send: string): Promise<number> {
  const port = await freePort()
  const file = join(folder, `haproxy-${port}.cfg`)
  writeFileSync(
    file,
    `global\n  maxconn 50\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n` +
      `listen it\n  bind 127.0.0.1:${port}\n  server s1 127.0.0.1:${target} ${send}\n`,
  )
  children.push(spawn('haproxy', ['-f', file, '-db'], { stdio: 'ignore' }))
  for (let tries = 0; tries < 200; tries++) {
    const peer = await Peer.open(port).catch(() => undefined)
    if (peer !== undefined) {
      peer.leave()
      return port
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error('haproxy does not listen')
}

if (!hasTool('haproxy')) test('HAProxy before us', () => skip('HAProxy', 'haproxy is not installed'))
else {
  for (const [version, send] of [
    [1, 'send-proxy'],
    [2, 'send-proxy-v2'],
  ] as const) {
    test(`HAProxy tells us who the peer is, by version ${version}`, async () => {
      const { port } = await serve({ handler: who, layers: [{ name: 'proxy-protocol', trusted }] })
      const front = await haproxy(port, send)
      const peer = await Peer.open(front, { localAddress: '127.0.0.9' })
      await peer.send('hello\n').hears(`hello from tcp://127.0.0.9:${peer.socket.localPort} v${version} tls none\n`)
    })
  }

  test('HAProxy before us, and TLS behind its header', async () => {
    const pems = await generate([{ name: 'commonName', value: 'localhost' }], { keySize: 2048 })
    const { port } = await serve({
      listen: 'tls://127.0.0.1:0',
      tls: { cert: Buffer.from(pems.cert), key: Buffer.from(pems.private) },
      handler: who,
      layers: [{ name: 'proxy-protocol', trusted }],
    })
    const front = await haproxy(port, 'send-proxy-v2')
    const socket = connectTls({ port: front, host: '127.0.0.1', rejectUnauthorized: false })
    socket.write('hello\n')
    const line = await new Promise<string>((resolve) => socket.once('data', (chunk) => resolve(String(chunk))))
    assert.match(line, /^hello from (tls|tcp):\/\/127\.0\.0\.1:\d+ v2 tls TLSv1\.3\n$/)
    socket.destroy()
  })
}

test('a listener that expects PROXY never guesses (F60 to F63, F65, F66)', async () => {
  const handled: string[] = []
  const { port, until, server } = await serve({
    handler: (line: string) => {
      handled.push(line)
      return line
    },
    layers: [{ name: 'proxy-protocol', trusted: ['127.0.0.1'], timeoutMs: 200 }],
  })
  const fault = (what: RegExp) => until('listener.fault', ({ error }) => what.test(error.message))
  for (const [sent, what] of [
    ['hello\n', /expected a PROXY protocol header/],
    ['\x16\x03\x01\x02\x00', /expected a PROXY protocol header/],
    ['PROXY TCP4 1.2.3.4', /no whole header within 200 ms/],
    ['', /no whole header within 200 ms/],
    [`PROXY ${'x'.repeat(200)}`, /at most 107 bytes/],
  ] as const) {
    const peer = (await Peer.open(port)).send(sent)
    await Promise.all([fault(what), peer.over])
    peer.leave()
  }
  // It may be cut before it knows that it is connected.
  const stranger = new Peer(port, { localAddress: '127.0.0.2' }).send('PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\nhello\n')
  await Promise.all([fault(/127\.0\.0\.2 is none of the trusted/), stranger.over])
  const short = (await Peer.open(port)).send('PROXY TC')
  short.socket.end()
  await fault(/left before its header/)
  assert.equal(handled, [])
  assert.is(server.connections.size, 0)
  await (await Peer.open(port)).send('PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\nhe').send('llo\n').hears('hello\n')
  await (await Peer.open(port)).send('PROXY UNKNOWN\r\nlocal\n').hears('local\n')
})

test('a limit by source counts the peers behind the proxy', async () => {
  const { port, until } = await serve({
    handler: (line: string) => line,
    layers: [{ name: 'proxy-protocol', trusted }],
    limits: { connectionsPerSource: 1 },
  })
  await (await Peer.open(port)).send('PROXY TCP4 1.2.3.4 9.9.9.9 1 1\r\none\n').hears('one\n')
  await (await Peer.open(port)).send('PROXY TCP4 1.2.3.5 9.9.9.9 1 1\r\ntwo\n').hears('two\n')
  await (await Peer.open(port)).send('PROXY TCP4 1.2.3.4 9.9.9.9 1 1\r\nthree\n').over
  assert.is((await until('connection.refused')).reason, 'source')
})

test('our own client sends the header', async () => {
  const { server } = await serve({ handler: who, layers: [{ name: 'proxy-protocol', trusted }] })
  for (const version of [1, 2]) {
    const client = await connect([...server.listeners][0]?.endpoint as never, {
      layers: [{ name: 'proxy-protocol', version, source: '[2001:db8::1]:5', destination: '[::1]:6' }],
    })
    assert.is(await client.request('hi'), `hi from tcp://[2001:db8::1]:5 v${version} tls none`)
    await client.close()
  }
})

test('misfits are told before anything is bound', async () => {
  const refused = async (options: object) =>
    serve({ handler: who, ...options }).then(
      () => 'started',
      (error) => (error as Error).message,
    )
  assert.match(await refused({ layers: ['proxy-protocol'] }), /needs `trusted`/)
  assert.match(await refused({ layers: ['gzip', { name: 'proxy-protocol', trusted }] }), /has to stand before/)
  assert.match(await refused({ listen: 'udp://127.0.0.1:0', layers: ['gzip'] }), /needs a stream of bytes/)
  assert.match(await refused({ layers: [{ name: 'proxy-protocol', trusted: ['nonsense'] }] }), /no address or network/)
})

for (const name of ['gzip', 'deflate', 'brotli']) {
  test(`${name}: our client and our server, large and small, both ways`, async () => {
    const { server } = await serve({ handler: (line: string) => line, layers: [name] })
    const client = await connect([...server.listeners][0]?.endpoint as never, { layers: [name] })
    for (const line of ['a', 'b'.repeat(50_000), 'last']) assert.is(await client.request(line), line)
    client.end()
    assert.is((await client.closed).code, 'ENDED')
  })
}

test('gzip: a peer of the system library is understood, and a message does not wait for the next', async () => {
  const { port } = await serve({ handler: (line: string) => line.toUpperCase(), layers: ['gzip'] })
  const peer = await Peer.open(port)
  const gzip = createGzip()
  gzip.pipe(peer.socket, { end: false })
  gzip.write('hello\n')
  gzip.flush()
  await eventually(() => peer.heard.length > 10, 'an answer')
  peer.leave()
})

test('gzip: a bomb is stopped at the ratio, and memory stays (F28)', async () => {
  const { port, until } = await serve({
    handler: () => undefined,
    layers: ['gzip'],
    limits: { lineBytes: 1_000_000_000, frameBytes: 1_000_000_000 },
  })
  const bomb = gzipSync(Buffer.alloc(200 * 1024 * 1024))
  const before = memory().resident
  const peer = (await Peer.open(port)).send(bomb)
  const { reason } = await until('connection.closed')
  assert.is(reason.code, 'TOO_LARGE')
  assert.ok(memory().resident - before < 60 * 1024 * 1024, `${(memory().resident - before) / 1e6} MB`)
  await peer.over
})

test('gzip: bytes that are none, and a stream cut short', async () => {
  const { port, until } = await serve({ handler: (line: string) => line, layers: ['gzip'] })
  ;(await Peer.open(port)).send('this is no gzip at all\n')
  assert.is((await until('connection.closed')).reason.code, 'MALFORMED')
  const cut = (await Peer.open(port)).send(gzipSync('hello\n').subarray(0, 12))
  cut.socket.end()
  assert.is((await until('connection.closed')).reason.code, 'TRUNCATED')
})

test('throttle: within 10 % of the rate, both ways', async () => {
  const rate = 200_000
  const { port } = await serve({
    handler: (bytes: Buffer) => (bytes.includes('!') ? Buffer.alloc(300_000, 'x') : undefined),
    codec: 'raw',
    layers: [{ name: 'throttle', read: rate, write: rate, burst: 1_000 }],
    limits: { replyRatio: 'unlimited' },
  })
  const peer = await Peer.open(port)
  let began = performance.now()
  peer.send('!')
  await eventually(() => peer.heard.length === 300_000, 'everything sent')
  // One write goes out whole; what follows it waits for as long as it took.
  peer.send('!')
  await eventually(() => peer.heard.length === 600_000, 'everything sent again')
  const writing = 300_000 / ((performance.now() - began) / 1_000)
  assert.ok(writing < rate * 1.1, `${Math.round(writing)} bytes a second were written`)
  assert.ok(writing > rate * 0.5, `${Math.round(writing)} bytes a second were written`)
  began = performance.now()
  peer.send(Buffer.alloc(400_000, 'y')).send('!')
  await eventually(() => peer.heard.length > 600_000, 'the last byte read', 20_000)
  const reading = 400_000 / ((performance.now() - began) / 1_000)
  assert.ok(reading < rate * 1.25, `${Math.round(reading)} bytes a second were read`)
})

test('pcap: tshark follows a conversation, and one of datagrams', async () => {
  if (!hasTool('tshark')) return skip('tshark', 'tshark is not installed')
  for (const listen of ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0']) {
    const file = join(folder, `${listen.slice(0, 3)}.pcap`)
    const { server } = await serve({ listen, handler: (line: string) => `${line}!`, layers: [{ name: 'pcap', file }] })
    const client = await connect([...server.listeners][0]?.endpoint as never)
    assert.is(await client.request('one'), 'one!')
    assert.is(await client.request('two'), 'two!')
    await client.close()
    await server.stop()
    await new Promise((resolve) => setTimeout(resolve, 100))
    const fields = [
      '-T',
      'fields',
      '-e',
      '_ws.col.protocol',
      '-e',
      'data.text',
      '-e',
      'tcp.flags.str',
      '-e',
      '_ws.expert.message',
    ]
    const checks = [
      '-o',
      'tcp.check_checksum:TRUE',
      '-o',
      'udp.check_checksum:TRUE',
      '-o',
      'ip.check_checksum:TRUE',
      '-o',
      'data.show_as_text:TRUE',
    ]
    const { stdout, stderr } = spawnSync('tshark', ['-r', file, ...checks, ...fields], { encoding: 'utf8' })
    assert.not.match(stdout, /[Bb]ad checksum|Malformed|out-of-order|previous segment/i, stdout)
    const follow = listen.startsWith('tcp') ? 'tcp' : 'udp'
    const talk = spawnSync('tshark', ['-r', file, '-q', '-z', `follow,${follow},ascii,0`], { encoding: 'utf8' })
    for (const word of ['one', 'one!', 'two!']) assert.ok(talk.stdout.includes(word), `${talk.stdout}${stderr}`)
    if (follow === 'tcp') assert.match(stdout, /S.*\n.*A.*S|F/)
  }
})

test('wire-log: what passes, printable and bounded', async () => {
  const file = join(folder, 'wire.log')
  const { port, until } = await serve({ handler: () => 'answer', layers: [{ name: 'wire-log', file, maxBytes: 32 }] })
  const peer = await Peer.open(port)
  await peer.send(`\x1b[31m${'z'.repeat(100)}\n`).hears('answer\n')
  peer.socket.end()
  await until('connection.closed')
  await eventually(() => existsSync(file) && readFileSync(file, 'utf8').includes('closed'), 'the last line')
  const text = readFileSync(file, 'utf8')
  assert.match(text, /< 106 bytes, the first 32\n/)
  assert.match(text, /0000 {2}1b 5b 33 31 6d 7a .*\.\[31mz/)
  assert.match(text, /> 7 bytes\n/)
  assert.not.match(text, /\x1b/)
})

test.run()
