/**
 * Small devices over CoAP: methods are routes, paths are the request's. Repeats, acknowledgements and bodies in blocks are the
 * protocol's.
 *
 *   npm install coap-packet
 *   npx gaidaros serve --config examples/19-coap.ts
 *   coap-client-notls -m put -e 21 coap://localhost/sensors/kitchen
 *   coap-client-notls coap://localhost/sensors/kitchen   → 21
 *   coap-client-notls -s 60 -w coap://localhost/sensors/kitchen   → 21, and what it becomes (RFC 7641)
 */
import { type Connection, defineConfig, Handler, OnMessage } from 'gaidaros'
import { CoapError, type CoapRequest, notify } from 'gaidaros/plugins/coap'

@Handler()
class Sensors {
  readonly #values = new Map<string, Buffer>()

  @OnMessage('GET') read({ path }: CoapRequest) {
    const payload = this.#values.get(path)
    return payload === undefined ? null : { payload, observable: true }
  }

  @OnMessage('PUT') write({ path, payload }: CoapRequest, connection: Connection) {
    if (this.#values.size >= 1_000 && !this.#values.has(path)) throw new CoapError('5.03', 'no room for another sensor')
    this.#values.set(path, payload)
    notify(connection, path, { payload, observable: true })
  }

  @OnMessage('DELETE') forget({ path }: CoapRequest, connection: Connection) {
    if (this.#values.delete(path)) notify(connection, path, null)
  }
}

export default defineConfig({
  listen: 'udp://localhost:5683',
  protocol: 'coap',
  handler: Sensors,
  limits: { peers: 1_000, replyRatio: 100 },
})
