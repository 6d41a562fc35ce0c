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
import { checkValue, type Grammar, type Head, ValueReader } from './self-delimiting.js'

interface Coder {
  encode(value: unknown): Buffer
  decode(bytes: Uint8Array): unknown
}

/**
 * One CBOR value after another; as a payload it goes with any framer.
 *
 * Maps are objects; text, byte strings, arrays and maps of indefinite length are taken. The limit is
 * `limits.frameBytes`; values may nest 100 deep. Of tags those are taken whose values cost no more than their bytes (RFC 8949,
 * section 10): dates (0, 1), big numbers of up to 64 bytes (2, 3), embedded CBOR (24), URIs (32), typed arrays (64 to 87, RFC 8746),
 * sets (258) and the mark of CBOR itself (55799). Any other is `MALFORMED`: decimal fractions, regular expressions, references and
 * whatever else a library would make of a stranger's number.
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
const SIMPLE = 7

/** The library makes a number of them byte by byte: time grows with the square of this. */
const MOST_NUMBER_BYTES = 64

type Content = 'number' | 'bytes' | 'text' | 'array' | 'any' | 'big number'

const tags = new Map<number, Content>([
  [0, 'text'],
  [1, 'number'],
  [2, 'big number'],
  [3, 'big number'],
  [24, 'bytes'],
  [32, 'text'],
  [258, 'array'],
  [55_799, 'any'],
  ...Array.from({ length: 24 }, (_, i): [number, Content] => [64 + i, 'bytes']),
])

const fits: { readonly [K in Content]: (content: Head) => boolean } = {
  any: () => true,
  number: ({ major, tag, isEnd }) => !isEnd && tag < 0 && (major < BYTES || major === SIMPLE),
  bytes: ({ major }) => major === BYTES,
  text: ({ major }) => major === TEXT,
  array: ({ major }) => major === ARRAY,
  'big number': ({ major, children, body }) => major === BYTES && children === 0 && body <= MOST_NUMBER_BYTES,
}

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
    head.tag = -1
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
    const argument =
      size === 0 ? info : size === 8 ? Number(buffer.readBigUInt64BE(at + 1)) : buffer.readUIntBE(at + 1, size)
    if (major === TAG) {
      if (!tags.has(argument)) throw malformed('a CBOR value', `tag ${argument}, which is not taken here`)
      head.children = 1
      head.tag = argument
      return true
    }
    if (major === BYTES || major === TEXT) head.body = argument
    else head.children = major === ARRAY ? argument : argument * 2
    return true
  },
  tagged(tag, content) {
    const wanted = tags.get(tag) as Content
    if (fits[wanted](content)) return
    const what = wanted === 'big number' ? `a byte string of at most ${MOST_NUMBER_BYTES} bytes` : wanted
    throw malformed(`${what} behind tag ${tag} of CBOR`, 'another value')
  },
}
