import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type DatagramPeer, DatagramPeers } from '#src/transports/datagram-peers.js'

class Peer implements DatagramPeer {
  heardAt = 0
  newer: this | undefined = undefined
  older: this | undefined = undefined
  readonly address: string
  readonly port: number
  constructor(address: string, port: number) {
    this.address = address
    this.port = port
  }
}

test('the table finds, orders and forgets like a plain list would', () => {
  const addresses = ['10.0.0.1', '10.0.0.2', '::1', 'fe80::1%lo']
  const step = fc.record({
    does: fc.constantFrom('hear', 'hear', 'forget', 'evict'),
    address: fc.constantFrom(...addresses),
    port: fc.integer({ min: 1, max: 4 }),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const table = new DatagramPeers<Peer>()
      let model: Peer[] = []
      for (const { does, address, port } of steps) {
        const known = model.find((peer) => peer.address === address && peer.port === port)
        assert.is(table.find(address, port), known)
        if (does === 'hear' && known === undefined) {
          const peer = new Peer(address, port)
          table.add(peer)
          model.push(peer)
        } else if (does === 'hear') {
          table.touch(known as Peer)
          model = [...model.filter((peer) => peer !== known), known as Peer]
        } else if (does === 'forget') {
          const stranger = new Peer(address, port)
          table.remove(known ?? stranger)
          table.remove(stranger)
          model = model.filter((peer) => peer !== known)
        } else if (model[0] !== undefined) {
          assert.is(table.oldest, model[0])
          table.remove(model.shift() as Peer)
        }
        assert.is(table.size, model.length)
        const seen: Peer[] = []
        for (let peer = table.oldest; peer !== undefined; peer = peer.newer) seen.push(peer)
        assert.equal(seen.length, model.length)
        for (const [i, peer] of seen.entries()) assert.is(peer, model[i])
      }
    }),
  )
})

test.run()
