/**
 * Which of several places a key belongs to, without a table: the place with the highest hash of key and place together.
 *
 * Room: core, mechanism. When a place goes, only its own keys move, and they come back with it.
 */

/** @returns the index into `slots`. */
export function rendezvous(key: string, slots: readonly number[]): number {
  // FNV-1a of the key once, mixed with each slot (Murmur3's finalizer): a few dozen steps for an address.
  let hash = 0x811c9dc5
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193)
  let best = 0
  let highest = -1
  for (let i = 0; i < slots.length; i++) {
    let mixed = hash ^ Math.imul((slots[i] as number) + 1, 0x9e3779b1)
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
    const weight = (mixed ^ (mixed >>> 16)) >>> 0
    if (weight > highest) {
      highest = weight
      best = i
    }
  }
  return best
}
