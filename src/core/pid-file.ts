/**
 * The file that tells others our process id.
 *
 * Room: core, mechanism. Written whole or not at all, and exclusively; one left by a process that is gone is replaced.
 */
import { randomBytes } from 'node:crypto'
import { linkSync, lstatSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs'
import { BindError, toError } from './errors.js'

const MOST_ATTEMPTS = 3

/**
 * Writes it, and removes it when the process ends, however it ends but by SIGKILL.
 *
 * @throws {BindError} `PATH_OCCUPIED` when the process named in it lives; `PATH_INVALID` when it cannot be written.
 * @returns what removes the file earlier.
 */
export function writePidFile(path: string): () => void {
  for (let attempt = 1; ; attempt++) {
    try {
      create(path)
      const atExit = () => remove(path)
      process.once('exit', atExit)
      return () => {
        process.removeListener('exit', atExit)
        remove(path)
      }
    } catch (thrown) {
      const cause = toError(thrown) as Error & { code?: string }
      if (cause.code !== 'EEXIST' || attempt > MOST_ATTEMPTS) {
        throw new BindError('PATH_INVALID', `pid file ${path} cannot be written: ${cause.message}`, { path, cause })
      }
    }
    refuseOther(path)
    const pid = readPid(path)
    if (pid !== undefined && pid !== process.pid && isAlive(pid)) {
      const message = `pid file ${path}: process ${pid} runs; stop it, or take another file`
      throw new BindError('PATH_OCCUPIED', message, { path, pid })
    }
    unlink(path)
  }
}

/** By a link, because it either fails or shows a file that has its content: nobody ever reads an empty one. */
function create(path: string): void {
  // A name nobody can have put a link at, and a file that must not be there yet.
  const whole = `${path}.${randomBytes(6).toString('hex')}`
  writeFileSync(whole, `${process.pid}\n`, { flag: 'wx', mode: 0o644 })
  try {
    linkSync(whole, path)
  } catch (error) {
    // File systems without links (link(2), EPERM).
    if (!['EPERM', 'ENOTSUP', 'ENOSYS'].includes((error as { code: string }).code)) throw error
    writeFileSync(path, `${process.pid}\n`, { flag: 'wx', mode: 0o644 })
  } finally {
    unlink(whole)
  }
}

/** Only what is a pid file is replaced: a plain file of one whole number and a line end. */
function refuseOther(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false })
  // A folder cannot be replaced, and is told by the write.
  if (found === undefined || found.isDirectory()) return
  const what = found.isSymbolicLink()
    ? 'a symbolic link'
    : !found.isFile()
      ? 'no plain file'
      : found.size > 32 || !/^\d{1,10}\n?$/.test(readFileSync(path, 'utf8'))
        ? 'a file that holds something else than a process id'
        : undefined
  if (what === undefined) return
  const message = `pid file ${path}: ${what} stands there, and was left as it is; remove it, or take another file`
  throw new BindError('PATH_OCCUPIED', message, { path })
}

function readPid(path: string): number | undefined {
  try {
    const pid = Number(readFileSync(path, 'utf8').trim())
    return Number.isInteger(pid) && pid > 0 ? pid : undefined
  } catch {
    return undefined
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

function remove(path: string): void {
  if (readPid(path) === process.pid) unlink(path)
}

function unlink(path: string): void {
  try {
    unlinkSync(path)
  } catch {
    // Gone already, or not ours to remove: the next attempt says so.
  }
}
