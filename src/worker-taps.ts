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
  /** The asker is being answered that this one is tapped: what it tells comes behind the answer. */
  answered(id: string): void
}

/** A worker's answer and what it tells next may arrive in one piece; so many lines wait for the answer to be out. */
const MOST_EARLY = 64

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
      const closed = { code: 'WORKER_ENDED', by: 'server', error: `worker ${name} has ended` }
      setImmediate(() => {
        for (const id of ear.taps) ear.tell({ tap: id, closed })
      })
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
  const early = new Map<string, object[]>()
  const ear: Ear = {
    taps,
    closed: asker.closed,
    answered(id) {
      setImmediate(() => {
        taps.add(id)
        for (const line of early.get(id) ?? []) ear.tell(line)
        early.delete(id)
      })
    },
    tell(line) {
      const { tap: id, leftOut, ...more } = line as { tap: string; leftOut?: number }
      if (!taps.has(id)) {
        const lines = early.get(id) ?? []
        early.set(id, lines)
        if (lines.length >= MOST_EARLY) return leave(id, leftOut ?? 1)
        lines.push(line)
        return true
      }
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
  return ear
}
