/**
 * DNS, the server's side: questions to handlers by type, over UDP and TCP.
 *
 * Room: plugins/protocols. RFC 1035, RFC 7766 (TCP), RFC 6891 (EDNS). Records are read and written by the optional peer
 * `dns-packet`; what a stranger may put into a header is checked before.
 */
import { isUtf8 } from 'node:buffer'
import type { Codec, CodecContext, FrameLimits, FrameReader } from '../../core/codec.js'
import type { Connection } from '../../core/connection.js'
import { UnroutedMessageError } from '../../core/errors.js'
import { optionSchema } from '../../core/option-schema.js'
import { peerPackage } from '../../core/peer-package.js'
import type { Detection, Factory, Protocol } from '../../core/plugin.js'
import { isThenable } from '../../core/thenable.js'
import { kindOf, malformed, tooLarge, unfitReply } from './text-support.js'

export interface DnsOptions {
  readonly payloadBytes: number
  readonly recursion: boolean
}

export interface DnsQuestion {
  readonly name: string
  readonly type: string
  readonly class: string
}

/** A question as a handler gets it. */
export interface DnsQuery extends DnsQuestion {
  readonly id: number
  readonly recursionDesired: boolean
  /** What the asker takes over UDP, from its OPT record (RFC 6891); undefined without one. */
  readonly payloadBytes: number | undefined
}

/** A record as `dns-packet` has it: `{ type: 'A', name, ttl, data: '192.0.2.1' }`. */
export interface DnsRecord {
  readonly name: string
  readonly type: string
  readonly ttl?: number
  readonly data?: unknown
}

/** More than a list of answers. */
export interface DnsReply {
  readonly answers?: readonly DnsRecord[]
  readonly authorities?: readonly DnsRecord[]
  readonly additionals?: readonly DnsRecord[]
  readonly rcode?: keyof typeof RCODES
  readonly authoritative?: boolean
}

/** RFC 1035, 4.1.1. */
const RCODES = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5, BADVERS: 16 } as const

/** Thrown by a handler: the answer is this code. */
export class DnsError extends Error {
  constructor(readonly rcode: keyof typeof RCODES) {
    super(rcode)
  }
}

interface Opt {
  readonly type: string
  readonly udpPayloadSize?: number
  readonly ednsVersion?: number
}

interface Library {
  decode(bytes: Uint8Array, offset?: number): Record<string, unknown> & { questions?: DnsQuestion[] }
  encode(packet: object): Buffer
}

/** What came, as far as it could be understood. */
interface Received extends Partial<DnsQuery> {
  readonly id: number
  readonly opcode: number
  readonly fault: keyof typeof RCODES | 'ignore' | undefined
  /** The question section as it came, to be given back to the byte. */
  readonly section?: Buffer
}

const HEADER = 12
const QR = 0x8000
const AA = 0x0400
const TC = 0x0200
const RD = 0x0100
const RA = 0x0080
/** RFC 1035, 2.3.4: without EDNS. */
const UDP_BYTES = 512
const MOST_BYTES = 65_535

/**
 * The route is the question's type: `@OnMessage('A')`.
 *
 * A handler returns records, `{ answers, authorities, additionals, rcode, authoritative }`, or `null` for NXDOMAIN; `undefined`
 * sends nothing. Id, question and RD are copied; what is too long for a datagram is cut to the TC bit, so that the asker
 * comes again by TCP. The question goes back to the byte as it came. Bytes that are no query are answered FORMERR, types nobody
 * takes REFUSED, and so names with a dot or NUL inside a label, or one that is no UTF-8; other operations NOTIMP, a
 * handler that throws SERVFAIL (a `DnsError` its own code); replies of other servers are never answered.
 *
 * @throws {WiringError} `BAD_PLUGIN` without the package `dns-packet`. Reach: the start.
 * @example
 * { "endpoint": ["udp://[::]:53", "tcp://[::]:53"], "protocol": "dns", "handler": "./zone.ts" }
 */
export const dns: Factory<Protocol, DnsOptions> = {
  name: 'dns',
  options: optionSchema<DnsOptions>({
    payloadBytes: {
      unit: 'bytes',
      min: 512,
      max: 65_535,
      default: 1_232,
      why: 'Largest reply over UDP to those who take so much; this is what fits every network (dnsflagday.net, 2020).',
    },
    recursion: { unit: 'switch', default: false, why: 'Replies say that recursion is available.' },
  }),
  create(options) {
    const library = peerPackage<Library>('dns-packet', 'protocol dns')
    /** The query whose handling threw: the error reply needs its id. */
    const failing = new WeakMap<Error, Received>()
    const reply = (query: Received, given: unknown): Response | undefined => {
      if (given === undefined) return undefined
      if (given === null) return new Response(query, { rcode: 'NXDOMAIN' })
      if (Array.isArray(given)) return new Response(query, { answers: given as DnsRecord[] })
      if (typeof given === 'object') return new Response(query, given as DnsReply)
      throw unfitReply('dns', `expected records or { answers … }, got ${kindOf(given)}`, 'return a list of records')
    }
    const failed = (query: Received, thrown: unknown): never => {
      if (thrown instanceof Error) failing.set(thrown, query)
      throw thrown
    }
    return {
      codec: new DnsCodec(library, options),
      // RFC 7766, 6.2.1.1: a slow answer holds up no other; ids tell them apart.
      order: 'concurrent',
      // RFC 7858: DNS over TLS.
      alpn: ['dot'],
      detect,
      middleware: {
        name: 'dns',
        message(context, next) {
          const query = context.message as Received
          if (query.fault === 'ignore') return undefined
          if (query.fault !== undefined) return new Response(query, { rcode: query.fault })
          try {
            const given = next()
            if (!isThenable(given)) return reply(query, given)
            return Promise.resolve(given)
              .then((settled) => reply(query, settled))
              .catch((error) => failed(query, error))
          } catch (error) {
            return failed(query, error)
          }
        },
      },
      errorReply(error, _connection: Connection) {
        const cause = error.cause instanceof Error ? error.cause : error
        const query = failing.get(error) ?? failing.get(cause)
        if (query === undefined) return undefined
        if (cause instanceof DnsError) return new Response(query, { rcode: cause.rcode })
        return new Response(query, { rcode: error instanceof UnroutedMessageError ? 'REFUSED' : 'SERVFAIL' })
      },
      survives: (error) => failing.has(error) || (error.cause instanceof Error && failing.has(error.cause)),
    }
  },
}

/** Over TCP: a length, and the header of a query with one question. */
function detect(buffer: Buffer, start: number, end: number): Detection {
  if (end - start < 2 + HEADER) return couldBeQuery(buffer, start, end) ? 'more' : 'no'
  return couldBeQuery(buffer, start, end) ? 'yes' : 'no'
}

function couldBeQuery(buffer: Buffer, start: number, end: number): boolean {
  const byte = (at: number, fits: (value: number) => boolean) => start + at >= end || fits(buffer[start + at] as number)
  const isZero = (value: number) => value === 0
  const isShort = byte(0, (high) => high < 16) && (start + 1 >= end || buffer.readUInt16BE(start) >= HEADER + 5)
  // QR and the operation are 0; one question, nothing else but an OPT record and a signature.
  const counts = byte(6, isZero) && byte(7, (one) => one === 1) && [8, 9, 10, 11, 12].every((at) => byte(at, isZero))
  return isShort && byte(4, (flags) => flags < 8) && counts && byte(13, (few) => few <= 4)
}

class Response {
  constructor(
    readonly query: Received,
    readonly given: DnsReply,
  ) {}
}

class DnsCodec implements Codec {
  readonly framer = { open: (limits: FrameLimits): FrameReader => new TcpReader(limits) }
  readonly #library: Library
  readonly #options: DnsOptions

  constructor(library: Library, options: DnsOptions) {
    this.#library = library
    this.#options = options
  }

  decode(frame: Uint8Array): Received {
    const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength)
    if (bytes.length < HEADER) throw malformed(`a header of ${HEADER} bytes`, `${bytes.length}`)
    const id = bytes.readUInt16BE(0)
    const flags = bytes.readUInt16BE(2)
    const opcode = (flags >> 11) & 15
    const recursionDesired = (flags & RD) !== 0
    const of = (fault: Received['fault']): Received => ({ id, opcode, recursionDesired, fault })
    // Two servers that answer each other's answers never stop.
    if (flags & QR) return of('ignore')
    if (opcode !== 0) return of('NOTIMP')
    const additionals = bytes.readUInt16BE(10)
    // One question is all that anybody asks; the rest of a query is at most an OPT record and a signature.
    if (bytes.readUInt16BE(4) !== 1 || bytes.readUInt32BE(6) !== 0 || additionals > 4) return of('FORMERR')
    const nameEnd = endOfName(bytes)
    if (nameEnd < 0) return of('FORMERR')
    const section = Buffer.from(bytes.subarray(HEADER, nameEnd + 4))
    if (!isText(bytes)) return { ...of('REFUSED'), section }
    try {
      const packet = this.#library.decode(bytes)
      const [question] = packet.questions ?? []
      if (question === undefined) return of('FORMERR')
      const opts = (packet.additionals as Opt[]).filter(({ type }) => type === 'OPT')
      const [opt] = opts
      // RFC 6891, 6.1.1: "If a query message with more than one OPT RR is received, a FORMERR MUST be returned."
      if (opts.length > 1) return of('FORMERR')
      const { name, type } = question
      const payloadBytes = opt?.udpPayloadSize
      const fault = (opt?.ednsVersion ?? 0) > 0 ? 'BADVERS' : undefined
      return { id, opcode, recursionDesired, fault, name, type, class: question.class, payloadBytes, section }
    } catch {
      return of('FORMERR')
    }
  }

  route({ type }: Received): string | undefined {
    return type
  }

  encode(message: unknown, { kind }: CodecContext): Buffer {
    if (!(message instanceof Response)) {
      throw unfitReply('dns', 'a message that answers no question', 'return the reply from the method')
    }
    const { query } = message
    const most =
      kind === 'stream'
        ? MOST_BYTES
        : Math.min(this.#options.payloadBytes, Math.max(UDP_BYTES, query.payloadBytes ?? 0))
    let bytes = this.#write(message, 0)
    if (bytes.length > most) bytes = this.#write(new Response(query, { rcode: message.given.rcode ?? 'NOERROR' }), TC)
    if (kind === 'message') return bytes
    return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes])
  }

  #write({ query, given }: Response, more: number): Buffer {
    const { rcode = 'NOERROR', authoritative = true } = given
    const flags =
      (authoritative && rcode !== 'FORMERR' ? AA : 0) |
      (query.recursionDesired ? RD : 0) |
      (this.#options.recursion ? RA : 0) |
      (query.opcode << 11) |
      more |
      (RCODES[rcode] & 15)
    const bytes = this.#library.encode({
      type: 'response',
      id: query.id,
      flags,
      questions: [],
      answers: given.answers ?? [],
      authorities: given.authorities ?? [],
      additionals:
        query.payloadBytes === undefined
          ? (given.additionals ?? [])
          : [...(given.additionals ?? []), this.#opt(RCODES[rcode])],
    })
    if (query.section === undefined) return bytes
    // The library writes names in full, so nothing behind the header points anywhere.
    bytes.writeUInt16BE(1, 4)
    return Buffer.concat([bytes.subarray(0, HEADER), query.section, bytes.subarray(HEADER)])
  }

  /** The upper bits of a code over 15 stand in the OPT record (RFC 6891, 6.1.3). */
  #opt(rcode: number): object {
    const udpPayloadSize = this.#options.payloadBytes
    return { type: 'OPT', name: '.', udpPayloadSize, extendedRcode: rcode >> 4, ednsVersion: 0, flags: 0, options: [] }
  }
}

/**
 * The question's name: labels of at most 63 bytes, 255 in all, and no pointer, because nothing stands before it.
 *
 * @returns the index behind it; -1 for what is no such name, or has no type and class behind it.
 */
function endOfName(bytes: Buffer): number {
  let at = HEADER
  while (at < bytes.length) {
    const length = bytes[at] as number
    if (length === 0) return at - HEADER <= 254 && bytes.length - at >= 5 ? at + 1 : -1
    if (length > 63) return -1
    at += 1 + length
  }
  return -1
}

/**
 * A label may hold any bytes (RFC 2181, section 11), but handlers are given text: one with a dot in it, or that is no UTF-8, would
 * be taken for another name, or for the same as another (`www\\.home` for `www.home`).
 */
function isText(bytes: Buffer): boolean {
  for (let at = HEADER; bytes[at] !== 0; at += 1 + (bytes[at] as number)) {
    const label = bytes.subarray(at + 1, at + 1 + (bytes[at] as number))
    if (label.includes(0x2e) || label.includes(0) || !isUtf8(label)) return false
  }
  return true
}

/** RFC 1035, 4.2.2: two bytes of length. */
class TcpReader implements FrameReader {
  start = 0
  end = 0
  need = 0
  readonly #limit: number

  constructor(limits: FrameLimits) {
    this.#limit = limits.frameBytes
  }

  next(buffer: Buffer, start: number, end: number): number {
    if (end - start < 2) return -1
    const length = buffer.readUInt16BE(start)
    if (length > this.#limit) throw tooLarge('messages', this.#limit, 'frameBytes')
    this.need = 2 + length
    if (end - start < this.need) return -1
    this.start = start + 2
    this.end = start + this.need
    this.need = 0
    return this.end
  }
}
