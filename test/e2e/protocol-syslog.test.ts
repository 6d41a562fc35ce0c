// time limit: 90 s
/** Syslog, by logger and by senders of few manners. */
import { connect, defineHandler } from 'gaidaros'
import type { SyslogMessage } from 'gaidaros/plugins/syslog'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually, Peer, serve, stopAll } from '../support/faults.js'
import { endPrograms, run, withTool } from '../support/programs.js'

test.after(async () => {
  await stopAll()
  endPrograms()
})

withTool('logger', 'syslog: logger over UDP and TCP, both formats, both framings', async () => {
  const heard: SyslogMessage[] = []
  const handler = defineHandler({ name: 'Collector', message: (message: SyslogMessage) => void heard.push(message) })
  const tcp = await serve({ handler, protocol: 'syslog' })
  const udp = await serve({ listen: 'udp://127.0.0.1:0', handler, protocol: 'syslog' })
  const logger = (port: number, ...args: string[]) =>
    run('logger', ['-n', '127.0.0.1', '-P', String(port), '-p', 'local3.warning', '-t', 'gate', ...args])
  await logger(tcp.port, '-T', '--rfc5424', '--msgid', 'M7', '--sd-id', 'x@1', '--sd-param', 'a="b"', 'one')
  await logger(tcp.port, '-T', '--octet-count', '--rfc5424', 'two')
  await logger(tcp.port, '-T', '--rfc3164', 'three')
  await logger(udp.port, '-d', '--rfc5424', 'four')
  await logger(udp.port, '-d', '--rfc3164', 'five')
  await eventually(() => heard.length === 5, `five messages; ${JSON.stringify(heard)}`)
  const of = (text: string) => heard.find(({ message }) => message === text) as SyslogMessage
  for (const text of ['one', 'two', 'four']) assert.is(of(text).format, '5424')
  for (const text of ['three', 'five']) assert.is(of(text).format, '3164')
  for (const { facility, severity, app } of heard) assert.equal([facility, severity, app], [19, 'warning', 'gate'])
  assert.is(of('one').msgid, 'M7')
  assert.is(of('one').structured?.['x@1']?.a, 'b')
})

test('counts, lines, empty lines, a last line without its end; no header at all', async () => {
  const heard: SyslogMessage[] = []
  const handler = defineHandler({ name: 'Collector', message: (message: SyslogMessage) => void heard.push(message) })
  const { port, until } = await serve({ handler, protocol: 'syslog' })
  const peer = await Peer.open(port)
  peer.send(
    '9 <13>a\nb\n\n<14>Jan  2 03:04:05 host app[7]: text\r\n\n\0<999>no priority\n<15>1 - - - - - [x@1 a="\\"\\]"][y] \ufeffend',
  )
  peer.socket.end()
  await peer.over
  assert.equal(
    heard.map(({ format, message }) => [format, message]),
    [
      ['3164', 'a\nb'],
      ['3164', 'text'],
      ['raw', '<999>no priority'],
      ['5424', 'end'],
    ],
  )
  assert.equal({ ...heard[3]?.structured?.['x@1'] }, { a: '"]' })
  assert.equal([heard[1]?.host, heard[1]?.app, heard[1]?.pid], ['host', 'app', '7'])
  assert.is((await until('connection.closed')).reason.code, 'ENDED')
  const bad = await Peer.open(port)
  await bad.send('hello\n').over
  assert.is((await until('connection.closed')).reason.code, 'MALFORMED')
  const large = await Peer.open(port)
  await large.send('9999999 <13>').over
  assert.is((await until('connection.closed')).reason.code, 'TOO_LARGE')
})

test('work is linear: a megabyte of carriage returns', async () => {
  let length = 0
  const handler = defineHandler({
    name: 'Collector',
    message: ({ message }: SyslogMessage) => void (length = message.length),
  })
  const { port } = await serve({ handler, protocol: 'syslog' })
  const began = process.cpuUsage()
  const peer = await Peer.open(port)
  peer.send(`<13>${'\r'.repeat(1_000_000)}x\n`)
  await eventually(() => length === 1_000_001, 'heard')
  assert.ok(process.cpuUsage(began).user < 2_000_000)
  peer.leave()
})

test('sending: our own client, and words that must not become fields', async () => {
  const heard: SyslogMessage[] = []
  const handler = defineHandler({ name: 'Collector', message: (message: SyslogMessage) => void heard.push(message) })
  const { server } = await serve({ handler, protocol: 'syslog' })
  const client = await connect([...server.listeners][0]?.endpoint as never, { protocol: 'syslog' })
  await client.send({
    severity: 'error',
    host: 'a b\nc',
    app: 'x',
    message: 'two\nlines',
    structured: { 'a b': { '"': ']' } },
  })
  await eventually(() => heard.length === 1, 'heard')
  assert.equal([heard[0]?.host, heard[0]?.app, heard[0]?.message], ['a_b_c', 'x', 'two\nlines'])
  await client.send({ severity: 'loud', message: 'x' } as never).then(
    () => assert.unreachable(),
    (error) => assert.match(error.message, /severity loud/),
  )
  await client.close()
})

test.run()
