// time limit: 90 s
/** SMTP, by swaks and by senders of few manners. */
import { defineHandler } from 'gaidaros'
import { type SmtpAddress, SmtpError, type SmtpMessage } from 'gaidaros/plugins/smtp'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Peer, serve, stopAll } from '../support/faults.js'
import { endPrograms, run, withTool } from '../support/programs.js'

test.after(async () => {
  await stopAll()
  endPrograms()
})

async function mailbox(options: object = {}) {
  const pems = await generate([{ name: 'commonName', value: 'localhost' }], { keySize: 2048 })
  const mails: SmtpMessage[] = []
  const handler = defineHandler({
    name: 'Mailbox',
    routes: {
      RCPT: ({ address }: SmtpAddress) => {
        if (address.startsWith('nobody')) throw new SmtpError(550, 'no such mailbox')
      },
      MESSAGE: (mail: SmtpMessage) => {
        mails.push(mail)
        return `kept as ${mails.length}`
      },
    },
  })
  const watched = await serve({
    handler,
    protocol: { name: 'smtp', hostname: 'mx.test', startTls: 'offer', ...options },
    tls: { cert: Buffer.from(pems.cert), key: Buffer.from(pems.private) },
    limits: { frameBytes: 10_000 },
  })
  return { ...watched, mails }
}

withTool('swaks', 'smtp: swaks, plain, with STARTTLS, and with AUTH under it', async () => {
  const { port, mails } = await mailbox({ authenticate: undefined })
  const swaks = (target: number, ...args: string[]) =>
    run('swaks', ['--server', '127.0.0.1', '--port', String(target), '--from', 'a@x.test', '--to', 'b@y.test', ...args])
  const plain = await swaks(port, '--body', '.dots\n..stay')
  assert.is(plain.status, 0, plain.output)
  assert.match(plain.output, /250 2\.0\.0 kept as 1/)
  const secure = await swaks(port, '--tls')
  assert.is(secure.status, 0, secure.output)
  assert.match(secure.output, /TLS started/)
  assert.equal(
    mails.map(({ tls, from, to }) => [tls, from, to[0]]),
    [
      [false, 'a@x.test', 'b@y.test'],
      [true, 'a@x.test', 'b@y.test'],
    ],
  )
  assert.match(String(mails[0]?.data), /\r\n\.dots\r\n\.\.stay\r\n/)
  const refused = await swaks(port, '--to', 'nobody@y.test')
  assert.match(refused.output, /550 no such mailbox/)
  const guarded = await mailbox({
    authenticate: (user: string, password: string) => user === 'ada' && password === 'secret',
  })
  assert.match((await swaks(guarded.port)).output, /530 5\.7\.0 authentication/)
  for (const mechanism of ['PLAIN', 'LOGIN']) {
    const auth = ['--tls', '--auth', mechanism, '--auth-user', 'ada']
    const known = await swaks(guarded.port, ...auth, '--auth-password', 'secret')
    assert.is(known.status, 0, known.output)
    assert.match((await swaks(guarded.port, ...auth, '--auth-password', 'wrong')).output, /535 5\.7\.8/)
  }
  assert.equal(
    guarded.mails.map(({ user }) => user),
    ['ada', 'ada'],
  )
})

test('smtp: order of commands, sizes, bare line feeds, too many errors', async () => {
  const { port, mails, until } = await mailbox()
  const peer = await Peer.open(port)
  await peer.hears('220 mx.test ESMTP\r\n')
  const says = async (line: string, answer: string) => {
    peer.heard = ''
    await peer.send(`${line}\r\n`).hears(answer)
  }
  await says('MAIL FROM:<a@b>', '503 5.5.1 begin with EHLO')
  await says('EHLO me', '250 STARTTLS')
  await says('RCPT TO:<a@b>', '503')
  await says('MAIL FROM:<a@b> SIZE=20000', '552')
  await says('MAIL FROM:<>\r\nRCPT TO:<"a b"@c>\r\nDATA', '354')
  await says('one\n.\r\nMAIL FROM:<smuggled@x>\r\n.', '550 5.6.0 lines end in CR LF')
  await says('MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA', '354')
  await says(`${`${'x'.repeat(900)}\r\n`.repeat(12)}.`, '552 5.3.4 too large')
  await says('MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA', '354')
  await says('hello\r\n.', '250 2.0.0 kept as 1')
  assert.equal(
    mails.map(({ from, to, data }) => [from, to, String(data)]),
    [['a@b', ['c@d'], 'hello\r\n']],
  )
  for (let i = 0; i < 10; i++) peer.send('NONSENSE\r\n')
  await peer.hears('421 mx.test too many errors')
  assert.is((await until('connection.closed')).reason.code, 'TOO_MANY_ERRORS')
  const eager = await Peer.open(port)
  await eager.send('STARTTLS\r\nEHLO injected\r\n').over
  assert.is((await until('connection.closed')).reason.code, 'MALFORMED')
})

test('what fails inside is 451 without its words, and the connection goes on', async () => {
  const handler = defineHandler({
    name: 'Broken',
    routes: {
      MESSAGE: async () => {
        throw new Error('a secret of ours')
      },
    },
  })
  const { port, until } = await serve({ handler, protocol: 'smtp', limits: { lineBytes: 1_000 } })
  const peer = await Peer.open(port)
  await peer.send('EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\n').hears('451 4.3.0 local error')
  assert.not.match(peer.heard, /secret/)
  await peer.send('NOOP\r\n').hears('250 2.0.0 OK')
  // A command in two, for a server that ends lines at a bare line feed.
  await peer.send('NOOP\nMAIL FROM:<a@b>\r\n').hears('500 5.5.2 lines end in CR LF')
  await peer.send(`NOOP ${'x'.repeat(1_100)}\r\n`).hears('500 5.5.6 lines of at most 1000 bytes')
  await peer.over
  assert.is((await until('connection.closed')).reason.code, 'TOO_LARGE')
})

test('every line of a mail as it came, in any cut; a mail of empty lines costs its bytes', async () => {
  const { port, mails } = await mailbox()
  const peer = await Peer.open(port)
  await peer.send('EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n').hears('354')
  for (const byte of Buffer.from('..a\r\n.b\r\n\r\n..\r\n.\r\n')) peer.send(Buffer.of(byte))
  await peer.hears('250 2.0.0 kept as 1')
  assert.is(String(mails[0]?.data), '.a\r\nb\r\n\r\n.\r\n')
  await peer.send('MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n').hears('354')
  await peer.send(`${'\r\n'.repeat(4_900)}.\r\n`).hears('250 2.0.0 kept as 2')
  assert.is(mails[1]?.data.length, 9_800)
  assert.is(mails[1]?.data.buffer.byteLength, 9_800)
  peer.leave()
})

test('a drain says 421', async () => {
  const { port, server } = await mailbox()
  const peer = await Peer.open(port)
  await peer.hears('220')
  const stopped = server.stop({ timeoutMs: 2_000 })
  await peer.hears('421 mx.test is shutting down')
  await peer.over
  peer.leave()
  await stopped
})

test.run()
