/**
 * A name server over UDP and TCP: questions arrive at the methods of their types. What is too long for a datagram is cut to the
 * TC bit, and the asker comes again by TCP.
 *
 *   npm install dns-packet
 *   npx gaidaros serve --config examples/14-dns.ts
 *   dig @localhost -p 5353 www.home.test +short          → 192.0.2.7
 *   dig @localhost -p 5353 big.home.test TXT             → ;; Truncated, retrying in TCP mode … 4 KiB
 */
import { defineConfig, Handler, OnMessage } from 'gaidaros'
import { DnsError, type DnsQuery } from 'gaidaros/plugins/dns'

const addresses = new Map([
  ['www.home.test', '192.0.2.7'],
  ['printer.home.test', '192.0.2.8'],
])

@Handler()
class Zone {
  @OnMessage('A') address({ name }: DnsQuery) {
    // No open resolver: what is not ours is refused.
    if (!name.endsWith('home.test')) throw new DnsError('REFUSED')
    const data = addresses.get(name.toLowerCase())
    return data === undefined ? null : [{ type: 'A', name, ttl: 300, data }]
  }

  @OnMessage('TXT') text({ name }: DnsQuery) {
    const lines = Array.from({ length: 20 }, (_, line) => `line ${line} `.padEnd(200, '.'))
    return name === 'big.home.test' ? [{ type: 'TXT', name, ttl: 300, data: lines }] : null
  }
}

export default defineConfig({
  listen: ['udp://localhost:5353', 'tcp://localhost:5353'],
  protocol: 'dns',
  handler: Zone,
  limits: { connections: 200, peers: 1_000 },
})
