/** The catalogue of faults, the tests that inject them and the page that shows them are one. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { allCases, casesOf, idsIn } from '../../faults/cases.js'
import { catalogue } from '../../faults/catalogue.js'
import { verdict } from '../../faults/verdict.js'
import type { Outcome } from '../../support/run-file.js'

const page = readFileSync(new URL('../../../docs/reliability.md', import.meta.url), 'utf8')

test('every fault has a test, and a row in the page', () => {
  const tested = new Set(allCases().flatMap(({ ids }) => ids))
  for (const { id, fault, injected, expected } of catalogue) {
    assert.ok(tested.has(id), `no title of a test has ${id} (${fault})`)
    assert.ok(page.includes(`| ${id} | ${fault} | ${injected} | ${expected} | `), `docs/reliability.md lacks ${id}`)
  }
  assert.is(new Set(catalogue.map(({ id }) => id)).size, catalogue.length)
})

test('every number in a title is of the catalogue', () => {
  for (const { ids, file, title } of allCases())
    for (const id of ids)
      assert.ok(
        catalogue.some((fault) => fault.id === id),
        `${file}: ${title}: no ${id}`,
      )
})

test('titles: numbers, ranges, placeholders', () => {
  assert.equal(idsIn('never guesses (F60 to F63, F65)'), ['F60', 'F63', 'F65', 'F61', 'F62'])
  assert.equal(idsIn('a burst of 0xF1 bytes'), [])
  const source = "natsTest(\n  `F90 by ${policy}: it’s (so)`, async () => { skip('F90', 'no') })\ntest('other', f)"
  const [only, ...rest] = casesOf('a.test.js', source)
  assert.is(rest.length, 0)
  assert.ok(only?.printed.test(' FAIL  "F90 by wait: it’s (so)"'))
})

const [sample] = casesOf('a.test.js', "test('F1 it holds', () => { skip('F1', why); console.log(`# took ${ms} ms`) })")
const outcome = (output: string, problem?: string): ReadonlyMap<string, Outcome> =>
  new Map([['a.test.js', { file: 'a', passed: 1, failed: 0, skipped: 0, seconds: 1, output, problem }]])

test('a fault passes, fails or is skipped as its cases are; nothing is believed of a file that went wrong', () => {
  const cases = sample === undefined ? [] : [sample]
  assert.equal(verdict(cases, outcome('• # took 7 ms\n')), { said: 'pass', seen: 'so, in 1 case (took 7 ms)' })
  assert.equal(verdict(cases, outcome('• skip: F1: no tool\n')), { said: 'skip', seen: 'skipped: F1: no tool' })
  assert.is(verdict(cases, outcome('   FAIL  "F1 it holds"\n', '1 of 2 cases failed')).said, 'fail')
  assert.is(verdict(cases, outcome('   FAIL  "other"\n', '1 of 2 cases failed')).said, 'pass')
  assert.is(verdict(cases, outcome('', 'not done within 60 s')).said, 'fail')
  assert.is(verdict(cases, new Map()).said, 'fail')
  assert.is(verdict([], outcome('')).said, 'fail')
})

test('the runner runs what it is asked for, and refuses what it does not know', () => {
  const runner = fileURLToPath(new URL('../../faults/run.js', import.meta.url))
  const run = (...args: string[]) =>
    execFileSync(process.execPath, [runner, ...args], { encoding: 'utf8', stdio: 'pipe' })
  assert.match(run('--quick'), /: 1 passed, 0 failed, 0 skipped\.[\s\S]*\| F81 \|.*\| pass \|/)
  assert.throws(() => run('F199'), /F199 is none of/)
})

test.run()
