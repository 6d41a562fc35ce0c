/**
 * `tap`: the messages of one connection, live, in and out.
 *
 * Room: core, mechanism of the control socket. Bounded three ways: so many lines a second, so many characters a line, and
 * nothing while whoever listens does not read; what is left out is counted and said. A tapped session pays, no other does.
 */
import type { Session } from '../session.js'
import type { Watcher } from '../watched-plan.js'
import { bytesShown, type Redaction } from './redact.js'

/** One line. */
export type TapLine =
  | {
      readonly tap: string
      readonly at: string
      readonly direction: 'in' | 'out'
      /** `chunk`: bytes of a connection that a library reads as a stream. */
      readonly kind: 'message' | 'chunk'
      readonly message: unknown
      /** What it was cut to. */
      readonly cutTo?: number
    }
  /** Lines that were left out since the one before. */
  | { readonly tap: string; readonly leftOut: number }
  /** The last one. */
  | { readonly tap: string; readonly closed: { readonly code: string; readonly by: string; readonly error?: string } }

export interface TapOptions {
  readonly redaction: Redaction
  /** Lines a second. */
  readonly rate: number
  /** Characters of a message's JSON. */
  readonly characters: number
  /** @returns false while no more should be told. */
  tell(line: TapLine): boolean
  /** The connection is closed. */
  ended(): void
}

export const tapDefaults = { rate: 100, characters: 1_024 } as const
export const tapMost = { rate: 1_000, characters: 16_384 } as const

/** Everybody who listens to a session; one ear in it serves them all. */
const taps = new WeakMap<Session, { readonly watchers: Set<Watcher>; readonly remove: () => void }>()

/** @returns what ends it; the end of the connection does too. */
export function tap(session: Session, options: TapOptions): () => void {
  const watcher = new Tap(session, options)
  const present = taps.get(session)
  if (present !== undefined) present.watchers.add(watcher)
  else {
    const watchers = new Set<Watcher>([watcher])
    const ear: Watcher = {
      passed(direction, kind, what) {
        try {
          for (const one of watchers) one.passed(direction, kind, what)
        } catch {
          // Looking must not change what is looked at.
        }
      },
    }
    taps.set(session, { watchers, remove: session.tap(ear) })
  }
  let isOver = false
  const end = () => {
    if (isOver) return
    isOver = true
    const all = taps.get(session)
    all?.watchers.delete(watcher)
    if (all?.watchers.size !== 0) return
    taps.delete(session)
    all.remove()
  }
  void session.closed.then(({ code, by, error }) => {
    if (isOver) return
    end()
    watcher.finish()
    options.tell({ tap: session.id, closed: { code, by, ...(error && { error: error.message }) } })
    options.ended()
  })
  return end
}

class Tap implements Watcher {
  readonly #session: Session
  readonly #options: TapOptions
  #second = 0
  #told = 0
  #left = 0

  constructor(session: Session, options: TapOptions) {
    this.#session = session
    this.#options = options
  }

  passed(direction: 'in' | 'out', kind: 'message' | 'chunk', what: unknown): void {
    const { rate, tell, redaction, characters } = this.#options
    const second = Math.floor(performance.now() / 1_000)
    if (second !== this.#second) {
      this.#second = second
      this.#told = 0
    }
    if (this.#told >= rate) {
      this.#left++
      return
    }
    if (this.#left > 0 && !this.finish()) {
      this.#left++
      return
    }
    this.#told++
    const seen = what instanceof Uint8Array ? bytesShown(what, redaction) : redaction.value(what)
    const text = JSON.stringify(seen) ?? 'null'
    const isLong = text.length > characters
    const message = isLong ? `${text.slice(0, characters)}…` : seen
    const line = { tap: this.#session.id, at: new Date().toISOString(), direction, kind, message }
    if (!tell(isLong ? { ...line, cutTo: characters } : line)) this.#left++
  }

  /** Says what was left out. @returns false where nobody reads. */
  finish(): boolean {
    if (this.#left === 0) return true
    const leftOut = this.#left
    if (!this.#options.tell({ tap: this.#session.id, leftOut })) return false
    this.#left = 0
    return true
  }
}
