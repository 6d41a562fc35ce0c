/**
 * How fast a peer is: what it sends while a frame of it is incomplete, what it takes while replies wait for it.
 *
 * Room: core, mechanism of the session; there is one only where `limits.minBytesPerSecond` is set. Looked at once a second,
 * never on the way of a byte.
 */

/** How often a connection is looked at. */
export const PACE_MS = 1_000

interface Window {
  /** 0: nothing is owed. */
  since: number
  from: number
}

export class Pace {
  readonly #perMs: number
  readonly #graceMs: number
  readonly #sending: Window = { since: 0, from: 0 }
  readonly #taking: Window = { since: 0, from: 0 }

  constructor(minBytesPerSecond: number, graceMs: number) {
    this.#perMs = minBytesPerSecond / 1_000
    this.#graceMs = graceMs
  }

  /**
   * @param frameSince - When the unfinished frame began; 0: there is none, or we do not read.
   * @param sent - Bytes that came from the peer so far.
   * @param waiting - Bytes that wait for it.
   * @param taken - Bytes that went to it so far.
   * @returns what it is too slow at.
   */
  check(
    now: number,
    frameSince: number,
    sent: number,
    waiting: number,
    taken: number,
  ): 'sending' | 'taking' | undefined {
    // A frame that began after the last look starts its time then.
    if (frameSince > this.#sending.since) this.#sending.since = 0
    if (this.#isSlow(this.#sending, now, frameSince > 0, sent)) return 'sending'
    return this.#isSlow(this.#taking, now, waiting > 0, taken) ? 'taking' : undefined
  }

  #isSlow(window: Window, now: number, isOwed: boolean, bytes: number): boolean {
    if (!isOwed) {
      window.since = 0
      return false
    }
    if (window.since === 0) {
      window.since = now
      window.from = bytes
      return false
    }
    const lasted = now - window.since
    if (lasted < this.#graceMs) return false
    const moved = bytes - window.from
    window.since = now
    window.from = bytes
    return moved < lasted * this.#perMs
  }
}
