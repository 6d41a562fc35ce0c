/**
 * The dialogue of MQTT: who is connected, what they publish, what they subscribed to.
 *
 * Room: plugins/protocols.
 */

import type { Account, DropReason } from '../../../core/account.js'
import type { Connection } from '../../../core/connection.js'
import type { MessageContext } from '../../../core/context.js'
import { FrameError, UnroutedMessageError } from '../../../core/errors.js'
import type { PluginServices } from '../../../core/plugin.js'
import { isThenable } from '../../../core/thenable.js'
import { InOrder } from '../give-way.js'
import { malformed } from '../text-support.js'
import { Deliveries, QUOTA } from './deliveries.js'
import { Owed } from './owed.js'
import { bytesOf } from './retained.js'
import type { GivenWill, MqttClient, MqttMessage, MqttOptions, Session, Will, WillPacket } from './session.js'
import type { Publication, Qos } from './subscriptions.js'
import { isTopic } from './topics.js'
import type { MqttCodec, Packet, PacketBatch } from './wire.js'

/** Reason codes of version 5, and their return codes in 3.1.1 (3.2.2.3 there). */
const BAD_VERSION = { five: 0x84, three: 1 } as const
const BAD_CREDENTIALS = { five: 0x86, three: 4 } as const
const BAD_CLIENT = { five: 0x85, three: 2 } as const
const BAD_METHOD = { five: 0x8c, three: 5 } as const
const MALFORMED = 0x81
const TOO_LARGE = 0x95
const TAKEN_OVER = 0x8e
const KEEP_ALIVE = 0x8d
/** What a number of QoS 2 costs that was taken. */
const TAKEN_BYTES = 48

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
  readonly #sessions = new Map<Connection, Session>()
  readonly #clients = new Map<string, Session>()
  readonly #deliveries: Deliveries
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
    const { budget } = services
    this.#deliveries = new Deliveries(options, services, codec, (connection) =>
      this.#part(connection, QUOTA, 'SLOW_PEER'),
    )
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
    this.#deliveries.endLate(session)
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
    this.#deliveries.leave(session)
    if (client !== undefined && this.#clients.get(client.clientId) === session) this.#clients.delete(client.clientId)
  }

  /** Others, or the server, need the room: messages are missing from now on, so that nothing of it is worth keeping. */
  #dropped(session: Session, reason: DropReason): void {
    const { connection } = session
    session.isDropped = true
    this.#deliveries.endLate(session)
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
        return this.#deliveries.acknowledged(session, messageId)
      case 'puback':
      case 'pubcomp':
        return this.#deliveries.acknowledged(session, messageId)
      case 'subscribe':
        return this.#deliveries.subscribe(session, packet as Packet)
      case 'unsubscribe':
        return this.#deliveries.unsubscribe(session, packet as Packet)
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
    this.#deliveries.endLate(session)
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
    this.#deliveries.sendWaiting(session)
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
      const told = this.#deliveries.publish({ topic, payload: bytes, qos, retain, properties }, session, session.order)
      return told === undefined ? answer() : told.then(answer)
    }
    const failed = (thrown: unknown): unknown => {
      // Topics that no method takes are for subscribers alone.
      if (thrown instanceof UnroutedMessageError) return done()
      const isTold = client.version === 5 && qos > 0
      if (isTold) void context.connection.send({ cmd: qos === 1 ? 'puback' : 'pubrec', messageId, reasonCode: 0x80 })
      throw thrown
    }
    return afterHandler(next, done, failed)
  }

  /** Published where its topic's method does not throw. Nobody is there to be answered. */
  #willed(context: MessageContext, { publication, client, session }: Will, next: () => unknown): unknown {
    context.message = { ...publication, client } satisfies MqttMessage
    const done = () => this.#deliveries.publish(publication, undefined, session.order)
    const failed = (thrown: unknown): unknown => {
      if (thrown instanceof UnroutedMessageError) return done()
      throw thrown
    }
    return afterHandler(next, done, failed)
  }

  #released(session: Session, messageId: number): boolean {
    if (!session.taken.delete(messageId)) return false
    session.owed.forget(TAKEN_BYTES)
    return true
  }

  /** What the application publishes. */
  publishFor(connection: Connection, message: Publication): Promise<void> | undefined {
    return this.#deliveries.publish(message, undefined, this.#sessions.get(connection)?.order ?? this.#order)
  }
}

/** Packet Identifier not found. */
const NO_ID = 0x92

function noTopic(topic: string): Error {
  return malformed('a topic without wildcards, of at most 200 levels', JSON.stringify(topic.slice(0, 100)))
}

/** A number that a client gave; Infinity where it gave none. */
function positive(given: unknown): number {
  return typeof given === 'number' && given > 0 ? given : Number.POSITIVE_INFINITY
}

/** @param failed - Hears what `done` throws as well, where the handler has answered at once. */
function afterHandler(next: () => unknown, done: () => unknown, failed: (thrown: unknown) => unknown): unknown {
  try {
    const handled = next()
    return isThenable(handled) ? handled.then(done, failed) : done()
  } catch (thrown) {
    return failed(thrown)
  }
}
