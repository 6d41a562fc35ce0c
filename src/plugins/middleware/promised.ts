/**
 * Tells a reply that is there from one that is promised.
 *
 * Room: plugins/middleware.
 */

/**
 * @returns a promise of Node's own where the result is one or can be awaited; undefined where it is there already. Return
 *   it in place of the result: some libraries' queries run once for each `then`.
 */
export function promised(result: unknown): Promise<unknown> | undefined {
  if (typeof result !== 'object' || result === null) return undefined
  if (result instanceof Promise) return result
  return typeof (result as { then?: unknown }).then === 'function' ? Promise.resolve(result) : undefined
}
