/**
 * CPU profiles of this thread, written to a file at its end.
 *
 * Room: core, mechanism. The inspector is loaded only when a profile is asked for; nothing listens on a port.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { threadId } from 'node:worker_threads'
import { BindError, ConfigError, toError } from './errors.js'
import type { Ids } from './privileges.js'
import { makeFolderFor } from './root-files.js'

/** Where profiles go when nobody says where. */
export const profileDirectory = '.'

/**
 * Begins a profile of the calling thread.
 *
 * @param directory - Made if it is not there.
 * @param what - A word of the file's name: `server`, `thread`, `process`.
 * @param owner - Who will write there, once root is given up; a folder that was there before keeps its own.
 * @returns what ends it and writes `WHAT-PID-THREAD.cpuprofile`; at the end of the thread at the latest. Never throws.
 * @throws {ConfigError} `UNREADABLE` when the folder cannot be made. @throws {BindError} `PATH_OCCUPIED` when root would make it
 *   for its owner behind somebody else's link.
 */
export function startProfile(directory: string, what: string, owner?: Ids): () => void {
  // Its own folder at the end may be another one.
  const folder = resolve(directory)
  try {
    if (owner === undefined) mkdirSync(folder, { recursive: true })
    else makeFolderFor(owner, folder, 'profile')
  } catch (cause) {
    if (cause instanceof BindError) throw cause
    const message = `profile: ${folder} cannot be made: ${toError(cause).message}`
    throw new ConfigError('UNREADABLE', message, { path: folder, cause })
  }
  // Not imported: whoever asks for no profile need not load it.
  const { Session } = createRequire(import.meta.url)('node:inspector') as typeof import('node:inspector')
  const session = new Session()
  session.connect()
  session.post('Profiler.enable')
  session.post('Profiler.start')
  let isOver = false
  const end = () => {
    if (isOver) return
    isOver = true
    process.removeListener('exit', end)
    // In the same thread, and so before `post` returns.
    session.post('Profiler.stop', (error, result) => {
      if (error !== null) return process.emitWarning(`no profile: ${error.message}`, 'GaidarosWarning')
      try {
        const file = join(folder, `${what}-${process.pid}-${threadId}.cpuprofile`)
        // A link of that name is not written through; an earlier process may have had this number.
        rmSync(file, { force: true })
        writeFileSync(file, JSON.stringify(result.profile), { flag: 'wx' })
      } catch (cause) {
        process.emitWarning(`no profile: ${toError(cause).message}`, 'GaidarosWarning')
      }
    })
    session.disconnect()
  }
  process.once('exit', end)
  return end
}
