// time limit: 240 s
/** STOMP, by the client of stomp.py and by our own; what it answers to those who do not keep to it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, defineHandler } from 'gaidaros'
import { StompError, type StompFrame, stompClient } from 'gaidaros/plugins/stomp'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, Peer, serve, stopAll } from '../support/faults.js'
import { begin, endPrograms, run, withTool } from '../support/programs.js'

const folder = mkdtempSync(join(tmpdir(), 'gs-'))
test.after(async () => {
  await stopAll()
  endPrograms()
  rmSync(folder, { recursive: true, force: true })
})

async function news(options: object = {}) {
  const taken: StompFrame[] = []
  const handler = defineHandler({
    name: 'News',
    routes: {
      SEND: async (frame: StompFrame) => {
        taken.push(frame)
        const text = String(frame.body)
        if (text === 'broken') throw new Error('a secret of ours')
        if (text === 'refused') throw new StompError('no such news', 'look elsewhere')
        if (text === 'keep') return null
        return text === 'loud' ? 'LOUD' : undefined
      },
    },
  })
  const watched = await serve({ handler, protocol: { name: 'stomp', ...options } } as never)
  return { ...watched, taken }
}

withTool('stomp', 'stomp.py subscribes and sends, in 1.0, 1.1 and 1.2, with a login', async () => {
  const { port, taken, count } = await news({
    authenticate: (user: string, passcode: string) => user === 'ada' && passcode === 'pw',
  })
  const at = ['-H', '127.0.0.1', '-P', String(port), '-U', 'ada', '-W', 'pw']
  for (const version of ['1.0', '1.1', '1.2']) {
    const listener = begin('stomp', [...at, '-S', version, '-L', '/topic/news'])
    await eventually(() => /Subscribing|CONNECTED|Running as listener/i.test(listener.output), 'listening')
    const commands = join(folder, `commands-${version}`)
    writeFileSync(commands, `send /topic/news good morning\nsend /topic/news loud\nquit\n`)
    const before = taken.length
    // Sent again until the listener has subscribed: its printing tells that it began, not that it was heard.
    await eventually(() => count('connection.opened') > 0, 'connected')
    const sender = await run('stomp', [...at, '-S', version, '-F', commands])
    await eventually(() => taken.length >= before + 2, `two more; ${sender.output}`)
    await eventually(() => listener.output.includes('LOUD'), `heard; ${listener.output}`)
    assert.match(listener.output, /good morning/)
    listener.child.kill('SIGTERM')
    await listener.over
  }
  const eve = await run('stomp', [
    '-H',
    '127.0.0.1',
    '-P',
    String(port),
    '-U',
    'eve',
    '-W',
    'no',
    '-F',
    join(folder, 'commands-1.2'),
  ])
  assert.match(eve.output, /ConnectFailed/)
  assert.is.not(eve.status, 0)
})

test('our own client: receipts, acknowledgements, replacement, refusal', async () => {
  const { server, taken } = await news({ inFlight: 1 })
  const endpoint = [...server.listeners][0]?.endpoint as never
  const open = async () => stompClient(await connect(endpoint, { protocol: 'stomp' }))
  const [one, other] = [await open(), await open()]
  assert.is(one.connected.headers.version, '1.2')
  const heard: string[] = []
  let release = () => {}
  const gate = new Promise<void>((resolve) => {
    release = resolve
  })
  const unsubscribe = await one.subscribe(
    '/queue/a:b',
    async (frame) => {
      heard.push(String(frame.body))
      await gate
    },
    { ack: 'client-individual' },
  )
  await other.send('/queue/a:b', 'first')
  await other.send('/queue/a:b', 'loud')
  await other.send('/queue/a:b', 'keep')
  await other.send('/queue/other', 'nobody')
  await other.send('/queue/a:b', Buffer.of(0, 255))
  // One may be unacknowledged; the rest waits.
  await eventually(() => heard.length === 1, 'the first')
  release()
  await eventually(() => heard.length === 3, 'the rest')
  assert.equal(heard.slice(0, 2), ['first', 'LOUD'])
  assert.is(taken.length, 5)
  await unsubscribe()
  await other.send('/queue/a:b', 'unheard')
  const error = await other.send('/queue/a:b', 'refused').then(
    () => undefined,
    (thrown) => thrown,
  )
  assert.ok(error instanceof StompError)
  assert.equal([error.message, error.details], ['no such news', 'look elsewhere'])
  assert.is(heard.length, 3)
  await one.disconnect()
})

const begins = async (port: number, headers = 'accept-version:1.2') => {
  const peer = await Peer.open(port)
  await peer.send(`CONNECT\n${headers}\n\n\0`).hears('\n\n\0\n')
  return peer
}

test('errors are frames, then the end; words of ours stay ours', async () => {
  const { port, until, taken } = await news()
  for (const [sent, message, code] of [
    ['SEND\n\n\0', 'message:begin with CONNECT, not SEND', 'HANDLER_FAILED'],
    ['CONNECT\naccept-version:9\n\n\0', 'message:Supported protocol versions', 'HANDLER_FAILED'],
    ['GET / HTTP/1.1\r\n\r\n', 'message:expected a command in capital letters', 'MALFORMED'],
  ] as const) {
    const peer = await Peer.open(port)
    await peer.send(sent).hears(message)
    await peer.over
    assert.match(peer.heard, /^ERROR\n/)
    assert.is((await until('connection.closed')).reason.code, code, sent)
  }
  for (const [sent, message] of [
    ['SEND\nreceipt:7\n\n\0', 'message:the header destination is missing\nreceipt-id:7'],
    ['SEND\ndestination:/a\nreceipt:8\n\nbroken\0', 'message:internal error\nreceipt-id:8'],
    ['SUBSCRIBE\nid:1\ndestination:/a\nack:maybe\n\n\0', 'message:ack\\c expected auto'],
    ['UNSUBSCRIBE\nid:1\n\n\0', 'message:there is no subscription 1'],
    ['ACK\nid:1\n\n\0', 'message:ACK\\c nothing waits for 1'],
    ['COMMIT\ntransaction:1\n\n\0', 'message:there is no transaction 1'],
    ['MESSAGE\n\n\0', 'message:MESSAGE is no command of a client'],
    ['SEND\ncontent-length:2000000\n\n', 'message:frames of at most 1048576 bytes'],
  ] as const) {
    const peer = await begins(port)
    await peer.send(sent).hears(message)
    await peer.over
    assert.not.match(peer.heard, /secret/)
  }
  assert.is(taken.length, 1)
})

test('transactions: what is sent in one comes with COMMIT, or never', async () => {
  const { port, taken } = await news({ transactions: 2 })
  const peer = await begins(port)
  const inside = (text: string) => `SEND\ndestination:/a\ntransaction:t\n\n${text}\0`
  peer.send(`BEGIN\ntransaction:t\n\n\0${inside('1')}${inside('2')}`)
  await peer.send('SEND\ndestination:/a\nreceipt:now\n\n0\0').hears('receipt-id:now')
  assert.equal(
    taken.map(({ body }) => String(body)),
    ['0'],
  )
  await peer.send('COMMIT\ntransaction:t\nreceipt:done\n\n\0').hears('receipt-id:done')
  assert.equal(
    taken.map(({ body }) => String(body)),
    ['0', '1', '2'],
  )
  peer.send(`BEGIN\ntransaction:t\n\n\0${inside('3')}`)
  await peer.send('ABORT\ntransaction:t\nreceipt:gone\n\n\0').hears('receipt-id:gone')
  await peer.send(`BEGIN\ntransaction:t\n\n\0${inside('4')}${inside('5')}${inside('6')}`).hears('at most 2 SENDs')
  assert.is(taken.length, 3)
})

test('heart-beats both ways; a peer that promised them and is silent is gone', async () => {
  const { port, until } = await news({ heartBeatMs: 60 })
  const peer = await begins(port, 'accept-version:1.1\nheart-beat:60,60')
  assert.match(peer.heard, /heart-beat:60,60/)
  peer.heard = ''
  await peer.hears('\n')
  assert.is((await until('connection.closed')).reason.code, 'HEART_BEAT_TIMEOUT')
})

test('at a drain each is told', async () => {
  const { port, server } = await news()
  const peer = await begins(port)
  const stopped = server.stop({ timeoutMs: 2_000 })
  await peer.hears('ERROR\nmessage:the server is shutting down')
  await peer.over
  peer.leave()
  await stopped
})

test('over WebSockets a frame is a message', async () => {
  const { server } = await serve({
    listen: 'ws://127.0.0.1:0/stomp',
    protocol: 'stomp',
    handler: defineHandler({ name: 'None', routes: { SEND: () => undefined } }),
  })
  const endpoint = [...server.listeners][0]?.endpoint as never
  const peer = await stompClient(await connect(endpoint, { protocol: 'stomp' }))
  const heard: string[] = []
  await peer.subscribe('/a', ({ body }) => void heard.push(String(body)))
  await peer.send('/a', 'over the web')
  await eventually(() => heard.length === 1, 'heard')
  await peer.disconnect()
})

test.run()
