// time limit: 120 s
/** `gaidaros doctor` and `serve --strict` as an operator runs them. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
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

test.after(() => {
  killAll()
  rmSync(folder, { recursive: true, force: true })
})
test.run()
