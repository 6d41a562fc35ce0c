/**
 * A full broker: aedes speaks MQTT with sessions that outlive their connections, and gets its streams from Gaidaros, which
 * keeps its limits, deadlines and TLS.
 *
 *   npm install aedes
 *   npx gaidaros serve --config examples/12-mqtt/broker.ts
 *   mosquitto_sub -t 'news/#' -i reader -c -q 1 -v       (stop it, publish, start it again: it gets what it missed)
 *   mosquitto_pub -t news/today -q 1 -m 'good morning'
 */
import { Aedes } from 'aedes'
import { type Connection, defineConfig, Handler, OnMessage, OnOpen } from 'gaidaros'

const broker = await Aedes.createBroker()

@Handler({ codec: 'raw' })
class Broker {
  @OnOpen() welcome(connection: Connection) {
    broker.handle(connection.stream())
  }

  // What comes belongs to the stream.
  @OnMessage() never() {}
}

export default defineConfig({
  listen: 'tcp://localhost:1883',
  handler: Broker,
  limits: { connections: 1_000 },
  timeouts: { idleMs: 600_000 },
})
