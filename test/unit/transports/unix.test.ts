import { spawn } from 'node:child_process'
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { parseEndpoint } from '#src/core/endpoint.js'
import { BindError } from '#src/core/errors.js'
import type { Listener } from '#src/core/transport.js'
import { unix } from '#src/transports/unix.js'
import { skip } from '../../support/skip.js'
import { failure, Recorder, rawConnect, temporaryFolder } from './recorder.js'

const folder = temporaryFolder()
let count = 0
const newPath = () => join(folder, `s${count++}`)
const listen = (path: string, options: object = {}, sink = new Recorder()) =>
  unix.listen(parseEndpoint(`unix:${path}`), options, sink)

/** What a server that was killed leaves behind: a socket that answers nobody. */
async function leaveStale(path: string): Promise<void> {
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
  const child = spawn(process.execPath, ['-e', script])
  await new Promise((resolve) => child.once('exit', resolve))
  assert.ok(lstatSync(path).isSocket())
}

test('serves at its path, reports it as given, and removes the file on unbind', async () => {
  const path = newPath()
  const sink = new Recorder()
  sink.onData = ({ link }, chunk) => void link.write(chunk)
  const listener = await listen(path, {}, sink)
  assert.is(String(listener.endpoint), `unix:${path}`)
  const raw = await rawConnect(listener.endpoint)
  raw.socket.write('hello')
  await raw.until('hello')
  assert.is(String(sink.peers[0]?.link.local), `unix:${path}`)
  assert.is(sink.peers[0]?.link.remote, undefined)
  await listener.unbind()
  assert.not(existsSync(path))
  raw.socket.write(' again')
  await raw.until('hello again')
  raw.socket.destroy()
})

test('the file has its mode from its first moment: 0660, or what is asked for (F85)', async () => {
  const umask = process.umask()
  const cases = [
    [{}, 0o660],
    [{ mode: '0600' }, 0o600],
    [{ mode: 0o666 }, 0o666],
    [{ mode: '777' }, 0o777],
  ] as const
  for (const [options, expected] of cases) {
    const path = newPath()
    const pending = listen(path, options)
    // Looks between any two steps of ours: whenever the file is there, its mode is right.
    let seen = 0
    const watch = () => {
      if (!existsSync(path)) return
      seen++
      assert.is(statSync(path).mode & 0o777, expected)
    }
    for (let turn = 0; turn < 20; turn++) {
      watch()
      await null
    }
    const listener = await pending
    watch()
    assert.ok(seen > 0)
    await listener.unbind()
  }
  assert.is(process.umask(), umask, 'the umask is as before')
})

test('a group given by name or number has the file, with its mode, and nobody else could connect before', async () => {
  if (process.getuid?.() !== 0) return skip('socket.group', 'needs root to give a file away')
  for (const group of [65_534, '65534', 'nogroup']) {
    const path = newPath()
    const pending = listen(path, { group })
    let listener: Listener | undefined
    void pending.then((one) => {
      listener = one
    })
    // Between any two steps of ours: while it has another group than the one asked for, its owner alone may connect.
    while (listener === undefined) {
      const found = statSync(path, { throwIfNoEntry: false })
      if (found !== undefined && found.gid !== 65_534) assert.is(found.mode & 0o077, 0)
      await new Promise(setImmediate)
    }
    const { gid, uid, mode } = statSync(path)
    assert.equal([gid, uid, mode & 0o777], [65_534, 0, 0o660])
    await listener.unbind()
    assert.not(existsSync(path))
  }
  const path = newPath()
  const error = await failure(listen(path, { group: 'no-such-group' }))
  assert.match(error.message, /socket\.group: there is no group `no-such-group`/)
  assert.not(existsSync(path))
})

test('an abstract name serves without a file, is refused twice, and is free again', async () => {
  if (process.platform !== 'linux') return skip('abstract names', 'only Linux has them')
  const name = `@gaidaros-test-${process.pid}`
  const sink = new Recorder()
  sink.onData = ({ link }, chunk) => void link.write(chunk)
  const listener = await listen(name, {}, sink)
  assert.is(String(listener.endpoint), `unix:${name}`)
  assert.not(existsSync(name))
  assert.ok(readFileSync('/proc/net/unix', 'utf8').includes(` ${name}`), 'the kernel knows it')
  assert.is((await failure(listen(name))).code, 'ADDRESS_IN_USE')
  const client = new Recorder()
  const link = await unix.connect?.(parseEndpoint(`unix:${name}`), {}, client, new AbortController().signal)
  link?.write(Buffer.from('hello'))
  for (let i = 0; i < 1_000 && sink.peers.length === 0; i++) await new Promise(setImmediate)
  assert.is(sink.peers.length, 1)
  link?.abort()
  await listener.unbind()
  const again = await listen(name)
  await again.unbind()
  assert.is((await failure(listen('@'))).code, 'PATH_INVALID')
  assert.is((await failure(listen(`@${'x'.repeat(107)}`))).code, 'PATH_TOO_LONG')
})

test('the umask is as before also when the bind fails', async () => {
  if (process.platform !== 'linux') {
    skip('the umask is as before also when the bind fails', 'needs /proc, where nobody may make a file')
    return
  }
  const before = process.umask()
  const error = await failure(listen('/proc/refused'))
  assert.instance(error, BindError)
  assert.is(process.umask(), before)
})

test('a stale socket of ours is replaced (F84)', async () => {
  const path = newPath()
  await leaveStale(path)
  const listener = await listen(path)
  const raw = await rawConnect(listener.endpoint)
  raw.socket.destroy()
  await listener.unbind()
})

test('a live server is ADDRESS_IN_USE and lives on (F84)', async () => {
  const path = newPath()
  const first = await listen(path)
  const error = await failure(listen(path))
  assert.is(error.code, 'ADDRESS_IN_USE')
  const raw = await rawConnect(first.endpoint)
  raw.socket.destroy()
  await first.unbind()
})

test('a file, a folder, a link are PATH_OCCUPIED and untouched (F84)', async () => {
  const file = newPath()
  writeFileSync(file, 'precious')
  const link = newPath()
  const target = newPath()
  await leaveStale(target)
  symlinkSync(target, link)
  const directory = newPath()
  mkdirSync(directory)
  for (const path of [file, link, directory]) assert.is((await failure(listen(path))).code, 'PATH_OCCUPIED')
  assert.is(readFileSync(file, 'utf8'), 'precious')
  assert.ok(lstatSync(link).isSymbolicLink() && lstatSync(target).isSocket() && statSync(directory).isDirectory())
})

test('a stale socket of another user, or of another kind, is PATH_OCCUPIED (F84)', async () => {
  if (process.getuid?.() !== 0) {
    skip('a stale socket of another user, or of another kind, is PATH_OCCUPIED (F84)', 'needs root to give a file away')
    return
  }
  const path = newPath()
  await leaveStale(path)
  chownSync(path, 65_534, 65_534)
  assert.is((await failure(listen(path))).code, 'PATH_OCCUPIED')
  assert.ok(lstatSync(path).isSocket())
})

test('paths over 107 bytes, with NUL, in no folder or empty are refused by name (F84)', async () => {
  const fits = join(folder, 'x'.repeat(107 - folder.length - 1))
  const listener = await listen(fits)
  assert.ok(existsSync(fits))
  await listener.unbind()
  assert.is((await failure(listen(`${fits}x`))).code, 'PATH_TOO_LONG')
  // Bytes count, not characters.
  assert.is((await failure(listen(join(folder, '€'.repeat(36))))).code, 'PATH_TOO_LONG')
  assert.is((await failure(listen(`${newPath()}\0x`))).code, 'PATH_INVALID')
  assert.is((await failure(listen(''))).code, 'PATH_INVALID')
  const nowhere = await failure(listen(join(folder, 'no', 'such')))
  assert.is(nowhere.code, 'PATH_INVALID')
  assert.match(nowhere.message, join(folder, 'no'))
})

test('a path with .. is what it says', async () => {
  mkdirSync(join(folder, 'deep'))
  const listener = await listen(`${folder}/deep/../up`)
  assert.ok(lstatSync(join(folder, 'up')).isSocket())
  await listener.unbind()
  assert.not(existsSync(join(folder, 'up')))
})

test('unbind leaves the file of whoever replaced us', async () => {
  const path = newPath()
  const first = await listen(path)
  unlinkSync(path)
  const second = await listen(path)
  const { ino } = lstatSync(path)
  await first.unbind()
  assert.is(lstatSync(path).ino, ino)
  const raw = await rawConnect(second.endpoint)
  raw.socket.destroy()
  await second.unbind()
  assert.not(existsSync(path))
})

test('unbind is content when the file is gone already', async () => {
  const path = newPath()
  const listener = await listen(path)
  unlinkSync(path)
  await listener.unbind()
  await listener.unbind()
})

test('connect to no file and to a stale one is REFUSED, to a file TRANSPORT_FAILED or REFUSED', async () => {
  const stale = newPath()
  await leaveStale(stale)
  for (const path of [newPath(), stale]) {
    const signal = new AbortController().signal
    const error = await failure(
      unix.connect?.(parseEndpoint(`unix:${path}`), {}, new Recorder(), signal) as Promise<unknown>,
    )
    assert.is(error.code, 'REFUSED')
    assert.match(error.message, path)
  }
})

test('a worker thread, which cannot set the mode without a window, is told so', async () => {
  const source = `
    const { parentPort } = require('node:worker_threads')
    Promise.all([import(${JSON.stringify(new URL('../../../dist/transports/unix.js', import.meta.url).href)}),
      import(${JSON.stringify(new URL('../../../dist/core/endpoint.js', import.meta.url).href)})]).then(([{ unix }, { parseEndpoint }]) =>
      unix.listen(parseEndpoint(${JSON.stringify(`unix:${newPath()}`)}), {}, {}).catch((error) => parentPort.postMessage(error.code)))`
  const worker = new Worker(source, { eval: true })
  assert.is(await new Promise((resolve) => worker.once('message', resolve)), 'NOT_SUPPORTED')
  await worker.terminate()
})

test('options: mode as octal text or number, nothing of TCP', () => {
  const validate = (value: unknown) =>
    unix.options?.['~standard'].validate(value) as { value?: unknown; issues?: unknown[] }
  assert.equal(validate({}).value, { backlog: 511, mode: 0o660 })
  for (const wrong of [{ mode: '0999' }, { mode: 0o1777 }, { mode: 'rw' }, { noDelay: true }])
    assert.ok(validate(wrong).issues)
})

test.run()
