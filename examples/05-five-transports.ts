/**
 * One handler on five transports: what a message means is written once, where it is listened for is configuration.
 *
 *   npm start                                 (or: npx gaidaros serve --config examples/05-five-transports.ts)
 */
import { type Connection, defineConfig, Handler, OnMessage } from 'gaidaros'
import { generate } from 'selfsigned'

@Handler({ codec: 'line' })
export class Greeter {
  @OnMessage() greet(name: string, connection: Connection) {
    return `hello ${name}, over ${connection.transport}`
  }
}

// A certificate for this run; in earnest: { cert: './cert.pem', key: './key.pem' }.
const certificate = await generate([{ name: 'commonName', value: 'localhost' }])

if (process.argv.includes('serve')) {
  process.stderr.write(`talk to it (the same handler answers everywhere):
  tcp    echo Ada | ncat localhost 8080
  tls    (echo Ada; sleep 1) | openssl s_client -quiet -no_ign_eof -connect localhost:8443
  udp    (echo Ada; sleep 1) | ncat -u localhost 8081
  unix   echo Ada | ncat -U ./greeter.sock
`)
}

export default defineConfig({
  handlers: [Greeter],
  limits: { lineBytes: 1024 },
  timeouts: { idleMs: 60_000 },
  listeners: {
    public: { endpoint: 'tcp://localhost:8080' },
    secure: { endpoint: 'tls://localhost:8443', tls: { cert: certificate.cert, key: certificate.private } },
    datagram: { endpoint: 'udp://localhost:8081' },
    local: { endpoint: 'unix:./greeter.sock' },
    // For programs in this process, and for tests: no wire at all.
    inside: { endpoint: 'memory:greeter' },
  },
})
