// time limit: 240 s
/** Every way in which the command ends, and that it ends. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { connect as dial } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Command, gaidaros, killAll, root } from '../support/command.js'
import { Peer } from '../support/faults.js'

const folder = mkdtempSync(join(tmpdir(), 'ge-'))
mkdirSync(join(folder, 'node_modules'))
symlinkSync(root, join(folder, 'node_modules', 'gaidaros'))
const at = (name: string) => join(folder, name)
const local = 'tcp://127.0.0.1:0'
const run = (args: readonly string[], more: { shell?: string } = {}) => gaidaros(args, { cwd: folder, ...more })

function write(name: string, text: string): string {
  writeFileSync(at(name), text)
  return `./${name}`
}

/** Starts a server whose application leaves something open, and stops it once. */
async function stopsCleanly(command: Command): Promise<void> {
  await command.ready()
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0)
}

test('an application that leaves timers behind does not keep an ended server', async () => {
  const file = write('timer.mjs', 'setInterval(() => {}, 1e6)\nexport default (line) => line\n')
  await stopsCleanly(run(['serve', '-l', local, '--handler', file]))
  const check = run(['check', '-l', local, '--handler', file])
  assert.is(await check.ended, 0)
  assert.match(check.stdout, /^ok: /)
})

test('a server that holds no socket waits for its signal all the same', async () => {
  await stopsCleanly(run(['serve', '-l', 'memory:nobody']))
})

for (const [signal, status] of [
  ['SIGTERM', 143],
  ['SIGINT', 130],
] as const) {
  test(`a second ${signal} stops at once with ${status}, and takes the pid file along`, async () => {
    const pidFile = at(`${signal}.pid`)
    // A reply that never comes holds the drain.
    const source = 'line => new Promise(() => {})'
    const command = run(['serve', '-l', local, '--eval', source, '--pid-file', pidFile])
    const { default: port = 0 } = await command.ready()
    const peer = await Peer.open(port)
    peer.send('x\n')
    const status0 = await connect(`unix:${at(`${signal}.sock`)}`, { codec: 'json-lines' })
    // Once this is answered, the message before it on the other connection is with the handler.
    await status0.request({ command: 'status' })
    await status0.close()
    command.child.kill(signal)
    await command.shows('drain.started')
    assert.is(existsSync(pidFile), true)
    command.child.kill(signal)
    assert.is(await command.ended, status)
    assert.is(existsSync(pidFile), false)
    peer.leave()
  })
}

test('a signal while handlers are still loading ends at once', async () => {
  const file = write(
    'loading.mjs',
    "console.error('loading')\nsetInterval(() => {}, 1e6)\nawait new Promise(() => {})\nexport default (line) => line\n",
  )
  for (const command of ['serve', 'handle']) {
    const child = run([command, '-l', local, '--handler', file])
    await child.shows('loading')
    child.child.kill('SIGTERM')
    assert.is(await child.ended, 0)
    assert.is(child.stdout, '')
  }
})

test('a start that hangs is left at the drain deadline, and says so', async () => {
  const plugin = write(
    'hangs.mjs',
    `import { definePlugin } from 'gaidaros'
export default definePlugin({
  name: 'hangs',
  setup: (registry) => void registry.transport({
    name: 'hangs',
    schemes: ['hangs'],
    capabilities: () => ({ kind: 'stream', ordered: true, reliable: true, halfClose: true, reset: true, backpressure: 'none', upgrade: [] }),
    listen: () => { console.error('binding'); return new Promise(() => {}) },
  }),
})
`,
  )
  const command = run(['serve', '--plugin', plugin, '-l', 'hangs:x', '--drain-timeout-ms', '50'])
  await command.shows('binding')
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 1)
  assert.match(command.stderr, /has not ended after 50 ms \(starting\)/)
})

test('a signal at any moment of the start ends the command, with everything undone', async () => {
  for (let delayMs = 0; delayMs <= 360; delayMs += 30) {
    const pidFile = at('race.pid')
    const command = run(['serve', '-l', local, '--pid-file', pidFile])
    await new Promise((resolve) => setTimeout(resolve, delayMs))
    command.child.kill('SIGTERM')
    const status = await command.ended
    // Before our code runs at all, the signal is Node's to answer.
    assert.ok(status === 0 || (status === 'SIGTERM' && command.stdout === ''), `${status} after ${delayMs} ms`)
    assert.is(existsSync(pidFile), false)
  }
})

for (const [what, source] of [
  ['an exception', "setTimeout(() => { throw new Error('stray') }, 1)"],
  ['a rejection', "Promise.reject(new Error('stray'))"],
] as const) {
  test(`${what} nobody caught exits with 1: while serving, drained, with nothing left behind`, async () => {
    const pidFile = at('stray.pid')
    const command = run(['serve', '-l', local, '--eval', `line => { ${source}; return line }`, '--pid-file', pidFile])
    const { default: port = 0 } = await command.ready()
    const peer = await Peer.open(port)
    await peer.send('x\n').hears('x\n')
    peer.socket.end()
    assert.is(await command.ended, 1)
    assert.match(command.stderr, /^gaidaros: stray\n {2}at /m)
    assert.match(command.stderr, /drain\.finished/)
    assert.is(existsSync(pidFile), false)
    peer.leave()
  })

  test(`${what} nobody caught exits with 1: while loading`, async () => {
    const file = write('stray.mjs', `${source}\nawait new Promise(() => {})\n`)
    const command = run(['serve', '-l', local, '--handler', file])
    assert.is(await command.ended, 1)
    assert.match(command.stderr, /stray/)
  })
}

test('standard error that cannot be written does not end a server', async () => {
  const command = run(['serve', '-l', local, '-vv'], { shell: 'exec "$0" "$@" 2>/dev/full' })
  const { default: port = 0 } = await command.ready()
  for (let i = 0; i < 3; i++) {
    const peer = await Peer.open(port)
    await peer.echoes('still here')
    peer.leave()
  }
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0)
})

test('standard output that cannot be written fails a command that prints, not one that serves', async () => {
  const shell = 'exec "$0" "$@" >/dev/full'
  const config = run(['config'], { shell })
  assert.is(await config.ended, 1)
  assert.match(config.stderr, /ENOSPC/)
  const serve = run(['serve', '-l', local], { shell })
  await serve.shows('to=ready')
  serve.child.kill('SIGTERM')
  assert.is(await serve.ended, 0)
})

test('what peers send writes no line of its own into the log', async () => {
  const command = run(['serve', '-l', local, '-vv', '--eval', 'line => { throw new Error(line) }'])
  const { default: port = 0 } = await command.ready()
  const peer = await Peer.open(port)
  peer.send(`\u001b[2J\rgaidaros: forged\u2028listening ${'x'.repeat(5_000)}\n`)
  await command.shows('handler.failed')
  await peer.over
  peer.leave()
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0)
  assert.not.match(command.stderr, /[\r\u001b\u2028]/)
  assert.not.match(command.stderr, /^gaidaros: forged/m)
  for (const line of command.stderr.split('\n')) assert.ok(Buffer.byteLength(line) <= 1_024)
})

test('whoever talks nonsense to the control socket harms neither it nor the server', async () => {
  const socket = at('nonsense.sock')
  const command = run(['serve', '-l', local, '--control', socket])
  const { default: port = 0 } = await command.ready()
  for (const bytes of [
    'not json\n',
    `${'x'.repeat(100_000)}`,
    '[1,2',
    '\n\n\0\n',
    '{"id":1,"command":"stop","timeoutMs":-1}\n',
  ]) {
    const peer = dial(socket)
    peer.on('error', () => {})
    peer.end(bytes)
    peer.resume()
    await new Promise((resolve) => peer.once('close', resolve))
  }
  const steering = await connect(`unix:${socket}`, { codec: 'json-lines' })
  const { result } = await steering.request<{ result: { state: string } }>({ command: 'status' })
  assert.is(result.state, 'ready')
  const peer = await Peer.open(port)
  await peer.echoes('x')
  peer.leave()
  assert.is((await steering.request<{ ok: boolean }>({ command: 'stop' })).ok, true)
  await steering.closed
  assert.is(await command.ended, 0)
})

test('stop waits for the end, and --timeout-ms cuts the drain short', async () => {
  const socket = at('stop.sock')
  const command = run(['serve', '-l', local, '--control', socket, '--eval', 'line => new Promise(() => {})'])
  const { default: port = 0 } = await command.ready()
  const peer = await Peer.open(port)
  peer.send('x\n')
  const stop = run(['stop', '--control', socket, '--timeout-ms', '100'])
  assert.is(await stop.ended, 0)
  assert.is(stop.stdout, 'stopped\n')
  assert.is(await command.ended, 0)
  assert.match(command.stderr, /drain\.finished forced=1/)
  assert.is(existsSync(socket), false)
  peer.leave()
})

test('check finds a certificate that cannot be read, and config shows what is set while a handler is missing', async () => {
  const tls = run(['check', '-l', 'tls://localhost:0', '--tls-cert', 'none.pem', '--tls-key', 'none.pem'])
  assert.is(await tls.ended, 2)
  assert.match(tls.stderr, /tls\.cert: cannot read the file .*none\.pem.*\[BAD_VALUE\]/)
  const config = run(['config', '--handler', './none.ts', '--json'])
  assert.is(await config.ended, 0)
  const all = JSON.parse(config.stdout)
  assert.is(all.handler.origin, '--handler')
  assert.equal(all['listeners.default.endpoint'], { value: 'tcp://localhost:8080', origin: 'default', kind: 'default' })
})

test('a refused start of a second server removes nothing of the first', async () => {
  const pidFile = at('both.pid')
  const first = run(['serve', '-l', local, '--pid-file', pidFile])
  const { default: port = 0 } = await first.ready()
  // Another pid file, the same port and then the same control socket.
  const second = run(['serve', '-l', `tcp://127.0.0.1:${port}`, '--pid-file', at('other.pid')])
  assert.is(await second.ended, 2)
  assert.match(second.stderr, /\[ADDRESS_IN_USE\]/)
  const third = run(['serve', '-l', local, '--control', at('both.sock')])
  assert.is(await third.ended, 2)
  assert.is(Number(readFileSync(pidFile, 'utf8')), first.pid)
  assert.is(existsSync(at('other.pid')), false)
  const status = run(['status', '--pid-file', pidFile])
  assert.is(await status.ended, 0)
  first.child.kill('SIGTERM')
  assert.is(await first.ended, 0)
})

test.after(() => {
  killAll()
  rmSync(folder, { recursive: true, force: true })
})
test.run()
