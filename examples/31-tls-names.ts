/**
 * TLS by name: a certificate for each, one protocol or another by ALPN, and sessions that are taken up where they were begun.
 *
 *   npx gaidaros serve --config examples/31-tls-names.ts
 *   openssl s_client -connect localhost:8443 -servername a.wild.test      → subject CN = wild.test
 *   curl -k https://localhost:8443/                                       → HTTP, since curl offers http/1.1
 *   echo hello | openssl s_client -quiet -no_ign_eof -connect localhost:8443     → lines, since nothing was offered
 *   openssl s_client -connect localhost:8443 -sess_out it.pem, then -sess_in it.pem → Reused; with -connect localhost:8444 → New
 */
import { randomBytes } from 'node:crypto'
import { type Connection, defineConfig, TLS } from 'gaidaros'
import { generate } from 'selfsigned'

const named = async (value: string) => {
  const { cert, private: key } = await generate([{ name: 'commonName', value }])
  return { cert, key }
}
const protocol = [
  { name: 'http', fetch: () => new Response('a page\n') },
  {
    codec: 'line',
    handler: (line: string, connection: Connection) => `${line} to ${connection.feature(TLS)?.serverName ?? 'nobody'}`,
  },
]

export default defineConfig({
  tls: {
    ...(await named('localhost')),
    sni: { '*.wild.test': await named('wild.test') },
    alpn: ['http/1.1'],
    // Of several machines that serve the same listeners: a file that they share, and that is replaced now and then.
    ticketKeys: randomBytes(48),
  },
  limits: { connections: 1_000, handshakes: 20 },
  listeners: {
    one: { endpoint: 'tls://localhost:8443', protocol },
    two: { endpoint: 'tls://localhost:8444', protocol },
  },
})
