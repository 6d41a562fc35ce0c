// time limit: 300 s
/** CoAP: 100,000 generated datagrams, sound and spoilt, through the whole protocol; each is answered by the rules or not at all. */
import coapPacket from 'coap-packet'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Accounts } from '#src/core/accounts.js'
import { systemClock } from '#src/core/clock.js'
import { FrameError, UnroutedMessageError } from '#src/core/errors.js'
import { type CoapRequest, coap } from '#src/plugins/protocols/coap/index.js'
import { createRandom, type Random } from '#src/testing/index.js'
import { SEED } from '../support/run-file.js'

const cases = 100_000
const most = 4_096
const types = ['con', 'non', 'ack', 'rst'] as const

const option = (random: Random): { name: string | number; value: Buffer } => {
  const name = random.pick([
    'Uri-Path',
    'Uri-Query',
    'Content-Format',
    'Accept',
    'Observe',
    'Block1',
    'Block2',
    'If-Match',
    60,
    65_001,
  ])
  const isBlock = name === 'Block1' || name === 'Block2'
  const value = isBlock
    ? Buffer.of(random.below(random.pick([8, 64, 256])))
    : random.bytes(random.pick([0, 1, 3, 12, 13, 14, 300]))
  return { name, value }
}

function generated(random: Random): Buffer {
  if (random.chance(0.05)) return random.bytes(random.below(40))
  const type = random.pick(types)
  const bytes = Buffer.from(
    coapPacket.generate(
      {
        code: random.pick(['0.01', '0.02', '0.03', '0.04', '0.05', '0.00', '2.05', '0.09', '7.31']),
        messageId: random.below(300),
        token: random.bytes(random.below(9)),
        confirmable: type === 'con',
        ack: type === 'ack',
        reset: type === 'rst',
        options: Array.from({ length: random.below(6) }, () => option(random)),
        payload: random.bytes(random.pick([0, 0, 1, 16, 64, 1_000])),
      } as never,
      65_535,
    ),
  )
  // A byte changed, or the end cut off, or something behind it: lengths that lie, options that overlap.
  if (random.chance(0.3)) bytes[random.below(bytes.length)] = random.below(256)
  if (random.chance(0.1)) return bytes.subarray(0, random.below(bytes.length + 1))
  return random.chance(0.1) ? Buffer.concat([bytes, random.bytes(random.below(20))]) : bytes
}

test('100,000 datagrams: typed errors, answers that are CoAP, with the id and token of what they answer', () => {
  const protocol = coap.create(
    { blockBytes: 64, ackMs: 1_000, observers: 100, keptBytes: 65_536 } as never,
    { clock: systemClock, budget: new Accounts().at('') } as never,
  )
  const step = protocol.middleware?.message as unknown as (context: object, next: () => unknown) => unknown
  const { codec } = protocol
  const seen = { refused: 0, silent: 0, reset: 0, answered: 0, failed: 0, handled: 0 }
  let connection = {}
  // By id: a request that comes again gets the answer of the first.
  let tokens = new Map<number, string[]>()
  for (let i = 0; i < cases; i++) {
    // Peers come and go; in between ids, blocks and tokens of several requests meet.
    if (i % 50 === 0) tokens = new Map()
    if (i % 50 === 0) connection = { send: async () => {}, closed: new Promise(() => {}) }
    const random = createRandom(`${SEED} ${i}`)
    const bytes = generated(random)
    const what = `case ${i}: ${bytes.toString('hex')}`
    let message: unknown
    try {
      message = codec.decode(bytes, { limits: { frameBytes: most, lineBytes: most } } as never)
    } catch (thrown) {
      assert.ok(thrown instanceof FrameError && thrown.code === 'MALFORMED', `${what}: ${thrown}`)
      assert.ok(bytes.length < 4 || (bytes[0] as number) >> 6 !== 1, `${what}: there was an id to answer to`)
      seen.refused++
      continue
    }
    const route = codec.route?.(message)
    const id = bytes.readUInt16BE(2)
    tokens.set(id, [...(tokens.get(id) ?? []), bytes.subarray(4, 4 + ((bytes[0] as number) & 15)).toString('hex')])
    const context = { message, connection }
    const next = () => {
      const { path, query, payload, options } = context.message as CoapRequest
      assert.ok(path.startsWith('/') && query instanceof URLSearchParams && options.length <= 64, what)
      assert.ok(payload.length <= most, what)
      seen.handled++
      if (route === undefined) throw new UnroutedMessageError('UNROUTED', 'no route')
      const turn = random.below(5)
      if (turn === 0) throw new Error('a secret of ours')
      return [undefined, null, 'text', random.bytes(random.below(300)), { code: '2.05', payload: 'x', format: 50 }][
        turn
      ]
    }
    let answer: { bytes: Buffer } | undefined
    try {
      answer = step(context, next) as typeof answer
    } catch (thrown) {
      answer = protocol.errorReply?.(thrown as Error, connection as never) as typeof answer
      assert.ok(answer !== undefined, `${what}: ${(thrown as Error).stack}`)
      seen.failed++
    }
    const type = types[((bytes[0] as number) >> 4) & 3]
    if (answer === undefined) {
      // Confirmable messages are never left unanswered: their senders would ask four times more.
      assert.is.not(type, 'con', what)
      seen.silent++
      continue
    }
    assert.ok(type === 'con' || type === 'non', `${what}: answers are not answered`)
    const said = coapPacket.parse(answer.bytes)
    assert.not.ok(answer.bytes.includes('secret'), what)
    assert.ok(answer.bytes.length < 200, `${what}: more than a block and its options`)
    if (said.ack || said.reset) {
      assert.is(type, 'con', what)
      assert.is(said.messageId, id, what)
    }
    if (said.reset || said.code === '0.00') seen.reset++
    else {
      seen.answered++
      const asked = tokens.get(id) ?? []
      assert.ok(asked.includes(said.token.toString('hex')), `${what}: a token nobody sent`)
    }
  }
  for (const [outcome, count] of Object.entries(seen)) assert.ok(count > cases / 500, `${outcome}: ${count}`)
})

test('more than 64 options are a format error: what is walked for each request is bounded', () => {
  const { codec } = coap.create(
    { blockBytes: 64, ackMs: 1_000, observers: 100, keptBytes: 65_536 } as never,
    { clock: systemClock, budget: new Accounts().at('') } as never,
  )
  const read = (count: number) => {
    const options = Array.from({ length: count }, () => ({ name: 'Uri-Path', value: Buffer.from('a') }))
    const bytes = coapPacket.generate({ code: '0.01', messageId: 1, options } as never, 65_535)
    const context = { limits: { frameBytes: most, lineBytes: most } }
    return codec.decode(Buffer.from(bytes), context as never) as { isBad: boolean; options: unknown[] }
  }
  assert.is(read(64).options.length, 64)
  assert.equal([read(65).isBad, read(65).options.length], [true, 0])
  assert.is(read(10_000).isBad, true)
})

test.run()
