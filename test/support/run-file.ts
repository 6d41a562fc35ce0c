/**
 * Runs one test file in a process group of its own and says what became of it.
 *
 * uvu alone would hide what must not be hidden: a `before` that throws prints `(0 / 2)` in green and exits 0, a file without
 * `test.run()` says nothing at all, and a forgotten `.only` passes for the whole. So a file passes when it said how many
 * cases there were, all of them passed (uvu counts skipped ones apart), it printed no warning and ended by itself.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** Any seed finds something sooner or later; a fixed one finds the same on every machine. `SEED=12345 npm test` tries another. */
export const SEED = Number(process.env.SEED ?? 20_20_20)

/** From a file's last word to its end. */
const LEAVING_MS = 20_000

export interface Outcome {
  readonly file: string
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  readonly seconds: number
  readonly output: string
  /** `undefined`: all well. */
  readonly problem: string | undefined
}

/** @param limitS - Seconds after which it and all it has started are killed. */
export async function runFile(path: string, limitS: number): Promise<Outcome> {
  const started = performance.now()
  const source = readFileSync(path, 'utf8')
  const seeded = source.includes('fast-check') || source.includes('harness') ? ['--import', SEEDING] : []
  const child = spawn(process.execPath, ['--expose-gc', '--trace-uncaught', ...seeded, path], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, FORCE_COLOR: '0', NO_COLOR: '1' },
    detached: true,
  })
  let output = ''
  // What a failed case has left open would keep the file until its limit.
  let leaving: NodeJS.Timeout | undefined
  child.stdout.on('data', (chunk) => {
    output += chunk
    if (/^ +Duration: /m.test(String(chunk)))
      leaving ??= setTimeout(() => {
        isLeft = true
        killAll()
      }, LEAVING_MS)
  })
  child.stderr.on('data', (chunk) => (output += chunk))
  let isLate = false
  let isLeft = false
  const killAll = () => {
    try {
      process.kill(-(child.pid as number), 'SIGKILL')
    } catch {
      // Nobody of the group is left.
    }
  }
  const timer = setTimeout(() => {
    isLate = true
    killAll()
  }, limitS * 1_000)
  // `close` comes after the pipes are closed, by grandchildren too: one that outlives its test is a problem of that test.
  const status = await new Promise<number | string>((resolve) =>
    child.once('close', (code, signal) => resolve(code ?? signal ?? '?')),
  )
  clearTimeout(timer)
  clearTimeout(leaving)
  killAll()

  const last = (word: string) =>
    Number([...output.matchAll(new RegExp(`^\\s+${word}:\\s+(\\d+)`, 'gm'))].at(-1)?.[1] ?? Number.NaN)
  const [total, passed, skipped] = [last('Total'), last('Passed'), last('Skipped')]
  // uvu's dots stand on the line on which a case prints.
  const announced = (output.match(/^(?:[•✘] )*skip: /gm) ?? []).length
  const problem = judge()
  return {
    file: path,
    // A case that printed `skip:` and returned was not passed.
    passed: Math.max(0, (passed || 0) - announced),
    failed: problem === undefined ? 0 : Math.max(1, (total || 0) - (passed || 0)),
    skipped: (skipped || 0) + announced,
    seconds: (performance.now() - started) / 1_000,
    output,
    problem,
  }

  function judge(): string | undefined {
    if (isLate) return `not done within ${limitS} s`
    if (Number.isNaN(total)) return `said nothing of its cases (exit status ${status})`
    if (passed !== total) return `${total - passed} of ${total} cases failed`
    if (isLeft) return `did not end within ${LEAVING_MS / 1_000} s of its last case`
    if (total === 0) return 'has no cases'
    if (status !== 0) return `exit status ${status}`
    if (/^\s*\w+\.only\(/m.test(source)) return 'a forgotten .only'
    const warning = /^(?:[•✘] )*\(node:\d+\) (.*)/m.exec(output)
    if (warning !== null) return `printed a warning: ${warning[1]}`
    // Any other wording would be counted as passed.
    if (/^(?:[•✘] )*# skip/m.test(output))
      return 'a case left out in words of its own; say it with skip() of support/skip'
    return undefined
  }
}

const SEEDING = new URL('./seed.js', import.meta.url).href
