/**
 * MQTT 3.1.1 and 5, the server's side: what is published goes to handlers by topic, and to those who subscribed.
 *
 * Room: plugins/protocols. docs.oasis-open.org/mqtt. Packets are read and written by the optional peer `mqtt-packet`.
 * Subscriptions live as long as their connection; nothing is stored. A full broker with sessions is `aedes`, fed with
 * `connection.stream()`: see the example.
 */
import type { Codec, CodecContext, FrameLimits } from '../../../core/codec.js'
import type { CloseReason, Connection } from '../../../core/connection.js'
import type { MessageContext } from '../../../core/context.js'
import { FrameError, toError, UnroutedMessageError } from '../../../core/errors.js'
import { optionSchema } from '../../../core/option-schema.js'
import { peerPackage } from '../../../core/peer-package.js'
import type { Detection, Factory, PluginServices, Protocol } from '../../../core/plugin.js'
import { isThenable, malformed } from '../text-support.js'
import { PacketReader } from './reader.js'
import { isFilter, isTopic, matches } from './topics.js'

export interface MqttOptions {
  readonly authenticate?: (client: MqttClient, password: string, connection: Connection) => boolean | Promise<boolean>
  readonly inFlight: number
  readonly subscriptions: number
}

/** Who connected. */
export interface MqttClient {
  readonly clientId: string
  readonly user: string | undefined
  readonly version: 3 | 4 | 5
}

/** What was published: the message of `@OnMessage('sensors/kitchen')`, or of `@OnMessage()` for all other topics. */
export interface MqttMessage {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: 0 | 1 | 2
  readonly retain: boolean
  readonly properties: Readonly<Record<string, unknown>>
  readonly client: MqttClient
}

type Packet = Record<string, unknown> & { cmd: string; messageId?: number }

interface Library {
  parser(options?: object): {
    parse(bytes: Buffer): number
    on(event: 'packet', listener: (packet: Packet) => void): void
    on(event: 'error', listener: (error: Error) => void): void
  }
  generate(packet: object, options?: object): Buffer
}

/** One connection's life. */
interface Session {
  client: MqttClient | undefined
  will: Packet | undefined
  keepAliveMs: number
  heardAt: number
  cancel: () => void
  /** Granted quality by filter. */
  readonly filters: Map<string, 0 | 1 | 2>
  /** QoS 2 packets taken and not yet released: their numbers are used once. */
  readonly taken: Set<number>
  /** Ours, unacknowledged. */
  readonly sent: Map<number, Packet>
  readonly waiting: Packet[]
  lastId: number
}

/** Reason codes of version 5, and their return codes in 3.1.1 (3.2.2.3 there). */
const BAD_CREDENTIALS = { five: 0x86, three: 4 } as const
const BAD_CLIENT = { five: 0x85, three: 2 } as const

/**
 * The route is the topic of a PUBLISH; `matches(filter, topic)` helps a catch-all.
 *
 * What a handler returns is not sent: QoS 1 and 2 are acknowledged once its promise is settled, and the message then goes to
 * the subscribers. It throws to refuse the message (version 5 says so, 3.1.1 has no words for it). Keep-alive is enforced at
 * one and a half times its value, wills are published when a connection ends without DISCONNECT. QoS 2 is taken once.
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
  }),
  create(options, services) {
    const library = peerPackage<Library>('mqtt-packet', 'protocol mqtt')
    const broker = new Broker(options, services)
    return {
      codec: new MqttCodec(library),
      needs: { ordered: true, reliable: true },
      middleware: {
        name: 'mqtt',
        connection({ connection }, next) {
          broker.begin(connection)
          void connection.closed.then((reason) => broker.end(connection, reason))
          return next()
        },
        message: (context, next) => broker.step(context, next),
      },
      detect,
      survives: (error) => !(error instanceof FrameError),
      goodbye: (connection) =>
        broker.versionOf(connection) === 5 ? { cmd: 'disconnect', reasonCode: 0x8b } : undefined,
    }
  },
}

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

class MqttCodec implements Codec {
  readonly framer = { open: (limits: FrameLimits) => new PacketReader(limits) }
  readonly #library: Library

  constructor(library: Library) {
    this.#library = library
  }

  decode(frame: Uint8Array, context: CodecContext): Packet {
    const version = (context.state as number | undefined) ?? 4
    const parser = this.#library.parser({ protocolVersion: version })
    let found: Packet | undefined
    let failure: Error | undefined
    parser.on('packet', (packet) => {
      found = packet
    })
    parser.on('error', (error) => {
      failure = error
    })
    try {
      parser.parse(Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength))
    } catch (thrown) {
      failure = toError(thrown)
    }
    if (found === undefined) throw malformed('an MQTT packet', failure?.message ?? 'a part of one')
    if (found.cmd === 'connect') context.state = found.protocolVersion
    return found
  }

  encode(packet: unknown, { state }: CodecContext): Buffer {
    return this.#library.generate(packet as object, { protocolVersion: (state as number | undefined) ?? 4 })
  }

  route(packet: unknown): string | undefined {
    const { cmd, topic } = packet as { cmd: string; topic?: string }
    return cmd === 'publish' ? topic : undefined
  }
}

class Broker {
  readonly #options: MqttOptions
  readonly #services: PluginServices
  readonly #sessions = new Map<Connection, Session>()

  constructor(options: MqttOptions, services: PluginServices) {
    this.#options = options
    this.#services = services
  }

  begin(connection: Connection): void {
    this.#sessions.set(connection, {
      client: undefined,
      will: undefined,
      keepAliveMs: 0,
      heardAt: this.#services.clock.now(),
      cancel: () => {},
      filters: new Map(),
      taken: new Set(),
      sent: new Map(),
      waiting: [],
      lastId: 0,
    })
  }

  versionOf(connection: Connection): number | undefined {
    return this.#sessions.get(connection)?.client?.version
  }

  end(connection: Connection, _reason: CloseReason): void {
    const session = this.#sessions.get(connection)
    this.#sessions.delete(connection)
    session?.cancel()
    // 3.1.2.5: a will is for those who did not say goodbye.
    if (session?.will !== undefined) this.publish(session.will)
  }

  step(context: MessageContext, next: () => unknown): unknown {
    const { connection } = context
    const packet = context.message as Packet
    const session = this.#sessions.get(connection) as Session
    session.heardAt = this.#services.clock.now()
    if ((session.client === undefined) !== (packet.cmd === 'connect')) {
      throw malformed(session.client === undefined ? 'CONNECT first' : 'CONNECT once', packet.cmd)
    }
    const messageId = packet.messageId as number
    switch (packet.cmd) {
      case 'connect':
        return this.#connect(connection, session, packet)
      case 'publish':
        return this.#published(context, session, packet, next)
      case 'pubrel':
        session.taken.delete(messageId)
        return { cmd: 'pubcomp', messageId }
      case 'pubrec':
        return { cmd: 'pubrel', messageId }
      case 'puback':
      case 'pubcomp':
        session.sent.delete(messageId)
        this.#sendWaiting(connection, session)
        return undefined
      case 'subscribe':
        return this.#subscribe(session, packet)
      case 'unsubscribe': {
        const names = packet.unsubscriptions as string[]
        const granted = names.map((name) => (session.filters.delete(name) ? 0 : 0x11))
        return { cmd: 'unsuback', messageId, granted }
      }
      case 'pingreq':
        return { cmd: 'pingresp' }
      case 'disconnect':
        // 3.14.4: reason 4 asks for the will all the same.
        if (packet.reasonCode !== 4) session.will = undefined
        void connection.close()
        return undefined
      default:
        throw malformed('a packet that clients send', packet.cmd)
    }
  }

  #connect(connection: Connection, session: Session, packet: Packet): unknown {
    const {
      protocolVersion,
      clientId = '',
      username,
      password,
      will,
      keepalive,
    } = packet as never as {
      protocolVersion: 3 | 4 | 5
      clientId: string
      username?: string
      password?: Buffer
      will?: Packet
      keepalive: number
    }
    const isFive = protocolVersion === 5
    const refuse = (code: { five: number; three: number }) => {
      void connection.send({ cmd: 'connack', reasonCode: code.five, returnCode: code.three, sessionPresent: false })
      void connection.close('REFUSED')
      return undefined
    }
    // 3.1.3.1: in 3.1.1 a client without a name cannot ask for a session that is kept.
    if (clientId === '' && !isFive && packet.clean !== true) return refuse(BAD_CLIENT)
    const assigned = clientId === '' ? `auto-${connection.id}` : undefined
    const client: MqttClient = { clientId: assigned ?? clientId, user: username, version: protocolVersion }
    const accept = () => {
      session.client = client
      session.will = will === undefined ? undefined : { ...will, cmd: 'publish' }
      // 3.1.4: a second connection of one client takes the place of the first.
      for (const [other, { client: known }] of this.#sessions) {
        if (other !== connection && known?.clientId === client.clientId) void other.close('TAKEN_OVER')
      }
      session.keepAliveMs = keepalive * 1_500
      this.#watch(connection, session)
      const properties = assigned === undefined ? {} : { properties: { assignedClientIdentifier: assigned } }
      return { cmd: 'connack', reasonCode: 0, returnCode: 0, sessionPresent: false, ...(isFive ? properties : {}) }
    }
    const { authenticate } = this.#options
    if (authenticate === undefined) return accept()
    const settle = (isKnown: boolean) => (isKnown ? accept() : refuse(BAD_CREDENTIALS))
    const known = authenticate(client, password?.toString() ?? '', connection)
    return isThenable(known) ? known.then(settle) : settle(known as boolean)
  }

  #watch(connection: Connection, session: Session): void {
    if (session.keepAliveMs === 0) return
    const { clock } = this.#services
    const arm = (ms: number) => {
      session.cancel = clock.after(ms, () => {
        const left = session.heardAt + session.keepAliveMs - clock.now()
        if (left > 0) arm(Math.ceil(left))
        else void connection.close('KEEP_ALIVE_TIMEOUT')
      })
    }
    arm(session.keepAliveMs)
  }

  #published(context: MessageContext, session: Session, packet: Packet, next: () => unknown): unknown {
    const {
      qos,
      topic,
      payload,
      retain,
      properties = {},
      messageId,
    } = packet as never as {
      qos: 0 | 1 | 2
      topic: string
      payload: Buffer
      retain: boolean
      properties?: Record<string, unknown>
      messageId: number
    }
    if (!isTopic(topic)) throw malformed('a topic without wildcards', JSON.stringify(topic))
    // 4.3.3: sent again because our answer was lost; it was handled.
    if (qos === 2 && session.taken.has(messageId)) return { cmd: 'pubrec', messageId }
    const bytes = Buffer.from(payload)
    const client = session.client as MqttClient
    context.message = { topic, payload: bytes, qos, retain, properties, client } satisfies MqttMessage
    const done = () => {
      this.publish({ cmd: 'publish', topic, payload: bytes, qos, properties })
      if (qos === 1) return { cmd: 'puback', messageId }
      if (qos === 2) session.taken.add(messageId)
      return qos === 2 ? { cmd: 'pubrec', messageId } : undefined
    }
    const failed = (thrown: unknown): unknown => {
      // Topics that no method takes are for subscribers alone.
      if (thrown instanceof UnroutedMessageError) return done()
      const isTold = client.version === 5 && qos > 0
      if (isTold) void context.connection.send({ cmd: qos === 1 ? 'puback' : 'pubrec', messageId, reasonCode: 0x80 })
      throw thrown
    }
    try {
      const handled = next()
      return isThenable(handled) ? handled.then(done, failed) : done()
    } catch (thrown) {
      return failed(thrown)
    }
  }

  #subscribe(session: Session, packet: Packet): unknown {
    const wanted = packet.subscriptions as { topic: string; qos: 0 | 1 | 2 }[]
    const granted = wanted.map(({ topic, qos }) => {
      const isNew = !session.filters.has(topic)
      if (!isFilter(topic)) return session.client?.version === 5 ? 0x8f : 0x80
      if (isNew && session.filters.size >= this.#options.subscriptions)
        return session.client?.version === 5 ? 0x97 : 0x80
      session.filters.set(topic, qos)
      return qos
    })
    return { cmd: 'suback', messageId: packet.messageId, granted }
  }

  /** To everybody whose filters take it, once each, at the best quality that was granted. */
  publish(packet: Packet): void {
    const { topic, payload, properties } = packet as never as { topic: string; payload: Buffer; properties?: object }
    for (const [connection, session] of this.#sessions) {
      let best = -1
      for (const [filter, qos] of session.filters) if (qos > best && matches(filter, topic)) best = qos
      if (best < 0) continue
      const qos = Math.min(best, packet.qos as number)
      const own = session.client?.version === 5 && properties !== undefined ? { properties } : {}
      this.#send(connection, session, { cmd: 'publish', topic, payload, qos, retain: false, dup: false, ...own })
    }
  }

  #send(connection: Connection, session: Session, packet: Packet): void {
    if (packet.qos === 0) return void connection.send(packet)
    if (session.sent.size >= this.#options.inFlight) {
      // Who does not acknowledge is not served without end.
      if (session.waiting.length < 1_000) session.waiting.push(packet)
      else void connection.close('SLOW_PEER')
      return
    }
    do session.lastId = (session.lastId % 65_535) + 1
    while (session.sent.has(session.lastId))
    const numbered = { ...packet, messageId: session.lastId }
    session.sent.set(session.lastId, numbered)
    void connection.send(numbered)
  }

  #sendWaiting(connection: Connection, session: Session): void {
    while (session.waiting.length > 0 && session.sent.size < this.#options.inFlight)
      this.#send(connection, session, session.waiting.shift() as Packet)
  }
}
