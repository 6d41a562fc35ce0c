/**
 * `log`: a line for each connection and message, to standard error.
 *
 * Room: plugins/middleware. What a peer sends cannot forge a line: control characters and line separators are escaped, and
 * no line is longer than 1 KiB. Payloads are not written unless asked for. Whatever happens to the place lines go to, the
 * connection goes on.
 */
import type { Connection } from '../../core/connection.js'
import { toError } from '../../core/errors.js'
import { optionSchema } from '../../core/option-schema.js'
import type { MiddlewareSet } from '../../core/pipeline.js'
import type { Factory } from '../../core/plugin.js'
import { pairs, printable } from '../../core/printable.js'
import { promised } from './promised.js'

export interface LogOptions {
  level: 'errors' | 'connections' | 'messages'
  format: 'text' | 'json'
  payload: boolean
  payloadBytes: number
  write: (line: string) => void
}

type Facts = Record<string, unknown>

/** More of one text cannot be in a line. */
const MOST_TEXT = 1_024

/** Writes lines and nothing else: results and errors pass as they are. Standard error blocks while its reader does. */
export const log: Factory<MiddlewareSet, LogOptions> = {
  name: 'log',
  options: optionSchema<LogOptions>({
    level: {
      unit: 'choice',
      choices: ['errors', 'connections', 'messages'],
      default: 'messages',
      why: 'What gets a line: failed messages and connections, every connection, or every message as well.',
    },
    format: {
      unit: 'choice',
      choices: ['text', 'json'],
      default: 'text',
      why: 'Text for people, JSON for programs; one line each.',
    },
    payload: { unit: 'switch', default: false, why: 'Writes what was sent; off, because it may be secret.' },
    payloadBytes: { unit: 'bytes', default: 256, max: 512, why: 'The most of a payload that is written.' },
    write: {
      unit: 'any',
      default: toStderr,
      why: 'Where lines go, each with its line feed; in code a function.',
      check: (value) => (typeof value === 'function' ? undefined : 'a function'),
    },
  }),
  create({ level, format, payload, payloadBytes, write }, { clock }) {
    let hasWarned = false
    const tell = (connection: Connection, remote: string, event: string, facts: Facts) => {
      try {
        write(`${render(format, { connection: connection.id, remote, event, ...facts })}\n`)
      } catch (error) {
        if (hasWarned) return
        hasWarned = true
        process.emitWarning(`log: its write() threw, lines are lost: ${toError(error).message}`, 'GaidarosWarning')
      }
    }
    const tellsConnections = level !== 'errors'
    const tellsMessages = level === 'messages'
    return {
      name: 'log',
      connection({ connection }, next) {
        const began = clock.now()
        // A link may have forgotten its peer once it is gone.
        const remote = remoteOf(connection)
        if (tellsConnections) tell(connection, remote, 'open', { endpoint: String(connection.endpoint) })
        void connection.closed.then(({ code, by, error }) => {
          if (!tellsConnections && error === undefined) return
          const { bytesIn, bytesOut, messagesIn, messagesOut } = connection.stats
          tell(connection, remote, 'close', {
            code,
            by,
            lastedMs: Math.round(clock.now() - began),
            bytesIn,
            bytesOut,
            messagesIn,
            messagesOut,
            error: error?.message,
          })
        })
        return next()
      },
      message(context, next) {
        const began = clock.now()
        // Taken now: steps further in may replace it.
        const { connection, route, frameBytes, message } = context
        const done = (failed: boolean, thrown?: unknown) => {
          if (!failed && !tellsMessages) return
          tell(connection, remoteOf(connection), 'message', {
            route,
            bytes: frameBytes,
            tookMs: Number((clock.now() - began).toFixed(3)),
            error: failed ? toError(thrown).message : undefined,
            payload: payload ? textOf(message, payloadBytes) : undefined,
          })
        }
        let result: unknown
        try {
          result = next()
        } catch (thrown) {
          done(true, thrown)
          throw thrown
        }
        const reply = promised(result)
        if (reply === undefined) {
          done(false)
          return result
        }
        return reply.then(
          (value) => {
            done(false)
            return value
          },
          (thrown) => {
            done(true, thrown)
            throw thrown
          },
        )
      },
    }
  },
}

function remoteOf({ remote }: Connection): string {
  return remote === undefined ? '-' : String(remote)
}

/** One line without its line feed. */
function render(format: LogOptions['format'], facts: Facts): string {
  const told: Facts = { time: new Date().toISOString() }
  for (const [key, value] of Object.entries(facts)) {
    told[key] = typeof value === 'string' && value.length > MOST_TEXT ? `${value.slice(0, MOST_TEXT)}…` : value
  }
  return format === 'json' ? jsonLine(told) : printable(pairs(told))
}

/** JSON cut at its end is none: the longest text is cut until the whole fits. */
function jsonLine(facts: Facts): string {
  for (;;) {
    const line = printable(JSON.stringify(facts))
    if (line.endsWith('}')) return line
    let longest = ''
    let size = 0
    for (const [key, value] of Object.entries(facts)) {
      if (typeof value === 'string' && value.length > size) {
        longest = key
        size = value.length
      }
    }
    facts[longest] = `${String(facts[longest]).slice(0, Math.floor(size / 2) - 1)}…`
  }
}

/** The beginning of a message as text; never throws. */
function textOf(message: unknown, most: number): string {
  try {
    const text =
      message instanceof Uint8Array
        ? Buffer.from(message.buffer, message.byteOffset, Math.min(message.length, most)).toString('latin1')
        : typeof message === 'string'
          ? message
          : (JSON.stringify(message) ?? String(message))
    const bytes = Buffer.from(text.slice(0, most))
    return bytes.length <= most
      ? text.slice(0, most)
      : bytes
          .subarray(0, most)
          .toString()
          .replace(/\ufffd$/, '')
  } catch {
    return '(not printable)'
  }
}

const ignore = () => {}

function toStderr(line: string): void {
  process.stderr.write(line, written)
}

/**
 * A standard error that nobody reads any more (EPIPE) or that has no room (ENOSPC) must not end the process. Called before
 * the stream emits the error; as Node's own console does, it listens only where the application does not.
 */
function written(error?: Error | null): void {
  if (error && process.stderr.listenerCount('error') === 0) process.stderr.once('error', ignore)
}
