import type { Codec, FrameReader, Framer } from '#src/core/codec.js'
import { FrameError } from '#src/core/errors.js'

const tooLarge = () => new FrameError('TOO_LARGE', 'over the limit')

/** Lines of text, as plainly as the contract allows. */
export const lines: Codec<string, string> & { framer: Framer } = {
  framer: {
    open: ({ frameBytes, lineBytes }) => {
      const limit = Math.min(frameBytes, lineBytes)
      let looked = 0
      return {
        start: 0,
        end: 0,
        need: 0,
        next(buffer: Buffer, start: number, end: number) {
          const at = buffer.subarray(0, end).indexOf(10, start + looked)
          if ((at === -1 ? end : at) - start > limit) throw tooLarge()
          looked = end - start
          if (at === -1) return -1
          looked = 0
          this.start = start
          this.end = at
          return at + 1
        },
      } as { -readonly [K in keyof FrameReader]: FrameReader[K] }
    },
  },
  decode: (frame) => Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength).toString(),
  decodeAt: (buffer, start, end) => buffer.toString('utf8', start, end),
  encode: (text, { kind }) => (kind === 'stream' ? `${text}\n` : text),
  encodePieces: (text, { kind }) => (kind === 'stream' ? [Buffer.from(text), Buffer.from('\n')] : text),
}

/** Bytes behind a length of two bytes. */
export const prefixed: Codec<Uint8Array, Uint8Array> & { framer: Framer } = {
  framer: {
    open: ({ frameBytes }) =>
      ({
        start: 0,
        end: 0,
        need: 0,
        next(buffer: Buffer, start: number, end: number) {
          this.need = 2
          if (end - start < 2) return -1
          const size = buffer.readUInt16BE(start)
          if (size > frameBytes) throw tooLarge()
          this.need = size + 2
          if (end - start < this.need) return -1
          this.start = start + 2
          this.end = start + this.need
          return this.end
        },
      }) as { -readonly [K in keyof FrameReader]: FrameReader[K] },
  },
  decode: (frame) => Buffer.from(frame),
  decodeAt: (buffer, start, end) => buffer.subarray(start, end),
  encode(bytes, { kind }) {
    if (kind === 'message') return bytes
    const out = Buffer.alloc(2 + bytes.length)
    out.writeUInt16BE(bytes.length)
    out.set(bytes, 2)
    return out
  },
}
