/**
 * `thread` and `thread-pool`: handlers in worker threads of this process.
 *
 * Room: plugins/executors. A batch is transferred, not copied.
 */
import { type ResourceLimits, Worker } from 'node:worker_threads'
import { ExecutorError, FrameError, WiringError } from '../../core/errors.js'
import type { Executor } from '../../core/executor.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Carrier, Channel, ChannelSink } from '../../core/places/channel.js'
import { mostBatchBytes } from '../../core/places/wire.js'
import type { Factory, PluginServices } from '../../core/plugin.js'
import { Pool } from './pool.js'
import { type PoolOptions, poolFields } from './pool-options.js'

export interface ThreadPoolOptions extends PoolOptions {
  resourceLimits: ResourceLimits
}

export interface ThreadOptions extends ThreadPoolOptions {
  per: 'connection' | 'server'
}

const resourceLimits = {
  unit: 'any',
  default: {},
  why: 'Of each thread, as `node:worker_threads` takes them: maxOldGenerationSizeMb, stackSizeMb …',
  check: (value: unknown) => (typeof value === 'object' && value !== null ? undefined : 'expected an object'),
} as const

/** A pool of threads; a connection keeps its thread. */
export const threadPool: Factory<Executor, ThreadPoolOptions> = {
  name: 'thread-pool',
  options: optionSchema<ThreadPoolOptions>({ ...poolFields('threads'), resourceLimits }),
  create: (options, services) => new Pool('thread-pool', new Threads(options, services), options, services),
}

/** One thread for the server, or one for each connection (`size` of them at most). */
export const thread: Factory<Executor, ThreadOptions> = {
  name: 'thread',
  options: optionSchema<ThreadOptions>({
    ...poolFields('threads, where each connection has one', 64),
    resourceLimits,
    per: {
      unit: 'choice',
      choices: ['connection', 'server'],
      default: 'server',
      why: 'One thread for all connections, or one for each.',
    },
  }),
  create(options, services) {
    const isPerConnection = options.per === 'connection'
    const settled = isPerConnection ? options : { ...options, size: 1 }
    return new Pool('thread', new Threads(options, services), settled, services, isPerConnection)
  },
}

class Threads implements Carrier {
  readonly kind = 'thread'
  readonly #options: ThreadPoolOptions
  readonly #services: PluginServices

  constructor(options: ThreadPoolOptions, services: PluginServices) {
    this.#options = options
    this.#services = services
  }

  open(sink: ChannelSink): Channel {
    const { places } = this.#services
    if (places === undefined) throw new WiringError('BAD_STATE', 'executor thread: nobody said how a thread begins')
    const { messageBytes } = this.#options
    const mostBytes = mostBatchBytes(messageBytes)
    const worker = new Worker(places.entry, {
      resourceLimits: this.#options.resourceLimits,
      workerData: { gaidaros: 'place', messageBytes },
    })
    const name = `thread ${worker.threadId}`
    let reason: Error | undefined
    let why: Error | undefined
    // A handler may post whatever it likes to its parent; only batches are ours.
    worker.on('message', (batch: unknown) => {
      if (batch instanceof Uint8Array && batch.byteLength <= mostBytes)
        return sink.data(Buffer.from(batch.buffer, batch.byteOffset, batch.byteLength))
      const what = batch instanceof Uint8Array ? `${batch.byteLength} bytes; ${mostBytes} is the most` : 'no bytes'
      sink.refused?.(new FrameError('MALFORMED', `${name} posted what is no batch: ${what}`))
    })
    worker.on('messageerror', (cause) => {
      sink.refused?.(new FrameError('MALFORMED', `${name} posted what cannot be read: ${cause.message}`, { cause }))
    })
    // Uncaught in the thread, or out of memory; 'exit' follows.
    worker.on('error', (error) => {
      why = error
    })
    worker.on('exit', (code) => {
      const cause = reason ?? why
      const message = cause === undefined ? `the thread ended with status ${code}` : cause.message
      sink.close(reason ?? new ExecutorError('LOST', message, { cause, status: code }))
    })
    return {
      name,
      send(batch) {
        const { buffer } = batch
        worker.postMessage(batch, buffer instanceof ArrayBuffer ? [buffer] : [])
        return true
      },
      close(given) {
        // Once: each call waits for the end with a listener of its own.
        if (reason !== undefined) return
        reason = given
        void worker.terminate()
      },
    }
  }
}
