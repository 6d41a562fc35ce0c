/**
 * A codec to be proved, and the streams its cases are made of.
 *
 * Room: testing.
 */
import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import type { CodecContext, FrameLimits } from '../core/codec.js'
import { type AnyCodec, contextFor, encoded, FrameFeeder } from './frame-feeder.js'
import { createRandom, type Random } from './random.js'
import { sameMessage } from './same-message.js'

export interface CodecSubject {
  /** In reports and test names: `line`, or `length-field 2 le` for one of several runs. */
  readonly name: string
  readonly codec: AnyCodec
  /** Samples, each of which is tried; or a generator, asked as often as is needed. */
  readonly messages: readonly unknown[] | ((random: Random) => unknown)
  /** Makes a message whose frame has about so many bytes. Default: text or bytes, where the messages are such. */
  readonly large?: (bytes: number) => unknown
  /** Whether a decoded message is what was sent. Default: by value, any kind of bytes being equal. */
  readonly equal?: (decoded: unknown, sent: unknown) => boolean
  /**
   * How the peer writes a message, where that is not what `encode` writes: a codec that reads requests and writes
   * replies. Cases about `encode` still use the codec's own, with `replies`.
   */
  readonly encodeAsPeer?: (message: unknown, context: CodecContext) => Uint8Array | string
  /** What the codec's own `encode` is given. Default: the messages. */
  readonly replies?: readonly unknown[]
  /** For all cases but those about limits. Default: core's. */
  readonly limits?: Partial<FrameLimits>
  /** Streams that are not what the grammar allows. */
  readonly malformed?: readonly Uint8Array[]
  /** Generated cases. Default: 1,000. */
  readonly cases?: number
  readonly seed?: number | string
  readonly version?: string
}

const DEFAULT_CASES = 1_000

/** What cases ask of a subject. */
export class CodecRig {
  readonly subject: CodecSubject
  readonly codec: AnyCodec
  readonly random: Random
  readonly cases: number

  constructor(subject: CodecSubject, id: string) {
    this.subject = subject
    this.codec = subject.codec
    this.random = createRandom(`${subject.seed ?? 1}/${id}`)
    this.cases = subject.cases ?? DEFAULT_CASES
  }

  /** All samples, or `count` generated messages. */
  messages(count: number): readonly unknown[] {
    const { messages } = this.subject
    return typeof messages === 'function' ? Array.from({ length: count }, () => messages(this.random)) : messages
  }

  /** One message: drawn from the samples, or generated. */
  message(): unknown {
    const { messages } = this.subject
    return typeof messages === 'function' ? messages(this.random) : this.random.pick(messages)
  }

  replies(count: number): readonly unknown[] {
    return this.subject.replies ?? this.messages(count)
  }

  /** A message as a peer writes it. */
  bytesOf(message: unknown, context: CodecContext = contextFor('stream')): Buffer {
    const { encodeAsPeer } = this.subject
    if (encodeAsPeer === undefined) return encoded(this.codec, message, context)
    return Buffer.from(encodeAsPeer(message, context) as Uint8Array)
  }

  /** Messages as one stream. */
  streamOf(messages: readonly unknown[]): Buffer {
    const context = contextFor('stream')
    return Buffer.concat(messages.map((message) => this.bytesOf(message, context)))
  }

  feeder(limits: Partial<FrameLimits> = this.subject.limits ?? {}): FrameFeeder {
    return new FrameFeeder(this.codec, limits)
  }

  /** Everything offered at once. */
  read(stream: Buffer, limits?: Partial<FrameLimits>): FrameFeeder {
    const feeder = this.feeder(limits)
    feeder.offer(stream, 0, stream.length)
    return feeder
  }

  same(decoded: unknown, sent: unknown): boolean {
    return (this.subject.equal ?? sameMessage)(decoded, sent)
  }

  assertSame(decoded: readonly unknown[], sent: readonly unknown[], where: string): void {
    for (let i = 0; i < Math.max(decoded.length, sent.length); i++) {
      if (i < decoded.length && i < sent.length && this.same(decoded[i], sent[i])) continue
      const show = (list: readonly unknown[]) =>
        i < list.length ? inspect(list[i], { breakLength: 200, maxStringLength: 200 }) : 'nothing'
      assert.fail(`${where}: message ${i}: expected ${show(sent)}, got ${show(decoded)}`)
    }
  }

  /** A message of about so many bytes in one frame, or undefined where none can be made. */
  large(bytes: number): LargeMessage | undefined {
    const { large } = this.subject
    if (large !== undefined) return this.#measured(large(bytes))
    const sample = this.message()
    const message =
      typeof sample === 'string'
        ? 'x'.repeat(bytes)
        : sample instanceof Uint8Array
          ? Buffer.alloc(bytes, 'x')
          : undefined
    if (message === undefined) return undefined
    try {
      return this.#measured(message)
    } catch {
      // Our own guess, which need not be a message of this codec: one of fixed size, say.
      return undefined
    }
  }

  /** The message with the largest payload among samples, or as many generated ones, and one made to be large. */
  largest(): LargeMessage | undefined {
    let best = this.large(1_024)
    for (const message of this.messages(200)) {
      const measured = this.#measured(message)
      if (measured !== undefined && measured.payload > (best?.payload ?? 0)) best = measured
    }
    return best
  }

  #measured(message: unknown): LargeMessage | undefined {
    const frame = this.bytesOf(message)
    const { bounds } = this.read(frame, { frameBytes: Number.POSITIVE_INFINITY, lineBytes: Number.POSITIVE_INFINITY })
    if (bounds.length !== 2) return undefined
    return { message, frame, payload: (bounds[1] as number) - (bounds[0] as number) }
  }
}

/** A message, its frame, and the bytes of payload in it. */
export interface LargeMessage {
  readonly message: unknown
  readonly frame: Buffer
  readonly payload: number
}
