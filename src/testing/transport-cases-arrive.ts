/**
 * Transport cases: who a peer is, and what it is before its link opens.
 *
 * Room: testing. Taking places (`LinkSink.arrive`) is optional: the cases about them say so where a transport takes none.
 */
import assert from 'node:assert/strict'
import { always, type TransportCase, transportCase } from './transport-case.js'

const NONE = 'its links open at once: it takes no places'

export const arriveCases: readonly TransportCase[] = [
  transportCase(
    'remote-is-known',
    'where the endpoint has a host, a link knows its remote from open to after its close',
    always,
    async (rig) => {
      const { listener, near, far } = await rig.pair()
      if (listener.endpoint.host === undefined) return 'its peers have no address by nature'
      const { remote } = far.link
      assert.ok(remote?.host, `remote of a link of ${listener.endpoint}: ${remote}`)
      near.abort()
      // A datagram peer does not say that it goes.
      if (rig.capabilities.reliable) await rig.untilClosed(far)
      assert.equal(String(far.link.remote), String(remote), 'remote after the close')
    },
  ),

  transportCase(
    'arrival-becomes-its-link',
    'a peer has one place, whatever it goes through, and its link carries it',
    always,
    async (rig) => {
      const { near, far, sink } = await rig.pair()
      const [arrival, ...more] = sink.arrivals
      if (arrival === undefined) return NONE
      assert.equal(more.length, 0, 'further places of one peer')
      assert.ok(far.link.arrived === arrival, 'the link does not carry the place that its peer took')
      assert.equal(arrival.isLeft, false, 'the place was given up before the link')
      await rig.transfer(near, far, 1_000)
    },
  ),

  transportCase(
    'arrival-refused-or-cut',
    'a peer that gets no place, or is cut inside of it, opens no link and gives its place up',
    always,
    async (rig) => {
      const { listener, sink } = await rig.listen()
      sink.onArrive = () => false
      await rig.within(
        rig.dial(listener.endpoint).dialled.catch(() => {}),
        'connect to a listener that refuses',
      )
      if (sink.arrivals.length === 0) return NONE
      assert.equal(sink.opened.length, 0, 'a link was opened that had been refused')
      sink.onArrive = (recorded) => {
        // Not from within the call.
        setImmediate(() => recorded.arrival.abort())
        return true
      }
      await rig.within(
        rig.dial(listener.endpoint).dialled.catch(() => {}),
        'connect to a listener that cuts',
      )
      const cut = sink.arrivals.at(-1)
      await rig.until(() => cut?.isLeft === true, 'the place of a peer that was cut to be given up')
      assert.ok(!(await rig.soon(() => sink.opened.length > 0)), 'a link was opened that had been cut')
      assert.equal(sink.faults.length, 0, 'a peer that core has ended was told as a fault')
    },
  ),
]
