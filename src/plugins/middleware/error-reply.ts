/**
 * `error-reply`: tells the peer that its message failed, and keeps the connection.
 *
 * Room: plugins/middleware. The peer learns a code and, unless asked otherwise, nothing else: what an error says may hold
 * names, paths and secrets. Frames that break the grammar still end the connection, because the framer is lost; a reply
 * that fails while it streams ends it too, because part of it is sent. What was answered here no longer reaches `@OnError`.
 */
import { FrameError, GaidarosError, HandlerError, toError } from '../../core/errors.js'
import { optionSchema } from '../../core/option-schema.js'
import type { MiddlewareSet } from '../../core/pipeline.js'
import type { Factory } from '../../core/plugin.js'
import { printable } from '../../core/printable.js'
import { promised } from './promised.js'

export interface ErrorReplyOptions {
  format: 'text' | 'json' | ((error: Error) => unknown)
  detail: boolean
}

/** Answers in place of the handler that threw; the throw is told as `handler.failed`. Reach: that message. */
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
  create({ format, detail }, { events }) {
    const replyTo = (error: Error): unknown => {
      if (typeof format === 'function') return format(error)
      const code = error instanceof GaidarosError ? error.code : 'HANDLER_FAILED'
      if (format === 'json') return { error: code, ...(detail ? { message: error.message } : {}) }
      return `error ${code}${detail ? `: ${printable(error.message)}` : ''}`
    }
    return {
      name: 'error-reply',
      message({ connection }, next) {
        const answer = (thrown: unknown): unknown => {
          if (thrown instanceof FrameError) throw thrown
          const cause = toError(thrown)
          const error =
            cause instanceof GaidarosError
              ? cause
              : new HandlerError('HANDLER_FAILED', `the message failed: ${cause.message}`, { cause })
          // Nobody further out sees the throw, so it is said here.
          events.emit('handler.failed', { connection, error })
          return replyTo(cause)
        }
        let result: unknown
        try {
          result = next()
        } catch (thrown) {
          return answer(thrown)
        }
        const reply = promised(result)
        return reply === undefined ? result : reply.catch(answer)
      },
    }
  },
}
