/**
 * Gaidaros under the same load as resp-raw.mjs: a decorated class, protocol resp, every default limit and deadline on.
 *
 * PORT= node resp-store.mjs
 */
import { createServer, Handler, OnMessage } from 'gaidaros'
import { resp, simple } from '../dist/plugins/protocols/resp/index.js'

const OK = simple('OK')

class Store {
  map = new Map()
  get({ args: [key] }) {
    return this.map.get(key) ?? null
  }
  set({ args: [key, value] }) {
    this.map.set(key, value)
    return OK
  }
}
// The decorators by hand, since this file is plain JavaScript.
for (const [route, method] of Object.entries({ GET: 'get', SET: 'set' })) {
  OnMessage(route)(Store.prototype, method, Object.getOwnPropertyDescriptor(Store.prototype, method))
}
Handler({ scope: 'server' })(Store)

const server = await createServer({
  config: false,
  listen: `tcp://127.0.0.1:${process.env.PORT}`,
  protocol: resp.create({ strings: 'text', server: 'gaidaros' }),
  handler: Store,
})
await server.start()
process.on('SIGTERM', () => void server.stop({ timeoutMs: 1_000 }).then(() => process.exit(0)))
