/**
 * Transport cases: bytes, messages, back-pressure and pauses.
 *
 * Room: testing.
 */
import assert from 'node:assert/strict'
import type { RecordedLink } from './link-recorder.js'
import {
  always,
  endToEnd,
  onMessages,
  onStreams,
  type TransportCase,
  transportCase,
  whereReliable,
  whereWritesAreHeld,
} from './transport-case.js'
import { assertSameBytes, summary, type TransportRig } from './transport-rig.js'

const KiB = 1024
const MiB = 1024 * KiB

// More than all queues between two sides hold: ours, and the kernel's (tcp(7): tcp_wmem 4 MiB, tcp_rmem 6 MiB by
// default).
const PAUSED_BOUND_BYTES = 64 * MiB

export const bytesCases: readonly TransportCase[] = [
  transportCase(
    'bytes-whole-in-order',
    '1 MiB each way at once, in writes of 1 byte to 64 KiB, arrives whole and in order',
    onStreams,
    async (rig) => {
      const { near, far } = await rig.pair()
      const there = rig.random.bytes(MiB)
      const back = rig.random.bytes(MiB)
      await Promise.all([
        rig.send(near, there),
        rig.send(far, back),
        rig.until(
          () => far.bytes >= MiB || far.isClosed,
          '1 MiB toward the listener',
          () => summary(far),
        ),
        rig.until(
          () => near.bytes >= MiB || near.isClosed,
          '1 MiB toward the connector',
          () => summary(near),
        ),
      ])
      assertSameBytes(far.received(), there)
      assertSameBytes(near.received(), back)
    },
  ),

  transportCase('one-byte-writes', '2,000 writes of one byte arrive whole and in order', onStreams, async (rig) => {
    const { near, far } = await rig.pair()
    const bytes = rig.random.bytes(2_000)
    for (let i = 0; i < bytes.length; i++) near.write(bytes.subarray(i, i + 1))
    await rig.until(
      () => far.bytes >= bytes.length,
      '2,000 bytes',
      () => summary(far),
    )
    assertSameBytes(far.received(), bytes)
  }),

  transportCase(
    'unread-within-data',
    'bytes given back from within data, paused, come first when reading goes on, whole and in order',
    onStreams,
    async (rig) => {
      const { near, far } = await rig.pair()
      const { link } = far
      if (link.unread === undefined) return 'the link takes nothing back'
      const bytes = rig.random.bytes(256 * KiB)
      let isReturning = false
      far.onData = () => {
        // What was given back comes whole once: giving back again and again would never end.
        isReturning = !isReturning
        const chunk = far.chunks.at(-1) as Buffer
        if (!isReturning || chunk.length < 2) return
        const kept = rig.random.between(0, chunk.length - 1)
        far.chunks[far.chunks.length - 1] = chunk.subarray(0, kept)
        far.bytes -= chunk.length - kept
        far.pause()
        far.within('unread', () => link.unread?.(chunk.subarray(kept)))
        setImmediate(() => far.resume())
      }
      await Promise.all([
        rig.send(near, bytes),
        rig.until(
          () => far.bytes >= bytes.length || far.isClosed,
          'all of it',
          () => summary(far),
        ),
      ])
      assertSameBytes(far.received(), bytes)
      assert.deepEqual(far.reentrant, [])
    },
  ),

  transportCase(
    'empty-write-harmless',
    'an empty write to a stream is no end and loses nothing',
    onStreams,
    async (rig) => {
      const { near, far } = await rig.pair()
      near.write(new Uint8Array(0))
      near.write(Buffer.from('a'))
      near.write(new Uint8Array(0))
      near.write(Buffer.from('b'))
      await rig.until(
        () => far.bytes >= 2,
        'what was written around it',
        () => summary(far),
      )
      assert.equal(far.received().toString(), 'ab')
      assert.equal(far.ends + far.closes, 0, 'it was taken for an end')
    },
  ),

  transportCase(
    'plain-bytes-taken',
    'a Uint8Array that views the middle of another is sent as it is',
    always,
    async (rig) => {
      const { near, far } = await rig.pair()
      const whole = new Uint8Array(rig.random.bytes(1_000))
      near.write(whole.subarray(100, 900))
      await rig.until(
        () => far.bytes >= 800,
        '800 bytes',
        () => summary(far),
      )
      assertSameBytes(far.received(), Buffer.from(whole.buffer, whole.byteOffset + 100, 800))
    },
  ),

  transportCase(
    'refused-write-taken',
    'bytes are taken even when write returns false, and sent without a further call',
    whereReliable,
    async (rig) => {
      const { near, far } = await rig.pair()
      const piece = rig.isStream ? 64 * KiB : Math.min(KiB, rig.capabilities.maxMessageBytes ?? KiB)
      const bytes = rig.random.bytes(MiB)
      for (let at = 0; at < bytes.length; at += piece) near.write(bytes.subarray(at, at + piece))
      await rig.until(
        () => far.bytes >= bytes.length || far.isClosed,
        '1 MiB written without waiting',
        () => summary(far),
      )
      assertSameBytes(far.received(), bytes)
    },
  ),

  transportCase(
    'gathering-writes',
    'writeText and writeMany send the same bytes as write, in order',
    always,
    async (rig) => {
      const { near, far } = await rig.pair()
      const { link } = near
      if (link.writeText === undefined && link.writeMany === undefined) return 'the link has neither'
      const texts = ['first ', 'zwölf € 𝄞 ', 'last']
      near.write(Buffer.from('before '))
      near.within('writeText', () => link.writeText?.(texts[1] as string))
      near.within('writeMany', () => link.writeMany?.(texts.map((text) => Buffer.from(text))))
      near.write(Buffer.from(' after'))
      const expected = Buffer.from(
        `before ${link.writeText ? texts[1] : ''}${link.writeMany ? texts.join('') : ''} after`,
      )
      await rig.until(
        () => far.bytes >= expected.length,
        'everything written',
        () => summary(far),
      )
      assertSameBytes(far.received(), expected)
    },
  ),

  transportCase(
    'stable-buffers-stay',
    'buffers of a link that says stable are not written again',
    always,
    async (rig) => {
      const { near, far } = await rig.pair()
      if (!far.link.stable) return 'the link does not say stable'
      await rig.transfer(near, far, 64 * KiB)
      const early = far.views.length
      await rig.transfer(near, far, 256 * KiB)
      for (let i = 0; i < early; i++) assertSameBytes(Buffer.from(far.views[i] as Uint8Array), far.chunks[i] as Buffer)
    },
  ),

  transportCase(
    'message-boundaries-kept',
    'each write is one message, of every size, both ways',
    onMessages,
    async (rig) => {
      const { near, far } = await rig.pair()
      const most = rig.capabilities.maxMessageBytes ?? 64 * KiB
      const sizes = [1, 2, 3, 255, 256, 257, 1_200, 1_472, 1_473, 4_096, 9_000].filter((size) => size <= most)
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        const sent = sizes.map((size) => rig.random.bytes(size))
        await sendMessages(rig, from, to, sent)
        const key = (message: Buffer) => message.toString('latin1')
        const got = rig.capabilities.ordered ? to.chunks : [...to.chunks].sort((a, b) => a.length - b.length)
        assert.deepEqual(
          got.map(({ length }) => length),
          sizes,
          'sizes of the messages',
        )
        got.forEach((message, i) => assert.equal(key(message), key(sent[i] as Buffer), `message ${i}`))
      }
    },
  ),

  transportCase(
    'messages-of-one-turn-apart',
    'messages written in one turn arrive apart, whole and each once',
    onMessages,
    async (rig) => {
      const { near, far } = await rig.pair()
      const sent = Array.from({ length: 20 }, (_, i) => `message ${String(i).padStart(2, '0')}`)
      for (const text of sent) near.write(Buffer.from(text))
      await rig.until(
        () => far.chunks.length >= sent.length,
        '20 messages',
        () => summary(far),
      )
      const got = far.chunks.map(String)
      assert.deepEqual(rig.capabilities.ordered ? got : got.sort(), sent)
    },
  ),

  transportCase('empty-message-kept', 'an empty message arrives as an empty message', onMessages, async (rig) => {
    const { near, far } = await rig.pair()
    await sendMessages(rig, near, far, [Buffer.from('a'), Buffer.alloc(0), Buffer.from('b')])
    assert.deepEqual(far.chunks.map(String), ['a', '', 'b'])
  }),

  transportCase(
    'largest-message-kept',
    'a message of the declared largest size arrives whole',
    onMessages,
    async (rig) => {
      if (rig.capabilities.maxMessageBytes === undefined) return 'no largest size is declared'
      const { near, far } = await rig.pair()
      const message = rig.random.bytes(rig.capabilities.maxMessageBytes)
      await sendMessages(rig, near, far, [message])
      assertSameBytes(far.chunks[0] as Buffer, message)
    },
  ),

  transportCase(
    'oversized-message-not-cut',
    'a message over the declared largest size is never delivered in part, nor harms another link',
    onMessages,
    async (rig) => {
      if (rig.capabilities.maxMessageBytes === undefined) return 'no largest size is declared'
      const bound = await rig.listen()
      const { near, far } = await rig.pair(bound)
      const honest = await rig.pair(bound)
      near.write(rig.random.bytes(rig.capabilities.maxMessageBytes + 1))
      await rig.transfer(honest.near, honest.far, 500)
      await rig.quiet()
      assert.equal(far.bytes, 0, 'part of it was delivered')
    },
  ),

  transportCase(
    'buffered-returns-to-zero',
    'buffered is 0 at first, and again once everything has gone',
    always,
    async (rig) => {
      const { near, far } = await rig.pair()
      await rig.until(() => near.link.buffered === 0, 'buffered to be 0 at first')
      assert.equal(far.link.buffered, 0, 'buffered of a link that wrote nothing')
      await rig.transfer(near, far, rig.isStream ? 300 * KiB : 10 * KiB)
      // Gone for the peer is known before our own side hears of it.
      for (const deadline = Date.now() + rig.timeoutMs; near.link.buffered !== 0; await rig.quiet()) {
        assert.ok(Date.now() < deadline, `buffered stays at ${near.link.buffered}`)
      }
    },
  ),

  transportCase(
    'false-then-drain',
    'after a write that returned false drain comes, once, and never unasked',
    whereWritesAreHeld,
    async (rig) => {
      const { near, far } = await rig.pair()
      await rig.transfer(near, far, 1_000)
      assert.equal(near.drains, 0, 'drain came though no write had returned false')
      far.isCounting = true
      far.pause()
      const before = far.bytes
      const written = fill(rig, near)
      if (written === undefined) return 'no write returned false'
      await rig.quiet()
      far.resume()
      await rig.until(
        () => near.drains > 0,
        'drain',
        () => summary(near),
      )
      if (rig.capabilities.reliable) {
        await rig.until(
          () => far.bytes - before >= written,
          'everything written',
          () => summary(far),
        )
      }
      await rig.quiet()
      assert.equal(near.drains, 1, 'drains after one false')
    },
  ),

  transportCase(
    'paused-reader-stops-writer',
    'a reader that pauses stops the writer within a bound; nothing is lost',
    endToEnd,
    async (rig) => {
      const { near, far } = await rig.pair()
      far.isCounting = true
      far.pause()
      const before = far.bytes
      let written = 0
      let drains = 0
      for (;;) {
        drains = near.drains
        const filled = fill(rig, near, PAUSED_BOUND_BYTES - written)
        assert.ok(filled !== undefined, `the writer was not stopped within ${PAUSED_BOUND_BYTES} bytes`)
        written += filled
        if (!(await rig.soon(() => near.drains > drains))) break
      }
      // Else the writer may have stopped for want of time alone.
      assert.equal(far.bytes, before, 'bytes came while the reader was paused')
      far.resume()
      await rig.until(
        () => far.bytes - before >= written || far.isClosed,
        'everything written',
        () => summary(far),
      )
      assert.equal(far.bytes - before, written, 'bytes arrived')
      await rig.until(() => near.drains > drains, 'drain after resume')
    },
  ),

  transportCase(
    'pause-stops-data',
    'after pause no data comes; resume goes on and nothing is lost',
    always,
    async (rig) => {
      const { near, far } = await rig.pair()
      const bytes = someBytes(rig)
      far.pause()
      writeAll(rig, near, bytes)
      await rig.quiet()
      assert.equal(far.bytes, 0, 'bytes came while the link was paused')
      far.pause()
      far.resume()
      await rig.until(
        () => far.bytes >= bytes.length,
        'everything after resume',
        () => summary(far),
      )
      assertSameBytes(far.received(), bytes)
    },
  ),

  transportCase(
    'pause-inside-data',
    'pause inside data lets no further data come; resume goes on and nothing is lost',
    always,
    async (rig) => {
      const { near, far } = await rig.pair()
      const bytes = someBytes(rig)
      let calls = 0
      let late = 0
      let isPaused = false
      far.onData = () => {
        if (isPaused) late++
        calls++
        isPaused = true
        far.pause()
      }
      writeAll(rig, near, bytes)
      await rig.until(() => calls > 0, 'the first data')
      for (let round = 0; round < 2 && far.bytes < bytes.length; round++) {
        const before = calls
        await rig.quiet()
        isPaused = false
        far.resume()
        await rig.until(
          () => calls > before,
          'data after resume',
          () => summary(far),
        )
      }
      assert.equal(late, 0, 'calls of data after pause')
      far.onData = undefined
      far.resume()
      await rig.until(
        () => far.bytes >= bytes.length,
        'everything after resume',
        () => summary(far),
      )
      assertSameBytes(far.received(), bytes)
    },
  ),

  transportCase('pause-inside-open', 'pause inside open lets no data come before resume', always, async (rig) => {
    const bound = await rig.listen()
    bound.sink.onOpen = (recorded) => recorded.link.pause()
    const near = await rig.connect(bound.listener.endpoint)
    near.write(Buffer.from('early'))
    await rig.until(() => bound.sink.opened.length > 0, 'open')
    const far = bound.sink.opened[0] as RecordedLink
    await rig.quiet()
    assert.equal(far.bytes, 0, 'data came though open had paused the link')
    far.resume()
    await rig.until(
      () => far.bytes >= 5,
      'data after resume',
      () => summary(far),
    )
    assert.equal(far.received().toString(), 'early')
  }),

  transportCase('write-inside-open', 'what is written inside open arrives first', always, async (rig) => {
    const bound = await rig.listen()
    bound.sink.onOpen = (recorded) => recorded.link.write(Buffer.from('welcome'))
    const near = await rig.connect(bound.listener.endpoint)
    if (!rig.isStream) near.write(Buffer.from('hello'))
    await rig.until(
      () => near.bytes >= 7,
      'what open wrote',
      () => summary(near),
    )
    assert.equal(near.received().toString(), 'welcome')
  }),
]

/** Bytes that do not go into one chunk; few where a pause may lose what is too much. */
function someBytes(rig: TransportRig): Buffer {
  return rig.random.bytes(rig.isStream ? 256 * KiB : 300)
}

/** Writes without waiting: 256 KiB in 16 writes, or messages of 100 bytes. */
function writeAll(rig: TransportRig, from: RecordedLink, bytes: Buffer): void {
  const piece = rig.isStream ? 16 * KiB : 100
  for (let at = 0; at < bytes.length; at += piece) from.write(bytes.subarray(at, at + piece))
}

/** Writes until told to stop. @returns bytes written; undefined when it was never told. */
function fill(rig: TransportRig, from: RecordedLink, most: number = PAUSED_BOUND_BYTES): number | undefined {
  const piece = Buffer.alloc(rig.isStream ? 64 * KiB : Math.min(16 * KiB, rig.capabilities.maxMessageBytes ?? 16 * KiB))
  for (let written = 0; written < most; ) {
    const mayGoOn = from.write(piece)
    written += piece.length
    if (!mayGoOn) return written
  }
  return undefined
}

/** Sends messages one after another where a burst may be lost, else together. */
async function sendMessages(
  rig: TransportRig,
  from: RecordedLink,
  to: RecordedLink,
  messages: Buffer[],
): Promise<void> {
  for (const [i, message] of messages.entries()) {
    from.write(message)
    if (!rig.capabilities.reliable)
      await rig.until(
        () => to.chunks.length > i,
        `message ${i}`,
        () => summary(to),
      )
  }
  await rig.until(
    () => to.chunks.length >= messages.length,
    `${messages.length} messages`,
    () => summary(to),
  )
}
