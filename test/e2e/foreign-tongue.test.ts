// time limit: 180 s
/** HTTP to protocols that are not HTTP: a web page must not be able to drive them (F111). */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { defineHandler } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Peer, serve, stopAll } from '../support/faults.js'
import { withTool } from '../support/programs.js'

test.after(stopAll)

const run = promisify(execFile)

/** For each protocol of lines: what a page would put into a body, and what would be done by it. */
const bodies: Readonly<
  Record<string, { readonly protocol?: object | string; readonly codec?: string; readonly body: string }>
> = {
  'json-rpc': { body: '{"jsonrpc":"2.0","method":"mark","params":["x"],"id":1}\n' },
  resp: { body: '*3\r\n$4\r\nMARK\r\n$1\r\na\r\n$1\r\nb\r\nMARK a b\r\n' },
  memcached: { body: 'set mark 0 0 2\r\nhi\r\nmark\r\n' },
  smtp: { body: 'HELO page\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nhello\r\n.\r\n' },
  stomp: { body: 'CONNECT\naccept-version:1.2\nhost:x\n\n\0SEND\ndestination:mark\n\nx\0' },
  syslog: { body: '<13>mark: x\n' },
}

for (const [name, { body }] of Object.entries(bodies)) {
  const handled: unknown[] = []
  const mark = (message: unknown) => {
    handled.push(message)
    return undefined
  }
  const handler = () =>
    defineHandler({
      name: 'Marked',
      message: mark,
      ...(name === 'smtp' ? { routes: { MESSAGE: mark } } : {}),
    })

  withTool('curl', `F111 ${name}: curl POSTs a command in its body; nothing of it is carried out`, async () => {
    const { port, until } = await serve({ handler: handler(), protocol: name })
    handled.length = 0
    const args = ['-s', '-m', '10', '--http0.9', '-H', 'content-type: text/plain', '--data-binary', '@-']
    // Refused in words that are no HTTP, or by the end alone: curl fails, or shows them.
    const posting = run('curl', [...args, `http://127.0.0.1:${port}/`])
    posting.child.stdin?.on('error', () => {}).end(body)
    await posting.catch(() => undefined)
    await until('connection.closed')
    assert.equal(handled, [])
  })

  test(`F111 ${name}: at the request line of any method it ends, however the bytes are cut`, async () => {
    const { port, until } = await serve({ handler: handler(), protocol: name })
    for (const method of ['GET', 'POST', 'PUT', 'OPTIONS', 'DELETE', 'HEAD', 'CONNECT']) {
      for (const cut of [1, 13, 1_000]) {
        handled.length = 0
        const peer = await Peer.open(port)
        const request = `${method} /path HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Length: ${body.length}\r\n\r\n${body}`
        peer.socket.on('error', () => {})
        for (let at = 0; at < request.length && !peer.isOver; at += cut) {
          peer.send(request.slice(at, at + cut))
          if (cut === 1) await new Promise(setImmediate)
        }
        await peer.over
        await until('connection.closed')
        assert.equal(handled, [], `${method} in pieces of ${cut}`)
        peer.leave()
      }
    }
  })
}

test('F111 a page’s fetch ends in an error, and an honest peer beside it is served', async () => {
  const handled: unknown[] = []
  const { port } = await serve({
    handler: defineHandler({
      name: 'Rpc',
      routes: {
        mark: (params: unknown) => {
          handled.push(params)
          return 'done'
        },
      },
    }),
    protocol: 'json-rpc',
  })
  const body = bodies['json-rpc']?.body as string
  const answer = await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', body }).catch((error) => error)
  assert.instance(answer, Error)
  assert.equal(handled, [])
  const peer = await Peer.open(port)
  await peer.send(body).hears('"result":"done"')
  assert.is(handled.length, 1)
  peer.leave()
})

test('words that only look like HTTP are what they were', async () => {
  const said: unknown[] = []
  const take = (message: unknown) => {
    said.push(message)
    return undefined
  }
  const resp = await serve({ handler: defineHandler({ name: 'R', routes: { SET: take } }), protocol: 'resp' })
  const peer = await Peer.open(resp.port)
  // An argument may be any bytes; an inline command that is no request line is a command.
  peer.send('*3\r\n$3\r\nSET\r\n$1\r\na\r\n$8\r\nHTTP/1.1\r\nSET a HTTP/1.1\r\nPING\r\n')
  await peer.hears('+PONG')
  assert.is(said.length, 2)
  const smtp = await serve({ handler: defineHandler({ name: 'S', routes: { MESSAGE: take } }), protocol: 'smtp' })
  const mail = await Peer.open(smtp.port)
  await mail.send('HELO a\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n').hears('354')
  await mail.send('POST /a HTTP/1.1\r\nHost: x\r\n.\r\n').hears('250 2.0.0')
  assert.is(said.length, 3)
  for (const one of [peer, mail]) one.leave()
})

test('F111 memcached: the data of a command that is unknown is never a command', async () => {
  const handled: string[] = []
  const note = ({ command, value }: { command: string; value: Buffer }) => {
    handled.push(`${command} ${value}`)
    return true
  }
  const { port, until } = await serve({
    handler: defineHandler({ name: 'C', routes: { flush_all: note, set: note, incr: note } }),
    protocol: 'memcached',
  })
  // Meta set: its data is read past, and it is nobody's.
  const meta = await Peer.open(port)
  await meta.send('ms key 9\r\nflush_all\r\nversion\r\n').hears('VERSION 1.5.22')
  assert.is(meta.heard, 'ERROR\r\nVERSION 1.5.22\r\n')
  // An unknown one with a number in its line: answered, and the connection ends before what may be its data.
  const future = await Peer.open(port)
  await future.send('store key 9\r\nflush_all\r\n').over
  assert.is(future.heard, 'ERROR\r\n')
  assert.is((await until('connection.closed')).reason.code, 'MALFORMED')
  // Without a number there is no data.
  await meta
    .send('what is this\r\ncache_memlimit 64\r\ntouch a 5\r\nversion\r\n')
    .hears('ERROR\r\nERROR\r\nERROR\r\nVERSION')
  const binary = await Peer.open(port)
  await binary.send(Buffer.from([0x80, 1, 0, 3, 8, 0, 0, 0])).over
  assert.is((await until('connection.closed')).reason.code, 'MALFORMED')
  assert.equal(handled, [])
  meta.leave()
  const taken = await serve({
    handler: defineHandler({ name: 'M', routes: { ms: note } }),
    protocol: 'memcached',
  })
  const taker = await Peer.open(taken.port)
  await taker.send('ms key 2 T0\r\nhi\r\n').hears('OK')
  assert.equal(handled, ['ms hi'])
  taker.leave()
})

test.run()
