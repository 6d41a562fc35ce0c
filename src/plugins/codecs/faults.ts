/**
 * What codecs say when something does not fit: the peer's frame, or the handler's reply.
 *
 * Room: plugins/codecs. A frame's fault is the peer's (`FrameError`, closes that connection); a reply's is the
 * handler's.
 */
import { FrameError, HandlerError } from '../../core/errors.js'

/** @param what - In the plural: `lines`. @param option - The limit's name, as users set it. */
export function tooLarge(what: string, limit: number, option: string): FrameError {
  const text = `${what} of at most ${limit} bytes are taken (limits.${option}), a longer one came`
  return new FrameError('TOO_LARGE', `${text}; raise the limit if it is legal`, { limit, option })
}

/** @param expected - What the grammar wants. @param got - What came, at most a few characters of it. */
export function malformed(expected: string, got: string, fields: Readonly<Record<string, unknown>> = {}): FrameError {
  return new FrameError('MALFORMED', `expected ${expected}, got ${got}`, fields)
}

/** A reply that the codec cannot write. @param remedy - What the developer does about it. */
export function unfitReply(codec: string, problem: string, remedy: string, cause?: unknown): HandlerError {
  const text = `codec ${codec}: ${problem}; ${remedy}`
  return new HandlerError('HANDLER_FAILED', text, cause === undefined ? {} : { cause })
}

/** A byte as errors show it: `0x3a`. */
export function showByte(byte: number | undefined): string {
  return byte === undefined ? 'nothing' : `0x${byte.toString(16).padStart(2, '0')}`
}

/** What something is, in a word: `an array`, `a Date`. */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (Array.isArray(value)) return 'an array'
  if (typeof value !== 'object') return `a ${typeof value}`
  const name = (value.constructor as { name?: unknown } | undefined)?.name
  return typeof name === 'string' && name !== 'Object' && name !== '' ? `a ${name}` : 'an object'
}
