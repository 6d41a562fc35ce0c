/**
 * Makes a codec of a framing and a payload.
 *
 * Room: core, mechanism. In the walk of a byte it stands on both sides of the pipeline: the payload's decoding in, the
 * payload's encoding and the framing's bounds out. On message transports no framing is read or written.
 */
import type { Codec, CodecContext, Framer, Payload } from './codec.js'
import type { Framing } from './plugin.js'

type Piece = Uint8Array | string

/**
 * Combines a way to find frames with a way to read them.
 *
 * Text stays text as long as both sides allow it, so that a turn's replies are gathered as one string and encoded once.
 * Where the framing cuts a peer's terminator off a datagram (`Framing.trim`), the same bytes stand behind each reply to
 * that peer, as the peer last wrote them.
 *
 * @returns A codec that keeps nothing of any connection; the terminator seen lives in `context.state`.
 */
export function framed(framing: Framing, payload: Payload): Codec {
  return new FramedCodec(framing, payload)
}

/** What was cut off the last datagram of a peer. */
class Tail {
  readonly bytes: Buffer
  /** The same as text; undefined where it is no UTF-8. */
  readonly text: string | undefined

  constructor(bytes: Buffer) {
    this.bytes = bytes
    const text = bytes.toString()
    this.text = Buffer.from(text).equals(bytes) ? text : undefined
  }

  isAt(buffer: Buffer, start: number, end: number): boolean {
    return buffer.compare(this.bytes, 0, this.bytes.length, start, end) === 0
  }
}

class FramedCodec implements Codec {
  // Declared only: what the framing or payload lacks, the codec lacks.
  declare readonly framer?: Framer
  declare readonly isMessage?: (value: unknown) => boolean
  declare readonly route?: (message: unknown) => string | undefined
  declare readonly correlate?: (message: unknown) => string | number | undefined
  readonly #framing: Framing
  readonly #payload: Payload
  readonly #trims: boolean
  readonly #unstuffs: boolean

  constructor(framing: Framing, payload: Payload) {
    this.#framing = framing
    this.#payload = payload
    this.#trims = framing.trim !== undefined
    this.#unstuffs = framing.unstuff !== undefined
    if (framing.framer !== undefined) this.framer = framing.framer
    if (payload.isMessage !== undefined) this.isMessage = payload.isMessage.bind(payload)
    if (payload.route !== undefined) this.route = payload.route.bind(payload)
    if (payload.correlate !== undefined) this.correlate = payload.correlate.bind(payload)
  }

  decode(frame: Uint8Array, context: CodecContext): unknown {
    return this.decodeAt(Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength), 0, frame.byteLength, context)
  }

  decodeAt(buffer: Buffer, start: number, end: number, context: CodecContext): unknown {
    if (this.#trims && context.kind === 'message') return this.#decodeTrimmed(buffer, start, end, context)
    if (this.#unstuffs && context.kind === 'stream') {
      const plain = (this.#framing.unstuff as NonNullable<Framing['unstuff']>)(buffer, start, end)
      return this.#payload.decodeAt(plain, 0, plain.length)
    }
    return this.#payload.decodeAt(buffer, start, end, context.limit ?? end)
  }

  encode(message: unknown, context: CodecContext): Piece {
    const pieces = this.encodePieces(message, context)
    return isPiece(pieces) ? pieces : Buffer.concat(pieces)
  }

  encodePieces(message: unknown, context: CodecContext): Piece | readonly Uint8Array[] {
    const encoded = this.#payload.encode(message)
    if (context.kind === 'stream') return this.#framing.frame(encoded)
    return this.#trims && context.state !== undefined ? withTail(encoded, context.state as Tail) : encoded
  }

  #decodeTrimmed(buffer: Buffer, start: number, end: number, context: CodecContext): unknown {
    const cut = (this.#framing.trim as NonNullable<Framing['trim']>)(buffer, start, end)
    const before = context.state as Tail | undefined
    if (cut === end) context.state = undefined
    else if (before === undefined || !before.isAt(buffer, cut, end)) {
      context.state = new Tail(Buffer.from(buffer.subarray(cut, end)))
    }
    return this.#payload.decodeAt(buffer, start, cut)
  }
}

function isPiece(value: Piece | readonly Uint8Array[]): value is Piece {
  return typeof value === 'string' || value instanceof Uint8Array
}

function withTail(encoded: Piece, tail: Tail): Piece {
  if (typeof encoded !== 'string') return Buffer.concat([encoded, tail.bytes])
  return tail.text === undefined ? Buffer.concat([Buffer.from(encoded), tail.bytes]) : encoded + tail.text
}
