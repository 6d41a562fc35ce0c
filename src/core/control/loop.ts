/**
 * How late the event loop is, measured while somebody asks.
 *
 * Room: core, mechanism of the control socket.
 */
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks'

export interface LoopFacts {
  /** Since the last time somebody asked. */
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
}

const RESOLUTION_MS = 10

export class LoopWatch {
  #histogram: IntervalHistogram | undefined

  /** @returns undefined at the first call, which begins to measure. */
  read(): LoopFacts | undefined {
    if (this.#histogram === undefined) {
      this.#histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
      this.#histogram.enable()
      return undefined
    }
    const histogram = this.#histogram
    // It counts the whole interval of its timer.
    const late = (nanoseconds: number) =>
      Number.isFinite(nanoseconds) ? Math.max(0, Math.round((nanoseconds / 1e6 - RESOLUTION_MS) * 100) / 100) : 0
    const facts = {
      p50Ms: late(histogram.percentile(50)),
      p99Ms: late(histogram.percentile(99)),
      maxMs: histogram.max > 0 && histogram.min <= histogram.max ? late(histogram.max) : 0,
    }
    histogram.reset()
    return facts
  }

  stop(): void {
    this.#histogram?.disable()
    this.#histogram = undefined
  }
}
