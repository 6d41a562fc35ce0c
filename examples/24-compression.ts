/**
 * Compressed both ways, and no faster than a megabyte a second: two layers, the first named is nearest to the wire. A peer
 * whose few bytes stand for too many is ended (`ratio`).
 *
 *   npx gaidaros serve --config examples/24-compression.ts
 *   (echo hello | gzip; sleep 1) | ncat localhost 8080 | gunzip 2>/dev/null      → hello hello …, a thousand times
 */
import { defineConfig } from 'gaidaros'

export default defineConfig({
  listen: 'tcp://localhost:8080',
  limits: { connections: 100, lineBytes: 1_024 },
  layers: [
    { name: 'throttle', write: 1_000_000 },
    { name: 'gzip', ratio: 100 },
  ],
  handler: (line: string) => Array(1_000).fill(line).join(' '),
})
