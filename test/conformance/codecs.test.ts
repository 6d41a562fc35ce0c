// time limit: 180 s
/** Every built-in codec keeps every promise of the published suite, over 100,000 generated cases each. */
import { test } from 'uvu'
import { systemClock } from '#src/core/clock.js'
import type { Codec } from '#src/core/codec.js'
import { EventHub } from '#src/core/events.js'
import { ServerRegistry } from '#src/core/registry.js'
import { framers, payloads } from '#src/plugins/codecs/index.js'
import { codecConformance, type Random } from '#src/testing/index.js'

const registry = new ServerRegistry({ events: new EventHub(), clock: systemClock })
for (const framer of framers) registry.framer(framer as never)
for (const payload of payloads) registry.payload(payload as never)
const codecOf = (ref: string | { name: string }): Codec => registry.resolveCodec(ref, 'test').codec

const letters = 'abcdefghijklmnopqrstuvwxyzäß€😀 0123456789'
const text = (random: Random): string => {
  const all = [...letters]
  return Array.from({ length: random.below(60) }, () => all[random.below(all.length)]).join('')
}
const bytes = (random: Random): Buffer => Buffer.from(Array.from({ length: random.below(60) }, () => random.below(256)))
const value = (random: Random): unknown =>
  [text(random), random.below(1_000_000), { a: [text(random), null, true] }, []][random.below(4)]
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
]
for (const { name, ref, messages, malformed, large } of subjects) {
  const subject = { name, codec: codecOf(ref), messages, cases, ...(large === undefined ? {} : { large }) }
  const bad = malformed?.map((text) => Buffer.from(text, 'latin1'))
  codecConformance({ ...subject, ...(bad === undefined ? {} : { malformed: bad }) } as never, { test })
}

test.run()
