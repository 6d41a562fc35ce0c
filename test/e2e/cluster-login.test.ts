// time limit: 240 s
/** Logins and TLS of a cluster: those that fit work; those that do not end the start, and no secret is shown (F94). */
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Command, gaidaros } from '../support/command.js'
import { Peer } from '../support/faults.js'
import { endAll, noNats, startNats } from '../support/nats.js'
import { skip } from '../support/skip.js'

const folder = mkdtempSync(join(tmpdir(), 'gl-'))
const file = (name: string, content: string) => {
  const path = join(folder, name)
  writeFileSync(path, content, { mode: 0o600 })
  return path
}
const upper = ['--eval', 'line => line.toUpperCase()']

const natsTest = (name: string, run: () => Promise<void>) =>
  test(name, async () => (noNats === undefined ? run() : skip(name, noNats)))

function settings(url: string, options: object): string[] {
  return Object.entries({ servers: url, ...options }).flatMap(([key, value]) => [
    '--set',
    `cluster.${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  ])
}
const startNode = (url: string, options: object) =>
  gaidaros(['node', ...upper, ...settings(url, options)], { cwd: folder })
const startServer = (url: string, options: object) =>
  gaidaros(['serve', '--listen', 'tcp://127.0.0.1:0', '--executor', 'cluster', ...upper, ...settings(url, options)], {
    cwd: folder,
  })

/** A node and a server find each other. */
async function works(url: string, options: object): Promise<void> {
  const node = startNode(url, options)
  await node.shows(/^ready$/m)
  const server = startServer(url, options)
  const { default: port = 0 } = await server.ready()
  const peer = await Peer.open(port)
  await peer.send('hello\n').hears('HELLO\n')
  peer.leave()
  for (const one of [server, node]) {
    one.child.kill('SIGTERM')
    assert.is(await one.ended, 0, one.stderr)
  }
}

/** Neither starts; both say why with status 2; nothing of what is secret is told. */
async function isRefused(url: string, options: object, why: RegExp, secrets: readonly string[] = [], status = 2) {
  const started: Command[] = [startNode(url, options), startServer(url, options)]
  for (const one of started) {
    assert.is(await one.ended, status, `${one.stdout}${one.stderr}`)
    assert.match(one.stderr, why)
    assert.not.match(one.stdout, /ready|joined/)
    for (const secret of secrets) assert.not.ok((one.stdout + one.stderr).includes(secret), 'a secret is shown')
  }
}

natsTest('user and password (F94)', async () => {
  const { url } = await startNats('authorization { user: gus, password: "right-one" }')
  await works(url, { user: 'gus', password: 'right-one' })
  await isRefused(url, { user: 'gus', password: 'wr0ng-one' }, /refused the login \(user gus\)/, ['wr0ng-one'])
  await isRefused(url, {}, /refused the login \(none was given\)/)
})

natsTest('a token', async () => {
  const { url } = await startNats('authorization { token: "the-token" }')
  await works(url, { token: 'the-token' })
  await isRefused(url, { token: 'an0ther-token' }, /refused the login \(a token\)/, ['an0ther-token'])
})

natsTest('a key and a credentials file', async () => {
  const { makeAccounts, makeKey } = await import('../support/nats-accounts.js')
  const [right, wrong] = [makeKey(), makeKey()]
  const byKey = await startNats(`authorization { users: [ { nkey: ${right.publicKey} } ] }`)
  await works(byKey.url, { nkey: file('right.seed', `${right.seed}\n`) })
  await isRefused(byKey.url, { nkey: file('wrong.seed', wrong.seed) }, /refused the login \(nkey .*wrong\.seed\)/, [
    wrong.seed,
  ])
  await isRefused(byKey.url, { nkey: file('no.seed', 'SUNONSENSE') }, /nkey .*no\.seed cannot be used/, ['SUNONSENSE'])
  await isRefused(byKey.url, { nkey: './missing.seed' }, /missing\.seed cannot be read/)
  const [known, strange] = [makeAccounts(), makeAccounts()]
  const byFile = await startNats(known.configuration)
  await works(byFile.url, { credentials: file('known.creds', known.credentials) })
  const seed = /SU\w+/.exec(strange.credentials)?.[0] as string
  const path = file('strange.creds', strange.credentials)
  await isRefused(byFile.url, { credentials: path }, /refused the login \(credentials .*strange\.creds\)/, [seed])
})

natsTest('TLS, with a certificate of ours on each side; and each way it does not fit (F94)', async () => {
  const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }], {
    keySize: 2048,
    extensions: [
      {
        name: 'subjectAltName',
        altNames: [
          { type: 2, value: 'localhost' },
          { type: 7, ip: '127.0.0.1' },
        ],
      },
    ],
  } as never)
  const [certFile, keyFile] = [file('cert.pem', cert), file('key.pem', key)]
  const secure = await startNats(
    `tls { cert_file: "${certFile}", key_file: "${keyFile}", ca_file: "${certFile}", verify: true }`,
  )
  await works(secure.url, { tls: { ca: certFile, cert: certFile, key: keyFile } })
  await isRefused(secure.url, {}, /cluster: TLS with .* failed/)
  // Only the server knows why, and the client of NATS hears nothing of it.
  const strict = { tls: { ca: certFile }, connectMs: 1_000 }
  await isRefused(secure.url, strict, /demands a certificate of its clients, give tls\.cert and tls\.key/, [], 1)
  const plain = await startNats()
  await isRefused(plain.url, { tls: { ca: certFile } }, /TLS with .* failed: .*tls/)
  await isRefused(plain.url.replace('nats:', 'tls:'), {}, /TLS with .* failed/)
  await isRefused(plain.url, { tls: { ca: './missing.pem' } }, /missing\.pem cannot be read/)
})

natsTest('nobody there: said at once, with status 1, because that may pass', async () => {
  await isRefused('nats://127.0.0.1:9', {}, /no NATS server answers at nats:\/\/127\.0\.0\.1:9/, [], 1)
})

test('options that cannot be meant are refused before anything is dialled', async () => {
  const url = 'nats://127.0.0.1:9'
  await isRefused('nats://gus:s3cret@127.0.0.1:9', {}, /a login does not belong into an address/, ['s3cret'])
  await isRefused(url, { password: 's3cret' }, /expected `user` beside it/, ['s3cret'])
  await isRefused(url, { token: 's3cret', user: 'gus' }, /expected one way to log in, got user and token/, ['s3cret'])
  await isRefused(url, { name: 'a.b' }, /name: expected letters, digits/)
  await isRefused('http://127.0.0.1', {}, /expected nats:\/\/host:port/)
  await isRefused(url, { tls: { cart: 'x' } }, /unknown option cart; known: ca, cert/)
})

test('off this machine, without a login and TLS, a warning says so', async () => {
  const node = startNode('nats://192.0.2.1:4222', { connectMs: 300 })
  assert.is(await node.ended, 1, node.stderr)
  assert.match(node.stderr, /192\.0\.2\.1:4222 is not this machine, and is reached without TLS and a login/)
})

test.after(() => endAll(folder))
test.run()
