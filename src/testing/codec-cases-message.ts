/**
 * Codec cases: single messages, without a stream around them.
 *
 * Room: testing.
 */
import assert from 'node:assert/strict'
import { FrameError } from '../core/errors.js'
import { always, type CodecCase, codecCase } from './codec-case.js'
import { contextFor, encoded } from './frame-feeder.js'
import { sameMessage } from './same-message.js'

export const messageCases: readonly CodecCase[] = [
  codecCase('round-trip-message', 'what was encoded for a message transport is decoded as it was', always, (rig) => {
    const context = contextFor('message')
    for (const message of rig.messages(200)) {
      const frame = rig.bytesOf(message, context)
      const { codec } = rig
      const decoded =
        codec.decodeAt === undefined ? codec.decode(frame, context) : codec.decodeAt(frame, 0, frame.length, context)
      rig.assertSame([decoded], [message], 'a datagram')
    }
  }),

  codecCase(
    'decode-agrees-with-decode-at',
    'decode of a plain view and decodeAt within a buffer give the same',
    always,
    (rig) => {
      const { codec } = rig
      if (codec.decodeAt === undefined) return 'the codec has no decodeAt'
      const one = contextFor('message')
      const other = contextFor('message')
      for (const message of rig.messages(200)) {
        const frame = rig.bytesOf(message, contextFor('message'))
        const within = Buffer.alloc(frame.length + 20, rig.random.below(256))
        within.set(frame, 7)
        const decoded = codec.decode(new Uint8Array(frame), one)
        const decodedAt = codec.decodeAt(within, 7, 7 + frame.length, other)
        assert.ok(
          sameMessage(decoded, decodedAt),
          `0x${frame.toString('hex').slice(0, 120)}: decode and decodeAt differ`,
        )
      }
    },
  ),

  codecCase('encode-gives-bytes-or-text', 'encode gives a Uint8Array or a string, on both kinds', always, (rig) => {
    for (const kind of ['stream', 'message'] as const) {
      const context = contextFor(kind)
      for (const message of rig.replies(200)) {
        const given = rig.codec.encode(message, context)
        assert.ok(typeof given === 'string' || given instanceof Uint8Array, `encode on ${kind} gave ${typeof given}`)
      }
    }
  }),

  codecCase('encode-pieces-agree', 'encodePieces gives the bytes of encode, on both kinds', always, (rig) => {
    const { codec } = rig
    if (codec.encodePieces === undefined) return 'the codec has no encodePieces'
    for (const kind of ['stream', 'message'] as const) {
      const one = contextFor(kind)
      const other = contextFor(kind)
      for (const message of rig.replies(200)) {
        const expected = encoded(codec, message, one)
        const given = codec.encodePieces(message, other)
        const pieces = typeof given === 'string' || given instanceof Uint8Array ? [given] : given
        const joined = Buffer.concat(pieces.map((piece) => (typeof piece === 'string' ? Buffer.from(piece) : piece)))
        assert.ok(
          joined.equals(expected),
          `on ${kind}: ${joined.length} bytes in pieces, ${expected.length} at once, or other ones`,
        )
      }
    }
  }),

  codecCase(
    'encoded-bytes-stay',
    'encoded bytes stay what they were while later messages are encoded',
    always,
    (rig) => {
      const context = contextFor('stream')
      const kept = rig.replies(100).map((message) => {
        const given = rig.codec.encodePieces?.(message, context) ?? rig.codec.encode(message, context)
        const pieces = typeof given === 'string' || given instanceof Uint8Array ? [given] : given
        return pieces.map((piece) => ({ piece, copy: Buffer.from(piece as Uint8Array) }))
      })
      for (const [i, pieces] of kept.entries()) {
        for (const { piece, copy } of pieces) {
          assert.ok(
            copy.equals(Buffer.from(piece as Uint8Array)),
            `the bytes of message ${i} changed: the link owns them`,
          )
        }
      }
    },
  ),

  codecCase('hostile-messages', 'random frames are decoded or FrameError', always, (rig) => {
    const context = contextFor('message')
    for (let i = 0; i < rig.cases; i++) {
      const frame = rig.random.bytes(rig.random.below(40))
      try {
        if (rig.codec.decodeAt === undefined) rig.codec.decode(frame, context)
        else rig.codec.decodeAt(frame, 0, frame.length, context)
      } catch (error) {
        assert.ok(
          error instanceof FrameError,
          `case ${i}: 0x${frame.toString('hex')}: expected a FrameError, got ${error}`,
        )
      }
    }
  }),

  codecCase(
    'route-and-correlate-plain',
    'route and correlate answer with a name or nothing for every message',
    always,
    (rig) => {
      const { codec } = rig
      if (codec.route === undefined && codec.correlate === undefined) return 'the codec has neither'
      const context = contextFor('message')
      for (const message of rig.messages(200)) {
        const decoded = codec.decode(rig.bytesOf(message, context), context)
        const route = codec.route?.(decoded)
        assert.ok(route === undefined || typeof route === 'string', `route gave ${typeof route}`)
        const key = codec.correlate?.(decoded)
        assert.ok(
          key === undefined || typeof key === 'string' || typeof key === 'number',
          `correlate gave ${typeof key}`,
        )
      }
    },
  ),
]
