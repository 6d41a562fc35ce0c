/**
 * `kill`: ends connections for the operator, with a reason that everybody can read afterwards.
 *
 * Room: core, mechanism of the control socket.
 */
import { ConnectionError } from '../errors.js'
import type { Server } from '../lifecycle.js'
import { isAddress, Networks, plainAddress } from '../networks.js'
import { printable } from '../printable.js'
import type { Session } from '../session.js'
import { type ControlRequest, listenersOf, sessionOf, sessionsOf, textOf } from './ask.js'
import { factsOf, filterOf } from './connections.js'

export interface Killed {
  readonly killed: number
  /** The first 100. */
  readonly connections: readonly string[]
}

const MOST_NAMED = 100

/**
 * By `connection`, or all that `listener`, `source` (an address or network) and `filter` have in common. What waits is sent
 * first unless `now` is true. The close reason is `KILLED` by `server`; its error has the operator's words.
 */
export function kill(server: Server, request: ControlRequest): Killed {
  const chosen = request.connection === undefined ? chosenOf(server, request) : [sessionOf(server, request.connection)]
  const reason = printable(textOf(request, 'reason') ?? '')
  const message = `killed by the operator${reason === '' ? '' : `: ${reason}`}`
  const killed = chosen.filter((session) =>
    session.kill(new ConnectionError('KILLED', message, { reason }), request.now === true),
  )
  return { killed: killed.length, connections: killed.slice(0, MOST_NAMED).map(({ id }) => id) }
}

export function mergeKilled(parts: readonly { readonly worker: string; readonly result: Killed }[]): Killed {
  return {
    killed: parts.reduce((total, { result }) => total + result.killed, 0),
    connections: parts
      .flatMap(({ worker, result }) => result.connections.map((id) => `${worker}/${id}`))
      .slice(0, MOST_NAMED),
  }
}

function chosenOf(server: Server, request: ControlRequest): Session[] {
  const { listener } = request
  const source = textOf(request, 'source')
  const filter = textOf(request, 'filter')
  if (listener === undefined && source === undefined && filter === undefined) {
    throw new Error('kill: say whom: connection, listener, source or filter')
  }
  if (listener !== undefined) listenersOf(server, listener)
  const networks = source === undefined ? undefined : new Networks([source], 'source')
  const matches = filterOf(filter ?? '', textOf(request, 'worker'))
  return sessionsOf(server).filter((session) => {
    if (listener !== undefined && session.listener !== listener) return false
    if (networks !== undefined) {
      const address = plainAddress(session.remote?.host ?? '')
      if (!isAddress(address) || !networks.has(address)) return false
    }
    return matches(factsOf(session))
  })
}
