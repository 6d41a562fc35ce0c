// time limit: 360 s
/** TLS in depth: certificates that change, sessions resumed elsewhere, ALPN choosing the protocol, TLS or plain on one port. */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { type Connection, defineHandler, TLS } from 'gaidaros'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros, killAll } from '../support/command.js'
import { Peer, serve, stopAll } from '../support/faults.js'
import { skip } from '../support/skip.js'
import { hasTool } from '../support/tools.js'

const folder = mkdtempSync(join(tmpdir(), 'gt-'))
test.after(async () => {
  killAll()
  await stopAll()
  rmSync(folder, { recursive: true })
})
const pair = async (name: string) => {
  const { cert, private: key } = await generate([{ name: 'commonName', value: name }], { keySize: 2048 })
  return { cert, key }
}

function dial(port: number, options: ConnectionOptions = {}): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options })
    socket.once('secureConnect', () => resolve(socket))
    socket.once('error', reject)
  })
}
const nameOf = async (port: number, options: ConnectionOptions = {}) => {
  const socket = await dial(port, options)
  const { CN } = socket.getPeerCertificate().subject as { CN: string }
  socket.destroy()
  return CN
}

/** A folder's watchers may be told of what was written just before they began: a reload more, of the same files. */
const shows = async (name: string, ask: () => Promise<string>) => {
  let shown = ''
  for (const until = performance.now() + 20_000; shown !== name && performance.now() < until; ) {
    shown = await ask()
    if (shown !== name) await new Promise((resolve) => setTimeout(resolve, 20))
  }
  assert.is(shown, name)
}

test('a certificate that changes on disk serves the next handshake; a bad pair is told and not used (F46, F47)', async () => {
  const [one, two, other] = [await pair('one.test'), await pair('two.test'), await pair('named.test')]
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')]
  const named = join(folder, 'named.pem')
  /** As certbot does: written beside, then put in place. */
  const put = (file: string, text: string) => {
    writeFileSync(`${file}.new`, text)
    renameSync(`${file}.new`, file)
  }
  put(cert, one.cert)
  put(key, one.key)
  put(named, `${other.cert}\n${other.key}`)
  const { port, until, server, count } = await serve({
    listen: 'tls://127.0.0.1:0',
    tls: { cert, key, sni: { '*.example.org': { cert: named, key: named } } },
    handler: (line: string) => line,
  })
  const living = await dial(port)
  assert.is(await nameOf(port), 'one.test')
  // Somebody dials all the while.
  let failures = 0
  let dialled = 0
  let isOver = false
  const busy = (async () => {
    while (!isOver) {
      await nameOf(port).catch(() => failures++)
      dialled++
    }
  })()
  put(cert, two.cert)
  put(key, two.key)
  await until('listener.reloaded')
  assert.is(await nameOf(port), 'two.test')
  for (let i = 0; i < 5; i++) {
    const next = i % 2 === 0 ? one : two
    put(key, next.key)
    put(cert, next.cert)
    await until('listener.reloaded')
  }
  put(key, two.key)
  const { error } = await until('listener.fault', (fault) => /belong/.test(fault.error.message))
  assert.match(error.message, /the key does not belong to the certificate/)
  assert.is(await nameOf(port), 'one.test')
  assert.is(await server.listeners.get('default')?.reload(), false)
  put(key, one.key)
  await until('listener.reloaded')
  put(named, `${two.cert}\n${two.key}`)
  await until('listener.reloaded')
  assert.is(await nameOf(port, { servername: 'a.example.org' }), 'two.test')
  assert.is(await nameOf(port, { servername: 'a.b.example.org' }), 'one.test')
  isOver = true
  await busy
  assert.is(failures, 0)
  assert.ok(dialled > 50, `${dialled} handshakes`)
  living.write('still here\n')
  assert.is(String(await new Promise((resolve) => living.once('data', resolve))), 'still here\n')
  living.destroy()
  assert.is(count('listener.fault') >= 2, true)
})

test('a session of one listener is resumed by another that shares the ticket keys, and not by one that does not', async () => {
  const materials = await pair('localhost')
  const keys = join(folder, 'ticket.key')
  writeFileSync(keys, randomBytes(48))
  const handler = (line: string, connection: Connection) => `${line} ${connection.feature(TLS)?.resumed}`
  const start = (ticketKeys: string | Uint8Array) =>
    serve({ listen: 'tls://127.0.0.1:0', tls: { ...materials, ticketKeys }, handler })
  const [first, second, third] = [await start(keys), await start(keys), await start(randomBytes(48))]
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const socket = connect({ port: first.port, host: '127.0.0.1', rejectUnauthorized: false, maxVersion })
    let session: Buffer | undefined
    socket.on('session', (given) => {
      session = given
    })
    socket.write('hello\n')
    assert.is(String(await new Promise((resolve) => socket.once('data', resolve))), 'hello false\n')
    socket.destroy()
    for (const [port, resumed] of [
      [second.port, true],
      [third.port, false],
    ] as const) {
      const again = await dial(port, { maxVersion, session: session as Buffer })
      assert.is(again.isSessionReused(), resumed, `${maxVersion} ${resumed}`)
      again.destroy()
    }
  }
})

test('ALPN chooses the protocol; TLS and plain share a port', async () => {
  const materials = await pair('localhost')
  const pages = defineHandler({ name: 'Pages', routes: { GET: () => 'page' } })
  const { port } = await serve({
    listen: undefined as never,
    listeners: {
      default: {
        endpoint: 'tcp://127.0.0.1:0',
        tls: { ...materials, alpn: ['http/1.1'] },
        layers: [{ name: 'tls', optional: true }],
        protocol: [
          { name: 'http', handler: pages },
          { codec: 'line', handler: (line: string) => `line ${line}` },
        ],
      },
    },
  } as never)
  const secure = await dial(port, { ALPNProtocols: ['http/1.1'] })
  assert.is(secure.alpnProtocol, 'http/1.1')
  secure.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
  assert.match(String(await new Promise((resolve) => secure.once('data', resolve))), /page$/)
  secure.destroy()
  const lines = await dial(port)
  lines.write('hello\n')
  assert.is(String(await new Promise((resolve) => lines.once('data', resolve))), 'line hello\n')
  lines.destroy()
  await (await Peer.open(port)).send('plain\n').hears('line plain\n')
})

test('ticket keys of another size are refused at the start', async () => {
  await serve({
    listen: 'tls://127.0.0.1:0',
    tls: { ...(await pair('x')), ticketKeys: Buffer.alloc(47) },
    handler: () => undefined,
  }).then(
    () => assert.unreachable(),
    (error) => assert.match((error as Error).message, /expected 48 bytes, got 47.*openssl rand 48/),
  )
})

test('client certificates are mapped to identities; strangers are refused', async () => {
  const authority = await generate([{ name: 'commonName', value: 'ca' }], { keySize: 2048 })
  const client = await pair('alice')
  const server = await pair('localhost')
  const start = (middleware: object) =>
    serve({
      listen: 'tls://127.0.0.1:0',
      tls: { ...server, requestCert: true, rejectUnauthorized: false, ca: client.cert },
      middleware: [{ name: 'client-identity', ...middleware }],
      handler: (line: string, connection: Connection) => `${line} ${connection.attributes.get('identity')}`,
    })
  const says = async (port: number, options: ConnectionOptions) => {
    const socket = await dial(port, options)
    socket.write('hi\n')
    const said = await new Promise((resolve) => {
      socket.once('data', (chunk) => resolve(String(chunk)))
      socket.once('end', () => resolve('refused'))
      socket.once('error', () => resolve('refused'))
    })
    socket.destroy()
    return said
  }
  const byName = await start({ identities: { alice: 'Alice' } })
  assert.is(await says(byName.port, client), 'hi Alice\n')
  assert.is(await says(byName.port, {}), 'refused')
  assert.is((await byName.until('connection.refused')).reason, 'IDENTITY_UNKNOWN')
  const stranger = { cert: authority.cert, key: authority.private }
  assert.is(await says(byName.port, stranger), 'refused')
  const lax = await start({ required: false })
  assert.is(await says(lax.port, {}), 'hi undefined\n')
  assert.is(await says(lax.port, client), 'hi alice\n')
})

test('handshakes at a time are capped; who waits is served, within the deadline (F82)', async () => {
  const { port, count, until } = await serve({
    listen: 'tls://127.0.0.1:0',
    tls: await pair('localhost'),
    limits: { handshakes: 1 },
    timeouts: { handshakeMs: 400 },
    handler: (line: string) => line,
  })
  // It begins, and says no more: until its deadline nobody else has a turn.
  const stalled = await Peer.open(port)
  stalled.send(Buffer.from([22, 3, 1]))
  await new Promise((resolve) => setTimeout(resolve, 100))
  const began = performance.now()
  const waiting = dial(port)
  await until('listener.fault', ({ error }) => (error as { code?: string }).code === 'HANDSHAKE_TIMEOUT')
  const socket = await waiting
  assert.ok(performance.now() - began > 200)
  socket.write('hello\n')
  assert.is(String(await new Promise((resolve) => socket.once('data', resolve))), 'hello\n')
  socket.destroy()
  const all = await Promise.all(Array.from({ length: 20 }, () => dial(port)))
  for (const one of all) one.destroy()
  assert.is(count('listener.fault'), 1)
})

test('certificates come, change and go while it runs, by name and wildcard, checked first', async () => {
  const [main, named, wild, other] = await Promise.all(['main.test', 'named.test', 'wild.test', 'other.test'].map(pair))
  const handler = (line: string) => line
  // The same by a layer, where something stands before the handshake; and over a switch in mid-life.
  const subjects = {
    tls: await serve({ listen: 'tls://127.0.0.1:0', tls: main as object, handler }),
    layer: await serve({ tls: main as object, layers: ['tls'], handler }),
    wss: await serve({ listen: 'wss://127.0.0.1:0', tls: main as object, handler }),
  }
  for (const [what, { port, server, until }] of Object.entries(subjects)) {
    const listener = server.listeners.get('default')
    assert.is(await nameOf(port, { servername: 'a.named.test' }), 'main.test', what)
    await listener?.setCertificate('a.named.test', named)
    await until('listener.reloaded')
    await listener?.setCertificate('*.wild.test', wild)
    assert.is(await nameOf(port, { servername: 'A.Named.Test' }), 'named.test', what)
    assert.is(await nameOf(port, { servername: 'b.wild.test' }), 'wild.test', what)
    assert.is(await nameOf(port, { servername: 'c.b.wild.test' }), 'main.test', what)
    await listener?.setCertificate('A.NAMED.test', other)
    assert.is(await nameOf(port, { servername: 'a.named.test' }), 'other.test', what)
    const bad = { cert: named?.cert, key: other?.key } as object
    await listener?.setCertificate('a.named.test', bad).then(
      () => assert.unreachable(),
      (error) => assert.match((error as Error).message, /tls\.sni\["a\.named\.test"\].*does not belong/),
    )
    assert.is(await nameOf(port, { servername: 'a.named.test' }), 'other.test', what)
    await listener?.setCertificate('a.named.test', undefined)
    await listener?.setCertificate('*', named)
    assert.is(await nameOf(port, { servername: 'a.named.test' }), 'named.test', what)
    // What is read again is what there is now.
    assert.is(await listener?.reload(), true)
    assert.is(await nameOf(port, { servername: 'b.wild.test' }), 'wild.test', what)
  }
  const plain = await serve({ handler })
  await plain.server.listeners
    .get('default')
    ?.setCertificate('x.test', named)
    .then(
      () => assert.unreachable(),
      (error) => assert.match((error as Error).message, /shows no certificates.*began without/),
    )
})

test('a certificate given by files at run time is watched as others are', async () => {
  const [main, one, two] = await Promise.all(['main.test', 'one.test', 'two.test'].map(pair))
  const file = join(folder, 'late.pem')
  const put = (given: typeof one) => {
    writeFileSync(`${file}.new`, `${given?.cert}\n${given?.key}`)
    renameSync(`${file}.new`, file)
  }
  put(one)
  const { port, server, until } = await serve({
    listen: 'tls://127.0.0.1:0',
    tls: main as object,
    handler: (line: string) => line,
  })
  await server.listeners.get('default')?.setCertificate('late.test', { cert: file, key: file })
  await until('listener.reloaded')
  assert.is(await nameOf(port, { servername: 'late.test' }), 'one.test')
  put(two)
  await shows('two.test', () => nameOf(port, { servername: 'late.test' }))
})

test('certificates behind a PROXY header, and of STARTTLS, reload as those of tls:// do', async () => {
  const [one, two] = await Promise.all(['one.test', 'two.test'].map(pair))
  const [cert, key] = [join(folder, 'layered.pem'), join(folder, 'layered.key')]
  const put = (given: typeof one) => {
    writeFileSync(key, String(given?.key))
    writeFileSync(cert, String(given?.cert))
  }
  put(one)
  const handler = defineHandler({
    name: 'Switch',
    codec: 'line',
    message(_line: string, connection: Connection) {
      void connection.send('go')
      return connection.upgrade('tls')
    },
  })
  const behind = await serve({
    listen: 'tls://127.0.0.1:0',
    tls: { cert, key },
    layers: [{ name: 'proxy-protocol', trusted: ['127.0.0.1'] }],
    handler,
  })
  const starttls = await serve({ tls: { cert, key }, handler })
  const shown = async (port: number, before: string) => {
    const peer = (await Peer.open(port)).send(before)
    if (before === 'tls\n') await peer.hears('go\n')
    return nameOf(port, { socket: peer.socket })
  }
  const header = 'PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n'
  assert.is(await shown(behind.port, header), 'one.test')
  assert.is(await shown(starttls.port, 'tls\n'), 'one.test')
  put(two)
  await shows('two.test', () => shown(behind.port, header))
  await shows('two.test', () => shown(starttls.port, 'tls\n'))
})

test('ten thousand handshakes while the certificate changes all the time: none fails (F46)', async () => {
  const [one, two] = await Promise.all(['one.test', 'two.test'].map(pair))
  const [cert, key] = [join(folder, 'busy.pem'), join(folder, 'busy.key')]
  const put = (given: typeof one) => {
    writeFileSync(key, String(given?.key))
    writeFileSync(cert, String(given?.cert))
  }
  put(one)
  const { port, server, seen } = await serve({
    listen: 'tls://127.0.0.1:0',
    tls: { cert, key, watch: false },
    handler: (line: string) => line,
  })
  const total = 10_000
  let begun = 0
  const shown = new Map<string, number>()
  const failures: unknown[] = []
  const dialling = Array.from({ length: 8 }, async () => {
    while (begun++ < total) {
      const name = await nameOf(port).catch((error) => void failures.push(error))
      if (name !== undefined) shown.set(name, (shown.get(name) ?? 0) + 1)
    }
  })
  let swaps = 0
  const busy = Promise.all(dialling)
  let isOver = false
  void busy.then(() => {
    isOver = true
  })
  while (!isOver) {
    put(swaps % 2 === 0 ? two : one)
    assert.is(await server.listeners.get('default')?.reload(), true)
    swaps++
    // Half a pair: refused, and the old one goes on.
    writeFileSync(key, String(swaps % 2 === 0 ? two?.key : one?.key))
    assert.is(await server.listeners.get('default')?.reload(), false)
  }
  await busy
  assert.equal(failures, [])
  assert.is(
    [...shown.values()].reduce((sum, each) => sum + each, 0),
    total,
  )
  assert.ok((shown.get('one.test') ?? 0) > 10 && (shown.get('two.test') ?? 0) > 10, JSON.stringify([...shown]))
  // A client that leaves as soon as it has seen the certificate is none of these.
  const refused = seen.filter(
    ({ name, event }) => name === 'listener.fault' && /belong/.test(String((event as { error: Error }).error)),
  )
  assert.is(refused.length, swaps)
})

/** The command with a TLS listener, as an operator runs it. */
const command = (args: readonly string[]) =>
  gaidaros(['serve', '--listen', 'tls://127.0.0.1:0', '--eval', 'line => line', ...args], { cwd: folder })
const sClient = (port: number, args: readonly string[]) => {
  const all = ['s_client', '-connect', `127.0.0.1:${port}`, '-no_ign_eof', ...args]
  return new Promise<string>((resolve) => {
    const child = spawn('openssl', all)
    // Apart: a line of the one may be cut in two by the other.
    let [output, errors] = ['', '']
    child.stdout.on('data', (chunk) => {
      output += chunk
      // Its echo came: the tickets of TLS 1.3 have come before.
      if (/hello\r?\n/.test(output)) child.stdin.end()
    })
    child.stderr.on('data', (chunk) => {
      errors += chunk
    })
    child.stdin.on('error', () => {})
    child.on('close', () => resolve(`${output}\n${errors}`))
    child.stdin.write('hello\n')
    setTimeout(() => child.kill('SIGKILL'), 30_000).unref()
  })
}

test('SIGHUP: the command shows the new certificate; a bad pair is told, and the old one stays (F46, F47)', async () => {
  const [one, two] = await Promise.all(['one.test', 'two.test'].map(pair))
  const [cert, key] = [join(folder, 'hup.pem'), join(folder, 'hup.key')]
  const put = (given: typeof one, with_ = given) => {
    writeFileSync(key, String(with_?.key))
    writeFileSync(cert, String(given?.cert))
  }
  put(one)
  const server = command(['--tls-cert', cert, '--tls-key', key, '--set', 'tls.watch=false'])
  const { default: port = 0 } = await server.ready()
  assert.is(await nameOf(port), 'one.test')
  put(two)
  server.child.kill('SIGHUP')
  while ((await nameOf(port)) !== 'two.test') await new Promise((resolve) => setTimeout(resolve, 20))
  put(one, two)
  server.child.kill('SIGHUP')
  await server.shows(/does not belong to the certificate/)
  assert.is(await nameOf(port), 'two.test')
  server.child.kill('SIGTERM')
  assert.is(await server.ended, 0)
})

test('openssl resumes in one process what it began in another; after a rotation, in neither until it begins anew', async () => {
  if (!hasTool('openssl')) return skip('openssl', 'openssl is not installed')
  const one = await pair('localhost')
  const files = { cert: join(folder, 'two.pem'), key: join(folder, 'two.key'), tickets: join(folder, 'ticket.keys') }
  writeFileSync(files.cert, one.cert)
  writeFileSync(files.key, one.key)
  writeFileSync(files.tickets, randomBytes(48))
  const args = ['--tls-cert', files.cert, '--tls-key', files.key, '--set', `tls.ticketKeys="${files.tickets}"`]
  const servers = [command(args), command(args)]
  const ports = await Promise.all(servers.map(async (server) => (await server.ready()).default ?? 0))
  const session = join(folder, 'session.pem')
  for (const version of ['-tls1_2', '-tls1_3']) {
    assert.match(await sClient(ports[0] as number, [version, '-sess_out', session]), /^New, /m)
    assert.match(await sClient(ports[1] as number, [version, '-sess_in', session]), /^Reused, /m, version)
  }
  await sClient(ports[0] as number, ['-tls1_2', '-sess_out', session])
  writeFileSync(`${files.tickets}.new`, randomBytes(48))
  renameSync(`${files.tickets}.new`, files.tickets)
  for (const server of servers) server.child.kill('SIGHUP')
  for (const port of ports) {
    let output = ''
    while (!/^New, /m.test(output)) output = await sClient(port, ['-tls1_2', '-sess_in', session])
  }
  await sClient(ports[0] as number, ['-tls1_2', '-sess_out', session])
  assert.match(await sClient(ports[1] as number, ['-tls1_2', '-sess_in', session]), /^Reused, /m)
  for (const server of servers) {
    server.child.kill('SIGTERM')
    assert.is(await server.ended, 0)
  }
})

test('openssl: SNI with a wildcard, ALPN, a client certificate', async () => {
  if (!hasTool('openssl')) return skip('openssl', 'openssl is not installed')
  const [main, wild, alice] = await Promise.all(['main.test', 'wild.test', 'alice'].map(pair))
  const files = { cert: join(folder, 'alice.pem'), key: join(folder, 'alice.key') }
  writeFileSync(files.cert, String(alice?.cert))
  writeFileSync(files.key, String(alice?.key))
  const { port } = await serve({
    listen: 'tls://127.0.0.1:0',
    tls: {
      ...(main as object),
      sni: { '*.wild.test': wild as object },
      alpn: ['two', 'one'],
      requestCert: true,
      ca: String(alice?.cert),
      rejectUnauthorized: false,
    },
    middleware: [{ name: 'client-identity', required: false }],
    handler: (line: string, connection: Connection) =>
      `${line}\n${connection.feature(TLS)?.alpn} ${connection.attributes.get('identity')}`,
  })
  const told = await sClient(port, [
    '-servername',
    'a.wild.test',
    '-alpn',
    'one',
    '-cert',
    files.cert,
    '-key',
    files.key,
  ])
  assert.match(told, /subject=.*CN ?= ?wild\.test/)
  assert.match(told, /ALPN protocol: one/)
  assert.match(told, /^one alice$/m)
  const stranger = await sClient(port, ['-servername', 'other.test'])
  assert.match(stranger, /subject=.*CN ?= ?main\.test/)
  assert.match(stranger, /No ALPN negotiated/)
  assert.match(stranger, /^undefined undefined$/m)
})

test.run()
