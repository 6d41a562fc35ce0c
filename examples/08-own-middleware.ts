/**
 * Middleware of one's own: a step around each message. It times the handler, and answers politely when it throws.
 *
 *   npx gaidaros serve --config examples/08-own-middleware.ts
 *   printf '3\nx\n' | ncat localhost 8080     → 9, then: sorry: x is no number
 */
import { defineConfig, type Middleware } from 'gaidaros'

const timed: Middleware = (context, next) => {
  const began = performance.now()
  try {
    return next()
  } catch (error) {
    return `sorry: ${(error as Error).message}`
  } finally {
    const tookMs = (performance.now() - began).toFixed(3)
    process.stderr.write(`connection ${context.connection.id}: ${JSON.stringify(context.message)} took ${tookMs} ms\n`)
  }
}

export default defineConfig({
  listen: 'tcp://localhost:8080',
  limits: { lineBytes: 64 },
  timeouts: { idleMs: 60_000 },
  middleware: [{ name: 'rate-limit', messages: 100, per: 'source' }, timed],
  handler: function square(line: string) {
    const number = Number(line)
    if (Number.isNaN(number)) throw new Error(`${line} is no number`)
    return number * number
  },
})
