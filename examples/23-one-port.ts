/**
 * One port for everything: with TLS or without, and HTTP, Redis commands or lines, told apart by their first bytes.
 *
 *   npx gaidaros serve --config examples/23-one-port.ts
 *   curl http://localhost:8080/ && curl -k https://localhost:8080/
 *   redis-cli -p 8080 ECHO hello && echo hello | ncat --ssl localhost 8080
 */
import { type Connection, defineConfig, defineHandler, TLS } from 'gaidaros'
import { generate } from 'selfsigned'

const how = (connection: Connection) => connection.feature(TLS)?.protocol ?? 'plain text'
const pages = { name: 'http', fetch: () => new Response('a page\n') }
const store = defineHandler({ name: 'Store', routes: { ECHO: ({ args }: { args: string[] }) => args[0] } })
const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }])

export default defineConfig({
  listeners: {
    all: {
      endpoint: 'tcp://localhost:8080',
      limits: { connections: 1_000, handshakes: 20 },
      tls: { cert, key, alpn: ['http/1.1'] },
      layers: [{ name: 'tls', optional: true }],
      protocol: [
        pages,
        { name: 'resp', handler: store },
        { codec: 'line', handler: (line: string, connection: Connection) => `${line}, over ${how(connection)}` },
      ],
    },
  },
})
