/**
 * What a handler may give instead of an answer: a promise, of this realm or of any library.
 *
 * Room: core, mechanism.
 */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
}
