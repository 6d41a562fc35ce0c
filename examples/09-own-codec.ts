/**
 * A codec of one's own: a framer finds frames, a payload reads them. This one is a type byte, a length byte, then bytes.
 * `codecConformance` of gaidaros/testing proves it: any split of the stream gives the same messages.
 *
 *   npx gaidaros serve --config examples/09-own-codec.ts
 *   printf '\001\002hi' | ncat localhost 8080 | xxd      → 0102 6869 ("hi", type 1)
 */
import { type Codec, defineConfig, FrameError, type Framer } from 'gaidaros'

interface Record {
  readonly type: number
  readonly value: Buffer
}

const framer: Framer = {
  open: (limits) => ({
    start: 0,
    end: 0,
    need: 2,
    next(buffer, start, end) {
      if (end - start < 2) return -1
      const length = buffer[start + 1] as number
      if (length > limits.frameBytes) throw new FrameError('TOO_LARGE', `a value of ${length} bytes`)
      if (end - start < 2 + length) return -1
      Object.assign(this, { start, end: start + 2 + length })
      return start + 2 + length
    },
  }),
}

export const typed: Codec<Record> = {
  framer,
  decode: (frame) => ({ type: frame[0] as number, value: Buffer.from(frame.subarray(2)) }),
  encode: ({ type, value }) => Buffer.concat([Buffer.of(type, value.length), value]),
  route: ({ type }) => String(type),
}

export default defineConfig({
  listen: 'tcp://localhost:8080',
  codec: typed,
  limits: { frameBytes: 257 },
  handler: (record: Record) => record,
})
