// time limit: 420 s
/** Reload and takeover under load: F75 to F77 of the catalogue. No port is unbound, nothing that was accepted is lost. */
import { createSocket } from 'node:dgram'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros, killAll } from '../support/command.js'
import { eventually } from '../support/faults.js'
import {
  checkLedger,
  checkNothingLost,
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
const name = (what: string) => `${what}-${++files}`
/** Programs that took over: nobody's children. */
const successors: number[] = []
const answering = (text: string) => `export default (line) => line + ' ${text}'\n`

/** Asks for a reload, and waits for its answer. */
async function reload(serving: Serving): Promise<{ status: number | string; out: string; err: string }> {
  const command = gaidaros(['reload', '--control', serving.control], { cwd: folder.path })
  const status = await command.ended
  return { status, out: command.stdout, err: command.stderr }
}

for (const [what, workers] of [
  ['two workers', 2],
  ['two workers that accept for themselves', { count: 2, balance: 'kernel' }],
  ['one worker', { count: 1 }],
  ...(hasReusePort ? [['two workers with a socket each', { count: 2, balance: 'reuse-port' }] as const] : []),
] as const) {
  test(`F75 reloads under load (${what}): no connect refused, nothing lost, nothing doubled`, async () => {
    const ledger = folder.write(name('ledger'), '')
    const handler = folder.write(`${name('handler')}.mjs`, ledgerHandler)
    const file = folder.write(`${name('config')}.json`, { listen: local, workers, handler })
    const serving = await Serving.start(folder, ['--config', file], { env: { LEDGER: ledger } })
    const load = new Load(serving.port, 12)
    const rounds = 5
    for (let round = 0; round < rounds; round++) {
      const before = load.acked.size
      // By the signal and by the command in turn.
      if (round % 2 === 0) {
        const finished = serving.command.shows(new RegExp(`reload\\.finished generation=${round + 2}`))
        serving.command.child.kill('SIGHUP')
        await finished
      } else assert.equal(await reload(serving), { status: 0, out: 'reloaded\n', err: '' })
      await eventually(() => load.acked.size > before + 50, 'the service goes on')
    }
    await serving.settles(typeof workers === 'number' ? workers : workers.count)
    await load.end()
    checkNothingLost(load, checkLedger(load, folder.read(ledger.split('/').at(-1) as string)))
    assert.equal(load.unknown, [], 'a reload ends no conversation')
    assert.ok(new Set(load.acked.values()).size >= rounds, 'by workers of every generation')
    console.log(
      `# ${what}: ${rounds} reloads, ${load.sent.size} sent, ${load.acked.size} answered, ${load.goodbyes} goodbyes`,
    )
    assert.is(await serving.stop(), 0)
  })
}

test('F75 a server in the process itself hands on to a worker, and is reloaded like any other from then on', async () => {
  const ledger = folder.write(name('ledger'), '')
  const handler = folder.write(`${name('handler')}.mjs`, ledgerHandler)
  const path = folder.at('own.sock')
  const file = folder.write(`${name('config')}.json`, {
    listeners: {
      net: { endpoint: 'tcp://localhost:0' },
      file: { endpoint: `unix:${path}` },
      udp: { endpoint: 'udp://127.0.0.1:0' },
    },
    handler,
    // A peer of datagrams never says that it is gone.
    drain: { udpMs: 1_000 },
  })
  const pidFile = folder.at('own.pid')
  const serving = await Serving.start(folder, ['--config', file, '--pid-file', pidFile], { env: { LEDGER: ledger } })
  const own = String(serving.command.pid)
  assert.is((await once(serving.port, 'before')).split(' ')[1], own)
  const inode = statSync(path).ino
  const load = new Load(serving.port, 8)
  for (let round = 1; round <= 3; round++) {
    assert.equal(await reload(serving), { status: 0, out: 'reloaded\n', err: '' })
    const [pid = 0] = await serving.settles(1)
    assert.is.not(String(pid), own)
    assert.is((await once(serving.port, `after-${round}`)).split(' ')[1], String(pid))
    assert.is((await once(path, `file-${round}`)).split(' ')[1], String(pid))
    const socket = createSocket('udp4')
    const heard = new Promise<string>((resolve) => socket.once('message', (message) => resolve(String(message))))
    socket.send(`udp-${round}`, serving.ports.udp as number, '127.0.0.1')
    assert.is((await heard).trim().split(' ')[1], String(pid))
    socket.close()
  }
  await load.end()
  const lines = folder
    .read(ledger.split('/').at(-1) as string)
    .split('\n')
    .filter((line) => /^\d+-/.test(line))
  checkNothingLost(load, checkLedger(load, lines.join('\n')))
  assert.is(statSync(path).ino, inode, 'the socket is the same all the time')
  assert.is(readFileSync(pidFile, 'utf8').trim(), own)
  const { counters } = await serving.status()
  assert.is(counters.reloads, 3)
  assert.is(await serving.stop(), 0)
  assert.is(existsSync(path), false)
  assert.is(existsSync(pidFile), false)
})

for (const [what, workers] of [
  ['in the process itself', undefined],
  ['with workers', 2],
] as const) {
  test(`F76 a broken configuration or handler leaves the old ones at work, and the fault is named (${what})`, async () => {
    const handler = folder.write(`${name('handler')}.mjs`, answering('old'))
    const good = { listen: local, handler, ...(workers === undefined ? {} : { workers }) }
    const file = folder.write(`${name('config')}.json`, good)
    const serving = await Serving.start(folder, ['--config', file])
    const before = await serving.status()
    const faults: [text: string | object, handler: string, expected: RegExp][] = [
      ['{ "listen": ', answering('new'), /UNREADABLE/],
      [
        { ...good, limits: { conections: 5 } },
        answering('new'),
        /limits.*conections.*nearest: `connections`.*\[UNKNOWN_KEY\]/s,
      ],
      [
        { ...good, listeners: { more: { endpoint: 'tcp://192.0.2.1:1' } } },
        answering('new'),
        /192\.0\.2\.1.*\[ADDRESS_NOT_AVAILABLE\]/s,
      ],
      [{ ...good, handler: './none.mjs' }, answering('new'), /none\.mjs/],
      [good, 'export default (line => { throw', /UNREADABLE/],
    ]
    for (const [text, source, expected] of faults) {
      folder.write(file.split('/').at(-1) as string, text)
      folder.write(handler.split('/').at(-1) as string, source)
      const { status, out, err } = await reload(serving)
      assert.is(status, 1)
      assert.is(out, '')
      assert.match(err, expected)
      assert.is(await once(serving.port, 'x'), 'x old')
    }
    assert.is(serving.command.stderr.match(/reload\.failed/g)?.length, faults.length)
    const after = await serving.status()
    assert.is(after.state, 'ready')
    assert.equal(
      after.workers?.map(({ pid }) => pid),
      before.workers?.map(({ pid }) => pid),
    )
    // One that dies meanwhile comes back with the configuration that is served, not with the broken one.
    folder.write(handler.split('/').at(-1) as string, answering('newer'))
    folder.write(file.split('/').at(-1) as string, '{ broken')
    if (workers !== undefined) {
      const [pid = 0] = await serving.pids()
      process.kill(pid, 'SIGKILL')
      await eventually(() => !isAlive(pid), 'it is gone')
      await serving.settles(workers)
    }
    folder.write(file.split('/').at(-1) as string, good)
    assert.is((await reload(serving)).status, 0)
    assert.is(await once(serving.port, 'x'), 'x newer')
    assert.is(await serving.stop(), 0)
  })

  test(`F77 listeners are added and removed by a reload; what stays is never unbound (${what})`, async () => {
    const handler = folder.write(`${name('handler')}.mjs`, answering('one'))
    const path = folder.at(`${name('sock')}.sock`)
    const write = (listeners: object, more: object = {}) =>
      folder.write('changing.json', { listeners, handler, ...(workers === undefined ? {} : { workers }), ...more })
    write({ stays: { endpoint: local }, goes: { endpoint: local } })
    const serving = await Serving.start(folder, ['--config', './changing.json'])
    const { stays = 0, goes = 0 } = serving.ports
    const load = new Load(stays, 4)
    folder.write(handler.split('/').at(-1) as string, answering('two'))
    write({ stays: { endpoint: local }, comes: { endpoint: `unix:${path}` } })
    assert.is((await reload(serving)).status, 0)
    assert.is(await once(stays, 'x'), 'x two')
    assert.is(await once(path, 'x'), 'x two')
    assert.equal((await serving.status()).listeners.map((one) => one.name).sort(), ['comes', 'stays'])
    let refused = ''
    await once(goes, 'x').catch((error) => {
      refused = error.code
    })
    assert.is(refused, 'ECONNREFUSED')
    // And away again.
    write({ stays: { endpoint: local } })
    assert.is((await reload(serving)).status, 0)
    assert.is(existsSync(path), false)
    await load.end()
    checkNothingLost(load, new Set())
    assert.is(await serving.stop(), 0)
  })
}

test('a reload that is asked for while the first one is under way follows it: nothing changed meanwhile is missed', async () => {
  const handler = folder.write(`${name('handler')}.mjs`, answering('one'))
  const file = folder.write(`${name('config')}.json`, { listen: local, handler })
  const serving = await Serving.start(folder, ['--config', file])
  const started = serving.command.shows(/reload\.started generation=1/)
  const followed = serving.command.shows(/reload\.finished generation=2/)
  serving.command.child.kill('SIGHUP')
  await started
  folder.write(handler.split('/').at(-1) as string, answering('two'))
  serving.command.child.kill('SIGHUP')
  await followed
  assert.is(await once(serving.port, 'hello'), 'hello two')
  assert.is(await serving.stop(), 0)
})

test('F77 a new worker that is never ready is ended, and everything is as before, what was newly bound too', async () => {
  const handler = folder.write(`${name('handler')}.mjs`, answering('old'))
  const workers = { count: 2, readyMs: 6_000 }
  const file = folder.write('never.json', { listeners: { net: { endpoint: local } }, workers, handler })
  const serving = await Serving.start(folder, ['--config', file])
  const before = await serving.pids()
  const load = new Load(serving.port, 4)
  // It loads, and then never comes to listen.
  const path = folder.at('never.sock')
  folder.write(
    'hangs.mjs',
    `import { definePlugin } from 'gaidaros'
export default definePlugin({ name: 'hangs', setup: (registry) => void registry.transport({
  name: 'hangs', schemes: ['hangs'],
  capabilities: () => ({ kind: 'stream', ordered: true, reliable: true, halfClose: true, reset: true, backpressure: 'none', upgrade: [] }),
  listen: () => new Promise(() => {}),
}) })\n`,
  )
  folder.write('never.json', {
    plugins: ['./hangs.mjs'],
    listeners: { net: { endpoint: local }, more: { endpoint: `unix:${path}` }, hangs: { endpoint: 'hangs:x' } },
    workers,
    handler,
  })
  const { status, err } = await reload(serving)
  assert.is(status, 1)
  assert.match(err, /not ready within 6000 ms \(workers\.readyMs\).*\[NOT_READY\]/)
  assert.equal(await serving.settles(2), before)
  assert.is(existsSync(path), false)
  assert.is(await once(serving.port, 'x'), 'x old')
  await load.end()
  checkNothingLost(load, new Set())
  assert.is(await serving.stop(), 0)
})

test('a reload may change the number of workers, and a listener from plain to TLS on the same port is refused to none', async () => {
  const handler = folder.write(`${name('handler')}.mjs`, answering('x'))
  const file = folder.write('count.json', { listen: local, workers: 1, handler })
  folder.write('count.json', { listen: local, workers: { count: 1 }, handler })
  const serving = await Serving.start(folder, ['--config', file])
  for (const count of [3, 1]) {
    folder.write('count.json', { listen: local, workers: { count }, handler })
    assert.is((await reload(serving)).status, 0)
    assert.is((await serving.settles(count)).length, count)
    assert.is(await once(serving.port, 'x'), 'x x')
  }
  assert.is(await serving.stop(), 0)
})

test('a signal to end during a reload ends everything', async () => {
  const file = folder.write(`${name('config')}.json`, { listen: local, workers: 2 })
  const serving = await Serving.start(folder, ['--config', file])
  const pids = await serving.pids()
  serving.command.child.kill('SIGHUP')
  await serving.command.shows('reload.started')
  serving.command.child.kill('SIGTERM')
  assert.is(await serving.command.ended, 0)
  await eventually(() => !pids.some(isAlive), 'no worker is left')
})

for (const [what, workers] of [
  ['in the process itself', undefined],
  ['with workers', 2],
] as const) {
  test(`SIGUSR2: the program as it now stands takes over, with its ports, socket files and pid file (${what})`, async () => {
    const ledger = folder.write(name('ledger'), '')
    const handler = folder.write(`${name('handler')}.mjs`, ledgerHandler)
    const path = folder.at(`${name('up')}.sock`)
    const file = folder.write(`${name('config')}.json`, {
      listeners: {
        net: { endpoint: 'tcp://localhost:0' },
        file: { endpoint: `unix:${path}` },
        gone: { endpoint: local },
      },
      handler,
      ...(workers === undefined ? {} : { workers }),
    })
    const pidFile = folder.at(`${name('up')}.pid`)
    const serving = await Serving.start(folder, ['--config', file, '--pid-file', pidFile], { env: { LEDGER: ledger } })
    const gone = serving.ports.gone as number
    const inode = statSync(path).ino
    const load = new Load(serving.port, 8)
    await eventually(() => load.acked.size > 50, 'under load')
    folder.write(file.split('/').at(-1) as string, {
      listeners: { net: { endpoint: 'tcp://localhost:0' }, file: { endpoint: `unix:${path}` } },
      handler,
      ...(workers === undefined ? {} : { workers }),
    })
    serving.command.child.kill('SIGUSR2')
    const [, pid] = await serving.command.shows(/upgrade\.started pid=(\d+)/)
    successors.push(Number(pid))
    await serving.command.shows('upgrade.finished')
    // The output of both is one.
    await eventually(() => /^ready\n[\s\S]*^ready\n/m.test(serving.command.stdout), 'both were ready')
    const next = Number(readFileSync(pidFile, 'utf8'))
    assert.is(next, Number(pid))
    const before = load.acked.size
    await eventually(() => !isAlive(serving.command.pid), 'the old program has left', 20_000)
    await eventually(() => load.acked.size > before + 50, 'the service goes on')
    assert.is.not(next, serving.command.pid)
    const status = await serving.status()
    assert.is(status.pid, Number(readFileSync(pidFile, 'utf8')))
    assert.is(statSync(path).ino, inode)
    assert.match(await once(path, 'file'), /^file \d+$/)
    let refused = ''
    await once(gone, 'x').catch((error) => {
      refused = error.code
    })
    assert.is(refused, 'ECONNREFUSED', 'what nobody serves any more is not held either')
    await load.end()
    const lines = folder
      .read(ledger.split('/').at(-1) as string)
      .split('\n')
      .filter((line) => /^\d+-/.test(line))
    checkNothingLost(load, checkLedger(load, lines.join('\n')))
    // Once more, from the one that took over; and a broken one is refused.
    folder.write(handler.split('/').at(-1) as string, 'broken broken')
    process.kill(status.pid, 'SIGUSR2')
    await eventually(() => /upgrade\.failed .*NOT_READY/.test(serving.command.stderr), 'it was refused')
    assert.match(await once(path, 'still'), /^still \d+$/)
    const stopped = gaidaros(['stop', '--control', serving.control], { cwd: folder.path })
    assert.is(await stopped.ended, 0)
    await serving.command.ended
    assert.is(existsSync(path), false)
    assert.is(existsSync(pidFile), false)
  })
}

test.after(() => {
  killAll()
  endLoads()
  for (const pid of successors) if (isAlive(pid)) process.kill(pid, 'SIGKILL')
  folder.remove()
})
test.run()
