/**
 * Counters, gauges and histograms, and what they are at one moment: plain data that can be sent and added up.
 *
 * Room: plugins/observability. Names follow Prometheus: base units (seconds, bytes), `_total` for what only grows. Labels are
 * bounded: a peer or an application that makes up reasons cannot make up series without end.
 */

import { Words } from '../../core/counters.js'

export type Labels = Readonly<Record<string, string>>
export type FamilyType = 'counter' | 'gauge' | 'histogram'

export interface ValueSample {
  readonly labels: Labels
  readonly value: number
}

export interface HistogramSample {
  readonly labels: Labels
  /** How many were at most each bound, not added up; the last is the rest. */
  readonly counts: readonly number[]
  readonly sum: number
}

/** All series of one name. */
export type Family = {
  readonly name: string
  readonly help: string
} & (
  | {
      readonly type: 'counter' | 'gauge'
      /** How workers' values become one. */
      readonly merge: 'sum' | 'max'
      readonly samples: readonly ValueSample[]
    }
  | {
      readonly type: 'histogram'
      /** Upper bounds, ascending, `+Inf` left out. */
      readonly bounds: readonly number[]
      readonly samples: readonly HistogramSample[]
    }
)

/** Everything a process measured, at one moment. */
export interface Snapshot {
  /** Whose it is; undefined: of all `workers` together, or of a server that has no workers. */
  readonly worker: string | undefined
  /** How many processes are in it. */
  readonly workers: number
  readonly families: readonly Family[]
}

/**
 * As a whole number of 2^-20 ths: such sums are the same in whatever order processes' figures are added up. Other fractions
 * could make a total fall by its last digit when a worker ends, which Prometheus takes for a restart and counts anew.
 */
export function additive(value: number): number {
  return Math.round(value * 2 ** 20) / 2 ** 20
}

/** A family's series beyond this many are one, whose labels say `other`. */
const MOST_SERIES = 200

/** Values by labels. */
export class Values {
  readonly #names: readonly string[]
  readonly #words: Words[] = []
  readonly #samples = new Map<string, { readonly labels: Labels; value: number }>()

  /** @param names - The labels each sample has, in order. */
  constructor(...names: string[]) {
    this.#names = names
  }

  add(amount: number, ...values: string[]): void {
    this.#of(values).value += amount
  }

  set(value: number, ...values: string[]): void {
    this.#of(values).value = value
  }

  get samples(): ValueSample[] {
    return [...this.#samples.values()].map(({ labels, value }) => ({ labels, value }))
  }

  #wordsOf(label: number): Words {
    return (this.#words[label] ??= new Words())
  }

  #of(values: readonly string[]): { value: number } {
    const key = values.length === 1 ? (values[0] as string) : JSON.stringify(values)
    const known = this.#samples.get(key)
    if (known !== undefined) return known
    if (this.#samples.size >= MOST_SERIES && values.some((value) => value !== 'other'))
      return this.#of(values.map(() => 'other'))
    // Told apart one label at a time, so that a flood of reasons leaves the names of listeners alone.
    const bounded = values.map((value, i) => this.#wordsOf(i).of(value))
    if (bounded.some((value, i) => value !== values[i])) return this.#of(bounded)
    const labels = Object.fromEntries(this.#names.map((name, i) => [name, values[i] ?? '']))
    const made = { labels, value: 0 }
    this.#samples.set(key, made)
    return made
  }
}

/** How often something took how long. Nothing is made when something is added. */
export class Histogram {
  readonly labels: Labels
  readonly #bounds: Float64Array
  readonly #counts: Float64Array
  #sum = 0

  constructor(bounds: readonly number[], labels: Labels) {
    this.labels = labels
    this.#bounds = Float64Array.from(bounds)
    this.#counts = new Float64Array(bounds.length + 1)
  }

  add(value: number): void {
    const bounds = this.#bounds
    // From below: most of what is measured is quick.
    let at = 0
    while (at < bounds.length && value > (bounds[at] as number)) at++
    ;(this.#counts[at] as number)++
    this.#sum += value
  }

  get sample(): HistogramSample {
    return { labels: this.labels, counts: [...this.#counts], sum: additive(this.#sum) }
  }
}
