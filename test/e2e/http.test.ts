// time limit: 240 s
/** HTTP by Node's own parser over our connections: curl, Fastify, Express, fetch-style; deadlines and drain. */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import express from 'express'
import fastify from 'fastify'
import { defineHandler, type ServerOptions } from 'gaidaros'
import type { HttpRequest } from 'gaidaros/plugins/http'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Peer, serve, stopAll } from '../support/faults.js'
import { skip } from '../support/skip.js'
import { hasTool } from '../support/tools.js'

const folder = mkdtempSync(join(tmpdir(), 'gh-'))
test.after(async () => {
  await stopAll()
  rmSync(folder, { recursive: true })
})

function curl(...args: string[]): Promise<string> {
  return new Promise((resolve) => {
    const child = spawn('curl', ['-sS', '-m', '10', ...args])
    let output = ''
    child.stdout.on('data', (chunk) => (output += chunk))
    child.stderr.on('data', (chunk) => (output += chunk))
    child.on('close', () => resolve(output))
  })
}
const withCurl = (name: string, body: () => Promise<void>) =>
  test(name, () => (hasTool('curl') ? body() : skip(name, 'curl is not installed')))

const pages = defineHandler({
  name: 'Pages',
  routes: {
    GET: ({ path, query, headers }: HttpRequest) => {
      if (path === '/fail') throw new Error('a secret of ours')
      if (path === '/none') return undefined
      if (path === '/page') return new Response('<p>', { status: 201, headers: { 'x-a': 'b' } })
      return { path, name: query.get('name'), host: typeof headers.host }
    },
    POST: async (request: HttpRequest) => `${request.text().length} bytes`,
  },
})

withCurl('a decorated handler by method, over TCP, TLS and a Unix socket', async () => {
  const pems = await generate([{ name: 'commonName', value: 'localhost' }], { keySize: 2048 })
  const tls = { cert: Buffer.from(pems.cert), key: Buffer.from(pems.private) }
  const path = join(folder, 'web.sock')
  const plain = await serve({ handler: pages, protocol: 'http', limits: { frameBytes: 1_000 } })
  const secure = await serve({ listen: 'tls://127.0.0.1:0', tls, handler: pages, protocol: 'http' })
  await serve({ listen: `unix:${path}`, handler: pages, protocol: 'http' })
  const expected = '{"path":"/a","name":"ü","host":"string"}'
  assert.is(await curl(`http://127.0.0.1:${plain.port}/a?name=%C3%BC`), expected)
  assert.is(await curl('-k', `https://127.0.0.1:${secure.port}/a?name=%C3%BC`), expected)
  assert.is(await curl('--unix-socket', path, 'http://x/a?name=%C3%BC'), expected)
  const url = `http://127.0.0.1:${plain.port}`
  // Two requests, one connection.
  assert.is(await curl(`${url}/a?name=%C3%BC`, `${url}/a?name=%C3%BC`), expected + expected)
  assert.match(await curl('-i', `${url}/page`), /^HTTP\/1\.1 201[\s\S]*x-a: b[\s\S]*<p>$/)
  assert.match(await curl('-i', `${url}/none`), /^HTTP\/1\.1 204/)
  const failed = await curl('-i', `${url}/fail`)
  assert.match(failed, /^HTTP\/1\.1 500/)
  assert.not.match(failed, /secret/)
  assert.match(await curl('-i', '-X', 'DELETE', url), /^HTTP\/1\.1 405/)
  assert.is(await curl('-d', 'x'.repeat(1_000), url), '1000 bytes')
  assert.match(await curl('-i', '-d', 'x'.repeat(1_001), url), /HTTP\/1\.1 413/)
  assert.match(await curl('-i', '-H', 'Transfer-Encoding: chunked', '-d', 'x'.repeat(5_000), url), /HTTP\/1\.1 413/)
  assert.match(await curl('-i', '-H', `X: ${'x'.repeat(20_000)}`, url), /HTTP\/1\.1 431/)
  assert.is(plain.count('handler.failed') > 0, true)
})

withCurl('Fastify, Express, a request listener and a fetch-style function', async () => {
  const fast = fastify()
  fast.get('/', async (request) => ({ from: 'fastify', ip: request.ip }))
  fast.post('/', async (request) => request.body)
  const exp = express()
  exp.get('/', (request, response) => void response.json({ from: 'express', ip: request.ip }))
  const at = async (options: object): Promise<string> => {
    const { port } = await serve({
      protocol: { name: 'http', ...options } as ServerOptions['protocol'],
    } as ServerOptions)
    return `http://127.0.0.1:${port}/`
  }
  const fastUrl = await at({ app: fast })
  assert.is(await curl(fastUrl), '{"from":"fastify","ip":"127.0.0.1"}')
  assert.is(await curl('-H', 'content-type: application/json', '-d', '{"a":1}', fastUrl), '{"a":1}')
  assert.is(await curl(await at({ app: exp })), '{"from":"express","ip":"127.0.0.1"}')
  assert.is(
    await curl(await at({ app: (_: unknown, response: { end(text: string): void }) => response.end('plain') })),
    'plain',
  )
  const url = await at({
    fetch: async (request: Request) => {
      if (request.method === 'POST')
        return new Response(request.body, {
          headers: [
            ['set-cookie', 'a=1'],
            ['set-cookie', 'b=2'],
          ],
        })
      return new Response(`${request.method} ${new URL(request.url).pathname}`)
    },
  })
  assert.is(await curl(`${url}x`), 'GET /x')
  writeFileSync(join(folder, 'body'), 'y'.repeat(300_000))
  const echoed = await curl('-i', '--data-binary', `@${join(folder, 'body')}`, url)
  assert.match(echoed, /set-cookie: a=1\r\nset-cookie: b=2/i)
  assert.ok(echoed.endsWith('y'.repeat(1_000)))
  await fast.close()
})

test('a head that trickles is answered 408 at the deadline (F29)', async () => {
  const { port, until } = await serve({ handler: pages, protocol: 'http', timeouts: { frameMs: 300 } })
  const peer = await Peer.open(port)
  peer.send('GET / HTTP/1.1\r\nHost: x\r\n')
  const trickle = setInterval(() => peer.send('X-A: b\r\n'), 50)
  await peer.over
  clearInterval(trickle)
  assert.match(peer.heard, /^HTTP\/1\.1 408/)
  peer.leave()
  await until('connection.closed')
})

test('a drain answers what is under way and ends idle connections at once', async () => {
  let answer = (_text: string) => {}
  const handler = defineHandler({
    name: 'Slow',
    routes: {
      GET: () =>
        new Promise<string>((resolve) => {
          answer = resolve
        }),
    },
  })
  const { port, server, until } = await serve({ handler, protocol: 'http' })
  const [busy, idle] = [await Peer.open(port), await Peer.open(port)]
  busy.send('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
  await until('connection.opened')
  await until('connection.opened')
  await new Promise((resolve) => setTimeout(resolve, 50))
  const stopped = server.stop({ timeoutMs: 5_000 })
  await idle.over
  answer('done')
  await busy.over
  assert.match(busy.heard, /^HTTP\/1\.1 200[\s\S]*connection: close[\s\S]*done$/i)
  busy.leave()
  idle.leave()
  await stopped
})

test('two protocols on one endpoint: HTTP is told from lines', async () => {
  const lines = (line: string) => `line ${line}`
  const { port } = await serve({
    listen: undefined as never,
    listeners: {
      default: {
        endpoint: 'tcp://127.0.0.1:0',
        protocol: [
          { name: 'http', handler: pages },
          { codec: 'line', handler: lines },
        ],
      },
    },
  } as never)
  await (await Peer.open(port)).send('hello\n').hears('line hello\n')
  await (await Peer.open(port)).send('GET /a HTTP/1.1\r\nHost: x\r\n\r\n').hears('"path":"/a"')
})

test.run()
