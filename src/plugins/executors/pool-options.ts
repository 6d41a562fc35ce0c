/**
 * Options that all executors with places have in common.
 *
 * Room: plugins/executors.
 */
import { isFileReference } from '../../core/config/load-module.js'
import type { Connection } from '../../core/connection.js'
import type { OptionFields } from '../../core/option-schema.js'
import { MOST_RECORD_BYTES } from '../../core/places/wire.js'

export interface PoolOptions {
  /** Left out: one a core. */
  size?: number
  queue: number
  timeoutMs: number
  queueBytes: number
  messageBytes: number
  startTimeoutMs: number
  affinity: 'connection' | 'none' | (string & {}) | AffinityKey
  whenLost: 'close' | 'reopen'
  recycleMessages: number
  recycleBytes: number
}

/** Equal keys share a place. */
export type AffinityKey = (connection: Connection) => string | number

export function poolFields(kind: string, size?: number): OptionFields<PoolOptions> {
  return {
    size: {
      unit: 'count',
      min: 1,
      max: 1024,
      default: size,
      why: `How many: ${kind}.${size === undefined ? ' Default: one a core.' : ''}`,
    },
    queue: {
      unit: 'count',
      min: 1,
      default: 1_000,
      unlimited: true,
      why: 'Messages under way or waiting there, all together; more are refused at once as OVERLOADED.',
    },
    queueBytes: {
      unit: 'bytes',
      min: 1,
      default: 64 * 1024 * 1024,
      unlimited: true,
      why: 'The same in bytes: when this much is under way, more is refused at once as OVERLOADED.',
    },
    messageBytes: {
      unit: 'bytes',
      min: 1024,
      default: MOST_RECORD_BYTES,
      max: 1024 * 1024 * 1024,
      why: 'Largest message, reply or item on its way; larger is refused as NOT_PORTABLE. A place that sends more ends.',
    },
    startTimeoutMs: {
      unit: 'ms',
      min: 100,
      default: 30_000,
      unlimited: true,
      why: 'For a place to be ready, its handlers loaded; then it is killed, and another one started.',
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
      why: '`connection`: all messages of a connection go to one place. `none`: each to the least busy. Or a function of the connection that gives a key, as `./file.ts#export` or in code itself: equal keys share a place.',
      check: (value) =>
        value === 'connection' ||
        value === 'none' ||
        typeof value === 'function' ||
        (typeof value === 'string' && (value.includes('#') || isFileReference(value)))
          ? undefined
          : 'connection, none, or a function: ./file.ts#export or, in code, itself',
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
      why: 'The same, once it uses so much memory: a process by its resident size, a thread by its heap and buffers.',
    },
  }
}
