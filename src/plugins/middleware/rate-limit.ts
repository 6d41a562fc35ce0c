/**
 * `rate-limit`: so many messages or bytes a second, with a burst above it.
 *
 * Room: plugins/middleware. Over any time t at most rate × t + burst pass, a message larger than a burst counting once. A
 * message that waits holds back those behind it, because a handler's order is
 * serial: the session reads on only up to `limits.readPauseBytes`.
 */
import type { Connection } from '../../core/connection.js'
import type { MessageContext } from '../../core/context.js'
import { ConfigError, ConnectionError, ShutdownError } from '../../core/errors.js'
import { optionSchema } from '../../core/option-schema.js'
import type { MiddlewareSet } from '../../core/pipeline.js'
import type { Factory, PluginServices } from '../../core/plugin.js'
import { TokenBucket } from '../../core/token-bucket.js'
import { sourceOf } from './source-of.js'

/** What sums of floating-point numbers are off by at most, and far less than a timer is. */
const ROUNDING_MS = 1e-6

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
      return new Budget(
        messages === undefined ? undefined : new TokenBucket(messages, burst ?? messages, now),
        bytes === undefined ? undefined : new TokenBucket(bytes, bytesBurst ?? bytes, now),
      )
    })
    return {
      name: 'rate-limit',
      message(context, next) {
        const { connection, frameBytes } = context
        const budget = find(connection)
        // A wait of 2006.0000000000002 ms is one of 2006: rounded up, the next would come too soon after it.
        const waitMs = Math.ceil(budget.lack(frameBytes, clock.now()) - ROUNDING_MS)
        if (waitMs <= 0) {
          budget.spend(frameBytes)
          return next()
        }
        if (over === 'close') {
          void connection.close('RATE_LIMITED')
          return undefined
        }
        if (over === 'refuse' || waitMs > maxDelayMs) {
          throw new ConnectionError('RATE_LIMITED', `over the rate limit; try again in ${waitMs} ms`, { waitMs })
        }
        // Spent in advance, so that whoever comes next waits behind this one.
        budget.spend(frameBytes)
        return later(context, waitMs, next, budget, services)
      },
    }
  },
}

class Budget {
  readonly #messages: TokenBucket | undefined
  readonly #bytes: TokenBucket | undefined

  constructor(messages: TokenBucket | undefined, bytes: TokenBucket | undefined) {
    this.#messages = messages
    this.#bytes = bytes
  }

  lack(frameBytes: number, now: number): number {
    const forMessage = this.#messages?.lack(1, now) ?? 0
    const forBytes = this.#bytes?.lack(frameBytes, now) ?? 0
    return Math.max(forMessage, forBytes)
  }

  spend(frameBytes: number): void {
    this.#messages?.spend(1)
    this.#bytes?.spend(frameBytes)
  }

  giveBack(frameBytes: number): void {
    this.#messages?.spend(-1)
    this.#bytes?.spend(-frameBytes)
  }
}

function finder(options: RateLimitOptions, make: () => Budget): (connection: Connection) => Budget {
  if (options.per === 'connection') {
    const budgets = new WeakMap<Connection, Budget>()
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
    const budgets = new Map<string, Budget>()
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
  const budgets = new Map<string, Budget>()
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
 * Goes on after a while.
 *
 * A peer that leaves meanwhile gives back what it spent, so that vanished peers make nobody wait; its message is told as
 * `message.dropped`.
 */
function later(
  { connection, frameBytes }: MessageContext,
  waitMs: number,
  next: () => unknown,
  budget: Budget,
  { clock, events }: PluginServices,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const { signal } = connection
    const leave = () => {
      cancel()
      budget.giveBack(frameBytes)
      const error = new ConnectionError('CLOSED', 'the connection was over while its message waited for the rate limit')
      // What is cut at the drain deadline the session tells itself.
      if (!(signal.reason instanceof ShutdownError)) events.emit('message.dropped', { connection, error })
      reject(error)
    }
    const cancel = clock.after(waitMs, () => {
      signal.removeEventListener('abort', leave)
      try {
        resolve(next())
      } catch (error) {
        reject(error)
      }
    })
    if (signal.aborted) leave()
    else signal.addEventListener('abort', leave, { once: true })
  })
}
