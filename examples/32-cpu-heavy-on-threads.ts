/**
 * A handler that computes for a while, inline and then on a pool of threads: the same handler, one key apart. Beside it, an
 * echo shows whether the event loop keeps others waiting.
 *
 *   npx gaidaros serve --config examples/32-cpu-heavy-on-threads.ts
 *   (echo 40 | ncat localhost 8080) & echo hi | ncat localhost 8082     → inline: the sum first, hi has to wait for it
 *   (echo 40 | ncat localhost 8081) & echo hi | ncat localhost 8082     → on threads: hi at once, the sum when it is done
 */
import { fileURLToPath } from 'node:url'
import { defineConfig, Handler, OnMessage } from 'gaidaros'

const fibonacci = (n: number): number => (n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2))

@Handler({ codec: 'line' })
export class Sums {
  @OnMessage() sum(line: string) {
    const n = Number(line)
    return Number.isInteger(n) && n >= 0 && n <= 40 ? `${n} ${fibonacci(n)}` : 'a whole number from 0 to 40, please'
  }
}

// Threads find a handler by its file: code does not travel, names do.
const handler = `${fileURLToPath(import.meta.url)}#Sums`

export default defineConfig({
  limits: { connections: 100 },
  listeners: {
    inline: { endpoint: 'tcp://localhost:8080', handler },
    threads: {
      endpoint: 'tcp://localhost:8081',
      handler,
      executor: { type: 'thread-pool', size: 2, timeoutMs: 10_000 },
    },
    echo: { endpoint: 'tcp://localhost:8082', handler: (line: string) => line },
  },
})
