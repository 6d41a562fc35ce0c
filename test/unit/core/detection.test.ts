import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Codec } from '#src/core/codec.js'
import { detect } from '#src/core/detection.js'
import type { Detection, Protocol } from '#src/core/plugin.js'
import { lines, play, settle } from '../../support/session.js'

/** A protocol that is spoken by those who begin with `mark`. */
const speaks = (mark: string): Protocol => ({
  codec: lines as Codec,
  detect(buffer, start, end): Detection {
    const seen = buffer.toString('latin1', start, Math.min(end, start + mark.length))
    return seen === mark ? 'yes' : mark.startsWith(seen) ? 'more' : 'no'
  },
})
const among = (...marks: (string | undefined)[]) =>
  marks.map((mark) => ({ mark, protocol: mark === undefined ? undefined : speaks(mark) }))
const ask = (candidates: ReturnType<typeof among>, text: string, isFinal = false) => {
  const chosen = detect(candidates, Buffer.from(`xx${text}yy`), 2, 2 + text.length, isFinal)
  return typeof chosen === 'object' ? (chosen.mark ?? 'the rest') : chosen
}

test('who says yes is chosen, in the order of the configuration', () => {
  assert.is(ask(among('GET ', 'SET '), 'SET a'), 'SET ')
  assert.is(ask(among('SE', 'SET '), 'SET a'), 'SE')
})

test('one that wants more bytes holds back those behind it', () => {
  assert.is(ask(among('SET ', 'SE'), 'SE'), 'more')
  assert.is(ask(among('SET ', 'SE'), 'SE', true), 'SE')
})

test('nobody left is nobody; the rest goes to the one without a protocol', () => {
  assert.is(ask(among('GET ', 'SET '), 'PUT'), undefined)
  assert.is(ask(among('GET ', undefined), 'PUT'), 'the rest')
  assert.is(ask(among('GET ', undefined), 'GE'), 'more')
  assert.is(ask(among('GET ', undefined), 'GE', true), 'the rest')
  assert.is(ask(among('GET ', 'SET '), ''), 'more')
  assert.is(ask(among('GET ', 'SET '), '', true), undefined)
})

/** A played session that has to find out; each handler says who it is, and each candidate has opened once before. */
function detecting(marks: (string | undefined)[], given: { detectBytes?: number; detectMs?: number } = {}) {
  const played: ReturnType<typeof play>[] = []
  const candidates = marks.map((mark) => {
    const one = play({ handler: { message: (line) => `${mark ?? 'rest'}: ${line}` } })
    played.push(one)
    const scope = one.scope
    return { protocol: mark === undefined ? undefined : speaks(mark), scope }
  })
  const main = play({
    candidates,
    limits: { detectBytes: given.detectBytes ?? 1_024 },
    timeouts: { detectMs: given.detectMs ?? 5_000 },
  })
  return { ...main, opened: () => played.map(({ counters }) => counters.opened ?? 0) }
}

test('the chosen one reads from the first byte, whole frames and parts', async () => {
  const { give, link } = detecting(['GET ', 'SET '])
  give('S')
  give('E')
  assert.is(link.sent, '')
  give('T a\nSET b\nSET')
  await settle()
  assert.is(link.sent, 'SET : SET a\nSET : SET b\n')
  give(' c\n')
  assert.match(link.sent, /SET : SET c\n$/)
})

test('what nobody speaks is closed, with a reason', () => {
  const { give, link, counters } = detecting(['GET ', 'SET '])
  give('PUT\n')
  assert.is(counters['refused.UNDETECTED'], 1)
  assert.equal(link.calls, ['end'])
})

test('no more than detectBytes are looked at', () => {
  const { give, opened } = detecting(['GET '.repeat(8), undefined], { detectBytes: 16 })
  give('GET GET GET ')
  assert.equal(opened(), [1, 1])
  give('GET GET GET ')
  assert.equal(opened(), [1, 2], 'the rest has it')
})

test('who says nothing is given up after detectMs', () => {
  const { clock, counters, events } = detecting(['GET '], { detectMs: 1_000 })
  clock.advance(999)
  assert.is(counters['refused.UNDETECTED'], undefined)
  clock.advance(1_000)
  assert.is(counters['refused.UNDETECTED'], 1)
  assert.ok(events.includes('connection.expired UNDETECTED'))
})

test('a peer that ends in the middle of it goes to the rest, or nowhere', () => {
  const played = detecting(['GET ', undefined])
  played.give('GE')
  played.session.peerEnded()
  assert.equal(played.opened(), [1, 2])
  const lost = detecting(['GET '])
  lost.give('GE')
  lost.session.peerEnded()
  assert.is(lost.counters['refused.UNDETECTED'], 1)
})

test.run()
