/**
 * Who gets what: subscriptions, retained messages, and each client's queue.
 *
 * Room: plugins/protocols. MQTT 5.0, 3.3, 3.8, 3.10 and 4.9. A publication to many and the retained messages for a newcomer
 * give way to others (`Turns` in core/plugin); those of one publisher stay in their order.
 */
import type { Connection } from '../../../core/connection.js'
import type { PluginServices } from '../../../core/plugin.js'
import { giveWay, type InOrder } from '../give-way.js'
import { Parcel } from '../parcel.js'
import { malformed } from '../text-support.js'
import { type Owing, parcelOf } from './owed.js'
import { Retained } from './retained.js'
import type { Late, MqttOptions, Session } from './session.js'
import { isWild, type Publication, type Qos, Subscriptions } from './subscriptions.js'
import { isFilter, levelsOf } from './topics.js'
import type { MqttCodec, Packet } from './wire.js'

/** 3.14.2.1: Quota exceeded. */
export const QUOTA = 0x97
/** Messages that wait behind those unacknowledged. */
const MOST_WAITING = 1_000
/** Others are asked after so much work: a subscriber is 4, a filter to compare is 1. */
const WORK = 64
const NO_LEVELS: readonly string[] = []

export class Deliveries {
  readonly #options: MqttOptions
  readonly #services: PluginServices
  readonly #codec: MqttCodec
  readonly #subscriptions = new Subscriptions<Session>()
  readonly #retained: Retained
  readonly #slow: (connection: Connection) => void

  /** @param slow - Ends the connection of a client that does not acknowledge. */
  constructor(
    options: MqttOptions,
    services: PluginServices,
    codec: MqttCodec,
    slow: (connection: Connection) => void,
  ) {
    this.#options = options
    this.#services = services
    this.#codec = codec
    this.#slow = slow
    const { budget, clock } = services
    const account = budget.open({ name: 'mqtt.retained', limit: options.retainedBytes, whenFull: 'oldest' })
    this.#retained = new Retained(options.retained, account, () => clock.now())
  }

  leave(session: Session): void {
    this.#subscriptions.leave(session)
  }

  unsubscribe(session: Session, packet: Packet): unknown {
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

  subscribe(session: Session, packet: Packet): unknown {
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

  endLate(session: Session): void {
    const { late } = session
    session.late = undefined
    late?.moved()
  }

  publish(message: Publication, from: Session | undefined, order: InOrder): Promise<void> | undefined {
    if (!order.isFree) return order.run(() => this.#keepAndTell(message, from))
    const told = this.#keepAndTell(message, from)
    return told === undefined ? undefined : order.follow(told)
  }

  #keepAndTell(message: Publication, from: Session | undefined): Promise<void> | undefined {
    if (message.retain) this.#retained.keep(message)
    const owners = this.#subscriptions.interested(message.topic)
    return owners.size === 0 ? undefined : this.#tell(message, from, owners)
  }

  /** To everybody whose filters take it, once each, at the best quality that was granted. */
  #tell(message: Publication, from: Session | undefined, owners: Set<Session>): Promise<void> | undefined {
    /** What is the same for many is written once, and kept once. */
    const written = new Map<string, Buffer>()
    let parcel: Parcel | undefined
    const shared = () => (parcel ??= parcelOf(message))
    const levels = this.#subscriptions.hasWild ? levelsOf(message.topic) : NO_LEVELS
    const rest = owners.values()
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
      else this.#slow(connection)
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

  acknowledged(session: Session, messageId: number): undefined {
    const { owed } = session
    const owing = owed.sent.get(messageId)
    if (!owed.sent.delete(messageId)) return undefined
    owed.settle(owing)
    this.sendWaiting(session)
    session.late?.moved()
    return undefined
  }

  sendWaiting(session: Session): void {
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

function push(waiting: Owing[], owing: Owing | undefined): void {
  if (owing !== undefined) waiting.push(owing)
}

function isThere({ state }: Connection): boolean {
  return state === 'open' || state === 'peer-ended'
}

function expiryOf({ properties }: Packet): number | undefined {
  return (properties as { messageExpiryInterval?: number } | undefined)?.messageExpiryInterval
}
