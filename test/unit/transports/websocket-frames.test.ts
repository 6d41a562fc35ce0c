/** Where a WebSocket's bytes stand between frames, held against a model that knows the frames; which offers of compression fit. */
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { closeFrameOf } from '#src/transports/websocket-codes.js'
import { fittingOffers } from '#src/transports/websocket-extensions.js'
import { FrameTrack } from '#src/transports/websocket-frames.js'

interface Frame {
  readonly opcode: number
  readonly isLast: boolean
  readonly bytes: Buffer
}

function frame(opcode: number, isLast: boolean, length: number, isMasked: boolean): Frame {
  const bit = isMasked ? 0x80 : 0
  let header: Buffer
  if (length < 126) header = Buffer.of(0, bit | length)
  else if (length < 65_536) {
    header = Buffer.of(0, bit | 126, 0, 0)
    header.writeUInt16BE(length, 2)
  } else {
    header = Buffer.alloc(10)
    header[1] = bit | 127
    header.writeBigUInt64BE(BigInt(length), 2)
  }
  header[0] = (isLast ? 0x80 : 0) | opcode
  // Payloads that look like headers of all kinds.
  return { opcode, isLast, bytes: Buffer.concat([header, Buffer.alloc(length + (isMasked ? 4 : 0), 0x89)]) }
}

const lengths = fc.oneof(fc.nat(10), fc.constantFrom(125, 126, 127, 300, 65_535, 65_536, 70_000))
const control = fc.record({ opcode: fc.constantFrom(9, 10), length: fc.nat(125) })
/** A message of parts, with control frames in between. */
const message = fc.record({
  opcode: fc.constantFrom(1, 2),
  parts: fc.array(lengths, { minLength: 1, maxLength: 4 }),
  between: fc.array(control, { maxLength: 2 }),
})
const conversation = fc.record({
  isMasked: fc.boolean(),
  items: fc.array(fc.oneof(message, control), { maxLength: 6 }),
  cuts: fc.array(fc.nat(1_000_000), { maxLength: 30 }),
})

test('property: after each chunk it says whether a message is open, and whether it is another than before', () => {
  fc.assert(
    fc.property(conversation, ({ isMasked, items, cuts }) => {
      const frames = items.flatMap((item): Frame[] => {
        if (!('parts' in item)) return [frame(item.opcode, true, item.length, isMasked)]
        const last = item.parts.length - 1
        return item.parts.flatMap((length, i) => [
          frame(i === 0 ? item.opcode : 0, i === last, length, isMasked),
          ...(i === last ? [] : item.between.map((one) => frame(one.opcode, true, one.length, isMasked))),
        ])
      })
      // The model: for each byte, which unit (a message, or a control frame outside of one) it belongs to, and whether it ends it.
      const unitOf: number[] = []
      const endsUnit: boolean[] = []
      let unit = 0
      let isOpen = false
      for (const { opcode, isLast, bytes } of frames) {
        if (opcode < 8) isOpen = !isLast
        for (let i = 0; i < bytes.length; i++) {
          unitOf.push(unit)
          endsUnit.push(i === bytes.length - 1 && !isOpen)
        }
        if (!isOpen) unit++
      }
      const all = Buffer.concat(frames.map(({ bytes }) => bytes))
      const at = [...new Set(cuts.map((cut) => cut % (all.length + 1)).concat(all.length))].sort((a, b) => a - b)
      const track = new FrameTrack()
      let start = 0
      let before: number | undefined
      for (const end of at) {
        if (end === start) continue
        const open = endsUnit[end - 1] ? undefined : unitOf[end - 1]
        const expected = open === undefined ? 0 : open === before ? 2 : 1
        assert.is(track.read(all.subarray(start, end)), expected, `bytes ${start} to ${end} of ${all.length}`)
        before = open
        start = end
      }
    }),
    { numRuns: 300 },
  )
})

test('pings and pongs are told, data frames and a close are not; nothing begins behind a close', () => {
  const track = new FrameTrack()
  track.read(frame(2, true, 5, true).bytes)
  assert.not(track.hasControl)
  for (const opcode of [9, 10]) {
    track.read(frame(opcode, true, 5, true).bytes)
    assert.ok(track.hasControl)
  }
  assert.is(track.read(frame(8, true, 2, true).bytes), 0)
  assert.not(track.hasControl)
  assert.is(track.read(Buffer.of(0x82)), 0)
})

for (const [header, expected] of [
  [undefined, undefined],
  ['permessage-deflate', 'permessage-deflate'],
  ['permessage-deflate; client_max_window_bits', 'permessage-deflate; client_max_window_bits'],
  ['permessage-deflate; server_max_window_bits=8', undefined],
  ['permessage-deflate; server_max_window_bits=8, permessage-deflate', 'permessage-deflate'],
  ['permessage-deflate; server_max_window_bits="10"', 'permessage-deflate; server_max_window_bits="10"'],
  ['permessage-deflate; server_max_window_bits', undefined],
  ['permessage-deflate; server_max_window_bits=16', undefined],
  ['permessage-deflate; server_max_window_bits=012', undefined],
  ['permessage-deflate; client_max_window_bits=7', undefined],
  ['permessage-deflate; server_no_context_takeover=1', undefined],
  ['permessage-deflate; server_no_context_takeover; server_no_context_takeover', undefined],
  ['permessage-deflate; unheard_of', undefined],
  [
    'x-webkit-deflate-frame, permessage-deflate ;client_max_window_bits = 15',
    'permessage-deflate ;client_max_window_bits = 15',
  ],
  ['other; words="a, b; c"', undefined],
  // Not of the grammar: left as it is, for the library to refuse.
  ['permessage-deflate;', 'permessage-deflate;'],
  ['permessage-deflate; a=', 'permessage-deflate; a='],
  [', permessage-deflate', ', permessage-deflate'],
] as const) {
  test(`of the offers ${JSON.stringify(header)} ${JSON.stringify(expected)} is left`, () => {
    assert.is(fittingOffers(header, 10), expected)
  })
}

for (const [reason, expected] of [
  [undefined, [1000, '']],
  ['RELOADED', [1012, 'RELOADED']],
  ['SHUTDOWN', [1001, 'SHUTDOWN']],
  ['2999', [1000, '2999']],
  ['', [1000, '']],
] as const) {
  test(`the reason ${reason} is close code ${expected[0]}`, () => assert.equal(closeFrameOf(reason), expected))
}

test('property: whatever the reason, the code may be sent and the words are whole characters that fit a control frame', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 300 }), (reason) => {
      const [code, text] = closeFrameOf(reason)
      assert.ok((code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code)) || (code >= 3000 && code <= 4999))
      assert.ok(Buffer.byteLength(text) <= 123)
      assert.ok(Buffer.from(reason).toString().startsWith(text) && !text.includes('\ufffd'))
    }),
  )
})

test.run()
