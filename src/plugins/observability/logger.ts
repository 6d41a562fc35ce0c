/**
 * `logger`: events of the server as lines of JSON, by pino or by any logger that is given.
 *
 * Room: plugins/observability. A line is one line whatever a peer sends, below 1 KiB, without secrets; of one kind so many a
 * second are written, and those left out are counted and said. Whatever happens to the place lines go to (full, gone, its
 * reader has left), the service goes on.
 */
import { closeSync, openSync, writeSync } from 'node:fs'
import { ConfigError, toError } from '../../core/errors.js'
import { type EventName, type Events, eventNames } from '../../core/events.js'
import type { ObservedServer, Observer } from '../../core/observer.js'
import { optionSchema } from '../../core/option-schema.js'
import { peerPackage } from '../../core/peer-package.js'
import { definePlugin, type PluginServices } from '../../core/plugin.js'
import { type Facts, safeRecord } from './record.js'

const levelNames = ['error', 'warn', 'info', 'debug'] as const
export type LogLevel = (typeof levelNames)[number]

/** pino, bunyan, winston's child, console ...: a method a level, given the facts and a message. */
export type AnyLogger = { readonly [Level in LogLevel]: (facts: object, message?: string) => unknown }

export interface LoggerOptions {
  logger: 'pino' | AnyLogger
  level: LogLevel
  file?: string
  perSecond: number
  redact: readonly string[]
}

/** From which level on an event is written. */
const levels: Readonly<Record<EventName, LogLevel>> = {
  'handler.failed': 'error',
  'disposal.failed': 'error',
  'executor.lost': 'error',
  'executor.refused': 'warn',
  'worker.started': 'debug',
  'worker.ready': 'info',
  'worker.ended': 'warn',
  'workers.crashing': 'error',
  'workers.recovered': 'info',
  'reload.started': 'info',
  'reload.finished': 'info',
  'reload.failed': 'error',
  'upgrade.started': 'info',
  'upgrade.finished': 'info',
  'upgrade.failed': 'error',
  'alarm.raised': 'error',
  'companion.failed': 'error',
  'listener.fault': 'warn',
  'limit.reached': 'warn',
  'message.dropped': 'warn',
  'frame.refused': 'warn',
  'connection.refused': 'warn',
  'connection.expired': 'info',
  'alarm.cleared': 'info',
  'watch.failed': 'error',
  'limit.cleared': 'info',
  'plugin.bound': 'info',
  'server.state': 'info',
  'listener.bound': 'info',
  'listener.unbound': 'info',
  'listener.reloaded': 'info',
  'listener.suspended': 'info',
  'listener.resumed': 'info',
  'drain.started': 'info',
  'drain.finished': 'info',
  'connection.opened': 'debug',
  'connection.closed': 'debug',
  'connection.paused': 'debug',
  'connection.resumed': 'debug',
}

export const logger = definePlugin<LoggerOptions>({
  name: 'logger',
  options: optionSchema<LoggerOptions>({
    logger: {
      unit: 'any',
      default: 'pino',
      why: 'pino (an optional package), or in code any object with the methods error, warn, info and debug.',
      check: (value) => (value === 'pino' || isLogger(value) ? undefined : '"pino" or a logger'),
    },
    level: { unit: 'choice', choices: levelNames, default: 'info', why: 'Events below it are not even listened to.' },
    file: { unit: 'text', why: 'Where pino writes; default: standard error.' },
    perSecond: {
      unit: 'count',
      min: 1,
      default: 20,
      why: 'Lines of one kind a second; more are left out, counted, and said when the second is over.',
    },
    redact: {
      unit: 'list',
      default: [],
      why: 'Further keys whose values are not written; passwords, tokens, cookies and keys never are.',
      check: (value) => ((value as unknown[]).every((key) => typeof key === 'string') ? undefined : 'a list of keys'),
    },
  }),
  setup(registry, options) {
    // Loaded now, so that a package that is missing is an error of the start.
    const out = options.logger === 'pino' ? pinoLogger(options) : { logger: options.logger, end: () => {} }
    registry.observer((services) => new Logging(options, out, services))
  },
})

export default logger

function isLogger(value: unknown): value is AnyLogger {
  const has = (level: string) => typeof (value as Record<string, unknown>)[level] === 'function'
  return typeof value === 'object' && value !== null && levelNames.every(has)
}

interface Out {
  readonly logger: AnyLogger
  end(): void
}

/** Of pino, what is used. */
interface PinoModule {
  (options: object, destination: { write(line: string): void }): AnyLogger
  readonly stdTimeFunctions: { readonly isoTime: () => string }
}

/** pino makes the lines; they are written here, at once: what waits to be written is lost when the process ends. */
function pinoLogger({ level, file }: LoggerOptions): Out {
  const pino = peerPackage<PinoModule>('pino', 'plugin logger')
  const fd = file === undefined ? 2 : open(file)
  let lost = 0
  const destination = {
    write(line: string) {
      try {
        // A line that was not taken whole is not written twice: the next one begins behind what there is of it.
        writeSync(fd, line)
      } catch {
        // ENOSPC, EPIPE, EAGAIN: no log is worth the service.
        if (lost++ > 0) return
        process.emitWarning('logger: lines are lost, the place they go to takes none', 'GaidarosWarning')
      }
    },
  }
  return {
    logger: pino({ level, base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime }, destination),
    end: () => {
      if (file !== undefined) closeSync(fd)
    },
  }
}

function open(file: string): number {
  try {
    return openSync(file, 'a')
  } catch (cause) {
    const message = `plugin logger: cannot append to the file ${file}: ${toError(cause).message}`
    throw new ConfigError('BAD_VALUE', message, { file, cause })
  }
}

/** Lines of one kind. */
interface Kind {
  written: number
  left: number
  isCounting: boolean
}

class Logging implements Observer {
  readonly name = 'logger'
  readonly #options: LoggerOptions
  readonly #out: Out
  readonly #services: PluginServices
  readonly #redacted: ReadonlySet<string>
  readonly #kinds = new Map<EventName, Kind>()
  readonly #undo: (() => void)[] = []
  /** One line tells whose it is, where several processes write. */
  readonly #who: Facts
  #hasWarned = false

  constructor(options: LoggerOptions, out: Out, services: PluginServices) {
    this.#options = options
    this.#out = out
    this.#services = services
    this.#who = services.worker === undefined ? {} : { worker: Number(services.worker) }
    this.#redacted = new Set(options.redact)
  }

  start(server: ObservedServer): void {
    const most = levelNames.indexOf(this.#options.level)
    for (const name of eventNames) {
      if (levelNames.indexOf(levels[name]) > most) continue
      const listener = (event: Events[typeof name]) => this.#tell(name, event)
      server.on(name, listener)
      this.#undo.push(() => server.off(name, listener))
    }
  }

  stop(): void {
    // The last states come after the observers have ended: the server is stopped then, and says so by its exit.
    for (const undo of this.#undo) undo()
    for (const [name, kind] of this.#kinds) this.#sayLeft(name, kind)
    this.#out.end()
  }

  #tell(name: EventName, event: Events[EventName]): void {
    let kind = this.#kinds.get(name)
    if (kind === undefined) this.#kinds.set(name, (kind = { written: 0, left: 0, isCounting: false }))
    if (!kind.isCounting) this.#beginSecond(name, kind)
    if (kind.written >= this.#options.perSecond) kind.left++
    else {
      kind.written++
      this.#write(name, factsOf(event))
    }
  }

  #beginSecond(name: EventName, kind: Kind): void {
    kind.isCounting = true
    this.#services.clock.after(1_000, () => {
      kind.isCounting = false
      kind.written = 0
      this.#sayLeft(name, kind)
    })
  }

  #sayLeft(name: EventName, kind: Kind): void {
    const { left } = kind
    if (left === 0) return
    kind.left = 0
    this.#write(name, { suppressed: left })
  }

  #write(name: EventName, facts: Facts): void {
    try {
      this.#out.logger[levels[name]](safeRecord({ event: name, ...this.#who, ...facts }, this.#redacted), name)
    } catch (error) {
      if (this.#hasWarned) return
      this.#hasWarned = true
      process.emitWarning(`logger: it threw, lines are lost: ${toError(error).message}`, 'GaidarosWarning')
    }
  }
}

/** The fields of an event, flat. */
function factsOf(event: Events[EventName]): Facts {
  const facts: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(event)) {
    if (key === 'connection' && typeof value === 'object') {
      const { id, remote, listener, transport } = value as Record<string, unknown>
      Object.assign(facts, { connection: id, listener, transport, remote })
    } else if (value instanceof Error) {
      facts.error = value.message
      facts.code = (value as { code?: unknown }).code
    } else if (key === 'reason' && typeof value === 'object' && value !== null) {
      const { code, by, error } = value as { code: string; by: string; error?: Error }
      Object.assign(facts, { code, by, error: error?.message })
    } else facts[key] = value
  }
  return facts
}
