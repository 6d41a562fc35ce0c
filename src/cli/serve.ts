/**
 * `serve` and `handle`: a server until a signal, or until one request is answered.
 *
 * Room: the command line. Standard output: a line for each bound endpoint, then `ready`. Logs: standard error. The first
 * SIGTERM or SIGINT drains, the second one stops at once.
 */

import { toError } from '../core/errors.js'
import { evalHandler } from '../core/hooks.js'
import { type ConfiguredServer, createServer, type ServerOptions } from '../gaidaros.js'
import type { Arguments } from './arguments.js'
import { describe } from './describe.js'
import { report } from './report.js'

const statusOf = { SIGTERM: 143, SIGINT: 130 } as const

/** What a command line gives `createServer`. */
export function optionsOf({ flags, assignments }: Arguments): ServerOptions {
  return {
    flags: assignments,
    ...(typeof flags.config === 'string' ? { config: flags.config } : { config: true }),
    ...(typeof flags.eval === 'string' ? { handler: evalHandler(flags.eval) } : {}),
  }
}

export async function serve(given: Arguments): Promise<number> {
  const signals = new Signals()
  const server = await createServer(optionsOf(given))
  report(server, levelOf(given, server))
  if (signals.isStopping) return 0
  signals.server = server
  try {
    await server.start()
  } catch (error) {
    // A signal during the start undoes it, in order.
    if (signals.isStopping) return 0
    throw error
  }
  announce(server)
  let status = 0
  watchFailures(server, () => {
    status = 1
  })
  await server.stopped
  return status
}

export async function handle(given: Arguments): Promise<number> {
  const signals = new Signals()
  const server = await createServer(optionsOf(given))
  report(server, levelOf(given, server))
  if (signals.isStopping) return 0
  signals.server = server
  server.on('server.state', ({ to }) => {
    if (to === 'ready') announce(server)
  })
  return (await server.handle()) ? 0 : 1
}

/** The first signal drains; the second ends the process with the status of that signal. */
class Signals {
  isStopping = false
  #server: ConfiguredServer | undefined

  constructor() {
    for (const name of ['SIGTERM', 'SIGINT'] as const) {
      process.on(name, () => {
        if (this.isStopping) process.exit(statusOf[name])
        this.isStopping = true
        void this.#server?.stop()
      })
    }
    process.on('SIGHUP', () => {
      process.stderr.write(
        'gaidaros: SIGHUP: reloading is not in this version; restart to read the configuration again\n',
      )
    })
  }

  set server(server: ConfiguredServer) {
    this.#server = server
  }
}

function announce(server: ConfiguredServer): void {
  for (const listener of server.listeners) {
    for (const endpoint of listener.endpoints) process.stdout.write(`listening ${listener.name} ${endpoint}\n`)
  }
  process.stdout.write('ready\n')
}

/** What nobody caught: say it, end in order, exit 1. */
function watchFailures(server: ConfiguredServer, failed: () => void): void {
  const fail = (thrown: unknown) => {
    process.stderr.write(describe(toError(thrown), true))
    failed()
    void server.stop()
  }
  process.on('uncaughtException', fail)
  process.on('unhandledRejection', fail)
}

function levelOf({ flags }: Arguments, server: ConfiguredServer): number {
  if (flags.quiet) return 0
  const times = (flags.verbose as readonly boolean[] | undefined)?.length ?? 0
  return times > 0 ? 1 + times : (server.configuration.values.verbose ?? 1)
}
