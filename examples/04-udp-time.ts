/**
 * The time protocol's friendly cousin over UDP (RFC 867): any datagram is answered with the time. Each peer is a
 * connection, forgotten after 5 s of silence.
 *
 *   npx gaidaros serve --config examples/04-udp-time.ts
 *   (echo now; sleep 1) | ncat -u localhost 8037 → 2026-11-23T12:00:00.000Z
 */
import { defineConfig } from 'gaidaros'

export default defineConfig({
  listen: 'udp://localhost:8037',
  codec: 'line',
  timeouts: { peerIdleMs: 5_000 },
  limits: { peers: 1_000 },
  handler: function time() {
    return new Date().toISOString()
  },
})
