import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Codec, FrameReader } from '#src/core/codec.js'
import { FrameError } from '#src/core/errors.js'
import { type CodecSubject, codecConformance, type Random } from '#src/testing/index.js'
import { collect } from './collecting-runner.js'
import { lines, prefixed } from './sample-codecs.js'

const texts = (random: Random) => 'zwölf € words of a line, 𝄞 '.slice(random.below(10)).repeat(random.below(5))
const someBytes = (random: Random) => random.bytes(random.below(300))

codecConformance({ name: 'lines', codec: lines, messages: texts, cases: 2_000 }, { test })
codecConformance(
  { name: 'prefixed', codec: prefixed, messages: someBytes, large: (n) => Buffer.alloc(Math.min(n, 60_000)) },
  { test },
)
codecConformance(
  {
    name: 'json without a framer',
    codec: { decode: json, encode: (value) => JSON.stringify(value) },
    messages: [1, 'a', { b: [null] }],
  },
  { test },
)

function json(frame: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(frame).toString())
  } catch (cause) {
    throw new FrameError('MALFORMED', 'no JSON', { cause })
  }
}

/** The line codec with some of a reader's behaviour changed. */
function withReader(change: (reader: FrameReader) => Partial<FrameReader>): Codec<string, string> {
  return {
    ...lines,
    framer: {
      open(limits) {
        const reader = lines.framer.open(limits) as { -readonly [K in keyof FrameReader]: FrameReader[K] }
        const changed = change({ next: reader.next.bind(reader) } as FrameReader)
        const next = changed.next
        if (next) reader.next = (buffer, start, end) => next.call(reader, buffer, start, end)
        return reader
      },
    },
  }
}

const broken: [string, CodecSubject['codec'], string[], Partial<CodecSubject>?][] = [
  [
    'a reader that starts over at each call',
    withReader(
      () =>
        ({
          next(this: { start: number; end: number }, buffer: Buffer, start: number, end: number) {
            // Byte by byte, as a quadratic reader would: Buffer.indexOf hides much behind its speed.
            for (let at = start; at < end; at++) {
              if (buffer[at] !== 10) continue
              this.start = start
              this.end = at
              return at + 1
            }
            return -1
          },
        }) as Partial<FrameReader>,
    ),
    ['limit-exceeded-too-large', 'too-large-refused-early', 'seen-bytes-not-reread', 'linear-work'],
  ],
  [
    'a reader that remembers where in the buffer it was',
    withReader(() => {
      let at = -1
      return {
        next(this: { start: number; end: number }, buffer: Buffer, start: number, end: number) {
          if (at === -1) at = start
          for (; at < end; at++) {
            if (buffer[at] !== 10) continue
            this.start = start
            this.end = at
            const after = at + 1
            at = -1
            return after
          }
          return -1
        },
      } as Partial<FrameReader>
    }),
    ['any-split-same-frames', 'limit-exceeded-too-large', 'too-large-refused-early'],
  ],
  [
    'a framer that keeps one state for all connections',
    (() => {
      let looked = 0
      return {
        ...lines,
        framer: {
          open: (limits) => {
            const reader = lines.framer.open(limits) as { -readonly [K in keyof FrameReader]: FrameReader[K] }
            reader.next = (buffer, start, end) => {
              const at = buffer.subarray(0, end).indexOf(10, start + looked)
              looked = at === -1 ? end - start : 0
              if ((at === -1 ? end : at) - start > Math.min(limits.frameBytes, limits.lineBytes))
                throw new FrameError('TOO_LARGE', '')
              if (at === -1) return -1
              reader.start = start
              reader.end = at
              return at + 1
            }
            return reader
          },
        },
      } as Codec<string, string>
    })(),
    ['connections-share-nothing', 'hostile-bytes'],
  ],
  [
    'a limit that is off by one',
    {
      ...lines,
      framer: {
        open: (limits) => lines.framer.open({ frameBytes: limits.frameBytes + 1, lineBytes: limits.lineBytes + 1 }),
      },
    },
    ['limit-exceeded-too-large'],
  ],
  [
    'a limit looked at only once the frame is whole',
    withReader(({ next }) => ({
      next(buffer: Buffer, start: number, end: number) {
        return buffer.subarray(0, end).indexOf(10, start) === -1 ? -1 : next(buffer, start, end)
      },
    })),
    ['too-large-refused-early', 'seen-bytes-not-reread', 'linear-work'],
  ],
  [
    'a length that is believed',
    {
      ...prefixed,
      framer: {
        open: ({ frameBytes }) => {
          const reader = prefixed.framer.open({ frameBytes: 70_000, lineBytes: 70_000 })
          const { next } = reader
          reader.next = function (buffer, start, end) {
            const after = next.call(this, buffer, start, end)
            if (after !== -1 && this.end - this.start > frameBytes) throw new FrameError('TOO_LARGE', '')
            return after
          }
          return reader
        },
      },
    } as Codec<Uint8Array, Uint8Array>,
    ['too-large-refused-early'],
    { messages: someBytes, large: (n) => Buffer.alloc(Math.min(n, 60_000)) },
  ],
  [
    'a decoder that throws what JSON.parse throws',
    {
      framer: lines.framer,
      decode: (frame) => JSON.parse(Buffer.from(frame).toString()),
      encode: (value, { kind }) => JSON.stringify(value) + (kind === 'stream' ? '\n' : ''),
    },
    ['malformed-is-frame-error', 'hostile-bytes', 'hostile-messages'],
    { messages: [1, [2, 3], { a: 'b' }], large: (n) => 'x'.repeat(n), malformed: [Buffer.from('{]\n')] },
  ],
  [
    "messages that view a buffer of the codec's own",
    (() => {
      const own = Buffer.alloc(70_000)
      return {
        ...prefixed,
        decode: (frame: Uint8Array) => {
          own.set(frame)
          return own.subarray(0, frame.length)
        },
        decodeAt: undefined,
      }
    })() as unknown as Codec,
    ['many-frames-in-one-chunk', 'connections-share-nothing', 'messages-stay'],
    { messages: someBytes, large: (n) => Buffer.alloc(Math.min(n, 60_000)) },
  ],
  [
    'an encoder that uses one buffer again and again',
    (() => {
      const own = Buffer.alloc(70_000)
      return {
        ...prefixed,
        encode(bytes: Uint8Array, { kind }: { kind: string }) {
          if (kind === 'message') return bytes
          own.writeUInt16BE(bytes.length)
          own.set(bytes, 2)
          return own.subarray(0, bytes.length + 2)
        },
      }
    })() as unknown as Codec,
    ['encoded-bytes-stay'],
    { messages: someBytes, large: (n) => Buffer.alloc(Math.min(n, 60_000)) },
  ],
  [
    'pieces that are not what encode gives',
    { ...lines, encodePieces: (text: string) => [Buffer.from(text)] },
    ['encode-pieces-agree'],
  ],
  [
    'decodeAt that forgets where it should end',
    { ...lines, decodeAt: (buffer: Buffer, start: number, end: number) => buffer.toString('utf8', start, end + 1) },
    [
      'round-trip-stream',
      'many-frames-in-one-chunk',
      'asked-again-after-minus-one',
      'connections-share-nothing',
      'messages-stay',
      'limit-equal-passes',
      'seen-bytes-not-reread',
      'decode-agrees-with-decode-at',
    ],
  ],
  [
    'a reader that allocates for its limit at once',
    { ...lines, framer: { open: (limits) => Object.assign(lines.framer.open(limits), { own: Buffer.alloc(2_000) }) } },
    ['idle-reader-owns-no-buffer'],
  ],
  [
    'a reader that finds a frame in nothing',
    withReader(({ next }) => ({
      next: (buffer: Buffer, start: number, end: number) => (end - start === 3 ? start : next(buffer, start, end)),
    })),
    [
      'any-split-same-frames',
      'one-byte-pieces',
      'connections-share-nothing',
      'too-large-refused-early',
      'need-not-overstated',
      'seen-bytes-not-reread',
      'linear-work',
      'end-inside-frame',
      'hostile-bytes',
    ],
  ],
  [
    'a need that is more than the frame',
    { ...lines, framer: { open: (limits) => Object.assign(lines.framer.open(limits), { need: 1_000 }) } },
    ['need-not-overstated'],
  ],
]

for (const [title, codec, expected, more] of broken) {
  test(`the kit finds ${title}`, async () => {
    const subject = { name: title, codec, messages: texts, cases: 300, ...more } as CodecSubject
    const { failed, reasons } = await collect((runner) => codecConformance(subject, runner))
    assert.equal(failed, expected, JSON.stringify(reasons, undefined, 1))
  })
}

test.run()
