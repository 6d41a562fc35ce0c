/**
 * Starts the watchdog of a server process, and is the sign of life that it looks for.
 *
 * A door's part. Measured on Node 20: see docs/guide/workers.md.
 */
import { Worker } from 'node:worker_threads'
import type { WatchdogData } from './watchdog.js'

/** A worker of a hanging loop is gone after the two together, at most one look later. */
const EVERY_MS = 500
const GRACE_MS = 2_000

/** Whoever has started us; asked at once, because it may be gone soon. */
const parent = process.ppid

/** @returns what is called when the supervisor is gone, and the loop goes round. */
export function watchSupervisor(): () => void {
  const lively = new Int32Array(new SharedArrayBuffer(4))
  const data: WatchdogData = { parent, lively, everyMs: EVERY_MS, graceMs: GRACE_MS }
  const thread = new Worker(new URL('./watchdog.js', import.meta.url), {
    workerData: data,
    // What the application preloads (--import) is not for it.
    execArgv: [],
    env: {},
    // A thread that has nothing to do needs no more.
    resourceLimits: { maxOldGenerationSizeMb: 8, maxYoungGenerationSizeMb: 1, codeRangeSizeMb: 1, stackSizeMb: 1 },
  })
  thread.unref()
  // Without it the process is served as well: this is a net, not a part.
  thread.on('error', () => {})
  return () => {
    setInterval(() => Atomics.add(lively, 0, 1), EVERY_MS).unref()
  }
}
