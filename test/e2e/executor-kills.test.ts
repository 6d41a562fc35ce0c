// time limit: 120 s
/**
 * Members of a pool killed every 200 ms under load, with the ledger: nothing acknowledged is lost, nothing is handled twice.
 *
 * A few seconds here; `npm run ledger` runs each for a minute (LEDGER_SECONDS).
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { root } from '../support/command.js'
import { eventually, Peer, serve, stopAll } from '../support/faults.js'
import { Ledger } from '../support/message-ledger.js'

const seconds = Number(process.env.LEDGER_SECONDS ?? 4)
const folder = mkdtempSync(join(tmpdir(), 'gk-'))
test.after(async () => {
  await stopAll()
  rmSync(folder, { recursive: true })
})

for (const type of ['process-pool', 'thread-pool'] as const) {
  for (const whenLost of ['close', 'reopen'] as const) {
    test(`${type}, ${whenLost}: killed every 200 ms for ${seconds} s`, async () => {
      const file = join(folder, `${type}-${whenLost}`)
      process.env.LEDGER_FILE = file
      const { port, server, seen } = await serve({
        handler: join(root, 'build/fixtures/ledger-handler.js'),
        executor: { type, size: 3, whenLost },
      })
      const places = () => server.listeners.get('default')?.plan.executors[0]?.load().places ?? []
      const ledger = new Ledger(port)
      const clients = Array.from({ length: 20 }, () => ledger.client())
      const until = performance.now() + seconds * 1_000
      let kills = 0
      const killed = new Set<string>()
      while (performance.now() < until) {
        await new Promise((resolve) => setTimeout(resolve, 200))
        // One that was killed and has not been missed yet cannot be killed again.
        const ready = places().filter(({ name, state }) => state === 'ready' && !killed.has(name))
        const one = ready[kills % Math.max(1, ready.length)]
        if (one === undefined) continue
        kills++
        if (type === 'process-pool') killed.add(one.name)
        if (type === 'process-pool') process.kill(Number(one.name.split(' ')[1]), 'SIGKILL')
        else {
          const killer = await Peer.open(port)
          killer.send('die\n')
          await killer.over
          killer.leave()
        }
      }
      ledger.end()
      await Promise.all(clients)
      const sums = ledger.check(readFileSync(file, 'utf8'))
      console.log(`# ${type}, ${whenLost}: ${kills} kills; ${JSON.stringify(sums)}`)
      assert.ok(kills > 0 && sums.acked > 0 && sums.broken > 0, 'there was load, and there were kills')
      await eventually(() => seen.filter(({ name }) => name === 'executor.lost').length === kills, 'each was missed')
      // Every connection ended for a reason that was said.
      const reasons = new Set(
        seen.flatMap(({ name, event }) =>
          name === 'connection.closed' ? [(event as { reason: { code: string } }).reason.code] : [],
        ),
      )
      for (const code of reasons) assert.ok(['LOST', 'OVERLOADED', 'ENDED', 'RESET'].includes(code), code)
      await eventually(() => places().filter(({ state }) => state === 'ready').length === 3, 'the pool is whole again')
      const last = await Peer.open(port)
      await last.send('0 0 0 x\n').hears('0 0 0\n')
      last.leave()
      await server.stop()
    })
  }
}

test.run()
