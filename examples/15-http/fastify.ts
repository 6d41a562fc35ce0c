/**
 * Fastify on Gaidaros: any stream transport, with the listener's limits, deadlines, TLS and drain.
 *
 *   npm install fastify
 *   npx gaidaros serve --config examples/15-http/fastify.ts
 *   curl localhost:8080/hello/Ada                        → {"hello":"Ada"}
 *   curl --unix-socket ./web.sock http://x/hello/Ada
 *   ab -k -n 10000 -c 50 http://127.0.0.1:8080/hello/Ada
 */
import fastify from 'fastify'
import { defineConfig } from 'gaidaros'

const app = fastify()
app.get('/hello/:name', async ({ params }) => ({ hello: (params as { name: string }).name }))

export default defineConfig({
  listen: ['tcp://localhost:8080', 'unix:./web.sock'],
  protocol: { name: 'http', app },
  limits: { connections: 1_000 },
})
