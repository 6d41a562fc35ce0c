import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { parseEndpoint } from '#src/core/endpoint.js'
import type { ConnectionError } from '#src/core/errors.js'
import type { Link, LinkSink } from '#src/core/transport.js'
import {
  createMemoryNetwork,
  createRandom,
  createVirtualClock,
  type MemoryDirection,
  type MemoryFaults,
} from '#src/testing/index.js'

const never = new AbortController().signal

/** A listener that echoes, and a connector; every call is logged with its virtual time. */
async function echoing(
  faults: MemoryFaults | ((d: MemoryDirection) => MemoryFaults | undefined),
  seed = 1,
  options = {},
) {
  const clock = createVirtualClock()
  const network = createMemoryNetwork({ seed, clock, faults })
  const log: string[] = []
  const sent: Record<string, Buffer[]> = { server: [], client: [] }
  const farLinks: Link[] = []
  const sinkOf = (side: 'server' | 'client'): LinkSink => ({
    open(link) {
      log.push(`${clock.now()} ${side} open`)
      if (side === 'server') farLinks.push(link)
    },
    data(link, buffer, start, end) {
      log.push(`${clock.now()} ${side} data ${end - start}`)
      sent[side]!.push(Buffer.from(buffer.subarray(start, end)))
      if (side === 'server') link.write(Buffer.from(buffer.subarray(start, end)))
    },
    end(link) {
      log.push(`${clock.now()} ${side} end`)
      if (side === 'server') link.end()
    },
    drain: () => void log.push(`${clock.now()} ${side} drain`),
    close: (_link, error) => void log.push(`${clock.now()} ${side} close ${(error as ConnectionError)?.code ?? ''}`),
  })
  const listener = await network.transport.listen(parseEndpoint('memory:'), options, sinkOf('server'))
  const dialled = network.transport.connect!(listener.endpoint, options, sinkOf('client'), never)
  await clock.advance(1_000)
  const near = await dialled
  return { clock, network, log, sent, near, far: farLinks[0] as Link }
}

const everything: MemoryFaults = { split: 50, coalesce: 0.3, delayMs: [1, 40], slow: { bytes: 700, everyMs: 5 } }

test('the same seed gives the same run to the byte, another seed another', async () => {
  const run = async (seed: number) => {
    const { clock, log, near, sent } = await echoing(everything, seed)
    const random = createRandom('writes')
    const all: Buffer[] = []
    for (let i = 0; i < 40; i++) {
      const bytes = random.bytes(random.between(1, 300))
      all.push(bytes)
      near.write(bytes)
      await clock.advance(3)
    }
    near.end()
    await clock.advance(10_000)
    assert.ok(Buffer.concat(sent.server!).equals(Buffer.concat(all)))
    assert.ok(Buffer.concat(sent.client!).equals(Buffer.concat(all)))
    assert.match(log.slice(-2).join(), /close .*close /)
    return log.join('\n')
  }
  const first = await run(1)
  assert.is(await run(1), first)
  assert.is.not(await run(2), first)
})

test('chunks are cut, down to one byte', async () => {
  const { clock, near, sent } = await echoing({ split: 4 })
  near.write(Buffer.alloc(1_000, 'x'))
  await clock.settle()
  const sizes = new Set(sent.server!.map(({ length }) => length))
  assert.equal([...sizes].sort(), [1, 2, 3, 4])
  near.abort()
})

test('chunks are joined', async () => {
  const { clock, near, sent } = await echoing({ coalesce: 1 })
  for (let i = 0; i < 10; i++) {
    near.write(Buffer.from('x'))
    await new Promise((resolve) => setImmediate(resolve))
  }
  await clock.settle()
  assert.is(Buffer.concat(sent.server!).length, 10)
  assert.ok(sent.server!.length < 10)
  near.abort()
})

test('bytes arrive after their delay, and a connect too', async () => {
  const { clock, log, near } = await echoing({ delayMs: 200 })
  assert.equal(log.slice(0, 2), ['200 client open', '200 server open'])
  near.write(Buffer.from('x'))
  await clock.advance(399)
  assert.equal(log.slice(2), ['1200 server data 1'])
  near.end()
  await clock.advance(1_000)
  assert.equal(log.slice(3), [
    '1400 client data 1',
    '1599 server end',
    '1799 client end',
    '1799 client close ',
    '1799 server close ',
  ])
})

test('a reset comes after just so many bytes, seen by both', async () => {
  const { clock, log, near, sent } = await echoing(({ toward }) =>
    toward === 'listener' ? { reset: { afterBytes: 10 } } : undefined,
  )
  near.write(Buffer.alloc(10))
  await clock.settle()
  assert.is(Buffer.concat(sent.server!).length, 10)
  assert.equal(log.slice(-2).sort(), ['1000 client close RESET', '1000 server close RESET'])
})

test('a reset comes with its probability', async () => {
  let cut = 0
  for (let seed = 0; seed < 200; seed++) {
    const { clock, log, near } = await echoing({ reset: { probability: 0.25 } }, seed)
    near.write(Buffer.from('x'))
    await clock.settle()
    if (log.some((line) => line.endsWith('RESET'))) cut++
    near.abort()
  }
  // Two chances of a quarter each: 87.5 of 200 expected, and always the same ones.
  assert.ok(cut > 65 && cut < 110, `${cut}`)
})

test('a slow reader takes so many bytes a tick, and holds its writer back', async () => {
  const { clock, near, sent, far } = await echoing(({ toward }) =>
    toward === 'listener' ? { slow: { bytes: 100, everyMs: 10 } } : undefined,
  )
  far.write = () => true
  assert.is(near.write(Buffer.alloc(100_000)), false)
  await clock.advance(1_000)
  assert.is(Buffer.concat(sent.server!).length, 100 * 101)
  assert.is(near.buffered, 100_000 - 10_100)
  near.abort()
  await clock.settle()
  assert.is(clock.pending, 0)
})

test('a stalled peer takes nothing and says nothing, not even that it is gone', async () => {
  const { clock, log, near, far } = await echoing({ stall: { afterBytes: 5 } })
  near.write(Buffer.from('hello, world'))
  await clock.advance(60_000)
  far.abort()
  await clock.advance(60_000)
  assert.equal(
    log.filter((line) => line.includes('client')),
    ['0 client open', '1000 client data 5'],
  )
  near.abort()
  await clock.settle()
  assert.match(log.at(-1)!, 'client close')
})

test('a stall passes when it has a length, and nothing is lost', async () => {
  const { clock, log, near } = await echoing(({ toward }) =>
    toward === 'listener' ? { stall: { afterBytes: 5, forMs: 30_000 } } : undefined,
  )
  near.write(Buffer.from('hello, world'))
  near.end()
  await clock.advance(60_000)
  assert.equal(log.slice(2), [
    '1000 server data 5',
    '1000 client data 5',
    '31000 server data 7',
    '31000 server end',
    '31000 client data 7',
    '31000 client end',
    '31000 client close ',
    '31000 server close ',
  ])
})

test('messages are lost whole, the rest stay in order, and the loss is declared', async () => {
  const { clock, network, near, sent } = await echoing({ loss: 0.3 }, 1, { kind: 'message' })
  for (let i = 0; i < 200; i++) near.write(Buffer.from([i]))
  await clock.settle()
  const got = sent.server!.map(([value]) => value!)
  assert.ok(got.length > 110 && got.length < 170, `${got.length}`)
  assert.equal(
    got,
    [...got].sort((a, b) => a - b),
  )
  assert.is(network.transport.capabilities(parseEndpoint('memory:x'), { kind: 'message' }).reliable, false)
  assert.is(network.transport.capabilities(parseEndpoint('memory:x'), {}).reliable, true)
  near.abort()
})

test('a fault that makes no sense is refused', async () => {
  for (const faults of [{ split: 0 }, { slow: { bytes: 0 } }]) {
    assert.throws(() => createMemoryNetwork({ faults }), /expected/)
  }
})

test.run()
