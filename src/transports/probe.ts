/**
 * Proves that a worker takes connections: hands it a real one, and hears its answer.
 *
 * Room: transports. The connection goes the way of all others, except that the process answers it itself, so that no handler
 * sees a peer that nobody has sent.
 */
import { connect, createServer, type Socket } from 'node:net'
import { WorkerError } from '../core/errors.js'
import type { SocketPort } from '../core/workers/holder.js'
import { bindServer, guardErrors, portOf } from './stream-options.js'

/** @throws {WorkerError} `NOT_READY` when it does not answer for that endpoint; the caller has a deadline of its own. */
export async function proveByConnection(port: SocketPort, key: string): Promise<void> {
  const server = createServer({ pauseOnConnect: true })
  await bindServer(server, { host: '127.0.0.1', port: 0 })
  try {
    const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve))
    const ours = guardErrors(connect(portOf(server), '127.0.0.1'))
    const theirs = guardErrors(await accepted)
    ;(theirs as Socket & { server: unknown }).server = null
    let answer = ''
    const over = new Promise<void>((resolve) => {
      ours.on('data', (chunk) => {
        answer += chunk
      })
      ours.once('close', () => resolve())
    })
    port.send({ t: 'probe', k: key }, theirs)
    await over
    if (answer === key) return
    throw new WorkerError('NOT_READY', `worker ${port.slot} takes no connections for ${key}`)
  } finally {
    server.close()
  }
}
