// time limit: 400 s
/** A connection's whole life against the model, handled by the node of a cluster; see expect.ts. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros } from '../support/command.js'
import { endAll, noNats, startNats } from '../support/nats.js'
import { skip } from '../support/skip.js'
import { folder, handlers, runCell } from './groups.js'
import { overCluster } from './matrix.js'

const title = 'F100 random scripts by a node of a cluster are answered as the model says'
test(title, async () => {
  if (noNats !== undefined) return skip(title, noNats)
  const { url } = await startNats()
  const own = ['--cluster', url, '--set', 'cluster.name=model', '--set', 'cluster.lostMs=20000']
  const named = ['--set', `handlers=${JSON.stringify([handlers])}`]
  const node = gaidaros(['node', ...own, ...named], { limitMs: 300_000 })
  await node.shows(/^ready$/m)
  await runCell({ ...overCluster, executor: { type: 'cluster', servers: url, name: 'model', lostMs: 20_000 } })
  node.child.kill('SIGTERM')
  assert.is(await node.ended, 0, node.stderr)
})
test.after(() => endAll(folder))
test.run()
