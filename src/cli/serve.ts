/**
 * `serve` and `handle`: a server until a signal, or until one request is answered.
 *
 * Room: the command line. Standard output: a line for each bound endpoint, then `ready`. Logs: standard error.
 */
import { type ConfiguredServer, createServer } from '../gaidaros.js'
import type { Arguments } from './arguments.js'
import { Background, daemonOf } from './background.js'
import { detach, theWaiter } from './detach.js'
import { Endings } from './endings.js'
import { report } from './report.js'
import { optionsOf } from './serve-options.js'

export async function serve(given: Arguments): Promise<number> {
  // Before anything is loaded: whatever handlers do when they are loaded is done once.
  if (given.flags.daemon === true && theWaiter() === undefined) return detach()
  const endings = new Endings()
  let background: Background | undefined
  try {
    const server = await prepare(given, endings)
    const { values } = server.configuration
    if (daemonOf(values.daemon).detach === true && theWaiter() === undefined) return await detach()
    const service = new Background(values)
    background = service
    endings.aroundReload = (reload) => service.reloads(reload)
    server.on('server.state', ({ to }) => {
      if (to === 'draining') service.stopping()
    })
    try {
      await server.start()
    } catch (error) {
      // Asked to end during the start, which undid it in order.
      if (endings.isAsked) return endings.status
      service.failed()
      throw error
    }
    announce(server)
    service.ready()
    endWithPeer(server)
    await server.stopped
    return endings.status
  } finally {
    background?.close()
    endings.done()
  }
}

export async function handle(given: Arguments): Promise<number> {
  const endings = new Endings()
  try {
    const server = await prepare(given, endings)
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

async function prepare(given: Arguments, endings: Endings): Promise<ConfiguredServer> {
  const server = await createServer(optionsOf(given))
  if (given.flags.strict) await (await import('./doctor/index.js')).insist(server, given)
  report(server, levelOf(given, server))
  endings.server = server
  return server
}

function announce(server: ConfiguredServer): void {
  let lines = ''
  for (const listener of server.listeners) {
    for (const endpoint of listener.endpoints) lines += `listening ${listener.name} ${endpoint}\n`
  }
  // Standard output is the peer's, where that is the connection.
  const output = hasStdio(server) ? process.stderr : process.stdout
  output.write(`${lines}ready\n`)
}

function hasStdio(server: ConfiguredServer): boolean {
  return [...server.listeners].some(({ endpoints }) => endpoints.some(({ scheme }) => scheme === 'stdio'))
}

/** Started for one peer, it ends with that peer. */
function endWithPeer(server: ConfiguredServer): void {
  const isAll = [...server.listeners].every(({ endpoints }) => endpoints.every(({ scheme }) => scheme === 'stdio'))
  if (isAll) server.on('connection.closed', () => void server.stop())
}

function levelOf({ flags }: Arguments, server: ConfiguredServer): number {
  if (flags.quiet) return 0
  const times = (flags.verbose as readonly boolean[] | undefined)?.length ?? 0
  return times > 0 ? 1 + times : (server.configuration.values.verbose ?? 1)
}
