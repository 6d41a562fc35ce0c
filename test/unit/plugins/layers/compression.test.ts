import { randomBytes } from 'node:crypto'
import { gunzipSync, gzipSync } from 'node:zlib'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { parseEndpoint } from '#src/core/endpoint.js'
import { defaultLimits, defaultTimeouts } from '#src/core/options.js'
import type { Link, LinkSink } from '#src/core/transport.js'
import { gzip } from '#src/plugins/layers/compression.js'

/** A compressed link over one that is full until it is told otherwise. */
function played() {
  const written: Uint8Array[] = []
  /** Reasons: of the peer's end, as it is told above; of ours, as it is told below. */
  const ends: unknown[] = []
  const endsBelow: unknown[] = []
  let isFull = false
  let drains = 0
  let top: Link | undefined
  const above: LinkSink = {
    open: (link) => {
      top = link
    },
    data: () => {},
    end: (_link, reason) => void ends.push(reason),
    drain: () => void drains++,
    close: () => {},
  }
  const layer = gzip.create({ level: 1, ratio: 100 }, {} as never)
  const sink = layer.wrap(above, {
    side: 'accepted',
    endpoint: parseEndpoint('memory:a'),
    listener: 'a',
    kind: 'stream',
    limits: { ...defaultLimits, writeHighBytes: 10_000, writeLowBytes: 1_000 },
    timeouts: defaultTimeouts,
    tls: undefined,
  })
  const below = {
    state: undefined,
    buffered: 0,
    write: (bytes: Uint8Array) => {
      written.push(bytes)
      return !isFull
    },
    pause() {},
    resume() {},
    end: (reason?: string) => void endsBelow.push(reason),
    abort() {},
  } as unknown as Link
  sink.open(below)
  return {
    link: top as Link,
    sink,
    below,
    written,
    ends,
    endsBelow,
    fill: (full: boolean) => {
      isFull = full
    },
    drains: () => drains,
  }
}
const until = async (isSo: () => boolean) => {
  for (let i = 0; i < 2_000 && !isSo(); i++) await new Promise((resolve) => setTimeout(resolve, 1))
  assert.ok(isSo())
}

for (const reason of ['4001', 'SHUTDOWN', undefined]) {
  test(`the reason of an end goes through, both ways, behind what was said: ${reason}`, async () => {
    const { link, sink, below, ends, endsBelow, written } = played()
    link.write(Buffer.from('last words'))
    link.end(reason)
    await until(() => endsBelow.length > 0)
    assert.equal(endsBelow, [reason])
    assert.is(gunzipSync(Buffer.concat(written)).toString(), 'last words')
    const bytes = gzipSync('theirs')
    sink.data(below, bytes, 0, bytes.length)
    sink.end(below, reason)
    await until(() => ends.length > 0)
    assert.equal(ends, [reason])
  })
}

test('a drain is told whichever empties last: what is below, or the compressor', async () => {
  const first = played()
  first.fill(true)
  assert.is(first.link.write(randomBytes(50_000)), false)
  await until(() => first.written.length > 0)
  // Below it is free again while the compressor still works on more.
  first.fill(false)
  assert.is(first.link.write(randomBytes(200_000)), false)
  first.sink.drain(first.below)
  await until(() => first.drains() === 1)
  const second = played()
  second.fill(true)
  second.link.write(randomBytes(50_000))
  await until(() => second.link.buffered === 0 && second.written.length > 0)
  assert.is(second.drains(), 0, 'below it is full')
  second.fill(false)
  second.sink.drain(second.below)
  assert.is(second.drains(), 1)
})

test('what was written is whole, and its end comes behind it', async () => {
  const { link, written, below } = played()
  const text = randomBytes(300_000)
  let hasEnded = false
  ;(below as { end: () => void }).end = () => {
    hasEnded = true
  }
  for (let at = 0; at < text.length; at += 999) link.write(text.subarray(at, at + 999))
  link.end()
  await until(() => hasEnded)
  assert.ok(gunzipSync(Buffer.concat(written)).equals(text))
})

test.run()
