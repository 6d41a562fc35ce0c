/**
 * TLS that knows its clients: the handshake asks for a certificate of our CA, the handler greets by its name.
 * Certificates are made at start, in a folder that is printed; real ones are files named in the same place.
 *
 *   npx gaidaros serve --config examples/03-tls-client-certificates.ts
 *   openssl s_client -quiet -connect localhost:8443 -cert alice.pem -key alice.key     (in that folder; type a line)
 */
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Connection, defineConfig, TLS } from 'gaidaros'
import { generate } from 'selfsigned'

const ca = await generate([{ name: 'commonName', value: 'Example CA' }], {
  extensions: [{ name: 'basicConstraints', cA: true, critical: true }],
})
const issue = (name: string) =>
  generate([{ name: 'commonName', value: name }], { ca: { key: ca.private, cert: ca.cert } })
const server = await issue('localhost')
const alice = await issue('alice')

const folder = mkdtempSync(join(tmpdir(), 'gaidaros-'))
for (const [file, text] of Object.entries({ 'ca.pem': ca.cert, 'alice.pem': alice.cert, 'alice.key': alice.private })) {
  writeFileSync(join(folder, file), text, { mode: 0o600 })
}
process.stderr.write(`certificates of this run: ${folder}\n`)

export default defineConfig({
  listen: 'tls://localhost:8443',
  tls: { cert: server.cert, key: server.private, ca: ca.cert, requestCert: true, minVersion: 'TLSv1.2' },
  limits: { handshakes: 50, lineBytes: 1024 },
  timeouts: { handshakeMs: 5_000, idleMs: 60_000 },
  handler: function greet(line: string, connection: Connection) {
    return `${connection.feature(TLS)?.peerCertificate?.subject.CN} said ${line}`
  },
})
