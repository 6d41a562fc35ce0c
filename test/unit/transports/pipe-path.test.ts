/** Named pipes are of Windows; their rules are proved anywhere, their working there alone. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { parseEndpoint } from '#src/core/endpoint.js'
import { pipePath } from '#src/transports/pipe-path.js'

const on = (platform: NodeJS.Platform, text: string) => pipePath(parseEndpoint(text), platform)

test('a name becomes a pipe, and a whole name stays', () => {
  assert.is(on('win32', 'unix:greeter'), '\\\\.\\pipe\\greeter')
  assert.is(on('win32', 'unix:\\\\.\\pipe\\greeter'), '\\\\.\\pipe\\greeter')
  assert.is(on('win32', 'unix:\\\\?\\PIPE\\my app.1'), '\\\\.\\pipe\\my app.1')
  assert.is(on('win32', 'unix:\\\\.\\pipe\\c:x'), '\\\\.\\pipe\\c:x')
})

test('paths that are none are refused, with the form that is one', () => {
  for (const text of [
    'unix:./greeter.sock',
    'unix:C:\\run\\a',
    'unix:c:a',
    'unix:\\\\.\\pipe\\a\\b',
    'unix:\\\\server\\pipe\\a',
  ]) {
    assert.throws(() => on('win32', text), /write unix:\\\\\.\\pipe\\greeter/, text)
  }
  assert.throws(() => on('win32', 'unix:'), /the name is empty/)
  assert.throws(() => on('win32', 'unix:a\0b'), /NUL/)
  assert.throws(() => on('win32', `unix:${'x'.repeat(248)}`), /257 characters, at most 256/)
  assert.is(on('win32', `unix:${'x'.repeat(247)}`)?.length, 256)
})

test('elsewhere a path is a path, and a pipe’s name is refused', () => {
  assert.is(on('linux', 'unix:./greeter.sock'), undefined)
  assert.is(on('darwin', 'unix:/run/a\\b'), undefined)
  assert.throws(() => on('linux', 'unix:\\\\.\\pipe\\greeter'), /named pipes are of Windows/)
})

test.run()
