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

async function freePort(): Promise<number> {
  const spare = createNet()
  const port = await listening(spare)
  await new Promise((resolve) => spare.close(resolve))
  return port
}

/** systemd-socket-activate(1), which begins with the first peer what it is told. */
function activate(args: readonly string[]) {
  const child = spawn('systemd-socket-activate', args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const self = {
    process: child,
    said: '',
    listening: new Promise<void>((resolve) => {
      child.stderr.on('data', (chunk) => {
        self.said += chunk
        if (self.said.includes('Listening')) resolve()
      })
    }),
    ended: new Promise((resolve) => child.once('exit', (code, signal) => resolve(code ?? signal))),
  }
  return self
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

test('systemd passes two sockets: by name and by index, each its own handler', async () => {
  if (!hasTool('systemd-socket-activate')) return skip('two sockets', 'systemd-socket-activate is not installed')
  const [one, two] = [await freePort(), await freePort()]
  const child = activate([
    ...['-l', `127.0.0.1:${one}`, '-l', `127.0.0.1:${two}`, '--fdname=web:admin', process.execPath, cli, 'serve', '-q'],
    ...['--set', `listeners.a={"endpoint":"systemd:admin","handler":"${root}/build/fixtures/upper.js"}`],
    ...['--set', `listeners.b={"endpoint":"systemd:0","handler":"${root}/build/fixtures/lower.js"}`],
  ])
  await child.listening
  const [first, second] = [await Peer.open(one), await Peer.open(two)]
  await first.send('Hello\n').hears('hello\n')
  await second.send('Hello\n').hears('HELLO\n')
  for (const peer of [first, second]) peer.leave()
  child.process.kill('SIGTERM')
  assert.is(await child.ended, 0)
})

test('peers queue while the service is killed and started again: none is refused (F78)', async () => {
  if (!hasTool('systemd-socket-activate')) return skip('F78', 'systemd-socket-activate is not installed')
  const port = await freePort()
  // The shell keeps the socket, as systemd does, and accepts nothing itself; it starts a service anew whenever one ends.
  const service = `export LISTEN_PID=$BASHPID; exec "$0" "$1" serve -q --listen systemd:web --eval '${upper}'`
  const script = `trap 'kill $!; exit' TERM; for i in 1 2 3; do (${service}) & echo "pid $!" >&2; wait $!; done`
  const child = activate(['-l', `127.0.0.1:${port}`, '--fdname=web', 'bash', '-c', script, process.execPath, cli])
  await child.listening
  const served = async (text: string) => {
    const peer = await Peer.open(port)
    await peer.send(`${text}\n`).hears(`${text.toUpperCase()}\n`)
    peer.leave()
  }
  await served('first')
  for (let round = 0; round < 2; round++) {
    const pid = Number([...child.said.matchAll(/pid (\d+)/g)].at(-1)?.[1])
    process.kill(pid, 'SIGKILL')
    // They come while nobody is there to accept.
    await Promise.all(Array.from({ length: 50 }, (_, i) => served(`peer ${round} ${i}`)))
  }
  child.process.kill('SIGTERM')
  await child.ended
})

test('inetd style by systemd: a process for each peer, with its socket as standard input and output', async () => {
  if (!hasTool('systemd-socket-activate')) return skip('inetd by systemd', 'systemd-socket-activate is not installed')
  const port = await freePort()
  const args = ['--accept', '--inetd', '-l', `127.0.0.1:${port}`]
  const child = activate([...args, process.execPath, cli, 'serve', '-q', '--listen', 'stdio:', '--eval', upper])
  await child.listening
  const peers = [await Peer.open(port), await Peer.open(port)]
  for (const [i, peer] of peers.entries()) await peer.send(`peer ${i}\n`).hears(`PEER ${i}\n`)
  for (const peer of peers) {
    peer.socket.end()
    await peer.over
    assert.is(peer.error, undefined)
  }
  child.process.kill('SIGTERM')
  await child.ended
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
