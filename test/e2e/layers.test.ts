// time limit: 240 s
/** Layers on real sockets, with HAProxy before us and tshark behind. */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createNet } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import * as zlib from 'node:zlib'
import { brotliCompressSync, createGzip, deflateSync, gzipSync } from 'node:zlib'
import { type Connection, connect, PROXY, TLS, WEBSOCKET } from 'gaidaros'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import WebSocket from 'ws'
import { eventually, memory, Peer, serve, stopAll } from '../support/faults.js'
import { withTool } from '../support/programs.js'
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

async function haproxy(target: number, send: string, bind = '', more = ''): Promise<number> {
  const port = await freePort()
  const file = join(folder, `haproxy-${port}.cfg`)
  writeFileSync(
    file,
    `global\n  maxconn 50\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n` +
      `listen it\n  bind 127.0.0.1:${port}${bind}\n${more}  server s1 127.0.0.1:${target} ${send}\n`,
  )
  children.push(spawn('haproxy', ['-f', file, '-db'], { stdio: 'ignore' }))
  await answers(port, 'haproxy')
  return port
}

async function answers(port: number, who: string): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    const peer = await Peer.open(port).catch(() => undefined)
    if (peer !== undefined) return peer.leave()
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error(`${who} does not listen`)
}

for (const [version, send] of [
  [1, 'send-proxy'],
  [2, 'send-proxy-v2'],
] as const) {
  withTool('haproxy', `HAProxy tells us who the peer is, by version ${version} (F66)`, async () => {
    const { port } = await serve({ handler: who, layers: [{ name: 'proxy-protocol', trusted }] })
    const front = await haproxy(port, send)
    const peer = await Peer.open(front, { localAddress: '127.0.0.9' })
    await peer.send('hello\n').hears(`hello from tcp://127.0.0.9:${peer.socket.localPort} v${version} tls none\n`)
  })
}

for (const send of ['send-proxy', 'send-proxy-v2'])
  withTool(
    'haproxy',
    `HAProxy looks after our health by ${send}: nobody’s address is made up of it (F65)`,
    async () => {
      const { port, until, server } = await serve({
        handler: who,
        layers: [{ name: 'proxy-protocol', trusted }],
      })
      const front = await haproxy(port, `check inter 100 ${send}`)
      // By version 1 it tells its own address, by version 2 none. It resets at once, so some have left before they are let in.
      if (send === 'send-proxy-v2') {
        const { connection } = await until(
          'connection.opened',
          ({ connection }) => connection.feature(PROXY)?.local === true,
        )
        const facts = connection.feature(PROXY)
        assert.is(facts?.source, undefined)
        assert.is(String(connection.remote), String(facts?.proxy))
      } else {
        await Promise.race([
          until('connection.refused'),
          until(
            'connection.opened',
            ({ connection }) => String(connection.remote) === String(connection.feature(PROXY)?.proxy),
          ),
        ])
      }
      const peer = await Peer.open(front, { localAddress: '127.0.0.9' })
      await peer.send('hello\n').hears(`hello from tcp://127.0.0.9:${peer.socket.localPort}`)
      assert.is(server.counters['fault.HANDSHAKE_FAILED'], undefined)
      peer.leave()
    },
  )

withTool(
  'haproxy',
  'HAProxy ends TLS and tells of it: name, version, client certificate, unique id, checksum',
  async () => {
    const pems = await generate([{ name: 'commonName', value: 'localhost' }], { keySize: 2048 })
    const alice = await generate([{ name: 'commonName', value: 'alice' }], { keySize: 2048 })
    writeFileSync(join(folder, 'front.pem'), `${pems.cert}\n${pems.private}\n`)
    writeFileSync(join(folder, 'alice.pem'), alice.cert)
    const { port } = await serve({
      handler: (_line: string, connection: Connection) => JSON.stringify(connection.feature(PROXY)),
      layers: [{ name: 'proxy-protocol', trusted }],
    })
    const front = await haproxy(
      port,
      'send-proxy-v2-ssl-cn proxy-v2-options authority,unique-id,crc32c,ssl,cert-cn,ssl-cipher',
      ` ssl crt ${join(folder, 'front.pem')} verify optional ca-file ${join(folder, 'alice.pem')} alpn lines`,
      '  unique-id-format "%ci:%cp"\n',
    )
    const facts = async (options: object) => {
      const socket = connectTls({
        port: front,
        host: '127.0.0.1',
        rejectUnauthorized: false,
        servername: 'front.test',
        ALPNProtocols: ['lines'],
        ...options,
      })
      socket.write('hello\n')
      const line = await new Promise<string>((resolve) => socket.once('data', (chunk) => resolve(String(chunk))))
      socket.destroy()
      return JSON.parse(line)
    }
    const known = await facts({ cert: alice.cert, key: alice.private })
    assert.is(known.authority, 'front.test')
    assert.match(Buffer.from(known.uniqueId).toString(), /^127\.0\.0\.1:\d+$/)
    assert.equal([known.tls.isTls, known.tls.isVerified, known.tls.commonName], [true, true, 'alice'])
    assert.match(known.tls.protocol, /^TLSv1\.[23]$/)
    assert.ok(known.tls.cipher.length > 5)
    assert.ok(
      known.tlvs.some(({ type }: { type: number }) => type === 3),
      'the checksum came',
    )
    const stranger = await facts({})
    assert.equal([stranger.tls.isTls, stranger.tls.hasCertificate, stranger.tls.isVerified], [true, false, false])
  },
)

withTool('haproxy', 'HAProxy before us, and TLS behind its header', async () => {
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

const heard = (socket: WebSocket) =>
  new Promise<string>((resolve, reject) => {
    socket.once('message', (data) => resolve(String(data)))
    socket.once('error', reject)
    socket.once('unexpected-response', (_, { statusCode }) => reject(new Error(String(statusCode))))
  })

withTool('haproxy', 'HAProxy before WebSockets, plain and over TLS: the handler knows the peer', async () => {
  const pems = await generate([{ name: 'commonName', value: 'localhost' }], { keySize: 2048 })
  for (const scheme of ['ws', 'wss']) {
    const { port, until } = await serve({
      listen: `${scheme}://127.0.0.1:0/chat`,
      ...(scheme === 'wss' ? { tls: { cert: pems.cert, key: pems.private } } : {}),
      codec: 'line',
      handler: (text: string, connection: Connection) =>
        `${who(text, connection)} at ${connection.feature(WEBSOCKET)?.path}`,
      layers: [{ name: 'proxy-protocol', trusted }],
    } as never)
    const front = await haproxy(port, 'send-proxy-v2')
    const open = (path: string) =>
      new WebSocket(`${scheme}://127.0.0.1:${front}${path}`, { localAddress: '127.0.0.9', rejectUnauthorized: false })
    for (let i = 0; i < 3; i++) {
      const socket = open('/chat')
      socket.once('open', () => socket.send('hello'))
      const tls = scheme === 'wss' ? 'TLSv1.3' : 'none'
      assert.match(
        await heard(socket),
        new RegExp(`^hello from ${scheme}://127\\.0\\.0\\.9:\\d+ v2 tls ${tls} at /chat$`),
      )
      socket.close()
      await until('connection.closed', ({ reason }) => reason.code === 'ENDED')
    }
    // Who was refused is told by the same name.
    assert.is(await heard(open('/elsewhere')).catch(({ message }) => message), '404')
    const { remote } = await until('listener.fault', ({ error }) => /404/.test(String(error)))
    assert.is(remote?.host, '127.0.0.9')
  }
})

test('a WebSocket behind a header in any cut; without one, or from a stranger, there is no handshake', async () => {
  const text = {
    codec: 'line',
    handler: (said: string, { remote }: Connection) => `${said} from ${remote}`,
    listen: 'ws://127.0.0.1:0',
  }
  const { port, until } = await serve({
    ...text,
    layers: [{ name: 'proxy-protocol', trusted, timeoutMs: 300 }],
  } as never)
  const header = 'PROXY TCP4 192.0.2.7 192.0.2.1 4000 443\r\n'
  const ask = `GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`
  // "hi", masked by nothing.
  const hi = Buffer.of(0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69)
  const all = Buffer.concat([Buffer.from(header + ask), hi])
  const cuts = [
    [],
    [header.length],
    [10, header.length + 3],
    [header.length - 1, all.length - 4],
    [...all.keys()].slice(1),
  ]
  for (const at of cuts) {
    const peer = await Peer.open(port)
    for (const [i, from] of [0, ...at].entries()) {
      peer.send(all.subarray(from, at[i] ?? all.length))
      await new Promise((resolve) => setImmediate(resolve))
    }
    await peer.hears('hi from ws://192.0.2.7:4000')
    assert.match(peer.heard, /^HTTP\/1\.1 101/)
    peer.leave()
    await until('connection.closed')
  }
  for (const [what, sent, code] of [
    ['no header', ask, 'HANDSHAKE_FAILED'],
    ['half a header', header.slice(0, 20), 'HANDSHAKE_TIMEOUT'],
    ['nothing', '', 'HANDSHAKE_TIMEOUT'],
  ] as const) {
    const peer = (await Peer.open(port)).send(sent)
    await peer.over
    assert.is(peer.heard, '', what)
    const { error } = await until('listener.fault')
    assert.is((error as { code?: string }).code, code, what)
  }
  const closed = await serve({ ...text, layers: [{ name: 'proxy-protocol', trusted: ['192.0.2.0/24'] }] } as never)
  // It may be cut before it knows that it is connected.
  const stranger = new Peer(closed.port).send(all)
  await stranger.over
  assert.is(stranger.heard, '')
  await closed.until('listener.fault', ({ error }) => /none of the trusted/.test(String(error)))
})

test('layers that change bytes have no place on WebSockets, in front or behind', async () => {
  for (const [layers, expected] of [
    [['gzip'], /gzip needs a stream of bytes/],
    [['tls'], /tls needs a stream of bytes/],
    [['gzip', { name: 'proxy-protocol', trusted }], /needs a stream of bytes/],
    [
      [
        { name: 'proxy-protocol', trusted },
        { name: 'proxy-protocol', trusted },
      ],
      /stands there twice/,
    ],
    [['proxy-protocol'], /needs `trusted`/],
  ] as const) {
    const failed = await serve({ listen: 'ws://127.0.0.1:0', codec: 'line', handler: who, layers } as never).catch(
      (error) => error,
    )
    assert.match(String(failed), expected, String(layers))
  }
})

if (!hasTool('nginx')) test('nginx before us', () => skip('nginx', 'nginx is not installed'))
else {
  test('nginx before us tells who the peer is, with TLS behind its header', async () => {
    const pems = await generate([{ name: 'commonName', value: 'localhost' }], { keySize: 2048 })
    const plain = await serve({ handler: who, layers: [{ name: 'proxy-protocol', trusted }] })
    const secure = await serve({
      listen: 'tls://127.0.0.1:0',
      tls: { cert: pems.cert, key: pems.private },
      handler: who,
      layers: [{ name: 'proxy-protocol', trusted }],
    })
    const [front, frontTls] = [await freePort(), await freePort()]
    const file = join(folder, 'nginx.conf')
    const server = (listen: number, to: number) =>
      `  server { listen 127.0.0.1:${listen}; proxy_pass 127.0.0.1:${to}; proxy_protocol on; }\n`
    // Debian loads the module by a line of its own; elsewhere it may be built in.
    const module = '/usr/lib/nginx/modules/ngx_stream_module.so'
    writeFileSync(
      file,
      `${existsSync(module) ? `load_module ${module};\n` : ''}daemon off;\nmaster_process off;\nuser root;\n` +
        `pid ${folder}/nginx.pid;\nerror_log ${folder}/nginx.log;\nevents {}\n` +
        `stream {\n${server(front, plain.port)}${server(frontTls, secure.port)}}\n`,
    )
    children.push(spawn('nginx', ['-p', folder, '-c', file], { stdio: 'ignore' }))
    await answers(front, 'nginx')
    const peer = await Peer.open(front, { localAddress: '127.0.0.9' })
    await peer.send('hello\n').hears(`hello from tcp://127.0.0.9:${peer.socket.localPort} v1 tls none\n`)
    peer.leave()
    const socket = connectTls({ port: frontTls, host: '127.0.0.1', rejectUnauthorized: false })
    socket.write('hello\n')
    const line = await new Promise<string>((resolve) => socket.once('data', (chunk) => resolve(String(chunk))))
    assert.match(line, /^hello from (tls|tcp):\/\/127\.0\.0\.1:\d+ v1 tls TLSv1\.3\n$/)
    socket.destroy()
  })
}

test('a listener that expects PROXY never guesses (F60 to F63, F65)', async () => {
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

test('our own client says more by version 2, and its checksum is checked', async () => {
  const { server } = await serve({
    handler: (_line: string, connection: Connection) => JSON.stringify(connection.feature(PROXY)),
    layers: [{ name: 'proxy-protocol', trusted }],
  })
  const tlvs = [{ type: 0xe0, value: 'ours' }]
  const client = await connect([...server.listeners][0]?.endpoint as never, {
    layers: [{ name: 'proxy-protocol', authority: 'a.test', alpn: 'h2', uniqueId: '#7', tlvs, checksum: true }],
  })
  const facts = JSON.parse(await client.request<string>('x'))
  assert.equal([facts.authority, facts.alpn, Buffer.from(facts.uniqueId).toString()], ['a.test', 'h2', '#7'])
  assert.equal(
    facts.tlvs.map(({ type }: { type: number }) => type),
    [1, 2, 5, 0xe0, 3],
  )
  await client.close()
  const refused = connect([...server.listeners][0]?.endpoint as never, {
    layers: [{ name: 'proxy-protocol', version: 1, uniqueId: 'x' }],
  })
  await refused.then(
    () => assert.unreachable(),
    (error) => assert.match((error as Error).message, /need version 2/),
  )
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
  assert.match(await refused({ layers: [{ name: 'gzip', level: 10 }] }), /level.*from 0 to 9/)
  const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }])
  const tls = { cert, key }
  assert.match(await refused({ tls, layers: ['tls', { name: 'proxy-protocol', trusted }] }), /has to stand before/)
  assert.match(await refused({ tls, layers: ['gzip', 'tls'] }), /has to stand before|can switch to nothing/)
  assert.match(await refused({ layers: ['tls'] }), /layer tls needs a certificate/)
  assert.match(await refused({ layers: ['gzpi'] }), /nearest: `gzip`/)
  assert.match(await refused({ listen: 'udp://127.0.0.1:0', protocol: 'resp' }), /needs? .*(order|stream|reliab)/i)
  if (!('createZstdCompress' in zlib)) {
    assert.match(await refused({ layers: ['zstd'] }), /layer zstd needs Node 22\.15.*use gzip or brotli/)
  }
})

const squeezers = ['gzip', 'deflate', 'brotli', ...('createZstdCompress' in zlib ? ['zstd'] : [])]
if (squeezers.length < 4) console.log('# zstd is not tried as a layer: this Node has none; its refusal is')
for (const name of squeezers) {
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

const bombs = { gzip: gzipSync, deflate: deflateSync, brotli: brotliCompressSync }
for (const [name, squeeze] of Object.entries(bombs)) {
  test(`${name}: a bomb is stopped at the ratio, and memory stays (F28)`, async () => {
    const { port, until } = await serve({
      handler: () => undefined,
      layers: [name],
      limits: { lineBytes: 1_000_000_000, frameBytes: 1_000_000_000 },
    })
    const bomb = squeeze(Buffer.alloc(200 * 1024 * 1024))
    const before = memory().resident
    const peer = (await Peer.open(port)).send(bomb)
    const { reason } = await until('connection.closed')
    assert.is(reason.code, 'TOO_LARGE')
    assert.match(reason.error?.message ?? '', /more than 100 times/)
    assert.ok(memory().resident - before < 60 * 1024 * 1024, `${(memory().resident - before) / 1e6} MB`)
    await peer.over
  })
}

test('gzip: what comes behind the end of the stream is no message', async () => {
  const handled: string[] = []
  const { port, until } = await serve({ handler: (line: string) => void handled.push(line), layers: ['gzip'] })
  const peer = (await Peer.open(port)).send(gzipSync('hello\n'))
  await eventually(() => handled.length === 1, 'the first line')
  peer.send('plain text behind it\n')
  peer.socket.end()
  await until('connection.closed')
  assert.equal(handled, ['hello'])
})

test('gzip: bytes that are none, and a stream cut short', async () => {
  const { port, until } = await serve({ handler: (line: string) => line, layers: ['gzip'] })
  ;(await Peer.open(port)).send('this is no gzip at all\n')
  assert.is((await until('connection.closed')).reason.code, 'MALFORMED')
  const cut = (await Peer.open(port)).send(gzipSync('hello\n').subarray(0, 12))
  cut.socket.end()
  assert.is((await until('connection.closed')).reason.code, 'TRUNCATED')
})

/** A busy machine makes it slower, never faster: the ceiling holds always, the floor in one of a few tries. */
async function rateOf(what: string, rate: number, tries: number, measure: () => Promise<number>): Promise<void> {
  const seen: number[] = []
  for (let i = 0; i < tries; i++) {
    const measured = await measure()
    seen.push(Math.round(measured))
    assert.ok(measured < rate * 1.1, `${what}: ${seen.at(-1)} bytes a second, ${rate} are the most`)
    if (measured > rate * 0.9) return
  }
  throw new Error(`${what}: ${seen.join(', ')} bytes a second; expected ${rate} within 10 %`)
}
const timed = async (bytes: number, run: () => Promise<unknown>) => {
  const began = performance.now()
  await run()
  return bytes / ((performance.now() - began) / 1_000)
}

for (const per of ['connection', 'listener'] as const) {
  test(`throttle: within 10 % of the rate, both ways, per ${per}`, async () => {
    const rate = 400_000
    const { port } = await serve({
      handler: (bytes: Buffer) =>
        bytes.includes('!') ? Buffer.alloc(rate, 'x') : bytes.includes('?') ? 'done' : undefined,
      codec: 'raw',
      layers: [{ name: 'throttle', read: rate, write: rate, burst: 1_000, per }],
    })
    const peers = [await Peer.open(port), await Peer.open(port)]
    const busy = per === 'listener' ? peers : peers.slice(0, 1)
    await rateOf('written', rate, 4, async () => {
      for (const peer of busy) peer.heard = ''
      for (const peer of busy) peer.send('!')
      return timed(rate * busy.length, () =>
        eventually(() => busy.every((peer) => peer.heard.length === rate), 'everything written', 20_000),
      )
    })
    await rateOf('read', rate, 4, async () => {
      for (const peer of busy) peer.heard = ''
      // The sockets' buffers take some at once; what is measured ends with a reply that comes behind all of it.
      return timed(rate * busy.length, async () => {
        for (const peer of busy) peer.send(Buffer.alloc(rate, 'y')).send('?')
        await eventually(() => busy.every((peer) => peer.heard.length > 0), 'the last byte read', 20_000)
      })
    })
    for (const peer of peers) peer.leave()
  })
}

test('throttle: a listener’s rate cannot be had anew by a new connection', async () => {
  const rate = 100_000
  const { port } = await serve({
    handler: () => 'x'.repeat(20_000),
    layers: [{ name: 'throttle', write: rate, burst: 1_000, per: 'listener' }],
  })
  const speed = await timed(20_000 * 10, async () => {
    await Promise.all(
      Array.from({ length: 10 }, async () => {
        const peer = (await Peer.open(port)).send('go\n')
        await peer.hears('x\n')
        peer.leave()
      }),
    )
  })
  assert.ok(speed < rate * 1.1, `${Math.round(speed)} bytes a second over ten connections`)
})

test('throttle: the end comes behind everything written, and a drain is told', async () => {
  const { port } = await serve({
    handler: async (_line: string, connection: Connection) => {
      for (let i = 0; i < 20; i++) await connection.send('y'.repeat(9_999))
      connection.end()
    },
    layers: [{ name: 'throttle', write: 1_000_000, burst: 1_000 }],
  })
  const peer = (await Peer.open(port)).send('go\n')
  await peer.over
  assert.is(peer.heard.length, 200_000)
  peer.leave()
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
