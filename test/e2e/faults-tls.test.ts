/** TLS against those who do not play by the rules, with OpenSSL as the other side: F38–F45 of the catalogue. */
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import { type Connection, connect, TLS } from 'gaidaros'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, Peer, serve, stopAll } from '../support/faults.js'

const folder = mkdtempSync(join(tmpdir(), 'gaidaros-'))
const issued = async (name: string, options: object = {}) => {
  const { cert, private: key } = await generate([{ name: 'commonName', value: name }], options)
  const files = { cert: join(folder, `${name}.pem`), key: join(folder, `${name}.key`) }
  writeFileSync(files.cert, cert)
  writeFileSync(files.key, key)
  return { cert, key, files }
}
const localhost = await issued('localhost')
const echo = (line: string) => line
const listen = 'tls://127.0.0.1:0'
const tls = { cert: localhost.cert, key: localhost.key }

/** Talks through `openssl s_client`; the answer, with what it printed of the handshake. */
function openssl(port: number, args: string[], input = 'hello\n'): Promise<string> {
  return new Promise((resolve) => {
    const child = spawn('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, '-no_ign_eof', ...args])
    let output = ''
    const take = (chunk: Buffer) => {
      output += chunk.toString('latin1')
      if (output.includes(input)) child.stdin.end()
    }
    child.stdout.on('data', take)
    child.stderr.on('data', take)
    child.stdin.on('error', () => {})
    child.on('close', () => resolve(output))
    child.stdin.write(input)
    setTimeout(() => child.kill('SIGKILL'), 10_000).unref()
  })
}

test('openssl s_client gets its answer; the handler knows the facts', async () => {
  const { port } = await serve({
    listen,
    tls,
    handler: (line: string, connection: Connection) => `${line} over ${connection.feature(TLS)?.protocol}`,
  })
  assert.match(await openssl(port, [], 'hello'.concat('\n')).then((text) => text), /TLSv1\.3/)
})

test('F38 plain text on the TLS port is closed and counted', async () => {
  const { port, until, count } = await serve({ listen, tls, handler: echo })
  const peer = (await Peer.open(port)).send('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
  await peer.over
  const { error } = await until('listener.fault')
  assert.is((error as { code?: string }).code, 'HANDSHAKE_FAILED')
  assert.is(count('connection.opened'), 0)
  peer.leave()
})

test('F39 a peer that leaves inside its handshake costs nothing', async () => {
  const { port, until, server } = await serve({ listen, tls, handler: echo })
  for (let i = 0; i < 10; i++) {
    const peer = (await Peer.open(port)).send(Buffer.of(22, 3, 1, 0, 200, 1))
    if (i % 2 === 0) peer.socket.resetAndDestroy()
    else peer.socket.end()
  }
  await until('listener.fault')
  await eventually(() => (server.counters['fault.HANDSHAKE_FAILED'] ?? 0) === 10, 'all ten are counted')
  const client = await connect(`tls://127.0.0.1:${port}`, { tls: { ca: localhost.cert, serverName: 'localhost' } })
  assert.is(await client.request('alive'), 'alive')
  await client.close()
})

test('F40 a stalled handshake is closed at its deadline, the socket beneath too', async () => {
  const { port, until } = await serve({ listen, tls, handler: echo, timeouts: { handshakeMs: 200 } })
  const peer = await Peer.open(port)
  await peer.over
  const { error } = await until('listener.fault')
  assert.is((error as { code?: string }).code, 'HANDSHAKE_TIMEOUT')
  peer.leave()
})

for (const version of ['-tls1', '-tls1_1']) {
  test(`F41 ${version.slice(1)} is refused`, async () => {
    const { port, until } = await serve({ listen, tls, handler: echo })
    const text = await openssl(port, [version, '-cipher', 'ALL:@SECLEVEL=0'])
    assert.match(text, /alert protocol version|alert number 70|unsupported protocol/i)
    assert.not.match(text, /^hello/m)
    await until('listener.fault')
  })
}

test('F42 weak ciphers are refused, and what is agreed is on the intermediate list', async () => {
  const { port } = await serve({ listen, tls, handler: echo })
  for (const cipher of ['AES128-SHA', 'ECDHE-RSA-AES128-SHA', 'AES256-GCM-SHA384']) {
    const text = await openssl(port, ['-tls1_2', '-cipher', `${cipher}:@SECLEVEL=0`])
    assert.match(text, /handshake failure|no cipher/i, cipher)
  }
  assert.match(await openssl(port, ['-tls1_2']), /Cipher is ECDHE-RSA-(AES(128|256)-GCM|CHACHA20)/)
})

test('F42 of all ciphers this OpenSSL has, exactly those of the intermediate list are agreed to', async () => {
  const { port } = await serve({ listen, tls, handler: echo })
  const agreed: string[] = []
  const ciphers = execFileSync('openssl', ['ciphers', '-tls1_2', '-s', 'ALL:COMPLEMENTOFALL:@SECLEVEL=0'], {
    encoding: 'utf8',
  })
  for (const cipher of ciphers.trim().split(':')) {
    await new Promise<void>((resolve) => {
      const over = () => {
        socket.destroy()
        resolve()
      }
      const host = '127.0.0.1'
      const options = { port, host, ciphers: `${cipher}:@SECLEVEL=0`, maxVersion: 'TLSv1.2' } as const
      let socket: ReturnType<typeof connectTls>
      try {
        socket = connectTls({ ...options, minVersion: 'TLSv1.2', rejectUnauthorized: false })
      } catch {
        // Node's own OpenSSL has it not.
        return resolve()
      }
      socket.once('secureConnect', () => {
        agreed.push(socket.getCipher().name)
        over()
      })
      socket.once('error', over)
    })
  }
  // ssl-config.mozilla.org, intermediate, for a server whose certificate is RSA and that offers no DHE parameters.
  const golden = ['ECDHE-RSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES256-GCM-SHA384', 'ECDHE-RSA-CHACHA20-POLY1305']
  assert.equal(agreed.sort(), golden)
})

test('F43 renegotiation is refused', async () => {
  const { port, until } = await serve({ listen, tls, handler: echo })
  const child = spawn('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, '-tls1_2'])
  child.stdin.on('error', () => {})
  const gone = new Promise((resolve) => child.once('close', resolve))
  await until('connection.opened')
  child.stdin.write('R\n')
  const { reason } = await until('connection.closed')
  assert.is(reason.by, 'network')
  child.kill()
  await gone
  const client = await connect(`tls://127.0.0.1:${port}`, { tls: { rejectUnauthorized: false } })
  assert.is(await client.request('alive'), 'alive')
  await client.close()
})

test('F44 server names: the right certificate, the default one, and unrecognised_name where there is none', async () => {
  const [a, wild] = [await issued('a.test'), await issued('wild.test')]
  const sni = { 'a.test': { cert: a.cert, key: a.key }, '*.wild.test': { cert: wild.cert, key: wild.key } }
  const named = async (port: number, name: string) => {
    const text = await openssl(port, ['-servername', name])
    return /subject=.*CN ?= ?([^\n]*)/.exec(text)?.[1] ?? text
  }
  const both = await serve({ listen, tls: { ...tls, sni }, handler: echo })
  assert.is(await named(both.port, 'a.test'), 'a.test')
  assert.is(await named(both.port, 'x.wild.test'), 'wild.test')
  assert.is(await named(both.port, 'y.x.wild.test'), 'localhost', 'a star is one label')
  assert.is(await named(both.port, 'other.test'), 'localhost')
  assert.is(await named(both.port, 'a'.repeat(250)), 'localhost')
  const only = await serve({ listen, tls: { sni }, handler: echo })
  assert.is(await named(only.port, 'a.test'), 'a.test')
  assert.match(await openssl(only.port, ['-servername', 'other.test']), /unrecognized name|alert number 112/i)
  assert.is(((await only.until('listener.fault')).error as { code?: string }).code, 'UNRECOGNISED_NAME')
})

test('F45 client certificates: none, of another CA, expired: refused with the reason; the right one greets by name', async () => {
  const ca = await generate([{ name: 'commonName', value: 'CA' }], {
    extensions: [{ name: 'basicConstraints', cA: true, critical: true }],
  } as never)
  const byCa = { ca: { key: ca.private, cert: ca.cert } }
  const alice = await issued('alice', byCa)
  const old = await issued('old', {
    ...byCa,
    notBeforeDate: new Date('2020-01-01'),
    notAfterDate: new Date('2021-01-01'),
  })
  const mallory = await issued('mallory')
  const { port, until, count } = await serve({
    listen,
    tls: { ...tls, ca: ca.cert, requestCert: true },
    handler: (line: string, connection: Connection) =>
      `${connection.feature(TLS)?.peerCertificate?.subject.CN} ${line}`,
  })
  const client = await connect(`tls://127.0.0.1:${port}`, {
    tls: { rejectUnauthorized: false, cert: alice.cert, key: alice.key },
  })
  assert.is(await client.request('hi'), 'alice hi')
  await client.close()
  for (const [who, pair] of Object.entries({ nobody: undefined, mallory, old })) {
    const socket = connectTls({
      port,
      host: '127.0.0.1',
      rejectUnauthorized: false,
      ...(pair ? { cert: pair.cert, key: pair.key } : {}),
    })
    socket.on('error', () => {})
    socket.resume()
    const { error } = await until('listener.fault')
    assert.is((error as { code?: string }).code, 'CERTIFICATE_REFUSED', who)
    socket.destroy()
  }
  assert.is(count('connection.opened'), 1)
})

test('F45 asked for and not required: the handler decides', async () => {
  const { port } = await serve({
    listen,
    tls: { ...tls, requestCert: true, rejectUnauthorized: false },
    handler: (_line: string, connection: Connection) => {
      const facts = connection.feature(TLS)
      return `${facts?.authorized} ${facts?.peerCertificate?.subject.CN ?? 'nobody'}`
    },
  })
  const mallory = await issued('mallory')
  const known = await connect(`tls://127.0.0.1:${port}`, {
    tls: { rejectUnauthorized: false, cert: mallory.cert, key: mallory.key },
  })
  assert.is(await known.request('x'), 'false mallory')
  await known.close()
  const none = await connect(`tls://127.0.0.1:${port}`, { tls: { rejectUnauthorized: false } })
  assert.is(await none.request('x'), 'false nobody')
  await none.close()
})

test('alpn, server names and versions are facts; pfx with a passphrase serves', async () => {
  const pfx = join(folder, 'localhost.pfx')
  const { cert, key } = localhost.files
  execFileSync('openssl', ['pkcs12', '-export', '-out', pfx, '-inkey', key, '-in', cert, '-passout', 'pass:secret'])
  const { port } = await serve({
    listen,
    tls: { pfx, passphrase: 'secret', alpn: ['b', 'a'], maxVersion: 'TLSv1.2' },
    handler: (_line: string, connection: Connection) => {
      const { protocol, alpn, serverName } = connection.feature(TLS) ?? {}
      return `${protocol} ${alpn} ${serverName}`
    },
  })
  const client = await connect(`tls://127.0.0.1:${port}`, {
    tls: { ca: localhost.cert, serverName: 'localhost', alpn: ['a'] },
  })
  assert.is(await client.request('x'), 'TLSv1.2 a localhost')
  await client.close()
})

test('a client refuses a certificate it cannot trust, with the reason', async () => {
  const { port } = await serve({ listen, tls, handler: echo })
  const failure = await connect(`tls://127.0.0.1:${port}`).catch((error) => error)
  assert.is(failure.code, 'CERTIFICATE_REFUSED')
})

for (const [what, options, expected] of [
  ['no certificate', {}, /tls\.cert.*openssl/s],
  ['a file that is not there', { cert: './no.pem', key: './no.key' }, /no\.pem/],
  [
    'a key of another certificate',
    { cert: tls.cert, key: (await issued('other')).key },
    /does not belong to the certificate/,
  ],
] as const) {
  test(`${what} is an error before anything is bound`, async () => {
    const failure = await serve({ listen, tls: options, handler: echo }).catch((error) => error)
    assert.is(failure.name, 'ConfigError')
    assert.match(failure.message, expected)
    assert.not.match(failure.message, /PRIVATE/)
  })
}

test.after(async () => {
  await stopAll()
  rmSync(folder, { recursive: true, force: true })
})
test.run()
