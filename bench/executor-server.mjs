/**
 * An echo whose handler runs where EXECUTOR (JSON) says.
 *
 * PORT= EXECUTOR= node executor-server.mjs
 */
import { fileURLToPath } from 'node:url'
import { createServer } from 'gaidaros'

const server = await createServer({
  config: false,
  listen: `tcp://127.0.0.1:${process.env.PORT}`,
  codec: 'line',
  handler: fileURLToPath(new URL('./executor-echo.mjs', import.meta.url)),
  executor: JSON.parse(process.env.EXECUTOR),
})
await server.start()
process.on('SIGTERM', () => void server.stop({ timeoutMs: 0 }).then(() => process.exit(0)))
