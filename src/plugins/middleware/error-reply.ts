/**
 * `error-reply`: tells the peer that its message failed, and keeps the connection.
 *
 * Room: plugins/middleware. The peer learns a code and, unless asked otherwise, nothing else: what an error says may hold
 * names, paths and secrets. Frames that break the grammar still end the connection, because the framer is lost.
 */
import { FrameError, GaidarosError, toError } from '../../core/errors.js'
import { optionSchema } from '../../core/option-schema.js'
import type { MiddlewareSet } from '../../core/pipeline.js'
import type { Factory } from '../../core/plugin.js'

export interface ErrorReplyOptions {
  format: 'text' | 'json' | ((error: Error) => unknown)
  detail: boolean
}

export const errorReply: Factory<MiddlewareSet, ErrorReplyOptions> = {
  name: 'error-reply',
  options: optionSchema<ErrorReplyOptions>({
    format: {
      unit: 'any',
      default: 'text',
      why: '`text` replies "error CODE", `json` { error: CODE }; in code a function (error) => reply.',
      check: (value) =>
        value === 'text' || value === 'json' || typeof value === 'function'
          ? undefined
          : '"text", "json" or a function',
    },
    detail: {
      unit: 'switch',
      default: false,
      why: "Adds the error's message; for networks where everybody may read it.",
    },
  }),
  create({ format, detail }) {
    const reply = (thrown: unknown): unknown => {
      if (thrown instanceof FrameError) throw thrown
      const error = toError(thrown)
      if (typeof format === 'function') return format(error)
      const code = error instanceof GaidarosError ? error.code : 'HANDLER_FAILED'
      if (format === 'json') return { error: code, ...(detail ? { message: error.message } : {}) }
      return `error ${code}${detail ? `: ${error.message.replace(/[\r\n]+/g, ' ')}` : ''}`
    }
    return {
      name: 'error-reply',
      message(_context, next) {
        let result: unknown
        try {
          result = next()
        } catch (error) {
          return reply(error)
        }
        return result instanceof Promise ? result.catch(reply) : result
      },
    }
  },
}
