// time limit: 240 s
/** Listeners that come and go while the server runs, with executors: nothing is left behind, and nobody waits for another's deadline. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createServer, type Server } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { root } from '../support/command.js'
import { eventually, Peer } from '../support/faults.js'

const handler = `${join(root, 'build/fixtures/option-handlers.js')}#Measured`
const endpoint = 'tcp://127.0.0.1:0'

/**
 * What this process holds: children, worker threads (each has a message port), descriptors. Not counted: module files. A thread
 * that Node ends while it loads leaves those open that it reads at that moment, with `worker.terminate()` alone too.
 */
function held() {
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim()
  const ports = process.getActiveResourcesInfo().filter((name) => name === 'MessagePort').length
  const files = readdirSync('/proc/self/fd').map(pathOf)
  return {
    children: children === '' ? 0 : children.split(' ').length,
    ports,
    files: files.filter((path) => !/\.[cm]?js(on)?$/.test(path)).length,
  }
}

function pathOf(descriptor: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`)
  } catch {
    // The one of the listing itself.
    return ''
  }
}

/** Descriptors of what has just ended are closed a turn later. */
async function isAsBefore(before: ReturnType<typeof held>) {
  await eventually(
    () => {
      const now = held()
      return now.children <= before.children && now.ports <= before.ports && now.files <= before.files
    },
    `as before: ${JSON.stringify(before)}; now ${JSON.stringify(held())}`,
  )
}

const portOf = (server: Server, name: string) => (server.listeners.get(name)?.endpoint as { port: number }).port

async function running(options: object = {}) {
  const server = await createServer({ config: false, listen: endpoint, handler, ...options })
  return server.start()
}

/** How often each: a process takes its time to begin, more so where others work too. */
const kinds = [
  ['inline', 100],
  ['task', 100],
  [{ type: 'thread' }, 8],
  [{ type: 'thread-pool', size: 2 }, 8],
  [{ type: 'process' }, 4],
  [{ type: 'process-pool', size: 2 }, 4],
] as const

for (const [executor, count] of kinds) {
  const name = typeof executor === 'string' ? executor : executor.type
  test(`F124 listeners with ${name} come and go ${count} times and leave nothing behind`, async () => {
    const server = await running()
    // What the first one loads stays, as it would without any.
    await server.listeners.add('first', { endpoint, handler, executor })
    await server.listeners.remove('first')
    const before = held()
    for (let i = 0; i < count; i++) {
      await server.listeners.add('tenant', { endpoint, handler, executor })
      if (i < 4) {
        const peer = await Peer.open(portOf(server, 'tenant'))
        await peer.send('hello\n').hears('hello\n')
        peer.leave()
      }
      await server.listeners.remove('tenant')
      assert.is(server.executors.length, 0)
    }
    await isAsBefore(before)
    await server.stop()
  })

  test(`F124 a listener with ${name} that cannot be added leaves nothing behind`, async () => {
    const server = await running()
    const taken = `tcp://127.0.0.1:${portOf(server, 'default')}`
    const add = () => server.listeners.add('twice', { endpoint: taken, handler, executor }).catch((error) => error.code)
    assert.is(await add(), 'ADDRESS_IN_USE')
    const before = held()
    for (let i = 0; i < Math.min(count, 4); i++) assert.is(await add(), 'ADDRESS_IN_USE')
    await isAsBefore(before)
    assert.is(server.listeners.get('twice'), undefined)
    await server.stop()
  })

  test(`F124 ${name} that listeners share ends with the last of them, and is there for the next`, async () => {
    const server = await running({ listen: undefined, listeners: { a: { endpoint, handler } }, executor })
    const [shared] = server.executors
    await server.listeners.add('b', { endpoint, handler })
    assert.is(server.executors[0], shared)
    await Promise.all([server.listeners.remove('a'), server.listeners.add('c', { endpoint, handler })])
    for (const name of ['b', 'c']) {
      const peer = await Peer.open(portOf(server, name))
      await peer.send('hello\n').hears('hello\n')
      peer.leave()
    }
    // The last leaves while the next comes: whichever is first, who comes is served.
    const [added] = await Promise.all([
      server.listeners.add('d', { endpoint, handler }),
      server.listeners.remove('b'),
      server.listeners.remove('c'),
    ])
    const peer = await Peer.open((added.endpoint as { port: number }).port)
    await peer.send('hello\n').hears('hello\n')
    peer.leave()
    await server.listeners.remove('d')
    await server.listeners.add('e', { endpoint, handler })
    const last = await Peer.open(portOf(server, 'e'))
    await last.send('hello\n').hears('hello\n')
    last.leave()
    await server.stop()
  })

  test(`F124 stop() beside add() and remove() ends ${name} too`, async () => {
    const first = await running({ executor })
    await first.stop()
    const before = held()
    for (const delay of [0, 5, 60]) {
      const server = await running({ executor })
      await server.listeners.add('leaving', { endpoint, handler, executor })
      const removing = server.listeners.remove('leaving')
      const own = server.listeners.add('own', { endpoint, handler, executor }).catch((error) => error.code)
      const sharing = server.listeners.add('sharing', { endpoint, handler }).catch((error) => error.code)
      await sleep(delay)
      await server.stop()
      await removing
      // Added before the stop, and then unbound by it; or refused.
      for (const one of [await own, await sharing])
        assert.ok(one === 'BAD_STATE' || one.state === 'closed', String(one))
    }
    await isAsBefore(before)
  })
}

test('F124 add() beside stop() rejects: nobody is given an endpoint at which nobody listens', async () => {
  const server = await running()
  const adding = server.listeners.add('late', { endpoint, handler }).catch((error) => error)
  const stopping = server.stop()
  const error = await adding
  assert.is(error.code, 'BAD_STATE')
  assert.match(error.message, /late was added to a server that stops/)
  await stopping
  assert.is((await server.listeners.add('later', { endpoint, handler }).catch((error) => error)).code, 'BAD_STATE')
})

test('F124 of two that are added under one name one is refused, and one removed while it is added says so', async () => {
  const server = await running()
  const both = await Promise.allSettled([
    server.listeners.add('same', { endpoint, handler }),
    server.listeners.add('same', { endpoint, handler }),
  ])
  assert.equal(both.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
  const executor = { type: 'process-pool', size: 1 } as const
  const adding = server.listeners.add('short', { endpoint, handler, executor }).catch((error) => error)
  await eventually(() => server.listeners.get('short') !== undefined, 'planned')
  await server.listeners.remove('short')
  assert.match((await adding).message, /removed while it was added/)
  assert.is(server.listeners.get('short'), undefined)
  await server.stop()
})

test('F124 the shortest deadline counts, whoever else waits for a longer one', async () => {
  const server = await running({ timeouts: { handlerMs: 600_000 } })
  await server.listeners.add('b', { endpoint, handler: () => new Promise(() => {}) })
  await server.listeners.add('c', { endpoint, handler: () => new Promise(() => {}) })
  const peers = [await Peer.open(portOf(server, 'b')), await Peer.open(portOf(server, 'c'))]
  for (const peer of peers) peer.send('hold\n')
  await eventually(
    () => server.counters.messages_in === 2 || [...server.connections].every((one) => one.stats.messagesIn === 1),
    'at work',
  )
  const stopping = server.stop({ timeoutMs: 100_000 })
  const removing = server.listeners.remove('b', { timeoutMs: 90_000 })
  const further = server.listeners.remove('c', { timeoutMs: 80_000 })
  assert.is(server.stop({ timeoutMs: 300 }), stopping)
  // Far below the other three; the time limit of this file is what would end it else.
  const winner = await Promise.race([
    Promise.all([stopping, removing, further]).then(() => 'over'),
    sleep(40_000, 'late', { ref: false }),
  ])
  assert.is(winner, 'over')
  for (const peer of peers) peer.leave()
})

test('F124 a stop that is shorter than a removal shortens it', async () => {
  const server = await running()
  await server.listeners.add('b', { endpoint, handler: () => new Promise(() => {}) })
  const peer = await Peer.open(portOf(server, 'b'))
  peer.send('hold\n')
  await eventually(() => [...server.connections].some((one) => one.stats.messagesIn === 1), 'at work')
  const removing = server.listeners.remove('b', { timeoutMs: 100_000 })
  const stopping = server.stop({ timeoutMs: 300 })
  const winner = await Promise.race([
    Promise.all([stopping, removing]).then(() => 'over'),
    sleep(40_000, 'late', { ref: false }),
  ])
  assert.is(winner, 'over')
  peer.leave()
})

test.run()
