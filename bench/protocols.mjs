/**
 * Protocols against what one would write by hand: under the tools of their own world, redis-benchmark and ab, where there is one
 * that is fast enough; the others under a load in Node (protocols-load.mjs), which may be what is slower.
 *
 *   npm run bench -- protocols [--rounds N] [--only resp-get-50x1,http-kept,json-rpc,memcached,…]
 *
 * A row is the median of the rounds' ratios; CPU is the server's own for each request, which a busy machine disturbs least, and of
 * it is the ratio where the load is in Node: by hand over Gaidaros, 1 where both cost the same.
 */
import { execFileSync, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = fileURLToPath(new URL('.', import.meta.url))

const resp = (name, what, command, depth) => ({
  name,
  what,
  tool: 'redis-benchmark',
  raw: 'resp-raw.mjs',
  ours: 'resp-store.mjs',
  goal: 0.8,
  count: depth === 1 ? 150_000 : 1_500_000,
  args: (port, count) => ['-p', port, '-t', command, '-n', count, '-c', 50, '-P', depth, '-d', 64, '--csv'],
  rate: (text) => Number(/"(?:SET|GET)","([\d.]+)"/.exec(text)?.[1]),
})
const http = (name, what, kept, count) => ({
  name,
  what,
  tool: 'ab',
  raw: 'http-raw.mjs',
  ours: 'http-fastify.mjs',
  goal: 0.9,
  count,
  args: (port, given) => ['-q', ...kept, '-n', given, '-c', 50, `http://127.0.0.1:${port}/`],
  rate: (text) =>
    /Failed requests: +0\n/.test(text) ? Number(/Requests per second: +([\d.]+)/.exec(text)?.[1]) : Number.NaN,
})
const rows = [
  resp('resp-set-50x1', 'RESP: SET, 50 connections, depth 1', 'set', 1),
  resp('resp-get-50x1', 'RESP: GET, 50 connections, depth 1', 'get', 1),
  resp('resp-set-50x16', 'RESP: SET, depth 16', 'set', 16),
  resp('resp-get-50x16', 'RESP: GET, depth 16', 'get', 16),
  http('http-kept', 'HTTP: Fastify, 50 connections, kept', ['-k'], 60_000),
  http('http-anew', 'HTTP: Fastify, a connection a request', [], 30_000),
]

/** Rows of the second table: a request is one call, command, message, mail or connection. */
const own = (name, what, count, isUdp = false) => ({
  name,
  what,
  tool: 'node',
  raw: 'protocols-raw.mjs',
  ours: 'protocols-gaidaros.mjs',
  count,
  isUdp,
  args: (port, given) => [join(here, 'protocols-load.mjs'), name, port, given],
  rate: (text) => JSON.parse(text).rate,
})
const ownRows = [
  own('json-rpc', 'JSON-RPC: a call, lines, depth 16', 160_000),
  own('memcached', 'memcached: `get`, depth 16', 240_000),
  own('mqtt', 'MQTT: PUBLISH at QoS 1, depth 16', 160_000),
  own('stomp', 'STOMP: SEND with a receipt, depth 16', 160_000),
  own('syslog', 'syslog over TCP: a message, counted in octets', 320_000),
  own('smtp', 'SMTP: a mail of 1 KiB, pipelined', 12_000),
  own('socks5', 'SOCKS5: connect, 64 B there and back, end', 2_000),
  own('dns', 'DNS over UDP: a question for an A record', 50_000, true),
  own('coap', 'CoAP: a confirmable GET', 50_000, true),
]

/** @param tools - What run.mjs has: `pin`, `rounds`, `only`, `freePort`, `median`, `format`, `has`. */
export async function protocols(tools) {
  const wanted = (all) => all.filter(({ name }) => tools.only.length === 0 || tools.only.includes(name))
  await table(tools, wanted(rows), '| protocol | by hand /s | gaidaros /s | ratio (goal) |', 'rate')
  await table(
    tools,
    wanted(ownRows),
    '| protocol, 50 connections, load in Node | by hand /s | gaidaros /s | ratio of CPU |',
    'micros',
  )
}

/** @param by - What the ratio is of. */
async function table({ pin, rounds, freePort, median, format, has }, all, head, by) {
  if (all.length > 0) console.log(`\n${head} CPU µs a request, by hand → gaidaros |\n|---|---|---|---|---|`)
  for (const row of all) {
    if (!has(row.tool)) {
      console.log(`skip: ${row.name}: ${row.tool} is not installed`)
      continue
    }
    const results = { raw: [], ours: [] }
    for (let round = 0; round < rounds; round++)
      for (const side of round % 2 === 0 ? ['raw', 'ours'] : ['ours', 'raw'])
        results[side].push(await measure(row, row[side], { pin, port: await freePort() }))
    const ratio = median(
      results.raw.map((raw, i) =>
        by === 'rate' ? results.ours[i].rate / raw.rate : raw.micros / results.ours[i].micros,
      ),
    )
    const [raw, ours] = ['raw', 'ours'].map((side) => format(Math.round(median(results[side].map(({ rate }) => rate)))))
    const [rawCpu, cpu] = ['raw', 'ours'].map((side) => median(results[side].map(({ micros }) => micros)).toFixed(1))
    const goal = row.goal === undefined ? '' : ` (${row.goal})`
    console.log(`| ${row.what} | ${raw} | ${ours} | **${ratio.toFixed(2)}**${goal} | ${rawCpu} → ${cpu} |`)
  }
}

async function measure(row, script, { pin, port }) {
  const [command, args] = pin(0, ['node', join(here, script), row.name])
  const server = spawn(command, args, {
    env: { ...process.env, PORT: String(port) },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const gone = new Promise((resolve) => server.once('exit', resolve))
  const load = (count) => {
    const [tool, given] = pin(1, [row.tool, ...row.args(port, count).map(String)])
    return execFileSync(tool, given, { stdio: ['ignore', 'pipe', 'ignore'] }).toString()
  }
  await listening(port, row.isUdp)
  // Long enough for both to be compiled: what is measured is how they go on, not how they begin.
  load(Math.round(row.count / 4))
  const before = cpuOf(server.pid)
  const rate = row.rate(load(row.count))
  const micros = ((cpuOf(server.pid) - before) * 1_000) / row.count
  server.kill('SIGTERM')
  await gone
  if (!(rate > 0)) throw new Error(`${row.name}: ${row.tool} gave no rate for ${script}`)
  return { rate, micros }
}

async function listening(port, isUdp) {
  const net = await import('node:net')
  const place = `:${port.toString(16).toUpperCase().padStart(4, '0')} `
  const isBound = () => readFileSync('/proc/net/udp', 'utf8').includes(place)
  for (let i = 0; i < 400; i++) {
    const isUp = isUdp
      ? isBound()
      : await new Promise((resolve) => {
          const socket = net.connect({ port, host: '127.0.0.1' }, () => resolve(true))
          socket.on('error', () => resolve(false))
          socket.on('connect', () => socket.destroy())
        })
    if (isUp) return
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
  throw new Error(`nothing listens on ${port}`)
}

/** Milliseconds. */
function cpuOf(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}
