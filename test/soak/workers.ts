/**
 * The long versions of what npm test does shortly: a worker killed every 200 ms for a minute, and 50 reloads under load.
 *
 *   npm run soak                   both
 *   npm run soak -- kill 20        for 20 s
 *   npm run soak -- reload 10      ten times
 */
import { killAll } from '../support/command.js'
import { checkLedger, checkNothingLost, endLoads, Folder, Load, ledgerHandler, Serving } from '../support/workers.js'

const [which = 'all', amount] = process.argv.slice(2)
const folder = new Folder()
const local = 'tcp://127.0.0.1:0'

async function start(name: string, workers: object): Promise<{ serving: Serving; ledger: string }> {
  const ledger = `ledger-${name}`
  folder.write(ledger, '')
  const handler = folder.write(`handler-${name}.mjs`, ledgerHandler)
  const config = folder.write(`${name}.json`, { listen: local, workers, handler })
  const env = { LEDGER: folder.at(ledger) }
  return { serving: await Serving.start(folder, ['--config', config], { env, limitMs: 900_000 }), ledger }
}

async function kill(seconds: number): Promise<void> {
  const { serving, ledger } = await start('kill', { count: 3 })
  const load = new Load(serving.port, 24, { pauseMs: 1 })
  const until = performance.now() + seconds * 1_000
  let killed = 0
  while (performance.now() < until) {
    const pids = await serving.pids()
    const victim = pids[killed % Math.max(1, pids.length)]
    if (victim !== undefined) {
      process.kill(victim, 'SIGKILL')
      killed++
    }
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  await serving.settles(3)
  await load.end()
  const handled = checkLedger(load, folder.read(ledger))
  if (load.connectErrors.length > 0) throw new Error(`refused: ${load.connectErrors}`)
  if (load.unknown.length > 24 * killed) throw new Error(`${load.unknown.length} unknown for ${killed} killed`)
  const { counters } = await serving.status()
  await serving.stop()
  console.log(
    `kill: ${killed} workers in ${seconds} s, ${load.opened} connections, ${load.sent.size} sent, ${handled.size} handled, ` +
      `${load.acked.size} answered, ${load.unknown.length} unknown, 0 refused, 0 doubled; ${counters['workers.lost']} lost workers replaced`,
  )
}

async function reload(times: number): Promise<void> {
  const { serving, ledger } = await start('reload', { count: 2 })
  const load = new Load(serving.port, 24, { pauseMs: 1, perConnection: 500 })
  const began = performance.now()
  for (let i = 0; i < times; i++) {
    const { ok, error } = await serving.ask('reload')
    if (!ok) throw new Error(`reload ${i + 1}: ${error}`)
  }
  const seconds = (performance.now() - began) / 1_000
  const rate = Math.round(load.acked.size / seconds)
  await load.end()
  checkNothingLost(load, checkLedger(load, folder.read(ledger)))
  await serving.stop()
  console.log(
    `reload: ${times} in ${seconds.toFixed(1)} s at ${rate} messages/s: ${load.sent.size} sent, ${load.acked.size} answered, ` +
      `${load.unknown.length} said after a goodbye, ${load.goodbyes} goodbyes, 0 refused, 0 lost, 0 doubled`,
  )
}

try {
  if (which === 'kill' || which === 'all') await kill(which === 'all' ? 60 : Number(amount ?? 60))
  if (which === 'reload' || which === 'all') await reload(which === 'all' ? 50 : Number(amount ?? 50))
} finally {
  endLoads()
  killAll()
  folder.remove()
}
