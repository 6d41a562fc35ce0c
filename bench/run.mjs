/**
 * Measures Gaidaros against hand-written node:net in the same run: `npm run bench`, or one part of it:
 *
 *   npm run bench -- [rate] [idle] [start] [pieces] [executors] [nestjs] [volume] [workers] [cluster] [layers] [metrics]
 *                    [protocols] [--rounds N] [--only line-50x1,…]
 *
 * `rate`, `idle`, `start`, `pieces` are the default. `nestjs` installs its peer in bench/nestjs first. The server is pinned to
 * one core, the load to another (taskset, where there is one); rounds interleave the servers, and a row is the median of the
 * rounds' ratios. Timings decide no test: this prints, and bench/README.md keeps.
 */
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import net from 'node:net'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = fileURLToPath(new URL('.', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'gaidaros-bench-'))
const load = join(folder, 'load')
const args = process.argv.slice(2)
const option = (name, otherwise) => (args.includes(name) ? args[args.indexOf(name) + 1] : otherwise)
const rounds = Number(option('--rounds', 5))
const only = option('--only', '').split(',').filter(Boolean)
const parts = args.filter((arg, i) => !arg.startsWith('--') && !args[i - 1]?.startsWith('--'))
const has = (command) => {
  try {
    execFileSync('which', [command], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
const isPinned = has('taskset') && cpus().length > 1
const pin = (core, command) =>
  isPinned ? ['taskset', ['-c', String(core), ...command]] : [command[0], command.slice(1)]
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1]

const scenarios = [
  { name: 'line-50x1', what: 'lines of 64 B, 50 connections, depth 1', conns: 50, depth: 1 },
  { name: 'line-50x16', what: 'the same, depth 16', conns: 50, depth: 16 },
  { name: 'line-1000x1', what: 'the same, 1,000 connections, depth 1', conns: 1000, depth: 1 },
  { name: 'len4-64k', what: 'length-field, 64 KiB, 8 connections', conns: 8, depth: 1, framing: 'len4', size: 65536 },
  { name: 'tls-50x1', what: 'lines over TLS 1.3, 50 connections, depth 1', conns: 50, depth: 1, transport: 'tls' },
  {
    name: 'unix-50x1',
    what: 'lines over a Unix socket, 50 connections, depth 1',
    conns: 50,
    depth: 1,
    transport: 'unix',
  },
  { name: 'udp-50x1', what: 'datagrams of 64 B, 50 peers, depth 1', conns: 50, depth: 1, transport: 'udp' },
].filter(({ name }) => only.length === 0 || only.includes(name))

if (parts.length === 0 || parts.some((part) => part !== 'cluster')) build()
const wants = (part) => (parts.length === 0 ? ['rate', 'idle', 'start', 'pieces'].includes(part) : parts.includes(part))
console.log(`# Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model}, ${rounds} rounds\n`)
try {
  if (wants('rate')) await rates()
  if (wants('nestjs')) await nestjs()
  if (wants('idle')) await idle()
  if (wants('start')) await start()
  if (wants('pieces')) await pieces()
  if (wants('executors')) await executors()
  if (wants('volume')) await volume()
  if (wants('workers')) await (await import('./workers.mjs')).workersRow(rounds, load)
  if (wants('cluster')) await (await import('./cluster.mjs')).clusterRow(rounds)
  if (wants('layers')) execFileSync('node', [join(here, 'layers.mjs'), ...args], { stdio: 'inherit' })
  if (wants('metrics')) await metrics()
  if (wants('protocols')) {
    const { protocols } = await import('./protocols.mjs')
    await protocols({ pin, rounds, only, freePort, median, format, has })
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}

/** The load generator is C, so that it is no bottleneck; OpenSSL's headers are wanted for the TLS row. */
function build() {
  if (!has('cc'))
    throw new Error(
      'bench: a C compiler is needed for the load generator (Debian: apt install build-essential libssl-dev)',
    )
  const source = join(here, 'load.c')
  try {
    execFileSync('cc', ['-O2', '-o', load, source, '-DWITH_TLS', '-lssl', '-lcrypto'], { stdio: 'pipe' })
  } catch {
    console.log('skip: tls rows, since libssl-dev is not installed')
    execFileSync('cc', ['-O2', '-o', load, source])
    scenarios.splice(0, Infinity, ...scenarios.filter(({ transport }) => transport !== 'tls'))
  }
}

async function rates() {
  const { generate } = await import('selfsigned')
  const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }])
  console.log(
    '| scenario | raw /s | gaidaros /s | ratio (median of rounds) | CPU µs a message, raw → gaidaros |\n|---|---|---|---|---|',
  )
  for (const scenario of scenarios) {
    const results = { raw: [], gaidaros: [] }
    for (let round = 0; round < rounds; round++) {
      const order = round % 2 === 0 ? ['raw', 'gaidaros'] : ['gaidaros', 'raw']
      for (const server of order) results[server].push(await measure(server, scenario, { CERT: cert, KEY: key }))
    }
    const ratio = median(results.raw.map(({ rate }, i) => results.gaidaros[i].rate / rate))
    const [rawRate, rate] = ['raw', 'gaidaros'].map((name) => Math.round(median(results[name].map((r) => r.rate))))
    const [rawCpu, cpu] = ['raw', 'gaidaros'].map((name) => median(results[name].map((r) => r.cpuMicros)).toFixed(2))
    const lost = results.gaidaros.reduce((sum, r) => sum + r.lost, 0)
    console.log(
      `| ${scenario.what} | ${format(rawRate)} | ${format(rate)} | **${ratio.toFixed(2)}** | ${rawCpu} → ${cpu} |${lost > 0 ? ` (${lost} datagrams lost)` : ''}`,
    )
  }
}

/** What it costs to be measured, and to have all limits on: the same server with and without, in the same run. */
async function metrics() {
  console.log(
    '\n| lines of 64 B, 50 connections | alone /s | with it /s | ratio (median of rounds) | CPU µs a message, alone → with it | costs |\n|---|---|---|---|---|---|',
  )
  for (const [name, what] of [
    ['metrics', 'the metrics plugin'],
    ['budget', 'memoryBytes and minBytesPerSecond'],
  ]) {
    for (const depth of [1, 16]) {
      const results = { '': [], [name]: [] }
      for (let round = 0; round < rounds; round++) {
        for (const one of round % 2 === 0 ? ['', name] : [name, ''])
          results[one].push(await measure('gaidaros', { conns: 50, depth }, { WITH: one }))
      }
      const [alone, withIt] = [results[''], results[name]]
      const ratio = median(alone.map(({ rate }, i) => withIt[i].rate / rate))
      const cost = median(alone.map(({ cpuMicros }, i) => withIt[i].cpuMicros / cpuMicros)) - 1
      const [one, two] = [alone, withIt].map((all) => median(all.map((r) => r.rate)))
      const [cpuOne, cpuTwo] = [alone, withIt].map((all) => median(all.map((r) => r.cpuMicros)).toFixed(2))
      console.log(
        `| ${what}, depth ${depth} | ${format(Math.round(one))} | ${format(Math.round(two))} | **${ratio.toFixed(2)}** | ${cpuOne} → ${cpuTwo} | ${(cost * 100).toFixed(1)} % |`,
      )
    }
  }
}

async function nestjs() {
  const peer = join(here, 'nestjs')
  if (!existsSync(join(peer, 'node_modules'))) {
    execFileSync('npm', ['install', '--no-audit', '--no-fund', '--no-package-lock'], { cwd: peer, stdio: 'inherit' })
  }
  console.log('\n| against a NestJS TCP microservice | NestJS /s | gaidaros /s | times faster |\n|---|---|---|---|')
  for (const depth of [1, 16]) {
    const results = { nestjs: [], gaidaros: [] }
    for (let round = 0; round < rounds; round++) {
      const order = round % 2 === 0 ? ['nestjs', 'gaidaros'] : ['gaidaros', 'nestjs']
      for (const server of order) {
        results[server].push(
          await measure(server, { conns: 50, depth, framing: server === 'nestjs' ? 'nest' : 'line' }),
        )
      }
    }
    const times = median(results.nestjs.map(({ rate }, i) => results.gaidaros[i].rate / rate))
    const [theirs, ours] = ['nestjs', 'gaidaros'].map((name) => Math.round(median(results[name].map((r) => r.rate))))
    console.log(
      `| 64 B, 50 connections, depth ${depth} | ${format(theirs)} | ${format(ours)} | **${times.toFixed(1)}** |`,
    )
  }
}

/** Memory of a connection that says nothing: resident size with and without 5,000 of them. */
async function idle() {
  const count = 5_000
  const bytes = { raw: [], gaidaros: [] }
  for (let round = 0; round < 3; round++) {
    for (const name of ['raw', 'gaidaros']) {
      const port = await freePort()
      const server = await launch(name, { TRANSPORT: 'tcp', FRAMING: 'line', PORT: String(port) }, { port }, [
        '--expose-gc',
      ])
      const warm = await openAll(port, 500)
      for (const socket of warm) socket.destroy()
      await pause(500)
      const before = residentOf(server.pid)
      const sockets = await openAll(port, count)
      await pause(1_500)
      bytes[name].push((residentOf(server.pid) - before) / count)
      for (const socket of sockets) socket.destroy()
      await server.stop()
    }
  }
  const [raw, ours] = [median(bytes.raw), median(bytes.gaidaros)]
  console.log(
    `\nidle connection: raw ${format(Math.round(raw))} B, gaidaros ${format(Math.round(ours))} B: ${format(Math.round(ours - raw))} B more (resident, ${count} connections, median of 3)`,
  )
}

async function start() {
  const script = `
    import { createServer } from 'gaidaros'
    const began = performance.now()
    const listeners = Object.fromEntries(Array.from({ length: 50 }, (_, i) => ['l' + i, { endpoint: 'tcp://127.0.0.1:0' }]))
    const server = await createServer({ config: false, listeners, handler: (line) => line })
    await server.start()
    console.log(performance.now() - began)
    await server.stop()`
  const run = () =>
    Number(execFileSync('node', ['--input-type=module', '-e', script], { cwd: join(here, '..') }).toString())
  console.log(`\n50 listeners start in ${median(Array.from({ length: rounds }, run)).toFixed(0)} ms`)
  const version = () => {
    const began = performance.now()
    execFileSync('node', [join(here, '../dist/cli.js'), '--version'])
    return performance.now() - began
  }
  const bare = () => {
    const began = performance.now()
    execFileSync('node', ['-e', '0'])
    return performance.now() - began
  }
  const both = Array.from({ length: 9 }, () => [version(), bare()])
  console.log(
    `gaidaros --version in ${median(both.map(([ms]) => ms)).toFixed(0)} ms (node alone: ${median(both.map(([, ms]) => ms)).toFixed(0)} ms)`,
  )
}

/** A 1 MiB frame that comes in 16-byte pieces: what is quadratic takes seconds here. */
async function pieces() {
  const spent = { raw: [], gaidaros: [] }
  for (let round = 0; round < 5; round++) for (const name of ['raw', 'gaidaros']) spent[name].push(await inPieces(name))
  const [raw, ours] = [median(spent.raw), median(spent.gaidaros)]
  console.log(
    `\n1 MiB frame in 16-byte writes: ${ours} ms of CPU in the server, the kernel's reads included (raw: ${raw} ms)`,
  )
  console.log(
    execFileSync('node', [join(here, 'pieces.mjs')])
      .toString()
      .trim(),
  )
}

async function inPieces(name) {
  const port = await freePort()
  const server = await launch(name, { TRANSPORT: 'tcp', FRAMING: 'len4', PORT: String(port) }, { port })
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true })
  await new Promise((resolve) => socket.once('connect', resolve))
  const frame = Buffer.alloc(4 + (1 << 20), 7)
  frame.writeUInt32BE(1 << 20)
  let got = 0
  const done = new Promise((resolve) =>
    socket.on('data', (chunk) => (got += chunk.length) === frame.length && resolve()),
  )
  const before = cpuOf(server.pid)
  for (let at = 0; at < frame.length; at += 16) {
    if (!socket.write(frame.subarray(at, at + 16))) await new Promise((resolve) => socket.once('drain', resolve))
  }
  await done
  const spent = cpuOf(server.pid) - before
  socket.destroy()
  await server.stop()
  return Math.round(spent)
}

/** What it costs that a handler runs elsewhere: 64 messages in flight, the same echo, in the same round as inline. */
async function executors() {
  const kinds = ['inline', 'task', 'thread', 'thread-pool', 'process', 'process-pool']
  const results = Object.fromEntries(kinds.map((kind) => [kind, []]))
  for (let round = 0; round < rounds; round++) for (const kind of kinds) results[kind].push(await elsewhere(kind))
  console.log(
    '\n| handlers run | messages /s | µs a message more than inline | CPU µs a message, all processes | more than inline |\n|---|---|---|---|---|',
  )
  for (const kind of kinds) {
    const more = (key) => median(results[kind].map((one, i) => one[key] - results.inline[i][key])).toFixed(1)
    const middle = (key) => median(results[kind].map((one) => one[key]))
    const rate = format(Math.round(1e6 / middle('micros')))
    console.log(`| ${kind} | ${rate} | **${more('micros')}** | ${middle('cpu').toFixed(1)} | ${more('cpu')} |`)
  }
}

async function elsewhere(kind) {
  const port = await freePort()
  // Not pinned: what is measured runs on as many cores as there are.
  const server = await launch(
    'executor',
    { PORT: String(port), EXECUTOR: JSON.stringify({ type: kind, ...(kind.endsWith('-pool') ? { size: 2 } : {}) }) },
    { port },
    [],
    false,
  )
  const run = async (count) =>
    JSON.parse(
      await output(
        load,
        ['--port', port, '--conns', 64, '--depth', 1, '--size', 64, '--pid', server.pid, '--count', count].map(String),
      ),
    )
  await run(64 * 300)
  const pids = [server.pid, ...childrenOf(server.pid)]
  const before = pids.reduce((sum, pid) => sum + cpuOf(pid), 0)
  const result = await run(64 * 1_500)
  const spent = pids.reduce((sum, pid) => sum + cpuOf(pid), 0) - before
  await server.stop()
  if (result.errors > 0) throw new Error(`${kind}: ${result.error}`)
  return { micros: (result.secs * 1e6) / result.replies, cpu: (spent * 1e3) / result.replies }
}

function childrenOf(pid) {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)
}

async function volume() {
  console.log('\n10,000,000 messages of 64 B over 8 connections, depth 64; each reply compared, in order')
  for (const transport of ['tcp', 'unix']) {
    const result = await measure('gaidaros', { conns: 8, depth: 64, transport, count: 10_000_000 })
    const outcome = result.errors === 0 ? 'none lost, doubled or reordered' : `${result.errors} ERRORS: ${result.error}`
    console.log(
      `${transport}: ${format(result.replies)} acknowledged in ${result.secs.toFixed(1)} s (${format(Math.round(result.rate))} /s), ${outcome}; server at ${Math.round(result.rssKb / 1024)} MiB`,
    )
    if (result.errors > 0) process.exitCode = 1
  }
}

async function measure(name, scenario, env = {}) {
  const { conns, depth, framing = 'line', transport = 'tcp', size = 64, count } = scenario
  const place = { port: await freePort(), path: join(folder, 'socket') }
  rmSync(place.path, { force: true })
  const server = await launch(
    name,
    { TRANSPORT: transport, FRAMING: framing, PORT: String(place.port), SOCKET: place.path, ...env },
    { ...place, transport },
  )
  const where = transport === 'unix' ? ['--unix', place.path] : ['--port', String(place.port)]
  const command = [
    load,
    ...where,
    '--framing',
    framing,
    '--conns',
    conns,
    '--depth',
    depth,
    '--size',
    size,
    '--pid',
    server.pid,
  ]
  if (transport === 'udp' || transport === 'tls') command.push(`--${transport}`)
  command.push(...(count === undefined ? ['--secs', '2', '--warm', '0.7'] : ['--count', count]))
  const text = await output(...pin(1, command.map(String)))
  await server.stop()
  const result = JSON.parse(text)
  if (result.errors > 0 && count === undefined) throw new Error(`${name}, ${scenario.name}: ${result.error}`)
  return result
}

async function launch(name, env, { port, path, transport }, flags = [], isPinnedHere = true) {
  const scripts = { nestjs: 'nestjs/server.mjs', raw: 'raw.mjs', executor: 'executor-server.mjs' }
  const words = ['node', ...flags, join(here, scripts[name] ?? 'server.mjs')]
  const [command, given] = isPinnedHere ? pin(0, words) : [words[0], words.slice(1)]
  const child = spawn(command, given, { env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'inherit'] })
  const gone = new Promise((resolve) => child.once('exit', resolve))
  for (let i = 0; i < 200 && !(await isUp(transport, port, path)); i++) await pause(25)
  await pause(200)
  return {
    pid: child.pid,
    stop: () => {
      child.kill('SIGTERM')
      return gone
    },
  }
}

async function isUp(transport, port, path) {
  if (transport === 'unix') return existsSync(path) && statSync(path).isSocket()
  if (transport === 'udp') {
    return readFileSync('/proc/net/udp', 'utf8').includes(`:${port.toString(16).toUpperCase().padStart(4, '0')} `)
  }
  return new Promise((resolve) => {
    const socket = net.connect({ port, host: '127.0.0.1' }, () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })
}

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}

async function openAll(port, count) {
  const sockets = []
  for (let i = 0; i < count; i += 250) {
    const batch = Array.from({ length: Math.min(250, count - i) }, () => net.connect({ port, host: '127.0.0.1' }))
    await Promise.all(
      batch.map((socket) => new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject))),
    )
    sockets.push(...batch)
  }
  return sockets
}

function output(command, given) {
  return new Promise((resolve) => {
    const child = spawn(command, given, { stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.on('data', (chunk) => (text += chunk))
    child.on('close', () => resolve(text))
  })
}

function cpuOf(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}
function residentOf(pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) * 1024
}
function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
function format(number) {
  return number.toLocaleString('en-US')
}
