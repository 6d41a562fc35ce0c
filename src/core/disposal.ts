/**
 * The end of what was constructed: in reverse order, each awaited, none left out because another one failed.
 *
 * Room: core, mechanism of the container.
 */

type Disposable = {
  dispose?: () => unknown
  [Symbol.dispose]?: () => unknown
  [Symbol.asyncDispose]?: () => unknown
}

export function isDisposable(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false
  const { dispose } = value as Disposable
  return typeof dispose === 'function' || hasSymbol(value, 'asyncDispose') || hasSymbol(value, 'dispose')
}

/** @param failed - Told of each disposal that threw. */
export async function disposeAll(
  made: readonly object[],
  failed: (name: string, error: unknown) => void,
): Promise<void> {
  for (const one of made.toReversed()) {
    try {
      await disposeOne(one as Disposable)
    } catch (error) {
      failed(one.constructor?.name ?? 'object', error)
    }
  }
}

function disposeOne(one: Disposable): unknown {
  if (hasSymbol(one, 'asyncDispose')) return one[Symbol.asyncDispose]?.()
  if (hasSymbol(one, 'dispose')) return one[Symbol.dispose]?.()
  return one.dispose?.()
}

/** Node 20 has both symbols; a compiler's polyfill may have made others before it did. */
function hasSymbol(value: object, name: 'dispose' | 'asyncDispose'): boolean {
  const symbol = (Symbol as unknown as Record<string, symbol | undefined>)[name]
  return symbol !== undefined && typeof (value as Record<symbol, unknown>)[symbol] === 'function'
}
