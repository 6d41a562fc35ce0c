// time limit: 240 s
/** Deliberate mistakes: the command says what was expected, what came, and what to write instead. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros, killAll } from '../support/command.js'
import { skip } from '../support/skip.js'

const folder = mkdtempSync(join(tmpdir(), 'gmsg-'))
writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
writeFileSync(join(folder, 'greeter.js'), 'export default (line) => line\n')

async function result(args: readonly string[], settings?: object, env: Record<string, string> = {}) {
  const given = settings === undefined ? args : [...args, '--config', 'c.json']
  if (settings !== undefined) writeFileSync(join(folder, 'c.json'), JSON.stringify(settings))
  const command = gaidaros(given, { cwd: folder, limitMs: 60_000, env })
  const status = await command.ended
  return { status, out: command.stdout, err: command.stderr }
}

for (const [name, settings, ...expected] of [
  ['no scheme', { listen: 'localhost:8080' }, /did you mean `tcp:\/\/localhost:8080`\?/],
  [
    'a plugin that is nearly named',
    { listen: 'tcp://localhost:0', plugins: ['gaidaros/plugins/metric'] },
    /no part `gaidaros\/plugins\/metric`; nearest: `gaidaros\/plugins\/metrics`/,
  ],
  ['a number with a unit', { timeouts: { idleMs: '5m' } }, /got "5m"; write 300000/],
  ['a limit that cannot be lifted', { limits: { connections: 'unlimited' } }, /this one cannot be lifted/],
  [
    'a file that is nearly named',
    { listen: 'tcp://localhost:0', handler: './greter.js' },
    /there is no file .*greter\.js; nearest: `greeter\.js`/,
  ],
  [
    'a key of another group',
    { listeners: { a: { endpoint: 'tcp://localhost:0', idleTimeout: 5 } } },
    /unknown key `idleTimeout`; nearest: `timeouts\.idleMs`/,
  ],
  ['two faults of workers', { workers: { count: '4', balance: 'random' } }, /\(got "4"\)/, /\(got "random"\)/],
  [
    'slips in the shared `socket`',
    { listen: 'unix:./s.sock', handler: './greeter.js', socket: { mdoe: '0600', nodelay: true } },
    /socket\.mdoe: unknown key `mdoe`; nearest: `mode` \(.*c\.json\)/,
    /socket\.nodelay: unknown key `nodelay`; nearest: `noDelay`/,
  ],
] as const) {
  test(`check: ${name}`, async () => {
    const { status, err } = await result(['check'], settings)
    assert.is(status, 2, err)
    for (const pattern of expected) assert.match(err, pattern)
    assert.not.match(err, /^ +at /m)
  })
}

test('what one transport has and another has not is no slip in the shared `socket`', async () => {
  const { status, err } = await result(['check'], {
    listen: 'tcp://localhost:0',
    handler: './greeter.js',
    socket: { mode: '0600', noDelay: true },
  })
  assert.is(status, 0, err)
})

test('a variable with one underscore is told the one with two', async () => {
  const { status, err } = await result(['check'], undefined, { GAIDAROS_LIMITS_CONNECTIONS: '5' })
  assert.is(status, 2)
  assert.match(err, /GAIDAROS_LIMITS__CONNECTIONS/)
})

test('where nothing is named to listen on, the endpoint is the default’s', async () => {
  const { out } = await result(['explain'])
  assert.match(out, /endpoint +tcp:\/\/localhost:8080 by tcp.*\[default\]/)
})

test('doctor says nothing good of listeners that could not be made', async () => {
  const { status, out } = await result(['doctor'], { listen: 'tcp://localhost:0', handler: './greter.js' })
  assert.is(status, 1)
  assert.match(out, /^note +configuration +listeners were not looked at/m)
  assert.not.match(out, /for 0 connections|^ok +unlimited|^ok +backlog/m)
})

test('init takes the names that npm takes; a transport’s is a scheme too', async () => {
  mkdirSync(join(folder, 'made'))
  const { status, err } = await result(['init', 'made/my_app.v2'])
  assert.is(status, 0, err)
  assert.ok(existsSync(join(folder, 'made/my_app.v2/package.json')))
  assert.match((await result(['init', 'made/Upper'])).err, /no name for a package/)
  assert.match((await result(['init', 'transport', 'made/my_app'])).err, /with dashes between/)
})

test('a limit that cannot change at run time is refused in the operator’s words', async () => {
  const socket = join(folder, 'control.sock')
  const server = gaidaros(['serve', '--listen', 'tcp://127.0.0.1:0', '--control', socket], { cwd: folder })
  await server.ready()
  const { status, err } = await result(['limit', 'limits.frameBytes=5', '--control', socket])
  assert.is(status, 1)
  assert.match(
    err,
    /frameBytes cannot be changed while the server runs \(it can: .*connections.*\); change the configuration and reload/,
  )
  server.child.kill('SIGTERM')
  await server.ended
})

for (const workers of [1, 2]) {
  test(`socket.group and an abstract name serve, with ${workers} server process${workers > 1 ? 'es' : ''}`, async () => {
    if (process.platform !== 'linux' || process.getuid?.() !== 0)
      return skip('socket.group and an abstract name', 'needs Linux and root')
    const path = join(folder, 'grouped.sock')
    const name = `@gaidaros-${process.pid}-${workers}`
    writeFileSync(
      join(folder, 'g.json'),
      JSON.stringify({
        workers: { count: workers },
        handler: './greeter.js',
        listeners: {
          grouped: { endpoint: `unix:${path}`, socket: { group: 'nogroup' } },
          abstract: { endpoint: `unix:${name}` },
        },
      }),
    )
    const server = gaidaros(['serve', '--config', 'g.json'], { cwd: folder, limitMs: 60_000 })
    await server.shows(/^ready/m)
    const { gid, mode } = statSync(path)
    assert.equal([gid, mode & 0o777], [65_534, 0o660])
    for (const at of [path, `\0${name.slice(1)}`]) {
      const peer = connect(at).setEncoding('utf8')
      peer.end('hello\n')
      let heard = ''
      for await (const text of peer) heard += text
      assert.is(heard, 'hello\n')
    }
    server.child.kill('SIGTERM')
    assert.is(await server.ended, 0)
    assert.not(existsSync(path))
  })
}

test.after(() => {
  killAll()
  rmSync(folder, { recursive: true, force: true })
})

test.run()
