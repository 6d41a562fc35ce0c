/**
 * What doctor finds out about this machine.
 *
 * Room: the command line.
 */
import { readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { LoadedConfiguration } from '../../core/config/index.js'
import type { ListenerPlan } from '../../core/plan.js'
import { keptFrom } from '../../core/privileges.js'
import { toBecome } from '../give-up.js'
import type { Facts } from './finding.js'

export function factsOf(configuration: LoadedConfiguration | undefined, listeners: readonly ListenerPlan[]): Facts {
  const uid = process.getuid?.() ?? -1
  const daemon = configuration?.values.daemon
  const user = typeof daemon === 'object' ? daemon.user : undefined
  return {
    configuration,
    listeners,
    now: new Date(),
    nodeVersion: process.version,
    isRoot: uid === 0,
    user: user === undefined ? undefined : String(user),
    keptFromUser(files) {
      const ids = configuration === undefined ? undefined : toBecome(configuration.values)
      return ids === undefined ? [] : keptFrom(ids, files)
    },
    uid,
    descriptors: descriptorLimit(),
    sysctl(name) {
      const value = Number(readOr(`/proc/sys/${name.replaceAll('.', '/')}`) ?? Number.NaN)
      return Number.isFinite(value) ? value : undefined
    },
    readFile: (path) => readFileSync(path),
    stat(path) {
      try {
        const found = statSync(path)
        return { mode: found.mode & 0o7777, uid: found.uid, isDirectory: found.isDirectory() }
      } catch {
        return undefined
      }
    },
    hasPackage(name) {
      try {
        createRequire(import.meta.url).resolve(name)
        return true
      } catch {
        return false
      }
    },
  }
}

/** The soft limit (proc_pid_limits(5)); undefined where there is no /proc. */
function descriptorLimit(): number | undefined {
  const [, soft] = /^Max open files\s+(\d+)/m.exec(readOr('/proc/self/limits') ?? '') ?? []
  return soft === undefined ? undefined : Number(soft)
}

function readOr(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
