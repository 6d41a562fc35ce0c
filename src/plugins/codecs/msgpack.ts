/**
 * MessagePack: values that carry their own lengths.
 *
 * Room: plugins/codecs. The format is msgpack.org's spec.md; values are read and written by the optional peer `msgpackr`.
 */
import type { Payload } from '../../core/codec.js'
import { toError } from '../../core/errors.js'
import { peerPackage } from '../../core/peer-package.js'
import type { Factory, Framing } from '../../core/plugin.js'
import { malformed, showByte, unfitReply } from './faults.js'
import { checkValue, type Grammar, type Head, ValueReader } from './self-delimiting.js'

interface Packr {
  pack(value: unknown): Buffer
  unpack(bytes: Uint8Array): unknown
}

/**
 * One MessagePack value after another; as a payload it goes with any framer: `"codec": { "name": "length-field",
 * "payload": "msgpack" }`.
 *
 * Maps are objects, 64-bit numbers beyond 2^53 are BigInt. The limit is `limits.frameBytes`; values may nest 100 deep. Of
 * extensions the format's own is taken, the time stamp (-1), and type 0, which several libraries write for undefined; any other is
 * `MALFORMED`, because what a library makes of it (regular expressions, references, bytes elsewhere) is not ours to bound.
 *
 * @throws {WiringError} `BAD_PLUGIN` without the package `msgpackr`. Reach: the start.
 * @throws {FrameError} `TOO_LARGE` as soon as a length says so; `MALFORMED`. Reach: this connection.
 */
export const msgpack: Factory<Framing, Record<string, never>> = {
  name: 'msgpack',
  create: () => ({
    payload: 'msgpack',
    framer: { open: (limits) => new ValueReader(grammar, limits) },
    frame: (payload) => payload,
  }),
}

export const msgpackPayload: Factory<Payload, Record<string, never>> = {
  name: 'msgpack',
  create() {
    const { Packr } = peerPackage<{ Packr: new (options: object) => Packr }>('msgpackr', 'codec msgpack')
    const packr = new Packr({ useRecords: false, moreTypes: false, variableMapSize: true })
    return {
      decodeAt(buffer, start, end) {
        checkValue(grammar, buffer, start, end)
        try {
          return packr.unpack(buffer.subarray(start, end))
        } catch (cause) {
          throw malformed('a MessagePack value', toError(cause).message, { cause })
        }
      },
      encode(message) {
        try {
          // Its buffer is used again for the next one.
          return Buffer.from(packr.pack(message))
        } catch (cause) {
          throw unfitReply('msgpack', toError(cause).message, 'return what MessagePack has a form for', cause)
        }
      },
      isMessage: (value) => Array.isArray(value) || value instanceof Map || value instanceof Set,
    }
  },
}

const TIMESTAMP = 0xff
const UNDEFINED = 0

function checkExtension(type: number | undefined): true {
  if (type === TIMESTAMP || type === UNDEFINED) return true
  throw malformed('a MessagePack value', `an extension of type ${((type ?? 0) << 24) >> 24}, which is not taken here`)
}

/** Fixed sizes from 0xc0 on: bytes behind the head byte; for lengths and counts see below. */
const grammar: Grammar = {
  name: 'MessagePack',
  read(buffer, at, end, head) {
    const byte = buffer[at] as number
    head.size = 1
    head.body = 0
    head.children = 0
    if (byte < 0x80 || byte >= 0xe0 || byte === 0xc0 || byte === 0xc2 || byte === 0xc3) return true
    if (byte < 0x90) return counted(head, (byte & 0x0f) * 2)
    if (byte < 0xa0) return counted(head, byte & 0x0f)
    if (byte < 0xc0) return bodied(head, byte & 0x1f)
    if (byte === 0xc1) throw malformed('a MessagePack value', showByte(byte))
    if (byte <= 0xc6) return lengthed(buffer, at, end, head, 1 << (byte - 0xc4), 0)
    if (byte <= 0xc9) {
      const size = 1 << (byte - 0xc7)
      return end - at >= 2 + size && checkExtension(buffer[at + 1 + size]) && lengthed(buffer, at, end, head, size, 1)
    }
    if (byte <= 0xcb) return bodied(head, byte === 0xca ? 4 : 8)
    if (byte <= 0xcf) return bodied(head, 1 << (byte - 0xcc))
    if (byte <= 0xd3) return bodied(head, 1 << (byte - 0xd0))
    if (byte <= 0xd8) return end - at >= 2 && checkExtension(buffer[at + 1]) && bodied(head, 1 + (1 << (byte - 0xd4)))
    if (byte <= 0xdb) return lengthed(buffer, at, end, head, 1 << (byte - 0xd9), 0)
    const size = byte === 0xdc || byte === 0xde ? 2 : 4
    if (end - at < 1 + size) return false
    head.size = 1 + size
    return counted(head, buffer.readUIntBE(at + 1, size) * (byte >= 0xde ? 2 : 1))
  },
}

function counted(head: Head, children: number): boolean {
  head.children = children
  return true
}

function bodied(head: Head, bytes: number): boolean {
  head.body = bytes
  return true
}

/** @param more - Bytes between length and body: the type of an extension. */
function lengthed(buffer: Buffer, at: number, end: number, head: Head, size: number, more: number): boolean {
  if (end - at < 1 + size) return false
  head.size = 1 + size
  head.body = buffer.readUIntBE(at + 1, size) + more
  return true
}
