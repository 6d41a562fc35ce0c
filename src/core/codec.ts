/**
 * The seam of codecs: how bytes become messages and replies become bytes.
 *
 * Room: core, contract. A codec is a framer (chunks to frames) and a payload (frame to message). On a message transport
 * the framer is skipped: a datagram is a frame. `codecConformance` of gaidaros/testing turns each "must" into a case.
 */
import type { Connection } from './connection.js'

/**
 * Turns frames into messages and messages into framed bytes. One codec object serves every connection of a listener, so
 * it keeps nothing of any of them; what belongs to one connection lives in its `FrameReader` or in `context.state`.
 */
export interface Codec<In = unknown, Out = In> {
  /** Left out by message-only codecs; a stream transport then delivers each chunk as a frame (`raw`). */
  readonly framer?: Framer
  /**
   * Reads one frame's payload.
   *
   * @throws {FrameError} `MALFORMED`. Reach: this connection.
   */
  decode(frame: Uint8Array, context: CodecContext): In
  /**
   * The same without making a view first; the session prefers it. `buffer` may be kept by reference: core sees to it that
   * it is not written again.
   */
  decodeAt?(buffer: Buffer, start: number, end: number, context: CodecContext): In
  /** A message as the bytes that go out, framing included; a string goes out as UTF-8. */
  encode(message: Out, context: CodecContext): Uint8Array | string
  /** The same in several pieces that need not be joined (a header and a large body); the session prefers it. */
  encodePieces?(message: Out, context: CodecContext): readonly Uint8Array[] | Uint8Array | string
  /** True when an iterable value is one message (a JSON array), not a reply per item. Default: only strings and bytes are. */
  isMessage?(value: unknown): boolean
  /** Names the route of a message: `@OnMessage('GET')`. Linear in its input; never a user's regular expression. */
  route?(message: In): string | undefined
  /** What ties a reply to its request, where the wire format carries it. Without it replies come in order. */
  correlate?(message: In | Out): string | number | undefined
}

/** What a codec may know while it works. One object a connection, made when the connection opens. */
export interface CodecContext {
  readonly connection: Connection
  /** `message`: the transport keeps boundaries, so no framing is read or written. */
  readonly kind: 'stream' | 'message'
  /** Ceilings of this listener or client, for what a codec gathers over several frames. */
  readonly limits: FrameLimits
  /**
   * Where the bytes that have come end in the buffer given to `decodeAt`: what lies between a frame and here stays as it is,
   * so a payload may look ahead. Set by the session before it hands out frames.
   */
  limit?: number
  /** The codec's own, of this connection. */
  state: unknown
}

/** Finds frames in a stream. */
export interface Framer {
  /** A reader for one connection. It must not allocate until bytes come: most connections are idle. */
  open(limits: FrameLimits): FrameReader
}

export interface FrameLimits {
  /** Largest payload, in bytes; `Infinity` when spelled `unlimited`. Equal passes. */
  readonly frameBytes: number
  /** Largest line, in bytes, its terminator excluded; text framers use the smaller of both. Equal passes. */
  readonly lineBytes: number
}

/**
 * Finds one frame after another.
 *
 * Callers must:
 * - after -1, call again with the same unconsumed bytes at `start` and more behind them;
 * - after a frame, go on at the returned index; after a throw, never call again.
 *
 * Implementations must:
 * - remember how far they looked, so that 1 MiB in 1-byte pieces stays linear;
 * - refuse a frame over its limit as soon as that can be known, before its bytes have come;
 * - take at least one byte for each frame found, or return -1;
 * - throw `FrameError` only.
 */
export interface FrameReader {
  /** Bounds of the payload last found, in the buffer given to `next`. */
  readonly start: number
  readonly end: number
  /**
   * Bytes wanted from the frame's first one before `next` can find it; 0 when unknown. A hint for sizing the buffer, never
   * trusted: memory grows with the bytes that came, not with the length a peer claims.
   */
  readonly need: number
  /**
   * Looks for a whole frame at the front of `buffer[start, end)`.
   *
   * @returns the index after the frame, framing included; -1 when more bytes are needed.
   * @throws {FrameError} `TOO_LARGE`, `MALFORMED`.
   */
  next(buffer: Buffer, start: number, end: number): number
  /**
   * Passes over bytes between frames that belong to none (white space between JSON values, an idle line's marks), so that
   * they are not kept as the front of a frame that is late. Asked before `next`.
   *
   * @returns the index of the first byte that is not one of them.
   */
  skip?(buffer: Buffer, start: number, end: number): number
  /**
   * The peer finished with `end - start` bytes unconsumed. Left out: any byte left is `TRUNCATED`.
   *
   * @returns as `next`: a last frame, or -1 for `TRUNCATED`.
   */
  finish?(buffer: Buffer, start: number, end: number): number
}

/** A frame's payload as a message, beside a framer: `payload: 'json'`. */
export interface Payload<In = unknown, Out = In> {
  /** @param limit - As `CodecContext.limit`. */
  decodeAt(buffer: Buffer, start: number, end: number, limit?: number): In
  encode(message: Out): Uint8Array | string
  isMessage?(value: unknown): boolean
  route?(message: In): string | undefined
  correlate?(message: In | Out): string | number | undefined
}
