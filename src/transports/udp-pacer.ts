/**
 * Sends datagrams no faster than a rate: what goes out in one burst is dropped by queues on the way, ours among them.
 *
 * Room: transports. One a socket, shared by its peers, in the order in which they wrote. Only where `socket.sendRate` is set.
 */

/** A turn of the timer at most; the kernel and the path take so much at once. */
const BURST_MS = 5
/** A whole datagram always fits. */
const LEAST_BURST_BYTES = 2 * 1_500
/** A timer that comes late loses nothing up to here: somebody has waited for it. */
const LATE_MS = 250

interface Waiting {
  readonly bytes: number
  readonly send: () => void
}

export class UdpPacer {
  readonly #perMs: number
  readonly #burst: number
  #level: number
  #at = performance.now()
  #waiting: Waiting[] = []
  #timer: NodeJS.Timeout | undefined

  /** @param rate - Bytes a second, headers excluded. */
  constructor(rate: number) {
    this.#perMs = rate / 1_000
    this.#burst = Math.max(LEAST_BURST_BYTES, this.#perMs * BURST_MS)
    this.#level = this.#burst
  }

  /** Runs `send` now, or once what went before is paid for. */
  pace(bytes: number, send: () => void): void {
    if (this.#waiting.length === 0 && this.#refill(this.#burst) >= 0) {
      this.#level -= bytes
      send()
      return
    }
    this.#waiting.push({ bytes, send })
    this.#wait()
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#waiting = []
  }

  #refill(most: number): number {
    const now = performance.now()
    this.#level = Math.max(this.#level, Math.min(most, this.#level + (now - this.#at) * this.#perMs))
    this.#at = now
    return this.#level
  }

  #wait(): void {
    this.#timer ??= setTimeout(() => this.#goOn(), Math.max(1, -this.#level / this.#perMs))
  }

  #goOn(): void {
    this.#timer = undefined
    const waiting = this.#waiting
    let sent = 0
    this.#refill(this.#burst + this.#perMs * LATE_MS)
    while (sent < waiting.length && this.#level >= 0) {
      const { bytes, send } = waiting[sent++] as Waiting
      this.#level -= bytes
      send()
    }
    // One move for all that went, so that a long queue costs no more a datagram than a short one.
    this.#waiting = this.#waiting === waiting ? waiting.slice(sent) : this.#waiting
    if (this.#waiting.length > 0) this.#wait()
  }
}
