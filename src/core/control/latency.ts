/**
 * How long messages take, in buckets that can be added up and subtracted.
 *
 * Room: core, mechanism of the control socket. Four buckets an octave from 1 µs to some 100 s: 19 % wide, 112 numbers.
 * Recording is two readings of the clock and one increment; nothing is kept of a message.
 */

/** `[bucket, count]`, only those with a count; sums of several processes are sums of these. */
export type Buckets = readonly (readonly [bucket: number, count: number])[]

const SIZE = 112
const AN_OCTAVE = 4

export class LatencyRecorder {
  readonly #counts = new Float64Array(SIZE)

  record(ms: number): void {
    const octaves = Math.log2(Math.max(1, ms * 1_000))
    const bucket = Math.min(SIZE - 1, Math.floor(octaves * AN_OCTAVE))
    this.#counts[bucket] = (this.#counts[bucket] as number) + 1
  }

  get buckets(): Buckets {
    const buckets: [number, number][] = []
    this.#counts.forEach((count, bucket) => {
      if (count > 0) buckets.push([bucket, count])
    })
    return buckets
  }
}

export function addBuckets(all: readonly Buckets[]): Buckets {
  const sums = new Map<number, number>()
  for (const [bucket, count] of all.flat()) sums.set(bucket, (sums.get(bucket) ?? 0) + count)
  return [...sums].sort(([a], [b]) => a - b)
}

/** What was recorded between two readings of one recorder. */
export function sinceBuckets(now: Buckets, before: Buckets): Buckets {
  const old = new Map(before)
  return now.flatMap(([bucket, count]) => {
    const more = count - (old.get(bucket) ?? 0)
    return more > 0 ? [[bucket, more] as const] : []
  })
}

export function countOf(buckets: Buckets): number {
  return buckets.reduce((sum, [, count]) => sum + count, 0)
}

/** Milliseconds; undefined where nothing was recorded. The middle of the bucket that holds it, so at most 10 % off. */
export function quantile(buckets: Buckets, q: number): number | undefined {
  let left = Math.ceil(countOf(buckets) * q)
  for (const [bucket, count] of buckets) {
    left -= count
    if (left <= 0) return 2 ** ((bucket + 0.5) / AN_OCTAVE) / 1_000
  }
  return undefined
}
