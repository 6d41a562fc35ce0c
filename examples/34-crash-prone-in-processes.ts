/**
 * A handler that crashes, in processes: one that ends takes its own connections along, and no others; a new one stands in.
 *
 *   npx gaidaros serve --config examples/34-crash-prone-in-processes.ts
 *   ncat localhost 8080      hello → 4711: hello      crash → the connection ends, and only that
 */
import { fileURLToPath } from 'node:url'
import { defineConfig, Handler, OnMessage } from 'gaidaros'

@Handler({ codec: 'line' })
export class CrashProne {
  @OnMessage() answer(line: string) {
    // What a bug in native code, a full heap or a stray process.exit() does.
    if (line === 'crash') process.abort()
    if (line === 'hang') for (;;);
    return `${process.pid}: ${line}`
  }
}

export default defineConfig({
  limits: { connections: 100 },
  listen: 'tcp://localhost:8080',
  handler: `${fileURLToPath(import.meta.url)}#CrashProne`,
  // Hung for two seconds: killed, and replaced as well.
  executor: { type: 'process-pool', size: 2, timeoutMs: 2_000, heapMb: 128 },
})
