/**
 * A handler plan whose handlers are only messengers: what the session calls is done in another place.
 *
 * Room: core, mechanism. Who chooses the place, and what becomes of a connection whose place is lost, is the pool's
 * business.
 */
import type { CloseReason, Connection } from '../connection.js'
import { ExecutorError } from '../errors.js'
import type { Placement } from '../executor.js'
import type { BoundHandler, HandlerPlan } from '../handler.js'
import type { PlaceHandle, Seat } from './place-handle.js'

/** What the plan needs of a pool. */
export interface PlaceChooser {
  /** @throws {ExecutorError} `OVERLOADED` when there is none. */
  choose(connection: Connection): PlaceHandle
  /** Counts a message in. @throws {ExecutorError} `OVERLOADED` when too many wait. */
  admit(): void
  /** Counts it out again, when it could not be sent. */
  undo(): void
  /** Any place for each message, instead of one for a connection. */
  readonly isPerMessage: boolean
  /** A connection whose place is lost takes a seat elsewhere with its next message. */
  readonly reopens: boolean
}

export function placedPlan(plan: HandlerPlan, key: number, chooser: PlaceChooser, placement: Placement): HandlerPlan {
  const { definition } = plan
  const given = definition.hooks
  const seats = new Map<Connection, Seat[]>()

  const seatOf = (connection: Connection): Seat => {
    const taken = seats.get(connection)
    if (taken !== undefined && !chooser.isPerMessage) {
      const [seat] = taken as [Seat]
      if (!seat.isLost) return seat
      if (!chooser.reopens)
        throw new ExecutorError('LOST', `${seat.place.name}, where this connection's handler was, is gone`)
    }
    const place = chooser.choose(connection)
    const present = taken?.find((seat) => seat.place === place && !seat.isLost)
    if (present !== undefined) return present
    // Only one handler has its part in the connection's life: the first.
    const hooks = placement.hooks && (taken === undefined || !chooser.isPerMessage)
    const seat = place.open(key, connection, hooks)
    if (taken === undefined) seats.set(connection, [seat])
    else if (chooser.isPerMessage) taken.push(seat)
    else {
      taken[0] = seat
      // Its handler begins anew over there; the peer was greeted once already.
      if (given.open !== undefined && placement.hooks) void ask(() => place.hook(seat, 'open')).catch(() => {})
    }
    return seat
  }
  const firstOf = (connection: Connection): Seat => seats.get(connection)?.[0] ?? seatOf(connection)
  /** Counted in; out again if it could not even be sent. */
  const ask = (send: () => Promise<unknown>): Promise<unknown> => {
    chooser.admit()
    try {
      return send()
    } catch (error) {
      chooser.undo()
      throw error
    }
  }
  const messenger = (method: number) => (message: unknown, connection: Connection) =>
    ask(() => {
      const seat = seatOf(connection)
      return seat.place.message(seat, method, message)
    })
  const hook = (name: 'idle' | 'peerEnd' | 'drain' | 'error', connection: Connection, value?: unknown) => {
    const seat = firstOf(connection)
    return seat.isLost ? undefined : ask(() => seat.place.hook(seat, name, value))
  }

  let takesRest = false
  const routes = new Map<string, (message: unknown, connection: Connection) => unknown>()
  definition.messages.forEach(({ route }, index) => {
    if (route === undefined) takesRest = true
    else routes.set(route, messenger(index + 1))
  })
  const own = (name: keyof typeof given) => placement.hooks && given[name] !== undefined
  const bound: BoundHandler = {
    message: takesRest ? messenger(0) : undefined,
    routes: routes.size === 0 ? undefined : routes,
    open: placement.hooks
      ? (connection) => {
          const seat = seatOf(connection)
          return given.open === undefined ? undefined : ask(() => seat.place.hook(seat, 'open'))
        }
      : undefined,
    idle: own('idle') ? (connection) => hook('idle', connection) : undefined,
    peerEnd: own('peerEnd') ? (connection) => hook('peerEnd', connection) : undefined,
    drain: own('drain') ? (connection, deadline) => hook('drain', connection, deadline) : undefined,
    error: own('error') ? (error, connection) => hook('error', connection, error) : undefined,
    close: (connection, reason) => leave(connection, reason),
    abandon(connection, error) {
      for (const seat of seats.get(connection) ?? []) if (!seat.isLost) seat.place.abandon(seat, error)
    },
  }
  const leave = (connection: Connection, reason: CloseReason): Promise<void> | undefined => {
    const taken = seats.get(connection)
    if (taken === undefined) return undefined
    seats.delete(connection)
    return Promise.all(taken.map((seat) => seat.place.leave(seat, reason))).then(() => {})
  }
  // Without its close hook, whoever holds the connection may only release it.
  const release = (connection: Connection) => leave(connection, { code: 'ENDED', by: 'server' })
  return { definition, bind: () => bound, release }
}

/** Methods by the number they have on the way: 0 is `@OnMessage()`. */
export function methodOf(plan: HandlerPlan, bound: BoundHandler, number: number): BoundHandler['message'] {
  if (number === 0) return bound.message
  const route = plan.definition.messages[number - 1]?.route
  return route === undefined ? undefined : bound.routes?.get(route)
}
