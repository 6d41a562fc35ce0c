// time limit: 120 s
/** A server as a service: in the background, its log, its user, its service manager, its profiles (F86, F89). */
import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs'
import { connect as connectUnix } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros, killAll, root } from '../support/command.js'
import { eventually, Peer } from '../support/faults.js'
import { skip } from '../support/skip.js'
import { hasTool } from '../support/tools.js'

const folder = mkdtempSync(join(tmpdir(), 'gd-'))
chmodSync(folder, 0o755)
const noisy = join(root, 'build/fixtures/noisy-handler.js')
const daemons = new Set<number>()
test.after(() => {
  killAll()
  receiver?.kill()
  for (const pid of daemons) if (isAlive(pid)) process.kill(pid, 'SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})

/** Listens in systemd's place. */
let receiver: ReturnType<typeof spawn> | undefined
let count = 0
/** A folder of its own. */
function place(): string {
  const path = join(folder, String(++count))
  mkdirSync(path)
  return path
}
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
const read = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8') : '')

/** Starts one in the background: the command has ended, the server is there. */
async function daemon(args: readonly string[], at: string) {
  const pidFile = join(at, 'run.pid')
  const command = gaidaros(
    ['serve', '--daemon', '--listen', 'tcp://127.0.0.1:0', '--handler', noisy, '--pid-file', pidFile, ...args],
    { cwd: at },
  )
  const status = await command.ended
  const pid = Number(read(pidFile))
  if (pid > 0) daemons.add(pid)
  const port = Number(/^listening default \S+:(\d+)$/m.exec(command.stdout)?.[1] ?? 0)
  return { status, pid, port, command, pidFile }
}
async function stop(pid: number): Promise<void> {
  process.kill(pid, 'SIGTERM')
  await eventually(() => !isAlive(pid), `${pid} has ended`, 20_000)
}

test('--daemon returns once the server is ready, and leaves it without a terminal', async () => {
  const at = place()
  const log = join(at, 'log')
  const { status, pid, port, command, pidFile } = await daemon(['--log-file', log, '-v'], at)
  assert.is(status, 0, command.stderr)
  assert.match(command.stdout, /^listening default tcp:\/\/127\.0\.0\.1:\d+\nready\n$/)
  assert.not.equal(pid, command.pid)
  // A session of its own, nothing of the one that started it.
  const session = read(`/proc/${pid}/stat`).split(') ')[1]?.split(' ')[3]
  assert.is(Number(session), pid)
  const peer = await Peer.open(port)
  await peer.echoes('hello')
  await peer.echoes('out from-the-handler')
  await eventually(() => /connection\.opened/.test(read(log)) && /printed from-the-handler/.test(read(log)), read(log))
  peer.leave()
  // The same pid file again: refused, with what to do, and nothing is left behind.
  const second = await daemon([], at)
  assert.is(second.status, 2)
  assert.match(second.command.stderr, /pid file .* process \d+ runs/)
  await stop(pid)
  assert.is(existsSync(pidFile), false)
  assert.match(read(log), /drain\.finished|stopped/)
})

test('a server that cannot start says so through the command, with its status', async () => {
  const at = place()
  const log = join(at, 'log')
  const bad = await daemon(['--log-file', log, '--listen', 'tcp://192.0.2.1:1'], at)
  assert.is(bad.status, 2)
  assert.match(bad.command.stderr, /192\.0\.2\.1:1/)
  assert.match(read(log), /192\.0\.2\.1:1/, 'and to the log')
  const unknown = await daemon(['--codec', 'lines'], at)
  assert.is(unknown.status, 2)
  assert.match(unknown.command.stderr, /nearest: `line`/)
  const noLog = await daemon(['--log-file', join(at, 'no', 'log')], at)
  assert.is(noLog.status, 2)
  assert.match(noLog.command.stderr, /daemon\.logFile: .*ENOENT/)
})

test('the log file is opened again on SIGUSR1: what was moved away ends, the new one begins; processes too', async () => {
  const at = place()
  const log = join(at, 'log')
  const { status, pid, port, command } = await daemon(['--log-file', log, '--executor', 'process'], at)
  assert.is(status, 0, command.stderr)
  const peer = await Peer.open(port)
  await peer.echoes('err one')
  await eventually(() => read(log).includes('complained one'), 'the first line')
  renameSync(log, `${log}.1`)
  process.kill(pid, 'SIGUSR1')
  await eventually(() => read(log).includes('opened again'), 'the new file')
  await peer.echoes('err two')
  await eventually(() => read(log).includes('complained two'), 'the second line')
  assert.not.match(read(`${log}.1`), /complained two/)
  // Deleted under it: a new one comes by itself, with everything in it.
  unlinkSync(log)
  await peer.echoes('err three')
  await eventually(() => read(log).includes('complained three'), 'a deleted log comes back')
  peer.leave()
  await stop(pid)
})

test('F86 a log that cannot be written: the service goes on, lost lines are counted and told', async () => {
  const at = place()
  const log = join(at, 'log')
  // Every write to it fails with ENOSPC.
  symlinkSync('/dev/full', log)
  const { status, pid, port, command } = await daemon(['--log-file', log, '--verbose'], at)
  assert.is(status, 0, command.stderr)
  for (let i = 0; i < 20; i++) {
    const peer = await Peer.open(port)
    await peer.echoes(`hello ${i}`)
    await peer.echoes('err lost')
    peer.leave()
  }
  unlinkSync(log)
  process.kill(pid, 'SIGUSR1')
  await eventually(() => /gaidaros: \d+ lines before this one could not be written/.test(read(log)), read(log))
  const lost = Number(/gaidaros: (\d+) lines/.exec(read(log))?.[1])
  assert.ok(lost >= 40 && lost < 400, `${lost} lines lost`)
  const peer = await Peer.open(port)
  await peer.echoes('err found')
  await eventually(() => read(log).includes('complained found'), 'and it goes on')
  peer.leave()
  await stop(pid)
})

test('F86 a disk that fills up and is free again', async () => {
  const at = place()
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', at], { stdio: 'ignore' })
  } catch {
    return skip('F86 full disk', 'tmpfs cannot be mounted here (needs root)')
  }
  try {
    const log = join(at, 'log')
    const own = place()
    const { status, pid, port, command } = await daemon(['--log-file', log], own)
    assert.is(status, 0, command.stderr)
    const peer = await Peer.open(port)
    const words = 'x'.repeat(1_000)
    for (let i = 0; i < 100; i++) await peer.echoes(`err ${i}${words}`)
    await eventually(() => statSync(log).size > 60_000, 'the disk is full')
    renameSync(log, join(at, 'old'))
    unlinkSync(join(at, 'old'))
    await peer.echoes('err room-again')
    await eventually(() => read(log).includes('complained room-again'), 'it goes on')
    const lost = Number(/gaidaros: (\d+) lines before this one/.exec(read(log))?.[1] ?? 0)
    assert.ok(lost >= 30 && lost <= 60, `${lost} lines lost of 100 KB on a disk of 64 KB`)
    peer.leave()
    await stop(pid)
  } finally {
    execFileSync('umount', ['-l', at])
  }
})

test('F86 a reader of standard error that leaves (EPIPE) ends nothing', async () => {
  const command = gaidaros(['serve', '--listen', 'tcp://127.0.0.1:0', '-vv'], { shell: '"$0" "$@" 2> >(head -1 >&2)' })
  const { default: port = 0 } = await command.ready()
  for (let i = 0; i < 30; i++) {
    const peer = await Peer.open(port)
    await peer.echoes(`hello ${i}`)
    peer.leave()
  }
  // The shell waits for the server, or has become it.
  for (const pid of [...childrenOf(command.pid), command.pid]) process.kill(pid, 'SIGTERM')
  await command.ended
})

const isRoot = process.geteuid?.() === 0

test('F89 a port below 1024 is bound as root, then root is given up for good; files stay usable', async () => {
  if (!isRoot) return skip('F89', 'only root can become somebody else')
  const at = place()
  chownSync(at, 65_534, 65_534)
  const log = join(at, 'log')
  const socket = join(at, 'talk.sock')
  const port = 80 + (process.pid % 900)
  const args = [
    '--user',
    'nobody',
    '--log-file',
    log,
    '--listen',
    `tcp://127.0.0.1:${port}`,
    '--listen',
    `unix:${socket}`,
  ]
  for (const executor of ['inline', 'process', 'thread']) {
    const { status, pid, pidFile, command } = await daemon([...args, '--executor', executor], at)
    assert.is(status, 0, command.stderr)
    const { gid } = { gid: Number(execFileSync('id', ['-g', 'nobody'], { encoding: 'utf8' })) }
    for (const one of [pid, ...childrenOf(pid)]) {
      const facts = read(`/proc/${one}/status`)
      assert.match(facts, /^Uid:\s+65534\s+65534\s+65534\s+65534$/m, `${executor}: ${one}`)
      assert.match(facts, new RegExp(`^Gid:\\s+${gid}\\s+${gid}\\s+${gid}\\s+${gid}$`, 'm'))
      assert.match(facts, new RegExp(`^Groups:\\s*${gid}\\s*$`, 'm'))
      assert.match(facts, /^CapEff:\s+0+$/m)
      assert.match(facts, /^CapPrm:\s+0+$/m)
    }
    if (executor === 'process') assert.ok(childrenOf(pid).length > 0)
    const peer = await Peer.open(port)
    await peer.send('who\n').hears(`65534 ${gid} ${gid} `)
    peer.leave()
    for (const file of [log, socket, join(at, 'run.sock')]) assert.is(statSync(file).uid, 65_534, file)
    // Root's `kill $(cat …)` ends what root has written.
    assert.is(statSync(pidFile).uid, 0, pidFile)
    const local = connectUnix(socket)
    local.write('over unix\n')
    const [answer] = (await new Promise((resolve) => local.once('data', (chunk) => resolve([chunk])))) as [Buffer]
    assert.is(answer.toString(), 'over unix\n')
    local.destroy()
    // Log rotation as the user it is now; the control socket as well.
    renameSync(log, `${log}.1`)
    process.kill(pid, 'SIGUSR1')
    await eventually(() => read(log).includes('opened again'), 'the log is there again')
    assert.is(statSync(log).uid, 65_534)
    const stopping = gaidaros(['stop', '--pid-file', pidFile], { cwd: at })
    assert.is(await stopping.ended, 0, stopping.stderr)
    await eventually(() => !isAlive(pid), 'stopped', 20_000)
    for (const file of [socket, pidFile]) assert.is(existsSync(file), false, file)
    rmSync(log)
  }
})

test('F89 what could be regained stops the start; somebody else cannot become anybody; unknown names are named', async () => {
  if (!isRoot) return skip('F89', 'only root can become somebody else')
  if (!hasTool('setpriv')) return skip('F89', 'setpriv (util-linux) is not installed')
  const listen = ['serve', '--listen', 'tcp://127.0.0.1:0']
  // Keeping capabilities over setuid(2) leaves a way back.
  const keeping = gaidaros([...listen, '--user', 'nobody'], {
    shell: 'exec setpriv --securebits +no_setuid_fixup -- "$0" "$@"',
  })
  assert.is(await keeping.ended, 2, keeping.stderr)
  assert.match(keeping.stderr, /root's \w+.* can be taken back/)
  assert.not.match(keeping.stdout, /ready/)
  const other = gaidaros([...listen, '--user', 'daemon'], {
    shell: 'exec setpriv --reuid nobody --regid nogroup --clear-groups -- "$0" "$@"',
  })
  assert.is(await other.ended, 2, other.stderr)
  assert.match(other.stderr, /user 65534 cannot become daemon:\d+.*start as root/)
  const same = gaidaros([...listen, '--user', 'nobody'], {
    shell: 'exec setpriv --reuid nobody --regid nogroup --clear-groups -- "$0" "$@"',
  })
  await same.ready()
  same.child.kill('SIGTERM')
  assert.is(await same.ended, 0, same.stderr)
  const unknown = gaidaros([...listen, '--user', 'nobody-of-that-name'])
  assert.is(await unknown.ended, 2)
  assert.match(unknown.stderr, /there is no user `nobody-of-that-name`/)
})

function childrenOf(pid: number): number[] {
  return read(`/proc/${pid}/task/${pid}/children`).trim().split(' ').filter(Boolean).map(Number)
}

/** CLOCK_MONOTONIC now, as systemd reads it. */
const monotonic = () => Number(process.hrtime.bigint() / 1_000n)

test('systemd is told: READY, RELOADING, STOPPING; an upgrade hands on who is the service', async () => {
  if (!hasTool('socat')) return skip('sd_notify', 'socat is not installed')
  const at = place()
  const path = join(at, 'notify.sock')
  const own = spawn('socat', ['-u', `UNIX-RECV:${path}`, '-'], { stdio: ['ignore', 'pipe', 'inherit'] })
  receiver = own
  let heard = ''
  own.stdout.on('data', (chunk) => {
    heard += chunk
  })
  await eventually(() => existsSync(path), 'the receiver')
  // systemd-notify waits until a message was taken in, which nobody but systemd says.
  const tools = join(at, 'bin')
  mkdirSync(tools)
  symlinkSync(execFileSync('which', ['socat'], { encoding: 'utf8' }).trim(), join(tools, 'socat'))
  const command = gaidaros(['serve', '--listen', 'tcp://127.0.0.1:0'], { env: { NOTIFY_SOCKET: path, PATH: tools } })
  await command.ready()
  await eventually(() => heard.includes('READY=1'), 'READY')
  assert.match(heard, new RegExp(`MAINPID=${command.pid}`))
  heard = ''
  const before = monotonic()
  command.child.kill('SIGHUP')
  await eventually(() => /RELOADING=1[\s\S]*READY=1/.test(heard), 'RELOADING')
  const said = Number(/^RELOADING=1\nMONOTONIC_USEC=(\d+)$/m.exec(heard)?.[1])
  assert.ok(said >= before && said <= monotonic(), heard)
  heard = ''
  command.child.kill('SIGUSR2')
  await eventually(() => /READY=1\nMAINPID=\d+/.test(heard), 'the new process')
  const successor = Number(/MAINPID=(\d+)/.exec(heard)?.[1])
  daemons.add(successor)
  assert.is.not(successor, command.pid)
  await eventually(() => !isAlive(command.pid), 'the old process has ended')
  assert.not.match(heard, /STOPPING/)
  process.kill(successor, 'SIGTERM')
  await eventually(() => heard.includes('STOPPING=1'), 'STOPPING')
  await eventually(() => !isAlive(successor), 'the end')
  heard = ''
  const watched = gaidaros(['serve', '--listen', 'tcp://127.0.0.1:0'], {
    env: { NOTIFY_SOCKET: path, PATH: tools, WATCHDOG_USEC: '400000' },
  })
  await eventually(() => (heard.match(/^WATCHDOG=1$/gm)?.length ?? 0) >= 3, 'WATCHDOG')
  assert.ok(heard.indexOf('READY=1') < heard.indexOf('WATCHDOG=1'))
  watched.child.kill('SIGKILL')
  await watched.ended
  if (hasTool('systemd-notify')) {
    heard = ''
    const other = gaidaros(['serve', '--listen', 'tcp://127.0.0.1:0'], { env: { NOTIFY_SOCKET: path } })
    await other.ready()
    await eventually(() => heard.includes(`READY=1\nMAINPID=${other.pid}`), 'READY by systemd-notify')
    other.child.kill('SIGKILL')
    await other.ended
  } else skip('systemd-notify', 'systemd-notify (systemd) is not installed')
  own.kill()
})

for (const executor of ['inline', 'thread-pool', 'process-pool'] as const) {
  test(`--cpu-prof writes a profile of each: ${executor}`, async () => {
    const at = place()
    const profiles = join(at, 'profiles')
    const command = gaidaros([
      ...['serve', '--listen', 'tcp://127.0.0.1:0', '--handler', noisy, '--cpu-prof', profiles],
      ...(executor === 'inline' ? [] : ['--set', `executor={"type":"${executor}","size":2}`]),
    ])
    const { default: port = 0 } = await command.ready()
    const peers = [await Peer.open(port), await Peer.open(port)]
    for (const peer of peers) await peer.echoes('spin 100')
    for (const peer of peers) peer.leave()
    command.child.kill('SIGTERM')
    assert.is(await command.ended, 0, command.stderr)
    const files = readdirSync(profiles)
    const kind = executor === 'inline' ? 'server' : executor.split('-')[0]
    assert.is(files.length, executor === 'inline' ? 1 : 3, files.join(' '))
    assert.ok(files.includes(`server-${command.pid}-0.cpuprofile`), files.join(' '))
    // It shows what took the time, where it was.
    const own = files.filter((file) => file.startsWith(`${kind}-`))
    const frames = own.flatMap((file) => {
      const { nodes } = JSON.parse(read(join(profiles, file))) as { nodes: { callFrame: { functionName: string } }[] }
      return nodes.map(({ callFrame }) => callFrame.functionName)
    })
    assert.ok(frames.includes('handle'), [...new Set(frames)].join(' '))
  })
}

test('--cpu-prof writes a profile of each server process, and of their supervisor', async () => {
  const profiles = join(place(), 'profiles')
  const command = gaidaros(
    ['serve', '--listen', 'tcp://127.0.0.1:0', '--handler', noisy, '--workers', '2', '--cpu-prof', profiles],
    { limitMs: 60_000 },
  )
  const { default: port = 0 } = await command.ready()
  const workers = childrenOf(command.pid)
  const peers = [await Peer.open(port), await Peer.open(port)]
  for (const peer of peers) await peer.echoes('spin 100')
  for (const peer of peers) peer.leave()
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0, command.stderr)
  const expected = [`server-${command.pid}-0.cpuprofile`, ...workers.map((pid) => `worker-${pid}-0.cpuprofile`)]
  assert.equal(readdirSync(profiles).sort(), expected.sort())
  for (const pid of workers) {
    const { nodes } = JSON.parse(read(join(profiles, `worker-${pid}-0.cpuprofile`))) as {
      nodes: { callFrame: { functionName: string } }[]
    }
    assert.ok(
      nodes.some(({ callFrame }) => callFrame.functionName === 'handle'),
      `worker ${pid}`,
    )
  }
})

test.run()
