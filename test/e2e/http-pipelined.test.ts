// time limit: 480 s
/** HTTP clients that do not wait for replies, and those that have finished their side: what they asked is answered, and what they may keep is bounded. */
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { connect as dial, type Socket } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { defineHandler } from 'gaidaros'
import type { HttpRequest } from 'gaidaros/plugins/http'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, Peer, serve, stopAll } from '../support/faults.js'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

const sockets = new Set<Socket>()
test.after(async () => {
  for (const socket of sockets) socket.destroy()
  await stopAll()
})

const MIB = 2 ** 20
const request = (path = '/', more = '') => `GET ${path} HTTP/1.1\r\nHost: x\r\n${more}\r\n`

function gate() {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { open: () => open(), opened }
}

/** The ways a request is answered, each after a wait where the path asks for one. */
function answering(wait: (path: string) => Promise<unknown> | undefined) {
  const state = { asked: 0 }
  const said = async (path: string) => {
    state.asked++
    await wait(path)
    return `<${path}>`
  }
  const ways = {
    app: {
      protocol: {
        name: 'http',
        app: ({ url = '' }: IncomingMessage, response: ServerResponse) =>
          void said(url).then((text) => response.end(text)),
      },
    },
    fetch: {
      protocol: {
        name: 'http',
        fetch: async ({ url }: Request) => new Response(await said(new URL(url).pathname)),
      },
    },
    routes: {
      protocol: { name: 'http' },
      handler: defineHandler({ name: 'Pages', routes: { GET: ({ path }: HttpRequest) => said(path) } }),
    },
  }
  return { state, ways }
}
const names = ['app', 'fetch', 'routes'] as const

/** How the bytes reach Node's parser. */
const links = {
  'a lent socket': {},
  'a stream': { layers: [{ name: 'throttle', read: 1_000_000_000 }] },
  'a stream of the session': { limits: { memoryBytes: 500 * MIB } },
} as const

for (const [link, more] of Object.entries(links)) {
  for (const way of names) {
    const gathered = link === 'a lent socket' || way === 'app' ? test : undefined
    gathered?.(`F107 HTTP, ${way} over ${link}: 12 MiB of requests behind a slow reply are not gathered`, async () => {
      const slow = gate()
      const { state, ways } = answering((path) => (/\d/.test(path) ? slow.opened : undefined))
      const { port, server } = await serve({ ...more, ...ways[way] } as never)
      const honest = await Peer.open(port)
      const socket = dial({ port, host: '127.0.0.1', noDelay: true })
      sockets.add(socket)
      await once(socket, 'connect')
      let sent = 0
      const padding = `X-Padding: ${'p'.repeat(250)}\r\n`
      const count = Math.ceil((12 * MIB) / request('/10000', padding).length)
      const pieces = Array.from({ length: Math.ceil(count / 1_000) }, (_, i) =>
        Array.from({ length: Math.min(1_000, count - i * 1_000) }, (_, j) =>
          request(`/${i * 1_000 + j}`, padding),
        ).join(''),
      )
      let text = ''
      let next = 0
      let isWhole = true
      socket.on('data', (chunk) => {
        text += chunk.toString('latin1')
        // Each reply in its turn, and nothing else; what was looked at is let go of.
        let end = 0
        for (const found of text.matchAll(/<\/(\d+)>/g)) {
          isWhole &&= Number(found[1]) === next++
          end = found.index + found[0].length
        }
        text = text.slice(end)
      })
      honest.send(request('/before'))
      await honest.hears('</before>')
      collect()
      const before = process.memoryUsage()
      const sending = (async () => {
        for (const piece of pieces) {
          sent += piece.length
          if (!socket.write(piece)) await once(socket, 'drain')
        }
      })()
      await eventually(() => state.asked > 1, 'the first of them')
      // The kernel's buffers are full when nothing leaves any more.
      for (let last = -1; last !== sent; await new Promise((resolve) => setTimeout(resolve, 500))) last = sent
      const asked = state.asked
      collect()
      const after = process.memoryUsage()
      const grown = (after.heapUsed + after.external - before.heapUsed - before.external) / MIB
      assert.ok(sent < 11 * MIB, `the sender was stopped; ${sent} bytes left`)
      assert.ok(grown < 32, `the heap grew by ${grown.toFixed(1)} MiB`)
      assert.ok((after.rss - before.rss) / MIB < 64, `RSS grew by ${((after.rss - before.rss) / MIB).toFixed(1)} MiB`)
      // One read of 64 KiB beyond the first, at most.
      assert.ok(asked < 6_000, `${asked} requests reached the handler`)
      honest.send(request('/honest'))
      await honest.hears('</honest>')
      slow.open()
      await sending
      await eventually(() => next >= count || !isWhole, `${count} answers in order`, 120_000)
      assert.ok(isWhole && next === count, `${next} of ${count}, in order`)
      assert.is(server.counters['closed.TIMEOUT'] ?? 0, 0)
      socket.destroy()
    })

    test(`F102 HTTP, ${way} over ${link}: a client that has finished its side is answered, and then it is over`, async () => {
      const slow = gate()
      const { state, ways } = answering((path) => (path === '/' ? undefined : slow.opened))
      const { port, until } = await serve({ ...more, ...ways[way] } as never)
      const peer = await Peer.open(port)
      peer.socket.end(request() + request('/late') + request('/later'))
      await peer.hears('</>')
      await eventually(() => state.asked >= 2, 'the handler is at work')
      slow.open()
      await peer.over
      assert.match(peer.heard, /<\/>.*<\/late>.*<\/later>/s)
      assert.is(peer.heard.split('HTTP/1.1 200').length, 4)
      assert.is((await until('connection.closed')).reason.code, 'ENDED')

      // Who has asked for nothing waits for nothing; nor does who has been answered.
      const idle = await Peer.open(port)
      idle.socket.end()
      await idle.over
      assert.is(idle.heard, '')
      assert.is((await until('connection.closed')).reason.code, 'ENDED')
      const done = await Peer.open(port)
      await done.send(request()).hears('</>')
      done.socket.end()
      await done.over
      assert.is((await until('connection.closed')).reason.code, 'ENDED')
    })
  }

  test(`F102 HTTP over ${link}: a client that has finished its side and gone is not waited for longer than halfClosedMs`, async () => {
    const { state, ways } = answering(() => new Promise(() => {}))
    const timeouts = { halfClosedMs: 300, idleMs: 2_000, handlerMs: 600_000 }
    const { port, until } = await serve({ ...more, ...ways.app, timeouts } as never)
    const peer = await Peer.open(port)
    peer.socket.end(request('/never'))
    await eventually(() => state.asked === 1, 'asked')
    assert.is((await until('connection.closed')).reason.code, 'HALF_CLOSED_TIMEOUT')
  })

  test(`F107 HTTP over ${link}: who is not read from is not late; who does not go on afterwards is`, async () => {
    const slow = gate()
    const { ways } = answering((path) => (path === '/slow' ? slow.opened : undefined))
    const protocol = { ...ways.app.protocol, pipelined: 2 }
    const { port, until } = await serve({ ...more, protocol, timeouts: { frameMs: 600 } } as never)
    const [patient, lazy] = [await Peer.open(port), await Peer.open(port)]
    const half = request('/last').slice(0, 20)
    for (const peer of [patient, lazy])
      peer.send(request('/slow') + request('/1') + request('/2') + request('/3') + half)
    // Much longer than a head has.
    await new Promise((resolve) => setTimeout(resolve, 2_000))
    assert.equal([patient.isOver, lazy.isOver, patient.heard], [false, false, ''])
    slow.open()
    await patient.hears('</3>')
    patient.send(request('/last').slice(20))
    await patient.hears('</last>')
    await lazy.over
    assert.match(lazy.heard, /<\/3>HTTP\/1\.1 408 /)
    assert.is((await until('connection.closed')).reason.code, 'TIMEOUT')
    patient.socket.destroy()
  })
}

test('F107 HTTP: what comes behind the last reply is not gathered either', async () => {
  const slow = gate()
  const { ways } = answering(() => slow.opened)
  const { port } = await serve(ways.routes as never)
  const socket = dial({ port, host: '127.0.0.1' })
  sockets.add(socket)
  socket.on('error', () => {})
  await once(socket, 'connect')
  let heard = ''
  socket.on('data', (chunk) => (heard += chunk))
  const over = new Promise((resolve) => socket.once('close', resolve))
  // The second has no Host: refused behind the first.
  socket.write(`${request('/first')}GET / HTTP/1.1\r\n\r\n`)
  const piece = request('/behind').repeat(2_000)
  collect()
  const before = process.memoryUsage().heapUsed
  let isStopped = false
  for (let sent = 0; sent < 12 * MIB && !isStopped; sent += piece.length) {
    if (socket.write(piece)) continue
    const drained = new Promise<true>((resolve) => socket.once('drain', () => resolve(true)))
    const waited = new Promise<false>((resolve) => setTimeout(() => resolve(false), 3_000))
    isStopped = !(await Promise.race([drained, waited]))
  }
  assert.ok(isStopped, 'the sender is stopped')
  collect()
  const grown = (process.memoryUsage().heapUsed - before) / MIB
  assert.ok(grown < 24, `the heap grew by ${grown.toFixed(1)} MiB`)
  slow.open()
  await over
  assert.match(heard, /<\/first>HTTP\/1\.1 400 /)
  assert.not.match(heard, /behind/)
})

test.run()
