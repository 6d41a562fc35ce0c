// time limit: 240 s
/** Workers that die, hang, crash at their start or are flooded: F52 to F55, F79 of the catalogue, and the ledger behind them. */
import { connect, type Socket } from 'node:net'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { killAll } from '../support/command.js'
import { eventually, Peer } from '../support/faults.js'
import {
  checkLedger,
  endLoads,
  Folder,
  hasReusePort,
  isAlive,
  Load,
  ledgerHandler,
  once,
  Serving,
} from '../support/workers.js'

const folder = new Folder()
const local = 'tcp://127.0.0.1:0'
let files = 0
const config = (given: object) => folder.write(`${++files}.json`, given)
const handlerOf = (source: string) => folder.write(`handler-${++files}.mjs`, source)

for (const balance of ['round-robin', 'kernel', ...(hasReusePort ? ['reuse-port'] : [])]) {
  test(`F53 workers are killed every 200 ms under load (${balance}): no connect is refused, nothing answered was not handled`, async () => {
    const ledger = folder.write(`ledger-${balance}`, '')
    const serving = await Serving.start(
      folder,
      ['--config', config({ listen: local, workers: { count: 3, balance }, handler: handlerOf(ledgerHandler) })],
      { env: { LEDGER: ledger } },
    )
    const load = new Load(serving.port, 16)
    let killed = 0
    while (killed < 12) {
      const pids = await serving.pids()
      const victim = pids[killed % Math.max(1, pids.length)]
      if (victim !== undefined) {
        process.kill(victim, 'SIGKILL')
        killed++
      }
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
    await serving.settles(3)
    const before = load.acked.size
    await eventually(() => load.acked.size > before + 100, 'the service goes on')
    await load.end()
    checkLedger(load, folder.read(`ledger-${balance}`))
    assert.equal(load.connectErrors, [])
    // Of each client at most the one message that it had under way, whenever its worker was killed.
    assert.ok(load.unknown.length <= 16 * killed, `${load.unknown.length} unknown for ${killed} killed`)
    assert.match(serving.command.stderr, /worker\.ended worker=\d pid=\d+ generation=1 reason=SIGKILL/)
    assert.not.match(serving.command.stderr, /workers\.crashing/)
    console.log(
      `# ${balance}: ${killed} killed, ${load.sent.size} sent, ${load.acked.size} answered, ${load.unknown.length} unknown`,
    )
    assert.is(await serving.stop(), 0)
  })
}

test('F54 however a worker ends, the reason is said, and another takes its place', async () => {
  const handler = handlerOf(`export default (line) => {
    if (line === 'exit 0') setImmediate(() => process.exit(0))
    if (line === 'exit 7') setImmediate(() => process.exit(7))
    if (line === 'segv') process.kill(process.pid, 'SIGSEGV')
    if (line === 'stray') setImmediate(() => { throw new Error('stray') })
    if (line === 'heap') { const all = []; for (;;) all.push(new Array(1e5).fill({ a: all.length })) }
    return line
  }`)
  const serving = await Serving.start(
    folder,
    ['--config', config({ listen: local, workers: { count: 2, stuckMs: 60_000 }, handler })],
    { env: { NODE_OPTIONS: '--max-old-space-size=64' } },
  )
  for (const [line, reason] of [
    ['exit 0', 'reason="exit 0" status=0'],
    ['exit 7', 'reason="exit 7" status=7'],
    ['segv', 'reason=SIGSEGV'],
    ['stray', 'reason="uncaught error" status=1 .* error=stray'],
    ['heap', 'reason="(heap full|SIGABRT \\(heap full[^"]*)"'],
  ] as const) {
    await serving.settles(2)
    const peer = await Peer.open(serving.port)
    peer.send(`${line}\n`)
    await serving.command.shows(new RegExp(`worker\\.ended .*${reason}`))
    peer.leave()
    assert.is(await once(serving.port, 'still there'), 'still there')
  }
  await serving.settles(2)
  assert.is(await serving.stop(), 0)
})

test('F52 a worker whose loop hangs is ended and replaced; the others serve meanwhile', async () => {
  const handler = handlerOf('export default (line) => { if (line === "hang") for (;;); return line }')
  const serving = await Serving.start(folder, [
    '--config',
    config({ listen: local, workers: { count: 2, heartbeatMs: 100, stuckMs: 1_500 }, handler }),
  ])
  const before = await serving.pids()
  const stuck = await Peer.open(serving.port)
  stuck.send('hang\n')
  let isEnded = false
  const ended = serving.command.shows(/worker\.ended .*reason=stuck/).then(() => {
    isEnded = true
  })
  const peers: Peer[] = []
  while (!isEnded) {
    const peer = new Peer(serving.port)
    peers.push(peer.send('x\n'))
    await Promise.race([new Promise((resolve) => setTimeout(resolve, 20)), ended])
  }
  // One may be on its way to the stuck one; the rest of what it would have got is taken by the other.
  const served = peers.filter((peer) => peer.heard === 'x\n').length
  for (const peer of [stuck, ...peers]) peer.leave()
  assert.ok(served >= 10 && served >= peers.length / 2, `served ${served} of ${peers.length} meanwhile`)
  const after = await serving.settles(2)
  assert.is(after.filter((pid) => before.includes(pid)).length, 1)
  assert.is(await once(serving.port, 'x'), 'x')
  assert.is(await serving.stop(), 0)
})

test('F55 a crash loop: after five ends the next start waits, the server is not ready, an alarm is told; the cure is taken up', async () => {
  const marker = folder.write('marker', 'well')
  const handler = handlerOf(`import { readFileSync } from 'node:fs'
if (readFileSync(${JSON.stringify(marker)}, 'utf8') === 'ill') throw new Error('ill at the start')
export default (line) => { if (line === 'die') setImmediate(() => process.exit(3)); return line }`)
  const serving = await Serving.start(folder, ['--config', config({ listen: local, workers: 2, handler })])
  folder.write('marker', 'ill')
  const peer = await Peer.open(serving.port)
  peer.send('die\n')
  await serving.command.shows(/workers\.crashing worker=\d delayMs=1000/)
  await serving.command.shows(/workers\.crashing worker=\d delayMs=2000/)
  assert.match(serving.command.stderr, /worker\.ended .*reason="failed to start" .*ill at the start/)
  const { state, workers, counters } = await serving.status()
  assert.is(state, 'not ready')
  assert.is(workers.filter((one) => one.state === 'ready').length, 1)
  assert.ok((counters['workers.crash-loop'] ?? 0) >= 1)
  // The other one serves.
  assert.is(await once(serving.port, 'x'), 'x')
  const ends = serving.command.stderr.match(/worker\.ended/g)?.length ?? 0
  assert.ok(ends <= 8, `${ends} ends`)
  folder.write('marker', 'well')
  while ((await serving.pids()).length < 2) await new Promise((resolve) => setTimeout(resolve, 50))
  peer.leave()
  assert.is(await serving.stop(), 0)
})

test('F79 a burst: connections are spread evenly, and never more descriptors wait in the supervisor than its bounds', async () => {
  const serving = await Serving.start(folder, [
    '--config',
    config({ listen: local, workers: 3, limits: { connections: 5_000 } }),
    '--eval',
    'line => line',
  ])
  const most = 3_000
  const sockets: Socket[] = []
  let closed = 0
  let opened = 0
  // Nobody waits for a first byte; 512 connects are under way at any time.
  await new Promise<void>((resolve) => {
    const next = () => {
      if (sockets.length >= most) return
      const socket = connect({ port: serving.port, host: '127.0.0.1' })
      sockets.push(socket)
      socket.on('error', () => {})
      socket.once('close', () => closed++)
      socket.once('connect', () => {
        if (++opened === most) resolve()
        next()
      })
    }
    for (let i = 0; i < 512; i++) next()
  })
  let counts: number[] = []
  const until = performance.now() + 60_000
  for (;;) {
    const { workers, connections } = await serving.status()
    counts = workers.map((one) => one.connections)
    if (connections === most || performance.now() > until) break
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  assert.is(closed, 0)
  const mean = most / 3
  assert.is(
    counts.reduce((sum, one) => sum + one, 0),
    most,
  )
  assert.ok(Math.max(...counts) <= mean * 1.3, `${counts}`)
  assert.is((await serving.status()).counters['workers.refused'] ?? 0, 0)
  console.log(`# burst of ${most}: ${counts.join(', ')}`)
  for (const socket of sockets) socket.destroy()
  assert.is(await serving.stop(), 0)
})

test('workers that are full: newcomers are refused by them, or wait with the kernel where the listener says so', async () => {
  for (const whenFull of ['refuse', 'pause']) {
    const limits = { connections: 2, whenFull }
    const serving = await Serving.start(folder, [
      '--config',
      config({ listen: local, workers: 2, limits }),
      '--eval',
      'line => line',
    ])
    const inside = []
    for (let i = 0; i < 4; i++) {
      const peer = await Peer.open(serving.port)
      await peer.echoes('in')
      inside.push(peer)
    }
    const fifth = new Peer(serving.port)
    fifth.send('fifth\n')
    if (whenFull === 'refuse') {
      await fifth.over
      assert.is(fifth.heard, '')
    } else {
      await serving.status()
      assert.is(fifth.heard, '')
      ;(inside[0] as Peer).leave()
      await fifth.hears('fifth\n')
    }
    for (const peer of [...inside, fifth]) peer.leave()
    assert.is(await serving.stop(), 0)
  }
})

test('peers wait while there is no worker at all, and are served by the next', async () => {
  const serving = await Serving.start(folder, [
    '--config',
    config({ listen: local, workers: { count: 1 } }),
    '--eval',
    'line => line',
  ])
  const [pid = 0] = await serving.pids()
  process.kill(pid, 'SIGKILL')
  await eventually(() => !isAlive(pid), 'it is gone')
  const peers = await Promise.all(Array.from({ length: 200 }, () => Peer.open(serving.port)))
  await Promise.all(peers.map((peer) => peer.echoes('patience')))
  for (const peer of peers) peer.leave()
  assert.is(await serving.stop(), 0)
})

test.after(() => {
  killAll()
  endLoads()
  folder.remove()
})
test.run()
