/** A connection the test plays: an address, a close by hand, and what was asked of it. */
import type { CloseReason, Connection } from '#src/core/connection.js'
import type { ConnectionContext, MessageContext } from '#src/core/context.js'
import { Endpoint, parseEndpoint } from '#src/core/endpoint.js'
import { EventHub, type EventName, eventNames } from '#src/core/events.js'
import type { Middleware, MiddlewareSet } from '#src/core/pipeline.js'
import type { Factory } from '#src/core/plugin.js'
import { issuePath, type SchemaResult } from '#src/core/standard-schema.js'
import { HandClock } from '../../../support/clock.js'

let count = 0

export class PlayedConnection {
  readonly id = String(++count)
  readonly endpoint: Endpoint
  readonly listener: string | undefined
  readonly remote: Endpoint | undefined
  readonly stats = { bytesIn: 1, bytesOut: 2, messagesIn: 3, messagesOut: 4 }
  /** Reasons given to `close`. */
  readonly closes: string[] = []
  readonly closed: Promise<CloseReason>
  readonly #abortion = new AbortController()
  #resolve: (reason: CloseReason) => void = () => {}

  constructor(host?: string, listener = 'default', endpoint = 'tcp://127.0.0.1:8080') {
    this.endpoint = parseEndpoint(endpoint)
    this.listener = listener
    this.remote = host === undefined ? undefined : new Endpoint({ scheme: 'tcp', host, port: 40_000 })
    this.closed = new Promise((resolve) => {
      this.#resolve = resolve
    })
  }

  get signal(): AbortSignal {
    return this.#abortion.signal
  }

  close(reason = 'ENDED'): Promise<CloseReason> {
    this.closes.push(reason)
    return this.closed
  }

  /** The link is gone. */
  async gone(reason: CloseReason = { code: 'ENDED', by: 'peer' }): Promise<void> {
    this.#abortion.abort(reason.error ?? new Error(reason.code))
    this.#resolve(reason)
    await this.closed
  }

  get asConnection(): Connection {
    return this as unknown as Connection
  }
}

export interface Played {
  readonly set: MiddlewareSet
  readonly clock: HandClock
  /** Events as they were told, with the error's code. */
  readonly told: string[]
  /** Runs the connection step; `next` opens the connection. */
  open(connection: PlayedConnection): { readonly opened: boolean; readonly error: unknown; readonly result: unknown }
  /** Runs the message step around a handler. */
  message(
    connection: PlayedConnection,
    handler?: (message: unknown) => unknown,
    given?: Partial<MessageContext>,
  ): unknown
}

/** Makes middleware from options as configuration gives them. */
export function play<O>(factory: Factory<MiddlewareSet, O>, given: unknown = {}): Played {
  const checked = factory.options?.['~standard'].validate(given) as SchemaResult<O>
  if (checked.issues !== undefined) {
    throw new Error(checked.issues.map((issue) => `${issuePath(issue)}: ${issue.message}`).join('\n'))
  }
  const clock = new HandClock()
  const events = new EventHub()
  const told: string[] = []
  for (const name of eventNames) {
    events.on(name as EventName, (event: unknown) => {
      told.push(`${name} ${(event as { error?: { code?: string } }).error?.code ?? ''}`.trim())
    })
  }
  const set = factory.create(checked.value, { clock, events })
  return {
    set,
    clock,
    told,
    open(connection) {
      let opened = false
      let error: unknown
      let result: unknown
      const next = () => {
        opened = true
        return connection.closed
      }
      try {
        const step = set.connection as Middleware<ConnectionContext> | undefined
        result = step === undefined ? next() : step({ connection: connection.asConnection }, next)
      } catch (thrown) {
        error = thrown
      }
      return { opened, error, result }
    },
    message(connection, handler = (message) => message, { message = 'hello', frameBytes = 5, route } = {}) {
      const context = { connection: connection.asConnection, message, frameBytes, route, handle: () => undefined }
      const step = set.message as Middleware<MessageContext>
      return step === undefined ? handler(message) : step(context, () => handler(context.message))
    },
  }
}

/** What a promise came to, once turns have passed; undefined while it is open. */
export function watch(promise: unknown): { value?: unknown; error?: unknown; isSettled: boolean } {
  const seen: { value?: unknown; error?: unknown; isSettled: boolean } = { isSettled: false }
  Promise.resolve(promise).then(
    (value) => Object.assign(seen, { value, isSettled: true }),
    (error) => Object.assign(seen, { error, isSettled: true }),
  )
  return seen
}

/** Lets settled promises be heard. */
export const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
