/**
 * Frames behind a binary length.
 *
 * Room: plugins/codecs. Most binary protocols, told by five numbers that mean what they mean to Netty's
 * LengthFieldBasedFrameDecoder (netty.io, io.netty.handler.codec), so that its worked examples carry over.
 */
import type { FrameLimits, FrameReader } from '../../core/codec.js'
import { type OptionSchema, optionSchema } from '../../core/option-schema.js'
import type { Factory, Framing } from '../../core/plugin.js'
import { enclose, nothing, PIECE_BYTES } from './enclose.js'
import { malformed, tooLarge, unfitReply } from './faults.js'

export interface LengthFieldOptions {
  readonly size: number
  readonly endian: 'big' | 'little'
  readonly offset: number
  readonly adjustment: number
  readonly strip?: number
}

const fields: OptionSchema<LengthFieldOptions> = optionSchema<LengthFieldOptions>({
  size: { unit: 'bytes', default: 4, min: 1, max: 8, why: 'How long the length field is.' },
  endian: { unit: 'choice', choices: ['big', 'little'], default: 'big', why: 'Which byte of the length comes first.' },
  offset: { unit: 'bytes', default: 0, max: 65_536, why: 'Bytes before the length field.' },
  adjustment: {
    unit: 'number',
    default: 0,
    check: (value) => (Math.abs(value as number) <= 2 ** 31 && Number.isInteger(value) ? undefined : 'a whole number'),
    why: 'Added to the length read, to get how many bytes follow its field. -4 where a field of 4 bytes counts itself.',
  },
  strip: {
    unit: 'bytes',
    max: 65_536,
    why: 'Bytes taken off the front of each frame. Default: offset + size, all up to the end of the length field.',
  },
})

/**
 * Frames that say how long they are.
 *
 * A frame is `offset` bytes, a length field of `size` bytes, and then as many bytes as the length says plus
 * `adjustment`. The message is the frame without its first `strip` bytes. The limit, `limits.frameBytes`, is on what is
 * left.
 *
 * | on the wire                       | options                              | message              |
 * |-----------------------------------|--------------------------------------|----------------------|
 * | `00 05` hello                     | size 2                               | hello                |
 * | `05 00` hello                     | size 2, endian little                | hello                |
 * | `00 05` hello                     | size 2, strip 0                      | `00 05` hello        |
 * | `00 07` hello                     | size 2, adjustment -2                | hello                |
 * | `ca fe 00 05` hello               | size 2, offset 2                     | hello                |
 * | `ca fe 00 05` hello               | size 2, offset 2, strip 0            | `ca fe 00 05` hello  |
 * | `00 05 ca fe` hello               | size 2, adjustment 2                 | `ca fe` hello        |
 * | `00 05 ca fe` hello               | size 2, adjustment 2, strip 4        | hello                |
 * | `ca 00 09 fe` hello               | size 2, offset 1, adjustment -3, strip 3 | `fe` hello       |
 *
 * Replies go the other way: the bytes of the frame that `strip` takes off are written as zeros, but for the length;
 * where `strip` leaves header bytes, the reply begins with them too, and its length is put right. So every message
 * decoded can be sent as it is. For a header that is not zeros, take `strip: 0` and `payload: 'bytes'`, and write it in
 * the handler.
 *
 * @throws {FrameError} `TOO_LARGE`, before the frame's bytes come; `MALFORMED` for a length over 2^53 - 1, negative
 *   once adjusted, or of less than `strip` leaves. Reach: this connection.
 * @throws {HandlerError} for a reply whose length the field cannot say. Reach: this connection.
 * @example
 * { "endpoint": "tcp://[::]:9000", "codec": { "name": "length-field", "size": 2, "payload": "json" } }
 */
export const lengthField: Factory<Framing, LengthFieldOptions> = {
  name: 'length-field',
  options: {
    ...fields,
    '~standard': {
      ...fields['~standard'],
      validate(value) {
        const result = fields['~standard'].validate(value) as { value: LengthFieldOptions } | { issues: [] }
        const issue = 'value' in result ? misfit(new Layout(result.value)) : undefined
        return issue === undefined ? result : { issues: [issue] }
      },
    },
  } as OptionSchema<LengthFieldOptions>,
  create: (options) => new LengthFieldFraming(new Layout(options)),
}

/** The options as sums. */
class Layout {
  readonly size: number
  readonly isBig: boolean
  readonly offset: number
  readonly adjustment: number
  readonly strip: number
  /** Up to the end of the length field. */
  readonly header: number
  /** Largest length the field can say. */
  readonly most: number

  constructor({ size, endian, offset, adjustment, strip }: LengthFieldOptions) {
    this.size = size
    this.isBig = endian === 'big'
    this.offset = offset
    this.adjustment = adjustment
    this.header = offset + size
    this.strip = strip ?? this.header
    this.most = size >= 7 ? Number.MAX_SAFE_INTEGER : 2 ** (8 * size) - 1
  }

  /** Sums beyond 2^53 are inexact, but stay beyond it. */
  read(buffer: Buffer, at: number): number {
    let length = 0
    if (this.isBig) {
      for (let index = at; index < at + this.size; index++) length = length * 256 + (buffer[index] as number)
    } else {
      for (let index = at + this.size - 1; index >= at; index--) length = length * 256 + (buffer[index] as number)
    }
    return length
  }

  write(length: number, buffer: Buffer, at: number): void {
    let rest = length
    const last = at + this.size - 1
    for (let count = 0; count < this.size; count++) {
      buffer[this.isBig ? last - count : at + count] = rest % 256
      rest = Math.floor(rest / 256)
    }
  }
}

/** What no field of a single option can tell. */
function misfit({ size, adjustment, strip, header, most }: Layout) {
  if (most + adjustment < 0) {
    const message = `expected at least ${-most}, got ${adjustment}: all that ${size} bytes can say would be negative`
    return { path: ['adjustment'], message }
  }
  if (header + most + adjustment < strip) {
    const longest = header + most + adjustment
    const message = `expected at most ${longest}, got ${strip}: no frame of a ${size}-byte length is longer`
    return { path: ['strip'], message }
  }
  return undefined
}

class LengthFieldFraming implements Framing {
  readonly payload = 'bytes'
  readonly framer: { open(limits: FrameLimits): FrameReader }
  readonly #layout: Layout
  /** What turns a payload's bytes into the length to write. */
  readonly #surplus: number
  /** The front of a frame by its length, below 128: all of it is ASCII then, and text stays text. */
  readonly #textFronts: (string | undefined)[] = new Array(0x80)

  constructor(layout: Layout) {
    this.#layout = layout
    this.#surplus = layout.strip - layout.header - layout.adjustment
    this.framer = { open: (limits) => new LengthFieldReader(layout, limits) }
  }

  frame(payload: Uint8Array | string): Uint8Array | string | readonly Uint8Array[] {
    const { strip, header } = this.#layout
    const isText = typeof payload === 'string'
    const bytes = isText ? Buffer.byteLength(payload) : payload.length
    const length = bytes + this.#surplus
    if (length < 0 || length > this.#layout.most || strip + bytes < header) throw this.#unfit(bytes)
    if (strip < header) return this.#patch(isText ? Buffer.from(payload) : payload, length)
    if (!isText) return enclose(this.#front(length), payload, nothing)
    return length < 0x80 ? this.#textFront(length) + payload : this.#frontAndText(payload, bytes, length)
  }

  #front(length: number): Buffer {
    const { strip, offset } = this.#layout
    const front = Buffer.alloc(strip)
    this.#layout.write(length, front, offset)
    return front
  }

  #textFront(length: number): string {
    const known = this.#textFronts[length]
    if (known !== undefined) return known
    const front = this.#front(length).toString('latin1')
    this.#textFronts[length] = front
    return front
  }

  #frontAndText(text: string, bytes: number, length: number): Buffer {
    const { strip, offset } = this.#layout
    const whole = Buffer.allocUnsafe(strip + bytes)
    whole.fill(0, 0, strip)
    this.#layout.write(length, whole, offset)
    whole.write(text, strip)
    return whole
  }

  /** The payload begins inside the header: its length is put right in a copy, because the bytes are the handler's. */
  #patch(payload: Uint8Array, length: number): Uint8Array | readonly Uint8Array[] {
    const { strip, header, offset } = this.#layout
    const kept = header - strip
    const isLarge = payload.length >= PIECE_BYTES
    const whole = Buffer.allocUnsafe(isLarge ? header : strip + payload.length)
    whole.fill(0, 0, strip)
    whole.set(isLarge ? payload.subarray(0, kept) : payload, strip)
    this.#layout.write(length, whole, offset)
    return isLarge ? [whole, payload.subarray(kept)] : whole
  }

  #unfit(bytes: number): Error {
    const { strip, header, most, size } = this.#layout
    const least = Math.max(0, -this.#surplus, header - strip)
    const range = `from ${least} to ${most - this.#surplus} bytes`
    return unfitReply(
      'length-field',
      `a ${size}-byte length can say replies ${range}, got one of ${bytes}`,
      'change the reply or the option `size`',
    )
  }
}

class LengthFieldReader implements FrameReader {
  start = 0
  end = 0
  /** The whole frame, once its length is known. */
  need = 0
  readonly #layout: Layout
  readonly #limit: number

  constructor(layout: Layout, limits: FrameLimits) {
    this.#layout = layout
    this.#limit = limits.frameBytes
  }

  next(buffer: Buffer, start: number, end: number): number {
    let need = this.need
    if (need === 0) {
      if (end - start < this.#layout.header) return -1
      need = this.#readLength(buffer, start)
    }
    const after = start + need
    if (after > end) {
      this.need = need
      return -1
    }
    this.need = 0
    this.start = start + this.#layout.strip
    this.end = after
    return after
  }

  #readLength(buffer: Buffer, start: number): number {
    const { offset, adjustment, strip, header } = this.#layout
    const length = this.#layout.read(buffer, start + offset)
    if (length > Number.MAX_SAFE_INTEGER) throw malformed('a length of at most 2^53 - 1', String(length), { length })
    const body = length + adjustment
    if (body < 0) throw malformed(`a length of at least ${-adjustment}`, String(length), { length })
    const need = header + body
    if (need < strip) throw malformed(`a length of at least ${strip - header - adjustment}`, String(length), { length })
    if (need - strip > this.#limit) throw tooLarge('frames', this.#limit, 'frameBytes')
    return need
  }
}
