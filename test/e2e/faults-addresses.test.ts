// time limit: 180 s
/** Peers whose address nobody can tell any more, and peers that have none by nature: F96; by a PROXY header over a Unix socket: F97. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { connect, createServer as createNet } from 'node:net'
import {
  attach,
  type CloseReason,
  type Connection,
  createServer,
  defineHandler,
  PROXY,
  type ServerOptions,
} from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { killAll } from '../support/command.js'
import { eventually, Peer, serve, stopAll } from '../support/faults.js'
import { withTool } from '../support/programs.js'
import { patient, Traveller, ways } from '../support/ways.js'
import { Folder, Serving } from '../support/workers.js'

const COUNT = 200
/** Neither allowed nor trusted. */
const STRANGER = '127.0.0.66'
const folder = new Folder()

/** Connects, sends and resets, one after the other, whatever the server does meanwhile. */
const client = folder.write(
  'reset.cjs',
  `const { connect } = require('node:net')
const [port, count, text] = [Number(process.argv[2]), Number(process.argv[3]), Buffer.from(process.argv[4], 'base64')]
const one = (left) => {
  if (left === 0) return
  const socket = connect({ port, host: '127.0.0.1', localAddress: '${STRANGER}', autoSelectFamily: false })
  socket.on('error', () => {})
  socket.once('connect', () => socket.write(text, () => socket.resetAndDestroy()))
  socket.once('close', () => one(left - 1))
}
one(count)`,
)
const argsOf = (port: number, text: string) => [
  client,
  String(port),
  String(COUNT),
  Buffer.from(text).toString('base64'),
]
/** The whole process stands still until they have gone. */
const resetsBeforeAccept = (port: number, text: string) =>
  spawnSync(process.execPath, argsOf(port, text), { timeout: 60_000 })
const resets = (port: number, text: string) =>
  new Promise((resolve) => spawn(process.execPath, argsOf(port, text), { stdio: 'ignore' }).once('close', resolve))

const upgrade =
  'GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n'
const filter = { middleware: [{ name: 'ip-filter', allow: ['127.0.0.1'] }] } as const
const layer = { name: 'proxy-protocol', trusted: ['127.0.0.1'] } as const
const made = 'PROXY TCP4 127.0.0.1 192.0.2.1 1 2\r\n'
const strangers: Record<string, { options: ServerOptions; text: string }> = {
  'ip-filter on tcp': { options: { listen: 'tcp://127.0.0.1:0', ...filter }, text: 'delete all\n' },
  'ip-filter on every address': { options: { listen: 'tcp://0.0.0.0:0', ...filter }, text: 'delete all\n' },
  'ip-filter on tls': { options: { ...ways[0]?.options, ...filter }, text: 'delete all\n' },
  'ip-filter on ws': { options: { listen: 'ws://127.0.0.1:0', ...filter }, text: `${upgrade}\x81\x81\0\0\0\0x` },
  'proxy-protocol': { options: { listen: 'tcp://127.0.0.1:0', layers: [layer] }, text: `${made}delete all\n` },
  'proxy-protocol on ws': { options: { listen: 'ws://127.0.0.1:0', layers: [layer] }, text: `${made}${upgrade}` },
  connectionsPerSource: {
    options: { listen: 'tcp://127.0.0.1:0', limits: { connectionsPerSource: 1 } },
    text: 'delete all\n',
  },
  'nothing that judges': { options: { listen: 'tcp://127.0.0.1:0' }, text: 'delete all\n' },
}

for (const [name, { options, text }] of Object.entries(strangers)) {
  test(`F96 a peer that was gone before its accept is not let in: ${name}`, async () => {
    const handled: string[] = []
    const handler = (line: string, { remote }: Connection) => {
      handled.push(`${line} ${remote}`)
    }
    const { port, server, count } = await serve({ ...options, handler, timeouts: patient })
    resetsBeforeAccept(port, text)
    await eventually(() => server.counters['refused.unknown-address'] === COUNT, 'all are refused')
    assert.equal(handled, [])
    assert.is(server.counters.opened ?? 0, 0)
    assert.is(count('connection.refused'), COUNT)
    assert.is(count('listener.fault'), 0)
    assert.is(server.connections.size, 0)
    // Some are accepted before they go: those have their address.
    await resets(port, text)
    await eventually(() => server.connections.size === 0, 'all are gone')
    for (const one of handled) assert.match(one, new RegExp(STRANGER))
    if (name !== 'connectionsPerSource' && name !== 'nothing that judges') assert.equal(handled, [])
  })
}

for (const workers of [{ count: 1 }, 2, { count: 2, balance: 'kernel' }, { count: 2, balance: 'source' }]) {
  test(`F96 the same through workers: ${JSON.stringify(workers)}`, async () => {
    const log = folder.at(`handled-${JSON.stringify(workers).replace(/\W/g, '')}.log`)
    folder.write(
      'tell.mjs',
      `import { defineHandler } from 'gaidaros'
import { appendFileSync } from 'node:fs'
export default defineHandler({ name: 'tell', codec: 'line', message(line, c) {
  if (line.startsWith('block')) { const until = Date.now() + 400; while (Date.now() < until); return 'done' }
  appendFileSync(process.env.LOG, \`\${line} \${c.remote}\\n\`) } })`,
    )
    const file = folder.write('unknown.json', {
      listeners: {
        filtered: { endpoint: 'tcp://127.0.0.1:0', handler: './tell.mjs', ...filter },
        proxied: { endpoint: 'tcp://127.0.0.1:0', handler: './tell.mjs', layers: [layer] },
      },
      workers,
    })
    const serving = await Serving.start(folder, ['--config', file], { env: { LOG: log } })
    for (const text of ['delete all\n', `${made}delete all\n`]) {
      const port = serving.ports[text.startsWith('PROXY') ? 'proxied' : 'filtered'] as number
      // Whoever is let in keeps its worker busy, so that what comes meanwhile waits in the kernel or on its way.
      const blockers = await Promise.all(Array.from({ length: 4 }, () => Peer.open(port)))
      for (const one of blockers) one.send(text.startsWith('PROXY') ? `${made}block\n` : 'block\n')
      await resets(port, text)
      await Promise.all(blockers.map((one) => one.hears('done')))
      for (const one of blockers) one.leave()
    }
    assert.is(await serving.stop(), 0)
    assert.not(existsSync(log), 'nothing was handled')
  })
}

test('F96 @OnClose knows remote and local, though nobody asked before and the peer is gone', async () => {
  const listens: Record<string, Pick<ServerOptions, 'listen' | 'layers' | 'tls'>> = Object.fromEntries(
    ways.map(({ name, options }) => [name, options]),
  )
  listens['any IPv4 address'] = { listen: 'tcp://0.0.0.0:0' }
  listens['any address'] = { listen: 'tcp://[::]:0' }
  listens.localhost = { listen: 'tcp://localhost:0' }
  for (const [name, options] of Object.entries(listens)) {
    for (const end of ['reset', 'end'] as const) {
      let told: (facts: [Connection, CloseReason]) => void = () => {}
      const closed = new Promise<[Connection, CloseReason]>((resolve) => {
        told = resolve
      })
      const { port, until } = await serve({
        ...options,
        handler: defineHandler({
          name: 'last',
          codec: 'line',
          message: () => undefined,
          close: (...facts) => told(facts),
        }),
        timeouts: patient,
      })
      const steps = ways.find((way) => way.name === name)?.steps ?? []
      const peer = await (await Traveller.to(port, steps)).go()
      await until('connection.opened')
      const own = { host: '127.0.0.1', port: peer.raw.localPort }
      if (end === 'reset') peer.raw.resetAndDestroy()
      else peer.raw.end()
      const [connection] = await closed
      const { remote, local } = connection
      if (steps[0] === 'header') {
        assert.equal([remote?.host, remote?.port], ['192.0.2.1', 1234])
        assert.equal([local?.host, local?.port], ['192.0.2.254', 443])
      } else {
        assert.equal([remote?.host?.replace('::ffff:', ''), remote?.port], [own.host, own.port], `${name}, ${end}`)
        assert.equal([local?.host?.replace('::ffff:', ''), local?.port], ['127.0.0.1', port], `${name}, ${end}`)
      }
    }
  }
})

test('F96 peers of a Unix socket have no address by nature, and are judged as such', async () => {
  const path = folder.at('by-nature.sock')
  const { server } = await serve({
    listen: `unix:${path}`,
    ...filter,
    limits: { connectionsPerSource: 1 },
    handler: (line: string) => line,
  })
  const [one, other] = [connect(path), connect(path)]
  for (const peer of [one, other]) {
    peer.write('hello\n')
    assert.is(String(await new Promise((resolve) => peer.once('data', resolve))), 'hello\n')
  }
  assert.equal(
    [...server.connections].map(({ remote }) => remote),
    [undefined, undefined],
  )
  for (const peer of [one, other]) peer.destroy()
})

test('F96 connections of a server that is attached to are judged by their address too', async () => {
  const handled: string[] = []
  const handler = (line: string, { remote }: Connection) => {
    handled.push(`${line} ${remote}`)
    return line
  }
  const server = await createServer({ config: false, listen: 'memory:judged', handler })
  await server.start()
  const net = createNet()
  await new Promise<void>((resolve) => net.listen(0, '127.0.0.1', resolve))
  const { port } = net.address() as { port: number }
  await attach(server, net, { name: 'net', handler, ...filter })
  resetsBeforeAccept(port, 'delete all\n')
  await eventually(() => server.counters['refused.unknown-address'] === COUNT, 'all are refused')
  const stranger = await Peer.open(port, { localAddress: STRANGER })
  stranger.send('delete all\n')
  await stranger.over
  const friend = await Peer.open(port)
  await friend.echoes('hello')
  assert.equal(handled, [`hello tcp://127.0.0.1:${friend.socket.localPort}`])
  friend.leave()
  await server.stop({ timeoutMs: 0 })
  net.close()
})

// -- by a header ------------------------------------------------------------------------------------------------------

const proxies: ChildProcess[] = []

async function freePort(): Promise<number> {
  const server = createNet().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** HAProxy in front of an address. @returns its port. */
async function haproxy(target: string, send: string): Promise<number> {
  const port = await freePort()
  const file = folder.at(`haproxy-${port}.cfg`)
  writeFileSync(
    file,
    `global\n  maxconn 50\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n` +
      `listen it\n  bind 127.0.0.1:${port}\n  server s1 ${target} ${send}\n`,
  )
  proxies.push(spawn('haproxy', ['-f', file, '-db'], { stdio: 'ignore' }))
  for (let tries = 0; tries < 400; tries++) {
    const peer = await Peer.open(port).catch(() => undefined)
    if (peer !== undefined) {
      peer.leave()
      return port
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error('haproxy does not listen')
}

for (const send of ['send-proxy', 'send-proxy-v2'])
  for (const over of ['tcp', 'unix'])
    withTool(
      'haproxy',
      `F97 a header by HAProxy’s ${send} over ${over}: says who the peer is, to everybody`,
      async () => {
        const path = folder.at(`${over}-${send}.sock`)
        const { port, server } = await serve({
          listen: over === 'unix' ? `unix:${path}` : 'tcp://127.0.0.1:0',
          layers: [layer],
          middleware: [{ name: 'ip-filter', deny: ['127.0.0.9'] }],
          limits: { connectionsPerSource: 1 },
          handler: (line: string, connection: Connection) =>
            [line, connection.remote, connection.local, `v${connection.feature(PROXY)?.version}`].join(' '),
        })
        const front = await haproxy(over === 'unix' ? path : `127.0.0.1:${port}`, send)
        await eventually(() => server.connections.size === 0, 'the first look is over')
        const refused = server.counters['refused.source'] ?? 0
        const peer = await Peer.open(front, { localAddress: '127.0.0.8' })
        await peer
          .send('hello\n')
          .hears(
            `hello tcp://127.0.0.8:${peer.socket.localPort} tcp://127.0.0.1:${front} v${send === 'send-proxy' ? 1 : 2}\n`,
          )
        // Of the same source: one too many. Of another: let in. Of the one that is denied: not.
        const second = await Peer.open(front, { localAddress: '127.0.0.8' })
        second.send('hello\n')
        await second.over
        assert.is(second.heard, '')
        assert.is((server.counters['refused.source'] ?? 0) - refused, 1)
        const denied = await Peer.open(front, { localAddress: '127.0.0.9' })
        denied.send('hello\n')
        await denied.over
        assert.is(denied.heard, '')
        const other = await Peer.open(front, { localAddress: '127.0.0.10' })
        await other.send('hello\n').hears('hello tcp://127.0.0.10:')
        for (const one of [peer, second, denied, other]) one.leave()
      },
    )

test.after(async () => {
  for (const proxy of proxies) proxy.kill('SIGKILL')
  killAll()
  await stopAll()
  folder.remove()
})
test.run()
