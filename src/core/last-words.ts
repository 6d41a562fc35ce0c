/**
 * What a peer has left behind to be said once its connection is over: `Protocol.closing`.
 *
 * Room: core, mechanism of the session. The connection is closed then: nothing is sent, and no deadline of the session counts, so
 * this has one of its own.
 */

import type { Clock } from './clock.js'
import type { Connection } from './connection.js'
import { ExecutorError, toError, UnroutedMessageError } from './errors.js'
import type { BoundHandler } from './handler.js'
import type { SessionPlan } from './plan.js'
import { isThenable } from './thenable.js'
import { pipelineOf, runMethod, Turn } from './turn.js'

interface LastWordsParts {
  readonly clock: Clock
  readonly handler: BoundHandler | undefined
  /** Counts and tells (`handler.failed`). @returns the error as it is told. */
  report(thrown: unknown, place: string): Error
}

/** @returns a promise that never rejects, where `@OnClose` has to wait; undefined: it comes at once. */
export function lastWords(
  connection: Connection,
  plan: SessionPlan,
  { clock, handler, report }: LastWordsParts,
): Promise<void> | undefined {
  const { protocol } = plan
  if (protocol?.closing === undefined) return undefined
  /** Its `@OnError` hears of it, and its answer is for nobody. */
  const failed = (thrown: unknown): never => {
    // That no method takes it is for the protocol to judge.
    if (thrown instanceof UnroutedMessageError) throw thrown
    const error = report(thrown, 'the message')
    try {
      const said = handler?.error?.(toError(thrown), connection)
      if (isThenable(said)) said.then(undefined, (second) => void report(second, '@OnError'))
    } catch (second) {
      report(second, '@OnError')
    }
    throw error
  }
  const handle = (message: unknown, route: string | undefined): unknown => {
    const isRouted = route !== undefined && handler?.routes?.has(route)
    const method = isRouted ? handler?.routes?.get(route) : handler?.message
    const pipeline = pipelineOf(plan, isRouted ? route : undefined)
    const turn = new Turn(connection, message, route, 0, method)
    try {
      const said = pipeline === null ? runMethod(turn) : pipeline(turn, runMethod)
      return isThenable(said) ? Promise.resolve(said).catch(failed) : said
    } catch (thrown) {
      return failed(thrown)
    }
  }
  let done: unknown
  try {
    done = protocol.closing(connection, handle)
  } catch (thrown) {
    report(thrown, 'what the protocol does at the end')
    return undefined
  }
  return isThenable(done) ? atMost(Promise.resolve(done), plan, clock, report) : undefined
}

/** `timeouts.handlerMs`, after which it is over for `@OnClose`, whatever becomes of it. */
function atMost(
  done: Promise<unknown>,
  { timeouts }: SessionPlan,
  clock: Clock,
  report: LastWordsParts['report'],
): Promise<void> {
  return new Promise((resolve) => {
    const cancel = clock.after(timeouts.handlerMs, () => {
      const text = `what is said after the end was not handled within handlerMs (${timeouts.handlerMs} ms)`
      report(new ExecutorError('TIMEOUT', text), 'what the protocol does at the end')
      resolve()
    })
    done
      .catch((thrown) => void report(thrown, 'what the protocol does at the end'))
      .then(() => {
        cancel()
        resolve()
      })
  })
}
