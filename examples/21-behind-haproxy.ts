/**
 * Behind HAProxy (or nginx with `proxy_protocol on`): the PROXY header says who the peer really is, so that logs, limits by
 * source and filters see it. It is required, and believed from the proxy's own address only.
 *
 *   npx gaidaros serve --config examples/21-behind-haproxy.ts
 *   haproxy -f examples/21-behind-haproxy.cfg
 *   ncat localhost 8000                       → you are 127.0.0.1, and 127.0.0.1 told me
 */
import { type Connection, defineConfig, PROXY } from 'gaidaros'

export default defineConfig({
  listen: 'tcp://127.0.0.1:8080',
  // By source means by the peer behind the proxy.
  limits: { connections: 1_000, connectionsPerSource: 10 },
  layers: [{ name: 'proxy-protocol', trusted: ['127.0.0.1'] }],
  handler: function whoami(_line: string, connection: Connection) {
    const facts = connection.feature(PROXY)
    return `you are ${connection.remote?.host}, and ${facts?.proxy?.host} told me`
  },
})
