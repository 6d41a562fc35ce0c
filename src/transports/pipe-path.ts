/**
 * Named pipes: what `unix:` endpoints are on Windows.
 *
 * Room: transports. Pipes live in a name space of their own: no folder, no file mode, no stale file (learn.microsoft.com, Pipe
 * Names). Node serves them by the same calls; only the rules of the name differ.
 */
import type { Endpoint } from '../core/endpoint.js'
import { BindError } from '../core/errors.js'

const PREFIX = /^[\\/]{2}[.?][\\/]pipe[\\/]/i
/** The whole name, prefix included. */
const MOST_CHARACTERS = 256

/**
 * The pipe's full name.
 *
 * `unix:\\.\pipe\greeter` is taken as it is; a plain word, `unix:greeter`, becomes `\\.\pipe\greeter`.
 *
 * @returns undefined where this platform has socket files.
 * @throws {BindError} `PATH_INVALID`, `PATH_TOO_LONG`: also for a pipe's name where there are no pipes.
 */
export function pipePath(endpoint: Endpoint, platform: NodeJS.Platform): string | undefined {
  const path = endpoint.path ?? ''
  const isPipe = PREFIX.test(path)
  const refuse = (code: 'PATH_INVALID' | 'PATH_TOO_LONG', problem: string) =>
    new BindError(code, `cannot listen on ${JSON.stringify(path)}: ${problem}`, { endpoint, path })
  if (platform !== 'win32') {
    if (!isPipe) return undefined
    throw refuse('PATH_INVALID', 'named pipes are of Windows; write a path, such as unix:./greeter.sock')
  }
  const name = path.replace(PREFIX, '')
  if (name === '') throw refuse('PATH_INVALID', 'the name is empty; write unix:\\\\.\\pipe\\greeter')
  if (name.includes('\0')) throw refuse('PATH_INVALID', 'the name holds a NUL character')
  if (/[\\/]/.test(name) || (!isPipe && /^[a-z]:/i.test(name))) {
    throw refuse(
      'PATH_INVALID',
      'Windows has no socket files here, and names of pipes have no folders; write unix:\\\\.\\pipe\\greeter',
    )
  }
  const whole = `\\\\.\\pipe\\${name}`
  if (whole.length <= MOST_CHARACTERS) return whole
  throw refuse('PATH_TOO_LONG', `it has ${whole.length} characters, at most ${MOST_CHARACTERS} fit`)
}
