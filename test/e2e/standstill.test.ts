// time limit: 120 s
/** A process that stood still judges nobody by what it has not read yet (F125). */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Command, gaidaros, killAll } from '../support/command.js'
import { Peer } from '../support/faults.js'

const folder = mkdtempSync(join(tmpdir(), 'gss-'))
const DEADLINE_MS = 2_000
const STILL_MS = 2_900
const PEERS = 40

writeFileSync(
  join(folder, 'handler.mjs'),
  `export default (line) => {
    if (line !== 'block') return 're ' + line
    const until = performance.now() + ${STILL_MS}
    while (performance.now() < until);
    return 'blocked'
  }\n`,
)

const after = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** What stands still, and for how long. */
const standstills: Readonly<Record<string, (server: Command, port: number) => Promise<void>>> = {
  'the process is stopped (SIGSTOP)': async (server) => {
    server.child.kill('SIGSTOP')
    await after(STILL_MS)
    server.child.kill('SIGCONT')
  },
  'a handler blocks the loop': async (_, port) => {
    const peer = await Peer.open(port)
    await peer.send('block\n').hears('blocked')
    peer.leave()
  },
}

for (const [what, standStill] of Object.entries(standstills)) {
  test(`F125 ${what}: peers that spoke in time are answered, those that did not are cut`, async () => {
    const server = gaidaros(
      [
        'serve',
        ...['--listen', 'tcp://127.0.0.1:0', '--handler', './handler.mjs'],
        ...['--set', `timeouts.idleMs=${DEADLINE_MS}`, '--set', `timeouts.frameMs=${DEADLINE_MS}`],
      ],
      { cwd: folder, limitMs: 60_000 },
    )
    const { default: port = 0 } = await server.ready()
    const framing = await Promise.all(Array.from({ length: PEERS / 2 }, () => Peer.open(port)))
    const idling = await Promise.all(Array.from({ length: PEERS / 2 }, () => Peer.open(port)))
    const silent = await Peer.open(port)
    for (const peer of [...framing, ...idling, silent]) peer.send('first\n')
    await Promise.all([...framing, ...idling, silent].map((peer) => peer.hears('re first\n')))
    for (const peer of framing) peer.send('begun ')
    // The beginning of a frame is read before the standstill begins.
    await after(100)
    const still = standStill(server, port)
    await after(400)
    for (const peer of framing) peer.send('and done\n')
    for (const peer of idling) peer.send('here I am\n')
    await still
    await Promise.all(framing.map((peer) => peer.hears('re begun and done\n')))
    await Promise.all(idling.map((peer) => peer.hears('re here I am\n')))
    await silent.over
    for (const peer of [...framing, ...idling, silent]) peer.leave()
    server.child.kill('SIGTERM')
    assert.is(await server.ended, 0)
  })
}

test('F125 a handshake whose other half waits in the kernel is done, one without is cut', async () => {
  const server = gaidaros(
    [
      'serve',
      '--listen',
      'ws://127.0.0.1:0',
      '--handler',
      './handler.mjs',
      '--set',
      `timeouts.handshakeMs=${DEADLINE_MS}`,
    ],
    { cwd: folder, limitMs: 60_000 },
  )
  const { default: port = 0 } = await server.ready()
  const peers = await Promise.all(Array.from({ length: 20 }, () => Peer.open(port)))
  const silent = await Peer.open(port)
  const key = Buffer.alloc(16, 'k').toString('base64')
  for (const peer of [...peers, silent]) peer.send('GET / HTTP/1.1\r\nHost: localhost\r\n')
  await after(100)
  server.child.kill('SIGSTOP')
  await after(400)
  const rest = 'Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n'
  for (const peer of peers) peer.send(`${rest}Sec-WebSocket-Key: ${key}\r\n\r\n`)
  await after(STILL_MS - 400)
  server.child.kill('SIGCONT')
  await Promise.all(peers.map((peer) => peer.hears('101 Switching Protocols')))
  await silent.over
  assert.not.match(silent.heard, /101/)
  for (const peer of peers) peer.leave()
  server.child.kill('SIGTERM')
  assert.is(await server.ended, 0)
})

test.after(() => {
  killAll()
  rmSync(folder, { recursive: true, force: true })
})

test.run()
