import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { BindError } from '#src/core/errors.js'
import { writePidFile } from '#src/core/pid-file.js'
import { skip } from '../../support/skip.js'

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

for (const content of ['', '0\n', '4194304999\n']) {
  test(`a file that holds ${JSON.stringify(content)} names no process and is replaced`, () => {
    writeFileSync(path, content)
    const remove = writePidFile(path)
    assert.is(readFileSync(path, 'utf8'), `${process.pid}\n`)
    remove()
  })
}

for (const content of ['nonsense', '-1\n', '12', '12\n13\n', ' 12\n', '1e3\n', '\0'.repeat(8), `${'1'.repeat(64)}\n`]) {
  test(`F123 a file that holds ${JSON.stringify(content)} is no pid file: refused by name, and kept`, () => {
    writeFileSync(path, content)
    assert.throws(() => writePidFile(path), refuses('PATH_OCCUPIED'))
    assert.throws(() => writePidFile(path), /a file that is no pid file stands there, and stays/)
    assert.is(readFileSync(path, 'utf8'), content)
    assert.equal(readdirSync(folder), ['a.pid'])
  })
}

test('F123 links and pipes at the path are refused by name, never followed, never replaced', () => {
  const stale = join(folder, 'stale')
  writeFileSync(stale, '4194304999\n')
  for (const target of [stale, join(folder, 'nothing')]) {
    symlinkSync(target, path)
    assert.throws(() => writePidFile(path), /a link stands there/)
    assert.is(readlinkSync(path), target)
    rmSync(path)
  }
  assert.is(readFileSync(stale, 'utf8'), '4194304999\n')
  rmSync(stale)
  if (process.platform === 'win32') return
  spawnSync('mkfifo', [path])
  assert.throws(() => writePidFile(path), /no regular file stands there/)
  assert.ok(lstatSync(path).isFIFO())
})

test('F123 a stale number that another program has now: process 1, a thread of the kernel, a tool, a server started later', async () => {
  if (process.platform !== 'linux') return skip('F123', 'only Linux tells what a process is')
  const sleep = spawn('sleep', ['60'])
  const later = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)'])
  await Promise.all([once(sleep, 'spawn'), once(later, 'spawn')])
  const anHour = Date.now() / 1_000 - 3_600
  try {
    for (const [pid, seconds] of [
      ...(basename(readFileSync('/proc/1/comm', 'utf8').trim()) === 'node' ? [] : [[1, undefined] as const]),
      ...(existsSync('/proc/2/cmdline') && readFileSync('/proc/2/cmdline', 'utf8') === ''
        ? [[2, undefined] as const]
        : []),
      [sleep.pid, undefined],
      [later.pid, anHour],
      [process.ppid, 1],
    ] as const) {
      writeFileSync(path, `${pid}\n`)
      if (seconds !== undefined) utimesSync(path, seconds, seconds)
      const remove = writePidFile(path)
      assert.is(readFileSync(path, 'utf8'), `${process.pid}\n`, String(pid))
      remove()
    }
    // The same program, started before the file was written: it may have written it.
    writeFileSync(path, `${later.pid}\n`)
    assert.throws(() => writePidFile(path), refuses('PATH_OCCUPIED'))
  } finally {
    sleep.kill()
    later.kill()
  }
})

test('F122 the draft is never one that was there: links for every process id are not written through', () => {
  const victim = join(folder, 'victim')
  writeFileSync(victim, 'precious')
  symlinkSync(victim, `${path}.${process.pid}`)
  writePidFile(path)()
  assert.is(readFileSync(victim, 'utf8'), 'precious')
  assert.is(readlinkSync(`${path}.${process.pid}`), victim)
  for (const one of [victim, `${path}.${process.pid}`]) rmSync(one)
  assert.equal(readdirSync(folder), [])
})

test('F123 only the file that was written is removed: one like it that came later stays', () => {
  const remove = writePidFile(path)
  // Both exist at once, so they are two.
  const other = join(folder, 'other')
  writeFileSync(other, `${process.pid}\n`)
  renameSync(other, path)
  remove()
  assert.is(readFileSync(path, 'utf8'), `${process.pid}\n`)
})

test('a file that another process took over meanwhile is left to it', () => {
  const remove = writePidFile(path)
  writeFileSync(path, '1\n')
  remove()
  assert.is(readFileSync(path, 'utf8'), '1\n')
})

test('a folder at the path, or none around it, is an error that names the path', () => {
  mkdirSync(path)
  assert.throws(() => writePidFile(path), refuses('PATH_OCCUPIED'))
  assert.throws(() => writePidFile(join(folder, 'none/b.pid')), refuses('PATH_INVALID'))
  assert.equal(readdirSync(folder), ['a.pid'])
})

test('process.exit() removes it', () => {
  const source = `import('${module}').then(({ writePidFile }) => { writePidFile(${JSON.stringify(path)}); process.exit(7) })`
  assert.is(spawnSync(process.execPath, ['-e', source]).status, 7)
  assert.is(existsSync(path), false)
})

test.run()
