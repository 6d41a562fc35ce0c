/**
 * Two server processes against one, with a handler that computes: `npm run bench -- workers`.
 *
 * Nothing is pinned: two workers shall have both cores. The load shares them; its processor time is a row of its own, so that
 * one sees how little it takes.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { shows } from './shows.mjs'

const CONNECTIONS = 64
const SECONDS = 3
const GOAL = 1.7
const at = (name) => fileURLToPath(new URL(name, import.meta.url))
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1]

/** The row. @param load - The load generator's program. */
export async function workersRow(rounds, load) {
  if (cpus().length < 2) return console.log('\nskip: workers, since this machine has one core')
  const results = { 1: [], 2: [] }
  for (let round = 0; round < rounds; round++) {
    for (const count of round % 2 === 0 ? [1, 2] : [2, 1]) results[count].push(await measure(count, load))
  }
  const ratio = median(results[1].map(({ rate }, i) => results[2][i].rate / rate))
  const [one, two] = [1, 2].map((count) => Math.round(median(results[count].map(({ rate }) => rate))))
  const micros = (count, key) => median(results[count].map((result) => result[key])).toFixed(1)
  const format = (number) => number.toLocaleString('en-US')
  console.log(`
| a handler that computes, ${CONNECTIONS} connections | one worker /s | two workers /s | ratio (median of rounds) | goal | CPU µs a message of all server processes, one → two | of the load |
|---|---|---|---|---|---|---|
| primes below 56,000, lines of 64 B | ${format(one)} | ${format(two)} | **${ratio.toFixed(2)}** | at least ${GOAL} | ${micros(1, 'cpuMicros')} → ${micros(2, 'cpuMicros')} | ${micros(2, 'ownMicros')} |`)
}

async function measure(count, load) {
  const options = ['--listen', 'tcp://127.0.0.1:0', '--handler', at('./workers-busy.mjs')]
  const words = [at('../dist/cli.js'), 'serve', '-q', ...options, '--set', `workers={"count":${count}}`]
  const server = spawn(process.execPath, words, { cwd: tmpdir(), stdio: ['ignore', 'pipe', 'inherit'] })
  const gone = new Promise((resolve) => server.once('exit', resolve))
  try {
    const port = Number(/:(\d+)\n[\s\S]*ready\n/.exec(await shows(server, 'ready\n'))[1])
    const pids = [server.pid, ...childrenOf(server.pid)].flatMap((pid) => ['--pid', pid])
    const args = [
      '--port',
      port,
      '--conns',
      CONNECTIONS,
      '--size',
      64,
      '--depth',
      1,
      ...pids,
      '--warm',
      1,
      '--secs',
      SECONDS,
    ]
    const child = spawn(load, args.map(String), { stdio: ['ignore', 'pipe', 'inherit'] })
    const result = JSON.parse(await shows(child, '\n'))
    if (result.errors > 0) throw new Error(`${count} workers: ${result.error}`)
    return result
  } finally {
    server.kill('SIGTERM')
    await gone
  }
}

function childrenOf(pid) {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean)
}
