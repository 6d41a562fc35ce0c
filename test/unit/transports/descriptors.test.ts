import { closeSync, openSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { DescriptorGauge, type DescriptorSource, processDescriptors } from '#src/transports/descriptors.js'
import { skip } from '../../support/skip.js'

class Source implements DescriptorSource {
  opened: number | undefined = 10
  soft: number | undefined = 20
  time = 0
  samples = 0
  open(): number | undefined {
    this.samples++
    return this.opened
  }
  limit(): number | undefined {
    return this.soft
  }
  now(): number {
    return this.time
  }
}

test('admits up to 90 % of the limit, counting what was accepted and closed since the sample', () => {
  const source = new Source()
  const gauge = new DescriptorGauge(source)
  assert.is(gauge.admit(), true)
  assert.is(gauge.cap, 18)
  for (let open = 11; open <= 18; open++) assert.is(gauge.admit(), true, `${open} open`)
  assert.is(gauge.admit(), false)
  gauge.release()
  gauge.release()
  assert.is(gauge.admit(), true)
})

test('samples at most once a second, and follows the limit', () => {
  const source = new Source()
  const gauge = new DescriptorGauge(source)
  for (let i = 0; i < 100; i++) gauge.admit()
  assert.is(source.samples, 1)
  assert.is(gauge.admit(), false)
  source.time = 1_000
  source.soft = 1_000
  assert.is(gauge.admit(), true)
  assert.is(source.samples, 2)
})

test('refuses when there is not even a descriptor left to look with', () => {
  const source = new Source()
  const gauge = new DescriptorGauge(source)
  gauge.admit()
  source.open = () => {
    throw new Error('EMFILE')
  }
  source.time = 1_000
  assert.is(gauge.admit(), false)
})

test('refuses nobody where the platform does not tell', () => {
  const source = new Source()
  source.opened = undefined
  const gauge = new DescriptorGauge(source)
  for (let i = 0; i < 100; i++) assert.is(gauge.admit(), true)
})

test('the process source counts what is open', () => {
  if (process.platform !== 'linux') {
    skip('the process source counts what is open', 'only Linux tells')
    return
  }
  const before = processDescriptors.open() as number
  const held = Array.from({ length: 5 }, () => openSync('/dev/null', 'r'))
  assert.is(processDescriptors.open(), before + 5)
  for (const each of held) closeSync(each)
  assert.ok((processDescriptors.limit() as number) > before)
})

test.run()
