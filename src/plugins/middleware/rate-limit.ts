/**
 * `rate-limit`: so many messages or bytes a second, with a burst above it.
 *
 * Room: plugins/middleware. Over any time t at most rate × t + burst pass, a message larger than a burst counting once. Connections
 * that share a budget have their turns one after another, each with its messages in order; the session reads on only up to
 * `limits.readPauseBytes`.
 */
import type { Connection } from '../../core/connection.js'
import type { MessageContext } from '../../core/context.js'
import { ConfigError, ConnectionError, ShutdownError } from '../../core/errors.js'
import { optionSchema } from '../../core/option-schema.js'
import type { MiddlewareSet } from '../../core/pipeline.js'
import type { Factory, PluginServices } from '../../core/plugin.js'
import { TokenBucket } from '../../core/token-bucket.js'
import { RateQueue } from './rate-queue.js'
import { sourceOf } from './source-of.js'

export interface RateLimitOptions {
  messages?: number
  bytes?: number
  burst?: number
  per: 'connection' | 'source' | 'listener'
  over: 'delay' | 'refuse' | 'close'
  maxDelayMs: number
  sources: number
}

/**
 * Over the rate a message waits, fails (`RATE_LIMITED`, to `@OnError` or `error-reply`), or closes its connection as
 * `RATE_LIMITED`. Reach: that connection.
 *
 * @throws {ConfigError} `BAD_VALUE` at the start, with neither `messages` nor `bytes`.
 */
export const rateLimit: Factory<MiddlewareSet, RateLimitOptions> = {
  name: 'rate-limit',
  options: optionSchema<RateLimitOptions>({
    messages: { unit: 'count', min: 1, why: 'Messages a second.' },
    bytes: { unit: 'bytes', min: 1, why: 'Bytes of payload a second.' },
    burst: {
      unit: 'count',
      min: 1,
      why:
        'What may come at once after a silence: messages, or bytes where only bytes are limited. Default: what one ' +
        'second allows.',
    },
    per: {
      unit: 'choice',
      choices: ['connection', 'source', 'listener'],
      default: 'connection',
      why: 'Who shares one budget. A source is an IPv4 address or an IPv6 /64; peers without an address are one source.',
    },
    over: {
      unit: 'choice',
      choices: ['delay', 'refuse', 'close'],
      default: 'delay',
      why: 'Over it: let the peer wait, fail the message, or close.',
    },
    maxDelayMs: {
      unit: 'ms',
      max: 2_147_483_647,
      default: 20_000,
      why: 'A message that would wait longer is refused. Below timeouts.handlerMs, which counts the wait as well.',
    },
    sources: {
      unit: 'count',
      min: 1,
      default: 10_000,
      why: 'Source addresses remembered; the least recently seen is forgotten, because addresses can be many.',
    },
  }),
  create(options, services) {
    const { messages, bytes, burst, over, maxDelayMs } = options
    const { clock } = services
    if (messages === undefined && bytes === undefined) {
      throw new ConfigError('BAD_VALUE', 'rate-limit: expected `messages` or `bytes` a second, or both; got neither')
    }
    const bytesBurst = messages === undefined ? burst : undefined
    const find = finder(options, () => {
      const now = clock.now()
      return new RateQueue(
        messages === undefined ? undefined : new TokenBucket(messages, burst ?? messages, now),
        bytes === undefined ? undefined : new TokenBucket(bytes, bytesBurst ?? bytes, now),
        clock,
      )
    })
    return {
      name: 'rate-limit',
      message(context, next) {
        const { connection, frameBytes } = context
        const budget = find(connection)
        const waitMs = budget.take(connection, frameBytes)
        if (waitMs <= 0) return next()
        if (over === 'close') {
          void connection.close('RATE_LIMITED')
          return undefined
        }
        if (over === 'refuse' || waitMs > maxDelayMs) {
          throw new ConnectionError('RATE_LIMITED', `over the rate limit; try again in ${waitMs} ms`, { waitMs })
        }
        return later(context, next, budget, services)
      },
    }
  },
}

function finder(options: RateLimitOptions, make: () => RateQueue): (connection: Connection) => RateQueue {
  if (options.per === 'connection') {
    const budgets = new WeakMap<Connection, RateQueue>()
    return (connection) => {
      let budget = budgets.get(connection)
      if (budget === undefined) {
        budget = make()
        budgets.set(connection, budget)
      }
      return budget
    }
  }
  if (options.per === 'listener') {
    // Middleware named at the top of a configuration serves several.
    const budgets = new Map<string, RateQueue>()
    return ({ listener = '' }) => {
      let budget = budgets.get(listener)
      if (budget === undefined) {
        budget = make()
        budgets.set(listener, budget)
      }
      return budget
    }
  }
  const sources = new WeakMap<Connection, string>()
  const budgets = new Map<string, RateQueue>()
  return (connection) => {
    let source = sources.get(connection)
    if (source === undefined) {
      source = sourceOf(connection, 64) ?? ''
      sources.set(connection, source)
    }
    const budget = budgets.get(source) ?? make()
    // A map keeps the order of insertion: put again, it is the most recent.
    budgets.delete(source)
    budgets.set(source, budget)
    if (budgets.size > options.sources) budgets.delete(budgets.keys().next().value as string)
    return budget
  }
}

/**
 * Goes on when its turn has come. What waited of a peer that leaves meanwhile is told as `message.dropped`, and has cost nothing.
 */
function later(
  { connection, frameBytes }: MessageContext,
  next: () => unknown,
  budget: RateQueue,
  { events }: PluginServices,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const pass = () => {
      try {
        resolve(next())
      } catch (error) {
        reject(error)
      }
    }
    const leave = () => {
      const error = new ConnectionError('CLOSED', 'the connection was over while its message waited for the rate limit')
      // What is cut at the drain deadline the session tells itself.
      if (!(connection.signal.reason instanceof ShutdownError)) events.emit('message.dropped', { connection, error })
      reject(error)
    }
    budget.wait(connection, frameBytes, pass, leave)
  })
}
