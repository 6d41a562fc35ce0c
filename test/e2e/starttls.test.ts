// time limit: 60 s
/** `connection.upgrade('tls')`: the go-ahead in plain text first, nothing of before the handshake after it; through layers too. */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import { type Connection, connect, defineHandler, TLS } from 'gaidaros'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, Peer, serve, stopAll } from '../support/faults.js'
import { skip } from '../support/skip.js'
import { hasTool } from '../support/tools.js'

const folder = mkdtempSync(join(tmpdir(), 'gs-'))
const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }], { keySize: 2048 })
test.after(async () => {
  await stopAll()
  rmSync(folder, { recursive: true })
})

/** What of SMTP a client needs to begin TLS. */
const polite = (heard: string[]) =>
  defineHandler({
    name: 'Polite',
    codec: 'line',
    open: () => '220 here',
    async message(line: string, connection: Connection) {
      heard.push(`${line} ${connection.feature(TLS)?.protocol ?? 'plain'}`)
      if (line.startsWith('EHLO')) return '250 STARTTLS'
      if (line !== 'STARTTLS') return `250 ${line}`
      void connection.send('220 go ahead')
      await connection.upgrade('tls')
      return undefined
    },
  })

const stacks: Record<string, { layers: (string | object)[]; before?: string }> = {
  'no layer': { layers: [] },
  'a slow throttle': { layers: [{ name: 'throttle', read: 1_000_000, write: 200, burst: 1 }] },
  'wire-log and throttle': {
    layers: [
      { name: 'wire-log', file: join(folder, 'wire.log') },
      { name: 'throttle', write: 5_000, burst: 1 },
    ],
  },
  'proxy-protocol and pcap': {
    layers: [
      { name: 'proxy-protocol', trusted: ['127.0.0.1'] },
      { name: 'pcap', file: join(folder, 'wire.pcap') },
    ],
    before: 'PROXY TCP4 1.2.3.4 127.0.0.1 5 6\r\n',
  },
}

for (const [name, { layers, before = '' }] of Object.entries(stacks)) {
  test(`through ${name}: plain before, encrypted after`, async () => {
    const heard: string[] = []
    const { port } = await serve({ handler: polite(heard), tls: { cert, key }, layers: layers as never })
    const peer = await Peer.open(port)
    peer.send(before)
    await peer.hears('220 here\n')
    peer.send('STARTTLS\r\n')
    await peer.hears('220 go ahead\n')
    assert.is(peer.heard, '220 here\n220 go ahead\n')
    const secure = connectTls({ socket: peer.socket, rejectUnauthorized: false })
    secure.write('NOOP\r\n')
    let answer = ''
    for await (const chunk of secure) if ((answer += chunk).endsWith('\n')) break
    assert.is(answer, '250 NOOP\n')
    assert.equal(heard, ['STARTTLS plain', 'NOOP TLSv1.3'])
    secure.destroy()
  })

  test(`through ${name}: plain text behind the command is refused, never read as encrypted (CVE-2011-0411)`, async () => {
    const heard: string[] = []
    const { port, until } = await serve({ handler: polite(heard), tls: { cert, key }, layers: layers as never })
    const peer = await Peer.open(port)
    peer.send(before)
    await peer.hears('220 here\n')
    peer.send('STARTTLS\r\nRSET\r\n')
    assert.is((await until('connection.closed')).reason.code, 'MALFORMED')
    // In a packet of its own, while the go-ahead may still be on its way.
    const second = await Peer.open(port)
    second.send(before)
    await second.hears('220 here\n')
    second.send('STARTTLS\r\n')
    while (heard.length < 2) await new Promise((resolve) => setImmediate(resolve))
    second.send('RSET\r\n')
    const { reason } = await until('connection.closed')
    assert.ok(['MALFORMED', 'HANDSHAKE_FAILED'].includes(reason.code), reason.code)
    assert.equal(heard, ['STARTTLS plain', 'STARTTLS plain'])
    peer.leave()
    second.leave()
  })
}

test('openssl s_client begins TLS as for SMTP', async () => {
  if (!hasTool('openssl')) return skip('openssl', 'openssl is not installed')
  const heard: string[] = []
  const { port } = await serve({ handler: polite(heard), tls: { cert, key }, layers: ['throttle'] })
  const child = spawn('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, '-starttls', 'smtp', '-quiet'])
  let output = ''
  child.stdin.write('NOOP\r\n')
  await new Promise<void>((resolve) => {
    child.stdout.on('data', (chunk) => {
      output += chunk
      if (output.includes('250 NOOP')) resolve()
    })
  })
  child.kill()
  assert.is(heard.at(-1), 'NOOP TLSv1.3')
})

test('our own client switches too, and what it wrote before is plain', async () => {
  const heard: string[] = []
  const { port } = await serve({
    handler: polite(heard),
    tls: { cert, key },
    layers: [{ name: 'wire-log', file: join(folder, 'client.log') }],
  })
  const client = await connect(`tcp://127.0.0.1:${port}`, {
    layers: [{ name: 'throttle', write: 10_000, burst: 1 }],
    tls: { ca: cert, serverName: 'localhost' },
  })
  const replies = client.messages()[Symbol.asyncIterator]()
  assert.is((await replies.next()).value, '220 here')
  void client.send('STARTTLS')
  assert.is((await replies.next()).value, '220 go ahead')
  await client.upgrade('tls')
  void client.send('NOOP')
  assert.is((await replies.next()).value, '250 NOOP')
  assert.is(client.feature(TLS)?.protocol, 'TLSv1.3')
  await client.close()
  await eventually(() => readFileSync(join(folder, 'client.log'), 'utf8').includes('STARTTLS'), 'the log is written')
})

test('what cannot be switched says so', async () => {
  let failure: Error | undefined
  const handler = defineHandler({
    name: 'Eager',
    message: (_line: string, connection: Connection) =>
      connection.upgrade('tls').catch((error) => void (failure = error)),
  })
  const { port } = await serve({ handler, tls: { cert, key }, layers: ['gzip'] })
  const client = await connect(`tcp://127.0.0.1:${port}`, { layers: ['gzip'] })
  void client.send('x')
  while (failure === undefined) await new Promise((resolve) => setTimeout(resolve, 5))
  assert.match(failure.message, /cannot upgrade to tls; it can upgrade to: nothing/)
  await client.close()
})

test.run()
