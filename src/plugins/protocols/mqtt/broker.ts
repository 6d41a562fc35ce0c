/**
 * The dialogue of MQTT: who is connected, what they publish, what they subscribed to.
 *
 * Room: plugins/protocols.
 */
import type { Connection } from '../../../core/connection.js'
import type { MessageContext } from '../../../core/context.js'
import { FrameError, UnroutedMessageError } from '../../../core/errors.js'
import type { Account, DropReason, PluginServices } from '../../../core/plugin.js'
import { giveWay, InOrder } from '../give-way.js'
import { Parcel } from '../parcel.js'
import { isThenable, malformed } from '../text-support.js'
import { Owed, type Owing, parcelOf } from './owed.js'
import { bytesOf, Retained } from './retained.js'
import { isWild, type Publication, type Qos, Subscriptions } from './subscriptions.js'
import { isFilter, isTopic, levelsOf } from './topics.js'
import type { MqttCodec, Packet, PacketBatch } from './wire.js'

export interface MqttOptions {
  readonly authenticate?: (client: MqttClient, password: string, connection: Connection) => boolean | Promise<boolean>
  readonly inFlight: number
  readonly subscriptions: number
  readonly queueBytes: number
  readonly retained: number
  readonly retainedBytes: number
  readonly sessions: number
  readonly sessionBytes: number
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
  keepAliveMs: number
  heardAt: number
  cancel: () => void
  /** QoS 2 packets taken and not yet released: their numbers are used once. */
  readonly taken: Set<number>
  readonly owed: Owed
  /** Retained messages that it has still to get on this connection. */
  late: Late | undefined
  /** Its publications, one after the other. */
  readonly order: InOrder
  lastId: number
  /** Its messages had to go: it ends with its connection. */
  isDropped: boolean
  /** How long it outlives its connection. */
  keepMs: number
  /** What may be unacknowledged, and how large a packet may be: ours and the client's word (3.1.2.11). */
  inFlight: number
  mostBytes: number
}

interface Late {
  readonly filters: Map<string, Qos>
  /** It has acknowledged something, or is gone. */
  moved: () => void
}

/** Of one connection: published when it ends without goodbye. */
interface Will {
  readonly publication: Publication
  readonly client: MqttClient
  readonly session: Session
  readonly bytes: number
}

/** As CONNECT brings it. */
interface GivenWill {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: Qos
  readonly retain: boolean
  readonly properties?: Record<string, unknown>
}

/** A will as it goes to its handler: like a packet that came by itself, but the connection is over. */
interface WillPacket {
  readonly cmd: 'will'
  readonly will: Will
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
const QUOTA = 0x97
/** Messages that wait behind those unacknowledged. */
const MOST_WAITING = 1_000
/** What a number of QoS 2 costs that was taken. */
const TAKEN_BYTES = 48
/** Others are asked after so much work: a subscriber is 4, a filter to compare is 1. */
const WORK = 64

const brokers = new WeakMap<Connection, Broker>()

/**
 * Publishes to the subscribers of the server that a connection belongs to, as if a client had.
 *
 * @returns a promise where they are so many that others have their turn meanwhile; undefined: each was told.
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
): Promise<void> | undefined {
  const { topic, payload, qos = 0, retain = false } = message
  if (!isTopic(topic)) throw noTopic(topic)
  const publication = { topic, payload: Buffer.from(payload), qos, retain, properties: {} }
  return brokers.get(connection)?.publishFor(connection, publication)
}

export class Broker {
  readonly #options: MqttOptions
  readonly #services: PluginServices
  readonly #codec: MqttCodec
  readonly #sessions = new Map<Connection, Session>()
  readonly #clients = new Map<string, Session>()
  readonly #subscriptions = new Subscriptions<Session>()
  readonly #retained: Retained
  readonly #wills = new Map<Connection, Will>()
  /** Of publications that come from no client. */
  readonly #order = new InOrder()
  /** Of clients that are here, and of those that are away. */
  readonly #here: Account
  readonly #away: Account
  /** Whose clients are away; the first went first. */
  readonly #kept = new Set<Session>()

  constructor(options: MqttOptions, services: PluginServices, codec: MqttCodec) {
    this.#options = options
    this.#services = services
    this.#codec = codec
    const { budget, clock } = services
    const retained = budget.open({ name: 'mqtt.retained', limit: options.retainedBytes, whenFull: 'oldest' })
    this.#retained = new Retained(options.retained, retained, () => clock.now())
    this.#here = budget.open({ name: 'mqtt.queued', limit: options.queueBytes, whenFull: 'largest' })
    this.#away = budget.open({ name: 'mqtt.away', limit: options.sessionBytes, whenFull: 'refuse' })
  }

  begin(connection: Connection): void {
    brokers.set(connection, this)
    const session: Session = {
      connection,
      client: undefined,
      keepAliveMs: 0,
      heardAt: this.#services.clock.now(),
      cancel: () => {},
      taken: new Set(),
      owed: new Owed(this.#here, (reason) => this.#dropped(session, reason)),
      late: undefined,
      order: new InOrder(),
      lastId: 0,
      isDropped: false,
      keepMs: 0,
      inFlight: this.#options.inFlight,
      mostBytes: Number.POSITIVE_INFINITY,
    }
    this.#sessions.set(connection, session)
  }

  end(connection: Connection): void {
    const session = this.#sessions.get(connection)
    if (session === undefined) return
    this.#sessions.delete(connection)
    // Another connection has taken it up.
    if (session.connection !== connection) return
    session.cancel()
    this.#endLate(session)
    const { client, keepMs } = session
    session.connection = undefined
    const isCurrent = client !== undefined && this.#clients.get(client.clientId) === session
    if (isCurrent && keepMs > 0) this.#keep(session)
    else this.#forget(session)
  }

  /** 3.1.2.5: a will is for those who did not say goodbye. Its topic's method is asked, as for whatever is published. */
  closing(connection: Connection, handle: (message: unknown, route: string | undefined) => unknown): unknown {
    const will = this.#wills.get(connection)
    if (will === undefined) return undefined
    this.#unwill(connection)
    const refused = () => undefined
    try {
      const said = handle({ cmd: 'will', will } satisfies WillPacket, will.publication.topic)
      // What it threw was told already.
      return isThenable(said) ? Promise.resolve(said).catch(refused) : undefined
    } catch {
      return refused()
    }
  }

  #unwill(connection: Connection): void {
    const will = this.#wills.get(connection)
    if (will === undefined) return
    this.#wills.delete(connection)
    will.session.owed.forget(will.bytes)
  }

  /** For a client that is away, and for a while. */
  #keep(session: Session): void {
    this.#kept.add(session)
    session.cancel = this.#services.clock.after(session.keepMs, () => this.#forget(session))
    if (this.#kept.size > this.#options.sessions) this.#forget(this.#kept.values().next().value as Session)
    const isKept = session.owed.moveTo(this.#away, () => this.#forget(session))
    if (!isKept) this.#forget(session)
  }

  #forget(session: Session): void {
    const { client } = session
    session.cancel()
    this.#kept.delete(session)
    session.owed.release()
    this.#subscriptions.leave(session)
    if (client !== undefined && this.#clients.get(client.clientId) === session) this.#clients.delete(client.clientId)
  }

  /** Others, or the server, need the room: messages are missing from now on, so that nothing of it is worth keeping. */
  #dropped(session: Session, reason: DropReason): void {
    const { connection } = session
    session.isDropped = true
    this.#endLate(session)
    this.#forget(session)
    if (connection !== undefined) this.#part(connection, QUOTA, reason === 'FULL' ? 'SLOW_PEER' : reason)
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
    if (packet.cmd === 'will') return this.#willed(context, (packet as never as WillPacket).will, next)
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
        return { cmd: 'pubcomp', messageId, reasonCode: this.#released(session, messageId) ? 0 : NO_ID }
      case 'pubrec':
        // 4.3.3: refused, it is over; else it is to be released.
        if (!session.owed.sent.has(messageId)) return { cmd: 'pubrel', messageId, reasonCode: NO_ID }
        if (Number(reasonCode ?? 0) < 0x80) {
          const released: Packet = { cmd: 'pubrel', messageId }
          session.owed.settle(session.owed.sent.get(messageId))
          session.owed.sent.set(
            messageId,
            session.keepMs > 0 ? { packet: released, parcel: undefined, at: 0 } : undefined,
          )
          return released
        }
        return this.#acknowledged(session, messageId)
      case 'puback':
      case 'pubcomp':
        return this.#acknowledged(session, messageId)
      case 'subscribe':
        return this.#subscribe(session, packet as Packet)
      case 'unsubscribe':
        return this.#unsubscribe(session, packet as Packet)
      case 'pingreq':
        return { cmd: 'pingresp' }
      case 'disconnect':
        // 3.14.4: reason 4 asks for the will all the same.
        if (reasonCode !== 4) this.#unwill(connection)
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
      will?: GivenWill
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
    if (will !== undefined && !isTopic(will.topic)) throw noTopic(will.topic)
    const assigned = clientId === '' ? `auto-${connection.id}` : undefined
    const client: MqttClient = { clientId: assigned ?? clientId, user: username, version: protocolVersion }
    const accept = () => {
      // 3.1.4: a second connection of one client takes the place of the first.
      const other = this.#clients.get(client.clientId)
      const isPresent = other !== undefined && other.keepMs > 0 && !given.clean && other.client?.user === username
      if (other?.connection !== undefined) this.#part(other.connection, TAKEN_OVER, 'TAKEN_OVER')
      const mine = isPresent ? this.#takeUp(other, connection) : session
      if (!isPresent && other !== undefined && other.connection === undefined) this.#forget(other)
      // There was no room for what it is owed, and it is cut already.
      if (mine.isDropped) return undefined
      mine.client = client
      this.#clients.set(client.clientId, mine)
      if (!isPresent) mine.owed.keep(256 + 2 * (client.clientId.length + (username?.length ?? 0)))
      if (will !== undefined) this.#will(connection, mine, will)
      if (mine.isDropped) return undefined
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

  #will(connection: Connection, session: Session, { topic, payload, qos, retain, properties = {} }: GivenWill): void {
    const { willDelayInterval: _, ...kept } = properties
    const publication = { topic, payload: Buffer.from(payload), qos, retain, properties: kept }
    const bytes = bytesOf(topic, publication.payload, kept)
    const client = session.client as MqttClient
    if (session.owed.keep(bytes)) this.#wills.set(connection, { publication, client, session, bytes })
  }

  /** A session goes on with another connection; the will of the one before is that one's. */
  #takeUp(session: Session, connection: Connection): Session {
    session.cancel()
    this.#kept.delete(session)
    this.#endLate(session)
    this.#sessions.get(connection)?.owed.release()
    session.connection = connection
    session.heardAt = this.#services.clock.now()
    this.#sessions.set(connection, session)
    session.owed.moveTo(this.#here, (reason) => this.#dropped(session, reason))
    return session
  }

  /** 4.4: what was not acknowledged, in its order, and what has come meanwhile. */
  #sendAgain(session: Session): void {
    for (const [messageId, owing] of session.owed.sent) {
      const packet = owing?.packet
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
    if (!isTopic(topic)) throw noTopic(topic)
    if (qos > 0 && messageId === 0) throw malformed('a packet identifier', '0')
    // 3.3.2.3.4: this server has not offered any.
    if (properties.topicAlias !== undefined) throw malformed('no topic alias', String(properties.topicAlias))
    // 4.3.3: sent again because our answer was lost; it was handled.
    if (qos === 2 && session.taken.has(messageId)) return { cmd: 'pubrec', messageId }
    const bytes = Buffer.from(payload)
    const client = session.client as MqttClient
    context.message = { topic, payload: bytes, qos, retain, properties, client } satisfies MqttMessage
    const answer = () => {
      if (qos === 1) return { cmd: 'puback', messageId }
      if (qos === 0) return undefined
      // Where there is no room for its number, the client is cut.
      if (session.owed.keep(TAKEN_BYTES)) session.taken.add(messageId)
      return { cmd: 'pubrec', messageId }
    }
    const done = () => {
      const told = this.#publish({ topic, payload: bytes, qos, retain, properties }, session, session.order)
      return told === undefined ? answer() : told.then(answer)
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

  /** Published where its topic's method does not throw. Nobody is there to be answered. */
  #willed(context: MessageContext, { publication, client, session }: Will, next: () => unknown): unknown {
    context.message = { ...publication, client } satisfies MqttMessage
    const done = () => this.#publish(publication, undefined, session.order)
    const failed = (thrown: unknown): unknown => {
      if (thrown instanceof UnroutedMessageError) return done()
      throw thrown
    }
    try {
      const handled = next()
      return isThenable(handled) ? handled.then(done, failed) : done()
    } catch (thrown) {
      return failed(thrown)
    }
  }

  #released(session: Session, messageId: number): boolean {
    if (!session.taken.delete(messageId)) return false
    session.owed.forget(TAKEN_BYTES)
    return true
  }

  #unsubscribe(session: Session, packet: Packet): unknown {
    const names = packet.unsubscriptions as string[]
    this.#checkEntries(names.length)
    const granted = names.map((name) => {
      if (!this.#subscriptions.delete(session, name)) return 0x11
      session.owed.forget(filterBytes(name))
      return 0
    })
    return { cmd: 'unsuback', messageId: packet.messageId ?? 0, granted }
  }

  /** What one packet asks for is bounded like what a client may have. */
  #checkEntries(entries: number): void {
    const { subscriptions: most } = this.#options
    if (entries > most)
      throw malformed(`at most ${most} filters in a packet (option \`subscriptions\`)`, String(entries))
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
    this.#checkEntries(subscriptions.length)
    const late = new Map<string, Qos>()
    const granted = subscriptions.map(({ topic: filter, qos, nl = false, rap = false, rh = 0 }) => {
      if (!isFilter(filter)) return isFive ? 0x8f : 0x80
      if (filter.startsWith('$share/')) return isFive ? 0x9e : 0x80
      const isNew = !this.#subscriptions.has(session, filter)
      if (isNew && this.#subscriptions.count(session) >= this.#options.subscriptions) return isFive ? QUOTA : 0x80
      if (isNew && !session.owed.keep(filterBytes(filter))) return isFive ? QUOTA : 0x80
      this.#subscriptions.set(session, filter, { qos, noLocal: isFive && nl, asPublished: isFive && rap })
      // 3.8.3.1: 1 is "only where it is new", 2 is "not at all".
      if (!isFive || rh === 0 || (rh === 1 && isNew)) late.set(filter, qos)
      return qos
    })
    void session.connection?.send({ cmd: 'suback', messageId, granted })
    if (late.size > 0 && this.#retained.size > 0) this.#tellLate(session, late)
    return undefined
  }

  /** Retained messages go at the client's pace, beside whatever else it says: what it acknowledges must be heard meanwhile. */
  #tellLate(session: Session, filters: Map<string, Qos>): void {
    const { late } = session
    if (late !== undefined) {
      for (const [filter, qos] of filters) late.filters.set(filter, qos)
      return
    }
    const begun: Late = { filters, moved: () => {} }
    session.late = begun
    const over = () => {
      if (session.late === begun) session.late = undefined
    }
    // It fails where the connection is over.
    void this.#sendLate(session, begun).then(over, over)
  }

  async #sendLate(session: Session, late: Late): Promise<void> {
    const { owed } = session
    const isFive = session.client?.version === 5
    const isOver = () => session.late !== late || session.connection === undefined || !isThere(session.connection)
    for (const [filter, granted] of late.filters) {
      late.filters.delete(filter)
      for (const topic of this.#retained.under(filter)) {
        const wait = this.#services.turns.breathe()
        if (wait !== undefined) await wait
        if (topic === undefined) continue
        while (!isOver() && granted > 0 && (owed.waiting.length > 0 || owed.sent.size >= session.inFlight))
          await new Promise<void>((resolve) => {
            late.moved = resolve
          })
        if (isOver()) return
        if (!this.#subscriptions.has(session, filter)) break
        // As it is now: a later one that came while we waited must not be followed by an earlier one.
        const message = this.#retained.get(topic)
        if (message === undefined) continue
        const publication = { ...message, retain: true }
        const qos = Math.min(granted, message.qos) as Qos
        await this.#send(session, packetOf(publication, qos, true, isFive), () => parcelOf(publication))
      }
    }
  }

  #endLate(session: Session): void {
    const { late } = session
    session.late = undefined
    late?.moved()
  }

  /** What the application publishes. */
  publishFor(connection: Connection, message: Publication): Promise<void> | undefined {
    return this.#publish(message, undefined, this.#sessions.get(connection)?.order ?? this.#order)
  }

  #publish(message: Publication, from: Session | undefined, order: InOrder): Promise<void> | undefined {
    return order.run(() => {
      if (message.retain) this.#retained.keep(message)
      return this.#tell(message, from)
    })
  }

  /** To everybody whose filters take it, once each, at the best quality that was granted. */
  #tell(message: Publication, from: Session | undefined): Promise<void> | undefined {
    /** What is the same for many is written once, and kept once. */
    const written = new Map<string, Buffer>()
    let parcel: Parcel | undefined
    const shared = () => (parcel ??= parcelOf(message))
    const levels = levelsOf(message.topic)
    const rest = this.#subscriptions.interested(message.topic).values()
    let work = 0
    return giveWay(() => {
      for (let next = rest.next(); next.done !== true; next = rest.next()) {
        const session = next.value
        this.#tellOne(session, message, session === from, levels, written, shared)
        work += 4 + this.#subscriptions.wildOf(session)
        if (work < WORK) continue
        work = 0
        const wait = this.#services.turns.breathe()
        if (wait !== undefined) return wait
      }
      return undefined
    })
  }

  #tellOne(
    session: Session,
    message: Publication,
    isOwn: boolean,
    levels: readonly string[],
    written: Map<string, Buffer>,
    parcel: () => Parcel,
  ): void {
    const wanted = this.#subscriptions.best(session, message.topic, levels)
    if (wanted === undefined || (wanted.noLocal && isOwn)) return
    const qos = Math.min(wanted.qos, message.qos) as Qos
    const version = session.client?.version ?? 4
    const retain = wanted.asPublished && message.retain
    if (qos === 0 && session.connection === undefined) return
    const packet = packetOf(message, qos, retain, version === 5)
    if (qos > 0 || session.mostBytes < Number.POSITIVE_INFINITY) {
      void this.#send(session, packet, parcel)
      return
    }
    const key = `${version}${retain}`
    let bytes = written.get(key)
    if (bytes === undefined) written.set(key, (bytes = this.#codec.bytesOf(packet, version)))
    void session.connection?.send(bytes)
  }

  /** @returns a promise where the client should not be sent more at once. */
  #send(session: Session, packet: Packet, parcel: () => Parcel): Promise<void> | undefined {
    const { connection, owed } = session
    // 3.1.2.11.4: what is too large for this client is not for it.
    if (session.mostBytes < Number.POSITIVE_INFINITY) {
      const numbered = packet.qos === 0 ? packet : { ...packet, messageId: 1 }
      if (this.#codec.bytesOf(numbered, session.client?.version ?? 4).length > session.mostBytes) return undefined
    }
    if (packet.qos === 0) return connection?.send(packet)
    const now = this.#services.clock.now()
    if (connection === undefined) {
      // Beyond its bounds it is lost: the client may be away for good. Of an account of its own, so it is shared with nobody.
      if (owed.waiting.length < MOST_WAITING) push(owed.waiting, owed.owing(packet, new Parcel(parcel().bytes), now))
      return undefined
    }
    if (owed.sent.size >= session.inFlight) {
      // Who does not acknowledge is not served without end: not in messages, and not in bytes.
      if (owed.waiting.length < MOST_WAITING) push(owed.waiting, owed.owing(packet, parcel(), now))
      else this.#part(connection, QUOTA, 'SLOW_PEER')
      return undefined
    }
    const owing = session.keepMs > 0 ? owed.owing(packet, parcel(), now) : undefined
    // There was no room for it, and the client had to go.
    if (session.keepMs > 0 && owing === undefined) return undefined
    return this.#sendNumbered(session, connection, packet, owing)
  }

  #sendNumbered(session: Session, connection: Connection, packet: Packet, owing: Owing | undefined): Promise<void> {
    const { sent } = session.owed
    do session.lastId = (session.lastId % 65_535) + 1
    while (sent.has(session.lastId))
    sent.set(session.lastId, owing)
    return connection.send({ ...packet, messageId: session.lastId })
  }

  #acknowledged(session: Session, messageId: number): undefined {
    const { owed } = session
    const owing = owed.sent.get(messageId)
    if (!owed.sent.delete(messageId)) return undefined
    owed.settle(owing)
    this.#sendWaiting(session)
    session.late?.moved()
    return undefined
  }

  #sendWaiting(session: Session): void {
    const { owed, connection } = session
    while (connection !== undefined && owed.waiting.length > 0 && owed.sent.size < session.inFlight) {
      const owing = owed.waiting.shift() as Owing
      const packet = this.#fresh(owing)
      // It stays where it is paid for, if it may have to be sent again.
      if (packet === undefined || session.keepMs === 0) owed.settle(owing)
      if (packet !== undefined)
        void this.#sendNumbered(session, connection, packet, session.keepMs > 0 ? { ...owing, packet } : undefined)
    }
  }

  /** Message Expiry Interval (3.3.2.3.3): what is left of it is what is told; undefined: nothing is. */
  #fresh({ packet, at }: Owing): Packet | undefined {
    const seconds = expiryOf(packet)
    if (seconds === undefined) return packet
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

/** What a subscription costs: its filter, and its levels where they are compared. */
function filterBytes(filter: string): number {
  return 160 + 2 * filter.length + (isWild(filter) ? 48 * levelsOf(filter).length : 0)
}

function noTopic(topic: string): Error {
  return malformed('a topic without wildcards, of at most 200 levels', JSON.stringify(topic.slice(0, 100)))
}

function isThere({ state }: Connection): boolean {
  return state === 'open' || state === 'peer-ended'
}

function push(waiting: Owing[], owing: Owing | undefined): void {
  if (owing !== undefined) waiting.push(owing)
}

function expiryOf({ properties }: Packet): number | undefined {
  return (properties as { messageExpiryInterval?: number } | undefined)?.messageExpiryInterval
}

/** A number that a client gave; Infinity where it gave none. */
function positive(given: unknown): number {
  return typeof given === 'number' && given > 0 ? given : Number.POSITIVE_INFINITY
}
