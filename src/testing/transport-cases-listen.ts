/**
 * Transport cases: what it declares, listening and connecting.
 *
 * Room: testing.
 */
import assert from 'node:assert/strict'
import { BindError, ConnectionError } from '../core/errors.js'
import { validate } from '../core/standard-schema.js'
import { always, assertFailure, type TransportCase, transportCase, whereReliable } from './transport-case.js'

export const listenCases: readonly TransportCase[] = [
  transportCase(
    'declaration-well-formed',
    'name, schemes and capabilities are well formed and agree',
    always,
    async (rig) => {
      const { transport } = rig.subject
      assert.match(transport.name, /^[a-z][a-z0-9-]*$/, 'name')
      assert.ok(transport.schemes.length > 0, 'expected at least one scheme, got none')
      for (const scheme of transport.schemes) assert.match(scheme, /^[a-z][a-z0-9+.-]*$/, 'scheme')
      const { kind, backpressure, maxMessageBytes, upgrade, ...switches } = rig.capabilities
      assert.ok(['stream', 'message'].includes(kind), `kind: ${kind}`)
      assert.ok(['end-to-end', 'local', 'none'].includes(backpressure), `backpressure: ${backpressure}`)
      for (const name of ['ordered', 'reliable', 'halfClose', 'reset'] as const) {
        assert.equal(typeof switches[name], 'boolean', name)
      }
      assert.ok(Array.isArray(upgrade), 'upgrade: expected a list')
      if (maxMessageBytes !== undefined) {
        assert.ok(Number.isSafeInteger(maxMessageBytes) && maxMessageBytes > 0, `maxMessageBytes: ${maxMessageBytes}`)
        assert.equal(kind, 'message', 'maxMessageBytes means nothing on a stream')
      }
      if (kind === 'stream') assert.ok(switches.ordered && switches.reliable, 'a stream is ordered and reliable')
    },
  ),

  transportCase('unknown-option-refused', 'an unknown socket option is refused, not ignored', always, async (rig) => {
    const { options } = rig.subject.transport
    if (options === undefined) return 'the transport takes no options'
    const result = await validate(options, { ...rig.subject.options, surelyUnknown: 1 })
    assert.ok(result.issues !== undefined && result.issues.length > 0, 'surelyUnknown: 1 was accepted')
  }),

  transportCase(
    'bound-endpoint-real',
    'a listener reports the endpoint really bound, which can be connected to',
    always,
    async (rig) => {
      const { listener, near, far } = await rig.pair()
      assert.ok(rig.subject.transport.schemes.includes(listener.endpoint.scheme), `scheme of ${listener.endpoint}`)
      assert.notEqual(listener.endpoint.port, 0, `${listener.endpoint}: port 0 is no port one can connect to`)
      if (listener.endpoint.host === undefined) assert.ok(listener.endpoint.path, `${listener.endpoint}: names nothing`)
      await rig.transfer(near, far, 100)
    },
  ),

  transportCase(
    'bind-taken-address-in-use',
    'a second listener on one address is BindError ADDRESS_IN_USE, the first lives',
    always,
    async (rig) => {
      const bound = await rig.listen()
      const second = rig.listen(bound.listener.endpoint)
      await assertFailure(rig, second, BindError, 'ADDRESS_IN_USE', `a second listen on ${bound.listener.endpoint}`)
      const { near, far } = await rig.pair(bound)
      await rig.transfer(near, far, 100)
    },
  ),

  transportCase(
    'unbind-frees-address',
    'after unbind the same address can be bound and served again',
    always,
    async (rig) => {
      const { listener } = await rig.listen()
      await rig.within(listener.unbind(), 'unbind')
      const { near, far } = await rig.pair(await rig.listen(listener.endpoint))
      await rig.transfer(near, far, 100)
    },
  ),

  transportCase('unbind-twice', 'unbind may be called twice, at once and later', always, async (rig) => {
    const { listener } = await rig.listen()
    await rig.within(Promise.all([listener.unbind(), listener.unbind()]), 'two unbinds at once')
    await rig.within(listener.unbind(), 'a third unbind')
  }),

  transportCase('unbind-keeps-links', 'links live on after unbind, both ways', always, async (rig) => {
    const { listener, near, far } = await rig.pair()
    await rig.within(listener.unbind(), 'unbind')
    await rig.transfer(near, far, 10_000)
    await rig.transfer(far, near, 10_000)
    assert.equal(near.closes + far.closes, 0, 'unbind closed a link')
  }),

  transportCase('unbind-opens-no-more', 'no link opens after unbind', always, async (rig) => {
    const { listener, sink } = await rig.listen()
    await rig.within(listener.unbind(), 'unbind')
    const giveUp = new AbortController()
    const { dialled } = rig.dial(listener.endpoint, giveUp.signal)
    dialled.then(
      (link) => link.write(Buffer.from('anybody there?')),
      () => {},
    )
    await rig.quiet()
    giveUp.abort()
    assert.equal(sink.opened.length, 0, 'a link was opened after unbind')
  }),

  transportCase(
    'listener-pause-holds-newcomers',
    'a paused listener opens no link; those that came are opened on resume',
    always,
    async (rig) => {
      const { listener, sink } = await rig.listen()
      listener.pause()
      listener.pause()
      const dials = Array.from({ length: 3 }, () => rig.dial(listener.endpoint))
      const texts = dials.map((_, i) => `newcomer ${i}`)
      dials.forEach(({ dialled }, i) =>
        dialled.then(
          (link) => link.write(Buffer.from(texts[i] as string)),
          () => {},
        ),
      )
      await rig.quiet()
      assert.equal(sink.opened.length, 0, 'a link was opened while the listener was paused')
      listener.resume()
      await rig.within(Promise.all(dials.map(({ dialled }) => dialled)), 'connects made in the pause')
      const told = () => sink.opened.map((recorded) => recorded.received().toString()).sort()
      await rig.until(
        () => sink.opened.length >= 3 && told().every((text) => text.length > 9),
        'three links to open with their bytes',
      )
      assert.deepEqual(told(), texts)
    },
  ),

  transportCase('unbind-refuses-waiting', 'links that wait in a pause are refused by unbind', always, async (rig) => {
    const { listener, sink } = await rig.listen()
    listener.pause()
    const dial = rig.dial(listener.endpoint)
    const refused = dial.dialled.then(
      (link) => {
        link.write(Buffer.from('waiting'))
        return rig.capabilities.reliable
          ? rig.until(() => dial.sink.of(link).isClosed, 'the waiting link to be closed')
          : undefined
      },
      () => {},
    )
    await rig.quiet()
    await rig.within(listener.unbind(), 'unbind in a pause')
    await rig.within(refused, 'the waiting link to be refused')
    listener.resume()
    await rig.quiet()
    assert.equal(sink.opened.length, 0, 'a link that waited was opened after unbind')
  }),

  transportCase(
    'connect-opens-before-resolving',
    'sink.open has been called, with the same link, when connect resolves',
    always,
    async (rig) => {
      const { listener } = await rig.listen()
      const { sink, dialled } = rig.dial(listener.endpoint)
      const link = await rig.within(dialled, 'connect')
      assert.equal(sink.opened.length, 1, 'calls of open when connect resolved')
      assert.ok(sink.opened[0]?.link === link, 'connect resolved with another link than it opened')
    },
  ),

  transportCase(
    'connect-to-nobody-refused',
    'connecting where nobody listens is ConnectionError REFUSED',
    whereReliable,
    async (rig) => {
      const { listener } = await rig.listen()
      await rig.within(listener.unbind(), 'unbind')
      const { sink, dialled } = rig.dial(listener.endpoint)
      await assertFailure(rig, dialled, ConnectionError, 'REFUSED', `connect to ${listener.endpoint}, which is unbound`)
      assert.equal(sink.opened.length, 0, 'a link was opened to nobody')
    },
  ),

  transportCase(
    'connect-given-up-beforehand',
    'a connect whose signal is aborted already is CONNECT_TIMEOUT',
    always,
    async (rig) => {
      const { listener } = await rig.listen()
      const { sink, dialled } = rig.dial(listener.endpoint, AbortSignal.abort())
      await assertFailure(rig, dialled, ConnectionError, 'CONNECT_TIMEOUT', 'connect with an aborted signal')
      await rig.quiet()
      assert.equal(sink.opened.length, 0, 'a link was opened that had been given up')
    },
  ),

  transportCase(
    'connect-given-up-under-way',
    'a connect given up under way is CONNECT_TIMEOUT and opens nothing, unless it was done',
    always,
    async (rig) => {
      const { listener } = await rig.listen()
      const giveUp = new AbortController()
      const { sink, dialled } = rig.dial(listener.endpoint, giveUp.signal)
      const wasDone = sink.opened.length > 0
      giveUp.abort()
      if (wasDone) return
      await assertFailure(
        rig,
        dialled,
        ConnectionError,
        'CONNECT_TIMEOUT',
        'connect whose signal was aborted in the same turn',
      )
      await rig.quiet()
      assert.equal(sink.opened.filter(({ isClosed }) => !isClosed).length, 0, 'a link is open that had been given up')
    },
  ),

  transportCase(
    'signal-after-connect-harmless',
    'aborting the signal after connect has resolved harms nothing',
    always,
    async (rig) => {
      const { listener, sink } = await rig.listen()
      const giveUp = new AbortController()
      const dial = rig.dial(listener.endpoint, giveUp.signal)
      const near = dial.sink.of(await rig.within(dial.dialled, 'connect'))
      giveUp.abort()
      near.write(Buffer.from('still here'))
      await rig.until(() => sink.opened[0]?.bytes === 10, 'bytes written after the signal was aborted')
      assert.equal(near.closes, 0, 'the link was closed')
    },
  ),

  transportCase(
    'endpoints-crosswise',
    "one side's local endpoint is the other's remote, where present",
    always,
    async (rig) => {
      const { near, far } = await rig.pair()
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        const { local } = one.link
        const { remote } = other.link
        if (local?.host === undefined ? !local?.path : local.port === undefined) continue
        if (remote?.host === undefined ? !remote?.path : remote.port === undefined) continue
        assert.equal(plain(`${local}`), plain(`${remote}`))
      }
    },
  ),
]

/** An IPv4 peer of a dual-stack listener is written as a mapped address on one side (RFC 4291, 2.5.5.2). */
function plain(endpoint: string): string {
  return endpoint.replace(/\[::ffff:([\d.]+)\]/, '$1')
}
