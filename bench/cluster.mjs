/**
 * Executor cluster against bare request and reply through the same client of NATS: `npm run bench -- cluster`.
 *
 * Three processes each: who asks, nats-server, who answers. `bare` is `nc.request()` with as many under way as there are
 * connections; what Gaidaros does is a message of a connection over memory, to a handler on a node, and its reply.
 *
 *   node cluster.mjs front|responder …       (parts of it, started by itself)
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { connect as connectNats } from '@nats-io/transport-node'
import { connect, createServer } from 'gaidaros'
import { shows } from './shows.mjs'

const [part, url, kind, concurrency, seconds] = process.argv.slice(2)
const MESSAGE = 'x'.repeat(128)
const handler = fileURLToPath(new URL('./cluster-echo.mjs', import.meta.url))

if (part === 'responder') await respond()
else if (part === 'asker') await ask()

/** What nats.js does by itself. */
async function respond() {
  const client = await connectNats({ servers: url })
  client.subscribe('bare', { callback: (_, message) => message.respond(message.data) })
  await client.flush()
  process.stdout.write('ready\n')
}

async function ask() {
  const asks = kind === 'bare' ? await bare() : await ours()
  let count = 0
  let until = Number.POSITIVE_INFINITY
  const one = async (request) => {
    while (performance.now() < until) {
      const reply = await request()
      if (reply.length !== MESSAGE.length) throw new Error(`a reply of ${reply.length} bytes`)
      count++
    }
  }
  const all = asks.map(one)
  await new Promise((resolve) => setTimeout(resolve, 700))
  const [before, began, cpu] = [count, performance.now(), process.cpuUsage()]
  await new Promise((resolve) => setTimeout(resolve, Number(seconds) * 1_000))
  const took = (performance.now() - began) / 1_000
  const { user, system } = process.cpuUsage(cpu)
  const done = count - before
  until = 0
  await Promise.all(all)
  process.stdout.write(`${JSON.stringify({ rate: done / took, cpuMicros: (user + system) / done })}\n`)
  process.exit(0)
}

async function bare() {
  const client = await connectNats({ servers: url })
  const data = Buffer.from(MESSAGE)
  const request = async () => (await client.request('bare', data, { timeout: 5_000 })).data
  return Array.from({ length: Number(concurrency) }, () => request)
}

async function ours() {
  const server = await createServer({
    config: false,
    listen: 'memory:bench',
    handler,
    executor: { type: 'cluster', servers: url },
  })
  await server.start()
  const peers = await Promise.all(Array.from({ length: Number(concurrency) }, () => connect('memory:bench')))
  return peers.map((peer) => () => peer.request(MESSAGE))
}

/** One run. */
async function measure(name, server, inFlight) {
  const responder =
    name === 'bare'
      ? start([fileURLToPath(import.meta.url), 'responder', server])
      : start([
          fileURLToPath(new URL('../dist/cli.js', import.meta.url)),
          'node',
          '--cluster',
          server,
          '--handler',
          handler,
        ])
  await shows(responder, 'ready')
  const asker = start([fileURLToPath(import.meta.url), 'asker', server, name, String(inFlight), '2'])
  const text = await shows(asker, '}')
  responder.kill('SIGTERM')
  await once(responder, 'exit')
  return JSON.parse(text)
}

function start(args) {
  return spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
}

async function startNats() {
  const folder = mkdtempSync(join(tmpdir(), 'gb-'))
  writeFileSync(join(folder, 'nats.conf'), 'host: "127.0.0.1"\nport: -1\n')
  const child = spawn('nats-server', ['-c', join(folder, 'nats.conf'), '--ports_file_dir', folder], { stdio: 'ignore' })
  child.on('error', () => {})
  for (let i = 0; i < 200; i++) {
    const name = readdirSync(folder).find((one) => one.endsWith('.ports'))
    const found = name && /nats:\/\/127\.0\.0\.1:\d+/.exec(readFileSync(join(folder, name), 'utf8'))?.[0]
    if (found) return { url: found, stop: () => (child.kill('SIGTERM'), rmSync(folder, { recursive: true })) }
    if (child.pid === undefined || child.exitCode !== null) return undefined
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
  return undefined
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1]

/** The row. */
export async function clusterRow(rounds) {
  const nats = await startNats()
  if (nats === undefined)
    return console.log('\nskip: cluster, since nats-server is not installed (Debian: apt install nats-server)')
  console.log(
    '\n| cluster, 128 B | bare request and reply /s | gaidaros /s | ratio (median of rounds) | CPU µs of the asker, bare → gaidaros |\n|---|---|---|---|---|',
  )
  try {
    for (const inFlight of [1, 64]) {
      const results = { bare: [], gaidaros: [] }
      for (let round = 0; round < rounds; round++) {
        const order = round % 2 === 0 ? ['bare', 'gaidaros'] : ['gaidaros', 'bare']
        for (const name of order) results[name].push(await measure(name, nats.url, inFlight))
      }
      const ratio = median(results.bare.map(({ rate }, i) => results.gaidaros[i].rate / rate))
      const [theirs, own] = ['bare', 'gaidaros'].map((name) => Math.round(median(results[name].map((r) => r.rate))))
      const cpu = ['bare', 'gaidaros'].map((name) => median(results[name].map((r) => r.cpuMicros)).toFixed(1))
      console.log(
        `| ${inFlight} in flight | ${theirs.toLocaleString('en-US')} | ${own.toLocaleString('en-US')} | **${ratio.toFixed(2)}** | ${cpu.join(' → ')} |`,
      )
    }
  } finally {
    nats.stop()
  }
}
