/**
 * `serve` and `handle`: a server until a signal, or until one request is answered.
 *
 * Room: the command line. Standard output: a line for each bound endpoint, then `ready`. Logs: standard error.
 */
import type { Assignment, LoadedConfiguration } from '../core/config/index.js'
import type { Endpoint } from '../core/endpoint.js'
import { evalHandler } from '../core/hooks.js'
import { drainTimeoutMs } from '../core/options.js'
import { type ConfiguredServer, openServer, readConfiguration, type ServerOptions } from '../gaidaros.js'
import type { Arguments } from './arguments.js'
import { type Begun, Endings } from './endings.js'
import { report } from './report.js'
import { Service } from './service.js'

/** What a command line gives `createServer`. */
export function optionsOf({ flags, assignments }: Arguments): ServerOptions {
  const { config = true, eval: source } = flags as { config?: string; eval?: string }
  const handler: Assignment[] =
    source === undefined
      ? []
      : [{ path: 'handler', value: evalHandler(source), origin: { kind: 'flag', name: '--eval' } }]
  return { config, flags: [...assignments, ...handler] }
}

export async function serve(given: Arguments): Promise<number> {
  const endings = new Endings()
  let service: Service | undefined
  try {
    const options = optionsOf(given)
    service = new Service(given, options, await readConfiguration(options))
    endings.begun = service
    try {
      await service.start()
    } catch (error) {
      await service.stop({ timeoutMs: 0 })
      // Asked to end during the start, which undid it in order.
      if (endings.isAsked) return endings.status
      throw error
    }
    await service.ended()
    return endings.status
  } finally {
    await service?.close()
    endings.done()
  }
}

export async function handle(given: Arguments): Promise<number> {
  const endings = new Endings()
  try {
    const options = optionsOf(given)
    const loaded = await readConfiguration(options)
    const server = await openServer(loaded, options, { place: 'command', isSteered: true })
    report(server, levelOf(given, loaded))
    endings.begun = begunOf(server)
    server.on('server.state', ({ to }) => {
      if (to === 'ready') announce(server)
    })
    try {
      const wasAnswered = await server.handle()
      return wasAnswered && endings.status === 0 ? 0 : 1
    } catch (error) {
      if (endings.isAsked) return 1
      throw error
    }
  } finally {
    endings.done()
  }
}

export function announce(server: ConfiguredServer): void {
  // Standard output is the peer's, where that is the connection.
  announceTo(hasStdio(server) ? process.stderr : process.stdout, server.listeners)
}

/** A line for each endpoint, then `ready`. */
export function announceTo(
  output: NodeJS.WriteStream,
  listeners: Iterable<{ readonly name: string; readonly endpoints: readonly (string | Endpoint)[] }>,
): void {
  let lines = ''
  for (const { name, endpoints } of listeners) {
    for (const endpoint of endpoints) lines += `listening ${name} ${endpoint}\n`
  }
  output.write(`${lines}ready\n`)
}

function hasStdio(server: ConfiguredServer): boolean {
  return [...server.listeners].some(({ endpoints }) => endpoints.some(({ scheme }) => scheme === 'stdio'))
}

function begunOf(server: ConfiguredServer): Begun {
  return {
    isLoading: false,
    get isStarting() {
      return server.state === 'starting'
    },
    get state() {
      return server.state
    },
    drainMs: server.configuration.values.drain?.timeoutMs ?? drainTimeoutMs,
    stop: () => server.stop(),
    kill() {},
    reload() {
      for (const listener of server.listeners) void listener.reload()
    },
  }
}

/** Started for one peer, it ends with that peer. */
export function endWithPeer(server: ConfiguredServer): void {
  const isAll = [...server.listeners].every(({ endpoints }) => endpoints.every(({ scheme }) => scheme === 'stdio'))
  if (isAll) server.on('connection.closed', () => void server.stop())
}

/** How much is logged. */
export function levelOf({ flags }: Arguments, configuration: LoadedConfiguration): number {
  if (flags.quiet) return 0
  const times = (flags.verbose as readonly boolean[] | undefined)?.length ?? 0
  return times > 0 ? 1 + times : (configuration.values.verbose ?? 1)
}
