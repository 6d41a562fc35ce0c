/** Two listeners of one address: what is foretold is held against what the kernel does. */
import { createServer, type Server } from 'node:net'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { checkAddresses } from '#src/core/addresses.js'
import { parseEndpoint } from '#src/core/endpoint.js'
import { BindError } from '#src/core/errors.js'
import type { Binding } from '#src/core/plan.js'
import { tcp } from '#src/transports/tcp.js'
import { udp } from '#src/transports/udp.js'
import { unix } from '#src/transports/unix.js'
import { skip } from '../../support/skip.js'

const transports = { tcp, udp, unix }
const bindingOf = (text: string, options: object = {}): Binding => {
  const endpoint = parseEndpoint(text)
  const transport = transports[endpoint.scheme as keyof typeof transports]
  return { endpoint, transport, options, layers: [], preambles: 0, name: transport.name } as unknown as Binding
}
const found = (one: Binding, other: Binding): string | undefined => {
  try {
    checkAddresses([
      { name: 'one', bindings: [one] },
      { name: 'two', bindings: [other] },
    ])
    return undefined
  } catch (error) {
    assert.instance(error, BindError)
    assert.is((error as BindError).code, 'ADDRESS_IN_USE')
    return (error as BindError).message
  }
}

/** @returns the server, or undefined where the address is taken; anything else is no answer. */
function bind(host: string, port: number, ipv6Only: boolean): Promise<Server | 'taken' | 'cannot'> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', (error) => {
      resolve((error as { code?: string }).code === 'EADDRINUSE' ? 'taken' : 'cannot')
    })
    server.listen({ host, port, ipv6Only }, () => resolve(server))
  })
}
const close = (server: Server) => new Promise((resolve) => server.close(resolve))

const hosts = [
  ['127.0.0.1', false],
  ['127.0.0.2', false],
  ['0.0.0.0', false],
  ['::1', false],
  ['::1', true],
  ['::', false],
  ['::', true],
] as const

for (const [one, oneOnly] of hosts) {
  for (const [other, otherOnly] of hosts) {
    const name = `${one}${oneOnly ? ' (ipv6Only)' : ''} and ${other}${otherOnly ? ' (ipv6Only)' : ''}`
    test(`${name}: what is said is what the kernel does`, async () => {
      if (process.platform !== 'linux') return skip(name, 'other platforms let a wildcard stand beside an address')
      const first = await bind(one, 0, oneOnly)
      if (typeof first === 'string') return skip(name, `${one} cannot be bound here`)
      const { port } = first.address() as { port: number }
      const second = await bind(other, port, otherOnly)
      await close(first)
      if (second === 'cannot') return skip(name, `${other} cannot be bound here`)
      if (second !== 'taken') await close(second)
      const text = (host: string) => `tcp://${host.includes(':') ? `[${host}]` : host}:${port}`
      const said = found(bindingOf(text(one), { ipv6Only: oneOnly }), bindingOf(text(other), { ipv6Only: otherOnly }))
      assert.is(said !== undefined, second === 'taken', `${said}`)
    })
  }
}

for (const [one, other, expected] of [
  ['tcp://localhost:99', 'tcp://127.0.0.1:99', /two.*listener one/],
  ['tcp://localhost:99', 'tcp://[::1]:99', /two.*listener one/],
  ['tcp://example.org:99', 'tcp://EXAMPLE.org:99', /two.*listener one/],
  ['tcp://127.0.0.1:99', 'tcp://127.0.0.1:98', undefined],
  ['tcp://127.0.0.1:99', 'udp://127.0.0.1:99', undefined],
  ['udp://127.0.0.1:99', 'udp://127.0.0.1:99', /two.*listener one/],
  ['tcp://127.0.0.1:0', 'tcp://127.0.0.1:0', undefined],
  ['unix:./a.sock', 'unix:a.sock', /another path/],
  ['unix:./a.sock', 'unix:./b.sock', undefined],
] as const) {
  test(`${one} and ${other} ${expected === undefined ? 'can both be' : 'are one address'}`, () => {
    const said = found(bindingOf(one), bindingOf(other))
    if (expected === undefined) assert.is(said, undefined)
    else assert.match(said ?? '', expected)
  })
}

test('what the platform itself lets several have is let be; one listener may not name an address twice', () => {
  const both = bindingOf('tcp://127.0.0.1:99', { reusePort: true })
  assert.is(found(both, both), undefined)
  assert.is.not(found(both, bindingOf('tcp://127.0.0.1:99')), undefined)
  const group = bindingOf('udp://0.0.0.0:99', { multicast: { groups: ['239.1.2.3'] } })
  assert.is(found(group, group), undefined)
  const twice = { name: 'one', bindings: [bindingOf('tcp://127.0.0.1:99'), bindingOf('tcp://127.0.0.1:99')] }
  assert.throws(() => checkAddresses([twice]), /the same listener/)
})

test.run()
