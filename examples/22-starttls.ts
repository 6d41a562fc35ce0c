/**
 * TLS in mid-life: the connection begins in plain text and switches when the peer asks. The go-ahead leaves in plain text;
 * what the peer sends behind its command without waiting is refused, never read as if it had come encrypted.
 *
 *   npx gaidaros serve --config examples/22-starttls.ts
 *   (echo NOOP; sleep 1) | openssl s_client -quiet -starttls smtp -connect localhost:8080      → 250 TLSv1.3
 */
import { type Connection, defineConfig, Handler, OnMessage, OnOpen, TLS } from 'gaidaros'
import { generate } from 'selfsigned'

@Handler({ codec: 'line' })
class Polite {
  @OnOpen() greet() {
    return '220 here'
  }
  @OnMessage() async hear(line: string, connection: Connection) {
    if (line.startsWith('EHLO')) return '250 STARTTLS'
    if (line !== 'STARTTLS') return `250 ${connection.feature(TLS)?.protocol ?? 'in plain text'}`
    void connection.send('220 go ahead')
    await connection.upgrade('tls')
    return undefined
  }
}

// A certificate for this run; in earnest: { cert: './cert.pem', key: './key.pem' }.
const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }])

export default defineConfig({
  listen: 'tcp://localhost:8080',
  tls: { cert, key },
  handler: Polite,
  limits: { connections: 1_000, lineBytes: 1_024 },
})
