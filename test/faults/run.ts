/**
 * Every fault of the catalogue, injected: a table of what was seen, in docs/reliability.md as it was last.
 *
 *   npm run faults                     all of it
 *   npm run faults -- F5 F17           some of it
 *   npm run faults -- --quick          the first, as a proof of the runner
 *   npm run faults -- --write          all of it, into the page
 *
 * Exit status 1 when one fails, or has no test. What needs a tool that is not here is skipped aloud.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, loadavg } from 'node:os'
import { join } from 'node:path'
import { type Outcome, runFile } from '../support/run-file.js'
import { allCases, tests } from './cases.js'
import { catalogue } from './catalogue.js'
import { type Verdict, verdict } from './verdict.js'

const LIMIT_S = 150
const page = new URL('../../docs/reliability.md', import.meta.url)

const args = process.argv.slice(2)
const named = args.includes('--quick') ? ['F81'] : args.filter((arg) => !arg.startsWith('--'))
const unknown = named.filter((id) => !catalogue.some((fault) => fault.id === id))
const strange = args.filter((arg) => arg.startsWith('--') && arg !== '--quick' && arg !== '--write')
if (unknown.length + strange.length > 0) {
  console.error(`faults: ${[...unknown, ...strange][0]} is none of F1 … F126, --quick, --write`)
  process.exit(2)
}
if (args.includes('--write') && named.length > 0) {
  console.error('faults: --write writes the whole table, so it takes no ids')
  process.exit(2)
}
const faults = catalogue.filter(({ id }) => named.length === 0 || named.includes(id))
const cases = allCases()
const files = new Set(cases.filter(({ ids }) => faults.some(({ id }) => ids.includes(id))).map(({ file }) => file))

const outcomes = new Map<string, Outcome>()
const began = performance.now()
const load = (loadavg()[0] as number).toFixed(1)
const waiting = [...files].map((file) => {
  const source = readFileSync(join(tests, file), 'utf8')
  return { file, limit: Number(/time limit: (\d+) s/.exec(source.slice(0, 400))?.[1] ?? LIMIT_S) }
})
// Those with the longest limits first: nobody waits for one long file at the end.
waiting.sort((a, b) => a.limit - b.limit)
const runner = async (): Promise<void> => {
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const { file, limit } = next
    const outcome = await runFile(join(tests, file), limit)
    outcomes.set(file, outcome)
    console.error(`# ${file.replace(/\.js$/, '')}: ${outcome.problem ?? `${outcome.seconds.toFixed(1)} s`}`)
    if (outcome.problem !== undefined) console.error(outcome.output)
  }
}
await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, runner))

const counts: Record<Verdict['said'], number> = { pass: 0, fail: 0, skip: 0 }
const lines: string[] = []
let family = ''
for (const fault of faults) {
  const { said, seen } = verdict(
    cases.filter(({ ids }) => ids.includes(fault.id)),
    outcomes,
  )
  counts[said]++
  if (fault.family !== family) lines.push(`| | **${fault.family}** | | | | |`)
  family = fault.family
  const cells = [fault.id, fault.fault, fault.injected, fault.expected, seen.replaceAll('|', '\\|'), said]
  lines.push(`| ${cells.join(' | ')} |`)
}
const summary = `${counts.pass} passed, ${counts.fail} failed, ${counts.skip} skipped`
const seconds = Math.round((performance.now() - began) / 1_000)
const table = [
  `Node ${process.version}, ${process.platform}, ${seconds} s, load average before it ${load}: ${summary}.`,
  '',
  '| # | fault | injected | expected | seen | |',
  '|---|---|---|---|---|---|',
  ...lines,
].join('\n')
console.log(table)
if (args.includes('--write')) {
  const text = readFileSync(page, 'utf8')
  const parts = /(<!-- faults -->\n)[\s\S]*(<!-- \/faults -->)/
  if (!parts.test(text)) throw new Error('docs/reliability.md has lost its marks <!-- faults --> … <!-- /faults -->')
  writeFileSync(
    page,
    text.replace(parts, (_, head, tail) => `${head}\n${table}\n\n${tail}`),
  )
}
process.exit(counts.fail === 0 ? 0 : 1)
