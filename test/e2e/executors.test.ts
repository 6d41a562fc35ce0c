// time limit: 240 s
/** One handler, one client's script, every executor: the transcripts are the same. And what happens when places are lost. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type NamedExecutor } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { root } from '../support/command.js'
import { eventually, Peer, serve, stopAll } from '../support/faults.js'

const handlers = join(root, 'test/fixtures/placed-handlers.ts')
const folder = mkdtempSync(join(tmpdir(), 'gx-'))
test.after(async () => {
  await stopAll()
  rmSync(folder, { recursive: true })
})

const executors: readonly NamedExecutor[] = [
  'inline',
  'task',
  'thread',
  { type: 'thread', per: 'connection', size: 4 },
  { type: 'thread-pool', size: 2 },
  'process',
  { type: 'process-pool', size: 2 },
]

/** What a client hears over one endpoint. */
async function transcript(executor: NamedExecutor, listen: string): Promise<string[]> {
  const { server } = await serve({ listen, handler: `${handlers}#Talker`, executor })
  const client = await connect([...server.listeners][0]?.endpoint as never)
  const heard: string[] = []
  const listening = (async () => {
    for await (const line of client.messages()) heard.push(line as string)
  })()
  // A datagram peer exists from its first datagram on.
  for (const line of ['hello', 'items 40', 'late', 'push 5', 'refuse him', 'raw', 'last']) await client.send(line)
  await eventually(() => heard.some((line) => line.endsWith(' LAST')), `the last line by ${JSON.stringify(executor)}`)
  if (listen.startsWith('udp')) await client.close()
  else {
    client.end()
    await client.closed
  }
  await listening
  await server.stop()
  return heard
}

for (const listen of ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0', `unix:${join(folder, 'x.sock')}`]) {
  test(`every executor gives the same transcript over ${listen.split(':')[0]}`, async () => {
    const [first, ...rest] = executors
    const expected = await transcript(first as NamedExecutor, listen)
    assert.is(expected[0], `welcome over ${listen.split(':')[0]} from default`)
    assert.is(expected.filter((line) => line.startsWith('item ')).length, 40)
    assert.ok(expected.includes('refused: him'), expected.join('\n'))
    if (!listen.startsWith('udp')) assert.is(expected.at(-1), 'after 7')
    for (const executor of rest) assert.equal(await transcript(executor, listen), expected, JSON.stringify(executor))
  })
}

for (const executor of [
  { type: 'thread-pool', size: 2 },
  { type: 'process-pool', size: 2 },
] as const) {
  test(`order is kept over 100 connections by ${executor.type}`, async () => {
    const { port } = await serve({ handler: `${handlers}#Numbers`, executor })
    const peers = await Promise.all(Array.from({ length: 100 }, () => Peer.open(port)))
    const lines = Array.from({ length: 50 }, (_, i) => `${i}\n`)
    for (const line of lines) for (const peer of peers) peer.send(line)
    for (const peer of peers) await peer.hears('\n49\n')
    for (const peer of peers) {
      assert.is(peer.heard, lines.join(''))
      peer.leave()
    }
  })

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

  test(`a place of ${executor.type} whose loop is blocked is killed at the deadline (F52)`, async () => {
    const { port, until } = await serve({
      handler: `${handlers}#Breaker`,
      executor: { ...executor, timeoutMs: 300 },
    })
    const [bad, good] = [await Peer.open(port), await Peer.open(port)]
    await bad.send('hello\n').hears('hello\n')
    await good.send('hello\n').hears('hello\n')
    bad.send('block 60000\n')
    const { error } = await until('executor.lost')
    assert.match(error.message, /silent|status 1/)
    await good.send('meanwhile\n').hears('meanwhile\n')
    await bad.over
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
