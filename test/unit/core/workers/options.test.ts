import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { hasReusePort } from '#src/core/reuse-port.js'
import { balances, misfitOfWorkers, refuseUnsupported, settleWorkers } from '#src/core/workers/options.js'

const versions = {
  '20.19.0': false,
  '20.20.2': false,
  '22.11.0': false,
  '22.12.0': true,
  '23.0.1': false,
  '23.1.0': true,
}

test('reuse-port is refused by name where this Node would ignore it, and by version alone', () => {
  for (const [version, can] of Object.entries({ ...versions, '24.0.0': true, '26.1.0': true })) {
    assert.is(hasReusePort(version), can, version)
    for (const balance of balances) {
      const isRefused = balance === 'reuse-port' && !can
      const refuse = () => refuseUnsupported(balance, version)
      if (isRefused)
        assert.throws(refuse, (error: Error) => error.message.includes(`this is ${version}; take \`kernel\``))
      else refuse()
    }
  }
})

test('workers: how many, and what is no number of them', () => {
  assert.is(settleWorkers(undefined), undefined)
  assert.is(settleWorkers(1), undefined)
  assert.is(settleWorkers({ count: 1 })?.count, 1)
  assert.is(settleWorkers(3)?.balance, 'round-robin')
  assert.ok((settleWorkers('auto')?.count ?? 0) >= 1)
  for (const good of [1, 1_024, 'auto', { count: 2 }, { balance: 'kernel' }, { stuckMs: 100 }])
    assert.is(misfitOfWorkers(good), undefined, JSON.stringify(good))
  for (const [bad, what] of [
    [0, /from 1 to 1024/],
    [1_025, /from 1 to 1024/],
    [1.5, /from 1 to 1024/],
    ['many', /"auto"/],
    [[2], /from 1 to 1024/],
    [{ cuont: 2 }, /no key `cuont`; nearest: `count`/],
    [{ count: 0 }, /count to be a number/],
    [{ balance: 'fair' }, /balance to be one of round-robin, kernel, source, reuse-port/],
    [{ count: '4', balance: 'random' }, /count to be a number.*\(got "4"\); balance to be one of.*\(got "random"\)/],
    [{ stuckMs: 99 }, /stuckMs to be milliseconds, a whole number of at least 100/],
  ] as const)
    assert.match(String(misfitOfWorkers(bad)), what)
})

test.run()
