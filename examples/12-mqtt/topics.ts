/**
 * MQTT by topic: what sensors publish arrives at the methods of their topics, and goes to whoever subscribed. A method that
 * throws refuses the message; QoS 1 and 2 are acknowledged when it is done.
 *
 *   npx gaidaros serve --config examples/12-mqtt/topics.ts
 *   mosquitto_sub -t 'alarms/#' -v
 *   mosquitto_pub -t sensors/kitchen -q 2 -m 81           → alarms/kitchen too warm: 81
 */
import { type Connection, defineConfig, Handler, OnMessage } from 'gaidaros'
import { type MqttMessage, matches, publish } from 'gaidaros/plugins/mqtt'

@Handler()
class House {
  @OnMessage('sensors/kitchen') kitchen({ payload }: MqttMessage, connection: Connection) {
    const degrees = Number(payload)
    if (Number.isNaN(degrees)) throw new Error(`${payload} is no temperature`)
    if (degrees > 60) publish(connection, { topic: 'alarms/kitchen', payload: `too warm: ${degrees}`, retain: true })
  }

  @OnMessage() other({ topic, payload, client }: MqttMessage) {
    if (matches('sensors/+', topic)) process.stderr.write(`${client.clientId}: ${topic} ${payload}\n`)
  }
}

export default defineConfig({
  listen: 'tcp://localhost:1883',
  protocol: 'mqtt',
  handler: House,
  limits: { connections: 1_000, frameBytes: 64 * 1024 },
})
