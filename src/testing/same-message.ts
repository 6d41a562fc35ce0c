/**
 * Whether two messages are the same, whatever kind of bytes they are made of.
 *
 * Room: testing. `assert.deepStrictEqual` tells a Buffer from a Uint8Array; codecs may give either.
 */

/** Compares by value: bytes, text, numbers, dates, lists, maps, sets and plain objects. */
export function sameMessage(one: unknown, other: unknown): boolean {
  if (Object.is(one, other)) return true
  if (typeof one !== 'object' || typeof other !== 'object' || one === null || other === null) return false
  if (one instanceof Uint8Array || other instanceof Uint8Array) {
    if (!(one instanceof Uint8Array && other instanceof Uint8Array)) return false
    return Buffer.compare(one, other) === 0
  }
  if (Array.isArray(one) || Array.isArray(other)) {
    if (!(Array.isArray(one) && Array.isArray(other)) || one.length !== other.length) return false
    return one.every((item, i) => sameMessage(item, other[i]))
  }
  if (one instanceof Date || other instanceof Date) {
    return one instanceof Date && other instanceof Date && Object.is(one.getTime(), other.getTime())
  }
  if (one instanceof Map || one instanceof Set || other instanceof Map || other instanceof Set) {
    if (one.constructor !== other.constructor) return false
    return sameMessage([...(one as Iterable<unknown>)], [...(other as Iterable<unknown>)])
  }
  const keys = Object.keys(one)
  if (keys.length !== Object.keys(other).length) return false
  return keys.every(
    (key) =>
      Object.hasOwn(other, key) &&
      sameMessage((one as Record<string, unknown>)[key], (other as Record<string, unknown>)[key]),
  )
}
