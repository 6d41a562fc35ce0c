/**
 * A listener for strangers: how many, how often, how slow, how much memory. `alarm.raised` says on standard error what is near its
 * limit; the limits change while it runs, on SIGUSR2.
 *
 *   npx gaidaros serve --config examples/40-limits.ts
 *   for i in 1 2 3 4; do sleep 5 | ncat localhost 8080 & done     → the fourth is refused
 */
import { type ConfiguredServer, defineConfig, definePlugin } from 'gaidaros'

const raise = definePlugin({
  name: 'raise',
  setup(registry) {
    registry.observer(() => ({
      name: 'raise',
      start(server) {
        process.once('SIGUSR2', () => (server as ConfiguredServer).setLimits({ serverConnections: 100 }))
      },
    }))
  },
})

export default defineConfig({
  listen: 'tcp://localhost:8080',
  plugins: [raise],
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
