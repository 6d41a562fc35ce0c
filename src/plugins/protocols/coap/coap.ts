/**
 * CoAP, the server's side: requests of small devices to handlers by method, over UDP.
 *
 * Room: plugins/protocols. RFC 7252, and RFC 7959 for bodies in blocks, RFC 7641 for observers. Packets are read and written by the optional peer
 * `coap-packet`.
 */
import type { Codec, CodecContext } from '../../../core/codec.js'
import { optionSchema } from '../../../core/option-schema.js'
import { peerPackage } from '../../../core/peer-package.js'
import type { Factory, Protocol } from '../../../core/plugin.js'
import { unfitReply } from '../text-support.js'
import { Answer, type CoapOptions, Dialogue, methods } from './dialogue.js'
import { type Library, type Received, readPacket } from './packet.js'

/**
 * The route is the method: `@OnMessage('GET')`.
 *
 * A handler returns a payload (text or bytes), `{ code, payload, format, options }`, `null` for 4.04, or nothing for success
 * without a payload; `CoapError` says another code. What nobody takes is 4.05, what throws 5.00 without its words, an option
 * that is critical and unknown 4.02. A request that comes twice is handled once. Confirmable requests are acknowledged with the
 * answer; a handler that takes longer than `ackMs` gets an acknowledgement of its own, and its answer follows. Large bodies go
 * both ways in blocks. What a GET returns with `observable: true` may be observed (RFC 7641): `notify(connection, path, reply)`
 * tells of changes, until the client takes it back, resets a notification, or answers none of five; or its connection ends, for
 * which `timeouts.idleMs` counts. A ping, and what is no CoAP, is answered with a reset; answers are never answered.
 *
 * Bodies under way, answers that are remembered and news that observers wait for have `keptBytes` of memory, over all peers; the
 * oldest goes first. A GET whose body has gone asks the handler again, for the block in question: an `ETag` (of the reply, or made
 * here) tells the client whether it is of the same body (RFC 7959, 2.4). Later blocks of other methods, and of a request's body,
 * are answered 4.08, and the client begins anew; a request that comes again whose answer has gone is answered with a reset, and
 * not handled twice; observers whose news has gone are told 5.03, and ask anew.
 *
 * @throws {WiringError} `BAD_PLUGIN` without the package `coap-packet`. Reach: the start.
 * @example
 * { "endpoint": "udp://[::]:5683", "protocol": "coap", "handler": "./sensors.ts" }
 */
export const coap: Factory<Protocol, CoapOptions> = {
  name: 'coap',
  options: optionSchema<CoapOptions>({
    blockBytes: {
      unit: 'choice',
      choices: [16, 32, 64, 128, 256, 512, 1024],
      default: 1024,
      why: 'Largest payload in one datagram; a client may ask for less. 1,024 fits where 1,280 bytes do (IPv6).',
    },
    ackMs: {
      unit: 'ms',
      min: 1,
      default: 1_000,
      why: 'A handler that takes longer gets a separate answer; clients ask again after two seconds.',
    },
    observers: {
      unit: 'count',
      default: 1_000,
      why: 'Observations at a time, of all clients, 64 of each; one more reads the resource and is not told of changes. 0: none.',
    },
    keptBytes: {
      unit: 'bytes',
      min: 65_536,
      default: 16 * 2 ** 20,
      why: 'Kept for all peers of the listener: bodies in blocks, answers for requests that come again, news for observers; the oldest goes first (kept.coap.kept.dropped).',
    },
  }),
  create(options, services) {
    const library = peerPackage<Library>('coap-packet', 'protocol coap')
    const dialogue = new Dialogue(options, services, library)
    return {
      codec: new CoapCodec(library),
      needs: { message: true },
      order: 'concurrent',
      middleware: { name: 'coap', message: (context, next) => dialogue.step(context, next) },
      errorReply: (error, connection) => dialogue.errorReply(error, connection),
      survives: () => true,
    }
  },
}

class CoapCodec implements Codec {
  readonly #library: Library
  constructor(library: Library) {
    this.#library = library
  }
  decode(frame: Uint8Array, { limits }: CodecContext): Received {
    const buffer = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength)
    return readPacket(buffer, this.#library, limits.frameBytes)
  }
  route(message: unknown): string | undefined {
    const { code, isBad, type } = message as Received
    return isBad || type === 'ack' || type === 'rst' ? undefined : methods[code as keyof typeof methods]
  }
  encode(message: unknown): Uint8Array {
    if (message instanceof Answer) return message.bytes
    throw unfitReply('coap', 'a message that answers no request', 'return the reply from the method')
  }
}
