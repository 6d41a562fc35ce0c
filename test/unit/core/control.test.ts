import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Connection } from '#src/core/connection.js'
import { controlCommands, controlHandler, type Status } from '#src/core/control.js'
import type { MessageFunction } from '#src/core/handler.js'
import type { ListenerHandle, Server } from '#src/core/lifecycle.js'

interface Answer {
  readonly id: unknown
  readonly ok: boolean
  readonly result?: unknown
  readonly error?: string
}

/** A server with two listeners that writes down what it is told. */
function rig() {
  const told: string[] = []
  let stopped = () => {}
  const place = { name: 'thread 1', state: 'ready', connections: 1, running: 1, handled: 5, memoryBytes: 9 }
  const executor = { name: 'pool', load: () => ({ running: 1, queued: 2, places: [place] }) }
  const listener = (name: string) =>
    ({
      name,
      endpoints: [`tcp://localhost:${name.length}`],
      state: 'listening',
      connections: 2,
      handshaking: 1,
      limits: { connections: name === 'public' ? 10 : Number.POSITIVE_INFINITY, connectionsPerSource: 3 },
      traffic: { bytesIn: 1, bytesOut: 2, messagesIn: 3, messagesOut: 4 },
      plan: {
        chosen: { codec: 'line', executor: 'inline' },
        handler: { definition: { name: 'Greeter' } },
        executors: [executor],
      },
      suspend: () => told.push(`suspend ${name}`),
      resume: () => told.push(`resume ${name}`),
    }) as unknown as ListenerHandle
  const server = {
    state: 'ready',
    listeners: [listener('public'), listener('local')],
    connections: Object.assign([], { size: 4 }),
    counters: { accepted: 9 },
    limits: { serverConnections: 5, memoryBytes: Number.POSITIVE_INFINITY },
    alarms: [],
    stop: (options: object) => {
      told.push(`stop ${JSON.stringify(options)}`)
      stopped()
      return Promise.resolve()
    },
  } as unknown as Server
  const method = controlHandler(server, '1.2.3').messages[0]?.method as MessageFunction
  const asker = { closed: new Promise(() => {}) } as unknown as Connection
  const ask = (message: unknown) => method(message as never, asker as never) as Answer
  const stop = new Promise<void>((resolve) => {
    stopped = resolve
  })
  return { ask, told, stop }
}

test('status tells the listeners, their limits and the counters', () => {
  const { id, ok, result } = rig().ask({ id: 7, command: 'status' })
  assert.equal([id, ok], [7, true])
  const { pid, version, state, connections, listeners, counters } = result as Status
  assert.equal([pid, version, state, connections], [process.pid, '1.2.3', 'ready', 4])
  assert.equal(listeners[0], {
    name: 'public',
    endpoints: ['tcp://localhost:6'],
    state: 'listening',
    connections: 2,
    handshaking: 1,
    limit: 10,
    connectionsPerSource: 3,
    traffic: { bytesIn: 1, bytesOut: 2, messagesIn: 3, messagesOut: 4 },
    codec: 'line',
    handler: 'Greeter',
    executor: 'inline',
  })
  const [executor, ...more] = (result as Status).executors
  assert.equal(more, [], 'one that two listeners share is told once')
  assert.equal([executor?.listeners, executor?.queued], [['public', 'local'], 2])
  assert.is(listeners[1]?.limit, 'unlimited')
  assert.equal(counters, { accepted: 9 })
})

test('suspend and resume take one listener, or all', () => {
  const { ask, told } = rig()
  assert.equal(ask({ command: 'suspend', listener: 'local' }), { id: null, ok: true, result: ['local'] })
  assert.equal(ask({ command: 'resume' }).result, ['public', 'local'])
  assert.equal(told, ['suspend local', 'resume public', 'resume local'])
})

for (const command of ['drain', 'stop']) {
  test(`${command} is answered before the server ends`, async () => {
    const { ask, told, stop } = rig()
    assert.equal(ask({ command, timeoutMs: 5 }).result, { state: 'draining' })
    assert.equal(told, [])
    await stop
    assert.equal(told, ['stop {"timeoutMs":5}'])
  })
}

for (const [what, message, error] of [
  ['an unknown command', { command: 'stauts' }, /nearest: `status`; known: status, connections/],
  ['a name of every object', { command: 'constructor' }, /unknown command "constructor"/],
  ['a command that is no text', { command: ['stop'] }, /unknown command \["stop"\]/],
  ['null', null, /unknown command/],
  ['a number', 5, /unknown command/],
  ['a list', [], /unknown command/],
  ['an unknown listener', { command: 'suspend', listener: 'pubic' }, /no listener `pubic`; nearest: `public`/],
  ['a listener that is no text', { command: 'suspend', listener: {} }, /no listener/],
  ['a negative timeout', { command: 'stop', timeoutMs: -1 }, /timeoutMs: expected milliseconds/],
  ['a timeout as text', { command: 'stop', timeoutMs: '5' }, /timeoutMs: expected milliseconds/],
] as const) {
  test(`${what} is refused, and nothing happens`, async () => {
    const { ask, told } = rig()
    const answer = ask(message)
    assert.is(answer.ok, false)
    assert.match(answer.error as string, error)
    await new Promise(setImmediate)
    assert.equal(told, [])
  })
}

test('the commands it lists are the commands it knows', async () => {
  for (const command of controlCommands) {
    const { ok, error } = rig().ask({ command })
    assert.ok(ok || !/unknown command/.test(String(error)), command)
  }
})

test.run()
