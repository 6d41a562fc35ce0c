/**
 * Packets of MQTT as bytes, and back.
 *
 * Room: plugins/protocols. The optional peer `mqtt-packet` reads and writes them, one parser a connection; how long a packet may
 * be was decided before (reader.ts).
 */
import type { Codec, CodecContext, FrameLimits } from '../../../core/codec.js'
import { FrameError, toError } from '../../../core/errors.js'
import { malformed, unfitReply } from '../text-support.js'
import { PacketReader } from './reader.js'

export type Packet = Record<string, unknown> & { readonly cmd: string; readonly messageId?: number }

/** Several packets of one WebSocket message (MQTT 5.0, 6: its frames bound nothing). */
export interface PacketBatch {
  readonly cmd: 'batch'
  readonly packets: readonly Packet[]
}

interface Parser {
  parse(bytes: Buffer): number
  on(event: 'packet', listener: (packet: Packet) => void): void
  on(event: 'error', listener: (error: Error) => void): void
}

export interface Library {
  parser(options?: object): Parser
  generate(packet: object, options?: object): Buffer
}

const NUMBERED = new Set(['puback', 'pubrec', 'pubrel', 'pubcomp', 'subscribe', 'unsubscribe'])

/** One connection's. */
class Wire {
  /** 4 is 3.1.1; what CONNECT says from then on. */
  version: 3 | 4 | 5 = 4
  readonly #parser: Parser
  #found: Packet | undefined
  #failure: Error | undefined
  /** The front of a packet whose rest is in a later message. */
  #held: Buffer | undefined
  #reader: PacketReader | undefined

  constructor(library: Library) {
    this.#parser = library.parser({ protocolVersion: 4 })
    this.#parser.on('packet', (packet) => {
      this.#found = packet
    })
    this.#parser.on('error', (error) => {
      this.#failure = error
    })
  }

  read(bytes: Buffer): Packet {
    this.#found = this.#failure = undefined
    let left = 0
    try {
      left = this.#parser.parse(bytes)
    } catch (thrown) {
      this.#failure = toError(thrown)
    }
    const packet = this.#found as Packet | undefined
    if (packet === undefined || this.#failure !== undefined || left > 0) {
      const got = (this.#failure as Error | undefined)?.message ?? 'a part of one'
      // 3.1.2.2: what speaks another version is told so.
      const fields = { expected: 'an MQTT packet', got, isVersion: /protocol ?version|protocolId/i.test(got) }
      throw new FrameError('MALFORMED', `expected an MQTT packet, got ${got}`, fields)
    }
    // 2.2.1: never 0. The library reads none where the packet ends before it.
    if (NUMBERED.has(packet.cmd) && !((packet.messageId ?? 0) > 0)) throw malformed('a packet identifier', 'none')
    if (packet.cmd === 'connect') this.version = packet.protocolVersion as 3 | 4 | 5
    return packet
  }

  /** Packets whole within what came so far. */
  readAll(bytes: Buffer, limits: FrameLimits): PacketBatch {
    this.#reader ??= new PacketReader(limits)
    const buffer = this.#held === undefined ? bytes : Buffer.concat([this.#held, bytes])
    const packets: Packet[] = []
    let at = 0
    while (at < buffer.length) {
      const after = this.#reader.next(buffer, at, buffer.length)
      if (after < 0) break
      packets.push(this.read(buffer.subarray(at, after)))
      at = after
    }
    this.#held = at === buffer.length ? undefined : Buffer.from(buffer.subarray(at))
    return { cmd: 'batch', packets }
  }
}

export class MqttCodec implements Codec {
  readonly framer = { open: (limits: FrameLimits) => new PacketReader(limits) }
  readonly #library: Library

  constructor(library: Library) {
    this.#library = library
  }

  decode(frame: Uint8Array, context: CodecContext): Packet | PacketBatch {
    return this.decodeAt(Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength), 0, frame.byteLength, context)
  }

  decodeAt(buffer: Buffer, start: number, end: number, context: CodecContext): Packet | PacketBatch {
    const bytes = buffer.subarray(start, end)
    const wire = this.#wireOf(context)
    return context.kind === 'stream' ? wire.read(bytes) : wire.readAll(bytes, context.limits)
  }

  /** Bytes stay: what goes to many is written once. */
  encode(packet: unknown, context: CodecContext): Uint8Array {
    return packet instanceof Uint8Array ? packet : this.bytesOf(packet, this.#wireOf(context).version)
  }

  bytesOf(packet: unknown, version: number): Buffer {
    try {
      return this.#library.generate(packet as object, { protocolVersion: version })
    } catch (thrown) {
      const remedy = "send { cmd: 'publish', topic, payload, qos: 0 }, or use publish()"
      throw unfitReply('mqtt', `this is no packet (${toError(thrown).message})`, remedy)
    }
  }

  route(packet: unknown): string | undefined {
    const { cmd, topic } = packet as { cmd: string; topic?: string }
    return cmd === 'publish' ? topic : undefined
  }

  #wireOf(context: CodecContext): Wire {
    context.state ??= new Wire(this.#library)
    return context.state as Wire
  }
}
