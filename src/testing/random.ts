/**
 * Seeded random numbers: the same seed gives the same run on every machine.
 *
 * Room: testing. Never for secrets.
 */

/** A stream of random numbers, decided by its seed. */
export interface Random {
  /** A whole number from 0 to 2^32 - 1. */
  next(): number
  /** A whole number from 0 to `limit` - 1; `limit` is 1 to 2^32. */
  below(limit: number): number
  /** A whole number from `low` to `high`, both included. */
  between(low: number, high: number): number
  /** True with this probability, 0 to 1. */
  chance(probability: number): boolean
  /** One of them. */
  pick<T>(items: readonly T[]): T
  /** Random bytes. */
  bytes(length: number): Buffer
  /** A stream of its own, decided by this one's seed and the name: drawing from one does not shift the other. */
  fork(name: string | number): Random
}

/**
 * Makes a stream of random numbers (sfc32, Chris Doty-Humphrey's PractRand).
 *
 * @param seed - Any whole number or text.
 */
export function createRandom(seed: number | string): Random {
  // FNV-1a over the seed's text (RFC 9923): near seeds give streams that have nothing in common.
  let hash = 0x811c9dc5
  const text = String(seed)
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  let a = hash | 0
  let b = Math.imul(hash, 0x9e3779b1) | 0
  let c = ~hash | 0
  let counter = 1

  const next = (): number => {
    const result = (((a + b) | 0) + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (((c << 21) | (c >>> 11)) + result) | 0
    return result >>> 0
  }
  for (let i = 0; i < 12; i++) next()

  return {
    next,
    below: (limit) => Math.floor((next() / 0x1_0000_0000) * limit),
    between: (low, high) => low + Math.floor((next() / 0x1_0000_0000) * (high - low + 1)),
    chance: (probability) => next() / 0x1_0000_0000 < probability,
    pick: (items) => items[Math.floor((next() / 0x1_0000_0000) * items.length)] as (typeof items)[number],
    bytes(length) {
      const bytes = Buffer.allocUnsafe(length)
      for (let i = 0; i < length; i++) bytes[i] = next() >>> 24
      return bytes
    },
    fork: (name) => createRandom(`${text}/${name}`),
  }
}
