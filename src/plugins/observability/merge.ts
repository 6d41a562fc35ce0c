/**
 * Several processes' figures as one.
 *
 * Room: plugins/observability. Pure: a supervisor that has its workers' snapshots, however they came, calls it.
 */
import type { Family, HistogramSample, Labels, Snapshot, ValueSample } from './series.js'

/**
 * Adds snapshots up: counters and histograms are summed, gauges as each family says (`sum`, or `max` where a sum means
 * nothing). Families that only some have are taken as they are; histograms whose bounds differ keep the first one's.
 *
 * @returns a snapshot of no single worker, whose `workers` is how many processes are in it.
 */
export function mergeSnapshots(snapshots: readonly Snapshot[]): Snapshot {
  const families = new Map<string, Family>()
  for (const snapshot of snapshots) {
    for (const family of snapshot.families) {
      const known = families.get(family.name)
      families.set(family.name, known === undefined ? family : merged(known, family))
    }
  }
  return {
    worker: undefined,
    workers: snapshots.reduce((sum, { workers }) => sum + workers, 0),
    families: [...families.values()],
  }
}

function merged(one: Family, other: Family): Family {
  if (one.type === 'histogram') {
    const fits = other.type === 'histogram' && sameBounds(one.bounds, other.bounds)
    return fits ? { ...one, samples: byLabels(one.samples, other.samples, addUp) } : one
  }
  if (other.type !== one.type) return one
  const combine = (a: ValueSample, b: ValueSample): ValueSample => ({
    labels: a.labels,
    value: one.merge === 'max' ? Math.max(a.value, b.value) : a.value + b.value,
  })
  return { ...one, samples: byLabels(one.samples, other.samples, combine) }
}

function addUp(a: HistogramSample, b: HistogramSample): HistogramSample {
  return { labels: a.labels, counts: a.counts.map((count, i) => count + (b.counts[i] ?? 0)), sum: a.sum + b.sum }
}

function byLabels<S extends { readonly labels: Labels }>(
  one: readonly S[],
  other: readonly S[],
  combine: (a: S, b: S) => S,
): S[] {
  const all = new Map(one.map((sample) => [keyOf(sample.labels), sample]))
  for (const sample of other) {
    const key = keyOf(sample.labels)
    const known = all.get(key)
    all.set(key, known === undefined ? sample : combine(known, sample))
  }
  return [...all.values()]
}

function keyOf(labels: Labels): string {
  return JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)))
}

function sameBounds(one: readonly number[], other: readonly number[]): boolean {
  return one.length === other.length && one.every((bound, i) => bound === other[i])
}
