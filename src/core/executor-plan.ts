/**
 * Handler plans seen through executors: each method wrapped so that the executor calls it.
 *
 * Room: core, mechanism. Done once when a listener is planned; the session knows nothing of executors.
 */
import type { Connection } from './connection.js'
import type { Executor } from './executor.js'
import type { BoundHandler, HandlerPlan } from './handler.js'

type Method = (message: unknown, connection: Connection) => unknown

/** Messages go through `executor.run`; hooks stay where they are. */
export function runPlan(plan: HandlerPlan, executor: Executor): HandlerPlan {
  const wrapped = new WeakMap<BoundHandler, BoundHandler>()
  const wrap = (handler: BoundHandler): BoundHandler => {
    const through =
      (route: string | undefined): Method =>
      (message, connection) =>
        executor.run({ connection, handler, message, route, signal: connection.signal })
    const routes = handler.routes && new Map([...handler.routes.keys()].map((route) => [route, through(route)]))
    return { ...handler, message: handler.message && through(undefined), routes }
  }
  return {
    ...plan,
    bind(connection) {
      const handler = plan.bind(connection)
      const known = wrapped.get(handler) ?? wrap(handler)
      wrapped.set(handler, known)
      return known
    },
  }
}

/** Where a single method runs. */
export type Elsewhere =
  | { readonly run: Executor }
  /** A plan of its own, which has no part in the connection's life; `seats`: it has to be left at the close. */
  | { readonly plan: HandlerPlan; readonly seats: boolean }

/** A handler with some of its methods run elsewhere, by route (undefined: the one that takes the rest). */
export function mixedPlan(plan: HandlerPlan, elsewhere: ReadonlyMap<string | undefined, Elsewhere>): HandlerPlan {
  const others = [...elsewhere.values()].flatMap((one) => ('plan' in one ? [one] : []))
  return {
    definition: plan.definition,
    async prepare() {
      await plan.prepare?.()
      for (const other of others) await other.plan.prepare?.()
    },
    bind(connection) {
      const own = plan.bind(connection)
      const bound = new Map(others.map((other) => [other, other.plan.bind(connection)]))
      const methodOf = (route: string | undefined, method: Method | undefined): Method | undefined => {
        const one = elsewhere.get(route)
        if (one === undefined) return method
        if ('run' in one) {
          return (message, on) => one.run.run({ connection: on, handler: own, message, route, signal: on.signal })
        }
        const there = bound.get(one)
        return route === undefined ? there?.message : there?.routes?.get(route)
      }
      return {
        ...own,
        message: methodOf(undefined, own.message),
        routes:
          own.routes && new Map([...own.routes].map(([route, method]) => [route, methodOf(route, method) ?? method])),
        abandon(on, error) {
          own.abandon?.(on, error)
          for (const other of others) bound.get(other)?.abandon?.(on, error)
        },
        async close(on, reason) {
          await own.close?.(on, reason)
          for (const other of others) if (other.seats) await bound.get(other)?.close?.(on, reason)
        },
      }
    },
    async release(connection) {
      await plan.release(connection)
      for (const other of others) await other.plan.release(connection)
    },
  }
}
