/**
 * Several server processes on one port: each answer says which one gave it.
 *
 *   npx gaidaros serve --config examples/30-workers.ts --control ./workers.sock
 *   for i in 1 2 3 4; do echo hello | ncat localhost 8080; done       (two workers, in turn)
 *   npx gaidaros status --control ./workers.sock
 *   npx gaidaros reload --control ./workers.sock                      (new workers, nobody refused)
 */
import { type Connection, defineConfig, Handler, OnMessage } from 'gaidaros'

@Handler({ codec: 'line' })
class Worker {
  @OnMessage() answer(line: string, connection: Connection) {
    return `${line}, says process ${process.pid} to ${connection.remote}`
  }
}

export default defineConfig({
  listen: 'tcp://localhost:8080',
  handler: Worker,
  limits: { connections: 1_000 },
  workers: { count: 2, balance: 'round-robin' },
})
