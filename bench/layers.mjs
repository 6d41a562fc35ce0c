/**
 * Layers and WebSocket against the same by hand, in the same run: `npm run bench -- layers [--rounds N] [--only gzip,ws]`.
 *
 * Loads need TLS, compression and WebSocket, so they are written for Node, and may be what is slower; so the server's own CPU
 * a message is the measure, and its ratio the row: raw over Gaidaros, 1 where both cost the same.
 *
 *   node layers.mjs                  measures
 *   node layers.mjs raw|gaidaros|load ROW PORT       one side
 */
import { spawn } from 'node:child_process'
import { createWriteStream, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import net from 'node:net'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import tls from 'node:tls'
import { fileURLToPath } from 'node:url'
import zlib from 'node:zlib'

const CONNECTIONS = 50
const WARM_MS = 700
const MEASURE_MS = 2_000
const LINE = `${'x'.repeat(63)}\n`
const HEADER = 'PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n'

const flushing = (make, flush) => () => {
  const stream = make()
  return Object.assign(stream, { turn: () => stream.flush(flush) })
}
const { Z_SYNC_FLUSH, BROTLI_OPERATION_FLUSH, BROTLI_PARAM_QUALITY } = zlib.constants
const squeezers = {
  gzip: [flushing(() => zlib.createGzip(), Z_SYNC_FLUSH), () => zlib.createGunzip()],
  deflate: [flushing(() => zlib.createDeflate(), Z_SYNC_FLUSH), () => zlib.createInflate()],
  brotli: [
    flushing(() => zlib.createBrotliCompress({ params: { [BROTLI_PARAM_QUALITY]: 4 } }), BROTLI_OPERATION_FLUSH),
    () => zlib.createBrotliDecompress(),
  ],
}
/** Row → what it is, how many lines a connection has under way, and Gaidaros' layers. */
const rows = {
  none: { what: 'no layer', depth: 16 },
  'proxy-protocol': {
    what: '`proxy-protocol`',
    depth: 16,
    layers: [{ name: 'proxy-protocol', trusted: ['127.0.0.1'] }],
  },
  tls: { what: '`tls` as a layer', depth: 16, layers: ['tls'] },
  gzip: { what: '`gzip`', depth: 16, layers: ['gzip'] },
  deflate: { what: '`deflate`', depth: 16, layers: ['deflate'] },
  brotli: { what: '`brotli`', depth: 16, layers: ['brotli'] },
  throttle: {
    what: '`throttle`, never biting (raw: no throttle)',
    depth: 16,
    layers: [{ name: 'throttle', read: 1e12, write: 1e12, burst: 1e9 }],
  },
  'wire-log': {
    what: '`wire-log` (raw: a line of hex a chunk)',
    depth: 1,
    layers: [{ name: 'wire-log', file: '/dev/null' }],
  },
  pcap: { what: '`pcap` (raw: the chunks to a file)', depth: 1, layers: [{ name: 'pcap', maxBytes: 'unlimited' }] },
  ws: { what: 'WebSocket (raw: the library `ws`)', depth: 1 },
}

const [role, row, port] = process.argv.slice(2)
if (role === 'raw') await serveRaw()
else if (role === 'gaidaros') await serveGaidaros()
else if (role === 'load') await load()
else await main()

async function materials() {
  const [cert, key] = [process.env.CERT, process.env.KEY]
  return { cert, key }
}

async function serveRaw() {
  // As raw.mjs: each line is found in place and handled, the replies of a chunk leave in one write.
  const handle = (message) => message
  const echo = (socket, write = (bytes) => socket.write(bytes), source = socket) => {
    socket.on('error', () => socket.destroy())
    let rest = null
    source.on('data', (chunk) => {
      const bytes = rest === null ? chunk : Buffer.concat([rest, chunk])
      const out = Buffer.allocUnsafe(bytes.length)
      let size = 0
      let at = 0
      for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, at)) {
        size += handle(bytes.subarray(at, end)).copy(out, size)
        out[size++] = 10
        at = end + 1
      }
      rest = at === bytes.length ? null : bytes.subarray(at)
      if (size > 0) write(size === out.length ? out : out.subarray(0, size))
    })
  }
  const log = row === 'wire-log' || row === 'pcap' ? createWriteStream('/dev/null') : undefined
  const plain = (socket) => {
    if (row === 'proxy-protocol') {
      socket.once('data', (chunk) => {
        const end = chunk.indexOf('\r\n') + 2
        if (!/^PROXY TCP4 \S+ \S+ \d+ \d+\r\n$/.test(chunk.toString('latin1', 0, end))) return socket.destroy()
        if (chunk.length > end) socket.unshift(chunk.subarray(end))
        echo(socket)
      })
      return
    }
    if (row in squeezers) {
      const [deflater, inflater] = squeezers[row].map((make) => make())
      deflater.pipe(socket)
      socket.pipe(inflater)
      inflater.on('error', () => socket.destroy())
      return echo(
        socket,
        (bytes) => {
          deflater.write(bytes)
          deflater.turn()
        },
        inflater,
      )
    }
    if (log !== undefined) {
      const shown = (bytes) => log.write(row === 'pcap' ? bytes : `${bytes.toString('hex')}\n`)
      socket.on('data', shown)
      return echo(socket, (bytes) => {
        shown(bytes)
        socket.write(bytes)
      })
    }
    echo(socket)
  }
  if (row === 'ws') {
    const { WebSocketServer } = await import('ws')
    new WebSocketServer({ port: Number(port), host: '127.0.0.1', perMessageDeflate: false }).on(
      'connection',
      (socket) => socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary })),
    )
  } else if (row === 'tls') tls.createServer({ ...(await materials()), noDelay: true }, plain).listen(port, '127.0.0.1')
  else net.createServer({ noDelay: true }, plain).listen(port, '127.0.0.1')
  process.on('SIGTERM', () => process.exit(0))
}

async function serveGaidaros() {
  const { createServer } = await import('gaidaros')
  const layers = (rows[row].layers ?? []).map((layer) =>
    layer.name === 'pcap' ? { ...layer, file: process.env.PCAP } : layer,
  )
  const server = await createServer({
    config: false,
    listen: `${row === 'ws' ? 'ws' : 'tcp'}://127.0.0.1:${port}`,
    ...(row === 'tls' ? { tls: await materials() } : {}),
    layers,
    handler: (line) => line,
  })
  await server.start()
  process.on('SIGTERM', () => process.exit(0))
}

/** Prints how many lines came back in the measured time; each reply is counted, its bytes compared by length. */
async function load() {
  let replies = 0
  const { depth } = rows[row]
  for (let i = 0; i < CONNECTIONS; i++) {
    if (row === 'ws') {
      const { WebSocket } = await import('ws')
      const socket = new WebSocket(`ws://127.0.0.1:${port}`, { perMessageDeflate: false })
      socket.on('open', () => socket.send(LINE.trim()))
      socket.on('message', () => {
        replies++
        socket.send(LINE.trim())
      })
      continue
    }
    const socket =
      row === 'tls'
        ? tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false })
        : net.connect({ port, host: '127.0.0.1', noDelay: true })
    const batch = Buffer.from(LINE.repeat(depth))
    let source = socket
    let send = () => socket.write(batch)
    if (row in squeezers) {
      const [deflater, inflater] = squeezers[row].map((make) => make())
      deflater.pipe(socket)
      source = socket.pipe(inflater)
      send = () => {
        deflater.write(batch)
        deflater.turn()
      }
    }
    let got = 0
    source.on('data', (chunk) => {
      got += chunk.length
      while (got >= batch.length) {
        got -= batch.length
        replies += depth
        send()
      }
    })
    if (row === 'proxy-protocol') socket.write(HEADER)
    send()
  }
  await pause(WARM_MS)
  const before = { replies, cpu: cpuOf(process.env.SERVER), at: performance.now() }
  await pause(MEASURE_MS)
  const count = replies - before.replies
  const seconds = (performance.now() - before.at) / 1_000
  console.log(
    JSON.stringify({ rate: count / seconds, cpuMicros: ((cpuOf(process.env.SERVER) - before.cpu) * 1_000) / count }),
  )
  process.exit(0)
}

async function main() {
  const args = process.argv.slice(2)
  const option = (name, otherwise) => (args.includes(name) ? args[args.indexOf(name) + 1] : otherwise)
  const rounds = Number(option('--rounds', 5))
  const only = option('--only', '').split(',').filter(Boolean)
  const { generate } = await import('selfsigned')
  const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }])
  const folder = mkdtempSync(join(tmpdir(), 'gaidaros-bench-'))
  const env = { CERT: cert, KEY: key, PCAP: join(folder, 'wire.pcap') }
  console.log(
    '| lines of 64 B, 50 connections | raw /s | gaidaros /s | CPU µs a message, raw → gaidaros | ratio of CPU |\n|---|---|---|---|---|',
  )
  for (const [name, { what, depth }] of Object.entries(rows)) {
    if (only.length > 0 && !only.includes(name)) continue
    const results = { raw: [], gaidaros: [] }
    for (let round = 0; round < rounds; round++) {
      const order = round % 2 === 0 ? ['raw', 'gaidaros'] : ['gaidaros', 'raw']
      for (const side of order) results[side].push(await measure(side, name, env))
    }
    const of = (side, what) => median(results[side].map((result) => result[what]))
    const ratio = median(results.raw.map(({ cpuMicros }, i) => cpuMicros / results.gaidaros[i].cpuMicros))
    const rates = ['raw', 'gaidaros'].map((side) => Math.round(of(side, 'rate')).toLocaleString('en-US'))
    const cpu = ['raw', 'gaidaros'].map((side) => of(side, 'cpuMicros').toFixed(2))
    console.log(`| ${what}, depth ${depth} | ${rates.join(' | ')} | ${cpu.join(' → ')} | **${ratio.toFixed(2)}** |`)
  }
  rmSync(folder, { recursive: true, force: true })
}

async function measure(side, name, env) {
  const place = await freePort()
  const server = start(0, [side, name, place], env)
  for (let i = 0; i < 200 && !(await isUp(place)); i++) await pause(25)
  const client = start(1, ['load', name, place], { ...env, SERVER: String(server.pid) })
  let text = ''
  client.stdout.on('data', (chunk) => (text += chunk))
  await new Promise((resolve) => client.once('close', resolve))
  const gone = new Promise((resolve) => server.once('close', resolve))
  server.kill('SIGTERM')
  await gone
  return JSON.parse(text)
}

function start(core, args, env) {
  const script = [process.execPath, fileURLToPath(import.meta.url), ...args.map(String)]
  const isPinned = process.platform === 'linux' && cpus().length > 1
  const [command, given] = isPinned ? ['taskset', ['-c', String(core), ...script]] : [script[0], script.slice(1)]
  return spawn(command, given, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] })
}

function isUp(place) {
  return new Promise((resolve) => {
    const socket = net.connect({ port: place, host: '127.0.0.1' }, () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })
}

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port: place } = server.address()
      server.close(() => resolve(place))
    })
  })
}

function cpuOf(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}
function median(values) {
  return values.toSorted((a, b) => a - b)[values.length >> 1]
}
function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
