import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { networkInterfaces } from 'node:os'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Endpoint } from '#src/core/endpoint.js'
import type { BindError } from '#src/core/errors.js'
import { hasReusePort } from '#src/core/reuse-port.js'
import type { UdpOptions } from '#src/transports/udp-options.js'
import { bindSocket } from '#src/transports/udp-socket.js'
import { skip } from '../../support/skip.js'
import { cleanUp, codeOf, connect, Far, listen, until } from './udp-record.js'

test.after.each(cleanUp)

const outside = Object.entries(networkInterfaces()).flatMap(([name, list = []]) =>
  list.map((each) => ({ name, ...each })),
)
const outsideBy = (family: string) => outside.find((each) => !each.internal && each.family === family)

const failure = (endpoint: string, options = {}): Promise<BindError> =>
  listen(endpoint, options).then(
    () => assert.unreachable(`${endpoint} was bound`) as never,
    (error) => error,
  )

test('a port that is taken is ADDRESS_IN_USE, also for two of our own', async () => {
  const { port } = await listen('udp://127.0.0.1:0')
  const error = await failure(`udp://127.0.0.1:${port}`)
  assert.is(error.code, 'ADDRESS_IN_USE')
  assert.match(error.message, new RegExp(`udp://127.0.0.1:${port}`))
  assert.is((error.cause as NodeJS.ErrnoException).code, 'EADDRINUSE')
})

test('an address of nobody here is ADDRESS_NOT_AVAILABLE, a name of nobody HOST_NOT_FOUND', async () => {
  assert.is((await failure('udp://198.51.100.77:0')).code, 'ADDRESS_NOT_AVAILABLE')
  assert.is((await failure('udp://no-such-host.invalid:0')).code, 'HOST_NOT_FOUND')
})

test('localhost is 127.0.0.1 and ::1 on one port, and replies leave where they were asked', async () => {
  const { record, listener, port } = await listen('udp://localhost:0')
  record.onData = (link, bytes) => link.write(bytes)
  assert.is(String(listener.endpoint), `udp://localhost:${port}`)
  const four = await Far.open(port)
  await four.send('4')
  await until(() => four.received.length === 1, 'a reply by IPv4')
  assert.is(four.received[0]?.from.address, '127.0.0.1')
  if (!hasIPv6())
    return skip(
      'localhost is 127.0.0.1 and ::1 on one port, and replies leave where they were asked',
      'the half over ::1: this host has no IPv6',
    )
  const six = await Far.open(port, '::1')
  await six.send('6')
  await until(() => six.received.length === 1, 'a reply by IPv6')
  assert.is(six.received[0]?.from.address, '::1')
  assert.is(six.received[0]?.from.port, port)
  assert.equal(
    record.opened.map((link) => link.local?.host),
    ['127.0.0.1', '::1'],
  )
})

test('localhost leaves nothing bound when one of its addresses is taken', async () => {
  if (!hasIPv6())
    return skip('localhost leaves nothing bound when one of its addresses is taken', 'this host has no IPv6')
  const { port } = await listen('udp://[::1]:0')
  assert.is((await failure(`udp://localhost:${port}`)).code, 'ADDRESS_IN_USE')
  await listen(`udp://127.0.0.1:${port}`)
})

test('[::] takes IPv4 as well, shown as mapped addresses, unless ipv6Only', async () => {
  if (!hasIPv6())
    return skip('[::] takes IPv4 as well, shown as mapped addresses, unless ipv6Only', 'this host has no IPv6')
  const { record, port } = await listen('udp://[::]:0')
  record.onData = (link, bytes) => link.write(bytes)
  const far = await Far.open(port)
  await far.send(Buffer.alloc(65_507))
  await until(() => far.received.length === 1, 'the echo')
  assert.is(String(record.opened[0]?.remote), `udp://[::ffff:127.0.0.1]:${far.port}`)
  record.opened[0]?.write(Buffer.alloc(65_508))
  await until(() => record.faults.length === 1, 'the limit of IPv4')
  await listen(`udp://127.0.0.1:${port}`).then(
    () => assert.unreachable(),
    (error) => assert.is(codeOf(error), 'ADDRESS_IN_USE'),
  )
  const only = await listen('udp://[::]:0', { ipv6Only: true })
  await listen(`udp://127.0.0.1:${only.port}`)
})

test('a link-local peer is answered: its zone is part of its address', async () => {
  const found = outside.find(({ address }) => address.startsWith('fe80:'))
  if (found === undefined)
    return skip('a link-local peer is answered: its zone is part of its address', 'this host has no link-local address')
  const { record, port } = await listen('udp://[::]:0')
  record.onData = (link, bytes) => link.write(bytes)
  const address = `${found.address}%${found.name}`
  const far = await Far.open(port, address, address)
  await far.send('hello')
  await until(() => far.received.length === 1, 'the echo')
  assert.is(String(record.opened[0]?.remote), `udp://[${address}]:${far.port}`)
})

test('a bound endpoint says its address, not its name or port 0', async () => {
  const { listener } = await listen('udp://0.0.0.0:0')
  assert.match(String(listener.endpoint), /^udp:\/\/0\.0\.0\.0:[1-9]\d*$/)
})

test('the buffers asked for are the ones set, up to what the kernel allows', async () => {
  const open = (options: UdpOptions) =>
    bindSocket(new Endpoint({ scheme: 'udp', host: '127.0.0.1', port: 0 }), '127.0.0.1', 0, options)
  const plain = createSocket('udp4').bind(0, '127.0.0.1')
  await once(plain, 'listening')
  const small = await open({ receiveBuffer: 20_000, sendBuffer: 30_000 })
  const usual = await open({})
  const most = await open({ receiveBuffer: 2 ** 31 - 1, sendBuffer: 2 ** 31 - 1 })
  // Linux keeps twice what was asked, for its own bookkeeping (socket(7)).
  assert.ok([20_000, 40_000].includes(small.getRecvBufferSize()))
  assert.ok([30_000, 60_000].includes(small.getSendBufferSize()))
  assert.ok(usual.getRecvBufferSize() >= plain.getRecvBufferSize())
  assert.ok(most.getRecvBufferSize() >= usual.getRecvBufferSize())
  for (const socket of [plain, small, usual, most]) socket.close()
})

test('reusePort is refused where Node would ignore it', async () => {
  assert.equal(
    ['20.20.2', '22.11.0', '22.12.0', '23.0.1', '23.1.0', '24.0.0'].map((version) => hasReusePort(version)),
    [false, false, true, false, true, true],
  )
  if (hasReusePort(process.versions.node)) {
    const { port } = await listen('udp://127.0.0.1:0', { reusePort: true })
    await listen(`udp://127.0.0.1:${port}`, { reusePort: true })
  } else assert.is((await failure('udp://127.0.0.1:0', { reusePort: true })).code, 'NOT_SUPPORTED')
})

// ── broadcast and multicast ──────────────────────────────────────────────────────────────────────────────────────────

test('a broadcast reaches a listener, its answer the link; without the option the send is refused', async () => {
  const server = await listen('udp://0.0.0.0:0')
  server.record.onData = (link, bytes) => link.write(bytes)
  const { link, record } = await connect(`udp://127.255.255.255:${server.port}`, { broadcast: true })
  link.write(Buffer.from('who is there?'))
  await until(() => record.messages.length === 1, 'an answer')
  const refused = await connect(`udp://127.255.255.255:${server.port}`, {}).then(() => 'connected', codeOf)
  assert.is(refused, 'TRANSPORT_FAILED')
})

const loopback = { interface: '127.0.0.1', loopback: true, ttl: 0 }

for (const bound of ['239.255.71.7', '0.0.0.0']) {
  test(`a group is heard by a listener on ${bound}, and answers reach the link`, async () => {
    const multicast = { groups: [{ group: '239.255.71.7', interface: '127.0.0.1' }] }
    const server = await listen(`udp://${bound}:0`, { multicast })
    server.record.onData = (link, bytes) => link.write(bytes)
    const { link, record } = await connect(`udp://239.255.71.7:${server.port}`, { multicast: loopback })
    link.write(Buffer.from('hello, group'))
    await until(() => record.messages.length === 1, 'an answer')
    assert.equal(server.record.texts(), ['hello, group'])
  })
}

test('a group has several listeners on one port', async () => {
  const multicast = { groups: [{ group: '239.255.71.8', interface: '127.0.0.1' }] }
  const one = await listen('udp://239.255.71.8:0', { multicast })
  const two = await listen(`udp://239.255.71.8:${one.port}`, { multicast })
  const { link } = await connect(`udp://239.255.71.8:${one.port}`, { multicast: loopback })
  link.write(Buffer.from('all'))
  await until(() => one.record.messages.length === 1 && two.record.messages.length === 1, 'both')
})

test('with a source named, the group is heard from there only', async () => {
  const groups = [{ group: '232.71.7.1', interface: '127.0.0.1', source: '127.0.0.2' }]
  const server = await listen('udp://232.71.7.1:0', { multicast: { groups } })
  const say = async (address: string) => {
    const socket = createSocket('udp4').bind(0, address)
    await once(socket, 'listening')
    socket.setMulticastInterface('127.0.0.1')
    await new Promise((resolve) => socket.send(`from ${address}`, server.port, '232.71.7.1', resolve))
    socket.close()
  }
  await say('127.0.0.3')
  await say('127.0.0.2')
  await until(() => server.record.messages.length > 0, 'the named source')
  assert.equal(server.record.texts(), ['from 127.0.0.2'])
})

// On the loopback interface the kernel hears everything it sends, and without a route of its own no IPv6 group: these
// two need a real one. A ttl of 0 keeps the datagrams in this host.
test('an IPv6 group is heard', async () => {
  const found = outsideBy('IPv6')
  if (found === undefined)
    return skip('an IPv6 group is heard', 'this host has no interface with IPv6 but its loopback')
  const through = `::%${found.name}`
  const server = await listen('udp://[::]:0', { multicast: { groups: [{ group: 'ff02::7107', interface: through }] } })
  const { link } = await connect(`udp://[ff02::7107]:${server.port}`, {
    multicast: { interface: through, loopback: true, ttl: 0 },
  })
  link.write(Buffer.from('six'))
  await until(() => server.record.messages.length === 1, 'the message')
})

test('without loopback our own host does not hear it', async () => {
  const found = outsideBy('IPv4')
  if (found === undefined)
    return skip(
      'without loopback our own host does not hear it',
      'this host has no interface with IPv4 but its loopback',
    )
  const outgoing = { interface: found.address, ttl: 0 }
  const multicast = { groups: [{ group: '239.255.71.9', interface: found.address }] }
  const server = await listen('udp://0.0.0.0:0', { multicast })
  const endpoint = `udp://239.255.71.9:${server.port}`
  const quiet = await connect(endpoint, { multicast: { ...outgoing, loopback: false } })
  quiet.link.write(Buffer.from('unheard'))
  const loud = await connect(endpoint, { multicast: { ...outgoing, loopback: true } })
  loud.link.write(Buffer.from('heard'))
  await until(() => server.record.messages.length > 0, 'the one with loopback')
  assert.equal(server.record.texts(), ['heard'])
})

test('a group that cannot be joined is an error that names it; nothing stays bound', async () => {
  const error = await failure('udp://0.0.0.0:0', {
    multicast: { groups: [{ group: '239.1.2.3', interface: '198.51.100.77' }] },
  })
  assert.match(error.message, /join 239\.1\.2\.3/)
  assert.is(error.code, 'ADDRESS_NOT_AVAILABLE')
})

function hasIPv6(): boolean {
  return Object.values(networkInterfaces()).some((list) => list?.some(({ address }) => address === '::1'))
}

test.run()
