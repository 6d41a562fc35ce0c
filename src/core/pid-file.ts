/**
 * The file that tells others our process id.
 *
 * Room: core, mechanism. Written whole or not at all, and exclusively; one left by a process that is gone is replaced, and
 * nothing else ever is.
 */
import { randomBytes } from 'node:crypto'
import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  linkSync,
  lstatSync,
  openSync,
  readFileSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { resolve } from 'node:path'
import { BindError, toError } from './errors.js'
import { otherProgram } from './process-facts.js'

const MOST_ATTEMPTS = 3
/** A number and a line end; whatever is longer is another file. */
const MOST_BYTES = 32n
// Windows has neither.
const { O_NOFOLLOW = 0, O_NONBLOCK = 0 } = constants as { O_NOFOLLOW?: number; O_NONBLOCK?: number }

/**
 * Writes it, and removes it when the process ends, however it ends but by SIGKILL.
 *
 * @throws {BindError} `PATH_OCCUPIED` when the process named in it lives, or when something stands there that is no pid file
 *   (a link, a folder, a file with anything but one whole number and a line end; an empty file is what a crash of the machine
 *   may leave, and is replaced); `PATH_INVALID` when it cannot be written.
 * @returns what removes the file earlier; a file that is not the one written here any more stays.
 */
export function writePidFile(path: string): () => void {
  // The working folder may be another one at the end.
  const at = resolve(path)
  for (let attempt = 1; ; attempt++) {
    try {
      const made = create(at)
      const atExit = () => remove(at, made)
      process.once('exit', atExit)
      return () => {
        process.removeListener('exit', atExit)
        remove(at, made)
      }
    } catch (thrown) {
      const cause = toError(thrown) as Error & { code?: string }
      if (cause.code !== 'EEXIST' || attempt > MOST_ATTEMPTS) {
        throw new BindError('PATH_INVALID', `pid file ${path} cannot be written: ${cause.message}`, { path, cause })
      }
    }
    makeWay(path, at)
  }
}

/** Removes what a process has left that is gone. @throws {BindError} `PATH_OCCUPIED` for anything else. */
function makeWay(path: string, at: string): void {
  const found = look(at)
  if (found === undefined) return
  const refuse = (problem: string, pid?: number) =>
    new BindError('PATH_OCCUPIED', `pid file ${path}: ${problem}`, { path, ...(pid === undefined ? {} : { pid }) })
  if ('problem' in found)
    throw refuse(
      `${found.problem} stands there, and stays; expected nothing, or one whole number and a line end; name another file, or remove that one`,
    )
  const { pid, stat } = found
  if (pid !== undefined && pid !== process.pid && isAlive(pid)) {
    const other = otherProgram(pid, Number(stat.mtimeMs))
    if (other === 'unknown')
      throw refuse(`process ${pid} runs; stop it, or take another file; if it is another program, remove the file`, pid)
    if (other === undefined) throw refuse(`process ${pid} runs; stop it, or take another file`, pid)
  }
  // What we looked at, not what may have come since.
  if (isSameFile(lstatOf(at), stat)) unlink(at)
}

/** @returns what stands there: a process id (undefined for a number that none has, and for an empty file), or why it is none. */
function look(path: string): { pid: number | undefined; stat: BigIntStats } | { problem: string } | undefined {
  const seen = lstatOf(path)
  if (seen === undefined) return undefined
  if (seen.isSymbolicLink()) return { problem: 'a link' }
  if (!seen.isFile()) return { problem: seen.isDirectory() ? 'a folder' : 'something that is no regular file' }
  let descriptor: number | undefined
  try {
    descriptor = openSync(path, constants.O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    const stat = fstatSync(descriptor, { bigint: true })
    if (!stat.isFile() || stat.size > MOST_BYTES) return { problem: 'a file that is no pid file' }
    const text = readFileSync(descriptor, 'latin1')
    if (text !== '' && !/^\d+\r?\n$/.test(text)) return { problem: 'a file that is no pid file' }
    const pid = Number(text)
    return { pid: pid > 0 && pid <= 0x7f_ff_ff_ff ? pid : undefined, stat }
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return undefined
    return { problem: `a file that cannot be read (${toError(error).message})` }
  } finally {
    if (descriptor !== undefined) closeSync(descriptor)
  }
}

/**
 * By a link, because it either fails or shows a file that has its content: nobody ever reads an empty one. Its draft has a name
 * that nobody can guess, and is never one that was there: the folder may be somebody else's while we are root.
 */
function create(path: string): BigIntStats {
  const draft = `${path}.${randomBytes(8).toString('hex')}`
  const stat = write(draft)
  try {
    linkSync(draft, path)
    return stat
  } catch (error) {
    // File systems without links (link(2), EPERM).
    if (!['EPERM', 'ENOTSUP', 'ENOSYS'].includes((error as { code: string }).code)) throw error
    return write(path)
  } finally {
    unlink(draft)
  }
}

function write(path: string): BigIntStats {
  // O_EXCL follows no link either (open(2)).
  const descriptor = openSync(path, 'wx', 0o644)
  try {
    writeSync(descriptor, `${process.pid}\n`)
    return fstatSync(descriptor, { bigint: true })
  } finally {
    closeSync(descriptor)
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as { code?: string }).code === 'EPERM'
  }
}

function remove(path: string, made: BigIntStats): void {
  const found = look(path)
  if (found === undefined || 'problem' in found) return
  if (found.pid === process.pid && isSameFile(found.stat, made)) unlink(path)
}

function lstatOf(path: string): BigIntStats | undefined {
  try {
    return lstatSync(path, { bigint: true, throwIfNoEntry: false })
  } catch {
    return undefined
  }
}

/** Inode numbers are used again at once on some file systems; the time of birth tells them apart. */
function isSameFile(one: BigIntStats | undefined, other: BigIntStats): boolean {
  return one !== undefined && one.ino === other.ino && one.dev === other.dev && one.birthtimeNs === other.birthtimeNs
}

function unlink(path: string): void {
  try {
    unlinkSync(path)
  } catch {
    // Gone already, or not ours to remove: the next attempt says so.
  }
}
