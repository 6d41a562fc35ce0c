/**
 * `serve` with several server processes: this one supervises.
 *
 * Room: the command line.
 */
import type { LoadedConfiguration } from '../core/config/index.js'
import { toError } from '../core/errors.js'
import type { Server } from '../core/lifecycle.js'
import { drainTimeoutMs } from '../core/options.js'
import { writePidFile } from '../core/pid-file.js'
import { controlOf, listenForControl } from '../gaidaros.js'
import { supervise } from '../supervise.js'
import type { Arguments } from './arguments.js'
import type { Endings } from './endings.js'
import { report } from './report.js'
import { announceTo, levelOf } from './serve.js'

/** Beyond the drain, for workers that are ended by force. */
const FORCE_MS = 2_000

/** @returns the exit status. */
export async function serveWorkers(given: Arguments, loaded: LoadedConfiguration, endings: Endings): Promise<number> {
  const { supervisor, events, target, close } = supervise(given.words)
  report(events, levelOf(given, loaded))
  const { path, pidFile } = controlOf(loaded.values.control)
  const removePidFile = pidFile === undefined ? undefined : writePidFile(pidFile)
  // However this process ends, but by SIGKILL: no worker stays.
  process.once('exit', () => supervisor.kill())
  endings.begun = {
    get isStarting() {
      return supervisor.state === 'starting'
    },
    get state() {
      return supervisor.state
    },
    drainMs: (loaded.values.drain?.timeoutMs ?? drainTimeoutMs) + FORCE_MS,
    stop: () => supervisor.stop(),
    kill: () => supervisor.kill(),
    // Told by its events, whichever way it goes.
    reload: () => void supervisor.reload().catch(() => {}),
  }
  let control: Server | undefined
  try {
    await supervisor.start()
    if (path !== undefined) control = await listenForControl(path, target)
    announceTo(process.stdout, supervisor.listeners)
    await supervisor.stopped
    return endings.status
  } catch (thrown) {
    await supervisor.stop({ timeoutMs: 0 })
    if (endings.isAsked) return endings.status
    throw toError(thrown)
  } finally {
    close()
    removePidFile?.()
    await control?.stop({ timeoutMs: 1_000 })
  }
}
