/**
 * Tag, length, value.
 *
 * Room: plugins/codecs. A whole codec, because its message is a tag with a value; the tag is its route.
 */
import type { Codec, FrameLimits, FrameReader } from '../../core/codec.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Factory } from '../../core/plugin.js'
import { kindOf, malformed, showByte, tooLarge, unfitReply } from './faults.js'

export interface TlvOptions {
  readonly tagBytes: number
  readonly length: number | 'ber'
  readonly endian: 'big' | 'little'
}

export interface TlvMessage {
  readonly tag: number
  readonly value: Uint8Array
}

/**
 * `{ tag, value }`, routed by the tag in decimal: `@OnMessage('17')`.
 *
 * The limit is `limits.frameBytes`, for tag, length and value together.
 *
 * @throws {FrameError} `TOO_LARGE` before the value comes; `MALFORMED` for a BER length that is indefinite or has more than
 *   six bytes (X.690, 8.1.3). Reach: this connection.
 * @example
 * { "endpoint": "tcp://[::]:9000", "codec": { "name": "tlv", "tagBytes": 1, "length": "ber" } }
 */
export const tlv: Factory<Codec<TlvMessage>, TlvOptions> = {
  name: 'tlv',
  options: optionSchema<TlvOptions>({
    tagBytes: { unit: 'bytes', min: 1, max: 4, default: 1, why: 'How long a tag is.' },
    length: {
      unit: 'any',
      default: 2,
      check: (value) =>
        value === 'ber' || [1, 2, 3, 4].includes(value as number) ? undefined : 'expected 1 to 4, or ber',
      why: 'How long the length is, in bytes; `ber`: 1 byte below 128, else as many as the first byte says.',
    },
    endian: {
      unit: 'choice',
      choices: ['big', 'little'],
      default: 'big',
      why: 'The order of bytes in tag and length.',
    },
  }),
  create: (options) => new TlvCodec(options),
}

class TlvCodec implements Codec<TlvMessage> {
  readonly framer = { open: (limits: FrameLimits): FrameReader => new TlvReader(this.options, limits) }
  constructor(readonly options: TlvOptions) {}

  decode(frame: Uint8Array): TlvMessage {
    return this.decodeAt(Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength), 0, frame.byteLength)
  }

  /** The whole record: a datagram must be exactly one. */
  decodeAt(buffer: Buffer, start: number, end: number): TlvMessage {
    const head = headOf(this.options, buffer, start, end)
    if (head === undefined || end - start !== head.bytes + head.length) {
      throw malformed('one tag, length and value', `${end - start} bytes that are not`)
    }
    const { tagBytes, endian } = this.options
    const tag = endian === 'big' ? buffer.readUIntBE(start, tagBytes) : buffer.readUIntLE(start, tagBytes)
    return { tag, value: buffer.subarray(start + head.bytes, end) }
  }

  encode(message: TlvMessage): Buffer {
    const { tagBytes, endian } = this.options
    const { tag, value } = message ?? {}
    const bytes = typeof value === 'string' ? Buffer.from(value) : value
    if (!(bytes instanceof Uint8Array) || !Number.isInteger(tag) || tag < 0 || tag >= 256 ** tagBytes) {
      const got = kindOf(message)
      throw unfitReply('tlv', `expected { tag: 0 to ${256 ** tagBytes - 1}, value: bytes }, got ${got}`, 'return that')
    }
    const head = Buffer.alloc(tagBytes)
    if (endian === 'big') head.writeUIntBE(tag, 0, tagBytes)
    else head.writeUIntLE(tag, 0, tagBytes)
    return Buffer.concat([head, this.#length(bytes.length), bytes])
  }

  route({ tag }: TlvMessage): string {
    return String(tag)
  }

  #length(length: number): Buffer {
    const { length: size, endian } = this.options
    if (size === 'ber') {
      if (length < 0x80) return Buffer.from([length])
      const count = Math.ceil(Math.log2(length + 1) / 8)
      const out = Buffer.alloc(1 + count)
      out[0] = 0x80 | count
      out.writeUIntBE(length, 1, count)
      return out
    }
    if (length >= 256 ** size) {
      throw unfitReply('tlv', `a value of ${length} bytes does not fit a length of ${size}`, 'set a larger `length`')
    }
    const out = Buffer.alloc(size)
    if (endian === 'big') out.writeUIntBE(length, 0, size)
    else out.writeUIntLE(length, 0, size)
    return out
  }
}

/** @returns undefined when more bytes are needed. */
function headOf(
  options: TlvOptions,
  buffer: Buffer,
  start: number,
  end: number,
): { bytes: number; length: number } | undefined {
  const { tagBytes, length: size, endian } = options
  const at = start + tagBytes
  if (size !== 'ber') {
    if (end - at < size) return undefined
    const length = endian === 'big' ? buffer.readUIntBE(at, size) : buffer.readUIntLE(at, size)
    return { bytes: tagBytes + size, length }
  }
  if (end - at < 1) return undefined
  const first = buffer[at] as number
  if (first < 0x80) return { bytes: tagBytes + 1, length: first }
  const count = first & 0x7f
  if (count === 0 || count > 6) throw malformed('a definite length of at most six bytes', showByte(first))
  if (end - at - 1 < count) return undefined
  return { bytes: tagBytes + 1 + count, length: buffer.readUIntBE(at + 1, count) }
}

class TlvReader implements FrameReader {
  start = 0
  end = 0
  need = 0
  readonly #options: TlvOptions
  readonly #limit: number

  constructor(options: TlvOptions, limits: FrameLimits) {
    this.#options = options
    this.#limit = limits.frameBytes
  }

  next(buffer: Buffer, start: number, end: number): number {
    if (this.need === 0) {
      const head = headOf(this.#options, buffer, start, end)
      if (head === undefined) return -1
      if (head.bytes + head.length > this.#limit) throw tooLarge('records', this.#limit, 'frameBytes')
      this.need = head.bytes + head.length
    }
    if (end - start < this.need) return -1
    this.start = start
    this.end = start + this.need
    this.need = 0
    return this.end
  }
}
