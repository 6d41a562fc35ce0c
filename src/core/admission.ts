/**
 * Who is let in: connections at a time, of one source, and newcomers a second.
 *
 * Room: core, mechanism of the listener. Sources are counted only while there is a limit for them; a limit that is set while
 * the server runs counts those who are there.
 */
import { WiringError } from './errors.js'
import { networkOf } from './networks.js'
import { TokenBucket } from './token-bucket.js'

/** What may be changed while a listener runs. */
export interface AdmissionLimits {
  connections: number
  connectionsPerSource: number
  acceptRate: number
}

/** Bits of an IPv6 address that make a source. */
const IPV6_PREFIX = 64

export class Admission {
  #limits: AdmissionLimits
  readonly #bySource = new Map<string, number>()
  #rate: TokenBucket | undefined
  /** Newcomers wait before they come here; one that could not be stopped any more makes the next wait longer. */
  readonly #lendsRate: boolean

  constructor(limits: AdmissionLimits & { readonly whenFull?: 'refuse' | 'pause' }, now: number) {
    this.#lendsRate = limits.whenFull === 'pause'
    const { connections, connectionsPerSource, acceptRate } = limits
    this.#limits = { connections, connectionsPerSource, acceptRate }
    this.#setRate(acceptRate, now)
  }

  get limits(): Readonly<AdmissionLimits> {
    return this.#limits
  }

  /** @param present - Hosts of those who are connected, for sources that were not counted before. */
  change(limits: Partial<AdmissionLimits>, present: Iterable<string | undefined>, now: number): void {
    this.#limits = { ...this.#limits, ...limits }
    this.#bySource.clear()
    if (this.#countsSources) for (const host of present) this.#count(host, 1)
    if (limits.acceptRate !== undefined) this.#setRate(limits.acceptRate, now)
  }

  /** Why a newcomer is not let in; undefined: it may. One that is let in has used up its part of the rate. */
  refusal(
    connections: number,
    host: () => string | undefined,
    now: number,
  ): 'connections' | 'source' | 'rate' | undefined {
    if (connections >= this.#limits.connections) return 'connections'
    if (this.#countsSources) {
      const source = host()
      const count = source === undefined ? 0 : (this.#bySource.get(networkOf(source, IPV6_PREFIX)) ?? 0)
      if (count >= this.#limits.connectionsPerSource) return 'source'
    }
    if (this.#rate === undefined) return undefined
    if (this.#rate.lack(1, now) > 0 && !this.#lendsRate) return 'rate'
    this.#rate.spend(1)
    return undefined
  }

  /** Milliseconds until the rate lets the next one in. */
  waitMs(now: number): number {
    return this.#rate === undefined ? 0 : Math.ceil(this.#rate.lack(1, now))
  }

  entered(host: () => string | undefined): void {
    if (this.#countsSources) this.#count(host(), 1)
  }

  left(host: () => string | undefined): void {
    if (this.#countsSources) this.#count(host(), -1)
  }

  get #countsSources(): boolean {
    return this.#limits.connectionsPerSource !== Number.POSITIVE_INFINITY
  }

  #count(host: string | undefined, by: 1 | -1): void {
    if (host === undefined) return
    const source = networkOf(host, IPV6_PREFIX)
    const count = (this.#bySource.get(source) ?? 0) + by
    if (count > 0) this.#bySource.set(source, count)
    else this.#bySource.delete(source)
  }

  #setRate(perSecond: number, now: number): void {
    this.#rate = perSecond === Number.POSITIVE_INFINITY ? undefined : new TokenBucket(perSecond, perSecond, now)
  }
}

/**
 * Limits given while the server runs, checked.
 *
 * @param who - For the error: `listener public`.
 * @throws {WiringError} `BAD_OPTION`; nothing is changed.
 */
export function checkLive<T extends object>(who: string, given: T, known: readonly string[]): T {
  for (const [key, value] of Object.entries(given)) {
    const isLimit =
      typeof value === 'number' && value >= 0 && (Number.isInteger(value) || value === Number.POSITIVE_INFINITY)
    if (known.includes(key) && isLimit) continue
    const names = `${known.slice(0, -1).join(', ')} or ${known.at(-1)}`
    throw new WiringError(
      'BAD_OPTION',
      `${who}: setLimits takes ${names}, a whole number or Infinity; got ${key}: ${String(value)}`,
    )
  }
  return given
}
