// time limit: 180 s
/** Several server processes on the same listeners: who gets what, how they are steered, how they end. */
import { createSocket } from 'node:dgram'
import { connect as connectTls } from 'node:tls'
import { createServer } from 'gaidaros'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { killAll } from '../support/command.js'
import { eventually, Peer } from '../support/faults.js'
import { Folder, hasReusePort, isAlive, once, Serving } from '../support/workers.js'

const folder = new Folder()
const who = ['--eval', 'line => line + " " + process.pid']
const local = 'tcp://127.0.0.1:0'
let files = 0
const config = (given: object) => folder.write(`${++files}.json`, given)
const serve = (given: object, more: readonly string[] = who) =>
  Serving.start(folder, ['--config', config(given), ...more])

/** How many went to whom. */
function tally(answers: readonly string[]): number[] {
  const counts = new Map<string, number>()
  for (const answer of answers) counts.set(answer, (counts.get(answer) ?? 0) + 1)
  return [...counts.values()].sort((a, b) => a - b)
}

async function ask(count: number, one: (i: number) => Promise<string>): Promise<string[]> {
  const answers: string[] = []
  for (let i = 0; i < count; i++) answers.push((await one(i)).split(' ').at(-1) as string)
  return answers
}

test('round-robin is even, over TCP and over a Unix socket; the end is orderly and leaves no process', async () => {
  const path = folder.at('rr.sock')
  const serving = await serve({
    listeners: { net: { endpoint: local }, file: { endpoint: `unix:${path}` } },
    workers: 3,
  })
  assert.match(serving.command.stdout, /^listening net tcp:\/\/127\.0\.0\.1:\d+\nlistening file unix:\S+\nready\n$/)
  assert.equal(tally(await ask(90, () => once(serving.port, 'x'))), [30, 30, 30])
  assert.equal(tally(await ask(90, () => once(path, 'x'))), [30, 30, 30])
  const pids = await serving.pids()
  assert.is(pids.length, 3)
  assert.is(await serving.stop(), 0)
  assert.equal(pids.map(isAlive), [false, false, false])
})

test('kernel: workers accept for themselves, and every one is answered', async () => {
  const path = folder.at('k.sock')
  const serving = await serve({
    listeners: { net: { endpoint: 'tcp://localhost:0' }, file: { endpoint: `unix:${path}` } },
    workers: { count: 2, balance: 'kernel' },
  })
  const pids = (await serving.pids()).map(String)
  const answers = await Promise.all(
    Array.from({ length: 120 }, (_, i) =>
      once(i % 3 === 0 ? path : serving.port, 'x', i % 3 === 1 ? { host: '::1' } : {}),
    ),
  )
  for (const answer of answers) assert.ok(pids.includes(answer.split(' ')[1] as string), answer)
  const { counters } = await serving.status()
  assert.is(counters['workers.handed'] ?? 0, 0, 'nothing went through the supervisor')
  assert.is(counters.accepted, 120)
  assert.is(await serving.stop(), 0)
})

test('source: an address stays with its worker', async () => {
  const serving = await serve({ listen: local, workers: { count: 3, balance: 'source' } })
  const homes = new Map<string, string>()
  for (let round = 0; round < 3; round++) {
    for (let i = 1; i <= 20; i++) {
      const localAddress = `127.0.0.${i}`
      const [, pid = ''] = (await once(serving.port, 'x', { localAddress })).split(' ')
      assert.is(homes.get(localAddress) ?? pid, pid, localAddress)
      homes.set(localAddress, pid)
    }
  }
  assert.is(new Set(homes.values()).size, 3, 'and all of them have some')
  assert.is(await serving.stop(), 0)
})

test('UDP: a peer stays with its worker, and is answered from the address it asked', async () => {
  const serving = await serve({ listen: 'udp://localhost:0', workers: 2 })
  const homes: string[] = []
  for (let i = 0; i < 24; i++) {
    const socket = createSocket('udp4')
    const answers: string[] = []
    await new Promise<void>((resolve) => {
      socket.on('message', (message, { port }) => {
        assert.is(port, serving.port)
        answers.push(String(message).trim().split(' ')[1] as string)
        if (answers.length === 5) resolve()
        else socket.send('x', serving.port, '127.0.0.1')
      })
      socket.send('x', serving.port, '127.0.0.1')
    })
    socket.close()
    assert.is(new Set(answers).size, 1)
    homes.push(answers[0] as string)
  }
  assert.is(new Set(homes).size, 2)
  assert.is(await serving.stop(), 0)
})

test('TLS is spoken in the workers, and a session begun with one is taken up by another', async () => {
  const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }])
  folder.write('cert.pem', cert)
  folder.write('key.pem', key)
  const serving = await serve({
    listen: 'tls://127.0.0.1:0',
    tls: { cert: './cert.pem', key: './key.pem', maxVersion: 'TLSv1.2' },
    workers: 2,
  })
  const speak = (session?: Buffer) =>
    new Promise<{ pid: string; session: Buffer | undefined; isResumed: boolean }>((resolve, reject) => {
      const socket = connectTls({
        port: serving.port,
        host: '127.0.0.1',
        rejectUnauthorized: false,
        ...(session === undefined ? {} : { session }),
      })
      socket.on('error', reject)
      socket.once('secureConnect', () => socket.write('x\n'))
      socket.once('data', (data) => {
        resolve({
          pid: String(data).trim().split(' ')[1] as string,
          session: socket.getSession(),
          isResumed: socket.isSessionReused(),
        })
        socket.end()
      })
    })
  const first = await speak()
  const second = await speak(first.session)
  assert.is.not(second.pid, first.pid)
  assert.is(first.isResumed, false)
  assert.is(second.isResumed, true)
  assert.is(await serving.stop(), 0)
})

test('reuse-port has a socket for each worker where Node can, and is refused by name where it cannot', async () => {
  const file = config({
    listeners: { net: { endpoint: local }, udp: { endpoint: 'udp://127.0.0.1:0' } },
    workers: { count: 2, balance: 'reuse-port' },
  })
  if (!hasReusePort) {
    const { command } = new Serving(folder, ['--config', file, ...who])
    assert.is(await command.ended, 2)
    assert.match(
      command.stderr,
      /workers\.balance: `reuse-port` needs Node 22\.12 .* this is \d+\.\d+\.\d+.*\[BAD_VALUE\]/,
    )
    assert.not.match(command.stdout, /listening/)
    return
  }
  const serving = await Serving.start(folder, ['--config', file, ...who])
  const answers = await Promise.all(Array.from({ length: 60 }, () => once(serving.port, 'x')))
  assert.is(new Set(answers).size, 2)
  assert.is(await serving.stop(), 0)
})

test('status adds up; connections are listed; a suspended listener lets peers wait, in every worker', async () => {
  const serving = await serve({ listen: local, limits: { connections: 50 }, workers: 2 })
  const peers = []
  for (let i = 0; i < 6; i++) peers.push(await Peer.open(serving.port))
  for (const peer of peers) await peer.send('x\n').hears('x ')
  const { connections, listeners, workers, counters, state } = await serving.status()
  assert.is(state, 'ready')
  assert.is(connections, 6)
  assert.equal(
    workers.map((one) => one.connections),
    [3, 3],
  )
  assert.is(listeners[0]?.connections, 6)
  assert.is(listeners[0]?.limit, 100)
  assert.is(counters.accepted, 6)
  const { result: page } = await serving.ask<{ connections: { id: string; messagesIn: number }[] }>('connections')
  assert.equal(page.connections.map(({ id, messagesIn }) => `${id.split('/')[0]}:${messagesIn}`).sort(), [
    '0:1',
    '0:1',
    '0:1',
    '1:1',
    '1:1',
    '1:1',
  ])
  const last = page.connections.find(({ id }) => id.startsWith('1/'))?.id
  assert.is((await serving.ask<{ killed: number }>('kill', { connection: last })).result.killed, 1)
  assert.equal((await serving.ask('suspend')).result, ['default'])
  const waiting = await Peer.open(serving.port)
  waiting.send('waits\n')
  // Those connected go on meanwhile.
  await (peers[0] as Peer).send('y\n').hears('y ')
  assert.is(waiting.heard, '')
  assert.is((await serving.status()).listeners[0]?.state, 'suspended')
  assert.equal((await serving.ask('resume')).result, ['default'])
  await waiting.hears('waits ')
  assert.match((await serving.ask('suspend', { listener: 'nobody' })).error ?? '', /no listener `nobody`/)
  for (const peer of [...peers, waiting]) peer.leave()
  const stop = await serving.ask('stop')
  assert.is(stop.ok, true)
  assert.is(await serving.command.ended, 0)
})

test('SIGTERM drains all workers: what was received is answered; a second one ends all of them at once', async () => {
  const slow = ['--eval', 'line => new Promise((resolve) => setTimeout(resolve, 400, line + " " + process.pid))']
  const serving = await serve({ listen: local, workers: 2 }, slow)
  const peers = await Promise.all([1, 2, 3, 4].map(() => Peer.open(serving.port)))
  for (const peer of peers) peer.send('last words\n')
  const held = async () => (await serving.status()).connections
  while ((await held()) < 4) await new Promise((resolve) => setTimeout(resolve, 10))
  serving.command.child.kill('SIGTERM')
  await Promise.all(peers.map((peer) => peer.over))
  for (const peer of peers) assert.match(peer.heard, /^last words \d+\n$/)
  for (const peer of peers) peer.leave()
  assert.is(await serving.command.ended, 0)

  const hanging = await serve({ listen: local, workers: 2 }, ['--eval', 'line => new Promise(() => {})'])
  const pids = await hanging.pids()
  const peer = await Peer.open(hanging.port)
  peer.send('x\n')
  while ((await hanging.status()).connections < 1) await new Promise((resolve) => setTimeout(resolve, 10))
  hanging.command.child.kill('SIGTERM')
  await hanging.command.shows('drain.started')
  hanging.command.child.kill('SIGTERM')
  assert.is(await hanging.command.ended, 143)
  await eventually(() => !pids.some(isAlive), 'no worker is left')
  peer.leave()
})

test('workers leave when their supervisor is killed', async () => {
  const serving = await serve({ listen: local, workers: 2 })
  const pids = await serving.pids()
  const peer = await Peer.open(serving.port)
  await peer.send('x\n').hears('x ')
  serving.command.child.kill('SIGKILL')
  await peer.over
  peer.leave()
  await eventually(() => !pids.some(isAlive), 'no worker is left')
  await serving.command.ended
})

test('what is wrong at the start is told once, with exit 2, and no process is left', async () => {
  const { command } = new Serving(folder, [
    '--config',
    config({ listen: local, workers: 2 }),
    '--handler',
    './none.mjs',
  ])
  assert.is(await command.ended, 2)
  assert.match(command.stderr, /none\.mjs/)
  assert.is(command.stderr.match(/none\.mjs/g)?.length, 1)
  assert.is(command.stdout, '')
  const first = await serve({ listen: local, workers: 2 })
  const taken = new Serving(folder, [
    '--config',
    config({ listen: `tcp://127.0.0.1:${first.port}`, workers: 2 }),
    ...who,
  ])
  assert.is(await taken.command.ended, 2)
  assert.match(taken.command.stderr, /\[ADDRESS_IN_USE\]/)
  assert.is(await first.stop(), 0)
  const wrong = new Serving(folder, [
    '--config',
    config({ listen: local, workers: { count: 2, balnce: 'kernel' } }),
    ...who,
  ])
  assert.is(await wrong.command.ended, 2)
  assert.match(wrong.command.stderr, /workers: expected no key `balnce`; nearest: `balance`/)
})

test('what the application says on the channel is dropped and counted, however large', async () => {
  const source = 'line => String(process.send(line === "big" ? "x".repeat(1e8) : { t: "ready", listeners: [] }))'
  const serving = await serve({ listen: local, workers: 2 }, ['--eval', source])
  const before = (await serving.status()).workers.map(({ pid }) => pid)
  for (let i = 0; i < 10; i++) assert.is(await once(serving.port, i % 2 === 0 ? 'big' : 'small'), 'false')
  const { counters, workers } = await serving.status()
  assert.ok((counters['workers.junk'] ?? 0) >= 1)
  assert.equal(
    workers.map(({ pid }) => pid),
    before,
  )
  assert.is(await serving.stop(), 0)
})

test('a program has one process only, and is told so', async () => {
  let error: Error | undefined
  try {
    await createServer({ listen: local, workers: 2 })
  } catch (thrown) {
    error = thrown as Error
  }
  assert.is(error?.name, 'WiringError')
  assert.match(error?.message ?? '', /gaidaros serve/)
  const server = await createServer({ listen: local, workers: 1 })
  await server.start()
  await server.stop()
})

test('--workers on the command line; auto is one for each processor', async () => {
  const serving = await Serving.start(folder, ['--listen', local, '--workers', 'auto', ...who])
  const { availableParallelism } = await import('node:os')
  assert.is((await serving.pids()).length, availableParallelism())
  assert.is(await serving.stop(), 0)
})

test.after(() => {
  killAll()
  folder.remove()
})
test.run()
