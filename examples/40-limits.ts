/**
 * A listener for strangers: how many, how often, how slow, how much memory. `alarm.raised` says on standard error what is near its
 * limit; limits change while it runs.
 *
 *   npx gaidaros serve --config examples/40-limits.ts
 *   for i in 1 2 3 4; do sleep 5 | ncat localhost 8080 & done     → the fourth is refused
 *   npx gaidaros limit limits.serverConnections=100 --control ./limits.sock
 */
import { defineConfig } from 'gaidaros'

export default defineConfig({
  listen: 'tcp://localhost:8080',
  control: './limits.sock',
  middleware: [{ name: 'rate-limit', messages: 100, per: 'source' }],
  limits: {
    serverConnections: 3,
    connectionsPerSource: 50,
    acceptRate: 200,
    minBytesPerSecond: 240,
    memoryBytes: 64 * 1024 * 1024,
  },
  handler: (line: string) => line,
})
