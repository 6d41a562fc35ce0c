// time limit: 90 s
/** HTTP from those who mean no good: two lengths, bare line feeds, thousands of headers, slow ones (F29); and ab's load. */
import fastify from 'fastify'
import { defineHandler } from 'gaidaros'
import type { HttpRequest } from 'gaidaros/plugins/http'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, Peer, serve, stopAll } from '../support/faults.js'
import { begin, endPrograms, run, withTool } from '../support/programs.js'

test.after(async () => {
  await stopAll()
  endPrograms()
})

const pages = () => {
  const asked: HttpRequest[] = []
  const take = (request: HttpRequest) => {
    asked.push(request)
    return `${request.path} ${request.text()}`
  }
  return { asked, handler: defineHandler({ name: 'Pages', routes: { GET: take, POST: take } }) }
}

test('fetch: whose server is meant is said by Host, never by a path of two slashes', async () => {
  const seen: string[] = []
  const fetch = (request: Request) => {
    seen.push(request.url)
    return new Response('ok')
  }
  const { port } = await serve({ protocol: { name: 'http', fetch } as never })
  const ask = async (line: string, host = 'Host: good.test') => {
    seen.length = 0
    const peer = await Peer.open(port)
    await peer.send(`${line} HTTP/1.1\r\n${host}\r\nConnection: close\r\n\r\n`).over
    return [Number(peer.heard.slice(9, 12)), seen[0]] as const
  }
  for (const [line, url] of [
    ['GET /p?q', 'http://good.test/p?q'],
    ['GET //evil.test/p', 'http://good.test//evil.test/p'],
    ['GET /\\evil.test/p', 'http://good.test//evil.test/p'],
    ['GET ///evil.test', 'http://good.test///evil.test'],
    ['GET //', 'http://good.test//'],
    ['GET //user@evil.test', 'http://good.test//user@evil.test'],
    ['GET http://other.test/p', 'http://other.test/p'],
    ['OPTIONS *', 'http://good.test/*'],
  ] as const)
    assert.equal(await ask(line), [200, url], line)
  for (const host of [
    'Host: a b',
    'Host:',
    'Host: u@h',
    'Host: a/b?c#d',
    'Host: a\\b',
    'Host: good.test\r\nHost: evil.test',
  ])
    assert.equal(await ask('GET /', host), [400, undefined], host)
  assert.equal(await ask('GET /', 'Host: [::1]:80'), [200, 'http://[::1]/'])
  assert.equal(await ask('TRACE /'), [501, undefined])
})

test('what two servers could read in two ways is refused', async () => {
  const { handler, asked } = pages()
  const { port, until } = await serve({ handler, protocol: 'http' })
  const smuggled = 'GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n'
  for (const [what, sent] of [
    [
      'Transfer-Encoding and Content-Length',
      `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    ],
    ['two lengths', `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n${smuggled}`],
    ['a length with a sign', `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello`],
    [
      'an encoding in disguise',
      `POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${smuggled}`,
    ],
    ['a bare line feed', `GET / HTTP/1.1\nHost: x\n\n${smuggled}`],
    ['a bare line feed behind a header', `GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n`],
    ['a bare carriage return', `GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n`],
    ['a blank before the colon', `GET / HTTP/1.1\r\nHost : x\r\n\r\n`],
    ['a folded header', `GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n`],
    ['NUL in a header', `GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n`],
    [
      'a chunk size that overflows',
      `POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n`,
    ],
    ['no HTTP', 'hello world\r\n\r\n'],
  ] as const) {
    const before = asked.length
    const peer = await Peer.open(port)
    await peer.send(sent).over
    assert.match(peer.heard, /HTTP\/1\.1 400 [\s\S]*Connection: close/i, what)
    assert.ok(
      asked.slice(before).every(({ path }) => path !== '/smuggled'),
      what,
    )
    assert.is((await until('connection.closed')).reason.code, 'MALFORMED', what)
    peer.leave()
  }
})

test('what is refused is answered in its turn, and nothing behind a goodbye is handled', async () => {
  const { asked, handler } = pages()
  const good = (path: string) => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`
  for (const listen of ['tcp://127.0.0.1:0', 'layered']) {
    const layers = listen === 'layered' ? [{ name: 'throttle', read: 50_000_000 }] : []
    const { port, until } = await serve({ handler, protocol: 'http', layers, limits: { frameBytes: 100 } } as never)
    const large = `POST /large HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n${'y'.repeat(101)}`
    for (const [what, sent, statuses, paths, code] of [
      ['noise behind requests', `${good('/1')}${good('/2')}noise\r\n\r\n`, [200, 200, 400], ['/1', '/2'], 'MALFORMED'],
      [
        'noise in a body',
        `${good('/1')}POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz`,
        [200, 400],
        ['/1'],
        'MALFORMED',
      ],
      ['no Host', `${good('/1')}GET /2 HTTP/1.1\r\n\r\n${good('/3')}`, [200, 400], ['/1'], 'ENDED'],
      ['a large body', `${good('/1')}${large}${good('/3')}`, [200, 413], ['/1'], 'ENDED'],
    ] as const) {
      asked.length = 0
      const peer = await Peer.open(port)
      await peer.send(sent).over
      const said = [...peer.heard.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status))
      assert.equal(said, statuses, `${listen}, ${what}: ${peer.heard}`)
      assert.equal(
        asked.map(({ path }) => path),
        paths,
        what,
      )
      peer.leave()
      assert.is((await until('connection.closed')).reason.code, code, what)
    }
  }
})

test('2,000 headers and more are all there, or refused; never silently fewer', async () => {
  const { handler, asked } = pages()
  const { port, until } = await serve({ handler, protocol: 'http' })
  const head = (count: number) =>
    `GET / HTTP/1.1\r\nHost: x\r\n${Array.from({ length: count }, (_, i) => `${i.toString(36)}:\r\n`).join('')}last: 1\r\n\r\n`
  const peer = await Peer.open(port)
  await peer.send(head(2_200)).hears('HTTP/1.1 200')
  assert.is(asked[0]?.headers.last, '1')
  assert.is(Object.keys(asked[0]?.headers ?? {}).length, 2_202)
  peer.leave()
  const large = await Peer.open(port)
  await large.send(head(20_000)).over
  assert.match(large.heard, /^HTTP\/1\.1 431/)
  await until('connection.closed', ({ reason }) => reason.code === 'TOO_LARGE')
  large.leave()
})

test('requests in any cut, several behind one another; an orderly end is one', async () => {
  const { handler, asked } = pages()
  const { port, until } = await serve({ handler, protocol: 'http' })
  const one = 'POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello'
  const two = 'POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nwo\r\n3\r\nrld\r\n0\r\n\r\n'
  const last = 'GET /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
  const peer = await Peer.open(port)
  for (const byte of Buffer.from(one + two + last)) peer.send(Buffer.of(byte))
  await peer.over
  assert.equal(
    asked.map(({ path, text }) => `${path} ${text()}`),
    ['/a hello', '/b world', '/c '],
  )
  assert.match(peer.heard, /\/a hello[\s\S]*\/b world[\s\S]*\/c /)
  peer.socket.end()
  assert.is((await until('connection.closed')).reason.code, 'ENDED')
})

test('a body that trickles is answered 408 at its deadline', async () => {
  const { handler } = pages()
  const { port, until } = await serve({ handler, protocol: { name: 'http', requestMs: 300 } } as never)
  const peer = await Peer.open(port)
  peer.send('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n')
  const trickle = setInterval(() => peer.send('x'), 50)
  await peer.over
  clearInterval(trickle)
  assert.match(peer.heard, /^HTTP\/1\.1 408/)
  assert.is((await until('connection.closed')).reason.code, 'TIMEOUT')
})

withTool(
  'slowhttptest',
  'slowhttptest: slow heads, slow bodies, slow readers; the service is available throughout (F29)',
  async () => {
    const handler = defineHandler({ name: 'Large', routes: { GET: () => 'x'.repeat(200_000), POST: () => 'x' } })
    const { port } = await serve({
      handler,
      protocol: { name: 'http', requestMs: 3_000 },
      timeouts: { frameMs: 3_000, idleMs: 5_000 },
    } as never)
    for (const [mode, ...more] of [
      ['-H'],
      ['-B'],
      ['-X', '-w', '10', '-y', '20', '-n', '5', '-z', '32', '-k', '3'],
    ] as const) {
      const slow = ['-c', '200', '-r', '200', '-i', '1', '-l', '5', '-p', '20', '-u', `http://127.0.0.1:${port}/`]
      const attack = begin('slowhttptest', [mode, ...more, ...slow])
      let isOver = false
      void attack.over.then(() => {
        isOver = true
      })
      // Asked by ourselves as well: the tool's own probe has one deadline for all.
      let answered = 0
      do {
        const peer = await Peer.open(port)
        await peer.send('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n').hears('HTTP/1.1 200')
        answered++
        peer.leave()
      } while (!isOver)
      assert.ok(answered > 0)
      const plain = (await attack.over).output.replace(/\x1b\[[\d;]*[A-Za-z]/g, '')
      const answers = [...plain.matchAll(/service available:\s*(YES|NO)/g)].map(([, answer]) => answer)
      assert.ok(answers.length > 0, plain)
      assert.ok(!answers.includes('NO'), `${mode}: ${plain.slice(-2_000)}`)
    }
  },
)

withTool('ab', 'ab: a Fastify application, connections kept and not', async () => {
  const app = fastify()
  app.get('/', async () => ({ hello: 'world' }))
  const { port, count } = await serve({ protocol: { name: 'http', app } } as never)
  for (const kept of [['-k'], []]) {
    const { output } = await run('ab', ['-q', ...kept, '-n', '2000', '-c', '20', `http://127.0.0.1:${port}/`])
    assert.match(output, /Complete requests:\s+2000/)
    assert.match(output, /Failed requests:\s+0/)
    assert.not.match(output, /Non-2xx/)
  }
  // Each new connection of the second run, and those of the first, in order.
  await eventually(() => count('connection.closed') >= 2_000, 'closed')
  await app.close()
})

test.run()
