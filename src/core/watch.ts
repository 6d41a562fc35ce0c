/**
 * Looks at the process once a second: its memory, its heap, its descriptors.
 *
 * Room: core, mechanism of the server. Node says nothing when descriptors run out, and the kernel nothing before it kills;
 * so newcomers wait at 85 % of the memory and idle connections are cut at 95 %. Descriptors are kept below 90 % by the
 * transports themselves, which refuse; here it is only said.
 */
import type { Alarms } from './alarms.js'
import { Threshold } from './alarms.js'
import type { Clock } from './clock.js'
import { toError } from './errors.js'
import type { Usage } from './usage.js'

export interface WatchParts {
  readonly clock: Clock
  readonly everyMs: number
  readonly alarms: Alarms
  measure(): Usage
  /** Newcomers wait from now on, or no longer. */
  holdNewcomers(isHeld: boolean): void
  /** A look has failed; told once until one succeeds. */
  failed(error: Error): void
  /** Cuts connections that do nothing, those first that did nothing for longest. @param share - Of them all. */
  shedIdle(share: number): void
}

/** Of the idle ones, at each look; the next look sees what it has brought. */
const SHED_SHARE = 0.1

export class Watch {
  readonly #parts: WatchParts
  readonly #waiting = new Threshold(0.85, 0.8)
  readonly #shedding = new Threshold(0.95, 0.95)
  readonly #descriptors = new Threshold(0.9, 0.85)
  #isHeld = false
  #hasFailed = false
  #cancel: (() => void) | undefined

  constructor(parts: WatchParts) {
    this.#parts = parts
  }

  start(): void {
    const { clock, everyMs } = this.#parts
    if (everyMs === Number.POSITIVE_INFINITY) return
    this.#cancel = clock.after(everyMs, () => {
      this.#try()
      this.start()
    })
  }

  /** What looks after the process must not be able to end it. */
  #try(): void {
    try {
      this.look()
      this.#hasFailed = false
    } catch (thrown) {
      if (!this.#hasFailed) this.#parts.failed(toError(thrown))
      this.#hasFailed = true
    }
  }

  stop(): void {
    this.#cancel?.()
    this.#cancel = undefined
  }

  look(): void {
    const { alarms, measure, holdNewcomers, shedIdle } = this.#parts
    const usage = measure()
    const { residentBytes, residentLimit, heapBytes, heapLimit, descriptors, descriptorLimit } = usage
    const isHeapWorse = heapBytes / heapLimit > residentBytes / residentLimit
    const [value, limit] = isHeapWorse ? [heapBytes, heapLimit] : [residentBytes, residentLimit]
    const isHigh = this.#waiting.at(value, limit)
    alarms.set('memory', undefined, isHigh, value, limit)
    if (isHigh !== this.#isHeld) {
      this.#isHeld = isHigh
      holdNewcomers(isHigh)
    }
    if (this.#shedding.at(value, limit)) shedIdle(SHED_SHARE)
    if (descriptors === undefined || descriptorLimit === undefined) return
    alarms.set(
      'descriptors',
      undefined,
      this.#descriptors.at(descriptors, descriptorLimit),
      descriptors,
      descriptorLimit,
    )
  }
}
