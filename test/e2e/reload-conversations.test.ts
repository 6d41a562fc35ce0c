// time limit: 420 s
/** What becomes of those who are connected: over reloads, over upgrades, and over reloads by the dozen. */
import { once as onceEvent } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { WebSocket } from 'ws'
import { gaidaros, killAll } from '../support/command.js'
import { eventually, Peer } from '../support/faults.js'
import { Folder, isAlive, once, Serving, type Status } from '../support/workers.js'

const folder = new Folder()
const local = 'tcp://127.0.0.1:0'
const echoing = 'export default (line) => line + " " + process.pid\n'
const successors: number[] = []
let files = 0
const name = (what: string) => `${what}-${++files}`

interface Set {
  readonly serving: Serving
  readonly config: string
  readonly handler: string
}

async function serving(given: object, source = echoing): Promise<Set> {
  const handler = folder.write(`${name('handler')}.mjs`, source)
  const config = folder.write(`${name('config')}.json`, { listen: local, handler, ...given })
  return { serving: await Serving.start(folder, ['--config', config]), config, handler }
}

async function reload({ control }: Serving): Promise<void> {
  const command = gaidaros(['reload', '--control', control], { cwd: folder.path, limitMs: 60_000 })
  assert.is(await command.ended, 0, command.stderr)
}

const peersOf = ({ port }: Serving, count: number) => Promise.all(Array.from({ length: count }, () => Peer.open(port)))

/** The last answer's process. */
async function asks(peer: Peer, text: string): Promise<string> {
  await peer.send(`${text}\n`).hears(`${text} `)
  const [, pid = ''] = peer.heard.match(new RegExp(`^${text} (\\d+)$`, 'm')) ?? []
  return pid
}

const kinds = [
  ['in the process itself', undefined],
  ['one worker', { count: 1 }],
  ['two workers', 2],
  ['two workers that accept for themselves', { count: 2, balance: 'kernel' }],
] as const

for (const [what, workers] of kinds) {
  test(`F113 a reload ends no conversation, idle or busy, and newcomers go to the new generation (${what})`, async () => {
    const own = await serving(workers === undefined ? {} : { workers })
    const peers = await peersOf(own.serving, 8)
    const idle = await Peer.open(own.serving.port)
    const homes = await Promise.all(peers.map((peer, i) => asks(peer, `first-${i}`)))
    const idleHome = await asks(idle, 'idle')
    for (let round = 0; round < 2; round++) {
      await reload(own.serving)
      for (const [i, peer] of peers.entries())
        assert.is(await asks(peer, `r${round}-${i}`), homes[i], 'by the process that has it')
      const newcomer = await once(own.serving.port, 'new')
      assert.not.ok(homes.includes(newcomer.split(' ')[1] as string), 'a newcomer is served by a new one')
    }
    const status = await own.serving.status()
    assert.is(status.connections, 9)
    const former = status.workers.filter(({ state }) => state === 'draining')
    assert.is(
      former.reduce((sum, { connections }) => sum + connections, 0),
      9,
      'status shows who has them',
    )
    assert.is(await asks(idle, 'still'), idleHome)
    for (const peer of [...peers, idle]) {
      assert.is(peer.isOver, false)
      peer.leave()
    }
    // With its last connection a generation is gone.
    await own.serving.settles(typeof workers === 'object' ? workers.count : (workers ?? 1))
    assert.is(await own.serving.stop(), 0)
  })

  test(`F113 after drain.reloadMs the old generation is ended in order, with a time to finish (${what})`, async () => {
    const slow =
      'export default (line) => new Promise((resolve) => setTimeout(resolve, line === "slow" ? 3000 : 0, line + " " + process.pid))\n'
    const own = await serving({ ...(workers && { workers }), drain: { reloadMs: 1_500, timeoutMs: 60_000 } }, slow)
    const [idle, busy] = (await peersOf(own.serving, 2)) as [Peer, Peer]
    await asks(idle, 'hello')
    const home = await asks(busy, 'hello')
    await reload(own.serving)
    busy.send('slow\n')
    await Promise.all([idle.over, busy.over])
    assert.is(idle.error ?? busy.error, undefined, 'an orderly end')
    assert.match(busy.heard, new RegExp(`^slow ${home}$`, 'm'), 'what was read is answered')
    idle.leave()
    busy.leave()
    await own.serving.settles(typeof workers === 'object' ? workers.count : (workers ?? 1))
    const { counters } = await own.serving.status()
    assert.is(counters['closed.RELOADED'], 2)
    assert.is(counters['closed.SHUTDOWN'], undefined)
    assert.is(await own.serving.stop(), 0)
  })
}

test('a WebSocket client of the old generation is told 1012, so that it comes again', async () => {
  const own = await serving({ listen: 'ws://127.0.0.1:0', drain: { reloadMs: 500 } })
  const client = new WebSocket(`ws://127.0.0.1:${own.serving.port}`)
  const closed = onceEvent(client, 'close')
  await onceEvent(client, 'open')
  await reload(own.serving)
  const [code, reason] = await closed
  assert.equal([code, String(reason)], [1012, 'RELOADED'])
  assert.is(await own.serving.stop(), 0)
})

for (const [what, workers] of [
  ['in the process itself', undefined],
  ['two workers', 2],
] as const) {
  test(`F113 sixty SIGHUPs with peers that stay: few reloads, a bounded number of processes, the last word counts (${what})`, async () => {
    const own = await serving(workers === undefined ? {} : { workers })
    const count = workers ?? 1
    const peers: Peer[] = []
    let most = 0
    let isOver = false
    const watch = (async () => {
      while (!isOver) {
        most = Math.max(most, childrenOf(own.serving.command.pid).length)
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
    })()
    for (let i = 0; i < 60; i++) {
      own.serving.command.child.kill('SIGHUP')
      if (i % 10 === 0) {
        const peer = await Peer.open(own.serving.port)
        await asks(peer, `peer-${i}`)
        peers.push(peer)
      }
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    folder.write(own.handler.split('/').at(-1) as string, 'export default (line) => line + " last"\n')
    await reload(own.serving)
    assert.is(await once(own.serving.port, 'x'), 'x last')
    isOver = true
    await watch
    const started = own.serving.command.stderr.match(/reload\.started/g)?.length ?? 0
    assert.ok(started < 40, `${started} reloads`)
    assert.ok(most <= 4 * count, `${most} processes of ${count} workers`)
    console.log(`# ${what}: 60 SIGHUPs, ${started} reloads, at most ${most} worker processes`)
    for (const peer of peers) peer.leave()
    await own.serving.settles(count)
    assert.is(await own.serving.stop(), 0)
  })

  test(`F113 a handler that never comes to an end of loading is named, and given up for the next reload (${what})`, async () => {
    const own = await serving(workers === undefined ? {} : { workers })
    const file = own.handler.split('/').at(-1) as string
    folder.write(file, 'await new Promise(() => {})\nexport default (line) => line\n')
    own.serving.command.child.kill('SIGHUP')
    await own.serving.command.shows(`still loading ./${file}`)
    assert.match(await once(own.serving.port, 'x'), /^x \d+$/, 'meanwhile all is as it was')
    folder.write(file, 'export default (line) => line + " repaired"\n')
    await reload(own.serving)
    assert.is(await once(own.serving.port, 'x'), 'x repaired')
    assert.match(own.serving.command.stderr, /reload\.failed.*another reload was asked for/)
    assert.is(await own.serving.stop(), 0)
  })

  test(`SIGUSR2 ends no conversation: the old program serves it on, and leaves after the last one (${what})`, async () => {
    const own = await serving(workers === undefined ? {} : { workers })
    const peers = await peersOf(own.serving, 4)
    const homes = await Promise.all(peers.map((peer, i) => asks(peer, `first-${i}`)))
    own.serving.command.child.kill('SIGUSR2')
    const [, pid] = await own.serving.command.shows(/upgrade\.started pid=(\d+)/)
    successors.push(Number(pid))
    await own.serving.command.shows('upgrade.finished')
    await eventually(() => /^ready\n[\s\S]*^ready\n/m.test(own.serving.command.stdout), 'both were ready', 60_000)
    for (const [i, peer] of peers.entries()) assert.is(await asks(peer, `after-${i}`), homes[i])
    assert.not.ok(homes.includes((await once(own.serving.port, 'new')).split(' ')[1] as string))
    assert.ok(isAlive(own.serving.command.pid))
    for (const peer of peers) {
      assert.is(peer.isOver, false)
      peer.leave()
    }
    await eventually(() => !isAlive(own.serving.command.pid), 'the old program has left', 30_000)
    const stopped = gaidaros(['stop', '--control', own.serving.control], { cwd: folder.path })
    assert.is(await stopped.ended, 0)
    await eventually(() => !isAlive(Number(pid)), 'the new program has left', 30_000)
  })
}

test('the first start has workers.readyMs too, and names what hangs', async () => {
  const handler = folder.write('hangs.mjs', 'await new Promise(() => {})\nexport default (line) => line\n')
  const config = folder.write('hangs.json', { listen: local, handler, workers: { count: 2, readyMs: 8_000 } })
  const { command } = new Serving(folder, ['--config', config])
  await command.shows('still loading ./hangs.mjs')
  assert.is(await command.ended, 1)
  assert.match(command.stderr, /not ready within 8000 ms \(workers\.readyMs\).*\[NOT_READY\]/)
})

test('a removed listener is unbound at once and its conversations go on; its socket file goes at the first reload (in the process itself)', async () => {
  const path = folder.at('removed.sock')
  const handler = folder.write(`${name('handler')}.mjs`, echoing)
  const write = (listeners: object) => folder.write('removed.json', { listeners, handler })
  write({ stays: { endpoint: local }, goes: { endpoint: local }, file: { endpoint: `unix:${path}` } })
  const own = await Serving.start(folder, ['--config', './removed.json'])
  const { goes = 0, stays = 0 } = own.ports
  const peer = await Peer.open(goes)
  const home = await asks(peer, 'before')
  assert.match(await once(path, 'x'), /^x \d+$/)
  write({ stays: { endpoint: local } })
  await reload(own)
  await eventually(() => !existsSync(path), 'the file is gone')
  const refused = await once(goes, 'x').catch((error) => error.code)
  assert.is(refused, 'ECONNREFUSED')
  assert.is(await asks(peer, 'after'), home)
  assert.match(await once(stays, 'x'), /^x \d+$/)
  peer.leave()
  assert.is(await own.stop(), 0)
})

test('SIGTERM while an old generation serves its last connections is a stop of all', async () => {
  const own = await serving({ workers: 2 })
  const peers = await peersOf(own.serving, 4)
  await Promise.all(peers.map((peer, i) => asks(peer, `first-${i}`)))
  await reload(own.serving)
  own.serving.command.child.kill('SIGTERM')
  await Promise.all(peers.map((peer) => peer.over))
  for (const peer of peers) {
    assert.is(peer.error, undefined)
    peer.leave()
  }
  assert.is(await own.serving.command.ended, 0)
})

test('delayMs of SIGTERM: not ready, and still accepting', async () => {
  const own = await serving({ workers: 2, drain: { delayMs: 4_000 } })
  own.serving.command.child.kill('SIGTERM')
  const until = async (state: string): Promise<Status> => {
    for (;;) {
      const status = await own.serving.status()
      if (status.state === state) return status
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }
  await until('draining')
  assert.match(await once(own.serving.port, 'late'), /^late \d+$/)
  assert.is(await own.serving.command.ended, 0)
})

/** Processes that it has started and that live. */
function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

test.after(() => {
  killAll()
  for (const pid of successors) if (isAlive(pid)) process.kill(pid, 'SIGKILL')
  folder.remove()
})
test.run()
