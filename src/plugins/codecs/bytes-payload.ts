/**
 * Messages that are bytes.
 *
 * Room: plugins/codecs. The payload of binary framings; nothing is copied.
 */
import type { Payload } from '../../core/codec.js'
import type { Factory } from '../../core/plugin.js'
import { kindOf, unfitReply } from './faults.js'

/**
 * A frame as a `Buffer`.
 *
 * It is a view: who keeps a few bytes of it for long copies them (`Buffer.from(message)`), because the view holds the
 * whole chunk they came in. Replies are bytes, or text, which goes out as UTF-8.
 *
 * @throws {HandlerError} for a reply of another kind. Reach: this connection.
 */
export const bytes: Factory<Payload, Record<string, never>> = {
  name: 'bytes',
  create: () => payload,
}

const payload: Payload = {
  decodeAt: (buffer, start, end) => buffer.subarray(start, end),
  encode(message) {
    if (typeof message === 'string' || message instanceof Uint8Array) return message
    throw unfitReply(
      'bytes',
      `expected a reply of bytes or text, got ${kindOf(message)}`,
      "return bytes, or use payload: 'json'",
    )
  },
}
