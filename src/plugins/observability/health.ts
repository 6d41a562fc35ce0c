/**
 * `health`: whether the process lives (`/livez`) and whether it should be sent peers (`/readyz`), on loopback.
 *
 * Room: plugins/observability. Alive is who answers. Ready is who listens with every listener and has no alarm: not while
 * starting, suspended or draining, so that a balancer stops sending before the address is gone.
 */
import type { ObservedServer, Observer } from '../../core/observer.js'
import { optionSchema } from '../../core/option-schema.js'
import { definePlugin, type PluginServices } from '../../core/plugin.js'
import { OperatorHttp, type OperatorOptions, operatorFields, type Page } from './operator-http.js'

export interface HealthOptions extends OperatorOptions {
  alarms: boolean
}

export const health = definePlugin<HealthOptions>({
  name: 'health',
  options: optionSchema<HealthOptions>({
    ...operatorFields(9_465),
    alarms: { unit: 'switch', default: true, why: 'An alarm makes it not ready.' },
  }),
  setup(registry, options) {
    registry.observer((services) => new Health(options, services))
  },
})

export default health

class Health implements Observer {
  readonly name = 'health'
  readonly #options: HealthOptions
  readonly #services: PluginServices
  readonly #http: OperatorHttp
  #server: ObservedServer | undefined

  constructor(options: HealthOptions, services: PluginServices) {
    this.#options = options
    this.#services = services
    const live = () => page(200, { status: 'ok', state: this.#server?.state })
    const ready = () => this.#ready()
    this.#http = new OperatorHttp(
      'health',
      options,
      new Map([
        ['/livez', live],
        ['/readyz', ready],
        ['/healthz', ready],
      ]),
    )
  }

  async start(server: ObservedServer): Promise<void> {
    this.#server = server
    const address = await this.#http.listen()
    this.#services.events.emit('plugin.bound', { plugin: this.name, address })
  }

  stop(): Promise<void> {
    return this.#http.close()
  }

  #ready(): Page {
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
    const status = reasons.length === 0 ? 'ok' : 'not ready'
    return page(reasons.length === 0 ? 200 : 503, { status, state: server.state, reasons, alarms, listeners })
  }
}

function page(status: number, body: object): Page {
  return { status, type: 'application/json', body: `${JSON.stringify(body)}\n` }
}
