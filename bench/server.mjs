/**
 * Gaidaros under the same load as raw.mjs: a decorated class, the listed codec, every default limit and deadline on.
 *
 * TRANSPORT=tcp|tls|unix|udp FRAMING=line|len4 PORT= | SOCKET= node server.mjs
 *
 * WITH=metrics: the plugin. WITH=budget: one budget for all memory, and the least pace a peer must keep.
 */
import { createServer, Handler, OnMessage } from 'gaidaros'

const { TRANSPORT = 'tcp', FRAMING = 'line', PORT, SOCKET, CERT, KEY, WITH = '' } = process.env

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
  ...(WITH === 'metrics' ? { plugins: [['gaidaros/plugins/metrics', { port: 0 }]] } : {}),
  ...(WITH === 'budget' ? { limits: { memoryBytes: 256 * 1024 * 1024, minBytesPerSecond: 240 } } : {}),
})
await server.start()
process.on('SIGTERM', () => process.exit(0))
