/**
 * The dialogue of MQTT: who is connected, what they publish, what they subscribed to.
 *
 * Room: plugins/protocols.
 */
import type { Connection } from '../../../core/connection.js'
import type { MessageContext } from '../../../core/context.js'
import { FrameError, UnroutedMessageError } from '../../../core/errors.js'
import type { PluginServices } from '../../../core/plugin.js'
import { isThenable, malformed } from '../text-support.js'
import { type Qos, Retained, Subscriptions } from './subscriptions.js'
import { isFilter, isTopic } from './topics.js'
import type { MqttCodec, Packet, PacketBatch } from './wire.js'

export interface MqttOptions {
  readonly authenticate?: (client: MqttClient, password: string, connection: Connection) => boolean | Promise<boolean>
  readonly inFlight: number
  readonly subscriptions: number
  readonly retained: number
  readonly sessions: number
  readonly sessionMs: number
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

/** What a client has asked for, and what it is owed: as long as its connection, or longer where it asked for that. */
interface Session {
  /** Undefined: the client is away. */
  connection: Connection | undefined
  client: MqttClient | undefined
  will: Publication | undefined
  keepAliveMs: number
  heardAt: number
  cancel: () => void
  /** QoS 2 packets taken and not yet released: their numbers are used once. */
  readonly taken: Set<number>
  /** Ours, unacknowledged. */
  readonly sent: Map<number, Sent>
  readonly waiting: Packet[]
  lastId: number
  /** How long it outlives its connection. */
  keepMs: number
  /** Of what waits since the client went away. */
  awayBytes: number
  /** What may be unacknowledged, and how large a packet may be: ours and the client's word (3.1.2.11). */
  inFlight: number
  mostBytes: number
}

/** What is sent again to a client that comes back; undefined: nothing, its session ends with its connection. */
type Sent = Packet | undefined

/** What goes to subscribers. */
export interface Publication {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: Qos
  readonly retain: boolean
  readonly properties: Readonly<Record<string, unknown>>
}

/** Reason codes of version 5, and their return codes in 3.1.1 (3.2.2.3 there). */
const BAD_VERSION = { five: 0x84, three: 1 } as const
const BAD_CREDENTIALS = { five: 0x86, three: 4 } as const
const BAD_CLIENT = { five: 0x85, three: 2 } as const
const BAD_METHOD = { five: 0x8c, three: 5 } as const
const MALFORMED = 0x81
const TOO_LARGE = 0x95
const TAKEN_OVER = 0x8e
const KEEP_ALIVE = 0x8d
/** Messages that wait behind those unacknowledged. */
const MOST_WAITING = 1_000
/** What waits for all clients that are away. */
const MOST_AWAY_BYTES = 16 * 1024 * 1024

const brokers = new WeakMap<Connection, Broker>()

/**
 * Publishes to the subscribers of the server that a connection belongs to, as if a client had.
 *
 * @example
 * publish(connection, { topic: 'alarms/door', payload: 'open', retain: true })
 */
export function publish(
  connection: Connection,
  message: {
    readonly topic: string
    readonly payload: string | Uint8Array
    readonly qos?: Qos
    readonly retain?: boolean
  },
): void {
  const { topic, payload, qos = 0, retain = false } = message
  if (!isTopic(topic)) throw malformed('a topic without wildcards', JSON.stringify(topic))
  brokers.get(connection)?.publish({ topic, payload: Buffer.from(payload), qos, retain, properties: {} }, undefined)
}

export class Broker {
  readonly #options: MqttOptions
  readonly #services: PluginServices
  readonly #codec: MqttCodec
  readonly #sessions = new Map<Connection, Session>()
  readonly #clients = new Map<string, Session>()
  readonly #subscriptions = new Subscriptions<Session>()
  readonly #retained: Retained
  /** Whose clients are away; the first went first. */
  readonly #kept = new Set<Session>()
  /** When those were queued that are not to be had for ever (3.3.2.3.3). */
  readonly #queuedAt = new WeakMap<Packet, number>()
  #awayBytes = 0

  constructor(options: MqttOptions, services: PluginServices, codec: MqttCodec) {
    this.#options = options
    this.#services = services
    this.#codec = codec
    this.#retained = new Retained(options.retained, () => services.clock.now())
  }

  begin(connection: Connection): void {
    brokers.set(connection, this)
    this.#sessions.set(connection, {
      connection,
      client: undefined,
      will: undefined,
      keepAliveMs: 0,
      heardAt: this.#services.clock.now(),
      cancel: () => {},
      taken: new Set(),
      sent: new Map(),
      waiting: [],
      lastId: 0,
      keepMs: 0,
      awayBytes: 0,
      inFlight: this.#options.inFlight,
      mostBytes: Number.POSITIVE_INFINITY,
    })
  }

  end(connection: Connection): void {
    const session = this.#sessions.get(connection)
    if (session === undefined) return
    this.#sessions.delete(connection)
    // Another connection has taken it up.
    if (session.connection !== connection) return
    session.cancel()
    const { client, will, keepMs } = session
    session.connection = undefined
    session.will = undefined
    const isCurrent = client !== undefined && this.#clients.get(client.clientId) === session
    if (isCurrent && keepMs > 0) this.#keep(session)
    else this.#forget(session)
    // 3.1.2.5: a will is for those who did not say goodbye.
    if (will !== undefined) this.publish(will, undefined)
  }

  /** For a client that is away, and for a while. */
  #keep(session: Session): void {
    this.#kept.add(session)
    session.cancel = this.#services.clock.after(session.keepMs, () => this.#forget(session))
    for (const packet of [...session.sent.values(), ...session.waiting]) session.awayBytes += sizeOf(packet)
    this.#awayBytes += session.awayBytes
    while (this.#kept.size > this.#options.sessions || this.#awayBytes > MOST_AWAY_BYTES)
      this.#forget(this.#kept.values().next().value as Session)
  }

  #forget(session: Session): void {
    const { client } = session
    session.cancel()
    this.#unkeep(session)
    this.#subscriptions.leave(session)
    if (client !== undefined && this.#clients.get(client.clientId) === session) this.#clients.delete(client.clientId)
  }

  #unkeep(session: Session): void {
    this.#kept.delete(session)
    this.#awayBytes -= session.awayBytes
    session.awayBytes = 0
  }

  /** Version 5 says why it ends a connection; 3.1.1 has no words for it. */
  farewell(connection: Connection, reasonCode: number): Packet | undefined {
    return this.#sessions.get(connection)?.client?.version === 5 ? { cmd: 'disconnect', reasonCode } : undefined
  }

  errorOf(error: Error, connection: Connection): Packet | undefined {
    if (!(error instanceof FrameError) || error.code === 'TRUNCATED') return undefined
    if (error.fields.isVersion === true && this.#sessions.get(connection)?.client === undefined)
      return { cmd: 'connack', returnCode: BAD_VERSION.three, reasonCode: BAD_VERSION.five, sessionPresent: false }
    return this.farewell(connection, error.code === 'TOO_LARGE' ? TOO_LARGE : MALFORMED)
  }

  step(context: MessageContext, next: () => unknown): unknown {
    const { connection } = context
    const packet = context.message as Packet | PacketBatch
    if (packet.cmd === 'batch') return this.#each(context, (packet as PacketBatch).packets)
    const session = this.#sessions.get(connection) as Session
    session.heardAt = this.#services.clock.now()
    if ((session.client === undefined) !== (packet.cmd === 'connect')) {
      throw malformed(session.client === undefined ? 'CONNECT first' : 'CONNECT once', packet.cmd)
    }
    const { messageId = 0, reasonCode } = packet as Packet
    switch (packet.cmd) {
      case 'connect':
        return this.#connect(session, packet as Packet)
      case 'publish':
        return this.#published(context, session, packet as Packet, next)
      case 'pubrel':
        return { cmd: 'pubcomp', messageId, reasonCode: session.taken.delete(messageId) ? 0 : NO_ID }
      case 'pubrec':
        // 4.3.3: refused, it is over; else it is to be released.
        if (!session.sent.has(messageId)) return { cmd: 'pubrel', messageId, reasonCode: NO_ID }
        if (Number(reasonCode ?? 0) < 0x80) {
          const released: Packet = { cmd: 'pubrel', messageId }
          if (session.keepMs > 0) session.sent.set(messageId, released)
          return released
        }
        return this.#acknowledged(session, messageId)
      case 'puback':
      case 'pubcomp':
        return this.#acknowledged(session, messageId)
      case 'subscribe':
        return this.#subscribe(session, packet as Packet)
      case 'unsubscribe': {
        const names = (packet as Packet).unsubscriptions as string[]
        const granted = names.map((name) => (this.#subscriptions.delete(session, name) ? 0 : 0x11))
        return { cmd: 'unsuback', messageId, granted }
      }
      case 'pingreq':
        return { cmd: 'pingresp' }
      case 'disconnect':
        // 3.14.4: reason 4 asks for the will all the same.
        if (reasonCode !== 4) session.will = undefined
        // 3.14.2.2.2: nobody can ask for it at the end who has not at the beginning.
        if (session.keepMs > 0) session.keepMs = this.#keepMs(packet as Packet, session.keepMs)
        void connection.close()
        return undefined
      default:
        throw malformed('a packet that clients send', packet.cmd)
    }
  }

  /** One after the other, each with its own reply. */
  #each(context: MessageContext, packets: readonly Packet[]): unknown {
    for (let index = 0; index < packets.length; index++) {
      const packet = packets[index] as Packet
      const said = context.handle(packet, packet.cmd === 'publish' ? (packet.topic as string) : undefined)
      const send = (reply: unknown) => {
        if (reply !== undefined) void context.connection.send(reply)
      }
      if (!isThenable(said)) send(said)
      else {
        return Promise.resolve(said).then((reply) => {
          send(reply)
          return this.#each(context, packets.slice(index + 1))
        })
      }
    }
    return undefined
  }

  #connect(session: Session, packet: Packet): unknown {
    const connection = session.connection as Connection
    const given = packet as never as {
      protocolVersion: 3 | 4 | 5
      clientId?: string
      username?: string
      password?: Buffer
      will?: { topic: string; payload: Buffer; qos: Qos; retain: boolean; properties?: Record<string, unknown> }
      keepalive?: number
      clean?: boolean
      properties?: Record<string, unknown>
    }
    const { protocolVersion, clientId = '', username, password, will, keepalive = 0, properties = {} } = given
    const isFive = protocolVersion === 5
    const refuse = (code: { five: number; three: number }) => {
      void connection.send({ cmd: 'connack', reasonCode: code.five, returnCode: code.three, sessionPresent: false })
      void connection.close('REFUSED')
      return undefined
    }
    // 3.1.3.1: in 3.1.1 a client without a name cannot ask for a session that is kept.
    if (clientId === '' && !isFive && given.clean !== true) return refuse(BAD_CLIENT)
    if (properties.authenticationMethod !== undefined) return refuse(BAD_METHOD)
    if (will !== undefined && !isTopic(will.topic)) throw malformed('a will with a topic', JSON.stringify(will.topic))
    const assigned = clientId === '' ? `auto-${connection.id}` : undefined
    const client: MqttClient = { clientId: assigned ?? clientId, user: username, version: protocolVersion }
    const accept = () => {
      // 3.1.4: a second connection of one client takes the place of the first.
      const other = this.#clients.get(client.clientId)
      const isPresent = other !== undefined && other.keepMs > 0 && !given.clean && other.client?.user === username
      if (other?.connection !== undefined) this.#part(other.connection, TAKEN_OVER, 'TAKEN_OVER')
      const mine = isPresent ? this.#takeUp(other, connection) : session
      if (!isPresent && other !== undefined && other.connection === undefined) this.#forget(other)
      mine.client = client
      if (will !== undefined) {
        const { willDelayInterval: _, ...kept } = will.properties ?? {}
        const { topic, payload, qos, retain } = will
        mine.will = { topic, payload: Buffer.from(payload), qos, retain, properties: kept }
      }
      this.#clients.set(client.clientId, mine)
      mine.inFlight = Math.min(this.#options.inFlight, positive(properties.receiveMaximum))
      mine.mostBytes = positive(properties.maximumPacketSize)
      mine.keepAliveMs = keepalive * 1_500
      mine.keepMs = isFive ? this.#keepMs(packet, 0) : given.clean ? 0 : this.#keepMs(packet, this.#options.sessionMs)
      this.#watch(connection, mine)
      const granted = isFive ? { properties: this.#terms(assigned, properties, mine.keepMs) } : {}
      const said = { cmd: 'connack', reasonCode: 0, returnCode: 0, sessionPresent: isPresent, ...granted }
      if (!isPresent) return said
      void connection.send(said)
      this.#sendAgain(mine)
      return undefined
    }
    const { authenticate } = this.#options
    if (authenticate === undefined) return accept()
    const settle = (isKnown: boolean) => (isKnown ? accept() : refuse(BAD_CREDENTIALS))
    const known = authenticate(client, password?.toString() ?? '', connection)
    return isThenable(known) ? known.then(settle) : settle(known as boolean)
  }

  /** How long a session is kept that was asked for: no longer than ours are. */
  #keepMs({ properties }: Packet, otherwise: number): number {
    const { sessions, sessionMs } = this.#options
    const seconds = (properties as { sessionExpiryInterval?: unknown } | undefined)?.sessionExpiryInterval
    return sessions === 0 ? 0 : Math.min(typeof seconds === 'number' ? seconds * 1_000 : otherwise, sessionMs)
  }

  /** A session goes on with another connection. */
  #takeUp(session: Session, connection: Connection): Session {
    const { will } = session
    session.cancel()
    this.#unkeep(session)
    session.connection = connection
    session.will = undefined
    session.heardAt = this.#services.clock.now()
    this.#sessions.set(connection, session)
    // Its connection has not said goodbye.
    if (will !== undefined) this.publish(will, undefined)
    return session
  }

  /** 4.4: what was not acknowledged, in its order, and what has come meanwhile. */
  #sendAgain(session: Session): void {
    for (const [messageId, packet] of session.sent) {
      const again = packet?.cmd === 'publish' ? { ...packet, dup: true, messageId } : packet
      if (again !== undefined) void session.connection?.send(again)
    }
    this.#sendWaiting(session)
  }

  /** What version 5 is told of this server (3.2.2.3). */
  #terms(
    assigned: string | undefined,
    asked: Readonly<Record<string, unknown>>,
    keepMs: number,
  ): Record<string, unknown> {
    const isLess = positive(asked.sessionExpiryInterval) < Number.POSITIVE_INFINITY
    return {
      ...(assigned === undefined ? {} : { assignedClientIdentifier: assigned }),
      // How long it is really kept, whatever was asked for.
      ...(isLess ? { sessionExpiryInterval: Math.floor(keepMs / 1_000) } : {}),
      ...(this.#options.retained === 0 ? { retainAvailable: false } : {}),
      sharedSubscriptionAvailable: false,
      subscriptionIdentifiersAvailable: false,
    }
  }

  #part(connection: Connection, reasonCode: number, reason: string): void {
    const said = this.farewell(connection, reasonCode)
    if (said !== undefined) void connection.send(said)
    void connection.close(reason)
  }

  #watch(connection: Connection, session: Session): void {
    if (session.keepAliveMs === 0) return
    const { clock } = this.#services
    const arm = (ms: number) => {
      session.cancel = clock.after(ms, () => {
        const left = session.heardAt + session.keepAliveMs - clock.now()
        if (left > 0) arm(Math.ceil(left))
        else this.#part(connection, KEEP_ALIVE, 'KEEP_ALIVE_TIMEOUT')
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
      messageId = 0,
    } = packet as never as {
      qos: Qos
      topic: string
      payload: Buffer
      retain: boolean
      properties?: Record<string, unknown>
      messageId?: number
    }
    if (!isTopic(topic)) throw malformed('a topic without wildcards', JSON.stringify(topic))
    if (qos > 0 && messageId === 0) throw malformed('a packet identifier', '0')
    // 3.3.2.3.4: this server has not offered any.
    if (properties.topicAlias !== undefined) throw malformed('no topic alias', String(properties.topicAlias))
    // 4.3.3: sent again because our answer was lost; it was handled.
    if (qos === 2 && session.taken.has(messageId)) return { cmd: 'pubrec', messageId }
    const bytes = Buffer.from(payload)
    const client = session.client as MqttClient
    context.message = { topic, payload: bytes, qos, retain, properties, client } satisfies MqttMessage
    const done = () => {
      this.publish({ topic, payload: bytes, qos, retain, properties }, session)
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
    const { client } = session
    const isFive = client?.version === 5
    const { subscriptions, messageId, properties } = packet as never as {
      subscriptions: { topic: string; qos: Qos; nl?: boolean; rap?: boolean; rh?: number }[]
      messageId: number
      properties?: { subscriptionIdentifier?: unknown }
    }
    if (properties?.subscriptionIdentifier !== undefined) throw malformed('no subscription identifier', 'one')
    const late: { readonly filter: string; readonly qos: Qos }[] = []
    const granted = subscriptions.map(({ topic: filter, qos, nl = false, rap = false, rh = 0 }) => {
      if (!isFilter(filter)) return isFive ? 0x8f : 0x80
      if (filter.startsWith('$share/')) return isFive ? 0x9e : 0x80
      const isNew = !this.#subscriptions.has(session, filter)
      if (isNew && this.#subscriptions.count(session) >= this.#options.subscriptions) return isFive ? 0x97 : 0x80
      this.#subscriptions.set(session, filter, { qos, noLocal: isFive && nl, asPublished: isFive && rap })
      // 3.8.3.1: 1 is "only where it is new", 2 is "not at all".
      if (!isFive || rh === 0 || (rh === 1 && isNew)) late.push({ filter, qos })
      return qos
    })
    void session.connection?.send({ cmd: 'suback', messageId, granted })
    for (const { filter, qos } of late) {
      for (const message of this.#retained.under(filter))
        this.#send(session, packetOf(message, Math.min(qos, message.qos) as Qos, true, isFive))
    }
    return undefined
  }

  /** To everybody whose filters take it, once each, at the best quality that was granted. */
  publish(message: Publication, from: Session | undefined): void {
    if (message.retain) this.#retained.keep(message)
    /** What is the same for many is written once. */
    const written = new Map<string, Buffer>()
    for (const [session, { qos: best, noLocal, asPublished }] of this.#subscriptions.wanting(message.topic)) {
      if (noLocal && session === from) continue
      const qos = Math.min(best, message.qos) as Qos
      const version = session.client?.version ?? 4
      const retain = asPublished && message.retain
      if (qos === 0 && session.connection === undefined) continue
      const packet = packetOf(message, qos, retain, version === 5)
      if (qos > 0 || session.mostBytes < Number.POSITIVE_INFINITY) {
        this.#send(session, packet)
        continue
      }
      const key = `${version}${retain}`
      let bytes = written.get(key)
      if (bytes === undefined) written.set(key, (bytes = this.#codec.bytesOf(packet, version)))
      void session.connection?.send(bytes)
    }
  }

  #send(session: Session, packet: Packet): void {
    const { connection } = session
    // 3.1.2.11.4: what is too large for this client is not for it.
    if (session.mostBytes < Number.POSITIVE_INFINITY) {
      const numbered = packet.qos === 0 ? packet : { ...packet, messageId: 1 }
      if (this.#codec.bytesOf(numbered, session.client?.version ?? 4).length > session.mostBytes) return
    }
    if (connection === undefined) return this.#queueAway(session, packet)
    if (packet.qos === 0) return void connection.send(packet)
    if (session.sent.size >= session.inFlight) {
      // Who does not acknowledge is not served without end.
      if (session.waiting.length < MOST_WAITING) session.waiting.push(packet)
      else void connection.close('SLOW_PEER')
      return
    }
    do session.lastId = (session.lastId % 65_535) + 1
    while (session.sent.has(session.lastId))
    session.sent.set(session.lastId, session.keepMs > 0 ? packet : undefined)
    void connection.send({ ...packet, messageId: session.lastId })
  }

  /** Beyond its bounds it is lost: the client may be away for good. */
  #queueAway(session: Session, packet: Packet): void {
    const bytes = sizeOf(packet)
    const isFull = session.waiting.length >= MOST_WAITING || this.#awayBytes + bytes > MOST_AWAY_BYTES
    if (packet.qos === 0 || isFull) return
    session.waiting.push(packet)
    session.awayBytes += bytes
    this.#awayBytes += bytes
    if (expiryOf(packet) !== undefined) this.#queuedAt.set(packet, this.#services.clock.now())
  }

  #acknowledged(session: Session, messageId: number): undefined {
    if (session.sent.delete(messageId)) this.#sendWaiting(session)
    return undefined
  }

  #sendWaiting(session: Session): void {
    while (session.waiting.length > 0 && session.sent.size < session.inFlight) {
      const packet = this.#fresh(session.waiting.shift() as Packet)
      if (packet !== undefined) this.#send(session, packet)
    }
  }

  /** Message Expiry Interval (3.3.2.3.3): what is left of it is what is told; undefined: nothing is. */
  #fresh(packet: Packet): Packet | undefined {
    const at = this.#queuedAt.get(packet)
    const seconds = expiryOf(packet)
    if (at === undefined || seconds === undefined) return packet
    const left = Math.ceil(seconds - (this.#services.clock.now() - at) / 1_000)
    if (left <= 0) return undefined
    return { ...packet, properties: { ...(packet.properties as object), messageExpiryInterval: left } }
  }
}

/** Packet Identifier not found. */
const NO_ID = 0x92

function packetOf(
  { topic, payload, properties }: Pick<Publication, 'topic' | 'payload' | 'properties'>,
  qos: Qos,
  retain: boolean,
  isFive: boolean,
): Packet {
  return { cmd: 'publish', topic, payload, qos, retain, dup: false, ...(isFive ? { properties } : {}) }
}

function sizeOf(packet: Sent): number {
  const { topic = '', payload = '' } = (packet ?? {}) as Partial<Publication>
  return topic.length + payload.length
}

function expiryOf({ properties }: Packet): number | undefined {
  return (properties as { messageExpiryInterval?: number } | undefined)?.messageExpiryInterval
}

/** A number that a client gave; Infinity where it gave none. */
function positive(given: unknown): number {
  return typeof given === 'number' && given > 0 ? given : Number.POSITIVE_INFINITY
}
