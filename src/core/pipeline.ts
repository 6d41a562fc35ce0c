/**
 * Middleware, and how it is composed into one function.
 *
 * Room: core. In the walk of a byte it stands between the decoded message and the handler; composed once, when a listener
 * starts. No promise is made where nothing awaits, so a synchronous handler behind synchronous middleware stays so.
 */

import type { ConnectionContext, MessageContext } from './context.js'
import { WiringError } from './errors.js'
import { isThenable } from './thenable.js'

/**
 * One step around the handler: call `next()` to go on, return what it returned (or something else), throw to refuse.
 *
 * `next` may be called once; a second call throws. A step that calls it and neither returns nor awaits what it gives loses the
 * handler's reply; an error behind it is told as `handler.failed` of its connection, and the step is warned of once.
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

/** What is done about a step that goes on without what `next()` promised. */
export interface Forgetting<C> {
  /** By the place of the step among those that were composed. */
  readonly names: readonly string[]
  /** The promise was rejected, and nobody has waited for it. */
  failed(context: C, name: string, error: unknown): void
}

/**
 * Composes steps, the first outermost.
 *
 * @param forgetting - Left out: what `next()` returns is never a failure (connections).
 * @returns undefined when there are none, so that the caller can go straight to the handler.
 */
export function compose<C>(steps: readonly Middleware<C>[], forgetting?: Forgetting<C>): Pipeline<C> | undefined {
  if (steps.length === 0) return undefined
  const nameOf = (index: number) => forgetting?.names[index] ?? (steps[index]?.name || 'anonymous')
  const run = (index: number, context: C, last: (context: C) => unknown): unknown => {
    const step = steps[index]
    if (step === undefined) return last(context)
    if (forgetting === undefined) return runPlain(step, nameOf(index), () => run(index + 1, context, last), context)
    let isCalled = false
    let isOver = false
    let isAnswered = false
    let kept: Kept | undefined
    let result: unknown
    const next = (): unknown => {
      if (isCalled) throw new WiringError('BAD_STATE', `middleware ${nameOf(index)} called next() twice`)
      isCalled = true
      let inner: unknown
      try {
        inner = run(index + 1, context, last)
      } catch (thrown) {
        if (!isAnswered) throw thrown
        // From a timer or the like: nobody there could catch it.
        inner = Promise.reject(thrown)
      }
      if (!isThenable(inner)) return inner
      kept = new Kept(inner)
      if (isOver) watch(kept, isAnswered ? undefined : result, context, nameOf(index), forgetting)
      return kept
    }
    try {
      result = step(context, next)
    } catch (thrown) {
      isOver = isAnswered = true
      if (kept !== undefined) watch(kept, undefined, context, nameOf(index), forgetting)
      throw thrown
    }
    isOver = true
    // What nearly every step does costs no further promise.
    if (kept !== undefined && result === kept) return (kept as Kept).inner
    if (kept !== undefined) watch(kept, result, context, nameOf(index), forgetting)
    else if (!isThenable(result)) isAnswered = true
    else if (!isCalled) {
      const answered = () => {
        isAnswered = true
      }
      result.then(answered, answered)
    }
    return result
  }
  return (context, last) => run(0, context, last)
}

function runPlain<C>(step: Middleware<C>, name: string, go: () => unknown, context: C): unknown {
  let isCalled = false
  return step(context, () => {
    if (isCalled) throw new WiringError('BAD_STATE', `middleware ${name} called next() twice`)
    isCalled = true
    return go()
  })
}

/**
 * The promise that `next()` returns: one that knows whether anybody has asked for its outcome. It is told of by `await`, `return`
 * from an async function and `Promise.resolve` through `then`, as any thenable is.
 */
class Kept implements PromiseLike<unknown> {
  isAsked = false
  readonly inner: PromiseLike<unknown>

  constructor(inner: PromiseLike<unknown>) {
    this.inner = inner
  }
  then<A, B>(
    fulfilled?: ((value: unknown) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): PromiseLike<A | B> {
    this.isAsked = true
    return this.inner.then(fulfilled, rejected)
  }
  catch(rejected: (reason: unknown) => unknown): PromiseLike<unknown> {
    return this.then(undefined, rejected)
  }
  finally(done: () => void): Promise<unknown> {
    this.isAsked = true
    return Promise.resolve(this.inner).finally(done)
  }
}
// `instanceof Promise` is what some middleware asks.
Object.setPrototypeOf(Kept.prototype, Promise.prototype)

/** Tells of what was promised and not waited for, once the step has answered without it. */
function watch<C>(kept: Kept, result: unknown, context: C, name: string, forgetting: Forgetting<C>): void {
  if (kept.isAsked) return
  let isAnswered = !isThenable(result)
  let failure: { readonly error: unknown } | undefined
  const tell = () => {
    if (!isAnswered || kept.isAsked) return
    warnOnce(name)
    if (failure !== undefined) forgetting.failed(context, name, failure.error)
    failure = undefined
  }
  const answered = () => {
    isAnswered = true
    tell()
  }
  // Heard here, or the rejection of a promise that nobody holds would end the process.
  kept.inner.then(tell, (error) => {
    failure = { error }
    tell()
  })
  if (isThenable(result)) result.then(answered, answered)
  else tell()
}

const warned = new Set<string>()
/** Names come from configuration, so there are few; the bound is for generated ones. */
const MOST_WARNED = 100

function warnOnce(name: string): void {
  if (warned.has(name) || warned.size >= MOST_WARNED) return
  warned.add(name)
  process.emitWarning(
    `middleware ${name} did not return next(): replies and errors of asynchronous handlers are lost behind it`,
    {
      type: 'GaidarosWarning',
      code: 'GAIDAROS_NEXT_NOT_RETURNED',
      detail: 'Write `return next()`, or await it.',
    },
  )
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
