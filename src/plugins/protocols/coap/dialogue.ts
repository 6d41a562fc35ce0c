/**
 * What happens between a request and its answer: repeats, blocks, the handler, acknowledgements.
 *
 * Room: plugins/protocols. All that outlives one request (bodies in blocks, answers for requests that come again, what observers
 * are to be told) is counted by one account of the listener.
 */
import { createHash } from 'node:crypto'
import type { Account, Holding } from '../../../core/account.js'
import type { Connection } from '../../../core/connection.js'
import type { MessageContext } from '../../../core/context.js'
import { toError, UnroutedMessageError } from '../../../core/errors.js'
import type { PluginServices } from '../../../core/plugin.js'
import { isThenable } from '../../../core/thenable.js'
import { kindOf, unfitReply } from '../text-support.js'
import { type Block, blockValue, type Outgoing, readBlock, Transfers } from './blocks.js'
import { type Observation, Observers } from './observers.js'
import {
  type CoapOption,
  type CoapOptionToSend,
  type Library,
  optionNumber,
  type Received,
  type ToSend,
  writePacket,
} from './packet.js'

export interface CoapOptions {
  readonly blockBytes: 16 | 32 | 64 | 128 | 256 | 512 | 1024
  readonly ackMs: number
  readonly observers: number
  readonly keptBytes: number
}

/** What `@OnMessage('GET')` gets. */
export interface CoapRequest {
  readonly method: CoapMethod
  /** `/sensors/kitchen`, decoded. */
  readonly path: string
  readonly query: URLSearchParams
  /** The whole body, of whatever many blocks; `limits.frameBytes` at most. */
  readonly payload: Buffer
  /** Content-Format (RFC 7252, 12.3): 0 is text, 50 is JSON. */
  readonly format: number | undefined
  /** What the client wants. */
  readonly accept: number | undefined
  readonly options: readonly CoapOption[]
  readonly confirmable: boolean
}

/** More than a payload. */
export interface CoapReply {
  /** `2.05`, `4.04` ... Default: by method. */
  readonly code?: string
  readonly payload?: string | Uint8Array
  readonly format?: number
  readonly options?: readonly CoapOptionToSend[]
  /** A client that asks to observe what it reads is told of changes, by `notify`. Of successful replies to GET alone. */
  readonly observable?: boolean
}

/** Thrown by a handler: the answer has this code, and the words as its payload. */
export class CoapError extends Error {
  constructor(
    readonly code: string,
    message = '',
  ) {
    super(message)
    this.name = 'CoapError'
  }
}

/** RFC 7252, 12.1.1, and RFC 8132. */
export const methods = {
  '0.01': 'GET',
  '0.02': 'POST',
  '0.03': 'PUT',
  '0.04': 'DELETE',
  '0.05': 'FETCH',
  '0.06': 'PATCH',
  '0.07': 'iPATCH',
} as const
export type CoapMethod = (typeof methods)[keyof typeof methods]
const successes: Readonly<Record<CoapMethod, string>> = {
  GET: '2.05',
  FETCH: '2.05',
  POST: '2.04',
  PUT: '2.04',
  PATCH: '2.04',
  iPATCH: '2.04',
  DELETE: '2.02',
}

/** Critical options (odd numbers) that are understood; any other is 4.02 (RFC 7252, 5.4.1). */
const understood = new Set([
  'If-Match',
  'If-None-Match',
  'Uri-Host',
  'Uri-Port',
  'Uri-Path',
  'Uri-Query',
  'Accept',
  'Block1',
  'Block2',
])
const names = new Map([
  ['OSCORE', 9],
  ['Q-Block1', 19],
  ['Q-Block2', 31],
  ['Proxy-Uri', 35],
  ['Proxy-Scheme', 39],
  ['OCF-Accept-Content-Format-Version', 2049],
  ['OCF-Content-Format-Version', 2053],
])

/** Exchanges of one peer that are remembered, so that a request that comes twice is handled once (RFC 7252, 4.5). */
const MOST_EXCHANGES = 64
/** RFC 7252, 4.8.2: after so long a message id may mean something else. */
const EXCHANGE_MS = 247_000

/** Bytes of answers are asked for in pieces of this size: the account is not part of every request. */
const REPLIES_STEP = 4_096
/** Beside its bytes, an answer has a buffer of its own and a place in a map. */
const REPLY_BYTES = 256

/** A request that was seen: its answer comes again when it does. */
interface Exchange {
  /** Undefined while it is being made. */
  reply: Buffer | 'forgotten' | undefined
  readonly at: number
}

/** One peer's. */
interface Peer {
  /** By the request's message id. */
  readonly exchanges: Map<number, Exchange>
  readonly transfers: Transfers
  /** Of its answers that are remembered; undefined: there are none. */
  replies: Holding | undefined
  replyBytes: number
  lastId: number
}

const dialogues = new WeakMap<Connection, Dialogue>()

/**
 * Tells everybody who observes a resource how it is now (RFC 7641).
 *
 * Each gets the newest it can take: one that has not acknowledged what came before is told when it has. A reply that is no
 * success, such as `null`, is the last one.
 *
 * @param connection - Any of the server in question: its observers are told, whoever they are.
 * @param path - As `CoapRequest.path` has it.
 * @param reply - What GET would return.
 * @returns how many are told.
 * @example
 * notify(connection, '/sensors/kitchen', '21')
 */
export function notify(connection: Connection, path: string, reply: unknown): number {
  return dialogues.get(connection)?.notify(path, reply) ?? 0
}

const EMPTY = Buffer.alloc(0)

/** Bytes that are an answer. */
export class Answer {
  constructor(readonly bytes: Buffer) {}
}

export class Dialogue {
  readonly #options: CoapOptions
  readonly #services: PluginServices
  readonly #library: Library
  readonly #peers = new WeakMap<Connection, Peer>()
  /** The request whose handling threw: the error reply needs its id and token. */
  readonly #failing = new WeakMap<Error, Received>()
  readonly #observers: Observers<CoapReply>
  readonly #account: Account

  constructor(options: CoapOptions, services: PluginServices, library: Library) {
    this.#options = options
    this.#services = services
    this.#library = library
    this.#account = services.budget.open({ name: 'coap.kept', limit: options.keptBytes, whenFull: 'oldest' })
    this.#observers = new Observers(
      options.observers,
      this.#account,
      services.clock,
      (observation, reply, sequence) => this.#notification(observation, reply, sequence),
      (connection, bytes) => connection.send(new Answer(bytes)),
    )
  }

  notify(path: string, said: unknown): number {
    const reply = replyOf(said, 'GET')
    const { payload } = reply
    // Bytes once for all observers.
    const isText = typeof payload === 'string'
    return this.#observers.notify(path, isText ? { ...reply, payload: Buffer.from(payload) } : reply)
  }

  step(context: MessageContext, next: () => unknown): unknown {
    const received = context.message as Received
    const { type, code, messageId, isBad } = received
    // Of a notification; answering it would make a loop.
    if (type === 'ack' || type === 'rst') return this.#observers.heard(context.connection, type === 'rst', messageId)
    const isRequest = !isBad && code.startsWith('0.') && code !== '0.00'
    if (!isRequest) return type === 'con' ? this.#empty('rst', messageId) : undefined
    const peer = this.#peerOf(context.connection)
    const known = this.#known(peer, messageId)
    if (known !== undefined) {
      if (type === 'non') return undefined
      // There is no context to process the message in any more (RFC 7252, 4.2).
      if (known.reply === 'forgotten') return this.#empty('rst', messageId)
      return known.reply === undefined ? this.#empty('ack', messageId) : new Answer(known.reply)
    }
    try {
      const done = this.#request(context, received, peer, next)
      if (!isThenable(done)) return this.#answer(peer, received, done, false)
      return this.#slowly(context.connection, peer, received, done)
    } catch (thrown) {
      return this.#failed(received, thrown)
    }
  }

  /** A handler that is still at work; its peer is told before it asks again. */
  #slowly(connection: Connection, peer: Peer, received: Received, done: PromiseLike<unknown>): Promise<unknown> {
    let isSeparate = false
    const cancel =
      received.type === 'non'
        ? () => {}
        : this.#services.clock.after(this.#options.ackMs, () => {
            isSeparate = true
            void connection.send(this.#empty('ack', received.messageId))
          })
    return Promise.resolve(done).then(
      (said) => {
        cancel()
        return this.#answer(peer, received, said, isSeparate)
      },
      (thrown) => {
        cancel()
        return this.#failed(received, thrown)
      },
    )
  }

  #failed(received: Received, thrown: unknown): never {
    const error = toError(thrown)
    this.#failing.set(error, received)
    throw error
  }

  errorReply(error: Error, connection: Connection): Answer | undefined {
    const cause = error.cause instanceof Error ? error.cause : error
    const received = this.#failing.get(error) ?? this.#failing.get(cause)
    if (received === undefined) return undefined
    const isUnrouted = error instanceof UnroutedMessageError || cause instanceof UnroutedMessageError
    const code = cause instanceof CoapError ? cause.code : isUnrouted ? '4.05' : '5.00'
    const payload = cause instanceof CoapError ? cause.message : ''
    return this.#answer(this.#peerOf(connection), received, { code, payload } satisfies CoapReply, false)
  }

  /** @returns what the handler said, or an answer of our own. */
  #request(context: MessageContext, received: Received, peer: Peer, next: () => unknown): unknown {
    const method = methods[received.code as keyof typeof methods]
    if (method === undefined) return { code: '4.05' } satisfies CoapReply
    const find = (name: string) => received.options.find((option) => option.name === name)?.value
    for (const { name } of received.options) {
      const number = names.get(name) ?? Number(name)
      if (name === 'Proxy-Uri' || name === 'Proxy-Scheme') return { code: '5.05' } satisfies CoapReply
      if (!understood.has(name) && number % 2 === 1)
        return { code: '4.02', payload: `option ${number}` } satisfies CoapReply
    }
    const list = (name: string) =>
      received.options.filter((option) => option.name === name).map(({ value }) => String(value))
    const path = `/${list('Uri-Path').join('/')}`
    const queries = list('Uri-Query')
    const key = `${method} ${path}?${queries.join('&')}`

    const wanted = readBlock(optionNumber(find('Block2')))
    if (wanted === 'bad') return { code: '4.00', payload: 'Block2' } satisfies CoapReply
    if (wanted !== undefined && wanted.number > 0) {
      const kept = peer.transfers.kept(key)
      if (kept !== undefined) return this.#cut(peer, key, kept, wanted)
      // What changes things, or has lost its body, is not done twice for the sake of its answer.
      const isSafe = method === 'GET' || (method === 'FETCH' && received.payload.length > 0)
      if (!isSafe && find('Block1') === undefined) return { code: '4.08' } satisfies CoapReply
    }

    const given = readBlock(optionNumber(find('Block1')))
    if (given === 'bad') return { code: '4.00', payload: 'Block1' } satisfies CoapReply
    let { payload } = received
    const more: CoapOptionToSend[] = []
    if (given !== undefined) {
      const whole = peer.transfers.take(key, given, payload, received.most)
      more.push({ name: 'Block1', value: blockValue(given) })
      if (whole === '4.13') more.push({ name: 'Size1', value: received.most })
      if (typeof whole === 'string') return { code: whole, options: more } satisfies CoapReply
      payload = whole
    }
    const { connection } = context
    const observe = method === 'GET' ? optionNumber(find('Observe')) : undefined
    // RFC 7641, 2: 1 ends it. What begins it anew ends what was before, whatever the handler says now.
    if (observe !== undefined) this.#observers.cancel(connection, received.token)
    context.message = {
      method,
      path,
      query: new URLSearchParams(queries.join('&')),
      payload: Buffer.from(payload),
      format: optionNumber(find('Content-Format')),
      accept: optionNumber(find('Accept')),
      options: received.options,
      confirmable: received.type === 'con',
    } satisfies CoapRequest
    const finish = (said: unknown) => {
      const reply = replyOf(said, method)
      if (observe === 0 && reply.observable && reply.code?.startsWith('2')) {
        const token = Buffer.from(received.token)
        const sequence = this.#observers.add({ connection, token, path, key, wanted })
        if (sequence !== undefined) more.push({ name: 'Observe', value: sequence })
      }
      return this.#fit(peer, key, reply, wanted, more)
    }
    const said = next()
    return isThenable(said) ? Promise.resolve(said).then(finish) : finish(said)
  }

  /** Cuts what is too long for one datagram. */
  #fit(
    peer: Peer,
    key: string,
    reply: CoapReply,
    wanted: Block | undefined,
    more: readonly CoapOptionToSend[],
  ): CoapReply {
    const bytes = typeof reply.payload === 'string' ? Buffer.from(reply.payload) : reply.payload
    const own = reply.options ?? []
    const most = wanted === undefined ? this.#options.blockBytes : Math.min(wanted.bytes, this.#options.blockBytes)
    if (bytes === undefined || bytes.length <= most)
      return more.length === 0 ? reply : { ...reply, options: [...own, ...more] }
    const { code = '2.05', format } = reply
    const options = [...own]
    if (format !== undefined) options.push({ name: 'Content-Format', value: format })
    // The handler may be asked again for later blocks: a client sees whether they are of the same body (RFC 7959, 2.4).
    if (!own.some(({ name }) => name === 'ETag')) options.push({ name: 'ETag', value: tagOf(bytes) })
    const body = { payload: bytes, code, options }
    peer.transfers.keep(key, body)
    const cut = this.#cut(peer, key, body, { number: wanted?.number ?? 0, isMore: false, bytes: wanted?.bytes ?? most })
    return { ...cut, options: [...(cut.options ?? []), ...more] }
  }

  /** One block of an answer. */
  #cut(peer: Peer, key: string, { payload, code, options }: Outgoing, { number, bytes }: Block): CoapReply {
    const most = Math.min(bytes, this.#options.blockBytes)
    // A client that asks for smaller blocks in the middle counts in those.
    const from = number * bytes
    if (from >= payload.length) return { code: '4.00', payload: 'Block2 beyond the end' }
    const part = payload.subarray(from, from + most)
    const isMore = from + part.length < payload.length
    if (!isMore) peer.transfers.sent(key)
    const block = { name: 'Block2', value: blockValue({ number: from / most, isMore, bytes: most }) }
    const size = number === 0 ? [{ name: 'Size2', value: payload.length }] : []
    return { code, payload: part, options: [...options, block, ...size] }
  }

  #answer(peer: Peer, { type, messageId, token }: Received, said: unknown, isSeparate: boolean): Answer {
    const isPiggybacked = type === 'con' && !isSeparate
    const id = isPiggybacked ? messageId : this.#nextId(peer)
    const head = { type: isPiggybacked ? 'ack' : 'non', messageId: id, token: Buffer.from(token) } as const
    const bytes = this.#write(head, said as CoapReply)
    const exchange = peer.exchanges.get(messageId)
    if (exchange !== undefined) this.#remember(peer, exchange, bytes)
    return new Answer(bytes)
  }

  #remember(peer: Peer, exchange: Exchange, reply: Buffer): void {
    peer.replies ??= this.#account.hold(() => this.#forget(peer))
    const before = peer.replyBytes
    const bytes = before + REPLY_BYTES + reply.length
    const lack = bytes - peer.replies.bytes
    if (lack > 0 && !peer.replies.take(Math.ceil(lack / REPLIES_STEP) * REPLIES_STEP)) {
      exchange.reply = 'forgotten'
      return
    }
    peer.replyBytes = bytes
    exchange.reply = reply
  }

  /** Others need the room: of what was answered only the ids stay, so that nothing is done twice. */
  #forget(peer: Peer): void {
    peer.replies = undefined
    peer.replyBytes = 0
    for (const exchange of peer.exchanges.values()) if (exchange.reply !== undefined) exchange.reply = 'forgotten'
  }

  #notification({ connection, token, key, wanted }: Observation, reply: CoapReply, sequence: number) {
    const peer = this.#peerOf(connection)
    const id = this.#nextId(peer)
    const observe = { name: 'Observe', value: sequence }
    // What ends it has no place in the order (RFC 7641, 4.2).
    const more = reply.code?.startsWith('2') ? [observe] : []
    const said = this.#fit(peer, key, reply, wanted, more)
    return { id, bytes: this.#write({ type: 'con', messageId: id, token }, said) }
  }

  #write(head: Pick<ToSend, 'type' | 'messageId' | 'token'>, said: CoapReply): Buffer {
    const { code = '2.05', payload, format, options = [] } = said
    const { type, messageId, token = EMPTY } = head
    const packet: ToSend = {
      type,
      messageId,
      token,
      code,
      options: format === undefined ? options : [...options, { name: 'Content-Format', value: format }],
      payload: typeof payload === 'string' ? Buffer.from(payload) : payload,
    }
    return writePacket(packet, this.#library)
  }

  #empty(type: 'ack' | 'rst', messageId: number): Answer {
    return new Answer(writePacket({ type, messageId, code: '0.00' }, this.#library))
  }

  #peerOf(connection: Connection): Peer {
    let peer = this.#peers.get(connection)
    if (peer === undefined) {
      const made: Peer = {
        exchanges: new Map(),
        transfers: new Transfers(this.#account),
        replies: undefined,
        replyBytes: 0,
        lastId: Math.floor(Math.random() * 65_536),
      }
      peer = made
      this.#peers.set(connection, peer)
      void connection.closed.then(() => {
        made.transfers.clear()
        made.replies?.release()
      })
      dialogues.set(connection, this)
    }
    return peer
  }

  #nextId(peer: Peer): number {
    peer.lastId = (peer.lastId + 1) & 0xffff
    return peer.lastId
  }

  /** @returns the exchange this message id belongs to already; notes it where it is new. */
  #known(peer: Peer, messageId: number): Exchange | undefined {
    const now = this.#services.clock.now()
    const { exchanges } = peer
    const known = exchanges.get(messageId)
    if (known !== undefined && now - known.at < EXCHANGE_MS) return known
    if (known !== undefined) this.#drop(peer, messageId, known)
    exchanges.set(messageId, { reply: undefined, at: now })
    if (exchanges.size <= MOST_EXCHANGES) return undefined
    const [oldest] = exchanges
    if (oldest !== undefined) this.#drop(peer, ...oldest)
    return undefined
  }

  /** What was taken for it stays the peer's, for its next answers. */
  #drop(peer: Peer, messageId: number, { reply }: Exchange): void {
    peer.exchanges.delete(messageId)
    if (reply instanceof Buffer) peer.replyBytes -= REPLY_BYTES + reply.length
  }
}

/** RFC 7252, 5.10.6: up to eight bytes. */
function tagOf(bytes: Uint8Array): Buffer {
  return createHash('sha1').update(bytes).digest().subarray(0, 8)
}

function replyOf(said: unknown, method: CoapMethod): CoapReply {
  const code = successes[method]
  if (said === undefined) return { code }
  if (said === null) return { code: '4.04' }
  if (typeof said === 'string') return { code, payload: said, format: 0 }
  if (said instanceof Uint8Array) return { code, payload: said }
  if (typeof said !== 'object') {
    const remedy = 'return text, bytes, or { code, payload, format, options }'
    throw unfitReply('coap', `a reply is ${kindOf(said)}`, remedy)
  }
  const reply = { code, ...(said as CoapReply) }
  if (!/^[245]\.[0-3]\d$/.test(reply.code))
    throw unfitReply('coap', `a code is ${reply.code}`, 'return one such as 2.05')
  return reply
}
