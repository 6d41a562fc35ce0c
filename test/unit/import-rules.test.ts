/** Who may import whom: the rooms of docs/guide and their walls. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'

const root = fileURLToPath(new URL('../../', import.meta.url))

interface File {
  readonly path: string
  readonly imports: readonly string[]
}

/** Type-only imports count: they bind rooms together as well. */
function importsOf(source: string): string[] {
  const code = source.replace(/\/\*[\s\S]*?\*\//g, '').replace(/`(?:[^`\\]|\\.)*`/g, '``')
  const found = code.matchAll(
    /(?:^|\n)\s*(?:import|export)\s[^'"\n;]*?(?:\n[^'"]*?)?from\s+'([^']+)'|(?:^|\n)import\s+'([^']+)'|import\('([^']+)'\)/g,
  )
  return [...found].map((match) => (match[1] ?? match[2] ?? match[3]) as string)
}

function read(folder: string): File[] {
  const names = readdirSync(join(root, folder), { recursive: true }) as string[]
  return names
    .filter((name) => /\.(ts|js|mjs)$/.test(name) && !name.includes('node_modules'))
    .map((name) => ({ path: join(folder, name), imports: importsOf(readFileSync(join(root, folder, name), 'utf8')) }))
}

/** Relative imports as paths within the repository. */
function targetOf(file: File, specifier: string): string | undefined {
  if (!specifier.startsWith('.')) return undefined
  return relative('.', join(dirname(file.path), specifier)).replace(/\.js$/, '.ts')
}

const sockets = new Set(['node:net', 'node:tls', 'node:dgram', 'net', 'tls', 'dgram'])
const only: Readonly<Record<string, (path: string) => boolean>> = {
  tsyringe: (path) =>
    /^src\/core\/(container|construction|decorators|tokens)\.ts$/.test(path) ||
    /^src\/(gaidaros|given-parts)\.ts$/.test(path),
  cosmiconfig: (path) => path.startsWith('src/core/config/'),
  zod: (path) => path.startsWith('src/core/config/'),
  jiti: (path) => path.startsWith('src/core/config/'),
}

/** What a file breaks. */
function violations(file: File): string[] {
  const broken: string[] = []
  const { path } = file
  const room = path.split('/')[1]
  for (const specifier of file.imports) {
    const target = targetOf(file, specifier)
    const to = target?.split('/')[1]
    const say = (why: string) => broken.push(`${path} imports ${specifier}: ${why}`)
    if (room === 'core') {
      if (target !== undefined && to !== 'core') say('core imports core only')
      if (sockets.has(specifier) && path !== 'src/core/networks.ts') say('core knows no sockets')
    }
    if (room === 'transports' && target !== undefined && to !== 'core' && to !== 'transports')
      say('transports know core only')
    if (room === 'plugins') {
      if (target !== undefined && to !== 'core' && dirname(target).split('/')[2] !== path.split('/')[2])
        say('plugins know core only')
      if (sockets.has(specifier)) say('sockets belong to transports')
    }
    if (
      room === 'testing' &&
      target !== undefined &&
      to !== 'core' &&
      to !== 'testing' &&
      !/^src\/transports\/memory/.test(target)
    ) {
      say('testing knows core and the memory transport')
    }
    if (room === 'cli' && target !== undefined && (to === 'transports' || to === 'plugins'))
      say('the command line goes through the door')
    const isAllowed = only[specifier]
    if (path.startsWith('src/') && isAllowed !== undefined && !isAllowed(path)) say('only its own room imports it')
  }
  return broken
}

function circles(files: readonly File[]): string[] {
  const graph = new Map(files.map((file) => [file.path, file.imports.flatMap((one) => targetOf(file, one) ?? [])]))
  const done = new Set<string>()
  const found: string[] = []
  const visit = (path: string, trail: readonly string[]): void => {
    if (trail.includes(path)) {
      found.push([...trail.slice(trail.indexOf(path)), path].join(' → '))
      return
    }
    if (done.has(path)) return
    for (const next of graph.get(path) ?? []) if (graph.has(next)) visit(next, [...trail, path])
    done.add(path)
  }
  for (const path of graph.keys()) visit(path, [])
  return found
}

test('each room imports only what it may', () => {
  assert.equal(read('src').flatMap(violations), [])
})

test('there are no circles of imports, type-only ones counted', () => {
  assert.equal(circles(read('src')), [])
})

test('core takes from node:net what is arithmetic, and nothing else', () => {
  const source = readFileSync(join(root, 'src/core/networks.ts'), 'utf8')
  assert.match(source, /import \{ BlockList, isIP \} from 'node:net'/)
})

test('examples and end-to-end tests import the package by its name', () => {
  for (const file of [...read('examples'), ...read('test/e2e')]) {
    const inside = file.imports.filter((one) => one.startsWith('#src') || /(^|\/)(src|dist)\//.test(one))
    assert.equal(inside, [], file.path)
  }
})

test('the rules find what breaks them', () => {
  const file = (path: string, ...imports: string[]): File => ({ path, imports })
  assert.is(violations(file('src/core/x.ts', '../transports/tcp.js', 'node:net', 'tsyringe', 'zod')).length, 4)
  assert.is(violations(file('src/transports/x.ts', '../plugins/codecs/line.js')).length, 1)
  assert.is(violations(file('src/plugins/codecs/x.ts', '../middleware/log.js', 'node:net')).length, 2)
  assert.equal(circles([file('src/a.ts', './b.js'), file('src/b.ts', './a.js')]).length, 1)
  assert.equal(importsOf(`import type { A } from './a.js'\nimport './b.js'\nawait import('./c.js')`), [
    './a.js',
    './b.js',
    './c.js',
  ])
})

test.run()
