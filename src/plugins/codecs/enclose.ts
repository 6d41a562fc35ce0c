/**
 * Puts bytes before and behind a payload on its way out.
 *
 * Room: plugins/codecs. Small payloads are copied into one buffer, large ones stay where they are.
 */

/**
 * From here on a payload is not copied. Sixteen replies of 1 KiB in a turn cost 400 ns each joined here and again in
 * the gathering write, 175 in pieces; at 64 bytes both cost the same, and one reply alone saves the second copy.
 */
export const PIECE_BYTES = 512

/** @param head - Bytes before the payload. @param tail - Bytes behind it; never written again, so it may be shared. */
export function enclose(head: Buffer, payload: Uint8Array, tail: Buffer): Uint8Array | readonly Uint8Array[] {
  const { length } = payload
  if (length >= PIECE_BYTES) {
    if (tail.length === 0) return [head, payload]
    return head.length === 0 ? [payload, tail] : [head, payload, tail]
  }
  const whole = Buffer.allocUnsafe(head.length + length + tail.length)
  whole.set(head, 0)
  whole.set(payload, head.length)
  whole.set(tail, head.length + length)
  return whole
}

export const nothing: Buffer = Buffer.alloc(0)
