// time limit: 400 s
/** The packed package, installed as a user installs it: every entry point loads, the command runs, `require` works. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { root } from '../support/command.js'

const folder = mkdtempSync(join(tmpdir(), 'gp-'))
const project = join(folder, 'project')
mkdirSync(project)
const run = (command: string, args: readonly string[], cwd = project) =>
  execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], timeout: 120_000 })

test('it packs, installs, and has what its users need and nothing else', () => {
  run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], root)
  const { version, dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'project', private: true, type: 'module' }))
  run('npm', [
    'install',
    '--no-audit',
    '--no-fund',
    '--prefer-offline',
    '--loglevel=error',
    join(folder, `gaidaros-${version}.tgz`),
  ])
  const installed = JSON.parse(readFileSync(join(project, 'node_modules/gaidaros/package.json'), 'utf8'))
  assert.equal(Object.keys(installed.dependencies), Object.keys(dependencies))
  assert.throws(() => readFileSync(join(project, 'node_modules/gaidaros/src/index.ts')))
  assert.is(run('npx', ['gaidaros', '--version']).trim(), version)
})

test('every entry point loads', () => {
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const names = Object.keys(exports).filter((name) => !name.endsWith('.json'))
  writeFileSync(join(project, 'all.mjs'), names.map((name) => `await import('gaidaros${name.slice(1)}')`).join('\n'))
  run('node', ['all.mjs'])
  const schema = JSON.parse(
    run('node', [
      '--input-type=module',
      '-e',
      `console.log(JSON.stringify((await import('gaidaros/schema.json', { with: { type: 'json' } })).default))`,
    ]),
  )
  assert.ok(schema.properties.listeners)
})

test('require() gives the same classes as import', () => {
  const script = `
    const { Endpoint } = require('gaidaros')
    import('gaidaros').then((imported) => console.log(imported.Endpoint === Endpoint))`
  writeFileSync(join(project, 'require.cjs'), script)
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const flags = major === 20 && minor < 19 ? ['--experimental-require-module'] : []
  assert.match(run('node', [...flags, 'require.cjs']), /^true/)
})

test('a server of the installed package answers', () => {
  const script = `
    import { connect, createServer } from 'gaidaros'
    const server = await createServer({ listen: 'tcp://localhost:0', handler: (line) => line.toUpperCase() })
    await server.start()
    const client = await connect(server.listeners.get('default').endpoint)
    console.log(await client.request('hello'))
    await client.close()
    await server.stop()`
  writeFileSync(join(project, 'serve.mjs'), script)
  assert.is(run('node', ['serve.mjs']), 'HELLO\n')
})

test.after(() => rmSync(folder, { recursive: true, force: true }))
test.run()
