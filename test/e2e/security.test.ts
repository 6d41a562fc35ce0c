// time limit: 300 s
/** The defaults that keep a server safe when nobody thought of it: where code comes from, what peers learn, what they cost. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { connect } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros, killAll, root } from '../support/command.js'
import { Peer, serve, stopAll } from '../support/faults.js'

const folder = mkdtempSync(join(tmpdir(), 'gs-'))
const project = join(folder, 'project')
const local = 'tcp://127.0.0.1:0'

function write(path: string, text: string): string {
  const file = join(folder, path)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
  return file
}

async function result(args: readonly string[], { cwd = project, env = {} as Record<string, string> } = {}) {
  const command = gaidaros(args, { cwd, env })
  const status = await command.ended
  return { status, out: command.stdout, err: command.stderr }
}

/** A module that tells when it was run. */
const telling = (mark: string, body = 'export default (line) => line') =>
  `import { writeFileSync } from 'node:fs'\nwriteFileSync(${JSON.stringify(join(folder, mark))}, '')\n${body}\n`
function wasRun(mark: string): boolean {
  try {
    statSync(join(folder, mark))
    rmSync(join(folder, mark))
    return true
  } catch {
    return false
  }
}

test.before(() => {
  write('project/package.json', '{"name":"project","type":"module"}')
  mkdirSync(join(project, 'node_modules'))
  symlinkSync(root, join(project, 'node_modules', 'gaidaros'))
  write('outside.js', telling('outside'))
  write('outside-plugin.js', telling('outside', `export default { name: 'outside', setup() {} }`))
  write('project/inside.js', telling('inside'))
})

// ── where code comes from ──────────────────────────────────────────────────────────────────────────────────────────────

for (const [what, settings] of [
  ['a handler', { handler: '../outside.js' }],
  ['a handler of a listener', { listeners: { a: { endpoint: local, handler: '../outside.js#default' } } }],
  ['handlers', { handlers: ['./inside.js', '../outside.js'] }],
  ['handlers by a pattern', { handlers: '../outs*.js' }],
  ['an absolute path', { handler: join(folder, 'outside.js') }],
  ['a plugin', { plugins: [['../outside-plugin.js', {}]] }],
  ['hooks', { hooks: { module: '../outside.js' } }],
  ['a way round', { handler: './deep/../../outside.js' }],
  ['a link', { handler: '../outside-link.js' }],
  ['a key function', { executor: { type: 'thread-pool', size: 1, affinity: '../outside.js#default' } }],
] as const) {
  test(`F99 a file may not name ${what} outside of its project`, async () => {
    write(
      'project/config/c.json',
      JSON.stringify({ listen: local, ...settings })
        .replaceAll('"../', '"../../')
        .replace('./inside', '../inside')
        .replace('"./deep/../../', '"./deep/../../../'),
    )
    if (what === 'a link') {
      symlinkSync(join(folder, 'outside.js'), join(folder, 'outside-link.js'))
      renameSync(join(folder, 'outside-link.js'), join(folder, 'project/outside-link.js'))
      write('project/config/c.json', JSON.stringify({ listen: local, handler: '../outside-link.js' }))
    }
    // A key function is loaded when its executor starts.
    const command = what === 'a key function' ? 'serve' : 'check'
    const { status, err } = await result([command, '--config', 'config/c.json'])
    assert.is(status, 2, err)
    assert.match(err, /outs.* is outside of the project .*project, .*--modules-from/)
    assert.not.ok(wasRun('outside'))
  })
}

for (const argument of ['--import=/elsewhere/x.mjs', '--inspect=0', '-e', '/elsewhere/x.js', '--max-old-space-size']) {
  test(`F99 neither a file nor a variable may start processes with ${argument}`, async () => {
    const executor = { type: 'process', execArgv: [argument] }
    write('project/config/c.json', JSON.stringify({ listen: local, executor }))
    const file = await result(['check', '--config', 'config/c.json'])
    assert.is(file.status, 2, file.err)
    assert.match(file.err, /executor\.execArgv: expected arguments that load and open nothing.*c\.json/)
    const env = await result(['check', '--listen', local], {
      env: { GAIDAROS_EXECUTOR__TYPE: 'process', GAIDAROS_EXECUTOR__EXEC_ARGV: JSON.stringify([argument]) },
    })
    assert.is(env.status, 2, env.err)
  })
}

test('what is in the project, in a package, or named by whoever gives the command is loaded', async () => {
  write(
    'project/config/c.json',
    JSON.stringify({ listen: local, handler: '../inside.js', plugins: ['gaidaros/plugins/console'] }),
  )
  const inside = await result(['check', '--config', 'config/c.json'])
  assert.is(inside.status, 0, inside.err)
  assert.ok(wasRun('inside'))
  assert.is((await result(['check', '--listen', local, '--handler', '../outside.js'])).status, 0)
  assert.ok(wasRun('outside'))
  write('project/config/c.json', JSON.stringify({ listen: local, handler: '../../outside.js' }))
  assert.is((await result(['check', '--config', 'config/c.json', '--modules-from', folder])).status, 0)
  assert.ok(wasRun('outside'))
})

test('neither may the environment, nor a file that is imported', async () => {
  const env = await result(['check', '--listen', local], { env: { GAIDAROS_HANDLER: '../outside.js' } })
  assert.is(env.status, 2)
  assert.match(env.err, /outside of the project.*GAIDAROS_HANDLER/)
  write('elsewhere/base.json', JSON.stringify({ handler: './other.js' }))
  write('elsewhere/other.js', telling('other'))
  write('project/config/c.json', JSON.stringify({ $import: '../../elsewhere/base.json', listen: local }))
  assert.match((await result(['check', '--config', 'config/c.json'])).err, /other\.js is outside of the project/)
  write('project/config/c.json', JSON.stringify({ $import: '../../outside.js', listen: local }))
  assert.match(
    (await result(['check', '--config', 'config/c.json'])).err,
    /\$import: .*outside\.js is outside of the project/,
  )
  assert.not.ok(wasRun('other') || wasRun('outside'))
})

for (const reference of [
  'data:text/javascript,globalThis.x=1',
  'data:text/javascript,console.log("EVALUATED").js',
  'file:///tmp/x.mjs',
  'node:child_process',
  'https://example.org/x.js',
  'gaidaros/../../../outside',
]) {
  test(`\`${reference}\` names no module`, async () => {
    for (const settings of [{ plugins: [reference] }, { handlers: [reference] }, { hooks: { module: reference } }]) {
      write('project/c.json', JSON.stringify({ listen: local, ...settings }))
      const { status, err, out } = await result(['check', '--config', 'c.json'])
      assert.is(status, 2)
      assert.match(err, /names no module|outside of the project/)
      assert.not.match(out + err, /^EVALUATED/m)
    }
  })
}

test('outside of a project nothing above is searched; in one, nothing above its root', async () => {
  write('above/gaidaros.config.js', telling('above', `export default { listen: '${local}' }`))
  mkdirSync(join(folder, 'above/x/y'), { recursive: true })
  const lone = await result(['config'], { cwd: join(folder, 'above/x/y') })
  assert.is(lone.status, 0)
  write('above/x/package.json', '{}')
  await result(['config'], { cwd: join(folder, 'above/x/y') })
  assert.not.ok(wasRun('above'))
  write('above/x/.gaidarosrc.json', JSON.stringify({ verbose: 3 }))
  assert.match((await result(['config'], { cwd: join(folder, 'above/x/y') })).out, /^verbose = 3/m)
})

test('data files are never evaluated: no code in YAML, hooks are names, eval is a flag alone', async () => {
  write('project/c.yaml', `listen: ${local}\nhandler: !!js/function 'function () { process.exit(7) }'\n`)
  assert.is((await result(['check', '--config', 'c.yaml'])).status, 2)
  for (const handleRequest of ['(r) => process.exit(7)', 'constructor', '__proto__', 'toString']) {
    write('project/c.json', JSON.stringify({ listen: local, hooks: { module: './hooks.js', handleRequest } }))
    write('project/hooks.js', 'export class A {}\n')
    const { status, err } = await result(['check', '--config', 'c.json'])
    assert.is(status, 2, handleRequest)
    assert.match(err, /handleRequest/)
  }
  write('project/c.json', JSON.stringify({ listen: local, eval: 'line => process.exit(7)' }))
  assert.match((await result(['check', '--config', 'c.json'])).err, /unknown key `eval`/)
  const env = await result(['check', '--listen', local], { env: { GAIDAROS_EVAL: 'line => line' } })
  assert.match(env.err, /GAIDAROS_EVAL: unknown key/)
  assert.is((await result(['check', '--listen', local, '--set', 'eval=line => line'])).status, 2)
})

test('everything but --eval works where no code may be made of strings', async () => {
  const flags = '--disallow-code-generation-from-strings'
  assert.throws(() => execFileSync(process.execPath, [flags, '-e', 'new Function("1")'], { stdio: 'pipe' }))
  write(
    'project/ts.config.ts',
    `import { defineConfig } from 'gaidaros'
export default defineConfig({ handlers: ['./greeter.ts'], executor: { type: 'thread-pool', size: 1 }, control: './c.sock',
  plugins: [['gaidaros/plugins/console', { listen: 'tcp://127.0.0.1:0', tokenFile: '${join(folder, 'token')}' }]],
  listeners: { a: { endpoint: '${local}', limits: { frameBytes: 5000 }, middleware: ['log', { name: 'rate-limit', messages: 100 }] } } })
`,
  )
  write(
    'project/greeter.ts',
    `import { Handler, OnMessage } from 'gaidaros'
export class Book { word = 'hello ' }
@Handler({ codec: 'line' }) export class Greeter {
  constructor(private readonly book: Book) {}
  @OnMessage() greet(name: string) { return this.book.word + name }
}
`,
  )
  const shell = `exec "$0" ${flags} "$@"`
  const command = gaidaros(['serve', '--config', 'ts.config.ts', '--set', 'limits.inFlight=8'], { cwd: project, shell })
  const { a: port = 0 } = await command.ready()
  const peer = await Peer.open(port)
  await peer.send('Ada\n').hears('hello Ada\n')
  peer.leave()
  assert.is((await result(['status', '--control', 'c.sock'])).status, 0)
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0, command.stderr)
})

test('no key of any source reaches Object.prototype', async () => {
  for (const text of [
    '{"__proto__":{"polluted":1}}',
    '{"limits":{"__proto__":{"polluted":1}}}',
    '{"constructor":{"prototype":{"polluted":1}}}',
  ]) {
    write('project/c.json', text)
    const { status, err } = await result(['check', '--config', 'c.json'])
    assert.is(status, 2, text)
    assert.match(err, /this key is refused/)
  }
  for (const path of ['__proto__.polluted=1', 'limits.__proto__.polluted=1', 'constructor.prototype.polluted=1']) {
    assert.is((await result(['check', '--listen', local, '--set', path])).status, 2, path)
  }
  assert.is((await result(['check', '--listen', local], { env: { GAIDAROS___PROTO____POLLUTED: '1' } })).status, 2)
  assert.is(({} as { polluted?: unknown }).polluted, undefined)
})

// ── what is off, and what is bounded ───────────────────────────────────────────────────────────────────────────────────

test('every limit that guards memory, descriptors or time is finite unless it is lifted by its word', async () => {
  const { out } = await result(['config'])
  const off = [...out.matchAll(/^((?:limits|timeouts)\.\w+) = "unlimited"/gm)].map(([, key]) => key).sort()
  const settable = ['limits.connectionsPerSource', 'limits.handshakes', 'limits.replyRatio', 'timeouts.firstByteMs']
  const known = new Set([...settable, ...accountedFor])
  assert.equal(
    off.filter((key) => !known.has(key as string)),
    [],
  )
  for (const key of [
    'connections',
    'frameBytes',
    'lineBytes',
    'writeHardBytes',
    'inFlight',
    'executorQueue',
    'peers',
  ]) {
    assert.not.ok(off.includes(`limits.${key}`), key)
  }
  for (const key of ['handshakeMs', 'frameMs', 'idleMs', 'halfClosedMs', 'handlerMs', 'peerIdleMs', 'detectMs']) {
    assert.not.ok(off.includes(`timeouts.${key}`), key)
  }
})
/** Settable and off by default, as the catalogue of defaults says: rates and floors that depend on what is served. */
const accountedFor: readonly string[] = ['limits.acceptRate', 'limits.memoryBytes', 'limits.serverConnections']

test('nothing listens but what was asked for: no control socket, no page, no metrics, no debugger', async () => {
  const command = gaidaros(['serve', '--listen', local], { cwd: project })
  await command.ready()
  const inodes = new Set(
    execFileSync('ls', ['-l', `/proc/${command.pid}/fd`], { encoding: 'utf8' }).match(/(?<=socket:\[)\d+/g) ?? [],
  )
  const listening = (file: string, state: RegExp, column: number) =>
    readFileSync(`/proc/${command.pid}/net/${file}`, 'utf8')
      .split('\n')
      .filter((line) => state.test(line) && inodes.has(line.trim().split(/\s+/)[column] ?? ''))
  assert.is(listening('tcp', / 0A /, 9).length + listening('tcp6', / 0A /, 9).length, 1)
  assert.is(listening('unix', /^\S+ \S+ \S+ 00010000 /, 6).length, 0)
  command.child.kill('SIGTERM')
  await command.ended
})

test('secrets of operators are in no list of processes, no log, and nothing that is printed', async () => {
  const secrets = [
    'SeCrEt-of-metrics-1234567',
    'SeCrEt-of-health-12345678',
    'SeCrEt-of-the-key-1234567',
    'SeCrEt-of-nats-1234567890',
  ]
  const [metrics, health, passphrase, nats] = secrets
  write(
    'project/secrets.json',
    JSON.stringify({
      listen: local,
      workers: 2,
      control: './secrets.sock',
      tls: { passphrase },
      cluster: { servers: `nats://user:${nats}@127.0.0.1:4222`, token: nats },
      plugins: [
        ['gaidaros/plugins/metrics', { port: 0, token: metrics }],
        ['gaidaros/plugins/health', { port: 0, token: health }],
        ['gaidaros/plugins/logger', { level: 'debug' }],
        ['gaidaros/plugins/console', { listen: local }],
      ],
    }),
  )
  const at = ['--config', 'secrets.json']
  const command = gaidaros(['serve', ...at, '-v', '-v'], { cwd: project, limitMs: 60_000 })
  await command.ready()
  const [, consoleToken = ''] = await command.shows(/console: \S+#token=(\S{32})/)
  const [, page = ''] = await command.shows(/plugin=metrics address=(\S+)/)
  const status = async (...headers: string[]) =>
    (await fetch(page, { headers: headers.length > 0 ? { authorization: headers.join('') } : {} })).status
  assert.equal([await status(), await status('Bearer x'), await status(`Bearer ${metrics}`)], [401, 401, 200])
  const told = await result(['status', '--control', 'secrets.sock', '--json'])
  const { workers } = JSON.parse(told.out) as { workers: { pid: number }[] }
  assert.is(workers.length, 2)
  for (const pid of [command.pid, ...workers.map((worker) => worker.pid)])
    for (const file of ['cmdline', 'environ'])
      assert.not.match(readFileSync(`/proc/${pid}/${file}`, 'utf8'), new RegExp([...secrets, consoleToken].join('|')))
  const printed: string[] = [told.out]
  for (const words of [['config'], ['config', '--json'], ['explain'], ['check'], ['doctor'], ['doctor', '--json']]) {
    const { out, err } = await result([...words, ...at])
    assert.ok(out.length > 0, words.join(' '))
    printed.push(out, err)
  }
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0)
  printed.push(command.stdout, command.stderr)
  for (const text of printed) assert.not.match(text, /SeCrEt/)
  // The console's own is said once, to whoever started it.
  assert.is(printed.join('').split(consoleToken).length, 2)
})

test('children are not started with the debugger of their parent', async () => {
  write(
    'project/who.js',
    `export const who = (line) => process.execArgv.join(' ') + ' ' + (process.debugPort === undefined)\n`,
  )
  const shell = 'exec "$0" --inspect=127.0.0.1:0 "$@"'
  const args = ['serve', '--listen', local, '--handler', './who.js#who', '--executor', 'process-pool']
  const command = gaidaros(args, { cwd: project, shell })
  const { default: port = 0 } = await command.ready()
  assert.is(command.stderr.match(/Debugger listening/g)?.length, 1)
  const peer = await Peer.open(port)
  await peer.send('x\n').hears('\n')
  assert.not.match(peer.heard, /inspect/)
  peer.leave()
  command.child.kill('SIGTERM')
  await command.ended
})

test('PROXY headers are bytes like any others unless the layer is named', async () => {
  const { port, server } = await serve({ handler: (line: string) => line })
  const peer = await Peer.open(port)
  await peer.echoes('PROXY TCP4 192.0.2.1 192.0.2.2 1 2')
  const [connection] = server.connections
  assert.is(connection?.remote?.host, '127.0.0.1')
  peer.leave()
})

test('a Unix socket is for its owner and group, the control socket for its owner', async () => {
  const [data, control] = [join(folder, 'd.sock'), join(folder, 'k.sock')]
  const shell = 'umask 0; exec "$0" "$@"'
  const command = gaidaros(['serve', '--listen', `unix:${data}`, '--control', control], { cwd: project, shell })
  await command.ready()
  assert.equal([statSync(data).mode & 0o777, statSync(control).mode & 0o777], [0o660, 0o600])
  command.child.kill('SIGTERM')
  await command.ended
})

// ── what peers learn ───────────────────────────────────────────────────────────────────────────────────────────────────

const secret = new Error('cannot read /etc/app/secret.key: hunter2')
const telltale = /hunter2|\/etc\/|\/tmp\/|node_modules|\.js:|\.ts:|\bat \S+ \(|gaidaros|[^\d.]0\.1\.0|v20\.|node\.js/i

for (const [protocol, request] of [
  ['http', 'GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'],
  ['http', 'NONSENSE\r\n\r\n'],
  ['json-rpc', '{"jsonrpc":"2.0","method":"m","id":1}\n'],
  ['json-rpc', '{nonsense\n'],
  ['resp', '*1\r\n$1\r\nm\r\n'],
  ['resp', '*99999999999\r\n'],
  ['smtp', 'EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\n'],
] as const) {
  test(`${protocol}: a peer learns nothing of ${JSON.stringify(request.slice(0, 24))} failing`, async () => {
    const fails = () => {
      throw secret
    }
    const handler = {
      kind: 'gaidaros.handler',
      name: 'fails',
      options: {},
      target: undefined,
      hooks: {},
      messages: [undefined, 'GET', 'm', 'message', 'DATA'].map((route) => ({
        route,
        method: fails,
        middleware: [],
        schema: undefined,
      })),
    }
    const { port } = await serve({ protocol, handler: handler as never, timeouts: { idleMs: 700, frameMs: 700 } })
    const peer = await Peer.open(port)
    peer.send(request)
    await peer.over
    assert.not.match(peer.heard, telltale)
  })
}

test('middleware error-reply tells a code, and nothing else', async () => {
  const { port } = await serve({
    middleware: ['error-reply'],
    handler: () => {
      throw secret
    },
  })
  const peer = await Peer.open(port)
  await peer.send('x\n').hears('\n')
  assert.match(peer.heard, /^error HANDLER_FAILED/)
  assert.not.match(peer.heard, telltale)
  peer.leave()
})

// ── what one unknown peer costs ────────────────────────────────────────────────────────────────────────────────────────

test('one unknown peer costs less than 128 KiB, whatever part of a message it sends', async () => {
  const PEERS = 200
  const SENT = 60_000
  write(
    'project/memory.js',
    `export default (line) => {
  gc()
  const { heapUsed, external } = process.memoryUsage()
  return String(heapUsed + external)
}
`,
  )
  const shell = 'exec "$0" --expose-gc "$@"'
  const args = ['serve', '--listen', local, '--handler', './memory.js', '--control', join(folder, 'm.sock')]
  const command = gaidaros(args, { cwd: project, shell, limitMs: 60_000 })
  const { default: port = 0 } = await command.ready()
  const asker = await connect(`tcp://127.0.0.1:${port}`)
  await asker.request('warm')
  const before = Number(await asker.request('?'))
  const peers = await Promise.all(Array.from({ length: PEERS }, () => Peer.open(port)))
  for (const peer of peers) peer.send('x'.repeat(SENT))
  const control = await connect(`unix:${join(folder, 'm.sock')}`, { codec: 'json-lines' })
  const filter = `bytesIn>${SENT - 1}`
  const arrived = () => control.request<{ result: { matched: number } }>({ command: 'connections', limit: 1, filter })
  while ((await arrived()).result.matched < PEERS) await new Promise((resolve) => setTimeout(resolve, 20))
  const each = (Number(await asker.request('?')) - before) / PEERS
  console.log(`# ${Math.round(each / 1024)} KiB for a peer that has sent ${SENT} bytes of a line`)
  assert.ok(each < 128 * 1024, `${Math.round(each / 1024)} KiB a peer`)
  for (const peer of peers) peer.leave()
  await control.close()
  await asker.close()
  command.child.kill('SIGKILL')
  await command.ended
})

test('nothing is allocated from a length that a peer claims', async () => {
  const { port, until } = await serve({ codec: 'length-field', handler: (bytes: Uint8Array) => bytes })
  const before = process.memoryUsage().arrayBuffers
  const peers = await Promise.all(Array.from({ length: 50 }, () => Peer.open(port)))
  for (const peer of peers) peer.socket.write(Buffer.from([0, 0x0f, 0xff, 0xff, 1]))
  const liar = await Peer.open(port)
  liar.socket.write(Buffer.from([0xff, 0xff, 0xff, 0xff]))
  await until('frame.refused')
  await liar.over
  const grown = process.memoryUsage().arrayBuffers - before
  assert.ok(grown < 51 * 128 * 1024, `${grown} bytes for ${51} claims of a megabyte`)
  for (const peer of peers) peer.leave()
})

test('a flood of peers that misbehave is a bounded number of lines in the log', async () => {
  const args = ['serve', '--listen', local, '-v', '--set', 'limits.lineBytes=10']
  const command = gaidaros(args, { cwd: project })
  const { default: port = 0 } = await command.ready()
  const began = performance.now()
  for (let i = 0; i < 20; i++) {
    await Promise.all(
      Array.from({ length: 20 }, async () => {
        const peer = await Peer.open(port)
        peer.send(`${'\u001b[31m'.repeat(50)}\n`)
        await peer.over
      }),
    )
  }
  await command.shows('more lines of this kind were left out')
  command.child.kill('SIGTERM')
  await command.ended
  const seconds = Math.ceil((performance.now() - began) / 1_000) + 1
  const refused = command.stderr.split('\n').filter((line) => line.includes(' frame.refused ')).length
  assert.ok(refused > 0 && refused <= 20 * seconds, `${refused} lines in ${seconds} s for 400 peers`)
  assert.not.match(command.stderr, /\u001b/)
})

test('what the endpoints and listeners of a client say stays on this side', async () => {
  const { port } = await serve({ handler: (line: string) => line })
  const client = await connect(`tcp://127.0.0.1:${port}`)
  assert.is(await client.request('__proto__'), '__proto__')
  await client.close()
})

test.after(async () => {
  killAll()
  await stopAll()
  rmSync(folder, { recursive: true, force: true })
})
test.run()
