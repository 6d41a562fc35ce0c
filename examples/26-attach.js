/**
 * Handlers on a server that exists already: its pages stay its own, requests that ask to switch become connections.
 *
 *   node examples/26-attach.js                (its own server runs; npx gaidaros serve is not needed)
 *   printf 'GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\nhello\n' | ncat localhost 8080
 */
import { createServer as createHttpServer } from 'node:http'
import { attach, createServer } from 'gaidaros'

const http = createHttpServer((_request, response) => response.end('a page as ever\n'))

const server = await createServer({ config: false, listen: 'memory:inside', handler: (line) => line })
await server.start()
await attach(server, http, { upgrade: 'lines', handler: (line) => `${line}, by upgrade`, timeouts: { idleMs: 60_000 } })
http.listen(Number(process.env.PORT ?? 8080), 'localhost', () => console.log(`listening ${http.address().port}`))

process.once('SIGTERM', async () => {
  await server.stop()
  http.close()
})
