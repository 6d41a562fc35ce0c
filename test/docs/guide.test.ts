// time limit: 240 s
/** The guide's code compiles, its JSON loads, its links lead somewhere, its names exist; the README's first page runs. */
import { spawn, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { commands, flagsOf } from '#src/cli/flags.js'
import { loadConfiguration } from '#src/core/config/index.js'
import { eventNames } from '#src/core/events.js'
import { gaidaros, killAll, root } from '../support/command.js'

const pages = [
  'README.md',
  ...readdirSync(join(root, 'docs'), { recursive: true }).map((name) => join('docs', String(name))),
].filter((name) => name.endsWith('.md'))
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const blocks = (language: string) =>
  pages.flatMap((page) =>
    [...read(page).matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'gm'))].map((match) => ({
      page,
      text: match[1] as string,
    })),
  )

test('every block of TypeScript compiles against the package', () => {
  const folder = join(root, 'build', 'blocks')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const all = blocks('ts')
  assert.ok(all.length >= 12)
  all.forEach(({ page, text }, i) => {
    writeFileSync(join(folder, `${String(i).padStart(2, '0')}-${page.replace(/\W+/g, '-')}.ts`), `${text}\nexport {}\n`)
  })
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({
      extends: '../../tsconfig.json',
      compilerOptions: { rootDir: '.', noEmit: true, noUnusedLocals: false, declaration: false },
      include: ['.'],
    }),
  )
  // What the README's transport example imports.
  writeFileSync(
    join(folder, 'my-transport.ts'),
    `import type { Transport } from 'gaidaros'\nexport declare const myTransport: Transport\n`,
  )
  const { stdout, status } = spawnSync('npx', ['tsc', '-p', folder], { encoding: 'utf8', cwd: root })
  assert.is(status, 0, stdout)
})

test('every block of JSON parses, and every configuration among them is one', async () => {
  for (const { page, text } of blocks('json')) {
    const code = JSON.parse(text)
    await loadConfiguration({ cwd: root, config: false, code }).catch((error) =>
      assert.unreachable(`${page}: ${error.message}`),
    )
  }
})

test('every command shown exists, with its flags', () => {
  const lines = [...blocks('sh'), ...blocks('console')].flatMap(({ page, text }) =>
    text.split('\n').map((line) => ({ page, line })),
  )
  const shown = lines.filter(({ line }) => /(^|\$ |npx )gaidaros /.test(line))
  assert.ok(shown.length >= 5)
  for (const { page, line } of shown) {
    const [, command = '', rest = ''] = /gaidaros ([\w-]+)(.*)/.exec(line) ?? []
    assert.ok(commands[command], `${page}: ${line}`)
    for (const [, flag] of rest.replace(/'[^']*'/g, '').matchAll(/ --([\w-]+)/g)) {
      assert.ok(
        flagsOf(command).some(({ name }) => name === flag),
        `${page}: ${line}: --${flag}`,
      )
    }
  }
})

test('every link leads somewhere, and the guide’s start leads everywhere', () => {
  for (const page of pages) {
    for (const [, target] of read(page).matchAll(/\]\((?!https?:|#)([^)#]+)[^)]*\)/g)) {
      assert.ok(existsSync(join(root, dirname(page), target as string)), `${page} → ${target}`)
    }
  }
  const start = read('docs/guide/getting-started.md')
  for (const page of readdirSync(join(root, 'docs/guide'))) {
    if (page !== 'getting-started.md') assert.match(start, new RegExp(`\\(${page}\\)`))
  }
})

test('limits, deadlines and events named in the guide exist', () => {
  const options = read('docs/reference/options.md')
  for (const page of pages.filter((name) => name.startsWith('docs/guide') || name === 'README.md')) {
    for (const [, key] of read(page).matchAll(/`(?:limits|timeouts)\.(\w+)[`:=]/g))
      assert.match(options, new RegExp(`\\| \`${key}\` \\|`), `${page}: ${key}`)
    for (const [, name] of read(page).matchAll(
      /`((?:server|listener|connection|frame|handler|message|limit|drain|disposal)\.[a-z]+)`/g,
    )) {
      const isMember =
        /^(server\.(alarms|counters|limits|listeners|stop|usage)|connection\.(attributes|signal|send|close|write))$/.test(
          name as string,
        )
      assert.ok(isMember || eventNames.includes(name as never), `${page}: ${name}`)
    }
  }
})

test('every dependency stands in the decisions, with its reason', () => {
  const { dependencies, devDependencies } = JSON.parse(read('package.json'))
  const page = read('docs/decisions/010-dependencies.md')
  for (const name of Object.keys({ ...dependencies, ...devDependencies }))
    assert.match(page, new RegExp(`\`${name.replace('/', '\\/')}\``))
})

test('the README’s first 40 lines run as they stand', async () => {
  const first = read('README.md').split('\n').slice(0, 48).join('\n')
  const handler = /```ts\n([\s\S]*?)```/.exec(first)?.[1] as string
  const configuration = /```json\n([\s\S]*?)```/.exec(first)?.[1] as string
  const folder = mkdtempSync(join(tmpdir(), 'gd-'))
  mkdirSync(join(folder, 'node_modules'))
  symlinkSync(root, join(folder, 'node_modules', 'gaidaros'))
  writeFileSync(join(folder, 'greeter.ts'), handler)
  writeFileSync(join(folder, 'gaidaros.config.json'), configuration)
  const command = gaidaros(['serve', '--listen', 'tcp://localhost:0'], { cwd: folder })
  const { default: port } = await command.ready()
  const client = spawn('bash', ['-c', `exec 3<>/dev/tcp/127.0.0.1/${port}; echo Ada >&3; head -n2 <&3`])
  let heard = ''
  client.stdout.on('data', (chunk) => (heard += chunk))
  await new Promise((resolve) => client.once('close', resolve))
  const shown = /\$ echo Ada \| ncat localhost 8080\n([\s\S]*?)```/.exec(first)?.[1]
  assert.is(heard, shown)
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0)
  rmSync(folder, { recursive: true, force: true })
})

test.after(killAll)
test.run()
