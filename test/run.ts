/**
 * Runs the tests: each file in a process of its own with a time limit, one more at a time than there are processors.
 *
 *   node build/run.js [PART OF A PATH …]
 *
 * What it takes to pass: support/run-file.ts. Last line: `N passed, N failed, N skipped`.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Outcome, runFile, SEED } from './support/run-file.js'

const here = fileURLToPath(new URL('.', import.meta.url))
const LIMIT_S = 150

const filters = process.argv.slice(2)
const files = (readdirSync(here, { recursive: true }) as string[])
  .filter(
    (file) => file.endsWith('.test.js') && (filters.length === 0 || filters.some((filter) => file.includes(filter))),
  )
  .sort((a, b) => limitOf(b) - limitOf(a) || (a < b ? -1 : 1))
if (files.length === 0) {
  console.log(`no test file matches ${filters.join(' ')}`)
  process.exit(1)
}

const began = performance.now()
const outcomes: Outcome[] = []
const queue = [...files]
// Half of what they do is waiting.
const lanes = availableParallelism() + 1
await Promise.all(
  Array.from({ length: lanes }, async () => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      const outcome = await runFile(join(here, file), limitOf(file))
      outcomes.push(outcome)
      print(outcome)
    }
  }),
)

const sum = (key: 'passed' | 'failed' | 'skipped') => outcomes.reduce((total, outcome) => total + outcome[key], 0)
const broken = outcomes.filter(({ problem }) => problem !== undefined)
if (broken.length > 0) console.log(`\nfailed files: ${broken.map(({ file }) => relative(here, file)).join(', ')}`)
console.log(`${files.length} files, seed ${SEED}, in ${Math.round((performance.now() - began) / 1_000)} s`)
console.log(`${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped`)
process.exit(broken.length > 0 ? 1 : 0)

/** `// time limit: 120 s` in the first lines of the source raises it. */
function limitOf(file: string): number {
  const head = readFileSync(join(here, file), 'utf8').slice(0, 400)
  return Number(/time limit: (\d+) s/.exec(head)?.[1] ?? LIMIT_S)
}

function print({ file, passed, skipped, seconds, output, problem }: Outcome): void {
  const name = relative(here, file).replace(/\.js$/, '')
  const note = skipped > 0 ? `, ${skipped} skipped` : ''
  console.log(
    `${problem === undefined ? '✓' : '✗'} ${name}  ${passed} passed${note}  ${seconds.toFixed(1)} s${problem === undefined ? '' : `  ${problem}`}`,
  )
  const lines =
    problem === undefined ? output.split('\n').filter((line) => /^(?:• )*(skip: |# )/.test(line)) : output.split('\n')
  for (const line of lines) console.log(`    ${problem === undefined ? line.replace(/^(?:• )+/, '') : line}`)
}
