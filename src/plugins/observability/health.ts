/**
 * `health`: whether the process lives (`/livez`) and whether it should be sent peers (`/readyz`), on loopback.
 *
 * Room: plugins/observability. Alive is who answers. Ready is who listens with every listener and has no alarm: not while
 * starting, suspended or draining, so that a balancer stops sending before the address is gone. Each process that serves says
 * how it is; the page stands once, and is ready when all workers are (or any of them, if that is asked for).
 */
import type { ObserverReport, Reports } from '../../core/control.js'
import type { ObservedServer, Observer } from '../../core/observer.js'
import { optionSchema } from '../../core/option-schema.js'
import { type Companion, type CompanionHost, definePlugin } from '../../core/plugin.js'
import { servingOf } from './fleet.js'
import { OperatorHttp, type OperatorOptions, operatorFields, type Page } from './operator-http.js'

export interface HealthOptions extends OperatorOptions {
  alarms: boolean
  workers: 'all' | 'any'
}

export const health = definePlugin<HealthOptions>({
  name: 'health',
  options: optionSchema<HealthOptions>({
    ...operatorFields(9_465),
    alarms: { unit: 'switch', default: true, why: 'An alarm makes it not ready.' },
    workers: {
      unit: 'choice',
      choices: ['all', 'any'],
      default: 'all',
      why: 'Of several server processes: ready when all of them are, or as long as any is.',
    },
  }),
  setup(registry, options) {
    registry.observer(() => new Health(options))
    registry.companion(healthPage(options))
  },
})

export default health

/** How one process is. */
interface Condition {
  readonly reasons: readonly string[]
  readonly alarms: readonly string[]
  readonly listeners: readonly { readonly name: string; readonly state: string; readonly connections: number }[]
}

class Health implements Observer {
  readonly name = 'health'
  readonly #options: HealthOptions
  #server: ObservedServer | undefined

  constructor(options: HealthOptions) {
    this.#options = options
  }

  start(server: ObservedServer): void {
    this.#server = server
  }

  report(): Condition {
    const server = this.#server as ObservedServer
    const alarms = server.alarms.map(({ alarm, listener }) =>
      listener === undefined ? alarm : `${alarm} (${listener})`,
    )
    const listeners = [...server.listeners].map(({ name, state, connections }) => ({ name, state, connections }))
    const reasons = [
      ...(server.state === 'ready' ? [] : [`the server is ${server.state}`]),
      ...listeners
        .filter(({ state }) => state !== 'listening')
        .map(({ name, state }) => `listener ${name} is ${state}`),
      ...(this.#options.alarms ? alarms.map((alarm) => `alarm: ${alarm}`) : []),
    ]
    return { reasons, alarms, listeners }
  }
}

function healthPage(options: HealthOptions): Companion {
  let ask: () => Promise<Reports> = () => Promise.reject(new Error('it has not begun'))
  const live = async () => page(200, { status: 'ok', state: (await ask()).state })
  const ready = async () => readiness(await ask(), options.workers)
  const http = new OperatorHttp(
    'health',
    options,
    new Map([
      ['/livez', live],
      ['/readyz', ready],
      ['/healthz', ready],
    ]),
  )
  return {
    name: 'health',
    async start(host: CompanionHost) {
      ask = async () => (await host.ask({ command: 'report', observer: 'health' })) as Reports
      host.bound(await http.listen())
      return () => http.close()
    },
  }
}

function readiness({ state, expected, reports }: Reports, wanted: 'all' | 'any'): Page {
  const [only] = reports
  if (reports.length === 1 && only !== undefined && only.worker === undefined) {
    const { reasons, alarms, listeners } = only.report as Condition
    return answer(reasons, { state, alarms, listeners })
  }
  const serving = servingOf(reports)
  const workers = serving.map((one) => ({ name: one.worker, reasons: reasonsOf(one), report: one.report as Condition }))
  const good = workers.filter(({ reasons }) => reasons.length === 0).length
  const missing = Math.max(0, expected - workers.length)
  const faults = [
    ...workers.flatMap(({ name, reasons }) => reasons.map((reason) => `worker ${name}: ${reason}`)),
    ...(missing > 0 ? [`${missing} of ${expected} workers have not started`] : []),
  ]
  const isGood = wanted === 'all' ? faults.length === 0 : good > 0
  const reasons = [...(state === 'ready' ? [] : [`the server is ${state}`]), ...(isGood ? [] : faults)]
  const said = workers.map(({ name, reasons: own, report }) => ({
    name,
    status: own.length === 0 ? 'ok' : 'not ready',
    reasons: own,
    alarms: report?.alarms ?? [],
    listeners: report?.listeners ?? [],
  }))
  const alarms = said.flatMap((one) => one.alarms.map((alarm) => `${alarm}, worker ${one.name}`))
  return answer(reasons, { state, alarms, workers: said })
}

function reasonsOf({ state, report }: ObserverReport): readonly string[] {
  if (report !== undefined) return (report as Condition).reasons
  return [state === 'ready' ? 'it has not answered' : `it is ${state}`]
}

function answer(reasons: readonly string[], more: object): Page {
  const isReady = reasons.length === 0
  return page(isReady ? 200 : 503, { status: isReady ? 'ok' : 'not ready', reasons, ...more })
}

function page(status: number, body: object): Page {
  return { status, type: 'application/json', body: `${JSON.stringify(body)}\n` }
}
