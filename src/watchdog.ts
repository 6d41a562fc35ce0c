/**
 * The thread in each server process that ends it when its supervisor is gone and its event loop hangs.
 *
 * Started by its path. The loop itself hears that the channel is closed, and drains; a handler that never gives the loop back hears
 * nothing, and the process would stay at 100 % of a processor, with its port, for ever. So somebody outside of the loop looks
 * whether the parent is still the same: Node has neither prctl(2) (PR_SET_PDEATHSIG) nor F_SETOWN, and `setpriv --pdeathsig` would
 * end a process that drains, too.
 */
import { workerData } from 'node:worker_threads'

const { parent, lively, everyMs, graceMs } = workerData as WatchdogData

export interface WatchdogData {
  /** Process id of the supervisor. */
  readonly parent: number
  /** One number that the loop raises once its supervisor is gone, as long as it goes round. */
  readonly lively: Int32Array
  readonly everyMs: number
  /** The loop may be silent for so long. */
  readonly graceMs: number
}

let seen = 0
let silentMs = 0

setInterval(() => {
  // A look at getppid(2): a process whose parent has ended has another one.
  if (process.ppid === parent) return
  const now = Atomics.load(lively, 0)
  silentMs = now === seen ? silentMs + everyMs : 0
  seen = now
  if (silentMs >= graceMs) process.kill(process.pid, 'SIGKILL')
}, everyMs)
