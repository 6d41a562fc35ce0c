/**
 * `log`: a line for each connection and message, to standard error.
 *
 * Room: plugins/middleware. What a peer sends cannot forge a line: control characters and line separators are escaped,
 * a line ends at 1 KiB. Payloads are not written unless asked for.
 */
import type { Connection } from '../../core/connection.js'
import { toError } from '../../core/errors.js'
import { optionSchema } from '../../core/option-schema.js'
import type { MiddlewareSet } from '../../core/pipeline.js'
import type { Factory } from '../../core/plugin.js'
import { pairs, printable } from '../../core/printable.js'

export interface LogOptions {
  level: 'connections' | 'messages'
  format: 'text' | 'json'
  payload: boolean
  payloadBytes: number
  write: (line: string) => void
}

/** No payload is turned into more text than a line holds. */
const LINE_BYTES = 1_024

export const log: Factory<MiddlewareSet, LogOptions> = {
  name: 'log',
  options: optionSchema<LogOptions>({
    level: {
      unit: 'choice',
      choices: ['connections', 'messages'],
      default: 'messages',
      why: 'What gets a line: connections alone, or messages too.',
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
      why: 'Where lines go; in code a function.',
      check: (value) => (typeof value === 'function' ? undefined : 'a function'),
    },
  }),
  create(options, { clock }) {
    const tell = (connection: Connection, event: string, facts: Record<string, unknown>) => {
      options.write(
        `${render(options.format, { connection: connection.id, remote: String(connection.remote ?? '-'), event, ...facts })}\n`,
      )
    }
    const shown = (message: unknown) =>
      options.payload ? { payload: asText(message).slice(0, options.payloadBytes) } : {}
    const set: MiddlewareSet = {
      name: 'log',
      connection(context, next) {
        const { connection } = context
        const began = clock.now()
        tell(connection, 'open', { endpoint: String(connection.endpoint) })
        void connection.closed.then(({ code, by, error }) => {
          const { bytesIn, bytesOut, messagesIn, messagesOut } = connection.stats
          const lasted = Math.round(clock.now() - began)
          tell(connection, 'close', {
            code,
            by,
            lastedMs: lasted,
            bytesIn,
            bytesOut,
            messagesIn,
            messagesOut,
            ...(error ? { error: error.message } : {}),
          })
        })
        return next()
      },
    }
    if (options.level === 'connections') return set
    return {
      ...set,
      message(context, next) {
        const began = clock.now()
        const { connection, route, frameBytes, message } = context
        const done = (outcome: Record<string, unknown>) => {
          const facts = {
            ...(route === undefined ? {} : { route }),
            bytes: frameBytes,
            tookMs: Number((clock.now() - began).toFixed(3)),
          }
          tell(connection, 'message', { ...facts, ...outcome, ...shown(message) })
        }
        let result: unknown
        try {
          result = next()
        } catch (error) {
          done({ error: toError(error).message })
          throw error
        }
        if (!(result instanceof Promise)) {
          done({})
          return result
        }
        return result.then(
          (reply) => {
            done({})
            return reply
          },
          (error) => {
            done({ error: toError(error).message })
            throw error
          },
        )
      },
    }
  },
}

function render(format: 'text' | 'json', facts: Readonly<Record<string, unknown>>): string {
  const time = new Date().toISOString()
  return printable(format === 'json' ? JSON.stringify({ time, ...facts }) : `${time} ${pairs(facts)}`)
}

function asText(message: unknown): string {
  if (typeof message === 'string') return message.slice(0, LINE_BYTES)
  if (message instanceof Uint8Array) return Buffer.from(message.subarray(0, LINE_BYTES)).toString('latin1')
  try {
    return (JSON.stringify(message) ?? String(message)).slice(0, LINE_BYTES)
  } catch {
    return String(message)
  }
}

function toStderr(line: string): void {
  process.stderr.write(line)
}
