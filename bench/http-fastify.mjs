/**
 * Gaidaros under the same load as http-raw.mjs: the same Fastify application, protocol http, every default limit and deadline on.
 *
 * PORT= node http-fastify.mjs
 */
import fastify from 'fastify'
import { createServer } from 'gaidaros'

const app = fastify()
app.get('/', async () => ({ hello: 'world' }))
const server = await createServer({
  config: false,
  listen: `tcp://127.0.0.1:${process.env.PORT}`,
  protocol: { name: 'http', app },
})
await server.start()
process.on('SIGTERM', () => void server.stop({ timeoutMs: 1_000 }).then(() => process.exit(0)))
