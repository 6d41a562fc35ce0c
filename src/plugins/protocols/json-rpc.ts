/**
 * JSON-RPC 2.0, both directions on one connection.
 *
 * Room: plugins/protocols. jsonrpc.org/specification. Framed as JSON lines, or behind `Content-Length` headers as the
 * Language Server Protocol does.
 */
import type { Codec, CodecContext, FrameLimits, FrameReader } from '../../core/codec.js'
import type { Connection } from '../../core/connection.js'
import { ConnectionError, FrameError, toError, UnroutedMessageError } from '../../core/errors.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Detection, Factory, Protocol } from '../../core/plugin.js'
import { isThenable } from '../../core/thenable.js'
import { HeaderReader, LineReader, readJson } from './json-rpc-frames.js'
import { kindOf, LF, unfitReply } from './text-support.js'

export interface JsonRpcOptions {
  readonly framing: 'lines' | 'headers'
  readonly batch: number
  readonly depth: number
}

type Id = string | number | null

/** A failure in the caller's hands: its code, words and data go to the peer. */
export class RpcError extends Error {
  constructor(
    readonly code: number,
    message: string,
    readonly data?: unknown,
  ) {
    super(message)
  }
}

/** What a handler's method gets, by route: the parameters are the message of `@OnMessage('add')`. */
export interface RpcRequest {
  readonly jsonrpc: '2.0'
  readonly method: string
  readonly params?: unknown
  readonly id?: Id
}

interface Response {
  readonly jsonrpc: '2.0'
  readonly id: Id
  readonly result?: unknown
  readonly error?: { readonly code: number; readonly message: string; readonly data?: unknown }
}

/** Section 5.1. */
const PARSE = -32_700
const INVALID = -32_600
const NOT_FOUND = -32_601
const PARAMS = -32_602
const INTERNAL = -32_603

/** Calls to the peer of a connection, and their answers. */
export interface RpcPeer {
  /** @throws {RpcError} the peer's; {ConnectionError} `CLOSED` when it left first. */
  call(method: string, params?: unknown): Promise<unknown>
  notify(method: string, params?: unknown): Promise<void>
}

interface Pending {
  readonly resolve: (result: unknown) => void
  readonly reject: (error: Error) => void
}

class Peer implements RpcPeer {
  readonly pending = new Map<Id, Pending>()
  #lastId = 0
  constructor(readonly connection: Connection) {
    void connection.closed.then(({ code }) => {
      const error = () => new ConnectionError('CLOSED', `the peer left before it answered (${code})`)
      for (const { reject } of this.pending.values()) reject(error())
      this.pending.clear()
    })
  }

  call(method: string, params?: unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = ++this.#lastId
      this.pending.set(id, { resolve, reject })
      this.connection.send({ jsonrpc: '2.0', method, params, id }).catch((error) => {
        this.pending.delete(id)
        reject(error)
      })
    })
  }
  notify(method: string, params?: unknown): Promise<void> {
    return this.connection.send({ jsonrpc: '2.0', method, params })
  }

  settle({ id, result, error }: Response): void {
    const pending = this.pending.get(id)
    this.pending.delete(id)
    if (error === undefined) pending?.resolve(result)
    else {
      // The peer's own word for it, whatever that looks like.
      const { code, message, data } = (error ?? {}) as { code?: unknown; message?: unknown; data?: unknown }
      pending?.reject(new RpcError(Number.isInteger(code) ? (code as number) : INTERNAL, String(message), data))
    }
  }
}

const peers = new WeakMap<Connection, Peer>()

/** The other side of a connection that speaks `json-rpc`, for calling it. */
export function rpc(connection: Connection): RpcPeer {
  return peerOf(connection)
}

function peerOf(connection: Connection): Peer {
  let peer = peers.get(connection)
  if (peer === undefined) peers.set(connection, (peer = new Peer(connection)))
  return peer
}

/**
 * The client's side: answers calls of the server by `methods`, and makes its own.
 *
 * @example
 * const server = rpcClient(await connect('tcp://localhost:8080', { protocol: 'json-rpc' }), { ping: () => 'pong' })
 * await server.call('add', [1, 2])
 */
export function rpcClient(
  connection: Connection & { messages(): AsyncIterable<unknown> },
  methods: Readonly<Record<string, (params: unknown) => unknown>> = {},
): RpcPeer {
  const peer = peerOf(connection)
  const listen = async () => {
    for await (const message of connection.messages()) {
      if (isResponse(message)) peer.settle(message)
      else {
        const said = await respond(message, (request) => {
          const method = Object.hasOwn(methods, request.method) ? methods[request.method] : undefined
          if (method === undefined) throw new RpcError(NOT_FOUND, 'Method not found')
          return method(request.params)
        })
        if (said !== undefined) void connection.send(said)
      }
    }
  }
  listen().catch(() => {})
  return peer
}

/**
 * Routes are method names; the message is `params`.
 *
 * What a method returns is the result (nothing is `null`); throw `RpcError` for an error of your own, anything else is
 * -32603 without its words. Notifications are never answered, batches are answered by one list, in order. A schema misfit
 * is -32602, a method nobody has -32601. A line that is no JSON is answered -32700 and the connection goes on; where the
 * framing itself is lost it ends.
 *
 * @example
 * { "endpoint": "tcp://[::]:8080", "protocol": "json-rpc", "handler": "./calculator.ts" }
 */
export const jsonRpc: Factory<Protocol, JsonRpcOptions> = {
  name: 'json-rpc',
  options: optionSchema<JsonRpcOptions>({
    framing: {
      unit: 'choice',
      choices: ['lines', 'headers'],
      default: 'lines',
      why: 'A JSON value a line, or a Content-Length header before each (Language Server Protocol).',
    },
    batch: { unit: 'count', min: 1, default: 100, why: 'Most requests in one batch.' },
    depth: {
      unit: 'count',
      min: 2,
      default: 64,
      why: 'How deep objects and arrays may be nested; more is a parse error.',
    },
  }),
  create({ framing, batch, depth }) {
    /** The request whose handling threw: its error reply needs the id. */
    const failing = new WeakMap<Error, Id>()
    return {
      codec: new RpcCodec(framing, depth),
      clientCodec: new RpcClientCodec(framing, depth),
      needs: { ordered: true },
      // An answer to a call of ours may come while the method waits for it.
      order: 'concurrent',
      middleware: {
        name: 'json-rpc',
        message(context, next) {
          const { connection, message } = context
          if (Array.isArray(message)) return answerBatch(message, batch, (one) => context.handle(one, routeOf(one)))
          if (isResponse(message)) return peerOf(connection).settle(message)
          return respond(
            message,
            (request) => {
              context.message = request.params
              return next()
            },
            (error, id) => failing.set(error, id),
          )
        },
      },
      errorReply(error) {
        const cause = error.cause instanceof Error ? error.cause : error
        if (error instanceof FrameError) return failure(null, PARSE, 'Parse error')
        const id = failing.get(error) ?? failing.get(cause)
        // A notification has no answer, not even this one.
        return id === undefined ? undefined : failure(id, INTERNAL, 'Internal error')
      },
      survives: (error) => !(error instanceof FrameError),
      detect: framing === 'lines' ? detectLine : detectHeader,
    }
  },
}

/** A JSON object or a batch. */
function detectLine(buffer: Buffer, start: number, end: number): Detection {
  let at = start
  while (at < end && (buffer[at] === 0x20 || buffer[at] === LF || buffer[at] === 0x0d || buffer[at] === 0x09)) at++
  if (at === end) return 'more'
  if (buffer[at] === 0x7b) return 'yes'
  if (buffer[at] !== 0x5b) return 'no'
  return detectLine(buffer, at + 1, end)
}

function detectHeader(buffer: Buffer, start: number, end: number): Detection {
  const front = buffer.toString('latin1', start, Math.min(end, start + 15)).toLowerCase()
  if (front === 'content-length:') return 'yes'
  return 'content-length:'.startsWith(front) ? 'more' : 'no'
}

/** Runs one request. @param failed - Told of what is not the caller's to know; it is thrown on. */
function respond(
  message: unknown,
  run: (request: RpcRequest) => unknown,
  failed?: (error: Error, id: Id) => void,
): unknown {
  if (message === NO_JSON) return failure(null, PARSE, 'Parse error')
  if (!isRequest(message)) return failure(null, INVALID, 'Invalid Request')
  const { id } = message
  const said = (result: unknown): Response | undefined =>
    id === undefined ? undefined : { jsonrpc: '2.0', id, result: result ?? null }
  const threw = (thrown: unknown): Response | undefined => {
    const refusal = refusalOf(thrown)
    if (refusal === undefined && failed !== undefined) {
      const error = toError(thrown)
      if (id !== undefined) failed(error, id)
      throw error
    }
    if (id === undefined) return undefined
    return refusal === undefined ? failure(id, INTERNAL, 'Internal error') : { jsonrpc: '2.0', id, error: refusal }
  }
  try {
    const result = run(message)
    return isThenable(result) ? Promise.resolve(result).then(said).catch(threw) : said(result)
  } catch (thrown) {
    return threw(thrown)
  }
}

/** Section 6: one list of answers, none for notifications, nothing at all where there were only those. */
function answerBatch(requests: readonly unknown[], most: number, handle: (one: unknown) => unknown): unknown {
  if (requests.length === 0) return failure(null, INVALID, 'Invalid Request: an empty batch')
  if (requests.length > most) return failure(null, INVALID, `Invalid Request: at most ${most} in a batch`)
  const one = (request: unknown): unknown => {
    const lost = () =>
      isRequest(request) && request.id !== undefined ? failure(request.id, INTERNAL, 'Internal error') : undefined
    try {
      const answer = Array.isArray(request) ? failure(null, INVALID, 'Invalid Request') : handle(request)
      return isThenable(answer) ? Promise.resolve(answer).catch(lost) : answer
    } catch {
      return lost()
    }
  }
  const answers = requests.map(one)
  const gather = (all: readonly unknown[]): Batch | undefined => {
    const said = all.filter((answer) => answer !== undefined)
    return said.length === 0 ? undefined : new Batch(said)
  }
  return answers.some(isThenable) ? Promise.all(answers).then(gather) : gather(answers)
}

/** One reply, though it is a list. */
class Batch {
  constructor(readonly answers: readonly unknown[]) {}
}

function failure(id: Id, code: number, message: string): Response {
  return { jsonrpc: '2.0', id, error: { code, message } }
}

function refusalOf(thrown: unknown): Response['error'] | undefined {
  if (thrown instanceof RpcError) {
    const { code, message, data } = thrown
    return data === undefined ? { code, message } : { code, message, data }
  }
  if (thrown instanceof UnroutedMessageError) return { code: NOT_FOUND, message: 'Method not found' }
  if (thrown instanceof FrameError) return { code: PARAMS, message: `Invalid params: ${thrown.message}` }
  return undefined
}

function isRequest(message: unknown): message is RpcRequest {
  if (typeof message !== 'object' || message === null || Array.isArray(message)) return false
  const { jsonrpc, method, params, id } = message as RpcRequest
  const isId = id === undefined || id === null || typeof id === 'string' || typeof id === 'number'
  return jsonrpc === '2.0' && typeof method === 'string' && isId && (params === undefined || typeof params === 'object')
}

function isResponse(message: unknown): message is Response {
  return (
    typeof message === 'object' &&
    message !== null &&
    !('method' in message) &&
    ('result' in message || 'error' in message)
  )
}

function routeOf(message: unknown): string | undefined {
  return isRequest(message) ? message.method : undefined
}

const NO_JSON = Symbol('no JSON')

class RpcCodec implements Codec {
  readonly framer: { open(limits: FrameLimits): FrameReader }
  readonly #hasHeaders: boolean
  readonly #depth: number

  constructor(framing: 'lines' | 'headers', depth: number) {
    this.#hasHeaders = framing === 'headers'
    this.#depth = depth
    this.framer = { open: (limits) => (this.#hasHeaders ? new HeaderReader(limits) : new LineReader(limits)) }
  }

  decode(frame: Uint8Array): unknown {
    const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength)
    // Answered, not the end: the next frame is where it is.
    return readJson(bytes, this.#depth) ?? NO_JSON
  }
  encode(message: unknown, { kind }: CodecContext): string {
    const value = message instanceof Batch ? message.answers : message
    if (typeof value !== 'object' || value === null) {
      throw unfitReply(
        'json-rpc',
        `expected a request or response, got ${kindOf(value)}`,
        'use rpc(connection).notify()',
      )
    }
    const text = JSON.stringify(value)
    if (kind === 'message') return text
    return this.#hasHeaders ? `Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}` : `${text}\n`
  }
  isMessage(value: unknown): boolean {
    return Array.isArray(value)
  }
  route(message: unknown): string | undefined {
    return routeOf(message)
  }
  correlate(message: unknown): string | number | undefined {
    const { id } = message as { id?: Id }
    return id ?? undefined
  }
}

/** The server may call the client by a number that the client has given to a call of its own. */
class RpcClientCodec extends RpcCodec {
  readonly #calls = new WeakSet<object>()

  override decode(frame: Uint8Array): unknown {
    const message = super.decode(frame)
    if (typeof message === 'object' && message !== null && !isResponse(message)) this.#calls.add(message)
    return message
  }
  override correlate(message: unknown): string | number | undefined {
    // No id is this: it answers nobody.
    if (typeof message !== 'object' || message === null || this.#calls.has(message)) return Number.NaN
    return super.correlate(message)
  }
}
