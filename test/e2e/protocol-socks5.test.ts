// time limit: 90 s
/** SOCKS5, by curl; what is out of reach; requests in any cut. */
import { defineHandler } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Peer, serve, stopAll } from '../support/faults.js'
import { endPrograms, run, withTool } from '../support/programs.js'

test.after(async () => {
  await stopAll()
  endPrograms()
})

withTool('curl', 'socks5: curl by name and address, users, and what is out of reach', async () => {
  const pages = await serve({
    handler: defineHandler({ name: 'Page', routes: { GET: () => 'the page' } }),
    protocol: 'http',
  })
  const url = `http://127.0.0.1:${pages.port}/`
  const curl = async (proxy: number, how: string, target: string, user = '') =>
    (await run('curl', ['-sS', '-m', '5', how, `${user}127.0.0.1:${proxy}`, target])).output
  const open = await serve({ protocol: { name: 'socks5', allow: ['127.0.0.0/8', '::1'] } } as never)
  assert.is(await curl(open.port, '--socks5', url), 'the page')
  assert.is(await curl(open.port, '--socks5-hostname', url.replace('127.0.0.1', 'localhost')), 'the page')
  assert.match(await curl(open.port, '--socks5', 'http://127.0.0.1:1/'), /\(5\)|refused/i)
  const guarded = await serve({ protocol: { name: 'socks5', users: { ada: 'pw' } } } as never)
  assert.match(await curl(guarded.port, '--socks5', url), /No authentication method|rejected|denied/i)
  assert.match(await curl(guarded.port, '--socks5', url, 'ada:bad@'), /reject|denied|User was/i)
  // Let in, and still not to what is private.
  assert.match(await curl(guarded.port, '--socks5', url, 'ada:pw@'), /\(2\)|not allowed|request failed/i)
  const peer = await Peer.open(open.port)
  peer.send(Buffer.from([5, 1, 0, 5, 3, 0, 1, 127, 0, 0, 1, 0, 80]))
  await peer.over
  assert.is(Buffer.from(peer.heard, 'latin1').toString('hex'), '050005070001000000000000')
})

test('a request in any cut, with what the client says at once behind it', async () => {
  const target = await serve({ handler: (line: string) => `heard ${line}` })
  const { port, until } = await serve({
    protocol: { name: 'socks5', allow: ['127.0.0.0/8'], users: { ada: 'pw' } },
  } as never)
  const ask = Buffer.concat([
    Buffer.from([5, 2, 0, 2]),
    Buffer.from([1, 3]),
    Buffer.from('ada'),
    Buffer.from([2]),
    Buffer.from('pw'),
    Buffer.from([5, 1, 0, 1, 127, 0, 0, 1, target.port >> 8, target.port & 255]),
    Buffer.from('hello\n'),
  ])
  for (const pieces of [[...ask].map((byte) => Buffer.of(byte)), [ask], [ask.subarray(0, 9), ask.subarray(9)]]) {
    const peer = await Peer.open(port)
    for (const piece of pieces) peer.send(piece)
    await peer.hears('heard hello\n')
    assert.is(Buffer.from(peer.heard.slice(0, 14), 'latin1').toString('hex'), '0502010005000001000000000000')
    peer.socket.end()
    await peer.over
    await until('connection.closed')
    peer.leave()
  }
})

test('private destinations in any disguise, other commands, what is no SOCKS5', async () => {
  const { port, until } = await serve({ protocol: 'socks5' } as never)
  const request = (kind: number, address: readonly number[], command = 1) =>
    Buffer.from([5, 1, 0, 5, command, 0, kind, ...address, 0, 80])
  const name = (text: string) => [text.length, ...Buffer.from(text)]
  const six = (hex: string) => [...Buffer.from(hex.padStart(32, '0'), 'hex')]
  for (const [what, sent, code] of [
    ['loopback', request(1, [127, 0, 0, 1]), 2],
    ['link-local', request(1, [169, 254, 169, 254]), 2],
    ['the unspecified address', request(1, [0, 0, 0, 0]), 2],
    ['mapped', request(4, six('ffff7f000001')), 2],
    ['compatible', request(4, six('7f000001')), 2],
    ['translated', request(4, [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 127, 0, 0, 1]), 2],
    ['6to4', request(4, [0x20, 2, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), 2],
    ['unique local', request(4, [0xfd, ...new Array(15).fill(1)]), 2],
    ['by name', request(3, name('localhost')), 2],
    ['a number as a name', request(3, name('2130706433')), 2],
    ['a name with NUL', request(3, name('a\0b')), 4],
    ['BIND', request(1, [192, 0, 2, 1], 2), 7],
    ['another kind of address', Buffer.from([5, 1, 0, 5, 1, 0, 9, 0, 0]), 8],
  ] as const) {
    const peer = await Peer.open(port)
    await peer.send(sent).over
    assert.is(Buffer.from(peer.heard, 'latin1').toString('hex'), `0500050${code}0001000000000000`, what)
    await until('connection.closed')
    peer.leave()
  }
  for (const sent of ['GET / HTTP/1.1\r\n\r\n', Buffer.from([4, 1, 0, 80, 127, 0, 0, 1, 0])]) {
    const peer = await Peer.open(port)
    await peer.send(sent).over
    assert.is(peer.heard, '')
    assert.is((await until('connection.closed')).reason.code, 'HANDSHAKE_FAILED')
    peer.leave()
  }
})

test('who says nothing is ended at the handshake deadline', async () => {
  const { port, until } = await serve({ protocol: 'socks5', timeouts: { handshakeMs: 100 } } as never)
  const peer = await Peer.open(port)
  await peer.send(Buffer.from([5, 1])).over
  assert.is((await until('connection.closed')).reason.code, 'HANDSHAKE_TIMEOUT')
})

test.run()
