/**
 * Transport cases: how a link begins and ends, and what one says while it does.
 *
 * Room: testing.
 */
import assert from 'node:assert/strict'
import { ConnectionError } from '../core/errors.js'
import type { RecordedLink } from './link-recorder.js'
import {
  always,
  halfClose,
  onStreams,
  reset,
  type TransportCase,
  transportCase,
  whereReliable,
} from './transport-case.js'
import { assertSameBytes, type LinkPair, summary, type TransportRig } from './transport-rig.js'

const KiB = 1024

export const endCases: readonly TransportCase[] = [
  transportCase(
    'open-first-close-once-last',
    'open comes first and close exactly once and last, whatever is called after',
    always,
    async (rig) => {
      const { near, far } = await rig.pair()
      await rig.transfer(near, far, 500)
      far.onEnd = () => far.end()
      near.end()
      // Without a half-close, or without a word from the peer, each side ends for itself.
      if (!rig.capabilities.halfClose) far.end()
      await rig.untilClosed(near, far)
      for (const side of [near, far]) {
        side.end()
        side.abort()
        side.pause()
        side.resume()
        side.write(Buffer.from('late'))
      }
      await rig.quiet()
      assertLife(near, "the connector's side")
      assertLife(far, "the listener's side")
    },
  ),

  transportCase(
    'orderly-end-without-error',
    'a link that both sides end closes without an error on both',
    whereReliable,
    async (rig) => {
      const { near, far } = await rig.pair()
      await rig.transfer(near, far, 500)
      far.onEnd = () => far.end()
      near.end()
      await rig.untilClosed(near, far)
      assert.equal(near.error, undefined, `the connector's side: ${near.error}`)
      assert.equal(far.error, undefined, `the listener's side: ${far.error}`)
    },
  ),

  transportCase(
    'no-reentrant-calls',
    'the sink is never called from inside write, end, abort, pause, resume or open',
    always,
    async (rig) => {
      const bound = await rig.listen()
      bound.sink.onOpen = ({ link }) => {
        link.pause()
        link.resume()
        link.write(Buffer.from('welcome'))
      }
      const { near, far } = await rig.pair(bound)
      await rig.until(
        () => near.bytes >= 7,
        'what open wrote',
        () => summary(near),
      )
      far.onData = () => far.write(Buffer.from('reply'))
      for (let i = 0; i < 10; i++) {
        near.write(Buffer.alloc(rig.isStream ? 32 * KiB : 100))
        near.pause()
        near.resume()
      }
      await rig.until(
        () => near.bytes > 7,
        'a reply',
        () => summary(near),
      )
      far.onEnd = () => far.abort()
      near.end()
      near.abort()
      far.abort()
      await rig.untilClosed(near, far)
      assert.deepEqual([...near.reentrant, ...far.reentrant], [], 'calls from inside a call')
    },
  ),

  transportCase('state-is-cores', 'link.state is what core put there, from open to close', always, async (rig) => {
    const { near, far } = await rig.pair()
    await rig.transfer(near, far, 500)
    near.abort()
    far.abort()
    await rig.untilClosed(near, far)
    assert.ok(near.link.state === near, "the connector's side: state is no longer what was put there")
    assert.ok(far.link.state === far, "the listener's side: state is no longer what was put there")
  }),

  transportCase(
    'half-close-by-connector',
    "a connector that ended still receives; the listener's side goes on",
    halfClose,
    (rig) => provesHalfClose(rig, ({ near, far }) => [near, far]),
  ),

  transportCase(
    'half-close-by-listener',
    "a listener's side that ended still receives; the connector goes on",
    halfClose,
    (rig) => provesHalfClose(rig, ({ near, far }) => [far, near]),
  ),

  transportCase(
    'end-sends-what-was-written',
    'end sends what was written before, and then is heard once',
    whereReliable,
    async (rig) => {
      const { near, far } = await rig.pair()
      const bytes = rig.random.bytes(256 * KiB)
      const piece = rig.isStream ? 50_000 : Math.min(KiB, rig.capabilities.maxMessageBytes ?? KiB)
      for (let at = 0; at < bytes.length; at += piece) near.write(bytes.subarray(at, at + piece))
      near.end()
      await rig.until(
        () => far.ends + far.closes > 0,
        'the end',
        () => summary(far),
      )
      assertSameBytes(far.received(), bytes)
      far.end()
      await rig.untilClosed(near, far)
      assert.ok(far.ends <= 1, `the end was heard ${far.ends} times`)
    },
  ),

  transportCase('end-is-heard', 'the peer of a stream that ended hears it, once, by end', onStreams, async (rig) => {
    const { near, far } = await rig.pair()
    near.end()
    await rig.until(
      () => far.ends + far.closes > 0,
      'the end',
      () => summary(far),
    )
    assert.equal(far.ends, 1, 'calls of end')
  }),

  transportCase(
    'end-and-abort-repeat',
    'end and abort may be called again and after one another',
    always,
    async (rig) => {
      const bound = await rig.listen()
      const orders: ('end' | 'abort')[][] = [
        ['end', 'end'],
        ['abort', 'abort'],
        ['end', 'abort', 'end'],
        ['abort', 'end'],
      ]
      for (const order of orders) {
        const { near, far } = await rig.pair(bound)
        far.onEnd = () => far.end()
        for (const call of order) near[call]()
        if (!rig.capabilities.reliable) far.abort()
        await rig.untilClosed(near, far)
        for (const call of order) near[call]()
        await rig.quiet()
        assert.equal(near.closes, 1, `closes after ${order.join(', ')}`)
      }
    },
  ),

  transportCase(
    'end-inside-data',
    'end inside data is legal; what was written there before it arrives',
    always,
    async (rig) => {
      const { near, far } = await rig.pair()
      far.onData = () => {
        far.write(Buffer.from('goodbye'))
        far.end()
        far.end()
      }
      near.onEnd = () => near.end()
      near.write(Buffer.from('hello'))
      await rig.until(
        () => near.bytes >= 7,
        'what was written before end',
        () => summary(near),
      )
      assert.equal(near.received().toString(), 'goodbye')
      if (!rig.capabilities.reliable) near.end()
      await rig.untilClosed(near, far)
    },
  ),

  transportCase('abort-inside-data', 'abort inside data is legal; no further data comes', always, async (rig) => {
    const { near, far } = await rig.pair()
    let calls = 0
    far.onData = () => {
      calls++
      far.abort()
      far.abort()
    }
    for (let i = 0; i < 8; i++) near.write(Buffer.alloc(rig.isStream ? 64 * KiB : 100))
    await rig.untilClosed(far)
    await rig.quiet()
    assert.equal(calls, 1, 'calls of data')
    assert.equal(far.events.at(-1), 'close')
  }),

  transportCase(
    'abort-is-prompt',
    'abort closes our side though the peer reads nothing and bytes wait',
    always,
    async (rig) => {
      const { near, far } = await rig.pair()
      far.pause()
      for (let i = 0; i < 64; i++) near.write(Buffer.alloc(rig.isStream ? 256 * KiB : 500))
      near.abort()
      await rig.untilClosed(near)
      assert.equal(near.link.buffered, 0, 'bytes that still wait')
    },
  ),

  transportCase(
    'abort-is-reset',
    'abort of one side closes the other with ConnectionError RESET',
    reset,
    async (rig) => {
      for (const sides of [({ near, far }: LinkPair) => [near, far], ({ near, far }: LinkPair) => [far, near]]) {
        const pair = await rig.pair()
        const [aborting, other] = sides(pair) as [RecordedLink, RecordedLink]
        aborting.abort()
        await rig.untilClosed(aborting, other)
        const { error } = other
        assert.ok(
          error instanceof ConnectionError,
          `expected ConnectionError RESET, got ${error ?? 'an orderly close'}`,
        )
        assert.equal(error.code, 'RESET')
        await rig.within(pair.listener.unbind(), 'unbind')
      }
    },
  ),

  transportCase(
    'peer-gone-closes',
    'a link whose peer is gone closes once, though it was writing',
    whereReliable,
    async (rig) => {
      const { near, far } = await rig.pair()
      far.onData = () => far.abort()
      near.onEnd = () => near.end()
      for (let i = 0; i < 32 && near.write(Buffer.alloc(rig.isStream ? 64 * KiB : 500)); i++);
      await rig.untilClosed(near, far)
      await rig.quiet()
      assert.equal(near.closes, 1, 'closes')
      assert.equal(near.events.at(-1), 'close')
    },
  ),

  transportCase(
    'write-after-end-ignored',
    'what is written after end is not sent, and nothing is thrown',
    always,
    async (rig) => {
      const { near, far } = await rig.pair()
      near.write(Buffer.from('before'))
      near.end()
      near.write(Buffer.from('after'))
      await rig.until(
        () => far.bytes >= 6,
        'what was written before',
        () => summary(far),
      )
      await rig.quiet()
      assert.equal(far.received().toString(), 'before')
    },
  ),

  transportCase(
    'write-after-abort-ignored',
    'what is written after abort or close is not sent, and nothing is thrown',
    always,
    async (rig) => {
      const { near, far } = await rig.pair()
      near.abort()
      near.write(Buffer.from('after abort'))
      await rig.untilClosed(near)
      near.write(Buffer.from('after close'))
      await rig.quiet()
      assert.equal(far.bytes, 0, 'bytes written after abort arrived')
      assert.equal(near.link.buffered, 0, 'bytes written after abort wait')
    },
  ),
]

async function provesHalfClose(rig: TransportRig, sides: (pair: LinkPair) => RecordedLink[]): Promise<void> {
  const pair = await rig.pair()
  const [ending, other] = sides(pair) as [RecordedLink, RecordedLink]
  ending.write(Buffer.from('last words'))
  ending.end()
  await rig.until(
    () => other.ends > 0 || other.isClosed,
    'the end to be heard',
    () => summary(other),
  )
  assert.equal(other.received().toString(), 'last words')
  await rig.quiet()
  assert.equal(ending.closes + other.closes, 0, 'the link closed when one side ended')
  await rig.transfer(other, ending, rig.isStream ? 256 * KiB : 5_000)
  other.end()
  await rig.untilClosed(ending, other)
  assert.equal(ending.ends, 1, 'ends heard by the side that ended first')
  assert.equal(ending.error ?? other.error, undefined, 'an orderly end is no error')
}

function assertLife({ events, closes }: RecordedLink, side: string): void {
  const told = `${side} was told ${events.join(', ')}`
  assert.equal(events[0], 'open', `${told}; expected open first`)
  assert.equal(events.filter((event) => event === 'open').length, 1, `${told}; expected one open`)
  assert.equal(closes, 1, `${told}; expected one close`)
  assert.equal(events.at(-1), 'close', `${told}; expected close last`)
}
