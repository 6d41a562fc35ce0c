/**
 * Steering a running server by its control socket: with the command, or as here from a program of one's own.
 *
 *   npx gaidaros serve --config examples/43-control.ts
 *   npx gaidaros top --control ./control.sock         also: status, connections, kill, limit, tap, suspend, resume
 *
 * The program below is the watchman: it ends whoever has been silent for a minute, and says so.
 */
import { connect, defineConfig } from 'gaidaros'

const control = './control.sock'
const silentMs = Number(process.env.SILENT_MS ?? 60_000)

async function watch(): Promise<void> {
  const socket = await connect(`unix:${control}`, { codec: 'json-lines' })
  const request = { command: 'kill', listener: 'public', filter: `idleMs>${silentMs}`, reason: 'silent for too long' }
  const answer = await socket.request<{ ok: boolean; result?: { killed: number; connections: string[] } }>(request)
  if (answer.result?.killed) process.stderr.write(`watchman: ended ${answer.result.connections.join(', ')}\n`)
  await socket.close()
}

if (process.argv.includes('serve')) {
  setInterval(
    () => watch().catch((error) => process.stderr.write(`watchman: ${error.message}\n`)),
    silentMs / 2,
  ).unref()
}

export default defineConfig({
  control,
  limits: { connections: 100 },
  listeners: { public: { endpoint: 'tcp://localhost:8080', handler: (line: string) => line.toUpperCase() } },
})
