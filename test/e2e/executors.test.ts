// time limit: 240 s
/** Pools: members that end, queues, memory, recycling. What is the same everywhere: everywhere.test.ts. */
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { root } from '../support/command.js'
import { eventually, Peer, serve, stopAll } from '../support/faults.js'

const handlers = join(root, 'test/fixtures/placed-handlers.ts')
test.after(stopAll)

for (const executor of [
  { type: 'thread-pool', size: 2 },
  { type: 'process-pool', size: 2 },
] as const) {
  test(`a place of ${executor.type} that ends is replaced; its connections are closed as LOST, others go on`, async () => {
    const { port, server, until } = await serve({ handler: `${handlers}#Breaker`, executor })
    const ready = () => server.listeners.get('default')?.plan.executors[0]?.load().places ?? []
    for (const how of ['exit 0', 'exit 3', 'throw it', ...(executor.type === 'process-pool' ? ['kill SIGSEGV'] : [])]) {
      await eventually(() => ready().filter(({ state }) => state === 'ready').length === 2, 'two places')
      const [first, second] = [await Peer.open(port), await Peer.open(port)]
      await first.send('hello\n').hears('hello\n')
      await second.send('hello\n').hears('hello\n')
      first.send(`${how}\n`)
      const { connection } = await until('connection.closed', ({ reason }) => reason.code === 'LOST')
      assert.is(connection.remote?.port, first.socket.localPort)
      await until('executor.lost')
      await second.send('still\n').hears('still\n')
      const third = await Peer.open(port)
      await third.send('again\n').hears('again\n')
      for (const peer of [first, second, third]) peer.leave()
      await server.listeners.get('default')?.waitForConnections(0)
    }
  })

  test(`a handler of ${executor.type} that never answers costs its own connection alone`, async () => {
    const { port, until, count } = await serve({
      handler: `${handlers}#Breaker`,
      executor: { ...executor, size: 1, timeoutMs: 200 },
    })
    const [bad, good] = [await Peer.open(port), await Peer.open(port)]
    await good.send('hello\n').hears('hello\n')
    bad.send('never\n')
    const { reason } = await until('connection.closed')
    assert.is(reason.code, 'TIMEOUT')
    await good.send('meanwhile\n').hears('meanwhile\n')
    assert.is(count('executor.lost'), 0)
  })

  test(`what is over the queue of ${executor.type} is refused at once (F58)`, async () => {
    const { port, until } = await serve({
      handler: `${handlers}#Breaker`,
      executor: { ...executor, queue: 3 },
    })
    const waiting = await Promise.all([1, 2, 3].map(() => Peer.open(port)))
    for (const peer of waiting) peer.send('never\n')
    const more = await Peer.open(port)
    await eventually(() => true, 'sent')
    await until('connection.opened')
    more.send('too much\n')
    const { reason } = await until('connection.closed')
    assert.is(reason.code, 'OVERLOADED')
    for (const peer of waiting) peer.leave()
  })
}

test('a thread out of memory is replaced (F57)', async () => {
  const { port, until } = await serve({
    handler: `${handlers}#Breaker`,
    executor: { type: 'thread-pool', size: 1, resourceLimits: { maxOldGenerationSizeMb: 64 } },
  })
  const bad = await Peer.open(port)
  await bad.send('hello\n').hears('hello\n')
  bad.send('fill it\n')
  const { error } = await until('executor.lost')
  assert.match(error.message, /memory/)
  const next = await Peer.open(port)
  await next.send('after\n').hears('after\n')
})

test('reopen: an idle connection of a lost place goes on in another one', async () => {
  const { port, until } = await serve({
    handler: `${handlers}#Breaker`,
    executor: { type: 'process-pool', size: 1, whenLost: 'reopen' },
  })
  const [idle, bad] = [await Peer.open(port), await Peer.open(port)]
  await idle.send('one\n').hears('one\n')
  await bad.send('one\n').hears('one\n')
  bad.send('exit 1\n')
  await until('executor.lost')
  await bad.over
  await idle.send('two\n').hears('two\n')
})

test('recycled after so many messages, without a connection noticing', async () => {
  const { port, server, count } = await serve({
    handler: `${handlers}#Breaker`,
    executor: { type: 'process-pool', size: 1, recycleMessages: 5 },
  })
  const pids = new Set<string>()
  for (let i = 0; i < 12; i++) {
    const peer = await Peer.open(port)
    await peer.send(`m${i}\n`).hears('\n')
    pids.add(peer.heard.split(' ')[0] as string)
    peer.leave()
    await server.listeners.get('default')?.waitForConnections(0)
  }
  assert.ok(pids.size >= 2 && pids.size <= 4, `${pids.size} processes`)
  assert.is(count('executor.lost'), 0)
})

test('a handler given as a value in code is refused, with what to do', async () => {
  for (const type of ['thread', 'process-pool']) {
    try {
      await serve({ handler: (line: string) => line, executor: type })
      assert.unreachable()
    } catch (error) {
      assert.match((error as Error).message, /was given as a value in code.*name it by its file/)
    }
  }
})

test.run()
