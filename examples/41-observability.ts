/**
 * What an operator sees: metrics for Prometheus, health for a balancer, logs as JSON lines. docs/grafana-dashboard.json shows the
 * metrics.
 *
 *   npx gaidaros serve -q --config examples/41-observability.ts
 *   echo hello | ncat localhost 8080                              → HELLO
 *   curl -s localhost:9464/metrics | grep messages                → gaidaros_messages_received_total{…} 1
 *   curl -s localhost:9465/readyz                                 → {"status":"ok", …
 */
import { defineConfig } from 'gaidaros'

export default defineConfig({
  listen: 'tcp://localhost:8080',
  plugins: [
    ['gaidaros/plugins/logger', { level: 'debug' }],
    ['gaidaros/plugins/metrics', { port: Number(process.env.METRICS ?? 9464) }],
    ['gaidaros/plugins/health', { port: Number(process.env.HEALTH ?? 9465) }],
  ],
  limits: { lineBytes: 4096 },
  handler: (line: string) => line.toUpperCase(),
})
