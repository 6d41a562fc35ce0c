/**
 * `gzip`, `deflate`, `brotli`, `zstd`: a connection's bytes, compressed both ways as one stream.
 *
 * Room: plugins/layers. RFC 1952, 1950, 7932, 8878, by `node:zlib`. What is written in one turn is flushed at its end, so a
 * message arrives without waiting for the next. A peer that sends little and means much is stopped at a ratio.
 */
import type { Transform } from 'node:stream'
import * as zlib from 'node:zlib'
import { ConfigError, FrameError } from '../../core/errors.js'
import { LayerLink, LayerSink } from '../../core/layer-link.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Factory, Layer, LayerScope } from '../../core/plugin.js'
import type { Link, LinkSink } from '../../core/transport.js'

export interface CompressionOptions {
  level: number
  ratio: number
}

/** The kind of stream, and how a turn's output is flushed so that the other side can read all of it. */
interface Method {
  compress(level: number): Transform
  decompress(): Transform
  readonly flush: number
}

/** Small outputs: each is a chance to stop. */
const CHUNK_BYTES = 16 * 1024
/** Up to here any ratio will do: short texts compress well, honestly. */
const FREE_BYTES = 64 * 1024

const { constants } = zlib
type Params = Record<number, number>

const methods: Readonly<Record<string, () => Method>> = {
  gzip: () => ({
    compress: (level) => zlib.createGzip({ level }),
    decompress: () => zlib.createGunzip({ chunkSize: CHUNK_BYTES }),
    flush: constants.Z_SYNC_FLUSH,
  }),
  deflate: () => ({
    compress: (level) => zlib.createDeflate({ level }),
    decompress: () => zlib.createInflate({ chunkSize: CHUNK_BYTES }),
    flush: constants.Z_SYNC_FLUSH,
  }),
  brotli: () => ({
    compress: (level) => zlib.createBrotliCompress({ params: { [constants.BROTLI_PARAM_QUALITY]: level } as Params }),
    decompress: () => zlib.createBrotliDecompress({ chunkSize: CHUNK_BYTES }),
    flush: constants.BROTLI_OPERATION_FLUSH,
  }),
  zstd: () => {
    const { createZstdCompress, createZstdDecompress } = zlib as unknown as {
      createZstdCompress?: (options: object) => Transform
      createZstdDecompress?: (options: object) => Transform
    }
    const { ZSTD_e_flush, ZSTD_c_compressionLevel } = constants as unknown as Record<string, number>
    if (createZstdCompress === undefined || createZstdDecompress === undefined) {
      const message = `layer zstd needs Node 22.15, 23.8 or newer; this is ${process.versions.node}; use gzip or brotli`
      throw new ConfigError('BAD_VALUE', message, { layer: 'zstd' })
    }
    return {
      compress: (level) => createZstdCompress({ params: { [ZSTD_c_compressionLevel as number]: level } }),
      decompress: () => createZstdDecompress({ chunkSize: CHUNK_BYTES }),
      flush: ZSTD_e_flush as number,
    }
  },
}

function compression(name: string, least: number, most: number, usual: number): Factory<Layer, CompressionOptions> {
  return {
    name,
    options: optionSchema<CompressionOptions>({
      level: {
        unit: 'count',
        min: least,
        max: most,
        default: usual,
        why: 'How hard to try; more is smaller and slower.',
      },
      ratio: {
        unit: 'number',
        min: 1,
        default: 100,
        unlimited: true,
        why: 'Most bytes that a byte received may stand for, beyond the first 64 KiB; the connection is ended as TOO_LARGE. 1,000 zeros compress to a few bytes.',
      },
    }),
    create(options) {
      const method = (methods[name] as () => Method)()
      return {
        stage: 'content',
        upgrade: () => [],
        wrap: (above, scope) => new CompressionSink(above, name, method, options, scope),
      }
    },
  }
}

export const gzip = compression('gzip', 0, 9, 6)
export const deflate = compression('deflate', 0, 9, 6)
// Four is where it is as fast as gzip and smaller; the library's default of eleven is for files.
export const brotli = compression('brotli', 0, 11, 4)
export const zstd = compression('zstd', 1, 22, 3)

class CompressedLink extends LayerLink {
  readonly #sink: CompressionSink
  /** Each holds some 40 KiB (deflate 270 KiB), so a direction has one from its first byte on. */
  #deflater: Transform | undefined
  #inflater: Transform | undefined
  #isFlushQueued = false
  #hasEnded = false
  /** Of our end. */
  #endReason: string | undefined
  /** Of the peer's end, told above behind what it said. */
  reason: string | undefined
  #isBelowFull = false
  #owesDrain = false
  /** Nothing more is told above, or taken from there. */
  isOver = false
  /** The peer has finished below, and its last bytes may still be on their way up. */
  #isFinishing = false
  /** The link below is gone; told above once the last bytes were. */
  isClosedBelow = false
  received = 0
  fault: FrameError | undefined
  produced = 0
  /** Read from below, and not yet through the inflater. */
  #pending = 0
  #isPausedAbove = false
  #isPausedBelow = false

  constructor(below: Link, sink: CompressionSink) {
    super(below)
    this.#sink = sink
  }

  override get stable(): boolean {
    return true
  }
  override get buffered(): number {
    return this.isOver ? this.below.buffered : this.below.buffered + (this.#deflater?.writableLength ?? 0)
  }
  override write(bytes: Uint8Array): boolean {
    if (this.#hasEnded || this.isOver) return true
    const deflater = this.#deflating()
    deflater.write(bytes, this.#onDeflated)
    if (!this.#isFlushQueued) {
      this.#isFlushQueued = true
      setImmediate(() => {
        this.#isFlushQueued = false
        if (!this.#hasEnded && !this.isOver) (deflater as unknown as zlib.Gzip).flush(this.#sink.method.flush)
      })
    }
    const isFree = !this.#isBelowFull && this.buffered <= this.#sink.scope.limits.writeHighBytes
    if (!isFree) this.#owesDrain = true
    return isFree
  }
  override pause(): void {
    this.#isPausedAbove = true
    this.#inflater?.pause()
    this.#hold()
  }
  override resume(): void {
    this.#isPausedAbove = false
    this.#inflater?.resume()
    this.#letGo()
  }
  override end(reason?: string): void {
    if (this.#hasEnded || this.isOver) return
    this.#hasEnded = true
    this.#endReason = reason
    this.#deflating().end()
  }
  override abort(reason?: Error): void {
    this.dispose()
    if (this.isClosedBelow) process.nextTick(() => this.#sink.closed(this))
    else this.below.abort(reason)
  }
  override unread(): void {
    throw new FrameError('MALFORMED', 'a compressed link takes nothing back')
  }

  /** What is below is writable again. */
  drained(): void {
    this.#isBelowFull = false
    this.#onDeflated()
  }

  /** Less waits, here or below: whichever is last tells. */
  readonly #onDeflated = (): void => {
    if (!this.#owesDrain || this.#isBelowFull || this.isOver) return
    if (this.buffered > this.#sink.scope.limits.writeLowBytes) return
    this.#owesDrain = false
    this.#sink.above.drain(this)
  }

  feed(bytes: Buffer): void {
    this.received += bytes.length
    this.#pending += bytes.length
    this.#inflating().write(bytes, () => {
      this.#pending -= bytes.length
      this.#letGo()
    })
    if (this.#pending > this.#sink.scope.limits.readPauseBytes) this.#hold()
  }

  /** The peer has finished; it is told above behind what it said. @returns whether that is still to come. */
  finish(): void {
    this.#isFinishing = true
    if (this.#inflater === undefined) this.#sink.finished(this)
    else this.#inflater.end()
  }
  get isFinishing(): boolean {
    return this.#isFinishing && !this.isOver
  }
  /** Its last bytes and its end have been told above. */
  finished(): void {
    this.#isFinishing = false
  }

  #deflating(): Transform {
    if (this.#deflater !== undefined) return this.#deflater
    const { method, options } = this.#sink
    const deflater = method.compress(options.level)
    deflater.on('data', (chunk: Buffer) => {
      if (!this.isOver && !this.below.write(chunk)) this.#isBelowFull = true
    })
    deflater.on('end', () => this.below.end(this.#endReason))
    deflater.on('error', (error) => this.abort(error))
    this.#deflater = deflater
    return deflater
  }

  #inflating(): Transform {
    if (this.#inflater !== undefined) return this.#inflater
    const inflater = this.#sink.method.decompress()
    inflater.on('data', (chunk: Buffer) => this.#sink.inflated(this, chunk))
    inflater.on('end', () => this.#sink.finished(this))
    inflater.on('error', (error) => this.#sink.corrupt(this, error))
    if (this.#isPausedAbove) inflater.pause()
    this.#inflater = inflater
    return inflater
  }

  #hold(): void {
    if (this.#isPausedBelow) return
    this.#isPausedBelow = true
    this.below.pause()
  }
  #letGo(): void {
    if (!this.#isPausedBelow || this.#isPausedAbove || this.isOver) return
    if (this.#pending > this.#sink.scope.limits.readPauseBytes) return
    this.#isPausedBelow = false
    this.below.resume()
  }

  dispose(): void {
    this.isOver = true
    this.#deflater?.destroy()
    this.#inflater?.destroy()
  }
}

class CompressionSink extends LayerSink<CompressedLink> {
  readonly name: string
  readonly method: Method
  readonly options: CompressionOptions
  readonly scope: LayerScope

  constructor(above: LinkSink, name: string, method: Method, options: CompressionOptions, scope: LayerScope) {
    super(above)
    this.name = name
    this.method = method
    this.options = options
    this.scope = scope
  }

  protected override make(below: Link): CompressedLink {
    return new CompressedLink(below, this)
  }
  override data(below: Link, buffer: Uint8Array, start: number, end: number): void {
    const link = this.linkOf(below)
    if (!link.isOver) link.feed(Buffer.from(buffer.subarray(start, end)))
  }
  override end(below: Link, reason?: string): void {
    const link = this.linkOf(below)
    link.reason = reason
    if (!link.isOver) link.finish()
  }
  override drain(below: Link): void {
    this.linkOf(below).drained()
  }
  override close(below: Link, error?: Error): void {
    const link = this.linkOf(below)
    // Both sides have finished, and what the peer said last is still on its way up.
    if (error === undefined && link.isFinishing) {
      link.isClosedBelow = true
      return
    }
    link.dispose()
    this.above.close(link, error ?? link.fault)
  }

  inflated(link: CompressedLink, chunk: Buffer): void {
    if (link.isOver) return
    link.produced += chunk.length
    const { ratio } = this.options
    if (link.produced > FREE_BYTES && link.produced - FREE_BYTES > link.received * ratio) {
      const message = `${link.received} bytes of ${this.name} stand for more than ${ratio} times as many (ratio)`
      return this.fail(link, new FrameError('TOO_LARGE', message, { received: link.received, produced: link.produced }))
    }
    this.above.data(link, chunk, 0, chunk.length)
  }
  finished(link: CompressedLink): void {
    if (link.isOver) return
    link.finished()
    this.above.end(link, link.reason)
    this.closed(link)
  }
  /** Below it was closed before. */
  closed(link: CompressedLink): void {
    if (!link.isClosedBelow) return
    link.isClosedBelow = false
    link.dispose()
    this.above.close(link, link.fault)
  }
  corrupt(link: CompressedLink, cause: Error): void {
    if (link.isOver) return
    // The peer finished inside the stream: what it had to say is lost, and that is said.
    const isCut = (cause as { code?: string }).code === 'Z_BUF_ERROR'
    const what = isCut
      ? 'the peer finished inside the compressed stream'
      : `bytes that are no ${this.name}: ${cause.message}`
    this.fail(link, new FrameError(isCut ? 'TRUNCATED' : 'MALFORMED', what, { cause }))
  }
  fail(link: CompressedLink, error: FrameError): void {
    link.fault = error
    link.abort(error)
    this.closed(link)
  }
}
