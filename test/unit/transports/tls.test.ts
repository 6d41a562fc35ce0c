import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import * as net from 'node:net'
import { join } from 'node:path'
import * as nodeTls from 'node:tls'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Endpoint, parseEndpoint } from '#src/core/endpoint.js'
import { ConfigError, HandshakeError } from '#src/core/errors.js'
import { TLS } from '#src/core/feature.js'
import { defaultTimeouts, type TlsOptions } from '#src/core/options.js'
import type { Link, Listener } from '#src/core/transport.js'
import { tcp } from '#src/transports/tcp.js'
import { tls } from '#src/transports/tls.js'
import { unix } from '#src/transports/unix.js'
import { skip } from '../../support/skip.js'
import { failure, hasCommand, Recorder, rawConnect, temporaryFolder } from './recorder.js'

const ANY = parseEndpoint('tls://127.0.0.1:0')
const never = new AbortController().signal
const folder = temporaryFolder()

interface Pair {
  cert: string
  key: string
}
const pair = async (name: string, options: object = {}): Promise<Pair> => {
  const made = await generate([{ name: 'commonName', value: name }], options)
  return { cert: made.cert, key: made.private }
}
const authority = (name: string) => pair(name, { extensions: [{ name: 'basicConstraints', cA: true, critical: true }] })
const names = (...all: string[]) => [{ name: 'subjectAltName', altNames: all.map((value) => ({ type: 2, value })) }]

const ca = await authority('Test CA')
const otherCa = await authority('Other CA')
const issued = (name: string, by: Pair, options: object = {}) =>
  pair(name, { ca: { cert: by.cert, key: by.key }, extensions: names(name), ...options })
const server = await issued('localhost', ca)
const alice = await issued('alice', ca)
const mallory = await issued('mallory', otherCa)
const expired = await issued('late', ca, {
  notBeforeDate: new Date('2020-01-01'),
  notAfterDate: new Date('2020-02-01'),
})
const large = await issued('large', ca, {
  extensions: names(...Array.from({ length: 330 }, (_, i) => `${'x'.repeat(40)}${i}.example.org`)),
})
const exampleOrg = await issued('example.org', ca)
const wild = await issued('*.example.org', ca)

const listeners: Listener[] = []
const recorders: Recorder[] = []
const recorder = () => {
  const made = new Recorder()
  recorders.push(made)
  return made
}
async function listen(
  options: TlsOptions,
  sink = recorder(),
  more: object = {},
): Promise<{ sink: Recorder; endpoint: Endpoint; listener: Listener }> {
  const listener = await tls.listen(ANY, { tls: options, ...more }, sink)
  listeners.push(listener)
  return { sink, endpoint: listener.endpoint, listener }
}
const echo = (): Recorder => {
  const sink = recorder()
  sink.onData = ({ link }, chunk) => void link.write(chunk)
  sink.onEnd = ({ link }) => link.end()
  return sink
}
const connect = (endpoint: Endpoint, options: TlsOptions, sink = recorder(), signal = never) =>
  tls.connect?.(endpoint, { tls: { ca: ca.cert, serverName: 'localhost', ...options } }, sink, signal) as Promise<Link>

/** A client of Node's own: what it got, and how it failed. */
function client(endpoint: Endpoint, options: nodeTls.ConnectionOptions = {}) {
  const socket = nodeTls.connect({
    host: '127.0.0.1',
    port: endpoint.port as number,
    ca: ca.cert,
    servername: 'localhost',
    ...options,
  })
  const closed = new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
    let failed: NodeJS.ErrnoException | undefined
    socket.once('error', (error) => (failed = error))
    socket.once('close', () => resolve(failed))
  })
  const secured = new Promise<nodeTls.TLSSocket>((resolve, reject) => {
    socket.once('secureConnect', () => resolve(socket))
    closed.then((error) => reject(error ?? new Error('closed')))
  })
  secured.catch(() => {})
  return { socket, closed, secured }
}

function openssl(args: string[], input = '', endWhen?: RegExp): Promise<string> {
  const child = spawn('openssl', args, { stdio: ['pipe', 'pipe', 'pipe'] })
  let output = ''
  const take = (text: Buffer) => {
    output += text
    if (endWhen?.test(output)) child.stdin.end()
  }
  child.stdout.on('data', take)
  child.stderr.on('data', take)
  child.stdin.on('error', () => {})
  if (endWhen === undefined) child.stdin.end(input)
  else child.stdin.write(input)
  return new Promise((resolve) => child.once('close', () => resolve(output)))
}
const needsOpenssl = () => {
  if (hasCommand('openssl')) return false
  skip('TLS by openssl', 'needs openssl')
  return true
}

test.after.each(async () => {
  // Half-open is allowed: what a test has not ended would live on.
  for (const { peers } of recorders.splice(0)) for (const { link } of peers) link.abort()
  await Promise.all(listeners.splice(0).map((listener) => listener.unbind()))
})

// ── links ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a link opens after the handshake, with its facts, and carries bytes both ways', async () => {
  const { sink, endpoint } = await listen({ ...server, ca: ca.cert, requestCert: true, alpn: ['b/2', 'a/1'] }, echo())
  const near = recorder()
  const link = await connect(endpoint, { cert: alice.cert, key: alice.key, alpn: ['a/1'] }, near)
  link.write(Buffer.from('hello'))
  await near.until(() => near.peers[0]?.text === 'hello')
  const facts = sink.peers[0]?.link.feature?.(TLS)
  assert.is(facts?.protocol, 'TLSv1.3')
  assert.match(facts?.cipher ?? '', /^TLS_/)
  assert.is(facts?.alpn, 'a/1')
  assert.is(facts?.serverName, 'localhost')
  assert.is(facts?.authorized, true)
  assert.is(facts?.authorizationError, undefined)
  assert.is(facts?.peerCertificate?.subject.CN, 'alice')
  assert.is(sink.peers[0]?.link.feature?.(TLS), facts, 'made once')
  const theirs = link.feature?.(TLS)
  assert.is(theirs?.peerCertificate?.subject.CN, 'localhost')
  assert.is(theirs?.authorized, true)
  assert.match(String(sink.peers[0]?.link.remote), /^tls:\/\/127\.0\.0\.1:\d+$/)
  link.end()
  await near.until(() => near.peers[0]?.closes === 1)
  assert.is(near.peers[0]?.error, undefined)
})

test('each side may end first and still receive (half-close)', async () => {
  const sink = recorder()
  sink.onOpen = ({ link }) => {
    link.write(Buffer.from('bye'))
    link.end()
  }
  const { endpoint } = await listen(server, sink)
  const near = recorder()
  const link = await connect(endpoint, {}, near)
  await near.until(() => near.peers[0]?.ends === 1)
  link.write(Buffer.alloc(100_000))
  link.end()
  await sink.until(() => sink.peers[0]?.closes === 1)
  assert.is(sink.peers[0]?.bytes, 100_000)
  assert.is(sink.peers[0]?.error, undefined)
})

test('writeText and writeMany, beyond the marks and back', async () => {
  const { sink, endpoint } = await listen(server)
  const near = recorder()
  await connect(endpoint, {}, near)
  const { link } = await sink.peer()
  let expected = 0
  let mayGoOn = true
  for (let i = 0; i < 40; i++) {
    mayGoOn = link.writeText?.('zwölf'.repeat(2_000)) ?? true
    mayGoOn = link.writeMany?.([Buffer.alloc(20_000), Buffer.alloc(20_000)]) ?? true
    expected += 12_000 + 40_000
  }
  assert.is(mayGoOn, false)
  await near.until(() => near.peers[0]?.bytes === expected)
  await sink.until(() => sink.peers[0]?.drains === 1)
  assert.is(link.buffered, 0)
})

test('a session is resumed by its ticket, in TLS 1.2 and 1.3', async () => {
  const { sink, endpoint } = await listen({ ...server, ca: ca.cert, requestCert: true })
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    const options = { maxVersion: version, minVersion: version, cert: alice.cert, key: alice.key }
    const first = client(endpoint, options)
    const session = await new Promise<Buffer>((resolve) => first.socket.once('session', resolve))
    first.socket.destroy()
    const second = client(endpoint, { ...options, session })
    const socket = await second.secured
    assert.is(socket.isSessionReused(), true, version)
    const index = sink.peers.length - 1
    await sink.until(() =>
      sink.peers.some(({ link }) => link.feature?.(TLS)?.resumed === true && link.feature?.(TLS)?.protocol === version),
    )
    assert.is(sink.peers[index]?.link.feature?.(TLS)?.peerCertificate?.subject.CN, 'alice')
    socket.destroy()
    await second.closed
  }
})

// ── handshakes that fail ─────────────────────────────────────────────────────────────────────────────────────────────────

test('plaintext on the TLS port is a fault, and the listener lives (F38)', async () => {
  const { sink, endpoint } = await listen(server, echo())
  const raw = await rawConnect({ host: '127.0.0.1', port: endpoint.port as number })
  raw.socket.write('GET / HTTP/1.1\r\n\r\n')
  await Promise.race([raw.closed, raw.ended])
  await sink.until(() => sink.faults.length === 1)
  assert.instance(sink.faults[0]?.error, HandshakeError)
  assert.is(sink.faults[0]?.error.code, 'HANDSHAKE_FAILED')
  assert.is(sink.faults[0]?.remote?.port, raw.socket.localPort ?? sink.faults[0]?.remote?.port)
  raw.socket.destroy()
  const link = await connect(endpoint, {})
  await sink.until(() => sink.peers.length === 1)
  link.abort()
})

test('an abort inside the handshake is one fault (F39)', async () => {
  const { sink, endpoint } = await listen(server)
  for (const leave of [(socket: net.Socket) => socket.destroy(), (socket: net.Socket) => socket.resetAndDestroy()]) {
    const before = sink.faults.length
    const raw = await rawConnect({ host: '127.0.0.1', port: endpoint.port as number })
    // The beginning of a record of a handshake, and no more.
    raw.socket.write(Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]), () => leave(raw.socket))
    await sink.until(() => sink.faults.length === before + 1)
    assert.is(sink.faults[before]?.error.code, 'HANDSHAKE_FAILED')
  }
  assert.is(sink.peers.length, 0)
})

test('a stalled or trickling handshake is cut at its deadline, the raw socket too (F40)', async () => {
  const { sink, endpoint } = await listen(server, recorder(), { timeouts: { ...defaultTimeouts, handshakeMs: 150 } })
  const silent = await rawConnect({ host: '127.0.0.1', port: endpoint.port as number })
  const trickling = await rawConnect({ host: '127.0.0.1', port: endpoint.port as number })
  const started = performance.now()
  trickling.socket.write(Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00]))
  const trickle = setInterval(() => trickling.socket.write(Buffer.from([0])), 20)
  await Promise.all([silent, trickling].map((raw) => Promise.race([raw.closed, raw.ended])))
  clearInterval(trickle)
  assert.ok(performance.now() - started < 1_500, "long before Node's own limit of silence")
  await sink.until(() => sink.faults.length === 2)
  for (const { error } of sink.faults) assert.is(error.code, 'HANDSHAKE_TIMEOUT')
  for (const { socket } of [silent, trickling]) socket.destroy()
})

test('TLS 1.1 and older are refused with alert 70 (F41)', async () => {
  if (needsOpenssl()) return
  const { sink, endpoint } = await listen(server)
  for (const version of ['-tls1', '-tls1_1']) {
    const before = sink.faults.length
    const output = await openssl([
      's_client',
      '-connect',
      `127.0.0.1:${endpoint.port}`,
      version,
      '-cipher',
      'ALL:@SECLEVEL=0',
    ])
    assert.match(output, /alert number 70|alert protocol version/)
    await sink.until(() => sink.faults.length === before + 1)
  }
})

test('minVersion TLSv1.3 refuses 1.2; weak ciphers are refused', async () => {
  const { sink, endpoint } = await listen({ ...server, minVersion: 'TLSv1.3' })
  const old = await client(endpoint, { maxVersion: 'TLSv1.2' }).closed
  assert.match(old?.code ?? '', /ALERT_PROTOCOL_VERSION/)
  await sink.until(() => sink.faults.length === 1)
  const ordinary = await listen(server)
  const weak = await client(ordinary.endpoint, { maxVersion: 'TLSv1.2', ciphers: 'AES128-SHA:ECDHE-RSA-AES128-SHA' })
    .closed
  assert.match(weak?.code ?? '', /HANDSHAKE_FAILURE/)
})

test('renegotiation is refused and costs no handshake (F43)', async () => {
  if (needsOpenssl()) return
  const { sink, endpoint } = await listen(server, echo())
  const output = await openssl(
    ['s_client', '-connect', `127.0.0.1:${endpoint.port}`, '-tls1_2', '-servername', 'localhost'],
    'R\nR\nR\n',
    /no renegotiation|closed|:error:/,
  )
  assert.match(output, /no renegotiation/)
  await sink.until(() => sink.peers.length === 1)
  // Others are served as before.
  const link = await connect(endpoint, {})
  link.abort()
})

test('sni: exact and wildcard names have their certificates, the rest the default one (F44)', async () => {
  const sni = { 'example.org': exampleOrg, '*.Example.org': wild }
  const { endpoint } = await listen({ ...server, sni })
  const shown = async (servername: string) => {
    const each = client(endpoint, { servername, checkServerIdentity: () => undefined })
    const socket = await each.secured
    const { subject } = socket.getPeerCertificate()
    socket.destroy()
    await each.closed
    return subject.CN
  }
  assert.is(await shown('example.org'), 'example.org')
  assert.is(await shown('EXAMPLE.ORG'), 'example.org')
  assert.is(await shown('a.example.org'), '*.example.org')
  assert.is(await shown('a.b.example.org'), 'localhost', 'a wildcard is one label')
  assert.is(await shown('elsewhere.net'), 'localhost')
  assert.is(await shown(''), 'localhost', 'no name at all')
  assert.is(await shown(`${'a'.repeat(60)}.${'b'.repeat(60)}.${'c'.repeat(60)}.${'d'.repeat(60)}`), 'localhost')
})

test('sni without a default certificate: other names get the alert unrecognized_name (F44)', async () => {
  const { sink, endpoint } = await listen({ sni: { 'example.org': exampleOrg } })
  const known = client(endpoint, { servername: 'example.org' })
  ;(await known.secured).end()
  await sink.until(() => sink.peers.length === 1)
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    const before = sink.faults.length
    const error = await client(endpoint, { servername: 'elsewhere.net', minVersion: version, maxVersion: version })
      .closed
    assert.match(error?.code ?? '', /UNRECOGNIZED_NAME/)
    await sink.until(() => sink.faults.length > before)
    assert.is(sink.faults[before]?.error.code, 'UNRECOGNISED_NAME')
    assert.match(sink.faults[before]?.error.message ?? '', 'elsewhere.net')
  }
  // Ours says it too.
  const refused = await failure(connect(endpoint, { serverName: 'elsewhere.net' }))
  assert.is(refused.code, 'UNRECOGNISED_NAME')
  const nameless = await client(endpoint, { servername: '' }).closed
  assert.ok(nameless)
  await sink.until(() => sink.faults.at(-1)?.error.code === 'HANDSHAKE_FAILED')
})

test('names with NUL or of more than 255 bytes harm nobody (F44)', async () => {
  const { sink, endpoint } = await listen({ ...server, sni: { 'example.org': exampleOrg } })
  for (const name of ['a\0b', 'x'.repeat(255), 'x'.repeat(300), '.', '*.example.org', '__proto__']) {
    const raw = await rawConnect({ host: '127.0.0.1', port: endpoint.port as number })
    raw.socket.write(clientHello(name))
    await new Promise((resolve) => raw.socket.once('data', resolve).once('close', resolve).once('end', resolve))
    raw.socket.destroy()
    await raw.closed
  }
  await sink.until(() => sink.faults.length === 6)
  assert.is(sink.peers.length, 0)
  const link = await connect(endpoint, {})
  link.abort()
})

test('client certificates: none, foreign and expired ones are refused with the reason; a large one passes (F45)', async () => {
  const { sink, endpoint } = await listen({ ...server, ca: ca.cert, requestCert: true })
  const cases = [
    [{}, /certificate/],
    [mallory, /UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED|ISSUER/],
    [expired, /CERT_HAS_EXPIRED/],
  ] as const
  for (const [identity, reason] of cases) {
    const before = sink.faults.length
    await client(endpoint, identity).closed
    await sink.until(() => sink.faults.length > before)
    assert.is(sink.faults[before]?.error.code, 'CERTIFICATE_REFUSED')
    assert.match(sink.faults[before]?.error.message ?? '', reason)
  }
  assert.is(sink.peers.length, 0)
  assert.ok(large.cert.length > 16_384, `${large.cert.length} bytes of PEM`)
  const passed = client(endpoint, large)
  ;(await passed.secured).end('all in one flight')
  await sink.until(() => sink.peers[0]?.ends === 1)
  assert.is(sink.peers[0]?.text, 'all in one flight')
  sink.peers[0]?.link.end()
  await passed.closed
})

test('a client certificate that is wanted and not required: facts say why it is not authorized', async () => {
  const { sink, endpoint } = await listen({ ...server, ca: ca.cert, requestCert: true, rejectUnauthorized: false })
  const without = client(endpoint)
  await without.secured
  const stranger = client(endpoint, mallory)
  await stranger.secured
  await sink.until(() => sink.peers.length === 2)
  const facts = sink.peers.map(({ link }) => link.feature?.(TLS))
  assert.is(facts[0]?.peerCertificate, undefined)
  assert.is(facts[0]?.authorizationError, undefined)
  assert.is(facts[1]?.peerCertificate?.subject.CN, 'mallory')
  assert.is(facts[1]?.authorized, false)
  assert.match(facts[1]?.authorizationError ?? '', /UNABLE_TO_VERIFY_LEAF_SIGNATURE/)
  for (const { socket } of [without, stranger]) socket.destroy()
})

test('our own client hears that its certificate was refused, though in TLS 1.3 only after the handshake', async () => {
  const { endpoint } = await listen({ ...server, ca: ca.cert, requestCert: true })
  const near = recorder()
  const early = await failure(connect(endpoint, { maxVersion: 'TLSv1.2' }, near))
  assert.instance(early, HandshakeError)
  await connect(endpoint, {}, near).catch((error) => near.fault(error))
  await near.until(() => near.peers[0]?.closes === 1 || near.faults.length === 1)
  const late = near.peers[0]?.error ?? near.faults[0]?.error
  assert.is(late?.code, 'CERTIFICATE_REFUSED')
})

// ── connecting ───────────────────────────────────────────────────────────────────────────────────────────────────────────

test('connect verifies the chain and the name', async () => {
  const { endpoint } = await listen(server)
  const cases: [TlsOptions, RegExp][] = [
    [{ ca: otherCa.cert }, /UNABLE_TO_VERIFY_LEAF_SIGNATURE/],
    [{ serverName: 'elsewhere.net' }, /ERR_TLS_CERT_ALTNAME_INVALID/],
  ]
  for (const [options, reason] of cases) {
    const error = await failure(connect(endpoint, options))
    assert.instance(error, HandshakeError)
    assert.is(error.code, 'CERTIFICATE_REFUSED')
    assert.match(error.message, reason)
  }
  const near = recorder()
  const trusting = await connect(endpoint, { ca: otherCa.cert, rejectUnauthorized: false }, near)
  assert.is(trusting.feature?.(TLS)?.authorized, false)
  assert.match(trusting.feature?.(TLS)?.authorizationError ?? '', /UNABLE_TO_VERIFY_LEAF_SIGNATURE/)
  trusting.abort()
})

test('connect to a port that does not speak TLS fails, and a handshake can be given up', async () => {
  const silent = net.createServer((socket) => socket.on('error', () => {}).resume())
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  const endpoint = ANY.with({ port: (silent.address() as net.AddressInfo).port })
  const giveUp = new AbortController()
  const accepted = new Promise((resolve) => silent.once('connection', resolve))
  const pending = failure(connect(endpoint, {}, recorder(), giveUp.signal))
  await accepted
  giveUp.abort()
  assert.is((await pending).code, 'CONNECT_TIMEOUT')
  const options = { tls: { ca: ca.cert }, timeouts: { ...defaultTimeouts, handshakeMs: 50 } }
  const late = await failure(tls.connect?.(endpoint, options, recorder(), never) as Promise<Link>)
  assert.is(late.code, 'HANDSHAKE_TIMEOUT')
  silent.removeAllListeners('connection').on('connection', (socket) => socket.end('220 hello\r\n'))
  assert.is((await failure(connect(endpoint, {}))).code, 'HANDSHAKE_FAILED')
  silent.close()
})

// ── materials ────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('certificates are text, bytes or files; mistakes name the option and what to do', async () => {
  const certFile = join(folder, 'cert.pem')
  const keyFile = join(folder, 'key.pem')
  writeFileSync(certFile, server.cert)
  writeFileSync(keyFile, server.key, { mode: 0o600 })
  for (const options of [
    { cert: certFile, key: keyFile },
    { cert: Buffer.from(server.cert), key: new Uint8Array(Buffer.from(server.key)) },
    { cert: [server.cert], key: [keyFile] },
  ]) {
    const { endpoint } = await listen(options)
    ;(await connect(endpoint, {})).abort()
  }
  const cases: [TlsOptions | undefined, RegExp][] = [
    [undefined, /tls\.cert.*openssl req/],
    [{ key: server.key }, /tls\.cert/],
    [{ cert: server.cert }, /tls\.key/],
    [{ cert: join(folder, 'missing.pem'), key: server.key }, /tls\.cert.*missing\.pem.*ENOENT/],
    [{ cert: server.cert, key: folder }, /tls\.key.*EISDIR/],
    [{ cert: server.cert, key: alice.key }, /tls\.cert and tls\.key/],
    [{ cert: server.key, key: server.key }, /tls\.cert/],
    [{ cert: server.cert, key: server.cert }, /tls\.key/],
    [
      { ...server, sni: { 'example.org': { cert: join(folder, 'gone.pem'), key: server.key } } },
      /tls\.sni\["example\.org"\]\.cert.*gone\.pem/,
    ],
    [{ ...server, sni: { 'example.org': {} } }, /tls\.sni\["example\.org"\]/],
    [{ ...server, ciphers: 'no-such-cipher' }, /tls/],
  ]
  for (const [options, message] of cases) {
    const error = await failure(tls.listen(ANY, options === undefined ? {} : { tls: options }, recorder()))
    assert.instance(error, ConfigError)
    assert.is(error.code, 'BAD_VALUE')
    assert.match(error.message, message)
    assert.not.match(error.message, 'PRIVATE KEY')
  }
})

// ── pauses ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a handshake that ends within a pause opens after it', async () => {
  const { sink, endpoint, listener } = await listen(server, echo())
  const each = client(endpoint)
  await new Promise<void>((resolve) => each.socket.once('connect', () => resolve()))
  await new Promise((resolve) => setImmediate(resolve))
  listener.pause()
  await Promise.race([each.secured, new Promise((resolve) => setTimeout(resolve, 50))])
  assert.is(sink.peers.length, 0)
  listener.resume()
  const socket = await each.secured
  const echoed = new Promise((resolve) => socket.once('data', resolve))
  socket.write('after the pause')
  assert.is(String(await echoed), 'after the pause')
  socket.destroy()
})

// ── upgrades ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A server that says GO to START and upgrades, and a client that upgrades at GO, each with our own links. */
for (const [transport, where] of [
  [tcp, 'tcp://127.0.0.1:0'],
  [unix, `unix:${join(folder, 'upgrade')}`],
] as const) {
  test(`upgrade('tls') keeps both links of ${transport.name}: plain before, encrypted after`, async () => {
    const far = recorder()
    const upgraded: Promise<void>[] = []
    far.onData = (peer, chunk) => {
      if (String(chunk) !== 'START')
        return void peer.link.write(Buffer.from(`${chunk} over ${peer.link.feature?.(TLS)?.protocol}`))
      peer.link.write(Buffer.from('GO'))
      upgraded.push(peer.link.upgrade?.('tls', undefined) as Promise<void>)
      // Waits for the handshake: it must not go out in plain text.
      peer.link.write(Buffer.from('[secret]'))
    }
    const listener = await transport.listen(parseEndpoint(where), { tls: server } as never, far)
    listeners.push(listener)
    const near = recorder()
    const link = (await transport.connect?.(listener.endpoint, {} as never, near, never)) as Link
    link.write(Buffer.from('START'))
    await near.until(() => near.peers[0]?.text === 'GO')
    assert.is(link.feature?.(TLS), undefined)
    await link.upgrade?.('tls', { ca: ca.cert, serverName: 'localhost' })
    await Promise.all(upgraded)
    link.write(Buffer.from('hello'))
    await near.until(() => near.peers[0]?.text.includes('over') === true)
    assert.is(near.peers[0]?.text, 'GO[secret]hello over TLSv1.3')
    assert.is(far.peers.length + near.peers.length, 2, 'the links are the same')
    assert.is((await failure(link.upgrade?.('tls', undefined) as Promise<void>)).code, 'NOT_SUPPORTED')
    near.onEnd = (peer) => peer.link.end()
    far.peers[0]?.link.end()
    await far.until(() => far.peers[0]?.closes === 1)
    assert.is(far.peers[0]?.error, undefined)
  })
}

test('what goes over the wire of an upgrade: plain, then nothing but TLS records', async () => {
  const far = recorder()
  let upgrade: Promise<unknown> | undefined
  far.onData = (peer) => {
    peer.link.write(Buffer.alloc(300_000, 0x61))
    upgrade = failure(peer.link.upgrade?.('tls', undefined) as Promise<void>)
    peer.link.write(Buffer.from('secret'))
  }
  const listener = await tcp.listen(parseEndpoint('tcp://127.0.0.1:0'), { tls: server }, far)
  listeners.push(listener)
  const raw = await rawConnect(listener.endpoint)
  raw.socket.write('START')
  await raw.until('a'.repeat(300_000))
  raw.socket.write('this is no ClientHello')
  assert.instance(await upgrade, HandshakeError)
  await Promise.race([raw.closed, raw.ended])
  assert.not.match(raw.text, 'secret')
  await far.until(() => far.peers[0]?.closes === 1)
  assert.is(far.peers[0]?.error?.code, 'HANDSHAKE_FAILED')
  raw.socket.destroy()
})

test('an upgrade that stalls, that is aborted, or whose peer leaves ends its link once', async () => {
  for (const [leave, code] of [
    [() => {}, 'HANDSHAKE_TIMEOUT'],
    [(_: net.Socket, link: Link) => link.abort(new Error('given up')), undefined],
    [(socket: net.Socket) => socket.resetAndDestroy(), 'HANDSHAKE_FAILED'],
  ] as const) {
    const far = recorder()
    const timeouts = { ...defaultTimeouts, handshakeMs: code === 'HANDSHAKE_TIMEOUT' ? 50 : 5_000 }
    const listener = await tcp.listen(parseEndpoint('tcp://127.0.0.1:0'), { tls: server, timeouts }, far)
    listeners.push(listener)
    const raw = await rawConnect(listener.endpoint)
    const peer = await far.peer()
    const upgrade = failure(peer.link.upgrade?.('tls', undefined) as Promise<void>)
    await new Promise((resolve) => setTimeout(resolve, 20))
    leave(raw.socket, peer.link)
    const error = await upgrade
    if (code !== undefined) assert.is(error.code, code)
    await far.until(() => peer.closes === 1)
    assert.equal(peer.events, ['open', 'close'])
    raw.socket.destroy()
  }
})

test('pause holds over an upgrade, and end inside one is sent after it', async () => {
  const far = recorder()
  const listener = await tcp.listen(parseEndpoint('tcp://127.0.0.1:0'), { tls: server }, far)
  listeners.push(listener)
  const near = recorder()
  const link = (await tcp.connect?.(listener.endpoint, { tls: { ca: ca.cert } }, near, never)) as Link
  const peer = await far.peer()
  const theirs = peer.link.upgrade?.('tls', undefined)
  peer.link.pause()
  peer.link.write(Buffer.from('last words'))
  peer.link.end()
  // Above what the connection says: its `ca` holds.
  await link.upgrade?.('tls', { serverName: 'localhost' })
  await theirs
  link.write(Buffer.from('unheard'))
  await near.until(() => near.peers[0]?.ends === 1)
  assert.is(near.peers[0]?.text, 'last words')
  assert.is(peer.bytes, 0)
  peer.link.resume()
  link.end()
  await far.until(() => peer.closes === 1)
  assert.is(peer.text, 'unheard')
})

/**
 * A ClientHello of TLS 1.2 and 1.3 with any bytes as its server name (RFC 8446, section 4.1.2; RFC 6066, section 3).
 */
function clientHello(name: string): Buffer {
  const u16 = (value: number) => Buffer.from([value >> 8, value & 255])
  const sized = (bytes: Buffer) => Buffer.concat([u16(bytes.length), bytes])
  const host = Buffer.from(name, 'latin1')
  const extension = (type: number, body: Buffer) => Buffer.concat([u16(type), sized(body)])
  const extensions = Buffer.concat([
    extension(0, sized(Buffer.concat([Buffer.from([0]), sized(host)]))),
    extension(10, sized(Buffer.concat([u16(0x001d), u16(0x0017)]))),
    extension(11, Buffer.from([1, 0])),
    extension(13, sized(Buffer.concat([u16(0x0804), u16(0x0401), u16(0x0403)]))),
  ])
  const body = Buffer.concat([
    u16(0x0303),
    Buffer.alloc(32, 7),
    Buffer.from([0]),
    sized(Buffer.concat([u16(0xc02f), u16(0xc030)])),
    Buffer.from([1, 0]),
    sized(extensions),
  ])
  const handshake = Buffer.concat([Buffer.from([1, 0]), sized(body)])
  return Buffer.concat([Buffer.from([0x16, 3, 1]), sized(handshake)])
}

test.run()
