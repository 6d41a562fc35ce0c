/**
 * Codec cases: frames in a stream, however it is cut, and the limits on them.
 *
 * Room: testing.
 */
import assert from 'node:assert/strict'
import { FrameError } from '../core/errors.js'
import { type CodecCase, codecCase, onStreams } from './codec-case.js'
import type { CodecRig } from './codec-subject.js'
import { contextFor, FrameFeeder } from './frame-feeder.js'
import type { Random } from './random.js'
import { sameMessage } from './same-message.js'

const KiB = 1024
const UNLIMITED = { frameBytes: Number.POSITIVE_INFINITY, lineBytes: Number.POSITIVE_INFINITY }

export const streamCases: readonly CodecCase[] = [
  codecCase('round-trip-stream', 'what was encoded for a stream is read and decoded as it was', onStreams, (rig) => {
    for (const message of rig.messages(200)) {
      const feeder = rig.read(rig.bytesOf(message))
      rig.assertSame(feeder.messages, [message], 'one message')
    }
  }),

  codecCase(
    'any-split-same-frames',
    'a stream cut anywhere gives the frames and messages of one chunk',
    onStreams,
    (rig) => {
      for (let i = 0; i < rig.cases; i++) {
        const stream = rig.streamOf(Array.from({ length: rig.random.between(1, 4) }, () => rig.message()))
        const whole = rig.read(stream)
        const cut = rig.feeder()
        const cuts = feedCut(cut, stream, rig.random)
        assertSameFrames(cut, whole, () => `case ${i}: ${hex(stream)} in pieces of ${cuts.join(', ')} bytes`)
      }
    },
  ),

  codecCase(
    'one-byte-pieces',
    'a stream in pieces of one byte gives the frames and messages of one chunk',
    onStreams,
    (rig) => {
      for (const message of rig.messages(50)) {
        const stream = rig.streamOf([message, message])
        if (stream.length > 256 * KiB) continue
        const whole = rig.read(stream)
        const cut = rig.feeder()
        for (let end = 1; end <= stream.length; end++) cut.offer(stream, 0, end)
        assertSameFrames(cut, whole, () => `${hex(stream)} byte by byte`)
      }
    },
  ),

  codecCase('many-frames-in-one-chunk', 'many frames in one chunk are all found, none twice', onStreams, (rig) => {
    const messages = Array.from({ length: 100 }, () => rig.message())
    const stream = rig.streamOf(messages)
    const feeder = rig.read(stream)
    rig.assertSame(feeder.messages, messages, '100 messages in one chunk')
    assert.equal(feeder.consumed, stream.length, 'bytes consumed')
  }),

  codecCase(
    'asked-again-after-minus-one',
    'a reader that wants more may be asked again with the same bytes',
    onStreams,
    (rig) => {
      for (const message of rig.messages(50)) {
        const stream = rig.streamOf([message])
        const again = rig.feeder()
        const end = rig.random.below(stream.length)
        for (let round = 0; round < 3; round++) again.offer(stream, 0, end)
        again.offer(stream, 0, stream.length)
        rig.assertSame(again.messages, [message], `asked three times with ${end} of ${stream.length} bytes`)
      }
    },
  ),

  codecCase(
    'connections-share-nothing',
    'readers of several connections, fed in turns, keep apart',
    onStreams,
    (rig) => {
      for (let round = 0; round < 20; round++) {
        const lanes = Array.from({ length: 3 }, () => {
          const messages = Array.from({ length: 4 }, () => rig.message())
          return { messages, stream: rig.streamOf(messages), feeder: rig.feeder(), end: 0 }
        })
        for (let left = lanes; left.length > 0; left = left.filter(({ end, stream }) => end < stream.length)) {
          const lane = rig.random.pick(left)
          const most = Math.max(1, Math.ceil(lane.stream.length / 8))
          lane.end = Math.min(lane.stream.length, lane.end + rig.random.between(1, most))
          lane.feeder.offer(lane.stream, 0, lane.end)
        }
        for (const { messages, feeder } of lanes) rig.assertSame(feeder.messages, messages, 'one of three connections')
      }
    },
  ),

  codecCase('messages-stay', 'a message stays what it was while later ones are read', onStreams, (rig) => {
    const messages = Array.from({ length: 50 }, () => rig.message())
    const feeder = rig.feeder()
    const context = contextFor('stream')
    // Each frame in a buffer of its own, as core promises for what is kept.
    let base = 0
    for (const message of messages) {
      const bytes = rig.bytesOf(message, context)
      feeder.offer(bytes, base, bytes.length)
      base += bytes.length
    }
    rig.assertSame(feeder.messages, messages, '50 messages looked at after the last was read')
  }),

  codecCase('limit-equal-passes', 'a frame of just the limit passes', onStreams, (rig) => {
    const largest = rig.largest()
    if (largest === undefined) return 'no message gives one frame with a payload'
    const feeder = rig.read(largest.frame, bothLimits(largest.payload))
    rig.assertSame(feeder.messages, [largest.message], `a payload of ${largest.payload} bytes, which is the limit`)
  }),

  codecCase('limit-exceeded-too-large', 'a frame one byte over the limit is FrameError TOO_LARGE', onStreams, (rig) => {
    const largest = rig.largest()
    if (largest === undefined) return 'no message gives one frame with a payload'
    const limit = largest.payload - 1
    const { error } = offerSafely(rig.feeder(bothLimits(limit)), largest.frame, [largest.frame.length])
    assertTooLarge(error, `a payload of ${largest.payload} bytes, the limit being ${limit}`)
  }),

  codecCase(
    'too-large-refused-early',
    'a frame over the limit is refused before more bytes than the limit have come',
    onStreams,
    (rig) => {
      const largest = rig.largest()
      if (largest === undefined || largest.payload < 32) return 'no message has a payload of 32 bytes; give `large`'
      const { frame, payload } = largest
      const limit = payload >> 2
      // What stands around the payload, and one byte to tell a limit from what follows it.
      const enough = limit + (frame.length - payload) + 1
      const feeder = rig.feeder(bothLimits(limit))
      const { error, at } = offerSafely(
        feeder,
        frame,
        Array.from({ length: frame.length }, (_, i) => i + 1),
      )
      assertTooLarge(error, `a payload of ${payload} bytes, the limit being ${limit}`)
      assert.ok(at <= enough, `refused after ${at} bytes; with a limit of ${limit} it is known after ${enough}`)
    },
  ),

  codecCase('need-not-overstated', 'need is never more than the frame turns out to have', onStreams, (rig) => {
    for (const message of rig.messages(50)) {
      const stream = rig.bytesOf(message)
      if (stream.length > 256 * KiB) continue
      const feeder = rig.feeder()
      for (let end = 1; end <= stream.length; end++) feeder.offer(stream, 0, end)
      assert.ok(feeder.overstated <= 0, `need was ${feeder.overstated} bytes more than ${hex(stream)} has`)
    }
  }),

  codecCase('seen-bytes-not-reread', 'a reader that wants more remembers how far it looked', onStreams, (rig) => {
    const largest = rig.largest()
    if (largest === undefined || largest.payload < 256) return 'no message has a payload of 256 bytes; give `large`'
    const frame = largest.frame.subarray(0, Math.min(largest.frame.length, 8 * KiB))
    const isWhole = frame.length === largest.frame.length
    const tail = largest.frame.subarray(-8)
    // What goes out behind the frame's last byte, such as a line feed behind a JSON value, is not waited for.
    const first = rig.feeder(UNLIMITED)
    let whole = 1
    while (whole < frame.length && (offerSafely(first, frame, [whole]), first.messages.length === 0)) whole++
    const patterns = [...Array.from({ length: 256 }, (_, value) => Buffer.from([value])), tail]
    for (const pattern of patterns) {
      const feeder = rig.feeder(UNLIMITED)
      const work = Buffer.from(frame)
      const fault = `${hex(pattern)} put where it had looked already was found: work grows with the square of the frame`
      const last = isWhole ? whole - 1 : frame.length
      for (let end = 1; end <= last; end++) {
        const { error } = offerSafely(feeder, work, [end])
        assert.ok(error === undefined && feeder.messages.length === 0, fault)
        // A header may be read again, and so may the last bytes, where a terminator may have begun.
        const spoilt = end - 16
        if (spoilt >= 64) work[spoilt] = pattern[spoilt % pattern.length] as number
      }
      if (!isWhole) continue
      frame.copy(work)
      feeder.offer(work, 0, frame.length)
      rig.assertSame(feeder.messages, [largest.message], 'the frame made whole again')
    }
  }),

  codecCase('linear-work', 'twice the frame in pieces of one byte costs about twice the time', onStreams, (rig) => {
    const small = rig.large(512 * KiB)
    const large = rig.large(1_024 * KiB)
    if (small === undefined || large === undefined) return 'no large message can be made; give `large`'
    let ratio = Number.POSITIVE_INFINITY
    // A square law gives 4, whatever the machine; what else runs on it disturbs single measurements, so the best of
    // three.
    for (let attempt = 0; attempt < 3; attempt++) {
      const cost = costOf(rig, large.frame)
      if (cost < LINEAR_COST_MS) return
      ratio = Math.min(ratio, cost / costOf(rig, small.frame))
      if (ratio < 3) return
    }
    assert.fail(`1 MiB in pieces of one byte cost ${ratio.toFixed(1)} times as much as 512 KiB`)
  }),

  codecCase(
    'end-inside-frame',
    'the end of a stream inside a frame is TRUNCATED or a last frame, never another error',
    onStreams,
    (rig) => {
      for (const message of rig.messages(20)) {
        const stream = rig.bytesOf(message)
        const ends = stream.length <= 200 ? stream.length : 50
        for (let i = 0; i < ends; i++) {
          const end = stream.length <= 200 ? i : rig.random.below(stream.length)
          const feeder = rig.feeder()
          const prefix = Buffer.from(stream.subarray(0, end))
          const { error } = offerSafely(feeder, prefix, [end], true)
          assert.ok(error === undefined || error instanceof FrameError, `${hex(prefix)}, then the end: ${error}`)
        }
      }
    },
  ),

  codecCase(
    'malformed-is-frame-error',
    'streams outside the grammar are FrameError, whole and byte by byte',
    onStreams,
    (rig) => {
      const { malformed = [] } = rig.subject
      if (malformed.length === 0) return 'no malformed samples were given'
      for (const sample of malformed) {
        const stream = Buffer.from(sample)
        for (const ends of [[stream.length], Array.from({ length: stream.length }, (_, i) => i + 1)]) {
          const { error } = offerSafely(rig.feeder(), stream, ends)
          const how = ends.length === 1 ? 'at once' : 'byte by byte'
          assert.ok(
            error !== undefined,
            `${hex(stream)} ${how}: expected a FrameError, but it was taken, or waits for more`,
          )
          assert.ok(error instanceof FrameError, `${hex(stream)} ${how}: expected a FrameError, got ${error}`)
        }
      }
    },
  ),

  codecCase(
    'hostile-bytes',
    'random and spoilt streams give frames or FrameError, the same ones however they are cut',
    onStreams,
    (rig) => {
      for (let i = 0; i < rig.cases; i++) {
        const stream = rig.random.chance(0.3)
          ? rig.random.bytes(rig.random.between(1, 40))
          : spoilt(rig.streamOf([rig.message(), rig.message()]), rig.random)
        const whole = rig.feeder()
        const cut = rig.feeder()
        const one = offerSafely(whole, stream, [stream.length], true)
        const where = () => `case ${i}: ${hex(stream)}`
        assert.ok(
          one.error === undefined || one.error instanceof FrameError,
          `${where()}: expected a FrameError, got ${one.error}`,
        )
        const many = offerSafely(cut, stream, cutPoints(stream.length, rig.random), true)
        assert.ok(
          many.error === undefined || many.error instanceof FrameError,
          `${where()} in pieces: expected a FrameError, got ${many.error}`,
        )
        assert.equal(
          many.error === undefined,
          one.error === undefined,
          `${where()}: refused at once or in pieces, not both`,
        )
        assertSameFrames(cut, whole, where)
      }
    },
  ),

  codecCase('idle-reader-owns-no-buffer', 'a reader that has seen no byte holds no buffer', onStreams, (rig) => {
    const { framer } = rig.codec
    const limits = { frameBytes: 1_024 * KiB, lineBytes: 64 * KiB }
    const readers: unknown[] = [framer?.open(limits)]
    const before = process.memoryUsage()
    for (let i = 0; i < 2_000; i++) readers.push(framer?.open(limits))
    const after = process.memoryUsage()
    const buffers = (after.arrayBuffers - before.arrayBuffers) / 2_000
    const heap = (after.heapUsed - before.heapUsed) / 2_000
    assert.equal(readers.length, 2_001)
    assert.ok(buffers < 64, `each idle reader holds ${Math.round(buffers)} bytes of buffers`)
    assert.ok(heap < 2 * KiB, `each idle reader takes ${Math.round(heap)} bytes of heap`)
  }),
]

// A million calls cost some 50 ms of CPU; a square law costs minutes, which nobody waits for.
const LINEAR_COST_MS = 150
const HOPELESS_COST_MS = 3_000

function costOf(rig: CodecRig, frame: Buffer): number {
  const feeder = rig.feeder(UNLIMITED)
  const before = process.cpuUsage()
  const spent = () => {
    const { user, system } = process.cpuUsage(before)
    return (user + system) / 1_000
  }
  for (let end = 1; end <= frame.length; end++) {
    feeder.offer(frame, 0, end)
    if ((end & 0x3ff) !== 0) continue
    assert.ok(
      spent() < HOPELESS_COST_MS,
      `${end} of ${frame.length} one-byte pieces took over ${HOPELESS_COST_MS} ms of CPU`,
    )
  }
  assert.equal(feeder.bounds.length, 2, 'bounds found')
  return spent()
}

const bothLimits = (bytes: number) => ({ frameBytes: bytes, lineBytes: bytes })

function assertTooLarge(error: unknown, what: string): void {
  assert.ok(error !== undefined, `${what}: expected FrameError TOO_LARGE, but it was taken, or waits for more`)
  assert.ok(
    error instanceof FrameError && error.code === 'TOO_LARGE',
    `${what}: expected FrameError TOO_LARGE, got ${error}`,
  )
}

/** Offers the stream up to each end in turn. @returns what was thrown, and after how many bytes. */
function offerSafely(
  feeder: FrameFeeder,
  stream: Buffer,
  ends: readonly number[],
  finish = false,
): { error?: unknown; at: number } {
  let at = 0
  try {
    for (at of ends) feeder.offer(stream, 0, at)
    if (finish) feeder.finish(stream, 0, at)
  } catch (error) {
    return { error, at }
  }
  return { at }
}

/** Rising ends, the last being `length`: by single bytes, by few large cuts, or between. */
function cutPoints(length: number, random: Random): number[] {
  const largest = random.pick([1, 3, 16, Math.max(1, length)])
  const atMost = 200
  const ends: number[] = []
  for (let end = 0; end < length; ) {
    end = ends.length >= atMost ? length : Math.min(length, end + random.between(1, largest))
    ends.push(end)
  }
  return ends
}

/**
 * Feeds a stream in random pieces, moving what is unconsumed about as the session may: the buffer is another one, the
 * bytes stand elsewhere in it, and behind them stands garbage.
 *
 * @returns the sizes of the pieces.
 */
function feedCut(feeder: FrameFeeder, stream: Buffer, random: Random): number[] {
  const garbage = random.below(256)
  let base = 0
  let offset = 0
  let buffer = Buffer.alloc(stream.length, garbage)
  let before = 0
  const sizes: number[] = []
  for (const end of cutPoints(stream.length, random)) {
    if (random.chance(0.2)) {
      base = feeder.consumed
      offset = random.below(8)
      buffer = Buffer.alloc(offset + stream.length - base + random.below(8), garbage)
      stream.copy(buffer, offset, base, end)
    } else {
      stream.copy(buffer, offset + before - base, before, end)
    }
    feeder.offer(buffer, base - offset, offset + end - base)
    sizes.push(end - before)
    before = end
  }
  return sizes
}

function assertSameFrames(cut: FrameFeeder, whole: FrameFeeder, where: () => string): void {
  const isSame = cut.bounds.length === whole.bounds.length && cut.bounds.every((bound, i) => bound === whole.bounds[i])
  if (!isSame) {
    assert.fail(`${where()}: payloads at ${pairs(cut.bounds)} in pieces, at ${pairs(whole.bounds)} at once`)
  }
  for (let i = 0; i < whole.messages.length; i++) {
    if (!sameMessage(cut.messages[i], whole.messages[i]))
      assert.fail(`${where()}: message ${i} differs from that of one chunk`)
  }
  if (cut.consumed !== whole.consumed) {
    assert.fail(`${where()}: ${cut.consumed} bytes consumed in pieces, ${whole.consumed} at once`)
  }
}

/** Some bytes changed, dropped, doubled or put in. */
function spoilt(stream: Buffer, random: Random): Buffer {
  let bytes = Buffer.from(stream)
  for (let i = random.between(1, 3); i > 0 && bytes.length > 0; i--) {
    const at = random.below(bytes.length)
    switch (random.below(4)) {
      case 0:
        bytes[at] = random.pick([0, 0x0a, 0x0d, 0x22, 0x7f, 0x80, 0xff, random.below(256)])
        break
      case 1:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)])
        break
      case 2:
        bytes = Buffer.concat([bytes.subarray(0, at), random.bytes(random.between(1, 3)), bytes.subarray(at)])
        break
      default:
        bytes = bytes.subarray(0, at)
    }
  }
  return bytes
}

function pairs(bounds: readonly number[]): string {
  const list: string[] = []
  for (let i = 0; i < bounds.length; i += 2) list.push(`${bounds[i]}–${bounds[i + 1]}`)
  return list.join(', ') || 'none'
}

function hex(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.subarray(0, 60)).toString('hex')
  return `0x${text}${bytes.length > 60 ? `… (${bytes.length} bytes)` : ''}`
}
