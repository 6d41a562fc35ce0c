/**
 * A hundred thousand random scripts against the model of a connection's life: `npm run soak -- model`.
 *
 * `--seed S`, `--scripts N` and `--only PART-OF-A-NAME` say which; a failure prints its seed, and the shortest script found.
 */
import { playCell, SEED } from '../model/groups.js'
import { cells } from '../model/matrix.js'
import { failureText } from '../model/play.js'
import type { Figure } from './run.js'

/** @returns what stands behind `--name` on the command line. */
function option(name: string): string | undefined {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? undefined : process.argv[at + 1]
}

export async function model(isQuick: boolean): Promise<readonly Figure[]> {
  const total = Number(option('scripts') ?? (isQuick ? 500 : 100_000))
  const seed = option('seed') ?? SEED
  const chosen = cells.filter(({ name }) => name.includes(option('only') ?? ''))
  const weight = chosen.reduce((sum, { count }) => sum + count, 0)
  const figures: Figure[] = []
  for (const cell of chosen) {
    const count = Math.max(1, Math.round((total * cell.count) / weight))
    let told = performance.now()
    const failures = await playCell(cell, count, seed, (done) => {
      if (performance.now() < told + 10_000) return
      told = performance.now()
      console.error(`# model, ${cell.name}: ${done} of ${count} scripts`)
    })
    for (const failure of failures) console.error(`${cell.name}, ${failureText(failure)}\n`)
    const seen = `${failures.length} of ${count} scripts end otherwise`
    figures.push({ what: `seed ${seed}, ${cell.name}`, seen, goal: 'none', isMet: failures.length === 0 })
  }
  return figures
}
