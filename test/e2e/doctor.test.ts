// time limit: 240 s
/** `gaidaros doctor` and `serve --strict` as an operator runs them. */
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros, killAll } from '../support/command.js'

const folder = mkdtempSync(join(tmpdir(), 'gd-'))
const local = ['--listen', 'tcp://127.0.0.1:0']
/** What depends on the machine the tests run on. */
const machine = ['--accept', 'node', '--accept', 'descriptors', '--accept', 'backlog', '--accept', 'udp-buffer']

async function result(...args: readonly string[]) {
  const command = gaidaros(args, { cwd: folder, limitMs: 60_000 })
  const status = await command.ended
  return { status, out: command.stdout, err: command.stderr }
}

test('a plain local server is well', async () => {
  const { status, out } = await result('doctor', ...local, ...machine, '--strict')
  assert.is(status, 0, out)
  assert.match(out, /^ok +configuration +1 listener/m)
  assert.match(out, /^ok +loader +TypeScript with decorators/m)
  assert.match(out, /^0 errors, 0 warnings, \d+ notes?, \d+ ok$/m)
})

test('a warning is 0, or 1 when strict; an error is 1; what nobody knows is 2', async () => {
  const open = ['doctor', '--listen', 'tcp://0.0.0.0:0', ...machine]
  const { status, out } = await result(...open)
  assert.is(status, 0)
  assert.match(
    out,
    /^warning +plaintext +listeners\.default: tcp:\/\/0\.0\.0\.0:0 is plain text.*\n +why: .*\n +do: +listen on tls/m,
  )
  assert.is((await result(...open, '--strict')).status, 1)
  assert.is((await result(...open, '--strict', '--accept', 'plaintext')).status, 0)
  assert.is((await result(...open, '--accept', 'plaintex')).status, 2)

  const bad = await result('doctor', '--set', 'limits.frameByts=1')
  assert.is(bad.status, 1)
  assert.match(bad.out, /^error +configuration +limits\.frameByts: unknown key/m)
  assert.match(bad.out, /^(ok|note|warning) +node/m)
  const missing = await result(
    'doctor',
    '--listen',
    'tls://127.0.0.1:0',
    '--tls-cert',
    'none.pem',
    '--tls-key',
    'none.pem',
  )
  assert.is(missing.status, 1)
  assert.match(missing.out, /^error +certificate.*none\.pem/m)
})

test('--json is for programs', async () => {
  const { out } = await result('doctor', ...local, '--json')
  const findings = JSON.parse(out)
  assert.ok(
    findings.every((one: { level: string; check: string; found: string }) => one.level && one.check && one.found),
  )
})

test('serve --strict refuses what doctor warns of, and binds nothing; otherwise it serves', async () => {
  const config = join(folder, 'open.json')
  writeFileSync(
    config,
    JSON.stringify({
      listeners: { a: { endpoint: 'tcp://127.0.0.1:0', layers: [{ name: 'proxy-protocol', trusted: ['0.0.0.0/0'] }] } },
    }),
  )
  const { status, out, err } = await result('serve', '--config', config, '--strict', ...machine)
  assert.is(status, 2)
  assert.match(
    err,
    /--strict does not start with this:\n.*error: listeners\.a\.layers: PROXY headers are trusted from 0\.0\.0\.0\/0; list the proxies/,
  )
  assert.not.match(out, /listening/)
  const command = gaidaros(['serve', ...local, '--strict', ...machine], { cwd: folder })
  await command.ready()
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0)
})

// ── each finding, with its cause really there ──────────────────────────────────────────────────────────────────────────

const at = (name: string) => join(folder, name)
const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' })

/** An authority, and a certificate of it for each name: one that is well, one that has ended, one that has not begun. */
function makeCertificates(): void {
  writeFileSync(at('index.txt'), '')
  writeFileSync(at('serial'), '01\n')
  writeFileSync(
    at('ca.cnf'),
    '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n[n]\nsubjectAltName=DNS:www.example.org\n',
  )
  openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=Authority', '-days', '90') // biome-ignore format: one command
  openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'other.key', '-out', 'other.pem', '-subj', '/CN=Other', '-days', '90') // biome-ignore format: one command
  const soon = new Date(Date.now() + 5 * 24 * 60 * 60 * 1_000).toISOString().replace(/[-:T]|\.\d+/g, '')
  for (const [name, from, to] of [
    ['ended', '20200101000000Z', '20210101000000Z'],
    ['soon', '20200101000000Z', soon],
    ['future', '20980101000000Z', '20990101000000Z'],
    ['well', '20200101000000Z', '20990101000000Z'],
  ] as const) {
    openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`) // biome-ignore format: one command
    openssl('ca', '-batch', '-config', 'ca.cnf', '-keyfile', 'ca.key', '-cert', 'ca.pem', '-startdate', from, '-enddate', to, '-extensions', 'n', '-notext', '-in', `${name}.csr`, '-out', `${name}.pem`) // biome-ignore format: one command
  }
  writeFileSync(at('chain.pem'), ['well', 'ca'].map((name) => readFileSync(at(`${name}.pem`), 'utf8')).join(''))
  writeFileSync(at('disorder.pem'), ['well', 'other'].map((name) => readFileSync(at(`${name}.pem`), 'utf8')).join(''))
  for (const name of ['ca', 'other', 'ended', 'soon', 'future', 'well']) chmodSync(at(`${name}.key`), 0o600)
}

const secure = (cert: string, key: string) =>
  ['--listen', 'tls://127.0.0.1:0', '--tls-cert', at(cert), '--tls-key', at(key)] as const
const open = ['--listen', 'tcp://0.0.0.0:0', '--accept', 'plaintext'] as const
const kernel = (name: string) => Number(readFileSync(`/proc/sys/${name.replaceAll('.', '/')}`, 'utf8'))
/** As JSON, for what no flag says. */
const file = (config: object) => {
  writeFileSync(at('caused.json'), JSON.stringify({ listen: 'tcp://127.0.0.1:0', ...config }))
  return ['--config', at('caused.json')]
}

interface Caused {
  readonly what: string
  readonly args: () => readonly string[]
  readonly finding: RegExp
  readonly shell?: string
  readonly env?: Record<string, string>
  /** It is not the listener's own refusal, but doctor's. */
  readonly refusal?: RegExp
  /** What is accepted of the machine besides what is looked for. */
  readonly without?: string
}

const caused: readonly Caused[] = [
  {
    what: 'fewer descriptors than connections that are allowed',
    args: () => [...local, '--set', 'limits.connections=5000'],
    shell: 'ulimit -n 1000; exec "$0" "$@"',
    without: 'descriptors',
    finding:
      /^warning +descriptors +5000 connections are allowed, and 1000 descriptors let in 900\n +why: .*\n +do: +raise it/m,
  },
  {
    what: 'a backlog over the kernel’s',
    args: () => file({ socket: { backlog: kernel('net.core.somaxconn') + 1 } }),
    without: 'backlog',
    finding: /^warning +backlog +listeners\.default: backlog \d+, and the kernel allows \d+ \(net\.core\.somaxconn\)/m,
  },
  {
    what: 'a receive buffer over the kernel’s',
    args: () => file({ listen: 'udp://127.0.0.1:0', socket: { receiveBuffer: kernel('net.core.rmem_max') + 1 } }),
    without: 'udp-buffer',
    finding: /^warning +udp-buffer +listeners\.default: a receive buffer of \d+ bytes, and the kernel gives \d+/m,
  },
  {
    what: 'a certificate that has ended',
    args: () => secure('ended.pem', 'ended.key'),
    finding: /^error +certificate +listeners\.default\.tls: the certificate has ended on 2021-01-01/m,
  },
  {
    what: 'a certificate that ends soon',
    args: () => secure('soon.pem', 'soon.key'),
    finding: /^warning +certificate +listeners\.default\.tls: the certificate ends in [45] days/m,
  },
  {
    what: 'a certificate that is not valid yet',
    args: () => secure('future.pem', 'future.key'),
    finding: /^error +certificate +listeners\.default\.tls: the certificate is not valid before/m,
  },
  {
    what: 'a key that is another certificate’s',
    args: () => secure('chain.pem', 'other.key'),
    finding: /^error +certificate +listeners\.default\.tls: the key is not the certificate’s/m,
  },
  {
    what: 'a chain whose second has not issued the first',
    args: () => secure('disorder.pem', 'well.key'),
    finding: /^warning +certificate +listeners\.default\.tls: certificate 2 of the chain has not issued certificate 1/m,
  },
  {
    what: 'PROXY headers trusted from half of everybody',
    args: () => file({ layers: [{ name: 'proxy-protocol', trusted: ['128.0.0.0/1'] }] }),
    finding: /^warning +proxy-trust +layers: PROXY headers are trusted from 128\.0\.0\.0\/1/m,
  },
  {
    what: 'a listener without a limit on an open address',
    args: () => [...open, '--set', 'limits.frameBytes=unlimited'],
    finding: /^warning +unlimited +listeners\.default: limits\.frameBytes is unlimited/m,
  },
  {
    what: 'plain text on an open address',
    args: () => ['--listen', 'tcp://0.0.0.0:0'],
    finding: /^warning +plaintext +listeners\.default: tcp:\/\/0\.0\.0\.0:0 is plain text/m,
  },
  {
    what: 'the same for several server processes',
    args: () => ['--listen', 'tcp://0.0.0.0:0', '--set', 'workers=2'],
    finding: /^warning +plaintext +listeners\.default: tcp:\/\/0\.0\.0\.0:0 is plain text/m,
  },
  {
    what: 'the console where others reach it',
    args: () => file({ plugins: [['gaidaros/plugins/console', { listen: 'tcp://0.0.0.0:0', allowPublic: true }]] }),
    finding: /^warning +operators +plugins: gaidaros\/plugins\/console: listens on tcp:\/\/0\.0\.0\.0:0/m,
  },
  {
    what: 'metrics where others reach them',
    args: () => file({ plugins: [['gaidaros/plugins/metrics', { host: '0.0.0.0', port: 0, public: true }]] }),
    finding: /^warning +operators +plugins: gaidaros\/plugins\/metrics: listens on .*0\.0\.0\.0/m,
  },
  {
    what: 'a control socket in a folder in which everybody may write',
    args: () => {
      mkdirSync(at('everybody'), { recursive: true })
      chmodSync(at('everybody'), 0o777)
      return [...local, '--control', at('everybody/c.sock')]
    },
    finding: /^warning +unix-socket +control: everybody may write to .*everybody/m,
  },
]

test.before(makeCertificates)

for (const { what, args, finding, shell, env, without = '' } of caused) {
  test(`doctor finds ${what}, and serve --strict refuses it`, async () => {
    const accepted = machine.filter(
      (word, i) => word !== without && (word !== '--accept' || machine[i + 1] !== without),
    )
    const options = { cwd: folder, limitMs: 60_000, ...(shell && { shell }), ...(env && { env }) }
    const run = async (...words: readonly string[]) => {
      const command = gaidaros([...words, ...args(), ...accepted], options)
      return { status: await command.ended, command }
    }
    const { command, status } = await run('doctor', '--strict')
    assert.match(command.stdout, finding)
    assert.is(status, 1)
    const strict = await run('serve', '--strict', '-v')
    assert.is(strict.status, 2, strict.command.stderr)
    assert.match(strict.command.stderr, /--strict does not start with this|expected|the key is not|key values mismatch/)
    assert.not.match(strict.command.stderr + strict.command.stdout, /listening/)
  })
}

test('a certificate with its chain and its key is well', async () => {
  const { status, out } = await result('doctor', '--strict', ...secure('chain.pem', 'well.key'), ...machine)
  assert.is(status, 0, out)
  assert.match(out, /^ok +certificate +listeners\.default\.tls: CN=well, until 2099/m)
})

test('reusePort on a Node that does not have it; a loader that does not load', async () => {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const { out } = await result('doctor', ...file({ socket: { reusePort: true } }))
  const hasIt = major > 23 || (major === 22 && minor >= 12) || (major === 23 && minor >= 1)
  assert.match(out, hasIt ? /^ok +reuse-port/m : /^error +(?:reuse-port|configuration) .*reusePort/m)
  // An installation without its loader.
  const broken = at('broken.cjs')
  writeFileSync(
    broken,
    `const M = require('module'), own = M._resolveFilename
M._resolveFilename = function (name, ...rest) {
  if (String(name).includes('jiti')) throw new Error('Cannot find module ' + name)
  return own.call(this, name, ...rest)
}
`,
  )
  const hooks = at('broken.mjs')
  writeFileSync(
    hooks,
    `import { register } from 'node:module'
register('data:text/javascript,' + encodeURIComponent('export function resolve(name, context, next) { if (name.includes("jiti")) throw new Error("Cannot find package " + name); return next(name, context) }'))
`,
  )
  const command = gaidaros(['doctor', ...local], {
    cwd: folder,
    env: { NODE_OPTIONS: `--require ${broken} --import ${hooks}` },
  })
  assert.is(await command.ended, 1)
  assert.match(
    command.stdout,
    /^error +loader +.*jiti[\s\S]*why: handlers and configuration in TypeScript cannot be loaded/m,
  )
})

test.after(() => {
  killAll()
  rmSync(folder, { recursive: true, force: true })
})
test.run()
