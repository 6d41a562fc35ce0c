/** Long runs over several processes: a worker killed every 200 ms for a minute, and 50 reloads under load, with the ledger. */
import { killAll } from '../support/command.js'
import {
  checkLedger,
  checkNothingLost,
  endLoads,
  Folder,
  Load,
  ledgerHandler,
  lostOf,
  Serving,
} from '../support/workers.js'
import type { Figure } from './run.js'

const local = 'tcp://127.0.0.1:0'

async function start(folder: Folder, name: string, workers: object): Promise<{ serving: Serving; ledger: string }> {
  const ledger = `ledger-${name}`
  folder.write(ledger, '')
  const handler = folder.write(`handler-${name}.mjs`, ledgerHandler)
  const config = folder.write(`${name}.json`, { listen: local, workers, handler })
  const env = { LEDGER: folder.at(ledger) }
  return { serving: await Serving.start(folder, ['--config', config], { env, limitMs: 900_000 }), ledger }
}

export async function kill(isQuick: boolean): Promise<readonly Figure[]> {
  const seconds = isQuick ? 3 : 60
  const folder = new Folder()
  const { serving, ledger } = await start(folder, 'kill', { count: 3 })
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
  const { counters } = await serving.status()
  await serving.stop()
  tidy(folder)
  return [
    {
      what: `${killed} workers killed in ${seconds} s under load: connects refused`,
      seen: `${load.connectErrors.length} of ${load.opened}`,
      goal: '0',
      isMet: load.connectErrors.length === 0,
    },
    {
      what: 'sent, handled, answered; on closed connections unknown; answered and not handled, doubled',
      seen: `${load.sent.size}, ${handled.size}, ${load.acked.size}; ${load.unknown.length}; 0, 0`,
      goal: 'unknown: one for each client and kill at most',
      isMet: load.unknown.length <= 24 * killed,
    },
    {
      what: 'workers lost and replaced',
      seen: String(counters['workers.lost']),
      goal: String(killed),
      isMet: counters['workers.lost'] === killed,
    },
  ]
}

const RELOADS_AT = 5_000

export async function reload(isQuick: boolean): Promise<readonly Figure[]> {
  const times = isQuick ? 2 : 50
  const folder = new Folder()
  const { serving, ledger } = await start(folder, 'reload', { count: 2 })
  // A little more than what is asked for: what it falls behind while workers begin, it makes good for.
  const load = new Load(serving.port, 48, { perSecond: RELOADS_AT * 1.05, perConnection: 500 })
  const began = performance.now()
  for (let i = 0; i < times; i++) {
    const { ok, error } = await serving.ask('reload')
    if (!ok) throw new Error(`reload ${i + 1}: ${error}`)
  }
  const seconds = (performance.now() - began) / 1_000
  const rate = Math.round(load.acked.size / seconds)
  await load.end()
  const handled = checkLedger(load, folder.read(ledger))
  const lost = lostOf(load, handled)
  if (lost.length === 0 && load.connectErrors.length === 0) checkNothingLost(load, handled)
  const { counters } = await serving.status()
  await serving.stop()
  tidy(folder)
  return [
    {
      what: `${times} reloads in ${seconds.toFixed(1)} s: connects refused, messages lost`,
      seen: `${load.connectErrors.length} of ${load.opened}, ${lost.length} of ${load.sent.size}`,
      goal: '0, 0',
      isMet: load.connectErrors.length === 0 && lost.length === 0 && counters.reloads === times,
    },
    {
      what: 'said after a goodbye and not taken (their senders saw an orderly end, and may say it again)',
      seen: `${load.unknown.length - lost.length}; ${load.goodbyes} other goodbyes`,
      goal: 'fewer than goodbyes',
      isMet: load.unknown.length - lost.length <= 2 + load.goodbyes,
    },
    {
      what: 'answered a second meanwhile',
      seen: String(rate),
      goal: `at least ${RELOADS_AT}`,
      isMet: rate >= RELOADS_AT,
    },
  ]
}

function tidy(folder: Folder): void {
  endLoads()
  killAll()
  folder.remove()
}
