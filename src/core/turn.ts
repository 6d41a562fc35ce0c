/**
 * One message on its way through middleware to its method.
 *
 * Room: core, mechanism of the session.
 */
import type { Connection } from './connection.js'
import type { MessageContext } from './context.js'
import { UnroutedMessageError } from './errors.js'
import type { Task } from './executor.js'
import type { SessionPlan } from './plan.js'

/** What middleware sees of a message; made only where there is middleware. */
export class Turn implements MessageContext {
  readonly connection: Connection
  message: unknown
  readonly route: string | undefined
  readonly frameBytes: number
  readonly method: ((message: unknown, connection: Connection) => unknown) | undefined

  constructor(
    connection: Connection,
    message: unknown,
    route: string | undefined,
    frameBytes: number,
    method: Turn['method'],
  ) {
    this.connection = connection
    this.message = message
    this.route = route
    this.frameBytes = frameBytes
    this.method = method
  }

  handle(message: unknown, route: string | undefined): unknown {
    return (this.connection as HandlingConnection).handleFor(message, route, 0)
  }
}

/** A session, as far as a turn knows it. */
interface HandlingConnection extends Connection {
  handleFor(message: unknown, route: string | undefined, frameBytes: number): unknown
}

export function runMethod(turn: MessageContext): unknown {
  const { method, message, connection, route } = turn as Turn
  if (method === undefined) throw unrouted(route)
  return method(message, connection)
}

/** What stands before a method; null: nothing. @param route - Where the method is for that alone. */
export function pipelineOf({ messagePipeline, methodPipelines }: SessionPlan, route: string | undefined) {
  const own = methodPipelines?.get(route)
  return own === undefined ? (messagePipeline ?? null) : own
}

/** Protocols throw and catch it for whatever they answer by themselves: where it was made says nothing, and costs most of it. */
export function unrouted(route: string | undefined): UnroutedMessageError {
  const what = route === undefined ? 'a message without a route' : `route \`${route}\``
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0
  const error = new UnroutedMessageError('UNROUTED', `no @OnMessage takes ${what}`, { route })
  Error.stackTraceLimit = stackTraceLimit
  return error
}

/** Calls the method that a task is for. @throws {UnroutedMessageError} */
export function runTask({ handler, message, route, connection }: Task): unknown {
  const method = (route === undefined ? undefined : handler.routes?.get(route)) ?? handler.message
  if (method === undefined) throw unrouted(route)
  return method(message, connection)
}
