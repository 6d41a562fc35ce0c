/**
 * Guards the process's file descriptors: at 90 % of the limit newcomers are refused, so that the rest of the program can
 * still open files, and so that somebody is told. Node itself closes newcomers without a word when descriptors run out
 * (libuv keeps one in reserve for just that).
 *
 * Room: transports; asked for each accepted socket.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { AcceptError } from '../core/errors.js'
import type { LinkSink } from '../core/transport.js'

const SHARE = 0.9
const REREAD_MS = 1_000
const RECOUNT_MS = 50
const TELL_MS = 1_000

class Descriptors {
  #cap = Number.POSITIVE_INFINITY
  #readAt = Number.NEGATIVE_INFINITY
  #countedAt = Number.NEGATIVE_INFINITY
  /** Open ones: as counted, and accepted since. Too high at worst, and then counted again. */
  #open = 0
  #refused = 0
  #toldAt = Number.NEGATIVE_INFINITY

  /** True when one more may be kept. Otherwise the sink is told, at most once a second, how many were refused. */
  admit(sink: LinkSink): boolean {
    const now = performance.now()
    if (now - this.#readAt > REREAD_MS) this.#readLimit(now)
    this.#open++
    if (this.#open < this.#cap) return true
    if (now - this.#countedAt > RECOUNT_MS) this.#count(now)
    if (this.#open < this.#cap) return true
    this.#open--
    this.#refused++
    if (now - this.#toldAt > TELL_MS) {
      this.#toldAt = now
      const refused = this.#refused
      this.#refused = 0
      const message = `${this.#open} descriptors are open, ${this.#cap} is the cap (90 % of the limit): ${refused} newcomers refused; raise the limit (ulimit -n) or lower limits.connections`
      sink.fault?.(new AcceptError('OUT_OF_DESCRIPTORS', message, { cap: this.#cap, open: this.#open, refused }))
    }
    return false
  }

  /** The limit can be changed from outside while we run (prlimit(1)). */
  #readLimit(now: number): void {
    this.#readAt = now
    try {
      const soft = /^Max open files\s+(\d+|unlimited)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]
      const cap = soft === undefined || soft === 'unlimited' ? Number.POSITIVE_INFINITY : Math.floor(Number(soft) * SHARE)
      if (cap !== this.#cap) this.#countedAt = Number.NEGATIVE_INFINITY
      this.#cap = cap
    } catch {
      // No /proc: macOS, Windows. limits.connections is the only guard there.
      this.#readAt = Number.POSITIVE_INFINITY
    }
  }

  #count(now: number): void {
    this.#countedAt = now
    try {
      this.#open = readdirSync('/proc/self/fd').length
    } catch {
      // The listing itself needs a descriptor: there is none.
      this.#open = this.#cap
    }
  }
}

export const descriptors = new Descriptors()
