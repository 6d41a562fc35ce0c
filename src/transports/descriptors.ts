/**
 * How many descriptors this process may still open, so that newcomers are refused before the kernel has none left.
 *
 * Room: transports. At EMFILE libuv accepts and closes newcomers without a word (its `uv__emfile_trick`), so a cap of
 * 90 % of the soft limit (getrlimit(2), RLIMIT_NOFILE) stands before it. Linux only: elsewhere nothing is counted.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'

const SHARE = 0.9
const SAMPLE_MS = 1_000

/** What the platform says; handed in by tests. */
export interface DescriptorSource {
  /**
   * Descriptors open now; undefined where the platform does not tell. Throws when there is not even one left to look.
   */
  open(): number | undefined
  /** The soft limit. */
  limit(): number | undefined
  now(): number
}

/** Estimates the descriptors in use between samples, from what the listeners accept and lose. One a process. */
export class DescriptorGauge {
  readonly #source: DescriptorSource
  #cap: number | undefined
  #limit = 0
  #open = 0
  #sampledAt = Number.NEGATIVE_INFINITY

  constructor(source: DescriptorSource) {
    this.#source = source
  }

  /** The most that may be open before newcomers are refused; undefined: unknown, nothing is refused. */
  get cap(): number | undefined {
    return this.#cap
  }

  /** As last sampled, plus what was accepted and minus what was closed since. */
  get open(): number {
    return this.#open
  }

  /** Samples now. @returns undefined where the platform does not tell. */
  look(): { readonly open: number; readonly limit: number } | undefined {
    this.#sample()
    return this.#cap === undefined ? undefined : { open: this.#open, limit: this.#limit }
  }

  /** Counts a socket that was accepted. @returns false when it is one too many. */
  admit(): boolean {
    if (this.#source.now() - this.#sampledAt >= SAMPLE_MS) this.#sample()
    else this.#open++
    return this.#cap === undefined || this.#open <= this.#cap
  }

  /** Counts a socket that was closed. */
  release(): void {
    this.#open--
  }

  #sample(): void {
    this.#sampledAt = this.#source.now()
    try {
      const limit = this.#source.limit()
      const open = this.#source.open()
      if (limit === undefined || open === undefined) {
        this.#cap = undefined
        return
      }
      this.#limit = limit
      this.#cap = Math.floor(limit * SHARE)
      this.#open = open
    } catch {
      // No descriptor left to look with: as many are open as may be.
      this.#open = this.#cap ?? this.#open
      this.#open++
    }
  }
}

/** proc(5): `/proc/self/fd`, `/proc/self/limits`. */
export const processDescriptors: DescriptorSource = {
  open() {
    if (process.platform !== 'linux') return undefined
    // Linux 6.2 and newer tell the number as the folder's size; reading 10,000 entries would take 8 ms.
    const { size } = statSync('/proc/self/fd')
    return size > 0 ? size : readdirSync('/proc/self/fd').length - 1
  },
  limit() {
    if (process.platform !== 'linux') return undefined
    const match = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))
    return match === null ? undefined : Number(match[1])
  },
  now: () => performance.now(),
}

/** Shared by all listeners of this process (of this thread, where there are several). */
export const descriptors = new DescriptorGauge(processDescriptors)
