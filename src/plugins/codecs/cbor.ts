/**
 * CBOR: values that carry their own lengths.
 *
 * Room: plugins/codecs. RFC 8949; a sequence of values is RFC 8742. Read and written by the optional peer `cbor-x`.
 */
import type { Payload } from '../../core/codec.js'
import { toError } from '../../core/errors.js'
import { peerPackage } from '../../core/peer-package.js'
import type { Factory, Framing } from '../../core/plugin.js'
import { malformed, showByte, unfitReply } from './faults.js'
import { checkValue, type Grammar, ValueReader } from './self-delimiting.js'

interface Coder {
  encode(value: unknown): Buffer
  decode(bytes: Uint8Array): unknown
}

/**
 * One CBOR value after another; as a payload it goes with any framer.
 *
 * Maps are objects; text, byte strings, arrays and maps of indefinite length are taken. The limit is
 * `limits.frameBytes`; values may nest 100 deep.
 *
 * @throws {WiringError} `BAD_PLUGIN` without the package `cbor-x`. Reach: the start.
 * @throws {FrameError} `TOO_LARGE` as soon as a length says so; `MALFORMED`. Reach: this connection.
 */
export const cbor: Factory<Framing, Record<string, never>> = {
  name: 'cbor',
  create: () => ({
    payload: 'cbor',
    framer: { open: (limits) => new ValueReader(grammar, limits) },
    frame: (payload) => payload,
  }),
}

export const cborPayload: Factory<Payload, Record<string, never>> = {
  name: 'cbor',
  create() {
    const { Encoder } = peerPackage<{ Encoder: new (options: object) => Coder }>('cbor-x', 'codec cbor')
    const coder = new Encoder({ useRecords: false, mapsAsObjects: true, tagUint8Array: false, variableMapSize: true })
    return {
      decodeAt(buffer, start, end) {
        checkValue(grammar, buffer, start, end)
        try {
          return coder.decode(buffer.subarray(start, end))
        } catch (cause) {
          throw malformed('a CBOR value', toError(cause).message, { cause })
        }
      },
      encode(message) {
        try {
          // Its buffer is used again for the next one.
          return Buffer.from(coder.encode(message))
        } catch (cause) {
          throw unfitReply('cbor', toError(cause).message, 'return what CBOR has a form for', cause)
        }
      },
      isMessage: (value) => Array.isArray(value) || value instanceof Map || value instanceof Set,
    }
  },
}

const INDEFINITE = 31
const BYTES = 2
const TEXT = 3
const ARRAY = 4
const MAP = 5
const TAG = 6

const grammar: Grammar = {
  name: 'CBOR',
  read(buffer, at, end, head) {
    const byte = buffer[at] as number
    const major = byte >> 5
    const info = byte & 0x1f
    head.size = 1
    head.body = 0
    head.children = 0
    head.isEnd = false
    head.chunks = -1
    head.major = major
    if (info === INDEFINITE) {
      if (byte === 0xff) head.isEnd = true
      else if (major < BYTES || major > MAP) throw malformed('a CBOR value', showByte(byte))
      else {
        head.children = -1
        if (major === BYTES || major === TEXT) head.chunks = major
      }
      return true
    }
    if (info > 27) throw malformed('a CBOR value', showByte(byte))
    const size = info < 24 ? 0 : 1 << (info - 24)
    if (end - at < 1 + size) return false
    head.size = 1 + size
    // Numbers, tags and simple values: the argument is all there is.
    if (major < BYTES || major > TAG) return true
    if (major === TAG) {
      head.children = 1
      return true
    }
    const argument =
      size === 0 ? info : size === 8 ? Number(buffer.readBigUInt64BE(at + 1)) : buffer.readUIntBE(at + 1, size)
    if (major === BYTES || major === TEXT) head.body = argument
    else head.children = major === ARRAY ? argument : argument * 2
    return true
  },
}
