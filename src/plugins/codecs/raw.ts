/**
 * No framing: bytes as they come.
 *
 * Room: plugins/codecs. For byte pipes, and for handlers that find their own messages.
 */
import type { Factory, Framing } from '../../core/plugin.js'

/**
 * Each chunk of a stream is a message, each datagram of a message transport too.
 *
 * Where a chunk ends is the network's accident: one `write` of the peer may come as two chunks, two as one. So a
 * payload of `text` may get half a letter, and `json` half a value; on streams, `bytes` (the default) is the one that
 * goes with it.
 *
 * @example
 * { "endpoint": "tcp://[::]:7", "codec": "raw", "handler": "Echo" }
 */
export const raw: Factory<Framing, Record<string, never>> = {
  name: 'raw',
  create: () => framing,
}

const framing: Framing = { payload: 'bytes', frame: (payload) => payload }
