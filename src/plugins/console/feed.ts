/**
 * What the page shows: the server's state once a second and its last minutes, measured only while somebody looks.
 *
 * Room: plugins/console. The cost is bounded whatever asks: one sample a second however many pages there are, and lists of
 * connections take at most a twentieth of the time.
 */

import { addBuckets, type Buckets, countOf, quantile, sinceBuckets } from '../../core/control/latency.js'
import type { ConnectionPage, ControlRequest, ListenerStatus, Status } from '../../core/control.js'

/** Seconds of history. */
const MOST_POINTS = 300
const SAMPLE_MS = 1_000
/** Nobody has looked for so long: measuring stops, and what was measured is forgotten. */
const UNWATCHED_MS = 15_000
const SHARE = 20

/** One second, in the order of `pointKeys`; null where nothing is known. */
export type Point = readonly (number | null)[]
export const pointKeys = [
  'seq',
  'at',
  'connections',
  'messagesIn',
  'messagesOut',
  'bytesIn',
  'bytesOut',
  'p50Ms',
  'p99Ms',
  'loopMs',
  'residentBytes',
] as const

interface Rates {
  readonly messagesIn: number
  readonly messagesOut: number
  readonly bytesIn: number
  readonly bytesOut: number
  readonly p50Ms: number | null
  readonly p99Ms: number | null
}

export interface State {
  readonly status: Status
  /** By the listener's name. */
  readonly rates: Readonly<Record<string, Rates>>
  readonly pointKeys: readonly string[]
  readonly points: readonly Point[]
}

/** What it asks; a supervisor's answer may take a while. */
interface Source {
  ask(request: { readonly command: string; readonly [key: string]: unknown }): unknown
}

export class Feed {
  readonly #source: Source
  #timer: NodeJS.Timeout | undefined
  #lookedAt = 0
  #status: Status | undefined
  #sampledAt = 0
  #rates: Record<string, Rates> = Object.create(null)
  #points: Point[] = []
  #seq = 0
  #sampling: Promise<void> | undefined
  #listsFrom = 0
  #lastList: { readonly key: string; readonly page: ConnectionPage } | undefined

  constructor(source: Source) {
    this.#source = source
  }

  /** @param since - The newest point the page has. */
  async state(since: number): Promise<State> {
    this.#lookedAt = performance.now()
    if (this.#timer === undefined) {
      this.#timer = setInterval(() => void this.#tick(), SAMPLE_MS)
      this.#timer.unref()
    }
    if (this.#status === undefined) await (this.#sampling ?? this.#sample())
    return {
      status: this.#status as unknown as Status,
      rates: this.#rates,
      pointKeys,
      points: this.#points.filter(([seq]) => (seq as number) > since),
    }
  }

  /** @returns the page asked for; or, while its share of time is spent, the last one of the same question or nothing. */
  async connections(query: ControlRequest): Promise<ConnectionPage | undefined> {
    const key = JSON.stringify(query)
    const now = performance.now()
    if (now < this.#listsFrom) return this.#lastList?.key === key ? this.#lastList.page : undefined
    const page = (await this.#source.ask({ ...query, command: 'connections' })) as ConnectionPage
    const end = performance.now()
    this.#listsFrom = end + (end - now) * SHARE
    this.#lastList = { key, page }
    return page
  }

  async order(request: { readonly command: string; readonly [key: string]: unknown }): Promise<unknown> {
    return this.#source.ask(request)
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#status = undefined
    this.#points = []
  }

  async #tick(): Promise<void> {
    if (performance.now() - this.#lookedAt > UNWATCHED_MS) this.stop()
    else if (this.#sampling === undefined) await this.#sample().catch(() => {})
  }

  async #sample(): Promise<void> {
    this.#sampling = this.#take()
    try {
      await this.#sampling
    } finally {
      this.#sampling = undefined
    }
  }

  async #take(): Promise<void> {
    const status = (await this.#source.ask({ command: 'status', watch: true })) as Status
    const now = performance.now()
    const before = this.#status
    const seconds = (now - this.#sampledAt) / 1_000
    this.#status = status
    this.#sampledAt = now
    if (before === undefined) return
    const rates: Record<string, Rates> = Object.create(null)
    const all: Buckets[] = []
    for (const listener of status.listeners) {
      const old = before.listeners.find(({ name }) => name === listener.name)
      const latest = sinceBuckets(listener.latency ?? [], old?.latency ?? [])
      all.push(latest)
      rates[listener.name] = ratesOf(listener, old, seconds, latest)
    }
    this.#rates = rates
    const sum = (key: 'messagesIn' | 'messagesOut' | 'bytesIn' | 'bytesOut') =>
      Object.values(rates).reduce((total, one) => total + one[key], 0)
    const latest = addBuckets(all)
    this.#points.push([
      ++this.#seq,
      Date.now(),
      status.connections,
      sum('messagesIn'),
      sum('messagesOut'),
      sum('bytesIn'),
      sum('bytesOut'),
      ...quantiles(latest),
      status.loop?.p99Ms ?? null,
      status.memory.residentBytes,
    ])
    if (this.#points.length > MOST_POINTS) this.#points.shift()
  }
}

function ratesOf(now: ListenerStatus, before: ListenerStatus | undefined, seconds: number, latest: Buckets): Rates {
  const per = (key: keyof ListenerStatus['traffic']) =>
    round(Math.max(0, now.traffic[key] - (before?.traffic[key] ?? now.traffic[key])) / seconds)
  const [p50Ms, p99Ms] = quantiles(latest)
  return {
    messagesIn: per('messagesIn'),
    messagesOut: per('messagesOut'),
    bytesIn: per('bytesIn'),
    bytesOut: per('bytesOut'),
    p50Ms,
    p99Ms,
  }
}

function quantiles(buckets: Buckets): [number | null, number | null] {
  if (countOf(buckets) === 0) return [null, null]
  return [round(quantile(buckets, 0.5) ?? 0), round(quantile(buckets, 0.99) ?? 0)]
}

function round(value: number): number {
  return Number(value.toPrecision(4))
}
