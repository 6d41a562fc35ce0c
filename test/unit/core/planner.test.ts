/** What is found out about a listener before anything is bound; through the door, as users meet it. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { ListenerOptions } from '#src/core/configuration.js'
import type { ListenerPlan } from '#src/core/plan.js'
import { definePlugin, type Protocol } from '#src/core/plugin.js'
import { createServer, type ServerOptions } from '#src/gaidaros.js'
import { lines } from '../../support/session.js'

const speaking = (given: Partial<Protocol>) => ({ create: () => ({ codec: lines as never, ...given }) })
const plugin = definePlugin({
  name: 'several',
  setup(registry) {
    registry.protocol({ name: 'get', ...speaking({ detect: () => 'no', alpn: ['get/1'] }) })
    registry.protocol({ name: 'set', ...speaking({ detect: () => 'no' }) })
    registry.protocol({ name: 'dumb', ...speaking({}) })
    registry.protocol({ name: 'strict', ...speaking({ needs: { ordered: true, stream: true } }) })
    registry.protocol({
      name: 'stepping',
      ...speaking({ middleware: { name: 'its-own', message: (_context, next) => next() } }),
    })
    registry.layer({ name: 'preface', create: () => ({ stage: 'preamble', wrap: (above) => above }) })
    registry.layer({ name: 'squeeze', create: () => ({ stage: 'content', wrap: (above) => above, upgrade: () => [] }) })
  },
})

async function planOf(listener: Partial<ListenerOptions>, options: ServerOptions = {}): Promise<ListenerPlan> {
  const server = await createServer({
    config: false,
    env: {},
    plugins: [plugin],
    listeners: { a: { endpoint: 'tcp://localhost:0', handler: function here() {}, ...listener } as ListenerOptions },
    ...options,
  })
  return (server.listeners.get('a') as unknown as { plan: ListenerPlan }).plan
}
const refused = async (listener: Partial<ListenerOptions>, message: RegExp) => {
  try {
    await planOf(listener)
  } catch (error) {
    return assert.match((error as Error).message, message)
  }
  assert.unreachable('was accepted')
}

test('a protocol needs what its transport has', () =>
  refused(
    { endpoint: 'udp://localhost:0', protocol: 'strict' },
    /protocol strict needs ordered messages.*listener a \(udp:\/\/localhost:0\) is served by transport udp/,
  ))

test('a protocol’s own steps stand between the listener’s and the handler’s', async () => {
  const { chosen } = await planOf({ protocol: 'stepping', middleware: ['error-reply'] }, { middleware: ['log'] })
  assert.equal(
    chosen.middleware.map(({ level, set }) => `${level}: ${set.name}`),
    ['global: log', 'listener: error-reply', 'protocol: its-own'],
  )
  assert.is(chosen.reasons.codec, 'protocol stepping')
})

test('several protocols, each with its handler; the rest to a codec', async () => {
  const rest = function rest() {}
  const { candidates } = await planOf({
    protocol: ['get', { name: 'set', handler: function there() {} }, { codec: 'netstring', handler: rest }],
  })
  assert.equal(
    candidates?.map(({ name, protocol, plan }) => [name, protocol !== undefined, plan.handler.definition.name]),
    [
      ['get', true, 'here'],
      ['set', true, 'there'],
      ['netstring', false, 'rest'],
    ],
  )
})

test('one that takes everything stands last; one that cannot be told apart stands alone', async () => {
  await refused(
    { protocol: [{ codec: 'line' }, 'get'] },
    /listeners\.a\.protocol\[0\]: takes everything; it has to stand last/,
  )
  await refused({ protocol: ['get', 'dumb'] }, /protocol\[1\]: protocol dumb cannot be told from its first bytes/)
  assert.is((await planOf({ protocol: ['dumb'] })).candidates, undefined)
})

test('unknown names are told with the nearest known one', async () => {
  await refused({ protocol: 'gett' }, /listeners\.a\.protocol: unknown protocol `gett`; nearest: `get`/)
  await refused({ layers: ['tls', 'squeez'] }, /listeners\.a\.layers\[1\]: unknown layer `squeez`; nearest: `squeeze`/)
})

test('a layer that belongs before the handshake of tls:// stands there', async () => {
  const { bindings } = await planOf({ endpoint: 'tls://localhost:0', layers: ['preface', 'squeeze'] })
  const [{ transport, name, layers, capabilities }] = bindings as [ListenerPlan['bindings'][0]]
  assert.equal([transport.name, name, layers.map((one) => one.name)], ['tcp', 'tls', ['preface', 'tls', 'squeeze']])
  assert.equal(capabilities.upgrade, [])
})

test('layers in an order that makes no sense are refused', async () => {
  await refused(
    { endpoint: 'tls://localhost:0', layers: ['squeeze', 'preface'] },
    /preface \(preamble\) has to stand before squeeze/,
  )
  await refused({ layers: ['tls', 'preface'] }, /preface \(preamble\) has to stand before tls \(security\)/)
  await refused(
    { endpoint: 'tls://localhost:0', layers: ['tls'] },
    /layer tls stands in the endpoint's scheme `tls` already/,
  )
  await refused(
    { endpoint: 'udp://localhost:0', layers: ['squeeze'] },
    /layer squeeze needs a stream of bytes; transport udp carries messages/,
  )
  await refused(
    { endpoint: 'memory:a', layers: ['tls'] },
    /layer tls needs links that switch to tls; transport memory can switch to nothing/,
  )
})

test('a handler’s needs are named with both places', () =>
  refused(
    {
      endpoint: 'udp://localhost:0',
      handler: {
        kind: 'gaidaros.handler',
        name: 'Big',
        options: { needs: { maxMessage: 1e6 } },
        target: undefined,
        messages: [{ route: undefined, method: () => {}, middleware: [], schema: undefined }],
        hooks: {},
      },
    },
    /handler Big needs messages of 1000000 bytes, and 65507 is the most here; listener a/,
  ))

test.run()
