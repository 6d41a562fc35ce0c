/**
 * MQTT 3.1.1 and 5, the server's side: what is published goes to handlers by topic, and to those who subscribed.
 *
 * Room: plugins/protocols. docs.oasis-open.org/mqtt. Packets are read and written by the optional peer `mqtt-packet`.
 * Retained messages and the sessions of clients that are away are kept, bounded, and in memory. A full broker is `aedes`, fed with
 * `connection.stream()`: see the example.
 */
import { FrameError } from '../../../core/errors.js'
import { optionSchema } from '../../../core/option-schema.js'
import { peerPackage } from '../../../core/peer-package.js'
import type { Detection, Factory, Protocol } from '../../../core/plugin.js'
import { Broker, type MqttOptions } from './broker.js'
import { type Library, MqttCodec } from './wire.js'

/**
 * The route is the topic of a PUBLISH; `matches(filter, topic)` helps a catch-all.
 *
 * What a handler returns is not sent: QoS 1 and 2 are acknowledged once its promise is settled, and the message then goes to
 * the subscribers. It throws to refuse the message (version 5 says so, 3.1.1 has no words for it). Keep-alive is enforced at
 * one and a half times its value, wills are published when a connection ends without DISCONNECT. QoS 2 is taken once. A client that
 * asks for a session finds it again: what it subscribed to, what it has not acknowledged, and what came meanwhile.
 *
 * @throws {WiringError} `BAD_PLUGIN` without the package `mqtt-packet`. Reach: the start.
 * @throws {FrameError} `TOO_LARGE` over `limits.frameBytes`, before the packet comes; `MALFORMED`. Reach: this connection.
 * @example
 * { "endpoint": "tcp://[::]:1883", "protocol": "mqtt", "handler": "./sensors.ts" }
 */
export const mqtt: Factory<Protocol, MqttOptions> = {
  name: 'mqtt',
  options: optionSchema<MqttOptions>({
    authenticate: {
      unit: 'any',
      check: (value) =>
        typeof value === 'function' ? undefined : 'expected a function (client, password, connection)',
      why: 'In code: who may connect. Default: everybody.',
    },
    inFlight: {
      unit: 'count',
      min: 1,
      max: 65_535,
      default: 64,
      why: 'QoS 1 and 2 messages to a subscriber that wait for its acknowledgement; 1,000 more wait behind them.',
    },
    subscriptions: { unit: 'count', min: 1, default: 1_000, why: 'Most of one connection.' },
    retained: {
      unit: 'count',
      default: 1_000,
      why: 'Topics whose last retained message is kept, in memory and 16 MiB at most; the oldest goes first. 0: none.',
    },
    sessions: {
      unit: 'count',
      default: 1_000,
      why: 'Sessions of clients that are away and asked for it (clean session 0, session expiry): their subscriptions, and QoS 1 and 2 messages, 1,000 each and 16 MiB of all. In memory; the longest away goes first. 0: none.',
    },
    sessionMs: {
      unit: 'ms',
      min: 1,
      default: 3_600_000,
      why: 'Longest that a session is kept for a client that is away.',
    },
  }),
  create(options, services) {
    const library = peerPackage<Library>('mqtt-packet', 'protocol mqtt')
    const codec = new MqttCodec(library)
    const broker = new Broker(options, services, codec)
    return {
      codec,
      needs: { ordered: true, reliable: true },
      keepsState: true,
      middleware: {
        name: 'mqtt',
        connection({ connection }, next) {
          broker.begin(connection)
          void connection.closed.then(() => broker.end(connection))
          return next()
        },
        message: (context, next) => broker.step(context, next),
      },
      detect,
      errorReply: (error, connection) => broker.errorOf(error, connection),
      survives: (error) => !(error instanceof FrameError),
      goodbye: (connection) => broker.farewell(connection, SHUTTING_DOWN),
    }
  },
}

/** 3.14.2.1. */
const SHUTTING_DOWN = 0x8b

/** CONNECT, and the protocol's name behind its length. */
function detect(buffer: Buffer, start: number, end: number): Detection {
  if (end - start < 1) return 'more'
  if (buffer[start] !== 0x10) return 'no'
  let at = start + 1
  while (at < end && at - start < 5 && (buffer[at] as number) >= 128) at++
  const name = buffer.subarray(at + 1, Math.min(end, at + 7)).toString('latin1')
  if (name.length === 6) return name === '\0\x04MQTT' || name === '\0\x06MQIs' ? 'yes' : 'no'
  return '\0\x04MQTT'.startsWith(name) || '\0\x06MQIs'.startsWith(name) ? 'more' : 'no'
}
