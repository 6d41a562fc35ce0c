/**
 * Drives framers the way a session does, and worse: cut anywhere, moved between calls, with bait behind the bytes.
 */

import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { systemClock } from '#src/core/clock.js'
import type { CodecContext, FrameLimits, FrameReader } from '#src/core/codec.js'
import { FrameError, GaidarosError } from '#src/core/errors.js'
import type { Factory, Framing } from '#src/core/plugin.js'
import type { StandardSchemaV1 } from '#src/core/standard-schema.js'
import { servicesOf } from '../../../support/services.js'

/** Makes a thing as the registry does: options checked first. @throws Error with the issues. */
export function make<T, O>(factory: Factory<T, O>, options: object = {}): T {
  const schema = factory.options as StandardSchemaV1<unknown, O> | undefined
  const result = schema === undefined ? { value: options as O } : schema['~standard'].validate(options)
  if (result instanceof Promise) throw new Error('the schema is asynchronous')
  if (result.issues !== undefined) {
    throw new Error(result.issues.map((issue) => `${String(issue.path?.[0] ?? '')}: ${issue.message}`).join('; '))
  }
  return factory.create(result.value, servicesOf(systemClock))
}

export const limitsOf = (frameBytes: number, lineBytes = frameBytes): FrameLimits => ({ frameBytes, lineBytes })

/** What became of a stream: frames as latin1, the error that ended it, the bytes nobody took. */
export interface Outcome {
  readonly frames: string[]
  readonly error: string | undefined
  readonly leftover: number
}

export function open(framing: Framing, limits: FrameLimits): FrameReader {
  if (framing.framer === undefined) throw new Error('this framing has no framer')
  return framing.framer.open(limits)
}

/** A fast seeded generator (mulberry32): fast-check gives the seed, this the many choices of a case. */
export class Choices {
  #state: number
  constructor(seed: number) {
    this.#state = seed | 0
  }
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  /** A whole number from 0 to `below` - 1. */
  below(below: number): number {
    return Math.floor(this.next() * below)
  }
  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)] as T
  }
  bytes(length: number, alphabet: readonly number[]): Buffer {
    const bytes = Buffer.allocUnsafe(length)
    for (let index = 0; index < length; index++) bytes[index] = this.pick(alphabet)
    return bytes
  }
}

/**
 * Pushes `stream` cut at `cuts` (rising). `bait` fills the buffer in front of the bytes and behind them, as a growing
 * buffer's unused rest may hold anything.
 */
export function drive(
  reader: FrameReader,
  stream: Buffer,
  cuts: readonly number[],
  bait: Buffer,
  finishes = false,
): Outcome {
  const frames: string[] = []
  let consumed = 0
  let shift = 0
  for (let index = 0; index <= cuts.length; index++) {
    const upTo = index === cuts.length ? stream.length : (cuts[index] as number)
    // Each call sees the unconsumed bytes at another place of another buffer.
    shift = (shift + 7) % bait.length
    const before = shift
    const buffer = Buffer.allocUnsafe(before + (upTo - consumed) + bait.length)
    bait.copy(buffer, 0, 0, before)
    stream.copy(buffer, before, consumed, upTo)
    bait.copy(buffer, before + upTo - consumed)
    let at = before
    const end = before + upTo - consumed
    while (at < end) {
      let after: number
      at = reader.skip?.(buffer, at, end) ?? at
      if (at === end) break
      try {
        after = reader.next(buffer, at, end)
      } catch (error) {
        if (!(error instanceof FrameError)) throw error
        assert.throws(
          () => reader.next(buffer, at, end),
          (again: unknown) => again instanceof FrameError && again.code === error.code,
          'a reader that refused goes on refusing the same bytes',
        )
        return { frames, error: error.code, leftover: stream.length - consumed - (at - before) }
      }
      if (after === -1) break
      if (!(after > at && after <= end))
        throw new Error(`a frame must take a byte and end in what came: ${after} of ${at} to ${end}`)
      if (!(reader.start >= at && reader.start <= reader.end && reader.end <= after))
        throw new Error('bounds outside the frame')
      frames.push(buffer.toString('latin1', reader.start, reader.end))
      at = after
    }
    consumed += at - before
  }
  if (finishes && consumed < stream.length && reader.finish !== undefined) {
    const rest = Buffer.from(stream.subarray(consumed))
    const after = reader.finish(rest, 0, rest.length)
    if (after >= 0) {
      frames.push(rest.toString('latin1', reader.start, reader.end))
      consumed += after
    }
  }
  return { frames, error: undefined, leftover: stream.length - consumed }
}

/** What a specification makes of a whole stream at once. */
export type Reference = (stream: Buffer, limit: number) => Outcome

export interface Generator {
  readonly framing: Framing
  readonly reference: Reference
  /** A stream, mostly legal, sometimes hostile. */
  stream(choices: Choices, limit: number): Buffer
  /** Bytes that would mislead a reader that looks behind its end. */
  readonly bait: Buffer
}

const CASES = 100_000
const BATCH = 200

/**
 * 100,000 streams: cut anywhere and pushed at once they give the same frames, error and leftover, and what the
 *   reference gives. `pick` may choose another configuration for each batch.
 */
export function checkCuts(name: string, pick: (choices: Choices) => Generator): void {
  let cases = 0
  let frames = 0
  let refused = 0
  const started = process.cpuUsage()
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      const choices = new Choices(seed)
      const generator = pick(choices)
      // A long rest behind the bytes is searched in another way.
      const bait = choices.below(8) === 0 ? Buffer.alloc(1_100, generator.bait) : generator.bait
      for (let count = 0; count < BATCH; count++) {
        const limit = choices.pick([0, 1, 2, 3, 5, 8, 13, 21, 34])
        const stream = generator.stream(choices, limit)
        const limits = limitsOf(limit)
        const cuts: number[] = []
        const style = choices.below(4)
        if (style === 0) for (let at = 1; at < stream.length; at++) cuts.push(at)
        else for (let at = choices.below(6); at < stream.length; at += 1 + choices.below(style * 6)) cuts.push(at)
        const expected = generator.reference(stream, limit)
        check(drive(open(generator.framing, limits), stream, [], bait), expected, stream, [], limit)
        check(drive(open(generator.framing, limits), stream, cuts, bait), expected, stream, cuts, limit)
        cases++
        frames += expected.frames.length
        if (expected.error !== undefined) refused++
      }
    }),
    { numRuns: CASES / BATCH },
  )
  const { user, system } = process.cpuUsage(started)
  assert.is(cases, CASES)
  assert.ok(frames > CASES / 2, `only ${frames} frames came of ${cases} cases`)
  assert.ok(refused > CASES / 50, `only ${refused} of ${cases} cases were refused`)
  console.log(
    `  ${name}: ${cases} cases, ${frames} frames, ${refused} refused, ${((user + system) / 1e6).toFixed(1)} s CPU`,
  )
}

function check(got: Outcome, expected: Outcome, stream: Buffer, cuts: readonly number[], limit: number): void {
  if (
    got.error === expected.error &&
    got.leftover === expected.leftover &&
    got.frames.length === expected.frames.length &&
    got.frames.every((frame, index) => frame === expected.frames[index])
  ) {
    return
  }
  assert.equal(got, expected, `limit ${limit}, cuts ${cuts.join(' ')}, stream ${stream.toString('hex')}`)
}

/** What goes out of a framing, as bytes. */
export function framedBytes(framing: Framing, payload: Uint8Array | string): Buffer {
  const out = framing.frame(payload)
  if (typeof out === 'string') return Buffer.from(out)
  return out instanceof Uint8Array ? Buffer.from(out) : Buffer.concat(out)
}

/** Reads a whole stream in one push; the frames as latin1. */
export function framesOf(
  framing: Framing,
  stream: Uint8Array,
  frameBytes = 1_048_576,
  lineBytes = frameBytes,
): Outcome {
  return drive(open(framing, limitsOf(frameBytes, lineBytes)), Buffer.from(stream), [], Buffer.from('?'), true)
}

/** 1 MiB in pieces through a buffer that grows as a session's does. @returns milliseconds of CPU. */
export function pieceCost(framing: Framing, frame: Buffer, pieceBytes: number): number {
  const reader = open(framing, limitsOf(frame.length))
  // Filled, or the kernel's zero page would make searching the unused rest look free.
  let buffer = Buffer.alloc(4_096, 'x')
  let held = 0
  let after = -1
  let calls = 0
  const started = process.cpuUsage()
  for (let at = 0; at < frame.length; at += pieceBytes) {
    const upTo = Math.min(frame.length, at + pieceBytes)
    if (held + upTo - at > buffer.length) {
      const larger = Buffer.alloc(buffer.length * 2, 'x')
      buffer.copy(larger, 0, 0, held)
      buffer = larger
    }
    if (upTo - at === 1) buffer[held] = frame[at] as number
    else frame.copy(buffer, held, at, upTo)
    held += upTo - at
    after = reader.next(buffer, 0, held)
    calls++
  }
  const { user, system } = process.cpuUsage(started)
  assert.is(after, frame.length, 'the frame is found with its last byte')
  assert.is(calls, Math.ceil(frame.length / pieceBytes))
  return (user + system) / 1000
}

const LIMIT_MS = 150

/** F14: linear, not quadratic; the best of three, because the machine is shared. */
export function checkPieces(name: string, framing: Framing, frame: Buffer): void {
  for (const pieceBytes of [1, 16, 64]) {
    let best = Number.POSITIVE_INFINITY
    for (let round = 0; round < 3 && !(best < LIMIT_MS); round++)
      best = Math.min(best, pieceCost(framing, frame, pieceBytes))
    console.log(`  ${name}: 1 MiB in ${pieceBytes}-byte pieces, ${best.toFixed(0)} ms CPU`)
    assert.ok(best < LIMIT_MS, `${name}: ${best} ms for ${pieceBytes}-byte pieces`)
  }
}

/** The same in front of a large unused rest: what stands behind the bytes must cost nothing. */
export function checkRest(framing: Framing): void {
  const buffer = Buffer.alloc(16_777_216, 'x')
  const cost = (): number => {
    const reader = open(framing, limitsOf(buffer.length))
    const started = process.cpuUsage()
    for (let end = 16; end <= 65_536; end += 16) assert.is(reader.next(buffer, 0, end), -1)
    const { user, system } = process.cpuUsage(started)
    return (user + system) / 1000
  }
  const ms = Math.min(cost(), cost(), cost())
  assert.ok(ms < 100, `${ms} ms for 64 KiB`)
}

export const stream: CodecContext = {
  connection: {} as never,
  kind: 'stream',
  limits: limitsOf(1_048_576),
  state: undefined,
}
export const messages = (): CodecContext => ({
  connection: {} as never,
  kind: 'message',
  limits: limitsOf(1_048_576),
  state: undefined,
})

/** For `assert.throws`. */
export const fails =
  (code: string, words?: RegExp) =>
  (error: unknown): boolean =>
    error instanceof GaidarosError && error.code === code && (words === undefined || words.test(error.message))
