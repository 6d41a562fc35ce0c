/**
 * `limit`: changes limits while the server runs.
 *
 * Room: core, mechanism of the control socket.
 */
import type { AdmissionLimits } from '../admission.js'
import { parsePath } from '../config/assignments.js'
import type { ListenerHandle, Server } from '../lifecycle.js'
import { nearest } from '../nearest.js'
import { type Limits, limitRows } from '../options.js'
import { brief, type ControlRequest, listenersOf, textOf } from './ask.js'

export interface LimitChange {
  readonly listener: string
  readonly limit: string
  readonly before: number | string
  readonly value: number | string
}

/**
 * `path` as in the configuration: `listeners.public.limits.connections`, or `limits.connections` for every listener.
 *
 * @throws {Error} for a limit that cannot be changed while it runs; nothing is changed then.
 */
export function setLimit(server: Server, request: ControlRequest): LimitChange[] {
  const path = textOf(request, 'path') ?? ''
  const keys = parsePath(path, { kind: 'flag', name: 'limit' })
  const [first, name, second, third] = keys
  const isForAll = first === 'limits' && keys.length === 2
  if (!isForAll && !(first === 'listeners' && second === 'limits' && keys.length === 4)) {
    throw new Error(`path: expected limits.KEY or listeners.NAME.limits.KEY, got ${brief(path)}`)
  }
  const limit = (isForAll ? name : third) as string
  if (isForAll && Object.hasOwn(server.limits, limit)) return [setServerLimit(server, limit, limitOf(request.value))]
  if (!Object.hasOwn(limitRows, limit)) {
    const near = nearest(limit, Object.keys(limitRows))
    throw new Error(`path: there is no limit ${brief(limit)}${near ? `; nearest: \`${near}\`` : ''}`)
  }
  if (!(limit in live)) {
    const names = [...Object.keys(live), ...Object.keys(server.limits)].join(', ')
    throw new Error(
      `path: ${limit} cannot be changed while the server runs (it can: ${names}); change the configuration and reload`,
    )
  }
  const value = limitOf(request.value)
  const listeners = listenersOf(server, isForAll ? undefined : name)
  const before = listeners.map(({ limits }) => limits[limit as keyof Limits])
  const change = { [limit]: value } as Parameters<ListenerHandle['setLimits']>[0]
  // The first one that refuses does so before anything has changed: all listeners take the same limits.
  for (const listener of listeners) listener.setLimits(change)
  return listeners.map((listener, i) => ({
    listener: listener.name,
    limit,
    before: shown(before[i] as number | string),
    value: shown(value),
  }))
}

/** What listeners take while they run. */
const live: { readonly [K in keyof AdmissionLimits]: true } = {
  connections: true,
  connectionsPerSource: true,
  acceptRate: true,
}

/** Those that all listeners share. */
function setServerLimit(server: Server, limit: string, value: number): LimitChange {
  const before = server.limits[limit as keyof Server['limits']]
  server.setLimits({ [limit]: value })
  return { listener: '(server)', limit, before: shown(before), value: shown(value) }
}

function limitOf(given: unknown): number {
  if (given === 'unlimited') return Number.POSITIVE_INFINITY
  if (Number.isInteger(given) && (given as number) >= 0) return given as number
  throw new Error(`value: expected a whole number or "unlimited", got ${brief(given)}`)
}

function shown(value: number | string): number | string {
  return value === Number.POSITIVE_INFINITY ? 'unlimited' : value
}
