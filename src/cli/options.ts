/**
 * From a command line to the options of a server.
 *
 * Room: the command line.
 */
import type { Assignment } from '../core/config/index.js'
import { evalHandler } from '../core/hooks.js'
import type { ServerOptions } from '../gaidaros.js'
import type { Arguments } from './arguments.js'

/** What a command line gives `createServer`. */
export function optionsOf({ flags, assignments }: Arguments): ServerOptions {
  const { config = true, eval: source } = flags as { config?: string; eval?: string }
  const handler: Assignment[] =
    source === undefined
      ? []
      : [{ path: 'handler', value: evalHandler(source), origin: { kind: 'flag', name: '--eval' } }]
  return { config, flags: [...assignments, ...handler] }
}
