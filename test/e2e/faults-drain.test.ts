// time limit: 240 s
/** The orderly end and the less orderly ones: F70–F74 of the catalogue, by the command and real signals. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { defineHandler } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros, killAll, root } from '../support/command.js'
import { Peer, serve, stopAll, turns } from '../support/faults.js'

const folder = mkdtempSync(join(root, 'build', 'drain-'))
const handlerFile = (source: string) => {
  const path = join(folder, `handler-${Math.random().toString(36).slice(2)}.mjs`)
  writeFileSync(path, `import { defineHandler } from 'gaidaros'\nexport default ${source}\n`)
  return path
}
const listen = ['--listen', 'tcp://127.0.0.1:0']

test('F70 SIGTERM under load: what was answered is whole and in order, the rest saw the end; exit 0', async () => {
  const command = gaidaros(['serve', ...listen])
  const { default: port = 0 } = await command.ready()
  const peers = await Promise.all(Array.from({ length: 20 }, () => Peer.open(port)))
  const sent = peers.map(() => 0)
  const load = setInterval(() => {
    peers.forEach((peer, i) => {
      if (!peer.isOver && !peer.socket.destroyed) for (let n = 0; n < 5; n++) peer.send(`${(sent[i] as number)++}\n`)
    })
  }, 5)
  await Promise.all(peers.map((peer) => peer.hears('20\n')))
  command.child.kill('SIGTERM')
  await Promise.all(peers.map((peer) => peer.over))
  clearInterval(load)
  peers.forEach((peer, i) => {
    const heard = peer.heard.trimEnd().split('\n')
    assert.equal(
      heard,
      heard.map((_, n) => String(n)),
      'acknowledged in order, none doubled, none missing',
    )
    assert.ok(heard.length <= (sent[i] as number))
    assert.is(peer.error, undefined, 'an orderly end, no reset')
    peer.leave()
  })
  assert.is(await command.ended, 0)
})

test('F71 a peer that never closes is cut at the deadline; exit 0, counted as forced', async () => {
  const { server, port, until } = await serve({ handler: (line: string) => line, timeouts: { lingerMs: 60_000 } })
  const stubborn = await Peer.open(port)
  await stubborn.echoes('here')
  const began = performance.now()
  await server.stop({ timeoutMs: 300 })
  assert.ok(performance.now() - began < 2_300)
  assert.is((await until('drain.finished')).forced, 1)
  assert.is(server.state, 'stopped')
})

test('F72 a handler longer than the drain is aborted and reported once', async () => {
  let aborted: unknown
  const { server, port, until, count } = await serve({
    handler: defineHandler({
      message: (_line: string, connection) =>
        new Promise((resolve) => {
          connection.signal.addEventListener('abort', () => {
            aborted = connection.signal.reason
            resolve('too late')
          })
        }),
    }),
  })
  const peer = (await Peer.open(port)).send('work\n')
  await until('connection.opened')
  await turns(5)
  await server.stop({ timeoutMs: 200 })
  assert.is((aborted as Error).name, 'ShutdownError')
  const { error } = await until('message.dropped')
  assert.is(error.name, 'ShutdownError')
  assert.is(count('message.dropped'), 1)
  peer.leave()
})

for (const [signal, status] of [
  ['SIGTERM', 143],
  ['SIGINT', 130],
] as const) {
  test(`F73 a second ${signal} stops at once with ${status}`, async () => {
    const command = gaidaros([
      'serve',
      ...listen,
      '--handler',
      handlerFile('defineHandler({ message: () => new Promise(() => {}) })'),
    ])
    const { default: port = 0 } = await command.ready()
    const peer = (await Peer.open(port)).send('stuck\n')
    await new Promise((resolve) => setTimeout(resolve, 100))
    command.child.kill(signal)
    await new Promise((resolve) => setTimeout(resolve, 200))
    command.child.kill(signal)
    assert.is(await command.ended, status)
    peer.leave()
  })
}

test('F74 SIGTERM at any moment of the start: no hang, and a known exit status', async () => {
  const delays = [0, 20, 40, 60, 80, 100, 120, 150, 180, 220, 260, 300, 400]
  for (const delay of delays) {
    const command = gaidaros(['serve', ...listen], { limitMs: 16_000 })
    await new Promise((resolve) => setTimeout(resolve, delay))
    command.child.kill('SIGTERM')
    const status = await command.ended
    // Before the command has taken the signal over, the process simply dies of it.
    assert.ok(status === 0 || status === 143 || status === 'SIGTERM', `after ${delay} ms: ${status}\n${command.stderr}`)
  }
})

test('stop() during start(), and twice: one promise, nothing left bound', async () => {
  for (let seed = 0; seed < 30; seed++) {
    const { createServer } = await import('gaidaros')
    const listeners = Object.fromEntries([1, 2, 3].map((n) => [`l${n}`, { endpoint: 'tcp://127.0.0.1:0' }]))
    const server = await createServer({ config: false, listeners, handler: (line: string) => line })
    const starting = server.start().then(
      () => 'started',
      (error) => error.code as string,
    )
    for (let turn = 0; turn < seed; turn++) await null
    if (seed % 3 === 0) await turns(seed % 4)
    const [first, second] = [server.stop({ timeoutMs: 100 }), server.stop({ timeoutMs: 100 })]
    assert.is(first, second)
    await first
    assert.ok(['started', 'SHUTDOWN'].includes(await starting))
    assert.is(server.state, 'stopped')
  }
})

test('newcomers in the kernel’s queue at the stop are answered', async () => {
  const { server, port } = await serve({ handler: (line: string) => line })
  const peers = Array.from({ length: 50 }, () => new Peer(port))
  await Promise.all(peers.map((peer) => new Promise((resolve) => peer.socket.once('connect', resolve))))
  for (const peer of peers) peer.send('queued\n')
  const stopping = server.stop({ timeoutMs: 3_000 })
  await Promise.all(peers.map((peer) => peer.over))
  for (const peer of peers) {
    assert.is(peer.error, undefined)
    peer.leave()
  }
  await stopping
  assert.ok(peers.filter((peer) => peer.heard === 'queued\n').length >= 45, 'those accepted are answered')
})

test('a newcomer in the kernel’s queue is answered though nobody else is there', async () => {
  for (let i = 0; i < 5; i++) {
    const { server, port } = await serve({ handler: (line: string) => line })
    const peer = new Peer(port)
    peer.send('queued\n')
    // The kernel accepts while this thread stands still; whether the server has read of it yet differs from round to round.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20)
    if (i % 2 === 1) await turns(1)
    const stopping = server.stop({ timeoutMs: 10_000 })
    await peer.over
    assert.is(peer.error, undefined, `round ${i}`)
    assert.is(peer.heard, 'queued\n', `round ${i}`)
    peer.leave()
    await stopping
  }
})

test('what was read before a pause is answered in a drain', async () => {
  let paused: () => void = () => {}
  const isPaused = new Promise<void>((resolve) => (paused = resolve))
  let resume: () => void = () => {}
  const handler = defineHandler({
    codec: 'line',
    message(line: string, connection) {
      if (line !== 'pause') return line
      connection.pause()
      resume = () => connection.resume()
      paused()
      return 'paused'
    },
  })
  const { server, port } = await serve({ handler })
  const peer = await Peer.open(port)
  peer.send('pause\nheld\nheld too\n')
  await isPaused
  const stopping = server.stop({ timeoutMs: 30_000 })
  await turns(5)
  resume()
  await peer.over
  assert.is(peer.heard, 'paused\nheld\nheld too\n')
  peer.leave()
  await stopping
})

test('a server stopped leaves nothing behind', async () => {
  const before = process.getActiveResourcesInfo().length
  const { server, port } = await serve({ handler: (line: string) => line })
  const peer = await Peer.open(port)
  await peer.echoes('x')
  peer.leave()
  await server.stop()
  await turns(5)
  assert.ok(process.getActiveResourcesInfo().length <= before, process.getActiveResourcesInfo().join(', '))
})

test.after(async () => {
  killAll()
  await stopAll()
  rmSync(folder, { recursive: true, force: true })
})
test.run()
