/**
 * A page for operators: live charts, listeners to suspend, connections to filter and end. On loopback, for the token's holder.
 *
 *   npx gaidaros serve --config examples/42-console.ts
 *   → console: http://127.0.0.1:8090/#token=…     open it, and talk: ncat localhost 8080
 */
import { defineConfig, defineHandler } from 'gaidaros'

const greeter = defineHandler({
  codec: 'line',
  open: () => 'who are you?',
  // Some answers take a while: something to see in the chart of latencies.
  message: (name: string) => new Promise((resolve) => setTimeout(resolve, 5 * name.length, `hello ${name}`)),
})

export default defineConfig({
  listeners: {
    public: {
      endpoint: 'tcp://localhost:8080',
      handler: greeter,
      limits: { connections: 100, connectionsPerSource: 20 },
    },
    local: { endpoint: 'unix:./greeter.sock', handler: greeter },
  },
  // `tokenFile: './console.token'` keeps one token over restarts, in a file of mode 0600.
  plugins: [['gaidaros/plugins/console', { listen: 'tcp://127.0.0.1:8090' }]],
})
