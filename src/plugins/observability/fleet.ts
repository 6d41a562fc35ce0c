/**
 * The figures of several processes over time: counters never fall, whoever of them ends.
 *
 * Room: plugins/observability. Of a process that has ended what it last said is kept, added up with all before it: bounded by the
 * number of series, not of processes. Of one that does not answer, what it last said stands in.
 */
import type { ObserverReport, Reports } from '../../core/control.js'
import { mergeSnapshots } from './merge.js'
import type { Family, Snapshot, ValueSample } from './series.js'

const none: Snapshot = { worker: undefined, workers: 0, families: [] }

export class Fleet {
  /** Of those that live. */
  readonly #last = new Map<string, Snapshot>()
  /** Of those that do not, without what is only true of the living. */
  #past: Snapshot = none
  /** Those among the answers that are in `past` already. */
  #counted = new Set<string>()

  take(given: Reports): Snapshot {
    const { reports } = given
    const counted = new Set<string>()
    for (const { process, state, report } of reports) {
      if (this.#counted.has(process)) counted.add(process)
      else {
        if (isSnapshot(report)) this.#last.set(process, report)
        if (state !== 'ended') continue
        this.#bury(process)
        counted.add(process)
      }
    }
    this.#counted = counted
    const present = new Set(reports.map(({ process }) => process))
    for (const process of this.#last.keys()) if (!present.has(process)) this.#bury(process)
    const living = [...this.#last.values()]
    const isAlone = reports.length === 1 && reports[0]?.worker === undefined && this.#past === none
    if (isAlone) return living[0] ?? none
    const { families } = mergeSnapshots([...living, this.#past])
    return { worker: undefined, workers: living.length, families: [...families, ...this.#ofWorkers(given)] }
  }

  #bury(process: string): void {
    const last = this.#last.get(process)
    this.#last.delete(process)
    if (last === undefined) return
    const families = last.families.filter(({ type }) => type !== 'gauge')
    this.#past = mergeSnapshots([this.#past, { worker: undefined, workers: 0, families }])
  }

  #ofWorkers({ expected, reports, counters }: Reports): Family[] {
    const living = servingOf(reports)
    const each = (value: (one: ObserverReport) => number | undefined): ValueSample[] =>
      living.flatMap((one) => {
        const found = value(one)
        return found === undefined ? [] : [{ labels: { worker: one.worker as string }, value: found }]
      })
    const figure = (name: string) => (one: ObserverReport) => sumOf(this.#last.get(one.process), name)
    const gauge = (name: string, help: string, samples: readonly ValueSample[]): Family => ({
      name,
      help,
      type: 'gauge',
      merge: 'sum',
      samples,
    })
    const counter = (name: string, help: string, value: number): Family => ({
      name,
      help,
      type: 'counter',
      merge: 'sum',
      samples: [{ labels: {}, value }],
    })
    return [
      gauge('gaidaros_workers_expected', 'Server processes that shall serve.', [{ labels: {}, value: expected }]),
      gauge(
        'gaidaros_worker_up',
        'Whether the worker has said its figures: 0 while it starts, and when it does not answer in time.',
        each(({ report }) => (isSnapshot(report) ? 1 : 0)),
      ),
      gauge('gaidaros_worker_connections_open', 'Connections open now.', each(figure('gaidaros_connections_open'))),
      gauge(
        'gaidaros_worker_resident_memory_bytes',
        'Resident memory of the worker.',
        each(figure('process_resident_memory_bytes')),
      ),
      counter(
        'gaidaros_workers_lost_total',
        'Workers that ended without having been told to.',
        counters['workers.lost'] ?? 0,
      ),
      counter('gaidaros_reloads_total', 'Reloads that succeeded.', counters.reloads ?? 0),
    ]
  }
}

/** One process for each place among the workers: who serves there, or else who will. */
export function servingOf(reports: readonly ObserverReport[]): readonly ObserverReport[] {
  const serving = new Map<string, ObserverReport>()
  for (const one of reports) {
    const { worker, state } = one
    // Who drains has been replaced, or is being replaced.
    if (worker === undefined || state === 'draining' || state === 'ended') continue
    if (state === 'ready' || !serving.has(worker)) serving.set(worker, one)
  }
  return [...serving.values()]
}

function sumOf(snapshot: Snapshot | undefined, name: string): number | undefined {
  const family = snapshot?.families.find((one) => one.name === name)
  if (family === undefined || family.type === 'histogram') return undefined
  return family.samples.reduce((sum, { value }) => sum + value, 0)
}

function isSnapshot(value: unknown): value is Snapshot {
  return typeof value === 'object' && value !== null && Array.isArray((value as Snapshot).families)
}
