/** Each check of doctor against facts of our choosing: what it says of what is wrong, and its silence where all is well. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer, type ServerOptions } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { certificates } from '#src/cli/doctor/certificates.js'
import {
  clusterLogin,
  operators,
  plaintext,
  proxyTrust,
  reachOf,
  unixSockets,
  unlimited,
} from '#src/cli/doctor/exposure.js'
import { factsOf } from '#src/cli/doctor/facts.js'
import type { Check, Facts, Level } from '#src/cli/doctor/finding.js'
import { backlog, datagramBuffers, descriptors, nodeVersion, privileges, reusePort } from '#src/cli/doctor/machine.js'
import { loader, peerPackages } from '#src/cli/doctor/packages.js'
import { tlsUse } from '#src/cli/doctor/tls-use.js'

const folder = mkdtempSync(join(tmpdir(), 'gd-'))
const at = (name: string) => join(folder, name)

async function facts(options: ServerOptions, further: Partial<Facts> = {}): Promise<Facts> {
  const server = await createServer({
    config: false,
    env: {},
    handler: (line: string) => line,
    ...options,
  } as ServerOptions)
  const plans = [...server.listeners].map(({ plan }) => plan)
  return { ...factsOf(server.configuration, plans), sysctl: () => undefined, ...further }
}

/** `level: where: found` of everything that is not ok. */
async function said(check: Check, given: Facts): Promise<string[]> {
  const findings = await check(given)
  for (const { level, why, remedy } of findings) {
    if (level === 'warning' || level === 'error') assert.ok(why !== '' && remedy !== '', 'it says why, and what to do')
  }
  return findings.map(({ level, where, found }) => `${level}: ${where}: ${found}`)
}

async function says(check: Check, given: Facts, level: Level, pattern: RegExp): Promise<void> {
  const all = await said(check, given)
  assert.ok(
    all.some((one) => one.startsWith(level) && pattern.test(one)),
    `expected ${level} ${pattern}, got\n${all.join('\n')}`,
  )
}

async function isFine(check: Check, given: Facts): Promise<void> {
  const all = await said(check, given)
  assert.ok(
    all.every((one) => one.startsWith('ok')),
    all.join('\n'),
  )
}

const local = { listen: 'tcp://127.0.0.1:0' }

test('node: versions that are maintained no more, odd ones, and those of tomorrow', async () => {
  const given = await facts(local)
  const with_ = (version: string, now: string) => ({ ...given, nodeVersion: version, now: new Date(now) })
  await isFine(nodeVersion, with_('v20.19.0', '2026-01-01'))
  await says(nodeVersion, with_('v20.19.0', '2026-06-01'), 'warning', /maintained no more \(since 2026-04-30\)/)
  await says(nodeVersion, with_('v23.1.0', '2026-01-01'), 'warning', /Node v23/)
  await says(nodeVersion, with_('v30.0.0', '2026-01-01'), 'note', /Node v30/)
})

test('privileges: root is a note', async () => {
  const given = await facts(local)
  await says(privileges, { ...given, isRoot: true }, 'note', /root/)
  await isFine(privileges, { ...given, isRoot: false })
})

test('descriptors: a warning where the limit was set, a note where it is the default', async () => {
  const set = await facts({ ...local, limits: { connections: 5_000 } })
  await says(
    descriptors,
    { ...set, descriptors: 1_024 },
    'warning',
    /5000 connections are allowed, and 1024 descriptors let in 921/,
  )
  await says(descriptors, { ...(await facts(local)), descriptors: 1_024 }, 'note', /10000 connections/)
  await isFine(descriptors, { ...set, descriptors: 6_000 })
  // Datagram peers have no descriptors.
  await isFine(descriptors, { ...(await facts({ listen: 'udp://127.0.0.1:0' })), descriptors: 1_024 })
})

test('backlog and receive buffers against the kernel', async () => {
  const sysctl = (name: string) => (name === 'net.core.somaxconn' ? 128 : 212_992)
  await says(
    backlog,
    await facts({ ...local, socket: { backlog: 4_096 } }, { sysctl }),
    'warning',
    /backlog 4096.*allows 128/,
  )
  await says(backlog, await facts(local, { sysctl }), 'note', /backlog 511/)
  await isFine(backlog, await facts({ ...local, socket: { backlog: 100 } }, { sysctl }))
  const udp = { listen: 'udp://127.0.0.1:0' }
  await says(datagramBuffers, await facts(udp, { sysctl }), 'note', /4194304 bytes.*gives 212992/)
  await says(
    datagramBuffers,
    await facts({ ...udp, socket: { receiveBuffer: 300_000 } }, { sysctl }),
    'warning',
    /300000/,
  )
  await isFine(datagramBuffers, await facts({ ...udp, socket: { receiveBuffer: 100_000 } }, { sysctl }))
  assert.equal(await said(datagramBuffers, await facts(local, { sysctl })), [])
})

test('reusePort needs a newer Node', async () => {
  const plan = (await facts(local)).listeners.map((one) => ({
    ...one,
    bindings: one.bindings.map((binding) => ({ ...binding, options: { ...binding.options, reusePort: true } })),
  }))
  const given = await facts(local, { listeners: plan as never })
  await says(reusePort, { ...given, nodeVersion: 'v20.20.2' }, 'error', /reusePort, on Node v20.20.2/)
  await says(reusePort, { ...given, nodeVersion: 'v22.11.0' }, 'error', /reusePort/)
  await isFine(reusePort, { ...given, nodeVersion: 'v22.12.0' })
  await isFine(reusePort, { ...given, nodeVersion: 'v24.0.0' })
})

test('how far an address reaches', () => {
  for (const [host, reach] of [
    ['localhost', 'loopback'],
    ['127.0.0.9', 'loopback'],
    ['::1', 'loopback'],
    ['::ffff:127.0.0.1', 'loopback'],
    ['10.1.2.3', 'private'],
    ['172.16.0.1', 'private'],
    ['172.32.0.1', 'open'],
    ['192.168.1.1', 'private'],
    ['fd00::1', 'private'],
    ['fe80::1', 'private'],
    ['2001:db8::1', 'open'],
    ['0.0.0.0', 'open'],
    ['::', 'open'],
    ['example.org', 'open'],
  ] as const) {
    assert.is(reachOf(host), reach, host)
  }
})

test('plaintext: open addresses without TLS', async () => {
  await says(
    plaintext,
    await facts({ listen: 'tcp://0.0.0.0:0' }),
    'warning',
    /listeners\.default: tcp:\/\/0\.0\.0\.0:0 is plain text/,
  )
  await says(plaintext, await facts({ listen: 'tcp://[::]:0' }), 'warning', /plain text/)
  await says(plaintext, await facts({ listen: 'udp://0.0.0.0:0' }), 'note', /plain text/)
  const proxied = { listen: 'tcp://0.0.0.0:0', layers: [{ name: 'proxy-protocol', trusted: ['10.0.0.7'] }] }
  await says(plaintext, await facts(proxied), 'note', /plain text/)
  await isFine(plaintext, await facts({ listen: ['tcp://127.0.0.1:0', 'tcp://192.168.1.5:0', 'unix:./x.sock'] }))
})

test('unlimited: guards that were lifted', async () => {
  const open = { listen: 'tcp://0.0.0.0:0' }
  await says(
    unlimited,
    await facts({ ...open, limits: { frameBytes: 'unlimited' } }),
    'warning',
    /limits\.frameBytes is unlimited/,
  )
  await says(
    unlimited,
    await facts({ ...local, timeouts: { idleMs: 'unlimited' } }),
    'note',
    /timeouts\.idleMs is unlimited/,
  )
  await says(unlimited, await facts(open), 'note', /connectionsPerSource is not set/)
  await isFine(unlimited, await facts({ ...open, limits: { connectionsPerSource: 50 } }))
  await isFine(unlimited, await facts(local))
})

test('PROXY trust: everybody is an error, half of everybody a warning', async () => {
  const trusting = (...trusted: string[]) =>
    facts({
      ...local,
      listeners: { a: { endpoint: 'tcp://127.0.0.1:0', layers: [{ name: 'proxy-protocol', trusted }] } },
    })
  await says(
    proxyTrust,
    await trusting('0.0.0.0/0'),
    'error',
    /listeners\.a\.layers: PROXY headers are trusted from 0\.0\.0\.0\/0/,
  )
  await says(proxyTrust, await trusting('10.0.0.7', '::/0'), 'error', /::\/0/)
  await says(proxyTrust, await trusting('128.0.0.0/1'), 'warning', /128/)
  await isFine(proxyTrust, await trusting('10.0.0.0/8', '2001:db8::/32'))
  assert.equal(await said(proxyTrust, await facts(local)), [])
})

test('operators: metrics and console where others reach them', async () => {
  const plugin = { name: 'x', setup() {} }
  const given = await facts({ ...local, control: './c.sock', plugins: [plugin] })
  await isFine(operators, given)
  const named = (options: object) => {
    const values = { ...given.configuration?.values, plugins: [['gaidaros/plugins/console', options]] }
    return { ...given, configuration: { ...given.configuration, values } as never }
  }
  await says(
    operators,
    named({ listen: 'tcp://0.0.0.0:9' }),
    'warning',
    /plugins: gaidaros\/plugins\/console: listens on tcp:\/\/0\.0\.0\.0:9/,
  )
  await says(operators, named({ listen: ['tcp://[::]:9'] }), 'warning', /\[::\]/)
  await says(operators, named({ host: '0.0.0.0', port: 9 }), 'warning', /0\.0\.0\.0/)
  await isFine(operators, named({ host: '::1' }))
  await isFine(operators, named({ listen: 'tcp://[::1]:9' }))
  await isFine(operators, named({ listen: 'unix:./x' }))
})

test('Unix sockets: folders of everybody, of nobody, and paths that do not fit', async () => {
  const given = await facts({ listen: 'unix:/srv/x/a.sock', control: '/srv/x/c.sock' })
  const stat =
    (mode: number, uid = 1_000) =>
    () => ({ mode, uid, isDirectory: true })
  await isFine(unixSockets, { ...given, uid: 1_000, stat: stat(0o750) })
  await isFine(unixSockets, { ...given, uid: 1_000, stat: stat(0o1777, 0) })
  await says(
    unixSockets,
    { ...given, uid: 1_000, stat: stat(0o777) },
    'warning',
    /control: everybody may write to \/srv\/x/,
  )
  await says(unixSockets, { ...given, uid: 1_000, stat: stat(0o755, 1_001) }, 'note', /belongs to another user/)
  await says(unixSockets, { ...given, stat: () => undefined }, 'error', /there is no folder \/srv\/x/)
  const long = await facts({ listen: `unix:/tmp/${'x'.repeat(120)}` })
  await says(unixSockets, long, 'error', /more than 107 bytes/)
  const everybody = await facts({ listen: 'unix:/tmp/a.sock', socket: { mode: '0666' } })
  await says(unixSockets, everybody, 'note', /mode 0666/)
})

test('cluster: off this machine it has a login and TLS', async () => {
  const handler = join(process.cwd(), 'test/fixtures/cluster-handlers.mjs#Ledger')
  const with_ = (cluster: ServerOptions['cluster'], executor: ServerOptions['executor'] = 'cluster') =>
    facts({ ...local, handler, executor, cluster: cluster as never })
  await isFine(clusterLogin, await with_('nats://127.0.0.1:4222'))
  await isFine(clusterLogin, await with_(['nats://localhost:4222', 'nats://[::1]:4222']))
  await isFine(clusterLogin, await with_({ servers: 'tls://nats.internal:4222', credentials: './x.creds' }))
  await says(
    clusterLogin,
    await with_({ servers: 'nats://nats.internal:4222', token: 't' }),
    'warning',
    /executor: NATS at .* without TLS/,
  )
  await says(clusterLogin, await with_({ servers: 'tls://10.0.0.1:4222' }), 'warning', /without a login/)
  const own = { type: 'cluster', servers: 'nats://192.0.2.1:4222', tls: {} }
  await says(
    clusterLogin,
    await with_('nats://127.0.0.1:4222', own),
    'warning',
    /192\.0\.2\.1:4222 is reached without a login/,
  )
  assert.equal(await said(clusterLogin, await facts(local)), [])
  await says(
    peerPackages,
    { ...(await with_({})), hasPackage: () => false },
    'error',
    /package @nats-io\/transport-node/,
  )
})

test('packages: what is named and missing', async () => {
  const given = await facts({ ...local, listen: 'ws://127.0.0.1:0', codec: 'line' })
  await says(
    peerPackages,
    { ...given, hasPackage: () => false },
    'error',
    /ws needs the package ws, which is not installed/,
  )
  await isFine(peerPackages, given)
  const msgpack = await facts({ ...local, codec: { name: 'length-field', payload: 'msgpack' } })
  await says(peerPackages, { ...msgpack, hasPackage: () => false }, 'error', /package msgpackr/)
  const values = {
    ...given.configuration?.values,
    executor: { type: 'cluster' },
    plugins: [['gaidaros/plugins/logger', {}]],
  }
  const more = { ...given, configuration: { ...given.configuration, values } as never, hasPackage: () => false }
  await says(peerPackages, more, 'error', /cluster needs the package @nats-io\/transport-node/)
  await says(peerPackages, more, 'error', /plugins: gaidaros\/plugins\/logger needs the package pino/)
})

test('the loader loads TypeScript with its metadata', async () => {
  assert.equal(
    (await loader()).map(({ level }) => level),
    ['ok'],
  )
})

// ── certificates ─────────────────────────────────────────────────────────────────────────────────────────────────────

const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' })

function make(
  name: string,
  {
    by,
    days = 90,
    san = 'DNS:www.example.org',
    bits = 2048,
    ca = false,
  }: { by?: string; days?: number; san?: string; bits?: number; ca?: boolean } = {},
): void {
  const wanted = [`basicConstraints=critical,CA:${ca ? 'TRUE' : 'FALSE'}`, ...(san ? [`subjectAltName=${san}`] : [])]
  const own = ['-newkey', `rsa:${bits}`, '-nodes', '-keyout', `${name}.key`, '-subj', `/CN=${name}`]
  if (by === undefined) {
    openssl(
      'req',
      '-x509',
      ...own,
      '-out',
      `${name}.pem`,
      '-days',
      String(days),
      ...wanted.flatMap((one) => ['-addext', one]),
    )
    return
  }
  openssl('req', ...own, '-out', `${name}.csr`)
  writeFileSync(at(`${name}.ext`), wanted.join('\n'))
  openssl(
    'x509',
    '-req',
    '-in',
    `${name}.csr`,
    '-CA',
    `${by}.pem`,
    '-CAkey',
    `${by}.key`,
    '-CAcreateserial',
    '-days',
    String(days),
    '-extfile',
    `${name}.ext`,
    '-out',
    `${name}.pem`,
  )
}

const secure = (cert: string | string[], key: string, further: object = {}) =>
  facts({
    ...local,
    listen: 'tls://127.0.0.1:0',
    tls: { cert: [cert].flat().map(at) as never, key: at(key), ...further },
  })

test.before(() => {
  make('root', { ca: true })
  make('middle', { by: 'root', ca: true })
  make('leaf', { by: 'middle' })
  make('soon', { by: 'middle', days: 5 })
  make('nameless', { san: '' })
  make('small', { bits: 1_024 })
  make('own')
  for (const name of ['root', 'middle', 'leaf', 'soon', 'nameless', 'small', 'own'])
    execFileSync('chmod', ['600', at(`${name}.key`)])
})

test('certificates: a whole chain with its key is fine', async () => {
  await isFine(certificates, await secure(['leaf.pem', 'middle.pem'], 'leaf.key'))
  assert.match(
    (await said(certificates, await secure(['leaf.pem', 'middle.pem'], 'leaf.key')))[0] as string,
    /CN=leaf, until \d{4}-/,
  )
  assert.equal(await said(certificates, await facts(local)), [])
})

for (const [what, cert, key, level, pattern] of [
  [
    'a chain in the wrong order',
    ['leaf.pem', 'root.pem', 'middle.pem'],
    'leaf.key',
    'warning',
    /certificate 2 of the chain has not issued certificate 1/,
  ],
  ['a chain without its middle', ['leaf.pem'], 'leaf.key', 'note', /the certificate alone; it was issued by CN=middle/],
  ['one that ends soon', ['soon.pem', 'middle.pem'], 'soon.key', 'warning', /ends in [45] days/],
  ['a self-signed one', ['own.pem'], 'own.key', 'note', /self-signed/],
  ['one without names', ['nameless.pem'], 'nameless.key', 'warning', /names no server/],
  ['a key of another', ['leaf.pem', 'middle.pem'], 'own.key', 'error', /the key is not the certificate’s/],
  ['a small key', ['small.pem'], 'small.key', 'warning', /1024 bits/],
  ['no such file', ['nowhere.pem'], 'leaf.key', 'error', /ENOENT/],
  ['a key in place of a certificate', ['leaf.key'], 'leaf.key', 'error', /no certificate/],
] as const) {
  test(`certificates: ${what}`, async () => says(certificates, await secure([...cert], key), level, pattern))
}

test('certificates: those that have ended or not begun', async () => {
  const given = await secure(['leaf.pem', 'middle.pem'], 'leaf.key')
  await says(certificates, { ...given, now: new Date('2090-01-01') }, 'error', /the certificate has ended on/)
  await says(certificates, { ...given, now: new Date('2001-01-01') }, 'error', /not valid before/)
})

test('certificates: names asked for by SNI, and keys that others can read', async () => {
  const sni = (name: string) =>
    secure(['leaf.pem', 'middle.pem'], 'leaf.key', { sni: { [name]: { cert: at('own.pem'), key: at('own.key') } } })
  await says(
    certificates,
    await sni('other.example.org'),
    'error',
    /tls\.sni\.other\.example\.org: the certificate is for DNS:www\.example\.org, not for/,
  )
  assert.not.ok((await said(certificates, await sni('www.example.org'))).some((one) => one.startsWith('error')))
  execFileSync('chmod', ['644', at('own.key')])
  await says(certificates, await secure('own.pem', 'own.key'), 'warning', /everybody on the machine can read/)
})

test('certificates in the configuration itself are looked at too', async () => {
  const [cert, key] = ['own.pem', 'own.key'].map((name) => readFileSync(at(name), 'utf8'))
  const given = await facts({ listen: 'tls://127.0.0.1:0', tls: { cert: cert as string, key: key as string } })
  await says(certificates, given, 'note', /self-signed/)
})

test.after(() => rmSync(folder, { recursive: true, force: true }))
test('tls where no connection begins with it', async () => {
  const [cert, key] = [at('own.pem'), at('own.key')]
  const tls = { cert, key }
  const on = (endpoint: string, more: object = {}) => ({ listeners: { x: { endpoint, tls, ...more } } })
  await says(
    tlsUse,
    await facts(on('tcp://127.0.0.1:0')),
    'note',
    /listeners\.x\.tls: tcp:.* begins in plain text.*upgrade/,
  )
  await says(tlsUse, await facts(on('udp://127.0.0.1:0')), 'warning', /udp:.*used for nothing/)
  await says(tlsUse, await facts(on('ws://127.0.0.1:0')), 'warning', /ws:.*used for nothing/)
  await says(tlsUse, await facts({ listen: 'tcp://127.0.0.1:0', tls }), 'note', /begins in plain text/)
  for (const fine of [
    on('tls://127.0.0.1:0'),
    on('wss://127.0.0.1:0'),
    on('tcp://127.0.0.1:0', { layers: ['tls'] }),
    { listeners: { x: { endpoint: 'tcp://127.0.0.1:0' }, y: { endpoint: 'tls://127.0.0.1:0' } }, tls },
    { listen: 'tcp://127.0.0.1:0' },
  ]) {
    await isFine(tlsUse, await facts(fine as ServerOptions))
  }
})

test('lists of revoked certificates', async () => {
  const [cert, key] = [at('own.pem'), at('own.key')]
  writeFileSync(at('index.txt'), '')
  writeFileSync(at('crlnumber'), '01\n')
  const ca = [
    '[ca]',
    'default_ca=x',
    '[x]',
    `database=${at('index.txt')}`,
    `crlnumber=${at('crlnumber')}`,
    'default_md=sha256',
  ]
  writeFileSync(at('ca.cnf'), `${ca.join('\n')}\n`)
  const list = (days: number) => {
    const file = at(`crl${days}.pem`)
    const made = ['-crldays', String(days), '-keyfile', key, '-cert', cert, '-out', file]
    execFileSync('openssl', ['ca', '-config', at('ca.cnf'), '-gencrl', ...made], { stdio: 'ignore' })
    return file
  }
  const given = (crl: string | string[], more: object = {}) =>
    facts({ listen: 'tls://127.0.0.1:0', tls: { cert, key, ca: cert, crl, requestCert: true, ...more } })
  const inDays = (days: number) => ({ now: new Date(Date.now() + days * 86_400_000) })
  const about = async (check: Facts) => (await said(certificates, check)).filter((one) => /crl/.test(one))
  const crl = list(30)
  assert.equal(await about(await given(crl)), [])
  assert.match(
    (await about({ ...(await given([crl, list(2)])), ...inDays(1.5) })).join(),
    /^note: .*list 2 of crl has to be renewed/,
  )
  assert.match(
    (await about({ ...(await given(crl)), ...inDays(31) })).join(),
    /^error: .*list 1 of crl was to be renewed by 20/,
  )
  assert.match((await about(await given(crl, { requestCert: false }))).join(), /^warning: .*nobody is asked/)
  assert.match((await about(await given(cert))).join(), /^error: .*no list in `crl`/)
  assert.match((await about(await given(at('none.pem')))).join(), /^error: .*ENOENT/)
})

test.run()
