// time limit: 180 s
/** What handlers elsewhere can do to a server: F48, F52, F54, F57, F58, F59. */
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { createServer, type ExecutorError, type HandlerError } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { root } from '../support/command.js'
import { eventually, memory, Peer, serve, stopAll, type Watched } from '../support/faults.js'

// What stays is measured, not what waits for a collection.
setFlagsFromString('--expose-gc')
Object.assign(globalThis, { gc: runInNewContext('gc') })

const placed = join(root, 'test/fixtures/placed-handlers.ts')
const handlers = join(root, 'test/fixtures/everywhere-handlers.ts')
test.after(stopAll)

/** What is left after collections, the buffers' sweep included. */
async function settled(): Promise<ReturnType<typeof memory>> {
  for (let i = 0; i < 3; i++) {
    memory()
    await new Promise((resolve) => setImmediate(resolve))
  }
  return memory()
}

const kinds = [
  { type: 'thread-pool', size: 1 },
  { type: 'process-pool', size: 1 },
] as const
const loadOf = ({ server }: Watched) => server.listeners.get('default')?.plan.executors[0]?.load()
const isReady = (watched: Watched, count: number) =>
  (loadOf(watched)?.places ?? []).filter(({ state }) => state === 'ready').length === count

for (const executor of ['task', ...kinds] as const) {
  const own = typeof executor === 'string' ? { type: executor } : executor
  test(`F48 a handler of ${own.type} that throws, rejects or never answers: one report, one close, others unharmed`, async () => {
    const watched = await serve({ handler: `${handlers}#Failing`, executor: { ...own, timeoutMs: 200 } })
    const good = await Peer.open(watched.port)
    for (const [line, code] of [
      ['throw', 'HANDLER_FAILED'],
      ['reject', 'HANDLER_FAILED'],
      ['never', 'TIMEOUT'],
    ] as const) {
      const before = watched.count('handler.failed')
      const bad = await Peer.open(watched.port)
      bad.send(`${line}\n`)
      const { reason } = await watched.until('connection.closed')
      assert.is(reason.code, code)
      assert.is(watched.count('handler.failed'), before + 1)
      if (code === 'HANDLER_FAILED') {
        const { error } = await watched.until('handler.failed')
        assert.is(((error as HandlerError).cause as Error).name, 'RangeError')
        assert.match(((error as HandlerError).cause as Error).stack ?? '', /everywhere-handlers/)
      }
      await good.echoes(`after ${line}`)
      bad.leave()
    }
    assert.is(watched.count('executor.lost'), 0)
    assert.is(loadOf(watched)?.running, 0)
    good.leave()
  })
}

for (const executor of kinds) {
  test(`F52 a handler of ${executor.type} that blocks its loop is ended; meanwhile others make progress`, async () => {
    const watched = await serve({ handler: `${placed}#Breaker`, executor: { ...executor, size: 2, timeoutMs: 500 } })
    const [bad, good] = [await Peer.open(watched.port), await Peer.open(watched.port)]
    await bad.send('hello\n').hears('hello\n')
    await good.send('hello\n').hears('hello\n')
    bad.send('block 60000\n')
    let echoes = 0
    let isOver = false
    const lost = watched.until('executor.lost').then((event) => {
      isOver = true
      return event
    })
    while (!isOver) await good.echoes(`meanwhile ${++echoes}`)
    const { error, place } = await lost
    assert.match(`${error.message}`, /has been silent for \d+ ms/, place)
    assert.ok(echoes > 50, `${echoes} echoes while the other one was blocked`)
    const { reason } = await watched.until('connection.closed')
    assert.ok(['LOST', 'TIMEOUT'].includes(reason.code), reason.code)
    await eventually(() => isReady(watched, 2), 'replaced')
    for (const peer of [bad, good]) peer.leave()
  })

  test(`F58 ${executor.type}: the queue is bound at 1,000, more is refused at once, memory stays flat`, async () => {
    // By itself: what remembers every event grows with every refusal.
    const server = await createServer({
      config: false,
      listen: 'tcp://127.0.0.1:0',
      handler: `${handlers}#Stuck`,
      protocol: 'json-rpc',
      executor,
      limits: { inFlight: 1_000_000 },
      timeouts: { handlerMs: 'unlimited' },
    })
    await server.start()
    const listener = server.listeners.get('default')
    const total = 20_000
    const peer = await Peer.open(listener?.endpoint.port ?? 0)
    let refused = 0
    let rest = ''
    peer.socket.removeAllListeners('data')
    peer.socket.on('data', (chunk) => {
      const lines = (rest + chunk.toString('latin1')).split('\n')
      rest = lines.pop() as string
      refused += lines.filter((line) => line.includes('"error"')).length
    })
    let half = await settled()
    for (let i = 0; i < total; i += 1_000) {
      if (i === total / 2) {
        await eventually(() => refused === i - 1_000, `refused: ${refused}`, 60_000)
        half = await settled()
      }
      const lines = Array.from({ length: 1_000 }, (_, n) => `{"jsonrpc":"2.0","id":${i + n},"method":"never"}\n`)
      if (!peer.socket.write(lines.join(''))) await new Promise((resolve) => peer.socket.once('drain', resolve))
    }
    await eventually(() => refused === total - 1_000, `refused: ${refused}`, 60_000)
    assert.is(listener?.plan.executors[0]?.load().running, 1_000)
    const whole = await settled()
    const grown = whole.heap + whole.buffers - half.heap - half.buffers
    assert.ok(grown < 8 * 1024 * 1024, `${Math.round(grown / 1024 / 1024)} MiB more after as many messages again`)
    // A peer that only finishes its side may still want its answers; this one is gone, and so is what was under way for it.
    peer.socket.resetAndDestroy()
    await listener?.waitForConnections(0)
    await server.stop({ timeoutMs: 0 })
  })

  test(`F59 ${executor.type}: what is no batch, or too large, is dropped and told; the server goes on`, async () => {
    const watched = await serve({
      handler: `${handlers}#Vandal`,
      executor: { ...executor, messageBytes: 1024 * 1024 },
      limits: { lineBytes: 4 << 20, frameBytes: 4 << 20 },
    })
    const isThread = executor.type === 'thread-pool'
    const before = await settled()
    const bad = await Peer.open(watched.port)
    await bad.send('stray\n').hears('strayed\n')
    if (isThread) {
      await bad.send(`stray-bytes ${100 * 1024 * 1024}\n`).hears('strayed\nstrayed\n')
      await watched.until('executor.refused', ({ error }) => /no bytes/.test(error.message))
      await watched.until('executor.refused', ({ error }) => /104857600 bytes; \d+ is the most/.test(error.message))
      assert.is(loadOf(watched)?.places?.[0]?.refused, 2)
    }
    // A reply of 100 MB does not leave the place; the handler's own words do.
    await bad.send(`reply ${100 * 1024 * 1024}\n`).hears('sorry: NOT_PORTABLE\n')
    await bad.send(`send ${2 * 1024 * 1024}\n`).hears('not sent: NOT_PORTABLE\n')
    await bad.send('function\n').hears('sorry: NOT_PORTABLE\nnot sent')
      .catch(() => bad.hears('not sent: NOT_PORTABLE\nsorry: NOT_PORTABLE\n')) // biome-ignore format: one wait
    await bad.echoes('still here')
    // Too large on the way there: refused before it leaves.
    await bad.send(`${'m'.repeat(2 << 20)}\n`).hears('still here\nsorry: NOT_PORTABLE\n')
    assert.is(watched.count('executor.lost'), 0)
    assert.is(loadOf(watched)?.running, 0)

    for (const how of isThread ? ['batch', 'write'] : ['batch', 'claim', 'write']) {
      await eventually(() => isReady(watched, 1), 'a place')
      const next = await Peer.open(watched.port)
      await next.echoes('hello')
      next.send(`${how}\n`)
      const { error } = await watched.until('executor.lost')
      assert.ok(['MALFORMED', 'TOO_LARGE'].includes((error as ExecutorError).code), `${how}: ${error.message}`)
      await next.over
      next.leave()
    }
    await eventually(() => isReady(watched, 1), 'replaced')
    const last = await Peer.open(watched.port)
    await last.echoes('after all of it')
    const after = await settled()
    const grown = after.heap + after.buffers - before.heap - before.buffers
    assert.ok(grown < 16 * 1024 * 1024, `${Math.round(grown / 1024 / 1024)} MiB more`)
    for (const peer of [bad, last]) peer.leave()
  })

  test(`F54 a member of ${executor.type} that ends, however: the reason is recorded, it is replaced`, async () => {
    const isThread = executor.type === 'thread-pool'
    const limits = isThread ? { resourceLimits: { maxOldGenerationSizeMb: 64 } } : { heapMb: 64 }
    const watched = await serve({ handler: `${placed}#Breaker`, executor: { ...executor, ...limits } })
    const causes: readonly (readonly [string, RegExp])[] = [
      ['exit 0', /status 0/],
      ['exit 1', /status 1/],
      ['throw it', /it/],
      ['fill it', isThread ? /memory/ : /SIGABRT|status 134|SIGTRAP/],
      ...(isThread ? [] : ([['kill SIGSEGV', /SIGSEGV/]] as const)),
    ]
    for (const [how, reason] of causes) {
      await eventually(() => isReady(watched, 1), 'a place', 30_000)
      const peer = await Peer.open(watched.port)
      await peer.send('hello\n').hears('hello\n')
      peer.send(`${how}\n`)
      const { error, connections } = await watched.until('executor.lost')
      assert.match(error.message, reason, how)
      assert.is(connections, 1)
      await peer.over
      peer.leave()
    }
    await eventually(() => isReady(watched, 1), 'the last one is replaced', 30_000)
  })
}

test('F57 a thread that exits: what it had is LOST, the queue is intact', async () => {
  const watched = await serve({
    handler: `${placed}#Breaker`,
    executor: { type: 'thread-pool', size: 1, whenLost: 'reopen', queue: 20 },
  })
  const peers = await Promise.all(Array.from({ length: 10 }, () => Peer.open(watched.port)))
  for (const peer of peers) await peer.send('hello\n').hears('hello\n')
  for (const peer of peers.slice(1, 5)) peer.send('never\n')
  await eventually(() => loadOf(watched)?.running === 4, 'four are under way')
  peers[0]?.send('exit 3\n')
  for (let i = 0; i < 5; i++) {
    const { reason } = await watched.until('connection.closed')
    assert.is(reason.code, 'LOST')
  }
  assert.is(loadOf(watched)?.running, 0, 'nothing is counted that is gone')
  // Those that had nothing under way go on, in the thread that took its place; all twenty chairs of the queue are free.
  for (const peer of peers.slice(5)) await peer.send('again\n').hears('again\n')
  for (const peer of peers) peer.leave()
})

test('a place that is never ready is killed, and the start says so', async () => {
  try {
    await serve({
      handler: `${join(root, 'test/fixtures/never-ready.js')}`,
      executor: { type: 'process', startTimeoutMs: 1_500 },
    })
    assert.unreachable()
  } catch (error) {
    assert.match((error as Error).message, /was not ready within 1500 ms|is gone/)
  }
})

test.run()
