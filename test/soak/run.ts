/**
 * Bounded long runs: what must hold after millions of connections, under slow and deaf peers, with workers that die.
 *
 *   npm run soak                       all of it, some sixteen minutes
 *   npm run soak -- cycles deaf        some of it
 *   npm run soak -- --quick            all of it, each cut to seconds
 *   npm run soak -- model --seed 7     random scripts against the model of a connection's life; also --scripts N, --only NAME
 *
 * A figure stands beside its goal; exit status 1 when one is missed. The last ones: docs/reliability.md.
 */
import { loadavg } from 'node:os'
import { nats, nodes } from './cluster.js'
import { cycles, deaf, idle, slow, watermark } from './connections.js'
import { model } from './model.js'
import { kill, reload } from './processes.js'

/** One line of the table. */
export interface Figure {
  readonly what: string
  readonly seen: string
  readonly goal: string
  readonly isMet: boolean
}

type Part = (isQuick: boolean) => Promise<readonly Figure[]>
const parts: Readonly<Record<string, Part>> = { cycles, slow, deaf, watermark, idle, kill, reload, nodes, nats, model }

const args = process.argv.slice(2)
const isQuick = args.includes('--quick')
// `--seed 7`: a word behind an option with a value is no part.
const named = args.filter((arg, at) => !arg.startsWith('--') && !/^--(seed|scripts|only)$/.test(args[at - 1] ?? ''))
const unknown = named.filter((name) => !Object.hasOwn(parts, name))
if (unknown.length > 0) {
  console.error(`soak: no part \`${unknown[0]}\`; there are: ${Object.keys(parts).join(', ')}`)
  process.exit(2)
}
let missed = 0
console.log(
  `# Node ${process.version}${isQuick ? ', quick' : ''}\n\n| part | what | seen | goal | |\n|---|---|---|---|---|`,
)
for (const name of named.length > 0 ? named : Object.keys(parts)) {
  const load = loadavg()[0] as number
  const began = performance.now()
  for (const { what, seen, goal, isMet } of await (parts[name] as Part)(isQuick)) {
    if (!isMet) missed++
    console.log(`| ${name} | ${what} | ${seen} | ${goal} | ${isMet ? 'met' : '**missed**'} |`)
  }
  const seconds = Math.round((performance.now() - began) / 1_000)
  console.error(`# ${name}: ${seconds} s, load average before it ${load.toFixed(1)}`)
}
process.exit(missed === 0 ? 0 : 1)
