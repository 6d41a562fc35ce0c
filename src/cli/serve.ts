/**
 * `serve` and `handle`: a server until a signal, or until one request is answered.
 *
 * Room: the command line. Standard output: a line for each bound endpoint, then `ready`. Logs: standard error.
 */
import { drainOf } from '../core/options.js'
import { type ConfiguredServer, openServer, readConfiguration } from '../gaidaros.js'
import { announce } from './announce.js'
import type { Arguments } from './arguments.js'
import { daemonOf } from './background.js'
import { detach, theWaiter } from './detach.js'
import { type Begun, Endings } from './endings.js'
import { levelOf, report } from './report.js'
import { optionsOf } from './serve-options.js'
import { Service } from './service.js'
import { loadedInTime, tellLoading } from './still-loading.js'

export async function serve(given: Arguments): Promise<number> {
  // Before anything is loaded: whatever handlers do when they are loaded is done once.
  if (given.flags.daemon === true && theWaiter() === undefined) return detach()
  const endings = new Endings()
  let service: Service | undefined
  const endTelling = tellLoading()
  try {
    const options = optionsOf(given)
    const loaded = await loadedInTime(readConfiguration(options))
    if (daemonOf(loaded.values.daemon).detach === true && theWaiter() === undefined) return await detach()
    service = new Service(given, options, loaded)
    endings.begun = service
    try {
      await service.start()
    } catch (error) {
      await service.stop({ timeoutMs: 0 })
      // Asked to end during the start, which undid it in order.
      if (endings.isAsked) return endings.status
      service.failed()
      throw error
    } finally {
      endTelling()
    }
    await service.ended()
    return endings.status
  } finally {
    endTelling()
    await service?.close()
    endings.done()
  }
}

export async function handle(given: Arguments): Promise<number> {
  const endings = new Endings()
  try {
    const options = optionsOf(given)
    const loaded = await readConfiguration(options)
    const server = await openServer(loaded, options, { place: 'command' })
    if (given.flags.strict) await (await import('./doctor/index.js')).insist(server, given)
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

function begunOf(server: ConfiguredServer): Begun {
  return {
    isLoading: false,
    get isStarting() {
      return server.state === 'starting'
    },
    get state() {
      return server.state
    },
    drainMs: drainOf(server.configuration.values.drain).timeoutMs,
    stop: () => server.stop(),
    reload() {
      for (const listener of server.listeners) void listener.reload()
    },
  }
}
