/**
 * What the flags of a command line say to `createServer`.
 *
 * Room: the command line.
 */
import type { Assignment } from '../core/config/index.js'
import { evalHandler } from '../core/hooks.js'
import type { ServerOptions } from '../gaidaros.js'
import type { Arguments } from './arguments.js'

/** What a command line gives `createServer`. */
export function optionsOf({ flags, assignments }: Arguments): ServerOptions {
  const {
    config = true,
    eval: source,
    'modules-from': modulesFrom = [],
  } = flags as {
    config?: string
    eval?: string
    'modules-from'?: readonly string[]
  }
  const handler: Assignment[] =
    source === undefined
      ? []
      : [{ path: 'handler', value: evalHandler(source), origin: { kind: 'flag', name: '--eval' } }]
  return { config, flags: [...assignments, ...handler], modulesFrom, ownsContainer: true }
}
