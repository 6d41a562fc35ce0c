// time limit: 240 s
/** TLS in depth: certificates that change, sessions resumed elsewhere, ALPN choosing the protocol, TLS or plain on one port. */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { type Connection, defineHandler, TLS } from 'gaidaros'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Peer, serve, stopAll } from '../support/faults.js'

const folder = mkdtempSync(join(tmpdir(), 'gt-'))
test.after(async () => {
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

test.run()
