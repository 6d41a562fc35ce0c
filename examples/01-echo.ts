/**
 * Echo, the smallest server: a function, a codec, an endpoint.
 *
 *   npx gaidaros serve --config examples/01-echo.ts
 *   echo hello | ncat localhost 8080          → hello
 */
import { defineConfig } from 'gaidaros'

export default defineConfig({
  listen: 'tcp://localhost:8080',
  codec: 'line',
  // Safe without a word; a service that knows its peers says less: shorter lines, less patience.
  limits: { lineBytes: 1024 },
  timeouts: { idleMs: 60_000 },
  handler: (line: string) => line,
})
