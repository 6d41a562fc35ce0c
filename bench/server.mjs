/**
 * Gaidaros under the same load as raw.mjs: a decorated class, the listed codec, every default limit and deadline on.
 *
 * TRANSPORT=tcp|tls|unix|udp FRAMING=line|len4 PORT= | SOCKET= node server.mjs
 */
import { createServer, Handler, OnMessage } from 'gaidaros'

const { TRANSPORT = 'tcp', FRAMING = 'line', PORT, SOCKET, CERT, KEY } = process.env

class Echo {
  echo(message) {
    return message
  }
}
// The decorators by hand, since this file is plain JavaScript.
OnMessage()(Echo.prototype, 'echo', Object.getOwnPropertyDescriptor(Echo.prototype, 'echo'))
Handler({ codec: FRAMING === 'line' ? 'line' : 'length-field' })(Echo)

const server = await createServer({
  config: false,
  listen: TRANSPORT === 'unix' ? `unix:${SOCKET}` : `${TRANSPORT}://127.0.0.1:${PORT}`,
  handler: Echo,
  ...(TRANSPORT === 'tls' ? { tls: { cert: CERT, key: KEY } } : {}),
})
await server.start()
process.on('SIGTERM', () => process.exit(0))
