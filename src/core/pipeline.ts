/**
 * Middleware, and how it is composed into one function.
 *
 * Room: core. In the walk of a byte it stands between the decoded message and the handler; composed once, when a listener
 * starts. No promise is made where nothing awaits, so a synchronous handler behind synchronous middleware stays so.
 */
import type { ConnectionContext, MessageContext } from './context.js'
import { WiringError } from './errors.js'

/**
 * One step around the handler: call `next()` to go on, return what it returned (or something else), throw to refuse.
 *
 * `next` may be called once; a second call throws.
 */
export type Middleware<C = MessageContext> = (context: C, next: () => unknown) => unknown

/** Middleware for both levels under one name. A bare function is message middleware. */
export interface MiddlewareSet {
  /** Shown by `explain` and in errors. */
  readonly name: string
  /**
   * Around a whole connection: before `next()` nothing has been read; `next()` returns a promise of the close. Not calling
   * it, or throwing before it, refuses the connection.
   */
  readonly connection?: Middleware<ConnectionContext>
  /** Around each message. */
  readonly message?: Middleware<MessageContext>
}

/** Where a step came from, outermost first. */
export type MiddlewareLevel = 'observer' | 'global' | 'listener' | 'protocol' | 'handler' | 'method'

export interface PlacedMiddleware {
  readonly level: MiddlewareLevel
  readonly set: MiddlewareSet
}

/** Runs the composed steps, then `last`. */
export type Pipeline<C> = (context: C, last: (context: C) => unknown) => unknown

/**
 * Composes steps, the first outermost.
 *
 * @returns undefined when there are none, so that the caller can go straight to the handler.
 */
export function compose<C>(steps: readonly Middleware<C>[]): Pipeline<C> | undefined {
  if (steps.length === 0) return undefined
  const run = (index: number, context: C, last: (context: C) => unknown): unknown => {
    const step = steps[index]
    if (step === undefined) return last(context)
    let called = false
    return step(context, () => {
      if (called) throw new WiringError('BAD_STATE', `middleware ${step.name || 'anonymous'} called next() twice`)
      called = true
      return run(index + 1, context, last)
    })
  }
  return (context, last) => run(0, context, last)
}

/** Names a bare function, so that `explain` and errors can speak of it. */
export function toMiddlewareSet(given: MiddlewareSet | Middleware<MessageContext>): MiddlewareSet {
  if (typeof given === 'function') return { name: given.name || 'anonymous', message: given }
  if (typeof given === 'object' && given !== null && (given.connection || given.message)) return given
  throw new WiringError(
    'BAD_OPTION',
    'middleware must be a function (context, next), or { name, connection?, message? }',
  )
}
