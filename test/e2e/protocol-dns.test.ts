// time limit: 90 s
/** DNS, by dig and by packets written here. */
import { connect, defineHandler } from 'gaidaros'
import { DnsError, type DnsQuery } from 'gaidaros/plugins/dns'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, Peer, serve, stopAll } from '../support/faults.js'
import { endPrograms, run, withTool } from '../support/programs.js'

test.after(async () => {
  await stopAll()
  endPrograms()
})

const zone = defineHandler({
  name: 'Zone',
  routes: {
    A: ({ name }: DnsQuery) => {
      if (name === 'nobody.test') return null
      if (name === 'broken.test') throw new Error('a secret of ours')
      if (name === 'mine.test') throw new DnsError('REFUSED')
      return [{ type: 'A', name, ttl: 60, data: '192.0.2.7' }]
    },
    TXT: async ({ name }: DnsQuery) => [
      { type: 'TXT', name, ttl: 60, data: Array.from({ length: 20 }, (_, i) => `${i}`.padEnd(200, 'x')) },
    ],
  },
})

withTool('dig', 'dns: dig over UDP and TCP, with a 4 KiB answer that comes by TCP', async () => {
  const first = await serve({ listen: 'tcp://127.0.0.1:0', handler: zone, protocol: 'dns' })
  const port = String(first.port)
  await serve({ listen: `udp://127.0.0.1:${port}`, handler: zone, protocol: 'dns' })
  const dig = async (...args: string[]) =>
    (await run('dig', ['@127.0.0.1', '-p', port, '+tries=1', '+time=5', ...args])).output
  assert.match(await dig('www.test', 'A'), /status: NOERROR[\s\S]*www\.test\.\s+60\s+IN\s+A\s+192\.0\.2\.7/)
  assert.match(await dig('+tcp', '+noedns', 'www.test', 'A'), /192\.0\.2\.7/)
  const large = await dig('big.test', 'TXT')
  assert.match(large, /Truncated, retrying in TCP mode/)
  assert.match(large, /MSG SIZE {2}rcvd: 4\d\d\d/)
  assert.match(await dig('+ignore', 'big.test', 'TXT'), /flags:[^;]* tc/)
  assert.match(await dig('nobody.test', 'A'), /status: NXDOMAIN/)
  const broken = await dig('broken.test', 'A')
  assert.match(broken, /status: SERVFAIL/)
  assert.not.match(broken, /secret/)
  assert.match(await dig('mine.test', 'A'), /status: REFUSED/)
  assert.match(await dig('www.test', 'MX'), /status: REFUSED/)
  assert.match(await dig('+opcode=NOTIFY', 'www.test'), /status: NOTIMP/)
  assert.match(await dig('www.test', 'A'), /status: NOERROR/)
})

test('dns: what is no question (F81), and answers nobody asked for (F35)', async () => {
  const { server } = await serve({ listen: 'udp://127.0.0.1:0', handler: zone, protocol: 'dns' })
  const client = await connect([...server.listeners][0]?.endpoint as never, { codec: 'raw' })
  const question = Buffer.from('1234010000010000000000000377777704746573740000010001', 'hex')
  const spoilt = (at: number, hex: string) => {
    const copy = Buffer.from(question)
    Buffer.from(hex, 'hex').copy(copy, at)
    return copy
  }
  // Said before each, a good question: whatever answers second is the bad one's answer, or nothing.
  for (const [bytes, rcode] of [
    [spoilt(4, 'ffff'), 1],
    [spoilt(4, '0000'), 1],
    [spoilt(6, '0001'), 1],
    [spoilt(12, 'c00c'), 1],
    [spoilt(12, 'ff'), 1],
    [question.subarray(0, 20), 1],
    [spoilt(2, '2800'), 4],
  ] as const) {
    const answer = (await client.request(bytes)) as Buffer
    assert.is(answer.readUInt16BE(0), 0x1234)
    assert.is((answer[3] as number) & 15, rcode, bytes.toString('hex'))
  }
  await client.send(spoilt(2, '8180'))
  const next = (await client.request(spoilt(0, 'abcd'))) as Buffer
  assert.is(next.readUInt16BE(0), 0xabcd)
  await client.close()
})

test('a query of each cut by TCP, several at once, answered as they are ready', async () => {
  let release = () => {}
  const gate = new Promise<void>((resolve) => {
    release = resolve
  })
  const handler = defineHandler({
    name: 'Slow',
    routes: {
      A: async ({ name }: DnsQuery) => {
        if (name === 'slow.test') await gate
        return [{ type: 'A', name, data: '192.0.2.1' }]
      },
    },
  })
  const { port } = await serve({ handler, protocol: 'dns' })
  const question = (id: number, name: string) => {
    const labels = name.split('.').map((label) => Buffer.concat([Buffer.of(label.length), Buffer.from(label)]))
    const head = Buffer.from('0000010000010000000000000000', 'hex').subarray(0, 12)
    head.writeUInt16BE(id, 0)
    const bytes = Buffer.concat([head, ...labels, Buffer.of(0, 0, 1, 0, 1)])
    return Buffer.concat([Buffer.of(0, bytes.length), bytes])
  }
  const peer = await Peer.open(port)
  for (const byte of question(1, 'slow.test')) peer.send(Buffer.of(byte))
  peer.send(question(2, 'fast.test'))
  const idAt = (at: number) => Buffer.from(peer.heard, 'latin1').readUInt16BE(at)
  await eventually(() => peer.heard.length > 4, 'an answer')
  // RFC 7766: the slow one holds nobody up.
  assert.is(idAt(2), 2)
  const first = Buffer.from(peer.heard, 'latin1').readUInt16BE(0) + 2
  release()
  await eventually(() => peer.heard.length > first + 4, 'the other')
  assert.is(idAt(first + 2), 1)
  peer.leave()
})

test('hostile names and records cost next to nothing (F81)', async () => {
  const { server } = await serve({ listen: 'udp://127.0.0.1:0', handler: zone, protocol: 'dns' })
  const client = await connect([...server.listeners][0]?.endpoint as never, { codec: 'raw' })
  const head = (additionals: number) =>
    Buffer.from(`12340100000100000000${additionals.toString(16).padStart(4, '0')}`, 'hex')
  const name = Buffer.from('0377777704746573740000010001', 'hex')
  for (const [records, rcode] of [
    // An OPT record whose name points at itself, and at the other one that points back.
    [Buffer.from('c01a002904d0000000000000', 'hex'), 1],
    [
      Buffer.concat([
        Buffer.from('c026', 'hex'),
        Buffer.from('002904d0000000000000', 'hex'),
        Buffer.from('c01a', 'hex'),
      ]),
      1,
    ],
    // A length beyond the end.
    [Buffer.from('00002904d000000000ffff', 'hex'), 1],
    // Version 1 of EDNS: BADVERS is 16, its upper bits in our OPT record.
    [Buffer.from('00002904d000010000000000'.slice(0, 22), 'hex'), 0],
  ] as const) {
    const began = process.cpuUsage()
    const answer = (await client.request(Buffer.concat([head(1), name, records]))) as Buffer
    const { user } = process.cpuUsage(began)
    assert.is((answer[3] as number) & 15, rcode, records.toString('hex'))
    assert.ok(user < 200_000, `${user} µs`)
    if (rcode === 0) assert.is(answer[answer.length - 6], 1, 'extended code')
  }
  await client.close()
})

test('a name whose labels are no plain text is refused with its question as it came; others come back to the byte', async () => {
  const asked: string[] = []
  const handler = defineHandler({
    name: 'Names',
    routes: {
      A: ({ name }: DnsQuery) => {
        asked.push(name)
        return [{ type: 'A', name, data: '192.0.2.7' }]
      },
    },
  })
  const { server } = await serve({ listen: 'udp://127.0.0.1:0', handler, protocol: 'dns' })
  const client = await connect([...server.listeners][0]?.endpoint as never, { codec: 'raw' })
  const ask = async (...labels: readonly (string | Buffer)[]) => {
    const name = Buffer.concat(labels.map((label) => Buffer.concat([Buffer.of(label.length), Buffer.from(label)])))
    const section = Buffer.concat([name, Buffer.of(0, 0, 1, 0, 1)])
    const answer = (await client.request(
      Buffer.concat([Buffer.from('123401000001000000000000', 'hex'), section]),
    )) as Buffer
    assert.is(answer.readUInt16BE(4), 1, 'one question')
    assert.equal(answer.subarray(12, 12 + section.length), section, 'the question is the one that was asked')
    return (answer[3] as number) & 15
  }
  assert.is(await ask('www', 'home', 'test'), 0)
  assert.is(await ask('wWw', 'HOME', 'test'), 0)
  assert.is(await ask(Buffer.from('Büro'), 'test'), 0)
  assert.equal(asked.splice(0), ['www.home.test', 'wWw.HOME.test', 'Büro.test'])
  // RFC 1035, section 5.1, and RFC 2181, section 11: other names than those they would be read as.
  for (const label of ['www.home', 'a\0b', Buffer.of(0x80, 0xff, 0x78), Buffer.of(0xc3)])
    assert.is(await ask(label as string, 'test'), 5, String(label))
  assert.equal(asked, [])
  await client.close()
})

withTool('dig', 'dns: dig takes the answer to a name with an escaped dot for an answer to its question', async () => {
  const { port } = await serve({ handler: zone, protocol: 'dns' })
  const { output } = await run('dig', [
    '@127.0.0.1',
    '-p',
    String(port),
    '+tcp',
    '+tries=1',
    '+time=5',
    'www\\.home.test',
  ])
  assert.match(output, /status: REFUSED/)
  assert.not.match(output, /mismatch/i)
})

test.run()
