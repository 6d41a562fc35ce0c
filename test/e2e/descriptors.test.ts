// time limit: 240 s
/** Connections that come from elsewhere: systemd, inetd, a parent's descriptor, a server that exists already. */
import { spawn } from 'node:child_process'
import { createServer as createHttp } from 'node:http'
import { createServer as createNet, type Server } from 'node:net'
import { connect as connectTls, createServer as createTls } from 'node:tls'
import { attach, type Connection, createServer, TLS } from 'gaidaros'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { root } from '../support/command.js'
import { Peer } from '../support/faults.js'
import { skip } from '../support/skip.js'
import { hasTool } from '../support/tools.js'

const cli = `${root}/dist/cli.js`
const upper = 'line => line.toUpperCase()'

function listening(server: Server): Promise<number> {
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port))
  })
}

test('systemd-socket-activate starts us with the first peer', async () => {
  if (!hasTool('systemd-socket-activate')) return skip('systemd', 'systemd-socket-activate is not installed')
  const spare = createNet()
  const port = await listening(spare)
  await new Promise((resolve) => spare.close(resolve))
  const args = [
    '-l',
    `127.0.0.1:${port}`,
    '--fdname=web',
    process.execPath,
    cli,
    'serve',
    '-q',
    '--listen',
    'systemd:web',
    '--eval',
    upper,
  ]
  const child = spawn('systemd-socket-activate', args, { stdio: ['ignore', 'pipe', 'pipe'] })
  await new Promise<void>((resolve) =>
    child.stderr.on('data', (chunk) => String(chunk).includes('Listening') && resolve()),
  )
  const peer = await Peer.open(port)
  await peer.send('hello\n').hears('HELLO\n')
  peer.leave()
  child.kill('SIGTERM')
  assert.is(await new Promise((resolve) => child.once('exit', resolve)), 0)
})

test('peers queue while a service is killed and started again over the same socket (F78)', async () => {
  // The parent holds the socket, as systemd does, and accepts nothing itself.
  const holder = createNet()
  const port = await listening(holder)
  const handle = (holder as unknown as { _handle: { fd: number; onconnection: unknown } })._handle
  const start = () =>
    spawn(process.execPath, [cli, 'serve', '--listen', 'fd:3', '--eval', upper], {
      stdio: ['ignore', 'pipe', 'ignore', handle.fd],
    })
  const ready = (child: ReturnType<typeof start>) =>
    new Promise<void>((resolve) => child.stdout?.on('data', (chunk) => String(chunk).includes('ready') && resolve()))
  // The loop of this process must not take what is meant for the child: it hands nothing on, and reads nothing.
  const mine: Peer[] = []
  holder.on('connection', (socket) => socket.resetAndDestroy())
  const first = start()
  await ready(first)
  let served = 0
  for (let i = 0; i < 20 && served === 0; i++) {
    const peer = new Peer(port).send('one\n')
    mine.push(peer)
    await Promise.race([
      peer
        .hears('ONE\n')
        .then(() => served++)
        .catch(() => {}),
      peer.over,
    ])
  }
  assert.is(served, 1)
  first.kill('SIGKILL')
  await new Promise((resolve) => first.once('exit', resolve))
  const second = start()
  await ready(second)
  served = 0
  for (let i = 0; i < 20 && served === 0; i++) {
    const peer = new Peer(port).send('two\n')
    mine.push(peer)
    await Promise.race([
      peer
        .hears('TWO\n')
        .then(() => served++)
        .catch(() => {}),
      peer.over,
    ])
  }
  assert.is(served, 1)
  second.kill('SIGKILL')
  for (const peer of mine) peer.leave()
  holder.close()
})

test('stdio: one peer on a pair of pipes, and the end with it', async () => {
  const child = spawn(process.execPath, [cli, 'serve', '--listen', 'stdio:', '--eval', upper])
  let output = ''
  child.stdout.on('data', (chunk) => (output += chunk))
  child.stdin.end('one\ntwo\n')
  assert.is(await new Promise((resolve) => child.once('close', resolve)), 0)
  assert.is(output, 'ONE\nTWO\n')
})

test('stdio: as inetd starts it, with a socket', async () => {
  if (!hasTool('socat')) return skip('inetd style', 'socat is not installed')
  const spare = createNet()
  const port = await listening(spare)
  await new Promise((resolve) => spare.close(resolve))
  const exec = `EXEC:"${process.execPath} ${cli} serve -q --listen stdio\\:"`
  const socat = spawn('socat', [`TCP-LISTEN:${port},reuseaddr,fork,bind=127.0.0.1`, exec], { stdio: 'ignore' })
  let peer: Peer | undefined
  for (let i = 0; i < 100 && peer === undefined; i++) {
    peer = await Peer.open(port).catch(() => undefined)
    if (peer === undefined) await new Promise((resolve) => setTimeout(resolve, 20))
  }
  await (peer as Peer).send('hello\n').hears('hello\n')
  ;(peer as Peer).socket.end()
  await (peer as Peer).over
  socat.kill()
})

test('what is no listening socket is refused, with what was expected', async () => {
  for (const [endpoint, words] of [
    ['fd:0', /is no socket|does not listen|there is no descriptor/],
    ['fd:77', /there is no descriptor 77/],
    ['fd:x', /expected a descriptor's number/],
    ['systemd:web', /systemd has passed no sockets/],
    ['attached:x', /nothing is attached/],
  ] as const) {
    const server = await createServer({ config: false, listen: endpoint, handler: (line: string) => line })
    await server.start().then(
      () => assert.unreachable(endpoint),
      (error) => assert.match((error as Error).message, words),
    )
  }
})

test('attach: a net.Server, a tls.Server and upgrades of an http.Server', async () => {
  const pems = await generate([{ name: 'commonName', value: 'localhost' }], { keySize: 2048 })
  const handler = (line: string, connection: Connection) => `${line} ${connection.feature(TLS)?.protocol ?? 'plain'}`
  const server = await createServer({ config: false, listen: 'memory:attach-test', handler })
  await server.start()
  const [net, tls] = [createNet(), createTls({ cert: pems.cert, key: pems.private })]
  const http = createHttp((_request, response) => response.end('page'))
  const [netPort, tlsPort, httpPort] = [await listening(net), await listening(tls), await listening(http)]
  await attach(server, net, { name: 'net', handler })
  await attach(server, tls, { name: 'tls', handler })
  await attach(server, http, { name: 'http', handler, upgrade: 'lines' })

  const plain = await Peer.open(netPort)
  await plain.send('hello\n').hears('hello plain\n')
  const secure = connectTls({ port: tlsPort, host: '127.0.0.1', rejectUnauthorized: false })
  secure.write('hello\n')
  assert.is(String(await new Promise((resolve) => secure.once('data', resolve))), 'hello TLSv1.3\n')
  secure.destroy()
  const upgraded = await Peer.open(httpPort)
  await upgraded
    .send('GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\nearly\n')
    .hears('early plain\n')
  assert.match(upgraded.heard, /^HTTP\/1\.1 101 Switching Protocols\r\n/)
  const page = await Peer.open(httpPort)
  await page.send('GET / HTTP/1.1\r\nHost: x\r\n\r\n').hears('page')

  await server.listeners.remove('net', { timeoutMs: 0 })
  const late = await Peer.open(netPort)
  late.send('anybody?\n')
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.is(late.heard, '')
  assert.ok(net.listening)
  for (const peer of [plain, upgraded, page, late]) peer.leave()
  await server.stop({ timeoutMs: 0 })
  assert.ok(http.listening)
  for (const one of [net, tls, http]) one.close()
  http.closeAllConnections()
  await attach(server, http, { handler }).then(
    () => assert.unreachable(),
    (error) => assert.match((error as Error).message, /name the protocol/),
  )
})

test.run()
