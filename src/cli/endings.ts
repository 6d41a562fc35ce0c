/**
 * What ends a serving process from outside: signals, and errors nobody caught.
 *
 * Room: the command line. The first SIGTERM or SIGINT drains, the second one stops at once. Whatever the application
 * does, the process ends: before there is a server at once, later at the drain's deadline and a little.
 */
import { toError } from '../core/errors.js'
import { describe } from './describe.js'
import { logLine } from './output.js'

const statusOf = { SIGTERM: 143, SIGINT: 130 } as const
/** Beyond the drain's deadline, for the application's own disposers. */
const DISPOSAL_MS = 3_000
const LONGEST_MS = 2 ** 31 - 1

/** What is ended: a server, the supervisor of several, or a node. */
export interface Begun {
  /** Nothing is bound, and nothing need be undone. */
  readonly isLoading: boolean
  readonly isStarting: boolean
  /** In a word, for people. */
  readonly state: string
  readonly drainMs: number
  stop(): Promise<void>
  /** Whatever would outlive this process. */
  kill?(): void
  /** SIGHUP. */
  reload?(): void
  /** SIGUSR2; left out: the signal does what it does. */
  upgrade?(): void
}

export class Endings {
  /** True once somebody wants the end. */
  isAsked = false
  /** With which to exit: 0, or 1 after an error nobody caught. */
  status = 0
  #begun: Begun | undefined
  #hasSignal = false
  /** A listener whose peers are all remote, or in memory, holds no handle; the process must wait all the same. */
  readonly #keepAlive = setInterval(() => {}, LONGEST_MS)

  constructor() {
    for (const name of ['SIGTERM', 'SIGINT'] as const) {
      process.on(name, () => {
        if (this.#hasSignal) {
          this.#begun?.kill?.()
          process.exit(statusOf[name])
        }
        this.#hasSignal = true
        this.#ask()
      })
    }
    process.on('SIGHUP', () => this.#begun?.reload?.())
    const fail = (thrown: unknown) => {
      process.stderr.write(describe(toError(thrown), true))
      this.status = 1
      this.#ask()
    }
    process.on('uncaughtException', fail)
    process.on('unhandledRejection', fail)
  }

  set begun(begun: Begun) {
    this.#begun = begun
    if (begun.upgrade !== undefined) process.on('SIGUSR2', () => begun.upgrade?.())
  }

  /** The end has come: nothing of ours holds the process any more. */
  done(): void {
    clearInterval(this.#keepAlive)
  }

  #ask(): void {
    if (this.isAsked) return
    this.isAsked = true
    const begun = this.#begun
    if (begun === undefined || begun.isLoading) process.exit(this.status)
    const patienceMs = begun.isStarting ? begun.drainMs : begun.drainMs + DISPOSAL_MS
    setTimeout(
      () => {
        logLine(`gaidaros: the stop has not ended after ${patienceMs} ms (${begun.state}); leaving without it`)
        begun.kill?.()
        process.exit(1)
      },
      Math.min(patienceMs, LONGEST_MS),
    ).unref()
    void begun.stop()
  }
}
