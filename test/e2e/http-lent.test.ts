// time limit: 120 s
/**
 * What an HTTP application gets for a socket: the transport's own where nothing stands between, a stream elsewhere; and
 * what holds either way: addresses, counters, deadlines, goodbyes.
 */
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { type Connection, connect, defineHandler, type ServerOptions } from 'gaidaros'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { serve, stopAll, type Watched } from '../support/faults.js'

const folder = mkdtempSync(join(tmpdir(), 'gn-'))
test.after(async () => {
  await stopAll()
  rmSync(folder, { recursive: true })
})

const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }])
const tls = { cert, key }

interface Way {
  readonly name: string
  readonly listen: string
  readonly options?: object
  /** What `request.socket` is. */
  readonly is: typeof Socket | typeof TLSSocket | undefined
  readonly hasAddress: boolean
  readonly isSecure?: boolean
}

const loopback = 'tcp://127.0.0.1:0'
const ways: readonly Way[] = [
  { name: 'tcp', listen: loopback, is: Socket, hasAddress: true },
  { name: 'tls', listen: 'tls://127.0.0.1:0', options: { tls }, is: TLSSocket, hasAddress: true, isSecure: true },
  { name: 'unix', listen: `unix:${join(folder, '#.sock')}`, is: Socket, hasAddress: false },
  { name: 'memory', listen: 'memory:http-#', is: undefined, hasAddress: false },
  {
    name: 'tcp behind a layer',
    listen: loopback,
    options: { layers: [{ name: 'throttle', read: 50_000_000 }] },
    is: undefined,
    hasAddress: true,
  },
  {
    name: 'TLS as a layer',
    listen: loopback,
    options: { tls, layers: ['tls'] },
    is: undefined,
    hasAddress: true,
    isSecure: true,
  },
  {
    name: 'a budget of memory',
    listen: loopback,
    options: { limits: { memoryBytes: 500_000_000 } },
    is: undefined,
    hasAddress: true,
  },
  {
    name: 'a least rate',
    listen: loopback,
    options: { limits: { minBytesPerSecond: 10 } },
    is: undefined,
    hasAddress: true,
  },
]

let begun = 0
type App = (request: IncomingMessage, response: ServerResponse) => void

async function begin(way: Way, app: App, more: ServerOptions = {}): Promise<Watched> {
  const own = (way.options ?? {}) as ServerOptions
  const limits = { ...own.limits, ...more.limits }
  return serve({
    ...own,
    ...more,
    limits,
    listen: way.listen.replace('#', `${++begun}`),
    protocol: { name: 'http', app },
  } as never)
}

/** A raw peer that gathers what it hears. */
async function dial(way: Way, { server }: Watched) {
  const endpoint = String([...server.listeners][0]?.endpoint).replace(/^tcp:/, way.isSecure ? 'tls:' : 'tcp:')
  const connection = await connect(endpoint, { codec: 'raw', tls: { ca: cert, serverName: 'localhost' } })
  const stream: Duplex = connection.stream()
  let heard = ''
  let told = 0
  stream.on('data', (chunk) => (heard += String(chunk)))
  stream.on('error', () => {})
  const over = new Promise<void>((resolve) => stream.once('end', resolve).once('close', resolve))
  return {
    connection,
    over,
    get heard() {
      return heard
    },
    send: (text: string) => stream.write(text),
    /** Waits for the next `text` behind what was waited for before. */
    async hears(text: string) {
      while (!heard.includes(text, told)) {
        const isOver = await Promise.race([over.then(() => true), once(stream, 'data').then(() => false)])
        if (isOver && !heard.includes(text, told))
          throw new Error(`heard ${JSON.stringify(heard.slice(-300))} and the end`)
      }
      told = heard.indexOf(text, told) + text.length
    },
  }
}

const request = (path = '/') => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`

for (const way of ways) {
  test(`${way.name}: the socket of a request is ${way.is?.name ?? 'a stream'} and knows its addresses`, async () => {
    const seen: Record<string, unknown>[] = []
    const watched = await begin(way, ({ socket }, response) => {
      const { remoteAddress, remotePort, localPort } = socket
      const encrypted = (socket as { encrypted?: boolean }).encrypted === true
      seen.push({
        isSocket: socket instanceof Socket,
        kind: socket.constructor,
        remoteAddress,
        remotePort,
        localPort,
        encrypted,
      })
      response.end('seen')
    })
    const peer = await dial(way, watched)
    peer.send(request())
    await peer.hears('seen')
    const [facts = {}] = seen
    assert.is(facts.isSocket, way.is !== undefined)
    if (way.is !== undefined) assert.is(facts.kind, way.is)
    assert.is(facts.remoteAddress, way.hasAddress ? '127.0.0.1' : undefined)
    assert.is(facts.remotePort, way.hasAddress ? peer.connection.local?.port : undefined)
    assert.is(facts.localPort, way.hasAddress ? watched.port : undefined)
    assert.is(facts.encrypted, way.isSecure === true)
    await peer.connection.close()
  })

  test(`${way.name}: stats and totals count what passed, while it is open and after`, async () => {
    const watched = await begin(way, (incoming, response) => {
      incoming.resume().once('end', () => response.end('x'.repeat(50_000)))
    })
    const peer = await dial(way, watched)
    const { connection } = await watched.until('connection.opened')
    const post = `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n${'y'.repeat(20_000)}`
    for (let i = 1; i <= 3; i++) {
      peer.send(post)
      await peer.hears('x'.repeat(50_000))
      // Above TLS as much as beneath layers: bytes as the protocol sees them.
      assert.is(connection.stats.bytesIn, i * post.length, `request ${i}`)
    }
    await new Promise((resolve) => setImmediate(resolve))
    assert.is(connection.stats.bytesOut, peer.heard.length)
    await peer.connection.close()
    const { reason } = await watched.until('connection.closed')
    assert.is(reason.code, 'ENDED')
    assert.is(reason.by, 'peer')
    assert.is((connection as Connection).stats.bytesIn, 3 * post.length)
    assert.is(connection.stats.bytesOut, peer.heard.length)
  })

  test(`${way.name}: an idle connection is closed in time, one that asks again is not`, async () => {
    const idleMs = 400
    const watched = await begin(way, (_, response) => void response.end('ok'), { timeouts: { idleMs } })
    const peer = await dial(way, watched)
    const since = performance.now()
    while (performance.now() - since < idleMs * 2.5) {
      peer.send(request())
      await peer.hears('HTTP/1.1 200')
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    assert.is(watched.count('connection.closed'), 0)
    const last = performance.now()
    await peer.over
    const { reason } = await watched.until('connection.closed')
    assert.is(reason.code, 'IDLE_TIMEOUT')
    assert.ok(performance.now() - last > idleMs / 2, 'not at once')
  })

  test(`${way.name}: a drain answers what is under way and says goodbye`, async () => {
    let answer = () => {}
    const asked = new Promise<void>((resolve) => {
      answer = resolve
    })
    let reply = () => {}
    const watched = await begin(way, (_, response) => {
      reply = () => void response.end('done')
      answer()
    })
    const [busy, idle] = [await dial(way, watched), await dial(way, watched)]
    await watched.until('connection.opened')
    await watched.until('connection.opened')
    busy.send(request())
    await asked
    const stopped = watched.server.stop({ timeoutMs: 10_000 })
    await idle.over
    assert.is(idle.heard, '')
    reply()
    await busy.over
    assert.match(busy.heard, /^HTTP\/1\.1 200[\s\S]*connection: close[\s\S]*done$/i)
    await Promise.all([busy.connection.close(), idle.connection.close()])
    await stopped
  })

  test(`${way.name}: a head that trickles is answered 408 at the deadline`, async () => {
    const watched = await begin(way, () => assert.unreachable('no request came'), { timeouts: { frameMs: 300 } })
    const peer = await dial(way, watched)
    peer.send('GET / HTTP/1.1\r\nHost: x\r\n')
    const trickle = setInterval(() => peer.send('X-A: b\r\n'), 50)
    await peer.over
    clearInterval(trickle)
    assert.match(peer.heard, /^HTTP\/1\.1 408 /)
    await peer.connection.close()
    const { reason } = await watched.until('connection.closed')
    assert.is(reason.code, 'TIMEOUT')
  })
}

test('behind detection the bytes that were looked at are read first, by a stream', async () => {
  const kinds: boolean[] = []
  const app = ({ socket }: IncomingMessage, response: ServerResponse) => {
    kinds.push(socket instanceof Socket)
    response.end('web')
  }
  const protocol = [
    { name: 'http', app },
    { codec: 'line', handler: (line: string) => `line ${line}` },
  ]
  const handler = defineHandler({ name: 'None', message: () => undefined })
  const way: Way = { name: 'detection', listen: loopback, is: undefined, hasAddress: true }
  const listeners = { default: { endpoint: loopback, protocol, handler } }
  const watched = await serve({ listen: undefined as never, listeners } as never)
  const [web, lines] = [await dial(way, watched), await dial(way, watched)]
  web.send('G')
  await new Promise((resolve) => setImmediate(resolve))
  web.send(request().slice(1))
  await web.hears('web')
  lines.send('hello\n')
  await lines.hears('line hello\n')
  assert.equal(kinds, [false])
  await Promise.all([web.connection.close(), lines.connection.close()])
})

test.run()
