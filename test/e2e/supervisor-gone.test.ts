// time limit: 120 s
/** The supervisor is killed: its workers end by themselves, whatever their handlers do. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { killAll } from '../support/command.js'
import { eventually, Peer } from '../support/faults.js'
import { Folder, isAlive, Serving } from '../support/workers.js'

const folder = new Folder()
const handler = `line => {
  if (line === 'hang') for (;;);
  if (line === 'slow') return new Promise((resolve) => setTimeout(resolve, 6000, 'slow ' + process.pid))
  return line + ' ' + process.pid
}`

for (const balance of ['round-robin', 'kernel'] as const) {
  test(`F115 a worker whose handler hangs is gone after its supervisor, and the port is free (${balance})`, async () => {
    const workers = { count: 2, balance, stuckMs: 600_000 }
    const config = folder.write(`${balance}.json`, { listen: 'tcp://127.0.0.1:0', workers })
    const serving = await Serving.start(folder, ['--config', config, '--eval', handler])
    const pids = await serving.pids()
    const peer = await Peer.open(serving.port)
    await peer.send('x\n').hears('x ')
    const hung = Number(peer.heard.trim().split(' ')[1])
    assert.ok(pids.includes(hung))
    peer.send('hang\n')
    const began = performance.now()
    serving.command.child.kill('SIGKILL')
    await serving.command.ended
    await eventually(() => !isAlive(hung), 'the one that hangs is gone', 30_000)
    console.log(`# ${balance}: gone after ${Math.round(performance.now() - began)} ms`)
    await eventually(() => !pids.some(isAlive), 'and the other one', 30_000)
    peer.leave()
    const again = await Serving.start(folder, [
      '--listen',
      `tcp://127.0.0.1:${serving.port}`,
      '--workers',
      '2',
      '--eval',
      handler,
    ])
    assert.is(await again.stop(), 0)
  })
}

test('F115 a worker whose loop goes round finishes what it has begun, longer than the watchdog waits for one that hangs', async () => {
  const config = folder.write('finishes.json', {
    listen: 'tcp://127.0.0.1:0',
    workers: 2,
    drain: { timeoutMs: 60_000 },
  })
  const serving = await Serving.start(folder, ['--config', config, '--eval', handler])
  const pids = await serving.pids()
  const peer = await Peer.open(serving.port)
  await peer.send('x\n').hears('x ')
  peer.send('slow\n')
  serving.command.child.kill('SIGKILL')
  await peer.hears('slow ')
  await peer.over
  assert.is(peer.error, undefined)
  peer.leave()
  await eventually(() => !pids.some(isAlive), 'no worker is left', 30_000)
})

test.after(() => {
  killAll()
  folder.remove()
})
test.run()
