import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
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
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { BindError } from '#src/core/errors.js'
import { writePidFile } from '#src/core/pid-file.js'

const folder = mkdtempSync(join(tmpdir(), 'gp-'))
const path = join(folder, 'a.pid')
const module = new URL('../../../dist/core/pid-file.js', import.meta.url).href
const refuses = (code: string) => (error: Error) => error instanceof BindError && error.code === code

test.after.each(() => rmSync(path, { force: true, recursive: true }))
test.after(() => rmSync(folder, { recursive: true }))

test('it holds our process id until it is removed, and leaves nothing beside it', () => {
  const listeners = process.listenerCount('exit')
  const remove = writePidFile(path)
  assert.is(readFileSync(path, 'utf8'), `${process.pid}\n`)
  assert.equal(readdirSync(folder), ['a.pid'])
  remove()
  assert.equal(readdirSync(folder), [])
  assert.is(process.listenerCount('exit'), listeners)
})

test('a living process keeps its file', async () => {
  const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)'])
  await once(other, 'spawn')
  writeFileSync(path, `${other.pid}\n`)
  assert.throws(() => writePidFile(path), refuses('PATH_OCCUPIED'))
  assert.is(readFileSync(path, 'utf8'), `${other.pid}\n`)
  other.kill()
  await once(other, 'exit')
  // The same file is stale now.
  writePidFile(path)()
  assert.is(existsSync(path), false)
})

for (const content of ['', 'nonsense', '-1', '12 and notes', '7\n8\n', '1'.repeat(64)]) {
  test(`F123 a file that holds ${JSON.stringify(content)} is no pid file: refused by name, and kept`, () => {
    writeFileSync(path, content)
    assert.throws(() => writePidFile(path), refuses('PATH_OCCUPIED'))
    assert.is(readFileSync(path, 'utf8'), content)
    assert.equal(readdirSync(folder), ['a.pid'])
  })
}

test('F123 a link at the path is neither followed nor replaced', () => {
  const target = join(folder, 'target')
  writeFileSync(target, '4194304999\n')
  symlinkSync(target, path)
  assert.throws(() => writePidFile(path), refuses('PATH_OCCUPIED'))
  assert.is(readFileSync(target, 'utf8'), '4194304999\n')
  rmSync(target)
})

test('F123 the draft goes through no link that waits for it', () => {
  const target = join(folder, 'target')
  writeFileSync(target, 'precious')
  symlinkSync(target, `${path}.${process.pid}`)
  writePidFile(path)()
  assert.is(readFileSync(target, 'utf8'), 'precious')
  rmSync(`${path}.${process.pid}`)
  rmSync(target)
})

for (const content of ['0', '4194304999']) {
  test(`a file that holds ${JSON.stringify(content)} names no process and is replaced`, () => {
    writeFileSync(path, content)
    const remove = writePidFile(path)
    assert.is(readFileSync(path, 'utf8'), `${process.pid}\n`)
    remove()
  })
}

test('a file that another process took over meanwhile is left to it', () => {
  const remove = writePidFile(path)
  writeFileSync(path, '1\n')
  remove()
  assert.is(readFileSync(path, 'utf8'), '1\n')
})

test('a folder at the path, or none around it, is an error that names the path', () => {
  mkdirSync(path)
  assert.throws(() => writePidFile(path), refuses('PATH_INVALID'))
  assert.throws(() => writePidFile(join(folder, 'none/b.pid')), refuses('PATH_INVALID'))
  assert.equal(readdirSync(folder), ['a.pid'])
})

test('process.exit() removes it', () => {
  const source = `import('${module}').then(({ writePidFile }) => { writePidFile(${JSON.stringify(path)}); process.exit(7) })`
  assert.is(spawnSync(process.execPath, ['-e', source]).status, 7)
  assert.is(existsSync(path), false)
})

test.run()
