// time limit: 240 s
/** Peers that were accepted and are no connections yet: they count everywhere, and end with their listener. F103, F105. */
import { spawn } from 'node:child_process'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { killAll } from '../support/command.js'
import { eventually, serve, stopAll, turns } from '../support/faults.js'
import { certificate, patient, Traveller, ways } from '../support/ways.js'
import { Folder, Serving } from '../support/workers.js'

const folder = new Folder()
const echo = (line: string) => line
const travellers = new Set<Traveller>()
const come = async (...given: Parameters<typeof Traveller.to>) => {
  const traveller = await Traveller.to(...given)
  travellers.add(traveller)
  return traveller
}
/** Peers that say nothing, and how many of them the server keeps. */
async function silent(port: number, count: number, localAddress = '127.0.0.1') {
  const all = Array.from({ length: count }, () => new Traveller(port, [], { localAddress }))
  for (const one of all) travellers.add(one)
  // One that is refused may hear of that before it hears that it was connected.
  await Promise.all(all.map(({ raw, over }) => Promise.race([new Promise((done) => raw.once('connect', done)), over])))
  return { all, held: () => all.filter(({ raw }) => !raw.destroyed).length }
}

for (const { name, options, steps } of ways) {
  test(`F105 silent peers count as connections: ${name}`, async () => {
    const { port, server, until } = await serve({
      ...options,
      handler: echo,
      limits: { connections: 5 },
      timeouts: patient,
    })
    const listener = server.listeners.get('default')
    const { all, held } = await silent(port, 100)
    await until('limit.reached', ({ limit }) => limit === 'connections')
    await eventually(() => held() === 5, 'five are held')
    assert.is(listener?.handshaking, 5)
    assert.is(listener?.connections, 0)
    assert.is(server.connections.size, 0)
    assert.is(server.counters['refused.connections'], 95)
    assert.is(server.counters.accepted, 100)
    for (const one of all) one.leave()
    await until('limit.cleared', ({ limit }) => limit === 'connections')
    await eventually(() => listener?.handshaking === 0, 'their places are free')
    const honest = await (await come(port, steps)).go()
    await honest.say('hello').hears('hello')
    honest.leave()
  })

  test(`F105 whoever becomes a connection is counted once, at every limit: ${name}`, async () => {
    const { port, server, count } = await serve({
      ...options,
      handler: echo,
      limits: { connections: 1, connectionsPerSource: 1, acceptRate: 3, serverConnections: 1 },
      timeouts: patient,
    })
    const listener = server.listeners.get('default')
    for (let i = 1; i <= 2; i++) {
      const honest = await come(port, steps)
      for (let step = 0; step < steps.length; step++) {
        await eventually(() => listener?.handshaking === 1, `it is at step ${step}`)
        assert.is(listener?.connections, 0)
        await honest.go(0)
      }
      await honest.go()
      await honest.say('hello').hears('hello')
      assert.is(listener?.handshaking, 0)
      assert.is(listener?.connections, 1)
      assert.is(server.counters.accepted, i)
      assert.is(server.counters.opened, i)
      honest.leave()
      await eventually(() => listener?.connections === 0, 'it has left')
    }
    assert.is(count('connection.refused'), 0)
  })

  test(`F105 silent peers count for their source and at the server: ${name}`, async () => {
    const { port, server } = await serve({
      ...options,
      handler: echo,
      limits: { connectionsPerSource: 2, serverConnections: 4 },
      timeouts: patient,
    })
    const many = await silent(port, 20, '127.0.0.2')
    await eventually(() => many.held() === 2, 'two of one source')
    const others = await silent(port, 1, '127.0.0.3')
    await turns(5)
    assert.is(others.held(), 1)
    // A header says for whom it comes; without one it is the address.
    const who = { localAddress: '127.0.0.4', source: '192.0.2.4' }
    const honest = await (await come(port, steps, who)).go()
    await honest.say('hello').hears('hello')
    const late = await silent(port, 1, '127.0.0.5')
    await late.all[0]?.over
    assert.ok((server.counters['refused.server'] ?? 0) >= 1)
    assert.is((server.counters['refused.source'] ?? 0) + (server.counters['refused.server'] ?? 0), 19)
    for (const one of [...many.all, ...others.all, honest]) one.leave()
  })

  test(`F103 stop() cuts peers at every step, and nothing of theirs runs after it: ${name}`, async () => {
    let calls = 0
    const { port, server, until } = await serve({
      ...options,
      handler: (line: string) => {
        calls++
        return line
      },
      timeouts: patient,
    })
    const listener = server.listeners.get('default')
    const inside: Traveller[] = []
    for (let step = 0; step < steps.length; step++) {
      inside.push(await (await come(port, steps)).go(step))
      // The front of what comes next.
      const next = await (await come(port, steps)).go(step)
      next.socket.write(
        { header: 'PROXY TC', tls: Buffer.from([22, 3, 1, 2]), upgrade: 'GET / HT' }[steps[step] as 'tls'],
      )
      inside.push(next)
    }
    await eventually(() => listener?.handshaking === inside.length, 'all are on their way')
    await server.stop({ timeoutMs: 100 })
    assert.is(server.state, 'stopped')
    assert.is(listener?.handshaking, 0)
    assert.is(server.counters['refused.shutdown'], inside.length)
    const { reason } = await until('connection.refused')
    assert.is(reason, 'shutdown')
    for (const one of inside) one.socket.write('PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nhello\n')
    await Promise.all(inside.map(({ over }) => over))
    await turns(20)
    assert.is(calls, 0)
    assert.is(server.counters.opened ?? 0, 0)
    assert.is(server.counters['refused.handshake'] ?? 0, 0)
  })
}

test('F103 a peer that goes on at once is served within a drain, and then ended', async () => {
  for (const { options, steps } of ways) {
    const { port, server } = await serve({ ...options, handler: echo, timeouts: patient })
    const listener = server.listeners.get('default')
    const peer = await come(port, steps)
    await eventually(() => listener?.handshaking === 1, 'it has come')
    const stopping = server.stop({ timeoutMs: 30_000 })
    await peer.go()
    // The end of our side, or a close frame.
    await Promise.race([peer.over, new Promise((resolve) => peer.socket.once('data', resolve))])
    peer.leave()
    await stopping
    assert.is(server.counters.opened, 1)
    assert.is(server.counters['closed.SHUTDOWN'], 1)
    assert.is(server.counters['refused.shutdown'] ?? 0, 0)
  }
})

test('F103 a peer that only holds a socket does not hold the end for as long as the drain may take', async () => {
  const { port, server } = await serve({ ...ways[0]?.options, handler: echo, timeouts: patient })
  await silent(port, 3)
  await eventually(() => server.listeners.get('default')?.handshaking === 3, 'they have come')
  // Their own deadline is a minute, and so is the drain's.
  const began = performance.now()
  await server.stop({ timeoutMs: 60_000 })
  assert.ok(performance.now() - began < 30_000)
  assert.is(server.counters['refused.shutdown'], 3)
})

test('F103 a listener that is removed takes them along, and no other’s', async () => {
  const { server } = await serve({
    listen: undefined as never,
    listeners: {
      gone: { endpoint: 'tls://127.0.0.1:0', tls: certificate, handler: echo },
      kept: { endpoint: 'ws://127.0.0.1:0', handler: echo },
    },
    timeouts: patient,
  })
  const [gone, kept] = ['gone', 'kept'].map((name) => server.listeners.get(name))
  const theirs = await silent(gone?.endpoint.port ?? 0, 3)
  const others = await silent(kept?.endpoint.port ?? 0, 3)
  await eventually(() => gone?.handshaking === 3 && kept?.handshaking === 3, 'all are on their way')
  await server.listeners.remove('gone', { timeoutMs: 50 })
  await Promise.all(theirs.all.map(({ over }) => over))
  assert.is(others.held(), 3)
  assert.is(kept?.handshaking, 3)
})

test('F103 nothing keeps the process after the stop', async () => {
  const program = folder.write(
    'stop.mjs',
    `import { createServer } from 'gaidaros'
const cert = ${JSON.stringify(certificate.cert)}, key = ${JSON.stringify(certificate.key)}
const layers = [{ name: 'proxy-protocol', trusted: ['127.0.0.1'], timeoutMs: 60_000 }]
const server = await createServer({ config: false, handler: (line) => { console.log('handled'); return line }, timeouts: { handshakeMs: 60_000 },
  listeners: {
    tls: { endpoint: 'tls://127.0.0.1:0', tls: { cert, key } }, ws: { endpoint: 'ws://127.0.0.1:0' },
    wss: { endpoint: 'wss://127.0.0.1:0', tls: { cert, key }, layers }, proxied: { endpoint: 'tls://127.0.0.1:0', tls: { cert, key }, layers },
    capped: { endpoint: 'tls://127.0.0.1:0', tls: { cert, key }, limits: { handshakes: 1 } } } })
await server.start()
process.stdin.once('data', async () => {
  process.stdin.destroy()
  await server.stop({ timeoutMs: 50 })
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve))
  console.log('left', JSON.stringify(process.getActiveResourcesInfo().filter((one) => /TCP|TLS|Timeout/.test(one))))
})
console.log('ports', JSON.stringify([...server.listeners].map(({ endpoint }) => endpoint.port)))
setInterval(() => console.log('at', [...server.listeners].reduce((sum, { handshaking }) => sum + handshaking, 0)), 20).unref()`,
  )
  const child = spawn(process.execPath, [program], { stdio: ['pipe', 'pipe', 'inherit'] })
  let said = ''
  child.stdout.on('data', (chunk) => (said += chunk))
  const ended = new Promise((resolve) => child.once('close', resolve))
  await eventually(() => /ports (.*)\n/.test(said), 'it listens', 30_000)
  const ports = JSON.parse(/ports (.*)\n/.exec(said)?.[1] ?? '[]') as number[]
  assert.is(ports.length, 5)
  for (const [i, port] of ports.entries()) {
    await come(port, [])
    if (i !== 0 && i !== 4) continue
    const begun = await come(port, [])
    begun.socket.write(Buffer.from([22, 3, 1, 2]))
  }
  // A request that was refused is read out for a while, so that its answer arrives; that ends as well.
  const refused = await come(ports[1] as number, [])
  refused.socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
  await eventually(() => /at [78]\n/.test(said), 'they have come', 30_000)
  child.stdin.write('stop\n')
  assert.is(await ended, 0)
  assert.match(said, /left \[\]/)
  assert.not.match(said, /handled/)
})

test('F105 a proxy brings many sources at once; each of them counts, and its own address does not', async () => {
  for (const { name, options, steps } of ways.filter((way) => way.steps[0] === 'header')) {
    const { port, server } = await serve({
      ...options,
      handler: echo,
      limits: { connectionsPerSource: 2 },
      timeouts: patient,
    })
    // All of them are accepted before the first header is read.
    const many = await Promise.all(Array.from({ length: 30 }, (_, i) => come(port, steps, { source: `192.0.2.${i}` })))
    await Promise.all(many.map(async (one) => (await one.go()).say('hello').hears('hello')))
    const again = await (await come(port, steps, { source: '192.0.2.7' })).go()
    await again.say('hello').hears('hello')
    const third = await come(port, steps, { source: '192.0.2.7' })
    await third.go().catch(() => {})
    await third.over
    assert.is(server.counters['refused.source'], 1, name)
    // It was refused, and holds nobody’s place.
    again.leave()
    await eventually(() => server.connections.size === 30, 'one has left')
    await (await (await come(port, steps, { source: '192.0.2.7' })).go()).say('hello').hears('hello')
    for (const one of travellers) one.leave()
  }
})

test('F105 newcomers a second count inside handshakes, and wait with `pause`', async () => {
  const { port, server } = await serve({
    ...ways[0]?.options,
    handler: echo,
    limits: { acceptRate: 3 },
    timeouts: patient,
  })
  const { held } = await silent(port, 50)
  await eventually(() => server.counters.accepted === 50, 'all have come')
  const refused = server.counters['refused.rate'] ?? 0
  assert.ok(refused > 0)
  assert.is(server.listeners.get('default')?.handshaking, 50 - refused)
  await eventually(() => held() === 50 - refused, 'those over the rate are cut')
  const paused = await serve({
    ...ways[0]?.options,
    handler: echo,
    limits: { connections: 2, whenFull: 'pause' },
    timeouts: patient,
  })
  const waiting = await silent(paused.port, 4)
  await paused.until('limit.reached')
  await turns(10)
  assert.is(waiting.held(), 4)
  assert.is(paused.server.listeners.get('default')?.handshaking, 2)
  for (const one of waiting.all.slice(0, 2)) one.leave()
  await eventually(() => waiting.held() === 2 && paused.server.counters.accepted === 4, 'those who waited are in')
})

test('F105 limits.handshakes counts those that cost: silent peers hold no slot', async () => {
  const tlsWays = ways.filter(({ steps }) => steps.includes('tls'))
  for (const { options, steps } of tlsWays) {
    const { port } = await serve({ ...options, handler: echo, limits: { handshakes: 1 }, timeouts: patient })
    const before = steps.indexOf('tls')
    for (let i = 0; i < 8; i++) await (await come(port, steps)).go(before)
    // Their deadline is a minute: whoever waits behind them waits for that.
    const honest = await Promise.all(Array.from({ length: 4 }, async () => (await come(port, steps)).go()))
    for (const one of honest) await one.say('hello').hears('hello')
    // One that has begun costs, and holds it.
    const slow = await (await come(port, steps)).go(before)
    slow.socket.write(Buffer.from([22, 3, 1, 2]))
    await turns(20)
    const behind = await come(port, steps)
    let isIn = false
    const going = behind.go().then(() => (isIn = true))
    await turns(50)
    assert.is(isIn, false)
    slow.leave()
    await going
    await behind.say('hello').hears('hello')
    for (const one of travellers) one.leave()
  }
})

test('F103 F105 several server processes: status says who is on the way, a reload and the end take them along', async () => {
  folder.write('cert.pem', certificate.cert)
  folder.write('key.pem', certificate.key)
  const file = folder.write('workers.json', {
    listen: 'tls://127.0.0.1:0',
    tls: { cert: './cert.pem', key: './key.pem' },
    timeouts: patient,
    workers: 2,
    drain: { timeoutMs: 1_000 },
  })
  const serving = await Serving.start(folder, ['--config', file])
  const first = await silent(serving.port, 6)
  const handshaking = async () =>
    ((await serving.status()).listeners as unknown as { handshaking: number }[])[0]?.handshaking
  while ((await handshaking()) !== 6) await turns(1)
  const before = await serving.pids()
  serving.command.child.kill('SIGHUP')
  await Promise.all(first.all.map(({ over }) => over))
  await serving.settles(2)
  assert.not.equal(await serving.pids(), before)
  const second = await silent(serving.port, 4)
  while ((await handshaking()) !== 4) await turns(1)
  assert.is(await serving.stop(), 0)
  await Promise.all(second.all.map(({ over }) => over))
})

test.after(async () => {
  for (const one of travellers) one.leave()
  killAll()
  await stopAll()
  folder.remove()
})
test.run()
