/**
 * A session of MQTT, and what clients say of themselves.
 *
 * Room: plugins/protocols. MQTT 5.0, 4.1.
 */
import type { Connection } from '../../../core/connection.js'
import type { InOrder } from '../give-way.js'
import type { Owed } from './owed.js'
import type { Publication, Qos } from './subscriptions.js'

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
export interface Session {
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

export interface Late {
  readonly filters: Map<string, Qos>
  /** It has acknowledged something, or is gone. */
  moved: () => void
}

/** Of one connection: published when it ends without goodbye. */
export interface Will {
  readonly publication: Publication
  readonly client: MqttClient
  readonly session: Session
  readonly bytes: number
}

/** As CONNECT brings it. */
export interface GivenWill {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: Qos
  readonly retain: boolean
  readonly properties?: Record<string, unknown>
}

/** A will as it goes to its handler: like a packet that came by itself, but the connection is over. */
export interface WillPacket {
  readonly cmd: 'will'
  readonly will: Will
}
