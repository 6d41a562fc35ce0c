/**
 * What ends a serving process from outside: signals, and errors nobody caught.
 *
 * Room: the command line. The first SIGTERM or SIGINT drains, the second one stops at once. Whatever the application
 * does, the process ends: before there is a server at once, later at the drain's deadline and a little.
 */
import { toError } from '../core/errors.js'
import { drainTimeoutMs } from '../core/options.js'
import type { ConfiguredServer } from '../gaidaros.js'
import { describe } from './describe.js'
import { logLine } from './output.js'

const statusOf = { SIGTERM: 143, SIGINT: 130 } as const
/** Beyond the drain's deadline, for the application's own disposers. */
const DISPOSAL_MS = 3_000
const LONGEST_MS = 2 ** 31 - 1

/** What is ended: a server, or a node, which has no listeners. */
export interface Endable extends Pick<ConfiguredServer, 'configuration' | 'state'> {
  readonly listeners: Iterable<{ reload(): Promise<boolean> }>
  stop(): Promise<void>
}

export class Endings {
  /** True once somebody wants the end. */
  isAsked = false
  /** With which to exit: 0, or 1 after an error nobody caught. */
  status = 0
  /** Tells somebody before and after. */
  aroundReload: ((reload: () => Promise<unknown>) => Promise<unknown>) | undefined
  #server: Endable | undefined
  #hasSignal = false
  /** A listener whose peers are all remote, or in memory, holds no handle; the process must wait all the same. */
  readonly #keepAlive = setInterval(() => {}, LONGEST_MS)

  constructor() {
    for (const name of ['SIGTERM', 'SIGINT'] as const) {
      process.on(name, () => {
        if (this.#hasSignal) process.exit(statusOf[name])
        this.#hasSignal = true
        this.#ask()
      })
    }
    process.on('SIGHUP', () => {
      const listeners = [...(this.#server?.listeners ?? [])]
      const reload = () => Promise.all(listeners.map((listener) => listener.reload()))
      void (this.aroundReload === undefined ? reload() : this.aroundReload(reload))
      logLine('gaidaros: SIGHUP: certificates and keys are read again; for the rest of the configuration, restart')
    })
    const fail = (thrown: unknown) => {
      process.stderr.write(describe(toError(thrown), true))
      this.status = 1
      this.#ask()
    }
    process.on('uncaughtException', fail)
    process.on('unhandledRejection', fail)
  }

  set server(server: Endable) {
    this.#server = server
  }

  /** The end has come: nothing of ours holds the process any more. */
  done(): void {
    clearInterval(this.#keepAlive)
  }

  #ask(): void {
    if (this.isAsked) return
    this.isAsked = true
    const server = this.#server
    // While configuration and handlers are loaded nothing is bound, and nothing need be undone.
    if (server === undefined) process.exit(this.status)
    const { timeoutMs = drainTimeoutMs } = server.configuration.values.drain ?? {}
    const patienceMs = server.state === 'starting' ? timeoutMs : timeoutMs + DISPOSAL_MS
    setTimeout(
      () => {
        logLine(`gaidaros: the stop has not ended after ${patienceMs} ms (${server.state}); leaving without it`)
        process.exit(1)
      },
      Math.min(patienceMs, LONGEST_MS),
    ).unref()
    void server.stop()
  }
}
