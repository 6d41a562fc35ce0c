/**
 * `node`: a machine's part in a cluster, until a signal.
 *
 * Room: the command line. Standard output: `joined CLUSTER as INSTANCE`, then `ready`. Logs: standard error.
 */
import { drainOf } from '../core/options.js'
import { printable } from '../core/printable.js'
import { createNode } from '../node.js'
import type { Arguments } from './arguments.js'
import { Endings } from './endings.js'
import { logLine } from './output.js'
import { optionsOf } from './serve-options.js'

export async function node(given: Arguments): Promise<number> {
  const endings = new Endings()
  try {
    const log = given.flags.quiet ? () => {} : (what: string) => logLine(`gaidaros: ${printable(what)}`)
    const made = await createNode({ ...optionsOf(given), log })
    let isStarted = false
    endings.begun = {
      isLoading: false,
      get isStarting() {
        return !isStarted
      },
      get state() {
        return made.state
      },
      drainMs: drainOf(made.configuration.values.drain).timeoutMs,
      async stop() {
        await made.stop()
      },
    }
    try {
      await made.start()
    } catch (error) {
      if (endings.isAsked) return endings.status
      throw error
    }
    isStarted = true
    if (!endings.isAsked) process.stdout.write(`joined ${made.cluster} as ${made.instance}\nready\n`)
    // By a signal, or at the control socket.
    const cut = await made.stopped
    if (cut > 0) log(`${cut} connections were still here at the deadline`)
    return endings.status
  } finally {
    endings.done()
  }
}
