// time limit: 120 s
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  ENVELOPE_HEAD,
  isToken,
  type Kind,
  readEnvelope,
  subjectsOf,
  writeEnvelope,
} from '#src/plugins/executors/cluster/envelope.js'
import { type Presence, readPresence, writePresence } from '#src/plugins/executors/cluster/presence.js'

const u32 = fc.nat(0xffffffff)
const written = fc.record({
  kind: fc.integer({ min: 1, max: 7 }),
  number: u32,
  value: u32,
  payload: fc.uint8Array({ maxLength: 64 }),
})
const write = ({
  kind,
  number,
  value,
  payload,
}: {
  kind: number
  number: number
  value: number
  payload: Uint8Array
}) => writeEnvelope(kind as Kind, number, value, payload)

test('what is written is read again', () => {
  fc.assert(
    fc.property(written, fc.nat(9), (given, before) => {
      // A view into something larger, as the client hands it over.
      const bytes = Buffer.concat([Buffer.alloc(before, 0xff), write(given), Buffer.alloc(3, 0xff)])
      const read = readEnvelope(bytes.subarray(before, bytes.length - 3))
      return (
        read !== undefined &&
        read.kind === given.kind &&
        read.number === given.number &&
        read.value === given.value &&
        read.payload.equals(given.payload)
      )
    }),
    { numRuns: 100_000 },
  )
})

test('whatever else comes is no envelope, and no exception', () => {
  const damaged = fc.tuple(written, fc.nat(79), fc.nat(255)).map(([given, at, byte]) => {
    const bytes = write(given)
    if (at < bytes.length) bytes[at] = byte
    return bytes
  })
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 64 }), damaged), (bytes) => {
      const read = readEnvelope(bytes)
      if (read === undefined) return true
      // Then it is one indeed: written again it is the same.
      return writeEnvelope(read.kind, read.number, read.value, read.payload).equals(bytes)
    }),
    { numRuns: 100_000 },
  )
})

test('cut anywhere, it is none', () => {
  fc.assert(
    fc.property(written, fc.nat(), (given, at) => {
      const bytes = write(given)
      const end = at % bytes.length
      return (
        readEnvelope(bytes.subarray(0, end)) === undefined &&
        readEnvelope(bytes.subarray(bytes.length - end)) === undefined
      )
    }),
    { numRuns: 100_000 },
  )
  assert.is(readEnvelope(Buffer.alloc(ENVELOPE_HEAD)), undefined)
})

const presence: Presence = {
  instance: 'vm-1',
  state: 'ready',
  host: 'vm',
  pid: 4711,
  version: '1.0.0',
  connections: 3,
  running: 1,
  handled: 9,
  memoryBytes: 1 << 20,
}

test('what a node says of itself is read again, and nothing else', () => {
  assert.equal(readPresence(writePresence(presence)), presence)
  const values = fc.oneof(fc.jsonValue(), fc.constant('ready'), fc.constant('vm-1'))
  const keys = Object.keys(presence)
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...keys, '__proto__', 'x'), values), (given) => {
      const read = readPresence(Buffer.from(JSON.stringify(given)))
      if (read === undefined) return true
      return (
        isToken(read.instance) &&
        Object.values(read).every((one) => typeof one === 'string' || Number.isSafeInteger(one))
      )
    }),
    { numRuns: 100_000 },
  )
  for (const text of ['', 'null', '[]', '{', '"x"', JSON.stringify({ ...presence, instance: 'a.b' })])
    assert.is(readPresence(Buffer.from(text)), undefined, text)
  assert.is(readPresence(Buffer.from(JSON.stringify({ ...presence, host: 'x'.repeat(5_000) }))), undefined)
})

test('answers go to subjects of this cluster alone', () => {
  const { isOurs, front, instance } = subjectsOf('c')
  assert.ok(isOurs('front', front('f', 'l')))
  assert.ok(isOurs('inst', instance('i', 'l')))
  for (const subject of [
    instance('i', 'l'),
    'gai.d.front.f.l',
    'gai.c.front.f',
    'gai.c.front.*.l',
    'gai.c.front.f.>',
    '$SYS',
    '',
  ])
    assert.not.ok(isOurs('front', subject), subject)
})

test.run()
