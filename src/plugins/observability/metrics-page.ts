/**
 * The page of `metrics`: once, however many processes serve.
 *
 * Room: plugins/observability. Each request asks every process for its figures, all requests of one moment together.
 */
import type { Reports } from '../../core/control.js'
import type { Companion, CompanionHost } from '../../core/plugin.js'
import { EXPOSITION_TYPE, exposition } from './exposition.js'
import { Fleet } from './fleet.js'
import { OperatorHttp, type OperatorOptions } from './operator-http.js'
import type { Snapshot } from './series.js'

/** With several processes: one that is killed takes with it at most what it counted for so long. */
const REFRESH_MS = 5_000

/** @throws {ConfigError} `BAD_VALUE` at once, for an address that others can reach. */
export function metricsPage(options: OperatorOptions & { readonly path: string }): Companion {
  let figures = (): Snapshot | Promise<Snapshot> => Promise.reject(new Error('it has not begun'))
  const pageOf = (snapshot: Snapshot) => ({ status: 200, type: EXPOSITION_TYPE, body: exposition(snapshot) })
  const page = () => {
    const now = figures()
    return now instanceof Promise ? now.then(pageOf) : pageOf(now)
  }
  const http = new OperatorHttp('metrics', options, new Map([[options.path, page]]))
  return {
    name: 'metrics',
    async start(host) {
      const source = new Figures(host)
      figures = () => source.now()
      host.bound(`${await http.listen()}${options.path}`)
      const timer = setInterval(() => source.refresh(), REFRESH_MS)
      timer.unref()
      return () => {
        clearInterval(timer)
        return http.close()
      }
    },
  }
}

class Figures {
  readonly #host: CompanionHost
  readonly #fleet = new Fleet()
  #asking: Promise<Snapshot> | undefined
  #isFleet = false

  constructor(host: CompanionHost) {
    this.#host = host
  }

  now(): Snapshot | Promise<Snapshot> {
    if (this.#asking !== undefined) return this.#asking
    const answer = this.#host.ask({ command: 'report', observer: 'metrics' })
    if (!(answer instanceof Promise)) return this.#take(answer as Reports)
    this.#asking = answer
      .then((reports) => this.#take(reports as Reports))
      .finally(() => {
        this.#asking = undefined
      })
    return this.#asking
  }

  /** What a process said last is what is kept of it when it ends without a word. */
  refresh(): void {
    if (!this.#isFleet) return
    const now = this.now()
    if (now instanceof Promise) now.catch(() => {})
  }

  #take(reports: Reports): Snapshot {
    this.#isFleet = reports.reports.some(({ worker }) => worker !== undefined)
    return this.#fleet.take(reports)
  }
}
