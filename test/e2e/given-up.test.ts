// time limit: 240 s
/** Root is given up: what it makes before in folders of the user's (F122), and what is needed again afterwards (F121). */
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as tlsConnect } from 'node:tls'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros, killAll, root } from '../support/command.js'
import { eventually, Peer } from '../support/faults.js'
import { skip } from '../support/skip.js'
import { hasTool } from '../support/tools.js'

const folder = mkdtempSync(join(tmpdir(), 'gg-'))
chmodSync(folder, 0o755)
const noisy = join(root, 'build/fixtures/noisy-handler.js')
const isRoot = process.geteuid?.() === 0
const NOBODY = 65_534
let count = 0

test.after(() => {
  killAll()
  rmSync(folder, { recursive: true, force: true })
})

/** A folder of its own, which is the user's. */
function place(): string {
  const path = join(folder, String(++count))
  mkdirSync(path)
  chownSync(path, NOBODY, NOBODY)
  return path
}
function secret(): string {
  const path = join(folder, `secret${++count}`)
  writeFileSync(path, "root's\n", { mode: 0o600 })
  return path
}
/** Nothing of it has changed. */
function isUntouched(path: string): void {
  assert.is(readFileSync(path, 'utf8'), "root's\n")
  const { uid, mode } = statSync(path)
  assert.is(uid, 0)
  assert.is(mode & 0o777, 0o600)
}
const serving = (...args: readonly string[]) =>
  gaidaros(['serve', '--user', 'nobody', '--listen', 'tcp://127.0.0.1:0', '--handler', noisy, ...args], { cwd: folder })

test("F122 a log file in the user's folder: links, hard links, pipes, others' files and folders behind links are refused by name", async () => {
  if (!isRoot) return skip('F122', 'only root can become somebody else')
  const cases: readonly (readonly [string, (log: string, at: string) => string | undefined, RegExp])[] = [
    ['a link', (log) => linked(log, symlinkSync), /server\.log is a link/],
    ['a second name', (log) => linked(log, linkSync), /is a file with 2 names/],
    ['a pipe', (log) => void execFileSync('mkfifo', [log]), /server\.log/],
    ['a file of somebody else', (log) => void (writeFileSync(log, ''), chownSync(log, 1, 1)), /is a file of user 1/],
    [
      'a folder behind a link of theirs',
      (log, at) => {
        const own = join(folder, `root${++count}`)
        mkdirSync(own, { mode: 0o700 })
        const file = join(own, 'server.log')
        writeFileSync(file, "root's\n", { mode: 0o600 })
        rmSync(join(at, 'log'), { recursive: true })
        execFileSync('ln', ['-s', own, join(at, 'log')])
        execFileSync('chown', ['-h', 'nobody', join(at, 'log')])
        void log
        return file
      },
      /is reached through .*, a link of user 65534/,
    ],
  ]
  for (const [what, prepare, why] of cases) {
    const at = place()
    mkdirSync(join(at, 'log'))
    chownSync(join(at, 'log'), NOBODY, NOBODY)
    const log = join(at, 'log', 'server.log')
    const kept = prepare(log, at)
    const command = serving('--log-file', log)
    assert.is(await command.ended, 2, `${what}: ${command.stderr}`)
    assert.match(command.stderr, why, what)
    assert.match(command.stderr, /daemon\.logFile/, what)
    assert.not.match(command.stdout, /ready/, what)
    if (kept !== undefined) isUntouched(kept)
  }
})

function linked(at: string, link: (from: string, to: string) => void): string {
  const file = secret()
  link(file, at)
  return file
}

test("F122 a log file that is new, root's or the user's is opened, and is the user's; so behind a link of root's", async () => {
  if (!isRoot) return skip('F122', 'only root can become somebody else')
  for (const owner of [undefined, 0, NOBODY]) {
    const at = place()
    mkdirSync(join(at, 'real'))
    symlinkSync(join(at, 'real'), join(at, 'log'))
    const log = join(at, 'log', 'server.log')
    if (owner !== undefined) {
      writeFileSync(log, 'before\n')
      chownSync(log, owner, owner)
    }
    const command = serving('--log-file', log)
    const { default: port = 0 } = await command.ready()
    const peer = await Peer.open(port)
    await peer.echoes('hello')
    peer.leave()
    assert.is(statSync(log).uid, NOBODY)
    command.child.kill('SIGTERM')
    assert.is(await command.ended, 0, command.stderr)
    if (owner !== undefined) assert.match(readFileSync(log, 'utf8'), /^before\n/)
  }
})

for (const workers of [[], ['--workers', '2']]) {
  const kind = workers.length === 0 ? 'one process' : 'workers'
  test(`F122 sockets, ${kind}: a socket's own group stays, abstract names have no file, the pid file stays root's`, async () => {
    if (!isRoot) return skip('F122', 'only root can become somebody else')
    const at = place()
    const [plain, grouped, pidFile] = [join(at, 'a.sock'), join(at, 'b.sock'), join(at, 'run.pid')]
    const listeners = {
      default: { endpoint: `unix:${plain}` },
      grouped: { endpoint: `unix:${grouped}`, socket: { group: 1, mode: '0660' } },
      ...(process.platform === 'linux' ? { abstract: { endpoint: `unix:@gaidaros-${process.pid}-${count}` } } : {}),
    }
    const command = gaidaros(
      [
        'serve',
        '--user',
        'nobody',
        '--handler',
        noisy,
        '--pid-file',
        pidFile,
        '--control',
        join(at, 'run.sock'),
        ...workers,
        '--set',
        `listeners=${JSON.stringify(listeners)}`,
      ],
      { cwd: folder, limitMs: 120_000 },
    )
    await command.ready()
    const gid = Number(execFileSync('id', ['-g', 'nobody'], { encoding: 'utf8' }))
    assert.equal(ownerOf(plain), [NOBODY, gid])
    assert.equal(ownerOf(grouped), [NOBODY, 1])
    assert.equal(ownerOf(join(at, 'run.sock')), [NOBODY, gid])
    assert.is(statSync(pidFile).uid, 0)
    command.child.kill('SIGTERM')
    assert.is(await command.ended, 0, command.stderr)
    // The folder is the user's: nothing is left behind.
    for (const file of [plain, grouped, pidFile]) assert.is(existsSync(file), false, file)
  })
}
const ownerOf = (path: string) => [statSync(path).uid, statSync(path).gid]

test("F122 a pid file in the user's folder: a link is refused by name, and what is behind it untouched", async () => {
  if (!isRoot) return skip('F122', 'only root can become somebody else')
  const at = place()
  const kept = secret()
  const pidFile = join(at, 'run.pid')
  symlinkSync(kept, pidFile)
  const command = serving('--pid-file', pidFile)
  assert.is(await command.ended, 2, command.stderr)
  assert.match(command.stderr, /run\.pid: a link stands there/)
  isUntouched(kept)
  assert.is(readlinkSync(pidFile), kept)
})

test("F122 a folder for profiles behind a link of the user's is refused; one that is made is the user's", async () => {
  if (!isRoot) return skip('F122', 'only root can become somebody else')
  const at = place()
  const own = join(folder, `root${++count}`)
  mkdirSync(own)
  execFileSync('ln', ['-s', own, join(at, 'profiles')])
  execFileSync('chown', ['-h', 'nobody', join(at, 'profiles')])
  const refused = serving('--cpu-prof', join(at, 'profiles', 'new'))
  assert.is(await refused.ended, 2, refused.stderr)
  assert.match(refused.stderr, /profile: .* a link of user 65534/)
  assert.is(existsSync(join(own, 'new')), false)
  const made = join(at, 'made')
  const command = serving('--cpu-prof', made)
  await command.ready()
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0, command.stderr)
  assert.is(statSync(made).uid, NOBODY)
  assert.ok(existsSync(join(made, `server-${command.pid}-0.cpuprofile`)))
})

/** A certificate that everybody and a key that only root may read. */
function certificate(at: string): { cert: string; key: string } {
  const [cert, key] = [join(at, 'tls.pem'), join(at, 'tls.key')]
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-subj',
      '/CN=localhost',
      '-keyout',
      key,
      '-out',
      cert,
    ],
    { stdio: 'ignore' },
  )
  chmodSync(key, 0o600)
  return { cert, key }
}
/** What a TLS client hears. */
async function secured(port: number, text: string): Promise<string> {
  const socket = tlsConnect({ host: '127.0.0.1', port, rejectUnauthorized: false })
  socket.on('error', () => {})
  socket.write(`${text}\n`)
  const heard = await new Promise<string>((resolve) => {
    socket.once('data', (chunk) => resolve(String(chunk)))
    socket.once('close', () => resolve(''))
  })
  socket.destroy()
  return heard
}
const childrenOf = (pid: number) =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)

test('F121 workers are replaced as the user they are, with a key that only root may read; it is in no argument, environment or file', async () => {
  if (!isRoot) return skip('F121', 'only root can become somebody else')
  if (!hasTool('openssl')) return skip('F121', 'openssl is not installed')
  const at = place()
  const { cert, key } = certificate(at)
  const settings = ['--workers', '2', '--set', `tls=${JSON.stringify({ cert, key })}`]
  const command = gaidaros(
    ['serve', '--user', 'nobody', '--listen', 'tls://127.0.0.1:0', '--handler', noisy, ...settings],
    {
      cwd: folder,
      limitMs: 150_000,
    },
  )
  const { default: port = 0 } = await command.ready()
  assert.match(command.stderr, /tls\.key: user nobody cannot read it; workers that are replaced get what root has read/)
  const before = childrenOf(command.pid)
  assert.is(before.length, 2, command.stderr)
  for (const pid of before) process.kill(pid, 'SIGKILL')
  await eventually(() => childrenOf(command.pid).filter((pid) => !before.includes(pid)).length >= 2, 'others', 60_000)
  // Whoever comes before they are ready waits in the kernel's queue.
  for (let i = 0; i < 4; i++) assert.is(await secured(port, `hello ${i}`), `hello ${i}\n`)
  const body = readFileSync(key, 'utf8').split('\n')[1] as string
  for (const pid of [command.pid, ...childrenOf(command.pid)]) {
    assert.match(readFileSync(`/proc/${pid}/status`, 'utf8'), /^Uid:\s+65534\s+65534\s+65534/m)
    for (const where of ['cmdline', 'environ']) {
      assert.not.ok(readFileSync(`/proc/${pid}/${where}`, 'utf8').includes(body), where)
    }
  }
  // A reload reads again as that user: refused by name, and the old goes on.
  command.child.kill('SIGHUP')
  await eventually(() => /tls\.key.*EACCES/.test(command.stderr), 'the reload is refused', 60_000)
  assert.is(await secured(port, 'still'), 'still\n')
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0, command.stderr)
})

test('F121 a worker that could not be replaced stops the start, by name: a handler, a configuration that is code', async () => {
  if (!isRoot) return skip('F121', 'only root can become somebody else')
  const at = place()
  const own = join(at, 'handler.mjs')
  writeFileSync(own, 'export default (message) => message\n')
  chmodSync(own, 0o600)
  const refused = gaidaros(
    ['serve', '--user', 'nobody', '--listen', 'tcp://127.0.0.1:0', '--handler', own, '--workers', '2'],
    {
      cwd: at,
      limitMs: 120_000,
    },
  )
  assert.is(await refused.ended, 2, refused.stderr)
  assert.match(refused.stderr, /a worker that replaces another cannot start as user nobody: .*handler\.mjs/)
  assert.not.match(refused.stdout, /^ready$/m)
  if (!hasTool('openssl')) return skip('F121', 'openssl is not installed')
  const tls = JSON.stringify(certificate(at))
  writeFileSync(
    join(at, 'gaidaros.config.mjs'),
    `export default { workers: 2, daemon: { user: 'nobody' }, tls: ${tls}, listeners: { default: { endpoint: 'tls://127.0.0.1:0', handler: (message) => message } } }\n`,
  )
  const code = gaidaros(['serve', '--config', join(at, 'gaidaros.config.mjs')], { cwd: at, limitMs: 120_000 })
  assert.is(await code.ended, 2, code.stderr)
  assert.match(code.stderr, /workers that replace others cannot read .*tls\.key as user nobody/)
  assert.not.match(code.stdout, /^ready$/m)
})

test('F121 doctor judges as that user: keys, handlers, folders; what it may read is fine', async () => {
  if (!isRoot) return skip('F121', 'only root can become somebody else')
  if (!hasTool('openssl')) return skip('F121', 'openssl is not installed')
  const at = place()
  const { cert, key } = certificate(at)
  const own = join(at, 'handler.mjs')
  writeFileSync(own, 'export default (message) => message\n')
  const asked = async (...further: readonly string[]) => {
    const tls = JSON.stringify({ cert, key })
    const args = ['doctor', '--json', '--user', 'nobody', '--listen', 'tls://127.0.0.1:0', '--handler', own]
    const command = gaidaros([...args, '--set', `tls=${tls}`, ...further], { cwd: at, limitMs: 60_000 })
    await command.ended
    const all = JSON.parse(command.stdout) as { level: string; check: string; where: string; found: string }[]
    return all.filter(({ where }) => where === 'daemon.user').map(({ level, found }) => `${level} ${found}`)
  }
  assert.equal(await asked(), [`warning nobody cannot read ${key}`])
  chmodSync(own, 0o600)
  assert.equal(await asked('--workers', '2'), [`warning nobody cannot read ${key}`, `error nobody cannot read ${own}`])
  chmodSync(own, 0o644)
  // By its group, as the remedy says.
  chownSync(key, 0, Number(execFileSync('id', ['-g', 'nobody'], { encoding: 'utf8' })))
  chmodSync(key, 0o640)
  assert.equal(await asked('--workers', '2'), ['ok nobody may read what is read again'])
  // A folder on the way counts as well.
  chownSync(at, 0, 0)
  chmodSync(at, 0o700)
  assert.is((await asked()).length, 2)
})

test.run()
