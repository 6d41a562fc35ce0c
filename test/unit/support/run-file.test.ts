/** The runner itself: what uvu lets pass, it does not. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { runFile } from '../../support/run-file.js'

// Inside the project, so that uvu is found.
const folder = mkdtempSync(join(fileURLToPath(new URL('.', import.meta.url)), 'traps-'))
test.after(() => rmSync(folder, { recursive: true, force: true }))

let count = 0
function runTrap(body: string, limitS = 20) {
  const path = join(folder, `trap-${count++}.mjs`)
  writeFileSync(path, `import { test } from 'uvu'\nimport * as assert from 'uvu/assert'\n${body}\n`)
  return runFile(path, limitS)
}

test('a file whose cases pass', async () => {
  const { passed, failed, problem } = await runTrap(`test('a', () => {}); test('b', () => {}); test.run()`)
  assert.equal([passed, failed, problem], [2, 0, undefined])
})

test('skips are counted, wherever on a line they are said', async () => {
  const { passed, skipped, problem } = await runTrap(
    `test('a', () => {}); test('b', () => { console.log('skip: no tool') }); test.skip('c', () => {}); test.run()`,
  )
  assert.equal([passed, skipped, problem], [1, 2, undefined])
})

for (const [name, body, expected] of [
  ['no run', `test('a', () => {})`, /said nothing/],
  ['no cases', `test.run()`, /no cases|said nothing/],
  [
    'a before that throws',
    `test.before(() => { throw new Error('no') }); test('a', () => {}); test.run()`,
    /1 of 1|exit/,
  ],
  ['a failing case', `test('a', () => assert.ok(false)); test.run()`, /1 of 1 cases failed/],
  [
    'an exit status',
    `test('a', () => { process.on('exit', () => { process.exitCode = 3 }) }); test.run()`,
    /exit status/,
  ],
  [
    'an unhandled rejection',
    `test('a', () => void Promise.reject(new Error('no'))); test.run()`,
    /exit status|failed|said/,
  ],
  ['only', `test.only('a', () => {}); test('b', () => assert.ok(false)); test.run()`, /only/],
  ['a case left out in other words', `test('a', () => console.log('# skipped: no tool')); test.run()`, /skip\(\)/],
  ['a warning of Node', `test('a', () => process.emitWarning('leak?')); test.run()`, /warning.*leak/],
] as const) {
  test(`does not pass: ${name}`, async () => {
    const { failed, problem } = await runTrap(body.replace('test.only', '\ntest.only'))
    assert.match(problem ?? 'passed', expected)
    assert.ok(failed > 0)
  })
}

test('at its limit a file ends with all it has started', async () => {
  // Its child holds the same pipe: the outcome comes only once both are gone.
  const { problem, seconds } = await runTrap(
    `import { spawn } from 'node:child_process'
    test('a', async () => {
      spawn('sleep', ['600'], { stdio: 'inherit' })
      await new Promise(() => setTimeout(() => {}, 600_000))
    })
    test.run()`,
    1,
  )
  assert.match(problem ?? '', /not done within 1 s/)
  assert.ok(seconds < 20)
})

test.run()
