/**
 * `process` and `process-pool`: handlers in child processes; one that crashes takes no other with it.
 *
 * Room: plugins/executors. Batches go over a pipe of our own, each behind its length, so that neither a handler's
 * `process.send` nor its output can be taken for one, and none is larger than it may be.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { ExecutorError, FrameError, WiringError } from '../../core/errors.js'
import type { Executor } from '../../core/executor.js'
import { optionSchema } from '../../core/option-schema.js'
import { withoutPassedSockets } from '../../core/passed-sockets.js'
import type { Carrier, Channel, ChannelSink } from '../../core/places/channel.js'
import { pipeChannel } from '../../core/places/pipe-channel.js'
import { mostBatchBytes } from '../../core/places/wire.js'
import type { Factory, PluginServices } from '../../core/plugin.js'
import { Pool } from './pool.js'
import { type PoolOptions, poolFields } from './pool-options.js'

export interface ProcessPoolOptions extends PoolOptions {
  execArgv: readonly string[]
  heapMb: number
}

export interface ProcessOptions extends ProcessPoolOptions {
  per: 'connection' | 'server'
}

const ownFields = {
  execArgv: {
    unit: 'list',
    default: [],
    why: 'Further arguments for Node, such as --cpu-prof. Files and variables may say those alone that load and open nothing; code and the command line any.',
    fromData: misfitOfArguments,
  },
  heapMb: {
    unit: 'count',
    default: 0,
    why: 'Largest heap of each process in MiB (--max-old-space-size); 0 leaves it to Node.',
  },
} as const

/** Arguments of Node (node(1)) that run nothing, listen nowhere and name no file: memory, warnings, profiles, name look-ups. */
const HARMLESS =
  /^--(?:max-old-space-size|max-semi-space-size|stack-trace-limit|unhandled-rejections|dns-result-order|cpu-prof-interval|heap-prof-interval|secure-heap|title)=[\w .-]+$|^--(?:cpu-prof|heap-prof|enable-source-maps|trace-warnings|trace-deprecation|trace-uncaught|no-warnings|no-deprecation|pending-deprecation|throw-deprecation|expose-gc|jitless|disallow-code-generation-from-strings|frozen-intrinsics|optimize-for-size)$/

function misfitOfArguments(value: unknown): string | undefined {
  const bad = (Array.isArray(value) ? value : []).find((one) => typeof one !== 'string' || !HARMLESS.test(one))
  return bad === undefined
    ? undefined
    : `arguments that load and open nothing, such as --max-old-space-size=512 or --cpu-prof, got ${JSON.stringify(bad)}; code and --set may say any`
}

/** A pool of processes; a connection keeps its process. */
export const processPool: Factory<Executor, ProcessPoolOptions> = {
  name: 'process-pool',
  options: optionSchema<ProcessPoolOptions>({ ...poolFields('processes'), ...ownFields }),
  create: (options, services) => new Pool('process-pool', new Processes(options, services), options, services),
}

/** One process for the server, or one for each connection (`size` of them at most). */
export const childProcess: Factory<Executor, ProcessOptions> = {
  name: 'process',
  options: optionSchema<ProcessOptions>({
    ...poolFields('processes, where each connection has one', 16),
    ...ownFields,
    per: {
      unit: 'choice',
      choices: ['connection', 'server'],
      default: 'server',
      why: 'One process for all connections, or one for each.',
    },
  }),
  create(options, services) {
    const isPerConnection = options.per === 'connection'
    const settled = isPerConnection ? options : { ...options, size: 1 }
    return new Pool('process', new Processes(options, services), settled, services, isPerConnection)
  },
}

/** For what a process still has to do once its pipe is closed. */
const LAST_MS = 2_000

class Processes implements Carrier {
  readonly kind = 'process'
  readonly #options: ProcessPoolOptions
  readonly #services: PluginServices

  constructor(options: ProcessPoolOptions, services: PluginServices) {
    this.#options = options
    this.#services = services
  }

  open(sink: ChannelSink): Channel {
    const { places } = this.#services
    if (places === undefined) throw new WiringError('BAD_STATE', 'executor process: nobody said how a process begins')
    const { execArgv, heapMb, messageBytes } = this.#options
    const heap = heapMb > 0 ? [`--max-old-space-size=${heapMb}`] : []
    const child = spawn(process.execPath, [...ownArguments(), ...heap, ...execArgv, fileURLToPath(places.entry)], {
      // Its words are ours; the fourth is the pipe.
      stdio: ['ignore', outputOf(process.stdout), outputOf(process.stderr), 'pipe'],
      env: { ...withoutPassedSockets(process.env), GAIDAROS_PLACE: `3:${messageBytes}` },
    })
    child.stdout?.on('data', (text) => process.stdout.write(text))
    child.stderr?.on('data', (text) => process.stderr.write(text))
    return channelOf(child, sink, mostBatchBytes(messageBytes))
  }
}

/** Where this process's output goes somewhere else by its `write` (a log file), that of its children has to follow. */
function outputOf(stream: NodeJS.WriteStream): 'inherit' | 'pipe' {
  return Object.hasOwn(stream, 'write') ? 'pipe' : 'inherit'
}

function channelOf(child: ChildProcess, sink: ChannelSink, mostBytes: number): Channel {
  let reason: Error | undefined
  let isOver = false
  const finish = (error: Error) => {
    if (isOver) return
    isOver = true
    sink.close(reason ?? error)
  }
  const name = `process ${child.pid ?? '(not started)'}`
  child.on('error', (cause) => finish(new ExecutorError('LOST', `${name}: ${cause.message}`, { cause })))
  child.on('exit', (status, signal) => {
    const how = signal === null ? `with status ${status}` : `by ${signal}`
    finish(new ExecutorError('LOST', `the process ended ${how}`, { status, signal }))
  })
  const ends = {
    data: (batch: Buffer) => sink.data(batch),
    drain: () => sink.drain(),
    close: (error: Error) => {
      // What it was is told better by the exit that follows; a broken frame by this alone.
      if (error instanceof FrameError) {
        reason ??= error
        sink.refused?.(error)
        child.kill('SIGKILL')
      }
      // One that has closed its pipe and goes on living is of no use.
      setTimeout(() => child.kill('SIGKILL'), LAST_MS).unref()
    },
  }
  // Where no descriptor is free Node makes no pipes at all, and the error follows (child_process.spawn, EMFILE).
  const stdio = (child as { stdio?: ChildProcess['stdio'] }).stdio
  if (stdio === undefined) return { name, send: () => true, close: () => {} }
  const pipe = pipeChannel(stdio[3] as unknown as Duplex, ends, mostBytes)
  return {
    name,
    send: (batch) => pipe.send(batch),
    close(given) {
      reason ??= given
      child.kill('SIGKILL')
    },
  }
}

/** As this process was started; but a debugger's door is opened to one process, not to each of its children. */
function ownArguments(): string[] {
  return process.execArgv.filter((argument) => !/^--(inspect|debug)/.test(argument))
}
