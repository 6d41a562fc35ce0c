/**
 * `rate-limit`: so many messages or bytes a second, with a burst above it.
 *
 * Room: plugins/middleware. A token bucket (RFC 2697 describes one): over any time t at most rate × t + burst pass.
 */
import type { Clock } from '../../core/clock.js'
import type { MessageContext } from '../../core/context.js'
import { ConfigError, ConnectionError } from '../../core/errors.js'
import { optionSchema } from '../../core/option-schema.js'
import type { MiddlewareSet } from '../../core/pipeline.js'
import type { Factory } from '../../core/plugin.js'
import { sourceOf } from './source-of.js'

export interface RateLimitOptions {
  messages?: number
  bytes?: number
  burst?: number
  per: 'connection' | 'source' | 'listener'
  over: 'delay' | 'refuse' | 'close'
  sources: number
}

export const rateLimit: Factory<MiddlewareSet, RateLimitOptions> = {
  name: 'rate-limit',
  options: optionSchema<RateLimitOptions>({
    messages: { unit: 'count', min: 1, why: 'Messages a second.' },
    bytes: { unit: 'bytes', min: 1, why: 'Bytes of payload a second.' },
    burst: { unit: 'count', min: 1, why: 'What may come at once after a silence; default: what one second allows.' },
    per: {
      unit: 'choice',
      choices: ['connection', 'source', 'listener'],
      default: 'connection',
      why: 'Who shares one budget.',
    },
    over: {
      unit: 'choice',
      choices: ['delay', 'refuse', 'close'],
      default: 'delay',
      why: 'Over it: let the peer wait, fail the message, or close.',
    },
    sources: {
      unit: 'count',
      min: 1,
      default: 10_000,
      why: 'Source addresses remembered; the least recently seen is forgotten.',
    },
  }),
  create(options, { clock }) {
    const { messages, bytes, burst, per, over } = options
    if (messages === undefined && bytes === undefined) {
      throw new ConfigError('BAD_VALUE', 'rate-limit: expected `messages` or `bytes` a second, or both; got neither')
    }
    const make = (): Bucket[] => [
      ...(messages === undefined ? [] : [new Bucket(messages, burst ?? messages, clock)]),
      ...(bytes === undefined
        ? []
        : [new Bucket(bytes, burst === undefined || messages !== undefined ? bytes : burst, clock)]),
    ]
    const hasMessages = messages !== undefined
    const find = finder(per, options.sources, make)
    return {
      name: 'rate-limit',
      message(context, next) {
        const buckets = find(context)
        let waitMs = 0
        buckets.forEach((bucket, i) => {
          const amount = hasMessages && i === 0 ? 1 : context.frameBytes
          waitMs = Math.max(waitMs, over === 'delay' ? bucket.take(amount) : bucket.lack(amount))
        })
        if (waitMs <= 0) {
          if (over !== 'delay')
            for (const [i, bucket] of buckets.entries()) bucket.take(hasMessages && i === 0 ? 1 : context.frameBytes)
          return next()
        }
        if (over === 'delay') return later(clock, waitMs, next)
        if (over === 'close') {
          void context.connection.close('RATE_LIMITED')
          return undefined
        }
        throw new ConnectionError('RATE_LIMITED', `over the rate limit; try again in ${Math.ceil(waitMs)} ms`, {
          waitMs,
        })
      },
    }
  },
}

/** What is left to spend; may be in debt by one delayed message. */
export class Bucket {
  #left: number
  #at: number
  readonly #perMs: number
  readonly #burst: number
  readonly #clock: Clock

  constructor(perSecond: number, burst: number, clock: Clock) {
    this.#perMs = perSecond / 1_000
    this.#burst = burst
    this.#left = burst
    this.#clock = clock
    this.#at = clock.now()
  }

  /** Milliseconds until so much may pass; 0: now. More than a burst passes once the bucket is full. */
  lack(amount: number): number {
    const now = this.#clock.now()
    this.#left = Math.min(this.#burst, this.#left + (now - this.#at) * this.#perMs)
    this.#at = now
    return Math.max(0, (Math.min(amount, this.#burst) - this.#left) / this.#perMs)
  }

  /** Spends, if need be in advance. @returns as `lack`. */
  take(amount: number): number {
    const waitMs = this.lack(amount)
    this.#left -= amount
    return waitMs
  }
}

type Find = (context: MessageContext) => readonly Bucket[]

function finder(per: RateLimitOptions['per'], most: number, make: () => Bucket[]): Find {
  if (per === 'listener') {
    const all = make()
    return () => all
  }
  if (per === 'connection') {
    const byConnection = new WeakMap<object, Bucket[]>()
    return ({ connection }) => {
      const known = byConnection.get(connection) ?? make()
      byConnection.set(connection, known)
      return known
    }
  }
  const bySource = new Map<string, Bucket[]>()
  return ({ connection }) => {
    const source = sourceOf(connection, 64) ?? ''
    const known = bySource.get(source) ?? make()
    // A map keeps the order of insertion: put again, it is the most recent.
    bySource.delete(source)
    bySource.set(source, known)
    if (bySource.size > most) bySource.delete(bySource.keys().next().value as string)
    return known
  }
}

function later(clock: Clock, waitMs: number, next: () => unknown): Promise<unknown> {
  return new Promise((resolve, reject) => {
    clock.after(waitMs, () => {
      try {
        resolve(next())
      } catch (error) {
        reject(error)
      }
    })
  })
}
