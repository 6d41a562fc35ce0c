/** Several protocols on one endpoint, told apart by real clients; a deadline and a size for those that cannot be told. */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Detection, defineHandler, definePlugin, type Protocol, type ServerOptions } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros, killAll } from '../support/command.js'
import { eventually, Peer, serve, stopAll } from '../support/faults.js'
import { skip } from '../support/skip.js'
import { hasTool } from '../support/tools.js'

const folder = mkdtempSync(join(tmpdir(), 'gn-'))
test.after(async () => {
  killAll()
  await stopAll()
  rmSync(folder, { recursive: true })
})

const pages = { name: 'http', fetch: () => new Response('a page') }
const store = { name: 'resp', handler: defineHandler({ name: 'Store', routes: { GET: () => 'a value' } }) }
const rest = { codec: 'line', handler: (line: string) => `line ${line}` }
const start = (protocol: readonly unknown[], more: object = {}) =>
  serve({
    listen: undefined,
    listeners: { default: { endpoint: 'tcp://127.0.0.1:0', protocol, ...more } },
  } as unknown as ServerOptions)

function run(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] })
    let output = ''
    child.stdout.on('data', (chunk) => (output += chunk))
    child.on('close', () => resolve(output))
  })
}

test('curl, redis-cli and ncat on one port, each with its protocol', async () => {
  const { port } = await start([pages, store, rest])
  if (!hasTool('curl')) skip('curl', 'it is not installed')
  else assert.is(await run('curl', ['-s', '--max-time', '10', `http://127.0.0.1:${port}/`]), 'a page')
  if (!hasTool('redis-cli')) skip('redis-cli', 'it is not installed')
  else assert.is(await run('redis-cli', ['-p', String(port), 'GET', 'x']), 'a value\n')
  const peer = await Peer.open(port)
  // Byte by byte: nothing is decided early, and nothing is lost.
  for (const byte of 'GE, said she\n') peer.send(byte)
  await peer.hears('line GE, said she\n')
  peer.leave()
})

test('what nobody speaks is closed; who says nothing, or too little, has until the deadline', async () => {
  const { port, until, server } = await start([pages, store], { timeouts: { detectMs: 200 } })
  const odd = (await Peer.open(port)).send('\0\0\0')
  await odd.over
  const silent = await Peer.open(port)
  const slow = (await Peer.open(port)).send('G')
  const first = await until('connection.expired')
  assert.is(first.code, 'UNDETECTED')
  await Promise.all([silent.over, slow.over])
  assert.is(server.counters['refused.UNDETECTED'], 3)
  for (const peer of [odd, silent, slow]) peer.leave()
  await eventually(() => server.connections.size === 0, 'nobody is left')
})

test('at the deadline the rest is served by the one that takes it', async () => {
  const { port } = await start(
    [pages, { codec: 'line', handler: defineHandler({ name: 'Greets', open: () => 'hello' }) }],
    {
      timeouts: { detectMs: 100 },
    },
  )
  const silent = await Peer.open(port)
  await silent.hears('hello\n')
  silent.leave()
})

test('a candidate that always wants more is held to the size', async () => {
  let looked = 0
  const hesitant: Protocol = {
    codec: { decode: (frame: Uint8Array) => frame, encode: (bytes: Uint8Array) => bytes },
    detect(_buffer, start, end): Detection {
      looked = Math.max(looked, end - start)
      return 'more'
    },
  }
  const plugin = definePlugin({
    name: 'hesitant',
    setup: (registry) => void registry.protocol({ name: 'hesitant', create: () => hesitant }),
  })
  const { port } = await serve({
    listen: undefined,
    plugins: [plugin],
    listeners: {
      default: {
        endpoint: 'tcp://127.0.0.1:0',
        protocol: [{ name: 'hesitant', handler: () => undefined }, rest],
        limits: { detectBytes: 64 },
        timeouts: { detectMs: 'unlimited' },
      },
    },
  } as unknown as ServerOptions)
  const peer = await Peer.open(port)
  peer.send('x'.repeat(63))
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.is(peer.heard, '')
  peer.send('y'.repeat(1_000)).send('\n')
  await peer.hears(`line ${'x'.repeat(63)}${'y'.repeat(1_000)}\n`)
  assert.is(looked, 64)
  peer.leave()
})

test('explain says who is asked, in which order, by how much, and what becomes of the others', async () => {
  const file = join(folder, 'all.mjs')
  const text = (protocols: string) =>
    `export default { listen: 'tcp://127.0.0.1:0', limits: { detectBytes: 99 }, protocol: [${protocols}] }`
  const http = `{ name: 'http', fetch: () => new Response('') }`
  const resp = `{ name: 'resp', handler: { GET: () => 1 } && ((message) => message) }`
  const explained = async (protocols: string) => {
    writeFileSync(file, text(protocols))
    const command = gaidaros(['explain', '--config', file], { cwd: folder })
    assert.is(await command.ended, 0, command.stderr)
    return command.stdout
  }
  const all = await explained(`${http}, ${resp}, { codec: 'line', handler: (line) => line }`)
  assert.match(all, /detects +http → .*, or by ALPN http\/1\.1\n/)
  assert.match(all, /detects +line → .*, what nobody else has claimed\n/)
  assert.match(all, /in order, by the first 99 bytes, within 5000 ms; else line\n/)
  assert.match(await explained(`${http}, ${resp}`), /within 5000 ms; else closed as UNDETECTED\n/)
})

test.run()
