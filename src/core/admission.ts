/**
 * Who is let in: connections at a time, of one source, and newcomers a second.
 *
 * Room: core, mechanism of the listener. Sources are counted only while there is a limit for them; a limit that is set while
 * the server runs counts those who are there. Whoever was counted in is counted out of the same source, wherever it has moved.
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
  /** As what each who is in was counted. */
  readonly #counted = new Map<object, string>()
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

  /** @param present - Who is in, with the host of each, for sources that were not counted before. */
  change(
    limits: Partial<AdmissionLimits>,
    present: Iterable<readonly [object, string | undefined]>,
    now: number,
  ): void {
    const counted = this.#countsSources
    this.#limits = { ...this.#limits, ...limits }
    if (!this.#countsSources) {
      this.#bySource.clear()
      this.#counted.clear()
    } else if (!counted) for (const [who, host] of present) this.#count(who, host)
    if (limits.acceptRate !== undefined) this.#setRate(limits.acceptRate, now)
  }

  /**
   * Why a newcomer is not let in; undefined: it may. One that is let in has used up its part of the rate.
   *
   * @param host - Undefined: it has no address. Asked only where sources are counted.
   * @param isAddressed - Whoever comes this way has an address: one without cannot be counted.
   * @param isSourceKnown - False: for whom it comes is said later.
   */
  refusal(
    connections: number,
    host: () => string | undefined,
    now: number,
    isAddressed = false,
    isSourceKnown = true,
  ): 'connections' | 'source' | 'rate' | 'unknown-address' | undefined {
    if (connections >= this.#limits.connections) return 'connections'
    if (this.#countsSources) {
      const address = host()
      if (address === undefined && isAddressed) return 'unknown-address'
      if (isSourceKnown && !this.#hasRoom(address)) return 'source'
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

  /** Counts it for its source. @returns false: that has as many as it may, and it is not counted. */
  enter(who: object, host: () => string | undefined): boolean {
    if (!this.#countsSources) return true
    const address = host()
    if (!this.#hasRoom(address)) return false
    this.#count(who, address)
    return true
  }

  /** Its source is known better, or for the first time. @returns false: that has as many as it may, and it is not counted. */
  move(who: object, host: () => string | undefined): boolean {
    this.left(who)
    return this.enter(who, host)
  }

  /** Somebody else stands in its place. */
  handOver(from: object, to: object): void {
    const source = this.#counted.get(from)
    if (source === undefined) return
    this.#counted.delete(from)
    this.#counted.set(to, source)
  }

  left(who: object): void {
    const source = this.#counted.get(who)
    if (source === undefined) return
    this.#counted.delete(who)
    const count = (this.#bySource.get(source) ?? 1) - 1
    if (count > 0) this.#bySource.set(source, count)
    else this.#bySource.delete(source)
  }

  get #countsSources(): boolean {
    return this.#limits.connectionsPerSource !== Number.POSITIVE_INFINITY
  }

  #hasRoom(host: string | undefined): boolean {
    if (host === undefined) return true
    return (this.#bySource.get(networkOf(host, IPV6_PREFIX)) ?? 0) < this.#limits.connectionsPerSource
  }

  #count(who: object, host: string | undefined): void {
    if (host === undefined) return
    const source = networkOf(host, IPV6_PREFIX)
    this.#counted.set(who, source)
    this.#bySource.set(source, (this.#bySource.get(source) ?? 0) + 1)
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
