// time limit: 240 s
/** The command as a user types it, in processes of its own. */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros, killAll, root } from '../support/command.js'
import { Peer } from '../support/faults.js'

const folder = mkdtempSync(join(tmpdir(), 'gc-'))
mkdirSync(join(folder, 'node_modules'))
symlinkSync(root, join(folder, 'node_modules', 'gaidaros'))
const at = (name: string) => join(folder, name)
const write = (name: string, text: string) => {
  mkdirSync(join(at(name), '..'), { recursive: true })
  writeFileSync(at(name), text)
}
const cwd = folder
const local = 'tcp://127.0.0.1:0'

async function result(args: readonly string[], env: Record<string, string> = {}) {
  const command = gaidaros(args, { cwd, env })
  const status = await command.ended
  return { status, out: command.stdout, err: command.stderr }
}

test('--version and --help answer', async () => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  assert.is((await result(['--version'])).out.trim(), version)
  const { out, status } = await result(['--help'])
  assert.is(status, 0)
  for (const command of [
    'serve',
    'handle',
    'check',
    'config',
    'explain',
    'init',
    'status',
    'suspend',
    'resume',
    'drain',
    'stop',
  ]) {
    assert.match(out, new RegExp(`^  ${command} `, 'm'))
    assert.match((await result([command, '--help'])).out, new RegExp(`usage: gaidaros ${command}`))
  }
})

test('serve --eval answers, prints where it listens, and ends with 0 on SIGTERM', async () => {
  const command = gaidaros(['serve', '--listen', local, '--eval', 'line => line.toUpperCase()'], { cwd })
  const { default: port = 0 } = await command.ready()
  const peer = await Peer.open(port)
  await peer.send('hello\n').hears('HELLO\n')
  peer.leave()
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0)
  assert.is(command.stdout, `listening default tcp://127.0.0.1:${port}\nready\n`)
})

test('several endpoints are one listener with a line each', async () => {
  const command = gaidaros(['serve', '-l', local, '-l', `unix:${at('two.sock')}`], { cwd })
  await command.ready()
  assert.equal(command.stdout.match(/^listening default \S+/gm)?.length, 2)
  const client = await connect(`unix:${at('two.sock')}`)
  assert.is(await client.request('x'), 'x')
  await client.close()
  command.child.kill('SIGINT')
  assert.is(await command.ended, 0)
})

test('a TypeScript handler and configuration work with nothing further installed, injection included', async () => {
  write('ts/book.ts', `export class NameBook { nick(name: string) { return name + '!' } }\n`)
  write(
    'ts/handlers/greeter.ts',
    `import { type Connection, Handler, OnMessage, OnOpen } from 'gaidaros'
import { NameBook } from '../book.js'
enum Word { Hello = 'hello' }
@Handler({ codec: 'line' })
export class Greeter {
  constructor(private readonly names: NameBook) {}
  @OnOpen() welcome(_connection: Connection) { return 'who are you?' }
  @OnMessage() greet(name: string) { return \`\${Word.Hello} \${this.names.nick(name)}\` }
}
`,
  )
  write(
    'ts/gaidaros.config.ts',
    `import { defineConfig } from 'gaidaros'
export default defineConfig({ handlers: ['./handlers/*.ts'], listeners: { public: { endpoint: '${local}', handler: 'Greeter' } } })
`,
  )
  const command = gaidaros(['serve'], { cwd: at('ts') })
  const { public: port = 0 } = await command.ready()
  const peer = await Peer.open(port)
  await peer.hears('who are you?\n')
  await peer.send('Ada\n').hears('hello Ada!\n')
  peer.leave()
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0)
})

test('swapping the transport is changing one string', async () => {
  write('swap.mjs', `export default (line) => line.split('').reverse().join('')\n`)
  for (const endpoint of [local, `unix:${at('swap.sock')}`, 'udp://127.0.0.1:0']) {
    const command = gaidaros(['serve', '--listen', endpoint, '--handler', './swap.mjs'], { cwd })
    await command.ready()
    const bound = /^listening default (\S+)$/m.exec(command.stdout)?.[1] as string
    const client = await connect(bound)
    assert.is(await client.request('abc'), 'cba', endpoint)
    await client.close()
    command.child.kill('SIGTERM')
    assert.is(await command.ended, 0)
  }
})

test('handle serves one request and exits 0', async () => {
  const command = gaidaros(['handle', '--listen', local, '--eval', 'line => line.length'], { cwd })
  const { default: port = 0 } = await command.ready()
  const peer = await Peer.open(port)
  await peer.send('four\nmore\n').hears('4\n')
  await peer.over
  assert.is(peer.heard, '4\n')
  peer.leave()
  assert.is(await command.ended, 0)
})

test('handle exits 1 when nothing was asked', async () => {
  const command = gaidaros(['handle', '--listen', local], { cwd })
  const { default: port = 0 } = await command.ready()
  ;(await Peer.open(port)).socket.end()
  assert.is(await command.ended, 1)
})

for (const [args, expected] of [
  [['serv'], /nearest: `serve`/],
  [['serve', '--lisen', 'x'], /nearest: `--listen`/],
  [
    ['serve', '--set', 'limits.frameByts=1'],
    /limits\.frameByts: unknown key `frameByts`; nearest: `frameBytes`.*--set/,
  ],
  [['serve', '--listen', 'tpc://localhost:1'], /unknown scheme `tpc`; nearest: `tcp`/],
  [['serve', '--codec', 'lin'], /unknown codec `lin`; nearest: `line`/],
  [['serve', '--handler', './none.ts'], /there is no file .*none\.ts/],
  [['serve', '--eval', 'line =>'], /--eval: SyntaxError/],
  [['serve', '--config', './none.json'], /there is no configuration file .*none\.json/],
  [['check', '--workers', '0'], /workers: expected count to be a number from 1 to 1024, or "auto"/],
  [['serve', '--executor', 'threads'], /unknown executor `threads`/],
] as const) {
  test(`${args.join(' ')}: exit 2, with what to do`, async () => {
    const { status, err, out } = await result(args)
    assert.is(status, 2)
    assert.match(err, expected)
    assert.not.match(out, /listening|ready/)
  })
}

test('check names every fault and binds nothing', async () => {
  write(
    'bad.json',
    JSON.stringify({ listen: 'tcp://localhost:0', limits: { frameBytes: '1MB' }, timeouts: { idelMs: 1 } }),
  )
  const { status, err } = await result(['check', '--config', 'bad.json'])
  assert.is(status, 2)
  assert.match(err, /limits\.frameBytes: expected .*got "1MB"; write 1048576 \(.*bad\.json\)/)
  assert.match(err, /timeouts\.idelMs: unknown key `idelMs`; nearest: `idleMs`/)
  assert.match((await result(['check', '--listen', local])).out, /^ok: 1 listener, 1 handler/)
})

test('config shows where each value came from, and no secret', async () => {
  write('shown.json', JSON.stringify({ listen: local, limits: { inFlight: 3 }, tls: { passphrase: 'hunter2' } }))
  const { out } = await result(['config', '--config', 'shown.json', '--set', 'timeouts.idleMs=5'], {
    GAIDAROS_LIMITS__FRAME_BYTES: '99',
  })
  assert.match(out, /^limits\.inFlight = 3 +# .*shown\.json$/m)
  assert.match(out, /^limits\.frameBytes = 99 +# GAIDAROS_LIMITS__FRAME_BYTES$/m)
  assert.match(out, /^timeouts\.idleMs = 5 +# --set$/m)
  assert.match(out, /^limits\.lineBytes = 65536 +# default$/m)
  assert.match(out, /^tls\.passphrase = "\(hidden\)"/m)
  assert.not.match(out, /hunter2/)
})

for (const [where, settings] of [
  ['at the top', { listen: local, protocol: { name: 'socks5', users: { ada: 'hunter2' } } }],
  ['in a list', { listen: local, protocol: ['http', { name: 'socks5', users: { ada: 'hunter2' } }] }],
  ['of a listener', { listeners: { a: { endpoint: local, protocol: { name: 'socks5', users: { ada: 'hunter2' } } } } }],
  ['of a plugin', { listen: local, plugins: [['gaidaros/plugins/metrics', { token: 'hunter2' }]] }],
  [
    'of a plugin of somebody else',
    { listen: local, plugins: [['./vault.mjs', { combination: 'hunter2', door: 'left' }]] },
  ],
  [
    'of what such a plugin brings',
    { listen: local, plugins: ['./vault.mjs'], codec: { name: 'vault', combination: 'hunter2' } },
  ],
  ['of a plugin that is broken', { listen: local, plugins: [['./broken.mjs', { apiToken: 'hunter2' }]] }],
  ['of TLS by name', { listen: local, tls: { sni: { 'a.org': { passphrase: 'hunter2' } }, ticketKeys: 'hunter2' } }],
  ['of the cluster', { listen: local, cluster: { servers: 'nats://ada:hunter2@localhost', password: 'hunter2' } }],
] as const) {
  test(`F99 config hides secrets ${where}, by what their schema says`, async () => {
    write('secrets.json', JSON.stringify(settings))
    write(
      'vault.mjs',
      `const jsonSchema = { input: () => ({ type: 'object', properties: { combination: { writeOnly: true }, door: {} } }) }
       const options = { '~standard': { version: 1, vendor: 'mine', validate: (value) => ({ value }), jsonSchema } }
       const setup = (registry) => void registry.codec({ name: 'vault', options, create: () => ({}) })
       export default { name: 'vault', options, setup }`,
    )
    write('broken.mjs', 'throw new Error("broken")')
    for (const json of [[], ['--json']]) {
      const { out, err, status } = await result(['config', '--config', 'secrets.json', ...json])
      assert.is(status, 0, err)
      assert.not.match(out + err, 'hunter2')
      assert.match(out, '(hidden)')
      if (where.endsWith('somebody else')) assert.match(out, 'left')
    }
  })
}

for (const [what, settings] of [
  ['users that are a list of words', { protocol: { name: 'socks5', users: 'ada:hunter2' } }],
  ['a protocol without its name', { protocol: { users: { ada: 'hunter2' } } }],
  ['a middleware that is a list', { middleware: [[{ name: 'log', key: 'hunter2' }]] }],
  ['a token that is a list', { plugins: [['gaidaros/plugins/metrics', { token: ['hunter2'] }]] }],
  ['a password of a wrong cluster', { cluster: { servers: 1, password: 'hunter2' } }],
  ['a plugin of three parts', { plugins: [['./vault.mjs', { combination: 'hunter2' }, 3]] }],
  ['what a library says of it', { plugins: [['./strict.mjs', { combination: 'hunter2' }]] }],
] as const) {
  test(`F99 an error hides ${what}`, async () => {
    write('secrets.json', JSON.stringify({ listen: local, ...settings }))
    write(
      'strict.mjs',
      `const jsonSchema = { input: () => ({ properties: { combination: { format: 'password' } } }) }
       const issues = [{ path: ['combination'], message: 'expected six digits, received "hunter2"' }]
       const options = { '~standard': { version: 1, vendor: 'mine', validate: () => ({ issues }), jsonSchema } }
       export default { name: 'strict', options, setup() {} }`,
    )
    const { out, err, status } = await result(['check', '--config', 'secrets.json'])
    assert.is(status, 2, err)
    assert.match(err, /expected/)
    assert.not.match(out + err, 'hunter2')
  })
}

test('explain tells the chain and the reasons', async () => {
  const { out } = await result(['explain', '--listen', local, '--middleware', 'log', '--eval', 'line => line'])
  assert.match(out, /endpoint +tcp:\/\/127\.0\.0\.1:0 by tcp: stream, ordered, reliable/)
  assert.match(out, /codec +line +\[default\]/)
  assert.match(out, /middleware +log \(global\) +\[--middleware\]/)
  const { out: json } = await result(['explain', '--listen', local, '--json'])
  assert.is(JSON.parse(json)[0].codec, 'line')
})

test('the control socket: private, asked for, and it steers', async () => {
  const pidFile = at('run.pid')
  const socket = at('run.sock')
  const command = gaidaros(['serve', '--listen', local, '--pid-file', pidFile], { cwd })
  const { default: port = 0 } = await command.ready()
  assert.is(Number(readFileSync(pidFile, 'utf8')), command.pid)
  assert.is(statSync(socket).mode & 0o777, 0o600)
  const peer = await Peer.open(port)
  await peer.echoes('x')
  const status = JSON.parse((await result(['status', '--json', '--control', socket])).out)
  assert.is(status.pid, command.pid)
  assert.is(status.listeners[0].connections, 1)
  assert.match((await result(['status', '--pid-file', pidFile])).out, /default +listening +1 of 10000/)

  assert.is((await result(['suspend', 'default', '--control', socket])).out, 'suspended default\n')
  const waiting = await Peer.open(port)
  waiting.send('wait\n')
  assert.is(JSON.parse((await result(['status', '--json', '--control', socket])).out).listeners[0].state, 'suspended')
  assert.is(waiting.heard, '')
  assert.is((await result(['resume', '--control', socket])).out, 'resumed default\n')
  await waiting.hears('wait\n')
  const wrong = await result(['suspend', 'defualt', '--control', socket])
  assert.is(wrong.status, 1)
  assert.match(wrong.err, /nearest: `default`/)

  const second = await result(['serve', '--listen', local, '--pid-file', pidFile])
  assert.is(second.status, 2)
  assert.match(second.err, /process \d+ runs/)

  for (const one of [peer, waiting]) one.socket.end()
  assert.is((await result(['stop', '--control', socket])).out, 'stopped\n')
  assert.is(await command.ended, 0)
  assert.is(existsSync(pidFile), false)
  assert.is(existsSync(socket), false)
})

test('no server at the control socket is an error that tells how to have one', async () => {
  const { status, err } = await result(['status', '--control', at('nobody.sock')])
  assert.is(status, 1)
  assert.match(err, /start one with --control/)
})

test('SIGHUP harms nobody', async () => {
  const command = gaidaros(['serve', '--listen', local], { cwd })
  const { default: port = 0 } = await command.ready()
  command.child.kill('SIGHUP')
  await command.shows('SIGHUP')
  const peer = await Peer.open(port)
  await peer.echoes('alive')
  peer.leave()
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0)
})

test('an error nobody caught ends the server in order, with 1', async () => {
  const source = `line => { setTimeout(() => { throw new Error('stray') }, 1); return line }`
  const command = gaidaros(['serve', '--listen', local, '--eval', source], { cwd })
  const { default: port = 0 } = await command.ready()
  const peer = await Peer.open(port)
  await peer.echoes('x')
  peer.socket.end()
  assert.is(await command.ended, 1)
  assert.match(command.stderr, /stray/)
})

test('a reader that goes away does not make the command fail', () => {
  const cli = join(root, 'dist/cli.js')
  const { stderr } = spawnSync('bash', ['-c', `"${process.execPath}" "${cli}" config | head -1`], {
    encoding: 'utf8',
    cwd,
  })
  assert.not.match(stderr, /EPIPE/)
})

test('init refuses to overwrite, and says what is there', async () => {
  write('taken/package.json', '{}')
  const { status, err } = await result(['init', at('taken')])
  assert.is(status, 2)
  assert.match(err, /package\.json/)
  assert.is(existsSync(at('taken/README.md')), false)
})

test('a project written by init runs', async () => {
  assert.is((await result(['init', at('fresh-project')])).status, 0)
  mkdirSync(at('fresh-project/node_modules'))
  symlinkSync(root, at('fresh-project/node_modules/gaidaros'))
  const command = gaidaros(
    ['serve', '--set', `listeners.public.endpoint=${local}`, '--set', `listeners.local.endpoint=unix:${at('f.sock')}`],
    {
      cwd: at('fresh-project'),
    },
  )
  const { public: port = 0 } = await command.ready()
  const peer = await Peer.open(port)
  await peer.send('Ada\n').hears('hello Ada, over tcp')
  peer.leave()
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0)
})

test('a transport written by init passes its own conformance test', async () => {
  assert.is((await result(['init', 'transport', at('my-transport'), '--name', 'mine'])).status, 0)
  mkdirSync(at('my-transport/node_modules'))
  symlinkSync(root, at('my-transport/node_modules/gaidaros'))
  const output = execFileSync(process.execPath, ['--test'], { cwd: at('my-transport'), encoding: 'utf8' })
  assert.match(output, /# fail 0/)
  assert.match(output, /# pass [4-9]\d/)
})

test.after(() => {
  killAll()
  rmSync(folder, { recursive: true, force: true })
})
test.run()
