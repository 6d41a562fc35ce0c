/**
 * Options that all executors with places have in common.
 *
 * Room: plugins/executors.
 */
import { availableParallelism } from 'node:os'
import type { Connection } from '../../core/connection.js'
import type { OptionFields } from '../../core/option-schema.js'

export interface PoolOptions {
  size: number
  queue: number
  timeoutMs: number
  affinity: 'connection' | 'none' | ((connection: Connection) => string | number)
  whenLost: 'close' | 'reopen'
  recycleMessages: number
  recycleBytes: number
}

export function poolFields(kind: string, size = availableParallelism()): OptionFields<PoolOptions> {
  return {
    size: { unit: 'count', min: 1, max: 1024, default: size, why: `How many: ${kind}. Default: one a core.` },
    queue: {
      unit: 'count',
      min: 1,
      default: 1_000,
      unlimited: true,
      why: 'Messages under way or waiting there, all together; more are refused at once as OVERLOADED.',
    },
    timeoutMs: {
      unit: 'ms',
      min: 10,
      default: 30_000,
      unlimited: true,
      why: 'For one message. Then it is given up as TIMEOUT; a place that is silent for as long is killed and replaced.',
    },
    affinity: {
      unit: 'any',
      default: 'connection',
      why: '`connection`: all messages of a connection go to one place. `none`: each to the least busy. In code, a function of the connection that gives a key: equal keys share a place.',
      check: (value) =>
        value === 'connection' || value === 'none' || typeof value === 'function'
          ? undefined
          : 'expected connection, none or, in code, a function',
    },
    whenLost: {
      unit: 'choice',
      choices: ['close', 'reopen'],
      default: 'close',
      why: 'When a place is lost: `close` ends its connections as LOST; `reopen` gives them a handler elsewhere with their next message, and only what was under way is lost.',
    },
    recycleMessages: {
      unit: 'count',
      min: 1,
      default: Number.POSITIVE_INFINITY,
      unlimited: true,
      why: 'A place that has handled so many is replaced, and ends with its last connection.',
    },
    recycleBytes: {
      unit: 'bytes',
      min: 1,
      default: Number.POSITIVE_INFINITY,
      unlimited: true,
      why: 'The same, once it uses so much memory.',
    },
  }
}
