/** Commands of the control socket against real servers over memory: pages, kills, limits, taps, latencies. */
import { type ClientConnection, connect, createServer, type Server, type ServerOptions } from 'gaidaros'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { countOf, quantile } from '#src/core/control/latency.js'
import {
  addressedTo,
  type ConnectionPage,
  Control,
  type ControlRequest,
  type Killed,
  mergeAnswers,
  requestForEach,
  type Status,
  type TapLine,
} from '#src/core/control.js'

const servers: Server[] = []
let names = 0

async function rig(options: ServerOptions = {}, control: ConstructorParameters<typeof Control>[2] = {}) {
  const address = `unix:/tmp/gc-${process.pid}-${++names}.sock`
  const server = await createServer({ config: false, listen: address, handler: (line: string) => line, ...options })
  await server.start()
  servers.push(server)
  const steer = new Control(server, '1.2.3', control)
  const told: TapLine[] = []
  let wake = () => {}
  const asker = {
    tell: (line: object) => (told.push(line as TapLine), wake(), true),
    closed: new Promise<void>(() => {}),
  }
  return {
    server,
    told,
    ask: <T>(request: ControlRequest) => steer.ask(request, asker) as T,
    steer,
    dial: (): Promise<ClientConnection> => connect(address, { codec: options.codec ?? 'line' } as never),
    async tells(fits: (line: TapLine) => boolean): Promise<TapLine> {
      for (;;) {
        const found = told.find(fits)
        if (found !== undefined) return found
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    },
    opened: (count: number) => server.listeners.get('default')?.waitForConnections(count),
  }
}

const page = (ask: (request: ControlRequest) => unknown, request: object = {}) =>
  ask({ command: 'connections', ...request }) as ConnectionPage

test('connections come a page at a time, filtered and sorted', async () => {
  const { ask, dial, opened } = await rig()
  const clients = await Promise.all([dial(), dial(), dial(), dial(), dial()])
  await opened(5)
  for (const [i, client] of clients.entries()) for (let k = 0; k < i; k++) await client.request('x')
  const first = page(ask, { sort: 'messagesIn', limit: 2 })
  assert.equal([first.total, first.matched, first.offset], [5, 5, 0])
  assert.equal(
    first.connections.map((one) => one.messagesIn),
    [4, 3],
  )
  const second = page(ask, { sort: 'messagesIn', limit: 2, offset: 2 })
  assert.equal(
    second.connections.map((one) => one.messagesIn),
    [2, 1],
  )
  assert.is(page(ask, { filter: 'messagesin>2' }).matched, 2)
  assert.is(page(ask, { filter: 'unix default messagesIn<1' }).matched, 1)
  assert.is(page(ask, { filter: 'nowhere' }).matched, 0)
  const [least] = page(ask, { sort: 'messagesIn', reverse: true, limit: 1 }).connections
  assert.is(least?.messagesIn, 0)
  assert.is(least?.listener, 'default')
  for (const [request, expected] of [
    [{ sort: 'constructor' }, /sort: expected one of id/],
    [{ filter: 'nope>5' }, /filter: expected a number such as/],
    [{ limit: 501 }, /limit: expected a whole number from 0 to 500/],
    [{ limit: '5' }, /limit: expected a whole number/],
    [{ offset: -1 }, /offset: expected/],
    [{ listener: 'defualt' }, /nearest: `default`/],
    [{ filter: 'x'.repeat(201) }, /at most 200 characters/],
  ] as const) {
    assert.throws(() => page(ask, request), expected)
  }
})

test('kill closes the connection it names with the operator’s reason, and no other', async () => {
  const { server, ask, dial, opened } = await rig()
  const [first, other] = [await dial(), await dial()]
  await opened(2)
  const id = page(ask, { sort: 'id' }).connections[0]?.id
  const closed = new Promise<{ code: string; by: string; error?: Error }>((resolve) =>
    server.on('connection.closed', ({ reason }) => resolve(reason)),
  )
  assert.equal(ask<Killed>({ command: 'kill', connection: id, reason: 'too\nloud' }), { killed: 1, connections: [id] })
  const reason = await closed
  assert.equal([reason.code, reason.by], ['KILLED', 'server'])
  assert.is(reason.error?.message, 'killed by the operator: too\\u000aloud')
  await first.closed
  assert.is(await other.request('still here'), 'still here')
  assert.is(server.counters['closed.KILLED'], 1)
  assert.throws(() => ask({ command: 'kill', connection: id }), /no connection/)
})

test('kill takes a source, a filter or a listener, and refuses to mean everybody', async () => {
  const { ask } = await rig()
  assert.throws(() => ask({ command: 'kill' }), /say whom/)
  assert.throws(() => ask({ command: 'kill', source: 'nowhere' }), /no address or network/)
  assert.throws(() => ask({ command: 'kill', listener: 'pubic' }), /no listener/)
  assert.is(ask<Killed>({ command: 'kill', source: '127.0.0.0/8' }).killed, 0)
})

test('kill by source finds IPv4 peers of a dual-stack listener', async () => {
  const server = await createServer({ config: false, listen: 'tcp://[::]:0', handler: (line: string) => line })
  servers.push(await server.start())
  const steer = new Control(server, '1')
  const { port } = server.listeners.get('default')?.endpoint ?? {}
  const client = await connect(`tcp://127.0.0.1:${port}`)
  await client.request('x')
  assert.is((steer.ask({ command: 'kill', source: '10.0.0.0/8' }) as Killed).killed, 0)
  assert.is((steer.ask({ command: 'kill', source: '127.0.0.1', now: true }) as Killed).killed, 1)
  await client.closed
})

test('limits change live; lowered below the present count nobody is cut', async () => {
  const { server, ask, dial, opened } = await rig()
  const client = await dial()
  await opened(1)
  assert.equal(ask({ command: 'limit', path: 'limits.connections', value: 1 }), [
    { listener: 'default', limit: 'connections', before: 10_000, value: 1 },
  ])
  const refused = await dial()
  await refused.closed
  assert.is(server.counters['refused.connections'], 1)
  assert.is(await client.request('x'), 'x')
  ask({ command: 'limit', path: 'listeners.default.limits.connections', value: 'unlimited' })
  assert.is((ask({ command: 'status' }) as Status).listeners[0]?.limit, 'unlimited')
  assert.equal(ask({ command: 'limit', path: 'limits.serverConnections', value: 2 }), [
    { listener: '(server)', limit: 'serverConnections', before: 'unlimited', value: 2 },
  ])
  assert.is((ask({ command: 'status' }) as Status).limits.serverConnections, 2)
  for (const [path, value, expected] of [
    ['limits.connectoins', 1, /nearest: `connections`/],
    ['limits.connections', -1, /value: expected/],
    ['limits.connections', 'many', /value: expected/],
    ['timeouts.idleMs', 1, /expected limits.KEY/],
    ['listeners.nobody.limits.connections', 1, /no listener/],
    ['limits.__proto__', 1, /there is no limit/],
    ['', 1, /expected limits.KEY/],
  ] as const) {
    assert.throws(() => ask({ command: 'limit', path, value }), expected, path)
  }
})

test('tap tells messages both ways, hides secrets, and ends with the connection', async () => {
  const { ask, dial, told, tells, opened } = await rig({
    codec: 'json-lines',
    handler: (m: object) => ({ ...m, ok: true }),
  })
  const client = await dial()
  await opened(1)
  const id = page(ask).connections[0]?.id as string
  await client.request({ before: 1 })
  assert.equal(ask({ command: 'tap', connection: id }), { tap: id })
  await client.request({ name: 'Ada', password: 'hunter2', nested: { 'API-Key': 'k', list: ['AUTH', 'swordfish'] } })
  assert.equal(
    told.map((line) => ('message' in line ? [line.direction, line.kind, JSON.stringify(line.message)] : line)),
    [
      [
        'in',
        'message',
        '{"name":"Ada","password":"(hidden)","nested":{"API-Key":"(hidden)","list":["AUTH","(hidden)"]}}',
      ],
      [
        'out',
        'message',
        '{"name":"Ada","password":"(hidden)","nested":{"API-Key":"(hidden)","list":["AUTH","(hidden)"]},"ok":true}',
      ],
    ],
  )
  await client.close()
  const last = await tells((line) => 'closed' in line)
  assert.equal('closed' in last && last.closed.code, 'ENDED')
})

test('tap is bounded in lines and in length, says what it left out, and untap ends it', async () => {
  const { ask, dial, told, opened } = await rig()
  const client = await dial()
  await opened(1)
  const id = page(ask).connections[0]?.id as string
  ask({ command: 'tap', connection: id, rate: 3, characters: 20 })
  await client.request('y'.repeat(5_000))
  const [line] = told
  assert.ok(line && 'message' in line && String(line.message).length === 21 && line.cutTo === 20)
  for (let i = 0; i < 50; i++) await client.request('x')
  // Whichever seconds this took: three lines in each at most.
  const before = told.length
  assert.ok(before < 90, String(before))
  assert.equal(ask({ command: 'untap', connection: id }), { untapped: 1 })
  await client.request('z')
  assert.is(told.length, before)
})

test('two taps of one connection hear the same, and one may go', async () => {
  const { ask, dial, told, opened, steer } = await rig()
  const client = await dial()
  await opened(1)
  const id = page(ask).connections[0]?.id as string
  ask({ command: 'tap', connection: id })
  const others: object[] = []
  let leave = () => {}
  const closed = new Promise<void>((resolve) => {
    leave = resolve
  })
  steer.ask({ command: 'tap', connection: id }, { tell: (line) => others.push(line) > 0, closed })
  await client.request('a')
  assert.equal([told.length, others.length], [2, 2])
  leave()
  await closed
  await new Promise(setImmediate)
  await client.request('b')
  assert.equal([told.length, others.length], [4, 2])
})

test('a connection that a protocol serves as a stream shows its chunks', async () => {
  const { ask, server, told } = await rig({
    listen: 'tcp://127.0.0.1:0',
    protocol: 'http',
    handler: {
      kind: 'gaidaros.handler',
      name: 'web',
      options: {},
      target: undefined,
      hooks: {},
      messages: [{ route: 'GET', method: () => 'hello', middleware: [], schema: undefined }],
    } as never,
  })
  const { port } = server.listeners.get('default')?.endpoint ?? {}
  const client = await connect(`tcp://127.0.0.1:${port}`, { codec: 'raw' })
  const reply = async () => String((await client.messages<Uint8Array>().next()).value)
  await client.send(Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'))
  await reply()
  const id = page(ask).connections[0]?.id as string
  ask({ command: 'tap', connection: id })
  await client.send(Buffer.from('GET /a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer abc\r\n\r\n'))
  await reply()
  const kinds = told.map((line) => 'kind' in line && `${line.kind} ${line.direction}`)
  assert.ok(kinds.includes('chunk in') && kinds.includes('chunk out') && kinds.includes('message in'), kinds.join())
  assert.not.match(JSON.stringify(told), /abc/)
  assert.match(JSON.stringify(told), /GET \/a HTTP/)
  await client.close()
})

test('latencies are measured while somebody watches, and not before', async () => {
  const { ask, dial, opened, steer } = await rig({
    handler: (line: string) => (line === 'slow' ? new Promise((resolve) => setTimeout(resolve, 20, line)) : line),
  })
  const client = await dial()
  await opened(1)
  await client.request('before')
  assert.is(ask<Status>({ command: 'status' }).listeners[0]?.latency, undefined)
  ask({ command: 'status', watch: true })
  for (const line of ['a', 'b', 'slow']) await client.request(line)
  const { latency = [] } = ask<Status>({ command: 'status' }).listeners[0] ?? {}
  assert.is(countOf(latency), 3)
  assert.ok((quantile(latency, 0.99) ?? 0) >= 17)
  assert.ok((quantile(latency, 0.5) ?? 99) < 10)
  steer.close()
  await client.request('after')
  assert.is(ask<Status>({ command: 'status' }).listeners[0]?.latency, undefined)
})

test('traffic counts connections that are gone too', async () => {
  const { ask, dial, opened } = await rig()
  for (let i = 0; i < 3; i++) {
    const client = await dial()
    await client.request('four')
    await client.close()
  }
  await opened(0)
  const { traffic } = ask<Status>({ command: 'status' }).listeners[0] ?? {}
  assert.equal(traffic, { bytesIn: 15, bytesOut: 15, messagesIn: 3, messagesOut: 3 })
})

test('answers of several workers are one answer', async () => {
  const [a, b] = [await rig(), await rig()]
  const clients = [await a.dial(), await b.dial(), await b.dial()]
  await Promise.all([a.opened(1), b.opened(2)])
  await clients[2]?.request('x')
  const each = (request: ControlRequest) =>
    [a, b].map(({ ask }, i) => ({ worker: `w${i + 1}`, result: ask(requestForEach(request)) }))
  const merged = (request: ControlRequest) => mergeAnswers(request, each(request))
  const status = merged({ command: 'status' }) as Status
  assert.is(status.connections, 3)
  assert.equal(
    status.workers?.map(({ name, connections }) => [name, connections]),
    [
      ['w1', 1],
      ['w2', 2],
    ],
  )
  assert.equal([status.listeners.length, status.listeners[0]?.connections, status.listeners[0]?.limit], [1, 3, 20_000])
  assert.is(status.counters.accepted, 3)
  const list = merged({ command: 'connections', sort: 'messagesIn', limit: 1, offset: 1 }) as ConnectionPage
  assert.equal([list.total, list.matched, list.offset, list.connections.length], [3, 3, 1, 1])
  const top = merged({ command: 'connections', sort: 'messagesIn', limit: 1 }) as ConnectionPage
  const id = top.connections[0]?.id as string
  assert.match(id, /^w2\//)
  const addressed = addressedTo({ command: 'kill', connection: id })
  assert.is(addressed?.worker, 'w2')
  assert.is(b.ask<Killed>(addressed?.request as ControlRequest).killed, 1)
  assert.is(addressedTo({ command: 'status' }), undefined)
  const killed = merged({ command: 'kill', filter: 'unix' }) as Killed
  assert.is(killed.killed, 2)
  assert.ok(killed.connections.every((one) => /^w[12]\//.test(one)))
})

test('pages of several workers have every row once, however deep they are', async () => {
  const rows = (worker: number, count: number) =>
    Array.from({ length: count }, (_, i) => ({ id: `${i}`, ageMs: i * 3 + worker, listener: 'default', remote: '-' }))
  const [a, b] = [rows(1, 700), rows(2, 1_300)]
  // Each worker answers as many as it is asked for.
  const part = (all: readonly object[], { limit, isPart }: ControlRequest) => {
    assert.is(isPart, true)
    const connections = [...all].reverse().slice(0, limit as number)
    return { total: all.length, matched: all.length, offset: 0, connections }
  }
  const seen: string[] = []
  for (let offset = 0; offset < 2_000; offset += 300) {
    const request = { command: 'connections', sort: 'ageMs', limit: 300, offset }
    const asked = requestForEach(request)
    const parts = [a, b].map((all, i) => ({ worker: `w${i + 1}`, result: part(all, asked) }))
    const page = mergeAnswers(request, parts) as ConnectionPage
    assert.equal([page.total, page.matched, page.offset], [2_000, 2_000, offset])
    seen.push(...page.connections.map(({ id }) => id))
  }
  assert.is(new Set(seen).size, 2_000)
  assert.is(seen.length, 2_000)
})

test('a worker answers more rows than a client may ask for at once', async () => {
  const { ask, dial, opened } = await rig()
  for (let i = 0; i < 3; i++) await dial()
  await opened(3)
  const asked = requestForEach({ command: 'connections', limit: 500, offset: 9_007_199_254_740_990 })
  assert.is(ask<ConnectionPage>(asked).connections.length, 3)
  assert.throws(() => ask({ command: 'connections', limit: 501 }), /limit: expected a whole number from 0 to 500/)
})

test.after(async () => {
  for (const server of servers) await server.stop({ timeoutMs: 0 })
})
test.run()
