// time limit: 240 s
/** Odd files, links and variables: they end in words and with the status that says whose fault it is, or they change nothing. */

import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros } from '../support/command.js'
import { Folder } from '../support/workers.js'

const folder = new Folder()
test.after(() => folder.remove())
const listen = 'tcp://127.0.0.1:0'

async function result(args: readonly string[], env: Record<string, string> = {}) {
  const command = gaidaros(args, { cwd: folder.path, env })
  const status = await command.ended
  return { status, out: command.stdout, err: command.stderr }
}

const deep = (depth: number) => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`
const BOM = '\ufeff'

for (const [what, name, content, expected] of [
  [
    'a circle of YAML',
    'a.yaml',
    'listeners: &l\n  x: *l\n',
    /a\.yaml: its settings go deeper than 64 levels, or round in a circle/,
  ],
  ['a circle in a list', 'a.yaml', 'middleware: &l\n  - *l\n', /round in a circle/],
  ['20,000 levels', 'a.json', `{"listen":"${listen}","tls":${deep(20_000)}}`, /deeper than 64 levels/],
  ['20,000 lists', 'a.json', `{"listen":${'['.repeat(5_000)}${']'.repeat(5_000)}}`, /deeper than 64 levels/],
  ['UTF-16', 'a.json', Buffer.from(`${BOM}{"listen":"${listen}"}`, 'utf16le'), /expected text in UTF-8, got UTF-16/],
  [
    'a key twice',
    'a.json',
    `{"listen":"${listen}","limits":{"inFlight":1,"inFl\\u0069ght":2}}`,
    /the key "inFlight" stands twice/,
  ],
  ['a key twice in YAML', 'a.yaml', `listen: ${listen}\nlisten: ${listen}\n`, /duplicated mapping key/],
  ['a list', 'a.json', `["${listen}"]`, /a\.json: expected an object of settings, got a list/],
  ['a list of YAML', 'a.yaml', `- ${listen}`, /expected an object of settings, got a list/],
  ['null', 'a.json', 'null', /a\.json: expected an object of settings, got null/],
  ['null of YAML', 'a.yaml', '~', /got null/],
  ['a word', 'a.json', '"listen"', /got string/],
] as const) {
  test(`a configuration that is ${what} is refused in words`, async () => {
    writeFileSync(folder.at(name), content)
    const { status, err } = await result(['check', '--config', name])
    assert.is(status, 2, err)
    assert.match(err, expected)
    assert.not.match(err, /\n\s+at /)
  })
}

test('a variable and a flag may go no deeper either', async () => {
  const flag = await result(['check', '--set', `tls=${deep(5_000)}`])
  assert.is(flag.status, 2, flag.err)
  assert.match(flag.err, /--set: its settings go deeper/)
  const variable = await result(['check'], { GAIDAROS_TLS: deep(5_000) })
  assert.is(variable.status, 2, variable.err)
  assert.match(variable.err, /GAIDAROS_TLS: its settings go deeper/)
})

test('a byte-order mark, keys alike in several objects and an empty document are no fault', async () => {
  const text = `{"limits":{"inFlight":3},"listeners":{"a":{"endpoint":"${listen}","limits":{"inFlight":4}},"b":{"endpoint":"${listen}"}}}`
  folder.write('b.json', `${BOM}${text}`)
  folder.write('b.yaml', `${BOM}listen: ${listen}\n`)
  folder.write('empty.yaml', '---\n# nothing yet\n')
  for (const name of ['b.json', 'b.yaml']) {
    const { status, err } = await result(['check', '--config', name])
    assert.is(status, 0, err)
  }
  assert.is((await result(['check', '--listen', listen, '--config', 'empty.yaml'])).status, 0)
})

test('files that import the next one twice are read once each, and the last word counts', async () => {
  const count = 30
  for (let i = 0; i < count; i++) {
    const next = `./d${i + 1}.json`
    folder.write(`d${i}.json`, { $import: [next, next], ...(i === 0 ? { listen } : {}) })
  }
  folder.write(`d${count}.json`, { limits: { inFlight: 7 } })
  const chain = await result(['config', '--config', 'd0.json'])
  assert.is(chain.status, 0, chain.err)
  assert.match(chain.out, /limits\.inFlight = 7 .*d30\.json/)
  // As when each import is merged where it stands: base again, over `x`.
  folder.write('base.json', { limits: { inFlight: 1 } })
  folder.write('x.json', { limits: { inFlight: 2 }, verbose: 2 })
  folder.write('y.json', { $import: './base.json', verbose: 3 })
  folder.write('top.json', { $import: ['./base.json', './x.json', './y.json'], listen })
  const diamond = (await result(['config', '--config', 'top.json'])).out
  assert.match(diamond, /limits\.inFlight = 1 .*base\.json/)
  assert.match(diamond, /verbose = 3 .*y\.json/)
  folder.write('base.json', { $import: './y.json' })
  const circle = await result(['config', '--config', 'top.json'])
  assert.is(circle.status, 2)
  assert.match(circle.err, /goes round in a circle: .*y\.json → .*base\.json → .*y\.json/)
})

test('a glob of handlers passes over links to folders and to nothing, and takes links to files', async () => {
  mkdirSync(folder.at('handlers/sub'), { recursive: true })
  mkdirSync(folder.at('aside'))
  const source = (name: string) =>
    `import { defineHandler } from 'gaidaros'\nexport const h = defineHandler({ name: '${name}', message: (line) => line })\n`
  folder.write('handlers/one.mjs', source('one'))
  folder.write('aside/two.mjs', source('two'))
  folder.write('aside/three.mjs', source('three'))
  symlinkSync('.', folder.at('handlers/loop'))
  symlinkSync('..', folder.at('handlers/sub/up'))
  symlinkSync(folder.at('aside'), folder.at('handlers/aside'))
  symlinkSync('gone.mjs', folder.at('handlers/dangling.mjs'))
  symlinkSync('itself.mjs', folder.at('handlers/itself.mjs'))
  symlinkSync('/nowhere', folder.at('handlers/note.txt'))
  symlinkSync(folder.at('aside/two.mjs'), folder.at('handlers/sub/linked.mjs'))
  folder.write('g.json', {
    handlers: ['./handlers/**/*.mjs'],
    listeners: { a: { endpoint: listen, handler: 'one' }, b: { endpoint: listen, handler: 'two' } },
  })
  const { status, err, out } = await result(['check', '--config', 'g.json'])
  assert.is(status, 0, err)
  assert.match(out, /2 listeners, 2 handlers/)
  folder.write('g.json', { handlers: ['./handlers/**/*.mjs'], listen, handler: 'three' })
  const far = await result(['check', '--config', 'g.json'])
  assert.is(far.status, 2)
  assert.match(far.err, /unknown handler `three`.*found: one, two/)
})

test('GAIDAROS_DETACHED set by hand is not believed, whatever descriptor 3 is', async () => {
  for (const [value, shell] of [
    ['3', undefined],
    [String(process.pid), undefined],
    // A descriptor of somebody else, and the parent's number: a shell stands between in vain.
    ['3', 'exec "$0" "$@" 3>&1'],
  ] as const) {
    const command = gaidaros(['serve', '--listen', listen, '--eval', 'line => line'], {
      env: { GAIDAROS_DETACHED: value },
      ...(shell !== undefined && { shell }),
    })
    await command.shows(/^ready$/m)
    command.child.kill('SIGTERM')
    assert.is(await command.ended, 0, command.stderr)
  }
})

test('sockets that a service manager passed are told to no child', async () => {
  folder.write(
    'env.mjs',
    'export default () => JSON.stringify(Object.keys(process.env).filter((name) => name.startsWith("LISTEN_")))',
  )
  for (const options of [
    ['--workers', '1'],
    ['--executor', 'process'],
  ]) {
    const command = gaidaros(['serve', '--listen', listen, '--handler', './env.mjs', ...options], {
      cwd: folder.path,
      env: { LISTEN_FDS: '1', LISTEN_FDNAMES: 'web' },
    })
    const [, port = ''] = await command.shows(/listening default tcp:\/\/127\.0\.0\.1:(\d+)[\s\S]*ready/)
    const { connect } = await import('gaidaros')
    const client = await connect(`tcp://127.0.0.1:${port}`)
    assert.is(await client.request('x'), '[]')
    client.abort()
    command.child.kill('SIGTERM')
    assert.is(await command.ended, 0, command.stderr)
  }
})

test('status of a socket at which something else answers says so', async () => {
  for (const answer of [
    '{"id":1,"ok":true,"result":{}}',
    '{"id":1,"ok":true}',
    '{"id":1,"ok":true,"result":[1]}',
    '{"id":1}',
  ]) {
    const path = join(folder.path, 'other.sock')
    const server = createServer((socket) => socket.on('data', () => socket.write(`${answer}\n`)).on('error', () => {}))
    await new Promise<void>((resolve) => server.listen(path, resolve))
    for (const asked of [['status'], ['connections'], ['suspend']]) {
      const { status, err } = await result([...asked, '--control', path])
      assert.is(status, 1, err)
      assert.match(err, /is no control socket/, `${asked} ${answer}`)
      assert.not.match(err, /\n\s+at /)
    }
    await new Promise((resolve) => server.close(resolve))
  }
})

test.run()
