/**
 * Says what is still being loaded, and for how long that may go on: a module may wait at its top for something that never comes.
 *
 * Room: the command line, and server processes.
 */
import { relative, resolve } from 'node:path'
import { loadsNow } from '../core/config/index.js'
import { WorkerError } from '../core/errors.js'
import { workerFields } from '../core/workers/options.js'
import { logLine } from './output.js'

/** After which a module is named, once, in milliseconds. */
const TOLD_AFTER_MS = 5_000
const LOOKS_EVERY_MS = 500

/** From now on modules that take long are named. @returns what ends it. */
export function tellLoading(): () => void {
  const told = new Set<string>()
  const looking = setInterval(() => {
    const now = performance.now()
    for (const [module, since] of loadsNow()) {
      if (now - since < TOLD_AFTER_MS || told.has(module)) continue
      told.add(module)
      logLine(`gaidaros: still loading ${nameOf(module)}`)
    }
  }, LOOKS_EVERY_MS)
  looking.unref()
  return () => clearInterval(looking)
}

/**
 * In the process that serves by itself; where there are workers their supervisor sees to it.
 *
 * @throws {WorkerError} `NOT_READY` when it has not ended within `workers.readyMs`; what was begun is left behind.
 */
export async function loadedInTime<T>(work: Promise<T>, withinMs = workerFields.readyMs.default as number): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const names = [...loadsNow().keys()].map(nameOf).join(', ')
      const message = `the server was not loaded within ${withinMs} ms (workers.readyMs)${names === '' ? '' : `: still loading ${names}`}`
      reject(new WorkerError('NOT_READY', message))
    }, withinMs)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** As people write it: `./h.mjs`. */
function nameOf(module: string): string {
  if (!module.startsWith('/')) return module
  const path = relative(process.cwd(), resolve(module))
  return path.startsWith('..') ? module : `./${path}`
}
