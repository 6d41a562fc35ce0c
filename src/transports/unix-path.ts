/**
 * The file of a Unix socket: is its path legal, may it be taken, is it still ours.
 *
 * Room: transports. A server that crashed leaves its file behind, and bind(2) then says EADDRINUSE for ever; so a
 * socket that is ours and answers nobody is replaced, and nothing else ever is.
 */
import { type BigIntStats, linkSync, lstatSync, renameSync, statSync, unlinkSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname, resolve } from 'node:path'
import type { Endpoint } from '../core/endpoint.js'
import { BindError } from '../core/errors.js'
import { bindError, platformCode } from './platform-errors.js'

/** unix(7): `sun_path` has 108 bytes, the last is NUL. Node cuts longer ones silently and binds under another name. */
const MOST_PATH_BYTES = 107

/**
 * The address of `unix:@name`: a name in the kernel's own space, without a file (unix(7), abstract; Linux). Whoever is in the
 * same network namespace may connect: there is no mode. A file of such a name is written `unix:./@name`. libuv fills the name up
 * to 108 bytes with NUL, which are part of it: socat finds it with `unix-tightsocklen=0`.
 *
 * @returns what `node:net` takes; undefined for a path.
 * @throws {BindError} `PATH_INVALID`, `PATH_TOO_LONG`; `NOT_SUPPORTED` outside of Linux.
 */
export function abstractName(endpoint: Endpoint, platform: NodeJS.Platform = process.platform): string | undefined {
  const path = endpoint.path ?? ''
  if (!path.startsWith('@')) return undefined
  const refuse = (code: 'PATH_INVALID' | 'PATH_TOO_LONG' | 'NOT_SUPPORTED', problem: string) =>
    new BindError(code, `cannot listen on abstract unix socket ${JSON.stringify(path)}: ${problem}`, { endpoint, path })
  if (platform !== 'linux' && platform !== 'android')
    throw refuse('NOT_SUPPORTED', 'only Linux has such names; write a path, such as unix:./server.sock')
  if (path === '@') throw refuse('PATH_INVALID', 'the name is empty; write unix:@server')
  if (path.includes('\0')) throw refuse('PATH_INVALID', 'the name holds a NUL character')
  const bytes = Buffer.byteLength(path)
  if (bytes > MOST_PATH_BYTES) throw refuse('PATH_TOO_LONG', `it has ${bytes} bytes, at most ${MOST_PATH_BYTES} fit`)
  return `\0${path.slice(1)}`
}

/** @throws {BindError} `PATH_INVALID`, `PATH_TOO_LONG`. */
export function checkUnixPath(endpoint: Endpoint): string {
  const path = endpoint.path ?? ''
  const shown = JSON.stringify(path)
  const refuse = (code: 'PATH_INVALID' | 'PATH_TOO_LONG', problem: string) =>
    new BindError(code, `cannot listen on unix socket ${shown}: ${problem}`, { endpoint, path })
  if (path === '') throw refuse('PATH_INVALID', 'the path is empty; write unix:./server.sock')
  if (path.includes('\0')) throw refuse('PATH_INVALID', 'the path holds a NUL character')
  const bytes = Buffer.byteLength(path)
  if (bytes > MOST_PATH_BYTES) {
    throw refuse(
      'PATH_TOO_LONG',
      `it has ${bytes} bytes, at most ${MOST_PATH_BYTES} fit; use a shorter or a relative path`,
    )
  }
  const folder = dirname(path)
  let isFolder: boolean
  try {
    isFolder = statSync(folder).isDirectory()
  } catch (cause) {
    if (platformCode(cause) === 'EACCES') throw bindError(endpoint, cause)
    const message = `cannot listen on unix socket ${shown}: the folder ${folder} does not exist; make it first`
    throw new BindError('PATH_INVALID', message, { endpoint, path, cause })
  }
  if (!isFolder) throw refuse('PATH_INVALID', `${folder} is no folder`)
  return path
}

/**
 * Makes way for a socket at `path`: removes a stale one of ours.
 *
 * Two servers that start at once may both find the file stale; the later bind(2) then fails with ADDRESS_IN_USE, or the
 * earlier server loses its name. A lock beside the file would close the gap and leave a second file to go stale.
 *
 * @throws {BindError} `ADDRESS_IN_USE` (somebody answers there), `PATH_OCCUPIED` (anything else; it is left as it is).
 */
export async function makeWay(endpoint: Endpoint, path: string): Promise<void> {
  const found = lstatOf(path)
  if (found === undefined) return
  const occupied = (what: string) => {
    const remedy = 'it was left as it is; choose another path, or remove it'
    return new BindError('PATH_OCCUPIED', `cannot listen on ${endpoint}: ${what}; ${remedy}`, { endpoint, path })
  }
  if (!found.isSocket())
    throw occupied(`${found.isSymbolicLink() ? 'a symbolic link' : 'a file that is no socket'} stands there`)
  const answer = await probe(path)
  if (answer === 'accepted' || answer === 'EAGAIN') {
    const message = `cannot listen on ${endpoint}: another server listens there; stop it, or choose another path`
    throw new BindError('ADDRESS_IN_USE', message, { endpoint, path })
  }
  if (answer === 'ENOENT') return
  if (answer !== 'ECONNREFUSED') throw occupied(`a socket stands there that says ${answer}`)
  if (found.uid !== BigInt(process.getuid?.() ?? -1)) throw occupied('a stale socket of another user stands there')
  // What we looked at, not what may have come since.
  if (isSameFile(found, lstatOf(path))) unlinkSync(path)
}

/** The file as it was right after the bind. */
export class OwnSocketFile {
  readonly #path: string
  readonly #stat: BigIntStats | undefined

  constructor(path: string) {
    // The working folder may be another one at the end.
    this.#path = resolve(path)
    this.#stat = lstatOf(this.#path)
  }

  /**
   * Closes the server and sees to it that our file is gone and nobody else's is.
   *
   * libuv unlinks the name it bound, whoever has it now (uv__pipe_close); so another's file keeps a second name
   * meanwhile.
   */
  closing(close: () => void): void {
    const present = lstatOf(this.#path)
    const isOurs = isSameFile(present, this.#stat)
    const aside = present === undefined || isOurs ? undefined : this.#keepAside()
    close()
    const left = lstatOf(this.#path)
    if (isOurs && isSameFile(left, this.#stat)) unlinkQuietly(this.#path)
    if (aside === undefined) return
    // rename(2) of two names of one file does nothing and leaves both.
    if (left === undefined) renameSync(aside, this.#path)
    else unlinkQuietly(aside)
  }

  /**
   * Gives the file a second name. @returns undefined for what can have none, such as a folder, which unlink(2) leaves
   * alone.
   */
  #keepAside(): string | undefined {
    const aside = `${this.#path}.${process.pid}`
    try {
      linkSync(this.#path, aside)
      return aside
    } catch {
      return undefined
    }
  }
}

/**
 * A shorter or equal name in the same folder, to bind under before the socket gets its own: libuv unlinks the name it bound when
 * it closes that descriptor, and a supervisor closes and reopens its own while the socket lives on.
 *
 * @returns undefined where none fits.
 */
export function temporaryName(path: string): string | undefined {
  const name = `${dirname(path)}/.${process.pid.toString(36)}${(++temporaryNames).toString(36)}`
  return Buffer.byteLength(name) <= MOST_PATH_BYTES ? name : undefined
}

let temporaryNames = 0

/** Gives a socket its name. @throws {BindError} `PATH_OCCUPIED` when another was faster. */
export function moveInto(endpoint: Endpoint, from: string, path: string): void {
  try {
    // Fails where rename(2) would replace.
    linkSync(from, path)
  } catch (cause) {
    const isThere = platformCode(cause) === 'EEXIST'
    const message = `cannot listen on ${endpoint}: ${isThere ? 'another file came to stand there' : (cause as Error).message}`
    throw new BindError(isThere ? 'PATH_OCCUPIED' : 'PATH_INVALID', message, { endpoint, path, cause })
  } finally {
    unlinkQuietly(from)
  }
}

function lstatOf(path: string): BigIntStats | undefined {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false })
}

/** Inode numbers are used again at once on some file systems; the time of birth tells them apart. */
function isSameFile(one: BigIntStats | undefined, other: BigIntStats | undefined): boolean {
  if (one === undefined || other === undefined) return false
  return one.ino === other.ino && one.dev === other.dev && one.birthtimeNs === other.birthtimeNs
}

function unlinkQuietly(path: string): void {
  try {
    unlinkSync(path)
  } catch {
    // Gone already: what was wanted.
  }
}

/** @returns `accepted`, or the platform's code. */
function probe(path: string): Promise<string> {
  return new Promise((found) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      found('accepted')
    })
    socket.once('error', (error) => found(platformCode(error)))
  })
}
