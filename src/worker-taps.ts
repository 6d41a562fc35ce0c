/**
 * Taps of workers' connections, between the worker that has the connection and the operator who listens.
 *
 * Part of the supervisor's door. Ids become `worker/id`; what the operator is too slow for is left out, counted and said, as it is
 * where there is one process.
 */
import type { Asker } from './core/control.js'
import type { Worker } from './core/workers/worker.js'

/** What the worker tells, on its way to one asker. */
export interface Ear extends Asker {
  /** Ids of connections, as the worker knows them. */
  readonly taps: Set<string>
}

export class WorkerTaps {
  readonly #ears = new WeakMap<Asker, Map<Worker, Ear>>()

  workersOf(asker: Asker | undefined): readonly Worker[] {
    return asker === undefined ? [] : [...(this.#ears.get(asker)?.keys() ?? [])]
  }

  /** One for each asker and worker. @param name - Of the worker, as the asker knows it. */
  earOf(asker: Asker, worker: Worker, name: string): Ear {
    const ears = this.#ears.get(asker) ?? new Map<Worker, Ear>()
    this.#ears.set(asker, ears)
    const known = ears.get(worker)
    if (known !== undefined) return known
    const ear = makeEar(asker, name)
    ears.set(worker, ear)
    void worker.ended.then(() => {
      ears.delete(worker)
      const error = `worker ${name} has ended`
      for (const id of ear.taps) ear.tell({ tap: id, closed: { code: 'WORKER_ENDED', by: 'server', error } })
    })
    return ear
  }
}

function makeEar(asker: Asker, name: string): Ear {
  const taps = new Set<string>()
  const left = new Map<string, number>()
  const leave = (tap: string, count: number) => {
    left.set(tap, (left.get(tap) ?? 0) + count)
    return false
  }
  return {
    taps,
    closed: asker.closed,
    tell(line) {
      const { tap: id, leftOut, ...more } = line as { tap: string; leftOut?: number }
      const tap = `${name}/${id}`
      const missing = (left.get(id) ?? 0) + (leftOut ?? 0)
      const isLast = 'closed' in more
      if (isLast) taps.delete(id)
      if (missing > 0) {
        if (!asker.tell({ tap, leftOut: missing })) {
          left.set(id, missing)
          if (leftOut === undefined && !isLast) leave(id, 1)
          return false
        }
        left.delete(id)
      }
      if (leftOut !== undefined) return true
      if (asker.tell({ tap, ...more })) return true
      return isLast ? false : leave(id, 1)
    },
  }
}
