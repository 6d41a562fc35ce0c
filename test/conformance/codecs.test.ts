// time limit: 900 s
/** Every built-in codec keeps every promise of the published suite, over 100,000 generated cases each. */
import { test } from 'uvu'
import { systemClock } from '#src/core/clock.js'
import type { Codec } from '#src/core/codec.js'
import { EventHub } from '#src/core/events.js'
import { ServerRegistry } from '#src/core/registry.js'
import { codecs, framers, payloads } from '#src/plugins/codecs/index.js'
import { codecConformance, type Random } from '#src/testing/index.js'

const registry = new ServerRegistry({ events: new EventHub(), clock: systemClock })
for (const framer of framers) registry.framer(framer as never)
for (const payload of payloads) registry.payload(payload as never)
for (const codec of codecs) registry.codec(codec as never)
const codecOf = (ref: string | { name: string }): Codec => registry.resolveCodec(ref, 'test').codec

const letters = 'abcdefghijklmnopqrstuvwxyzäß€😀 0123456789'
const text = (random: Random): string => {
  const all = [...letters]
  return Array.from({ length: random.below(60) }, () => all[random.below(all.length)]).join('')
}
const bytes = (random: Random): Buffer => Buffer.from(Array.from({ length: random.below(60) }, () => random.below(256)))
const value = (random: Random): unknown =>
  [text(random), random.below(1_000_000), { a: [text(random), null, true] }, []][random.below(4)]
/** Not empty: stuffed framings pass over empty frames. */
const filled = (random: Random): Buffer => Buffer.concat([Buffer.from([random.below(256)]), bytes(random)])
const cases = 100_000

const subjects: readonly {
  name: string
  ref: string | { name: string }
  messages: (random: Random) => unknown
  malformed?: readonly string[]
  large?: (size: number) => unknown
}[] = [
  { name: 'line', ref: 'line', messages: text },
  { name: 'delimiter', ref: { name: 'delimiter', delimiter: '|~' } as never, messages: (random) => text(random) },
  {
    name: 'fixed',
    ref: { name: 'fixed', size: 16 } as never,
    messages: (random) => Buffer.alloc(16, random.below(256)),
  },
  { name: 'length-field', ref: 'length-field', messages: bytes, malformed: ['\xff\xff\xff\xff'] },
  {
    name: 'length-field 2 le',
    ref: { name: 'length-field', size: 2, endian: 'little' } as never,
    messages: bytes,
    large: (size) => Buffer.alloc(Math.min(size, 65_535), 7),
  },
  { name: 'varint', ref: 'varint', messages: bytes, malformed: ['\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01'] },
  { name: 'netstring', ref: 'netstring', messages: bytes, malformed: ['01:a,', 'x', '1:ab', '-1:,'] },
  {
    name: 'json-lines',
    ref: 'json-lines',
    messages: value,
    malformed: ['{"a":}\n', '[1\n', '{"__proto__":{}}\n', '"\xff"\n'],
    large: (size) => 'x'.repeat(Math.max(0, size - 2)),
  },
  { name: 'raw', ref: 'raw', messages: bytes },
  {
    name: 'begin-end',
    ref: { name: 'begin-end', begin: '\\x02', end: '\\x03\\r' } as never,
    messages: text,
    malformed: ['x'],
  },
  {
    name: 'header-body',
    ref: {
      name: 'header-body',
      headerBytes: 4,
      length: (header: Buffer) => header.readUInt32LE(0),
      header: (length: number) => {
        const out = Buffer.alloc(4)
        out.writeUInt32LE(length)
        return out
      },
    } as never,
    messages: bytes,
  },
  { name: 'cobs', ref: 'cobs', messages: (random) => filled(random), malformed: ['\x09a\0'] },
  { name: 'slip', ref: 'slip', messages: (random) => filled(random), malformed: ['\xc0a\xdbb\xc0'] },
  {
    name: 'tlv',
    ref: { name: 'tlv', length: 'ber' } as never,
    messages: (random) => ({ tag: random.below(256), value: bytes(random) }),
    malformed: ['\x01\x80', '\x01\x87'],
    large: (size) => ({ tag: 1, value: Buffer.alloc(size) }),
  },
  {
    name: 'json-stream',
    ref: 'json-stream',
    messages: (random) => [{ a: [text(random), '}{'] }, text(random), [[], {}], { b: '\\"' }][random.below(4)],
    malformed: [']', '{"a":}', 'nul '],
    large: (size) => 'x'.repeat(Math.max(0, size - 2)),
  },
  {
    name: 'msgpack',
    ref: 'msgpack',
    messages: value,
    malformed: ['\xc1', '\x91\xc1'],
    large: (size) => 'x'.repeat(Math.max(0, size - 5)),
  },
  {
    name: 'cbor',
    ref: 'cbor',
    messages: value,
    malformed: ['\xff', '\x1c', '\x5f\x61a'],
    large: (size) => 'x'.repeat(Math.max(0, size - 5)),
  },
]
for (const { name, ref, messages, malformed, large } of subjects) {
  const subject = { name, codec: codecOf(ref), messages, cases, ...(large === undefined ? {} : { large }) }
  const bad = malformed?.map((text) => Buffer.from(text, 'latin1'))
  codecConformance({ ...subject, ...(bad === undefined ? {} : { malformed: bad }) } as never, { test })
}

test.run()
