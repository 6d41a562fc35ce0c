/**
 * Who waits for a budget of the rate limit, and who is next: connections in turn, each with its messages in order.
 *
 * Room: plugins/middleware. In turn, because a peer that pipelines would otherwise make all the others wait for what it has asked; and
 * nothing is spent before its message passes, so that one that has left makes nobody wait.
 */
import type { Clock } from '../../core/clock.js'
import type { Connection } from '../../core/connection.js'
import type { TokenBucket } from '../../core/token-bucket.js'

/** What sums of floating-point numbers are off by at most, and far less than a timer is. */
const ROUNDING_MS = 1e-6

interface Entry {
  readonly bytes: number
  readonly signal: AbortSignal
  readonly pass: () => void
  readonly leave: () => void
}

/** One connection's messages that wait. */
interface Line {
  readonly entries: Entry[]
  /** One listener a signal, however many messages wait by it. */
  readonly heard: Map<AbortSignal, () => void>
}

export class RateQueue {
  readonly #messages: TokenBucket | undefined
  readonly #bytes: TokenBucket | undefined
  readonly #clock: Clock
  /** In the order in which they have their turn. */
  readonly #lines = new Map<Connection, Line>()
  #waiting = 0
  #waitingBytes = 0
  #cancel: (() => void) | undefined

  constructor(messages: TokenBucket | undefined, bytes: TokenBucket | undefined, clock: Clock) {
    this.#messages = messages
    this.#bytes = bytes
    this.#clock = clock
  }

  /** Milliseconds until a message may pass, in whole ones; 0: it has passed, and is paid for. */
  take(connection: Connection, bytes: number): number {
    const waitMs = this.#waitOf(connection, bytes)
    if (waitMs <= 0) this.#spend(bytes)
    return waitMs
  }

  /** What is given back was not used. */
  wait(connection: Connection, bytes: number, pass: () => void, leave: () => void): void {
    const { signal } = connection
    if (signal.aborted) return leave()
    let line = this.#lines.get(connection)
    if (line === undefined) this.#lines.set(connection, (line = { entries: [], heard: new Map() }))
    line.entries.push({ bytes, signal, pass, leave })
    this.#waiting++
    this.#waitingBytes += bytes
    if (!line.heard.has(signal)) {
      const gone = () => this.#gone(connection, signal)
      line.heard.set(signal, gone)
      signal.addEventListener('abort', gone, { once: true })
    }
    this.#setTimer()
  }

  #waitOf(connection: Connection, bytes: number): number {
    let ahead = 0
    let bytesAhead = 0
    if (this.#waiting > 0) {
      // As many as may come before it when connections have their turns; their bytes by the average.
      const own = this.#lines.get(connection)?.entries.length ?? 0
      const others = this.#lines.size - (own > 0 ? 1 : 0)
      ahead = Math.min(this.#waiting, own + others * (own + 1))
      bytesAhead = (this.#waitingBytes / this.#waiting) * ahead
    }
    const forMessages = this.#messages?.lackBehind(1, ahead, this.#clock.now()) ?? 0
    const forBytes = this.#bytes?.lackBehind(bytes, bytesAhead, this.#clock.now()) ?? 0
    // A wait of 2006.0000000000002 ms is one of 2006: rounded up, the next would come too soon after it.
    const waitMs = Math.ceil(Math.max(forMessages, forBytes) - ROUNDING_MS)
    return ahead > 0 ? Math.max(1, waitMs) : Math.max(0, waitMs)
  }

  #spend(bytes: number): void {
    this.#messages?.spend(1)
    this.#bytes?.spend(bytes)
  }

  #setTimer(): void {
    if (this.#cancel !== undefined || this.#waiting === 0) return
    const [first] = this.#lines.values()
    const waitMs = this.#lackOf(first?.entries[0]?.bytes ?? 0)
    this.#cancel = this.#clock.after(waitMs, () => {
      this.#cancel = undefined
      this.#pass()
    })
  }

  #lackOf(bytes: number): number {
    const now = this.#clock.now()
    const lack = Math.max(this.#messages?.lack(1, now) ?? 0, this.#bytes?.lack(bytes, now) ?? 0)
    return Math.max(0, Math.ceil(lack - ROUNDING_MS))
  }

  #pass(): void {
    for (const [connection, line] of this.#lines) {
      const entry = line.entries[0] as Entry
      if (this.#lackOf(entry.bytes) > 0) break
      this.#spend(entry.bytes)
      line.entries.shift()
      this.#left(line, entry)
      this.#lines.delete(connection)
      // Behind all others; a map that is walked comes to what was put in meanwhile.
      if (line.entries.length > 0) this.#lines.set(connection, line)
      entry.pass()
    }
    this.#setTimer()
  }

  #left(line: Line, { bytes, signal }: Entry): void {
    this.#waiting--
    this.#waitingBytes -= bytes
    if (line.entries.some((one) => one.signal === signal)) return
    const gone = line.heard.get(signal)
    line.heard.delete(signal)
    if (gone !== undefined) signal.removeEventListener('abort', gone)
  }

  #gone(connection: Connection, signal: AbortSignal): void {
    const line = this.#lines.get(connection)
    if (line === undefined) return
    const leaving = line.entries.filter((entry) => entry.signal === signal)
    const rest = line.entries.filter((entry) => entry.signal !== signal)
    line.entries.splice(0, line.entries.length, ...rest)
    for (const entry of leaving) this.#left(line, entry)
    if (rest.length === 0) this.#lines.delete(connection)
    // Whoever is first now may wait shorter, or there is nobody.
    this.#cancel?.()
    this.#cancel = undefined
    this.#setTimer()
    for (const { leave } of leaving) leave()
  }
}
