/** Keys of tickets: derived from a secret and from who may come in, and replaced without a look at certificates. */
import { randomBytes } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect } from 'node:tls'
import fc from 'fast-check'
import { generate } from 'selfsigned'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { parseEndpoint } from '#src/core/endpoint.js'
import type { TlsOptions } from '#src/core/options.js'
import { ownedBy, ownerOf, TicketSecret } from '#src/core/ticket-secret.js'
import type { Listener } from '#src/core/transport.js'
import { tls } from '#src/transports/tls.js'
import { type AccessRules, accessContext, ticketKeysFor } from '#src/transports/tls-access.js'
import { failure, Recorder, temporaryFolder } from './recorder.js'

const ANY = parseEndpoint('tls://127.0.0.1:0')
const folder = temporaryFolder()
const made = await generate([{ name: 'commonName', value: 'localhost' }], { keySize: 2048 })
const listeners: Listener[] = []
test.after(async () => {
  for (const listener of listeners) await listener.unbind()
})

let number = 0
function files(): { cert: string; key: string; put(): void; remove(): void } {
  const [cert, key] = [join(folder, `${++number}.pem`), join(folder, `${number}.key`)]
  const put = () => {
    writeFileSync(cert, made.cert)
    writeFileSync(key, made.private)
  }
  put()
  return { cert, key, put, remove: () => rmSync(cert) }
}

async function listen(options: TlsOptions): Promise<Listener & { port: number }> {
  const sink = new Recorder()
  sink.onData = ({ link }, chunk) => void link.write(chunk)
  const listener = await tls.listen(ANY, { tls: { watch: false, ...options } }, sink)
  listeners.push(listener)
  return Object.assign(listener, { port: listener.endpoint.port as number })
}

async function shake(port: number, maxVersion: 'TLSv1.2' | 'TLSv1.3', session?: Buffer) {
  const socket = connect({
    port,
    host: '127.0.0.1',
    rejectUnauthorized: false,
    maxVersion,
    ...(session === undefined ? {} : { session }),
  })
  let given = session
  socket.on('session', (one) => {
    given = one
  })
  await new Promise((resolve, reject) => {
    socket.once('error', reject)
    socket.write('x')
    socket.once('data', resolve)
  })
  const isResumed = socket.isSessionReused()
  socket.destroy()
  return { isResumed, session: given as Buffer }
}
const versions = ['TLSv1.2', 'TLSv1.3'] as const

test('a shared secret that is replaced ends sessions at once in all that share it, though no certificate can be read', async () => {
  const { cert, key, put, remove } = files()
  const secret = new TicketSecret(randomBytes(48))
  const options = { cert, key, sni: { 'a.example': { cert, key } } }
  const workers = [
    await listen(ownedBy({ listener: 'public', secret }, options)),
    await listen(ownedBy({ listener: 'public', secret }, options)),
  ] as const
  for (const version of versions) {
    put()
    const { session } = await shake(workers[0].port, version)
    for (const { port } of workers) assert.is((await shake(port, version, session)).isResumed, true)
    remove()
    secret.set(randomBytes(48))
    for (const { port } of workers) assert.is((await shake(port, version, session)).isResumed, false, version)
    const next = await shake(workers[1].port, version)
    assert.is((await shake(workers[0].port, version, next.session)).isResumed, true, version)
    assert.match((await failure(workers[0].reload?.() ?? Promise.resolve())).message, /tls\.cert: cannot read/)
    assert.is((await shake(workers[0].port, version, next.session)).isResumed, true, 'the old certificates stay')
  }
})

test('a file of ticket keys is taken up though no certificate can be read; a reload that changes nothing ends no session', async () => {
  const { cert, key, put, remove } = files()
  const ticketKeys = join(folder, 'ticket.key')
  writeFileSync(ticketKeys, randomBytes(48))
  for (const options of [
    { cert, key, ticketKeys },
    { cert, key },
  ]) {
    put()
    const listener = await listen(options)
    for (const version of versions) {
      const { session } = await shake(listener.port, version)
      await listener.reload?.()
      assert.is((await shake(listener.port, version, session)).isResumed, true, version)
      if (!('ticketKeys' in options)) continue
      remove()
      writeFileSync(ticketKeys, randomBytes(48))
      assert.match((await failure(listener.reload?.() ?? Promise.resolve())).message, /tls\.cert: cannot read/)
      assert.is((await shake(listener.port, version, session)).isResumed, false, version)
      put()
    }
  }
})

test('renegotiation is refused after a reload as before it', async () => {
  const { cert, key } = files()
  const listener = await listen({ cert, key })
  for (let i = 0; i < 2; i++) {
    const socket = connect({ port: listener.port, host: '127.0.0.1', rejectUnauthorized: false, maxVersion: 'TLSv1.2' })
    socket.on('error', () => {})
    await new Promise((resolve) => socket.once('secureConnect', resolve))
    const error = await new Promise<Error | null>((resolve) => {
      socket.once('close', () => resolve(new Error('closed')))
      socket.renegotiate({}, resolve)
    })
    assert.instance(error, Error)
    socket.destroy()
    await listener.reload?.()
  }
})

test('a context is the same for equal rules, and another for whatever differs', () => {
  const bytes = fc.uint8Array({ maxLength: 4 })
  const list = fc.option(fc.array(bytes, { maxLength: 3 }), { nil: undefined })
  const rules = fc.record({ rejectUnauthorized: fc.boolean(), ca: list, crl: list, pfx: list })
  const contextOf = (listener: string, one: Omit<AccessRules, 'requestCert'>) =>
    accessContext(listener, { requestCert: true, ...one })
  const name = fc.constantFrom('a', 'b', 'aa')
  fc.assert(
    fc.property(name, rules, name, rules, (first, one, second, other) => {
      const [x, y] = [contextOf(first, one), contextOf(second, other)]
      const textOf = (who: string, { rejectUnauthorized, ca, crl, pfx }: typeof one) =>
        JSON.stringify([
          who,
          rejectUnauthorized,
          ...[ca, crl, pfx].map((part) => part?.map((each) => [...each]) ?? null),
        ])
      assert.is(x === y, textOf(first, one) === textOf(second, other))
      assert.is(Buffer.byteLength(x) <= 32, true)
      const secret = Buffer.alloc(48, 7)
      assert.is(ticketKeysFor(secret, x).equals(ticketKeysFor(secret, y)), x === y)
    }),
  )
  // What nobody is asked for decides nothing.
  const none = { requestCert: false, rejectUnauthorized: true, crl: undefined, pfx: undefined }
  assert.is(accessContext('a', { ...none, ca: ['x'] }), accessContext('a', { ...none, ca: undefined }))
})

test('whose sessions they are goes with the options, and is not shown', () => {
  const owner = { listener: 'public' }
  const owned = ownedBy(owner, { cert: 'x' })
  assert.is(ownerOf({ ...owned, key: 'y' }), owner)
  assert.equal(Object.keys(owned), ['cert'])
  assert.is(JSON.stringify(owned), '{"cert":"x"}')
})

test.run()
