/**
 * The file that tells others our process id.
 *
 * Room: core, mechanism. Written exclusively; one left by a process that is gone is replaced.
 */
import { readFileSync, unlinkSync, writeFileSync } from 'node:fs'
import { BindError, toError } from './errors.js'

/** @throws {BindError} `PATH_OCCUPIED` when that process lives. @returns what removes the file again. */
export function writePidFile(path: string): () => void {
  for (let attempt = 1; ; attempt++) {
    try {
      writeFileSync(path, `${process.pid}\n`, { flag: 'wx', mode: 0o644 })
      return () => remove(path)
    } catch (thrown) {
      const cause = toError(thrown) as Error & { code?: string }
      if (cause.code !== 'EEXIST' || attempt > 2) {
        throw new BindError('PATH_INVALID', `pid file ${path} cannot be written: ${cause.message}`, { path, cause })
      }
      const pid = Number(readFileSync(path, 'utf8').trim())
      if (Number.isInteger(pid) && pid > 0 && pid !== process.pid && isAlive(pid)) {
        throw new BindError('PATH_OCCUPIED', `pid file ${path}: process ${pid} runs; stop it, or take another file`, {
          path,
          pid,
        })
      }
      unlinkSync(path)
    }
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
  try {
    if (readFileSync(path, 'utf8').trim() === String(process.pid)) unlinkSync(path)
  } catch {
    // Gone already.
  }
}
