// time limit: 240 s
/** Addresses, paths, descriptors, datagrams, and a network that vanishes: F17, F18, F24, F30–F34, F84, F85, F88. */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { createSocket, type Socket as Datagrams } from 'node:dgram'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { connect, createServer as createNetServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gaidaros, killAll } from '../support/command.js'
import { eventually, Peer, serve, stopAll } from '../support/faults.js'
import { skip } from '../support/skip.js'
import { hasTool } from '../support/tools.js'

const folder = mkdtempSync(join(tmpdir(), 'g-'))
const echo = (line: string) => line
const udp = 'udp://127.0.0.1:0'

/** A datagram peer. */
function datagrams(port: number): {
  socket: Datagrams
  heard: Buffer[]
  send(data: string | Buffer): void
  next(count: number): Promise<void>
} {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 4 << 20 })
  const heard: Buffer[] = []
  socket.on('message', (message) => heard.push(message))
  return {
    socket,
    heard,
    send: (data) => socket.send(data, port, '127.0.0.1'),
    next: (count) => eventually(() => heard.length >= count, `${count} datagrams`),
  }
}

test('F18 a port in use: exit 2, named, nothing half-started', async () => {
  const taken = createNetServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => taken.once('listening', resolve))
  const { port } = taken.address() as { port: number }
  const other = join(folder, 'first.sock')
  const command = gaidaros(['serve', '--listen', `unix:${other}`, '--listen', `tcp://127.0.0.1:${port}`])
  assert.is(await command.ended, 2)
  assert.match(command.stderr, new RegExp(`127.0.0.1:${port}`))
  assert.match(command.stderr, /EADDRINUSE/)
  assert.not.match(command.stdout, /listening|ready/)
  assert.is(existsSync(other), false, 'the first one was undone')
  taken.close()
})

test('F24 at 90 % of the descriptors newcomers are refused, an alarm is raised, those inside are served', async () => {
  if (!hasTool('prlimit')) return skip('F24', 'prlimit (util-linux) is not installed')
  const command = gaidaros(['serve', '--listen', 'tcp://127.0.0.1:0', '-v'])
  const { default: port = 0 } = await command.ready()
  // Lowered while it runs: Node itself needs more than this to load its modules.
  execFileSync('prlimit', ['--pid', String(command.pid), '--nofile=60:20000'])
  const first = await Peer.open(port)
  await first.echoes('first')
  const many = Array.from({ length: 80 }, () => new Peer(port))
  await command.shows(/descriptors/)
  await first.echoes('still served')
  for (const peer of many) peer.leave()
  await eventually(() => many.every((peer) => peer.socket.destroyed), 'they left')
  let isIn = false
  for (let i = 0; i < 100 && !isIn; i++) {
    const next = await Peer.open(port)
    isIn = await next.echoes('in again').then(
      () => true,
      () => false,
    )
    next.leave()
    if (!isIn) await new Promise((resolve) => setTimeout(resolve, 50))
  }
  assert.ok(isIn, 'descriptors are back, and so is the listener')
  first.leave()
  command.child.kill('SIGTERM')
  assert.is(await command.ended, 0)
})

test('F30 datagrams of 0, 1 and 65,507 bytes are one message each', async () => {
  const { port } = await serve({ listen: udp, codec: 'raw', handler: (message: Buffer) => message })
  const peer = datagrams(port)
  for (const size of [0, 1, 65_507]) peer.send(Buffer.alloc(size, 7))
  await peer.next(3)
  assert.equal(
    peer.heard.map(({ length }) => length),
    [0, 1, 65_507],
  )
  peer.socket.close()
})

test('F31 65,508 bytes are refused to the caller, and the socket lives', async () => {
  let failure: { code?: string } | undefined
  const { port } = await serve({
    listen: udp,
    codec: 'raw',
    handler: async (message: Buffer, connection: import('gaidaros').Connection) => {
      await connection.send(Buffer.alloc(65_508)).catch((error) => (failure = error))
      return message
    },
  })
  const peer = datagrams(port)
  peer.send('x')
  await peer.next(1)
  assert.is(failure?.code, 'MESSAGE_TOO_LARGE')
  peer.socket.close()
})

test('F32 a burst: what was sent was received, or dropped by the kernel and counted there', async () => {
  let received = 0
  const { port } = await serve({ listen: udp, handler: () => void received++ })
  const peer = datagrams(port)
  const sent = 20_000
  for (let i = 0; i < sent; i++) {
    await new Promise((resolve) => peer.socket.send('x'.repeat(64), port, '127.0.0.1', resolve))
  }
  const dropped = () => {
    const hex = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
    const row = readFileSync('/proc/net/udp', 'utf8')
      .split('\n')
      .find((text) => text.trim().split(/\s+/)[1]?.endsWith(hex))
    return Number(row?.trim().split(/\s+/).at(-1) ?? 0)
  }
  await eventually(() => received + dropped() === sent, `sent ${sent}, received ${received}, dropped ${dropped()}`)
  peer.socket.close()
})

test('F33 with a ratio set, a small request gets no large reply', async () => {
  const { port, until, server } = await serve({
    listen: udp,
    limits: { replyRatio: 3 },
    handler: (line: string) => 'z'.repeat(Number(line)),
  })
  const peer = datagrams(port)
  peer.send('5')
  await until('handler.failed')
  assert.is(server.counters['failed.AMPLIFIED'], 1)
  peer.send('3')
  await peer.next(1)
  assert.is(peer.heard[0]?.toString(), 'zzz')
  peer.socket.close()
})

test('F34 a new source each time: the table is bounded, the least recent goes, active ones stay', async () => {
  const { port, server } = await serve({ listen: udp, limits: { peers: 50 }, handler: echo })
  const active = datagrams(port)
  active.send('a')
  await active.next(1)
  const strangers = Array.from({ length: 200 }, () => datagrams(port))
  for (const [i, stranger] of strangers.entries()) {
    stranger.send(`s${i}`)
    await stranger.next(1)
    if (i % 20 === 0) {
      active.send('a')
      await active.next(2 + i / 20)
    }
  }
  assert.ok(server.connections.size <= 50, `${server.connections.size} remembered`)
  const [oldest] = server.connections
  assert.is(oldest?.stats.messagesIn, 11, 'the active one was never forgotten')
  for (const one of [active, ...strangers]) one.socket.close()
})

test('F84 a stale socket is replaced; a file, a live server, a symlink, a long path are left alone', async () => {
  const at = (name: string) => join(folder, name)
  const bind = (path: string) =>
    serve({ listen: `unix:${path}`, handler: echo }).then(
      ({ server }) => server.stop({ timeoutMs: 0 }).then(() => 'bound'),
      (error) => error.code as string,
    )
  // A server that was killed leaves its file behind.
  spawnSync(process.execPath, [
    '-e',
    `net.createServer().listen(${JSON.stringify(at('dead.sock'))}, () => process.kill(process.pid, 'SIGKILL'))`,
  ])
  assert.ok(statSync(at('dead.sock')).isSocket())
  assert.is(await bind(at('dead.sock')), 'bound')

  writeFileSync(at('file'), 'precious')
  assert.is(await bind(at('file')), 'PATH_OCCUPIED')
  assert.is(readFileSync(at('file'), 'utf8'), 'precious')
  symlinkSync(at('file'), at('link'))
  assert.is(await bind(at('link')), 'PATH_OCCUPIED')
  assert.ok(existsSync(at('link')))

  const live = await serve({ listen: `unix:${at('live.sock')}`, handler: echo })
  assert.is(await bind(at('live.sock')), 'ADDRESS_IN_USE')
  const peer = connect(at('live.sock'))
  peer.write('alive\n')
  const [answer] = (await once(peer, 'data')) as [Buffer]
  assert.is(answer.toString(), 'alive\n')
  peer.destroy()
  await live.server.stop({ timeoutMs: 0 })

  assert.is(await bind(at('x'.repeat(120))), 'PATH_TOO_LONG')
  assert.is(await bind(at('no/folder.sock')), 'PATH_INVALID')
  assert.is(await bind(`${at('nul')}\0.sock`), 'PATH_INVALID')
  mkdirSync(at('sub'))
  assert.is(await bind(at('sub/../dotted.sock')), 'bound')
  assert.is(existsSync(at('dotted.sock')), false, 'removed at the stop')
})

test('F85 the socket has its mode from its first moment', async () => {
  for (const [mode, expected] of [
    [undefined, 0o660],
    ['0600', 0o600],
    [0o666, 0o666],
  ] as const) {
    const path = join(folder, `mode-${expected}.sock`)
    const { server } = await serve({
      listen: `unix:${path}`,
      handler: echo,
      ...(mode === undefined ? {} : { socket: { mode } }),
    })
    assert.is(statSync(path).mode & 0o777, expected)
    await server.stop({ timeoutMs: 0 })
  }
})

test('F88 what a peer writes cannot forge a line of the log, nor flood one', async () => {
  const lines: string[] = []
  const { port } = await serve({
    handler: echo,
    limits: { lineBytes: 2_000_000, frameBytes: 2_000_000 },
    middleware: [{ name: 'log', payload: true, write: (line: string) => void lines.push(line) } as never],
  })
  const peer = await Peer.open(port)
  await peer.send('a\rb\u001b[31mc\u2028d\n').hears('a\rb')
  peer.send(`${'x'.repeat(1_000_000)}\n`)
  await peer.hears('xxx')
  peer.leave()
  await eventually(() => lines.length >= 3, 'lines came')
  for (const line of lines) {
    assert.not.match(line.replace(/\n$/, ''), /[\u0000-\u001f\u2028\u2029]/)
    assert.ok(Buffer.byteLength(line) <= 1_100, `${line.length} characters`)
  }
})

test('F17 a peer that vanishes is noticed by keep-alive', async () => {
  const reason = canMakeNamespaces()
  if (reason !== undefined) return skip('F17', reason)
  const id = process.pid % 10_000
  const [space, near, far] = [`g${id}`, `g${id}a`, `g${id}b`]
  const run = (command: string) => execFileSync('sh', ['-c', command])
  run(`ip netns add ${space} && ip link add ${near} type veth peer name ${far} && ip link set ${far} netns ${space}
       ip addr add 10.231.7.1/24 dev ${near} && ip link set ${near} up
       ip netns exec ${space} ip addr add 10.231.7.2/24 dev ${far} && ip netns exec ${space} ip link set ${far} up`)
  try {
    const { port, until, server } = await serve({
      listen: 'tcp://10.231.7.1:0',
      socket: { keepAlive: 1_000 },
      handler: () => undefined,
    })
    const peer = spawn('ip', [
      'netns',
      'exec',
      space,
      process.execPath,
      '-e',
      `net.connect(${port}, '10.231.7.1').write('x\\n')`,
    ])
    await until('connection.opened')
    // Nothing of ours is unacknowledged then: it is the probes that notice.
    await eventually(() => [...server.connections][0]?.stats.messagesIn === 1, 'the line came')
    run(`ip netns exec ${space} ip link set ${far} down`)
    const { reason: why } = await until('connection.closed')
    assert.is(why.code, 'RESET')
    peer.kill('SIGKILL')
  } finally {
    run(`ip netns del ${space}; ip link del ${near} 2>/dev/null; true`)
  }
})

function canMakeNamespaces(): string | undefined {
  try {
    execFileSync('sh', ['-c', `ip netns add gtry${process.pid} && ip netns del gtry${process.pid}`], {
      stdio: 'ignore',
    })
    return undefined
  } catch {
    return 'network namespaces cannot be made here (needs iproute2 and CAP_NET_ADMIN)'
  }
}

test.after(async () => {
  killAll()
  await stopAll()
  rmSync(folder, { recursive: true, force: true })
})
test.run()
