/**
 * The unit of the comparison for HTTP: Fastify on its own server.   PORT= node http-raw.mjs
 */
import fastify from 'fastify'

const app = fastify()
app.get('/', async () => ({ hello: 'world' }))
await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1', backlog: 511 })
process.on('SIGTERM', () => process.exit(0))
