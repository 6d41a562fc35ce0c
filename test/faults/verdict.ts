/** What the runs of its tests say of one fault. */
import type { Outcome } from '../support/run-file.js'
import type { Case } from './cases.js'

export interface Verdict {
  readonly said: 'pass' | 'fail' | 'skip'
  readonly seen: string
}

/**
 * A case failed when its title stands among the failures of its file, or when the file went wrong with no failure named (it
 * hung, crashed, warned): then nothing in it is believed.
 */
export function verdict(cases: readonly Case[], outcomes: ReadonlyMap<string, Outcome>): Verdict {
  if (cases.length === 0) return { said: 'fail', seen: 'no test has its number' }
  const skips: string[] = []
  const notes: string[] = []
  let held = 0
  for (const { file, title, printed, notes: patterns } of cases) {
    const outcome = outcomes.get(file)
    if (outcome === undefined) return { said: 'fail', seen: `${file} was not run` }
    const failures = outcome.output.split('\n').filter((line) => /^\s*FAIL\s/.test(line))
    if (failures.some((line) => printed.test(line))) return { said: 'fail', seen: `failed: ${title}` }
    if (outcome.problem !== undefined && failures.length === 0)
      return { said: 'fail', seen: `${file}: ${outcome.problem}` }
    const said = outcome.output
      .split('\n')
      .map((line) => line.replace(/^(?:[•✘] ?)+/, '').trim())
      .filter((line) => /^(?:skip: |# )/.test(line) && patterns.some((pattern) => pattern.test(line)))
    const missing = said.filter((line) => line.startsWith('skip: '))
    if (missing.length > 0) skips.push(...missing.map((line) => line.slice('skip: '.length)))
    else held++
    notes.push(...said.filter((line) => !missing.includes(line)).map((line) => line.slice(2)))
  }
  const remarks = [...new Set([...notes, ...skips.map((reason) => `skipped: ${reason}`)])].join('; ')
  if (held === 0) return { said: 'skip', seen: remarks }
  const more = remarks === '' ? '' : ` (${remarks})`
  return { said: 'pass', seen: `so, in ${held} case${held === 1 ? '' : 's'}${more}` }
}
