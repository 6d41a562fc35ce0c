/**
 * Runs the tests: each file in a process of its own with a time limit, two at a time.
 *
 *   node build/run.js [PART OF A PATH …]
 *
 * uvu alone would hide what must not be hidden: a `before` that throws prints `(0 / 2)` in green and exits 0, and a file
 * without `test.run()` says nothing at all. So a file passes when it says how many cases there were, all of them passed
 * (uvu counts skipped ones apart), it printed no unhandled error, and it ended by itself. Last line: `N passed, N failed, N skipped`.
 */
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = fileURLToPath(new URL('.', import.meta.url))
const LIMIT_S = 60

interface Outcome {
  readonly file: string
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  readonly seconds: number
  readonly output: string
  readonly problem: string | undefined
}

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
const lanes = Math.min(2, availableParallelism())
await Promise.all(
  Array.from({ length: lanes }, async () => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      const outcome = await run(file)
      outcomes.push(outcome)
      print(outcome)
    }
  }),
)

const sum = (key: 'passed' | 'failed' | 'skipped') => outcomes.reduce((total, outcome) => total + outcome[key], 0)
const broken = outcomes.filter(({ problem }) => problem !== undefined)
if (broken.length > 0) console.log(`\nfailed files: ${broken.map(({ file }) => file).join(', ')}`)
console.log(`${files.length} files in ${Math.round((performance.now() - began) / 1_000)} s`)
console.log(`${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped`)
process.exit(broken.length > 0 ? 1 : 0)

/** `// time limit: 120 s` in the first lines of the source raises it. */
function limitOf(file: string): number {
  const head = readFileSync(join(here, file), 'utf8').slice(0, 400)
  return Number(/time limit: (\d+) s/.exec(head)?.[1] ?? LIMIT_S)
}

async function run(file: string): Promise<Outcome> {
  const started = performance.now()
  const limit = limitOf(file)
  const child = spawn(process.execPath, ['--expose-gc', '--trace-uncaught', join(here, file)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, FORCE_COLOR: '0', NO_COLOR: '1' },
  })
  let output = ''
  child.stdout.on('data', (chunk) => (output += chunk))
  child.stderr.on('data', (chunk) => (output += chunk))
  let isLate = false
  const timer = setTimeout(() => {
    isLate = true
    child.kill('SIGKILL')
  }, limit * 1_000)
  const status = await new Promise<number | string>((resolve) =>
    child.once('close', (code, signal) => resolve(code ?? signal ?? '?')),
  )
  clearTimeout(timer)

  const last = (word: string) =>
    Number([...output.matchAll(new RegExp(`^\\s+${word}:\\s+(\\d+)`, 'gm'))].at(-1)?.[1] ?? Number.NaN)
  const [total, passed, skipped] = [last('Total'), last('Passed'), last('Skipped')]
  const announced = (output.match(/^skip: /gm) ?? []).length
  const problem = isLate
    ? `not done within ${limit} s`
    : Number.isNaN(total)
      ? `said nothing of its cases (exit status ${status})`
      : passed !== total
        ? `${total - passed} of ${total} cases failed`
        : total === 0
          ? 'has no cases'
          : status !== 0
            ? `exit status ${status}`
            : /UnhandledPromiseRejection|MaxListenersExceededWarning|GaidarosWarning/.test(output)
              ? 'printed an unhandled error or a warning'
              : undefined
  const failed = problem === undefined ? 0 : Math.max(1, (total || 0) - (passed || 0))
  const seconds = (performance.now() - started) / 1_000
  // A case that printed `skip:` and returned was not passed.
  return {
    file,
    passed: Math.max(0, (passed || 0) - announced),
    failed,
    skipped: (skipped || 0) + announced,
    seconds,
    output,
    problem,
  }
}

function print({ file, passed, skipped, seconds, output, problem }: Outcome): void {
  const name = relative('.', join(here, file))
    .replace(/^build\//, '')
    .replace(/\.js$/, '')
  const note = skipped > 0 ? `, ${skipped} skipped` : ''
  console.log(
    `${problem === undefined ? '✓' : '✗'} ${name}  ${passed} passed${note}  ${seconds.toFixed(1)} s${problem === undefined ? '' : `  ${problem}`}`,
  )
  const lines =
    problem === undefined ? output.split('\n').filter((line) => /^(skip: |# )/.test(line)) : output.split('\n')
  for (const line of lines) console.log(`    ${line}`)
}
