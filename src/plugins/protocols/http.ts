/**
 * HTTP/1.1: Node's own server, fed connections of any stream transport.
 *
 * Room: plugins/protocols. RFC 9110, 9112. What answers is an application (a request listener, Express, Fastify), a
 * fetch-style function, or the decorated handler, by method. `node:http` parses and writes; limits, deadlines, TLS, PROXY
 * headers and drain are the listener's, as for every protocol.
 */
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http'
import { type Duplex, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Clock } from '../../core/clock.js'
import type { Codec } from '../../core/codec.js'
import { FrameError, toError, UnroutedMessageError, WiringError } from '../../core/errors.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Detection, Factory, Protocol, ProtocolPort } from '../../core/plugin.js'

/** What frameworks are, seen from here. */
export type HttpApp = RequestListener | { ready(): PromiseLike<unknown>; routing: RequestListener }

export interface HttpOptions {
  readonly app?: HttpApp
  readonly fetch?: (request: Request) => Response | Promise<Response>
  readonly requestMs: number
  readonly headerBytes: number
  readonly pipelined: number
}

/** What `@OnMessage('GET')` gets. */
export interface HttpRequest {
  readonly method: string
  /** Path and query, as they came. */
  readonly url: string
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: IncomingMessage['headers']
  /** The whole body; `limits.frameBytes` at most. */
  bytes(): Buffer
  text(): string
  /** @throws SyntaxError */
  json(): unknown
}

/**
 * The route is the method. A handler returns text, bytes, an object (as JSON), a `Response`, or nothing (204); what nobody
 * takes is 405, what throws 500 without its words, a body over `limits.frameBytes` 413.
 *
 * Headers have `timeouts.frameMs` to come, a whole request `requestMs`; then 408. Between requests `timeouts.idleMs` counts.
 * At a drain requests under way are answered with `Connection: close`, idle connections end at once. A client that has finished
 * its side gets its answers, however late a handler gives them, and then our side ends; `timeouts.halfClosedMs` counts while
 * nothing goes out. A client that does not wait for replies is read no further while more than `pipelined` requests of it wait.
 *
 * @example
 * protocol: { name: 'http', app: fastify }          // or an Express app, or (request, response) => ...
 * protocol: { name: 'http', fetch: (request) => new Response('hello') }
 * { "listen": ["tcp://[::]:8080", "unix:./web.sock"], "protocol": "http", "handler": "./pages.ts" }
 */
export const http: Factory<Protocol, HttpOptions> = {
  name: 'http',
  options: optionSchema<HttpOptions>({
    app: {
      unit: 'any',
      check: (app) =>
        listenerOf(app as HttpApp) === undefined ? 'expected a request listener, or a Fastify instance' : undefined,
      why: 'In code: `(request, response) => …`, an Express application or a Fastify instance.',
    },
    fetch: {
      unit: 'any',
      check: (value) =>
        typeof value === 'function' ? undefined : 'expected a function (request: Request) => Response',
      why: 'In code: a fetch-style handler; bodies stream both ways.',
    },
    requestMs: { unit: 'ms', min: 1, default: 300_000, unlimited: true, why: 'For a whole request, body included.' },
    headerBytes: { unit: 'bytes', min: 256, default: 16_384, why: 'Largest head of a request; more is 431.' },
    pipelined: {
      unit: 'count',
      min: 1,
      default: 16,
      unlimited: true,
      why: 'Requests of a connection that wait for their replies; with more of them nothing is read on from it, until half are answered. What one read had brought (64 KiB at most) is taken whole.',
    },
  }),
  create(options, services) {
    if (options.app !== undefined && options.fetch !== undefined)
      throw new WiringError('BAD_OPTION', 'protocol http: `app` and `fetch` both answer requests; give one')
    let front: HttpFront | undefined
    return {
      codec: unread,
      needs: { stream: true, ordered: true, reliable: true },
      alpn: ['http/1.1'],
      detect,
      serve(port) {
        front ??= new HttpFront(options, services.clock, port)
        front.take(port)
      },
    }
  },
}

/** Everything is read by Node's parser. */
const unread: Codec = {
  decode: (frame) => frame,
  encode: (message) => String(message),
}

const METHODS = ['GET ', 'POST ', 'PUT ', 'HEAD ', 'DELETE ', 'OPTIONS ', 'PATCH ', 'CONNECT ', 'TRACE ']

function detect(buffer: Buffer, start: number, end: number): Detection {
  const front = buffer.toString('latin1', start, Math.min(end, start + 8))
  if (METHODS.some((method) => front.startsWith(method))) return 'yes'
  return METHODS.some((method) => method.startsWith(front)) ? 'more' : 'no'
}

function listenerOf(app: HttpApp | undefined): RequestListener | undefined {
  if (typeof app === 'function') return app
  const { routing } = (app ?? {}) as { routing?: unknown }
  return typeof routing === 'function' ? (routing as RequestListener) : undefined
}

/** Errors of Node's parser and of its watch, as statuses (node:http, 'clientError'). */
const refusals: Readonly<Record<string, number>> = {
  ERR_HTTP_REQUEST_TIMEOUT: 408,
  HPE_HEADER_OVERFLOW: 431,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
}

// One property of the stream: a WeakMap would have to be gone through with each collection.
const SEAT = Symbol('gaidaros.http.seat')

interface Seated {
  [SEAT]?: Seat
}

/** What hangs on a stream that Node takes for a socket. */
interface Seat {
  readonly port: ProtocolPort
  /** The response under way: of several, the last. */
  response: ServerResponse | undefined
  /** The one before it, for clients that do not wait. */
  earlier: ServerResponse | undefined
  isRefused: boolean
  /** A reply has said `Connection: close`: what came behind its request is not handled (RFC 9112, 9.6). */
  isOver: boolean
  isDraining: boolean
  /** Requests so far. */
  begun: number
  /** Requests without a whole reply. */
  waiting: number
  /** Nothing is read, since too many wait. */
  isHeld: boolean
  /** What Node's watch found late while nothing was read. */
  late: HttpError | undefined
  /** The decorated handler at work: one request at a time, in their order, though several have come. */
  work: Promise<void> | undefined
}

type HttpError = Error & { code?: string }

class HttpFront {
  readonly #server: Server
  readonly #clock: Clock
  readonly #options: HttpOptions
  /** Until the application is ready, connections wait. */
  #ready: PromiseLike<unknown> | undefined

  constructor(options: HttpOptions, clock: Clock, { timeouts }: ProtocolPort) {
    this.#options = options
    this.#clock = clock
    const { app, requestMs, headerBytes } = options
    const listener = listenerOf(app) ?? ((request, response) => this.#answer(request, response))
    this.#server = createServer(
      {
        headersTimeout: finite(Math.min(timeouts.frameMs, requestMs)),
        requestTimeout: finite(requestMs),
        connectionsCheckingInterval: Math.max(
          50,
          Math.min(1_000, finite(Math.min(timeouts.frameMs, requestMs)) / 4 || 1_000),
        ),
        maxHeaderSize: headerBytes,
        // The transport did what was asked for.
        noDelay: false,
        // Node would answer, and let through what came behind the request.
        requireHostHeader: false,
      },
      (request, response) => {
        const seat = (request.socket as Seated)[SEAT]
        if (seat === undefined) return
        // What comes behind the last reply is not handled; it must not be gathered either.
        if (seat.isOver) return this.#hold(seat, request.socket)
        this.#begin(seat, response)
        if (request.headers.host === undefined && request.httpVersion === '1.1') this.#refuseHostless(seat, response)
        else listener(request, response)
      },
    )
    // Node leaves out what comes behind the 2,000th without a word; `headerBytes` bounds them.
    this.#server.maxHeadersCount = 0
    // Node would write its answer and destroy the stream behind it; ours is sent first.
    this.#server.on('clientError', (error: HttpError, stream) => this.#refuse(error, stream))
    // The peer's end is no end of ours: what it asked before is answered, and then Node ends our side.
    ;(this.#server as Server & { httpAllowHalfOpen: boolean }).httpAllowHalfOpen = true
    // Between requests the listener's `idleMs` counts.
    this.#server.keepAliveTimeout = 0
    // It never listens; this starts its watch over headersTimeout and requestTimeout (node:http, setupConnectionsTracking).
    this.#server.emit('listening')
    if (typeof app === 'object') {
      this.#ready = app.ready()
      this.#ready.then(() => {
        this.#ready = undefined
      })
    }
  }

  take(port: ProtocolPort): void {
    if (this.#ready === undefined) return this.#feed(port)
    port.connection.pause()
    this.#ready.then(
      () => {
        port.connection.resume()
        this.#feed(port)
      },
      (error) => port.connection.abort(toError(error)),
    )
  }

  #feed(port: ProtocolPort): void {
    const { connection } = port
    const stream: Duplex & Seated = port.stream()
    const seat: Seat = {
      port,
      response: undefined,
      earlier: undefined,
      isRefused: false,
      isOver: false,
      isDraining: false,
      begun: 0,
      waiting: 0,
      isHeld: false,
      late: undefined,
      work: undefined,
    }
    stream[SEAT] = seat
    // A peer that leaves in the middle is no failure of ours.
    stream.on('error', ignore)
    void port.draining.then(() => {
      seat.isDraining = true
      if (seat.response === undefined) connection.end()
      else if (!seat.response.headersSent) seat.response.setHeader('Connection', 'close')
      else seat.response.once('close', () => connection.end())
    })
    this.#server.emit('connection', stream)
    // Node goes on by itself, when a reply has drained or a body is wanted. Its own ear, which starts the reading, is before ours.
    stream.on('resume', () => {
      if (seat.isHeld) stream.pause()
    })
  }

  /** Nothing is read on: Node stops the reading of a socket, a stream of ours that of its connection. */
  #hold(seat: Seat, stream: Duplex): void {
    if (seat.isHeld) return
    seat.isHeld = true
    stream.pause()
  }

  #release(seat: Seat, stream: Duplex): void {
    seat.isHeld = false
    stream.resume()
    const { late, begun, response, port } = seat
    if (late === undefined) return
    // It was late because nothing was read. It has its time anew, by a clock of ours: Node tells once.
    seat.late = undefined
    const isBody = response !== undefined && !response.req.complete
    const ms = finite(isBody ? this.#options.requestMs : port.timeouts.frameMs)
    if (ms === 0) return
    const cancel = this.#clock.after(ms, () => {
      if (isBody ? !response.req.complete : seat.begun === begun) this.#refuse(late, stream)
    })
    stream.once('close', cancel)
  }

  /** What cannot be read is answered in its turn: behind the replies to what came before it, and then the connection ends. */
  #refuse(error: HttpError, stream: object): void {
    const seat = (stream as Seated)[SEAT]
    // Node tells again for each chunk that comes meanwhile.
    if (seat === undefined || seat.isRefused) return
    if (seat.isHeld && error.code === 'ERR_HTTP_REQUEST_TIMEOUT') {
      seat.late = error
      return
    }
    seat.isRefused = true
    const { response, earlier } = seat
    // In the body of a request the refusal is that one's reply.
    const isOwn = response !== undefined && !response.req.complete
    const awaited = isOwn ? earlier : response
    const say = () => {
      const { connection } = seat.port
      const status = refusals[error.code ?? ''] ?? 400
      if (!(isOwn && response.headersSent) && error.code !== 'ECONNRESET') {
        const head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`
        void connection.write(Buffer.from(head))
      }
      void connection.close(status === 408 ? 'TIMEOUT' : status === 400 ? 'MALFORMED' : 'TOO_LARGE')
    }
    if (awaited === undefined || awaited.closed || error.code === 'ECONNRESET') say()
    else awaited.once('close', say)
  }

  /** RFC 9112, 3.2. */
  #refuseHostless(seat: Seat, response: ServerResponse): void {
    seat.isOver = true
    response.writeHead(400, { connection: 'close', 'content-length': 0 }).end()
  }

  #begin(seat: Seat, response: ServerResponse): void {
    seat.earlier = seat.response
    seat.response = response
    seat.begun++
    const { pipelined } = this.#options
    const stream = response.req.socket
    if (++seat.waiting > pipelined) this.#hold(seat, stream)
    if (seat.isDraining) response.setHeader('Connection', 'close')
    response.once('close', () => {
      if (seat.response === response) seat.response = undefined
      seat.waiting--
      if (seat.isHeld && !seat.isOver && seat.waiting <= pipelined / 2) this.#release(seat, stream)
    })
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const seat = (request.socket as Seated)[SEAT] as Seat
    const { fetch } = this.#options
    if (fetch !== undefined) return void this.#fetched(fetch, request, response)
    const before = seat.work
    const work =
      before === undefined
        ? this.#handled(seat, request, response)
        : before.then(() => this.#handled(seat, request, response))
    seat.work = work
    void work.then(() => {
      if (seat.work === work) seat.work = undefined
    })
  }

  async #fetched(
    fetch: NonNullable<HttpOptions['fetch']>,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    try {
      const target = urlOf(request)
      if (typeof target === 'number') response.writeHead(target, { connection: 'close', 'content-length': 0 }).end()
      else await send(response, await fetch(toRequest(request, target)), request)
    } catch (thrown) {
      fail(response, toError(thrown))
    }
  }

  async #handled(seat: Seat, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { port } = seat
    if (seat.isOver) return
    try {
      const body = await bodyOf(request, port.limits.frameBytes)
      const message = toMessage(request, body)
      const reply = await port.handle(message, message.method, body.length)
      await answer(response, reply, request)
    } catch (thrown) {
      fail(response, toError(thrown))
    }
    // Node's own word for it, since Node 0.3: whoever said `Connection: close`, the handler, HTTP/1.0 or a refusal.
    seat.isOver = (response as { _last?: boolean })._last === true
  }
}

function ignore(): void {}

function finite(ms: number): number {
  return Number.isFinite(ms) ? ms : 0
}

/** The body, bounded. @throws {FrameError} `TOO_LARGE`. */
async function bodyOf(request: IncomingMessage, most: number): Promise<Buffer> {
  if (Number(request.headers['content-length'] ?? 0) > most) throw tooLarge(most)
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request) {
    size += (chunk as Buffer).length
    if (size > most) throw tooLarge(most)
    chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks)
}

function tooLarge(most: number): FrameError {
  return new FrameError('TOO_LARGE', `bodies of at most ${most} bytes are taken (limits.frameBytes)`, { limit: most })
}

function toMessage(request: IncomingMessage, body: Buffer): HttpRequest {
  const { method = 'GET', url = '/', headers } = request
  const mark = url.indexOf('?')
  return {
    method,
    url,
    path: mark < 0 ? url : url.slice(0, mark),
    query: new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1)),
    headers,
    bytes: () => body,
    text: () => body.toString(),
    json: () => JSON.parse(body.toString()),
  }
}

/** What `Request` refuses to be (Fetch, section 2.2.1, forbidden methods). */
const unfetchable = new Set(['CONNECT', 'TRACE', 'TRACK'])
/** RFC 9110, section 7.2, and RFC 3986, section 3.2: a name, an address or `[::1]`, and a port; no user, no path. */
const AUTHORITY = /^(?:[\w.~!$&'()*+,;=%-]+|\[[0-9a-f:.]+\])(?::\d{0,5})?$/i

/**
 * The URL of a request. Whose server is meant is said by Host alone (RFC 9112, section 3.3): a target of `//evil.example/` is a path,
 * though a URL resolver would take it for another host. Only a target in absolute form has an authority of its own, which counts
 * before Host's (3.2.2).
 *
 * @returns the status that refuses it, where it has none.
 */
function urlOf({ method = 'GET', url = '/', headers, rawHeaders, socket }: IncomingMessage): URL | number {
  if (unfetchable.has(method)) return 501
  const scheme = (socket as { encrypted?: boolean }).encrypted ? 'https' : 'http'
  const hosts = rawHeaders.filter((_, i) => i % 2 === 0 && rawHeaders[i]?.toLowerCase() === 'host')
  const host = headers.host ?? 'localhost'
  if (hosts.length > 1 || !AUTHORITY.test(host)) return 400
  const isAbsolute = /^https?:\/\//i.test(url)
  const target = isAbsolute ? url : `${scheme}://${host}${url.startsWith('/') ? url : `/${url}`}`
  return URL.canParse(target) ? new URL(target) : 400
}

function toRequest(incoming: IncomingMessage, target: URL): Request {
  const { method = 'GET' } = incoming
  const list = new Headers()
  for (let i = 0; i < incoming.rawHeaders.length; i += 2)
    list.append(incoming.rawHeaders[i] as string, incoming.rawHeaders[i + 1] as string)
  const hasBody = method !== 'GET' && method !== 'HEAD'
  const body = hasBody ? { body: Readable.toWeb(incoming), duplex: 'half' } : {}
  return new Request(target, { method, headers: list, ...body } as RequestInit)
}

/** What a handler returned; known sizes go out with their length. */
async function answer(response: ServerResponse, reply: unknown, request: IncomingMessage): Promise<void> {
  if (reply instanceof Response) return send(response, reply, request)
  if (reply === undefined) {
    response.writeHead(204).end()
    return
  }
  const isBytes = reply instanceof Uint8Array
  const body = typeof reply === 'string' || isBytes ? reply : JSON.stringify(reply)
  const type = isBytes ? 'application/octet-stream' : typeof reply === 'string' ? 'text/plain' : 'application/json'
  response.setHeader('content-type', isBytes ? type : `${type}; charset=utf-8`)
  response.setHeader('content-length', Buffer.byteLength(body))
  response.end(request.method === 'HEAD' ? undefined : body)
}

async function send(response: ServerResponse, given: Response, request: IncomingMessage): Promise<void> {
  if (!(given instanceof Response)) throw new WiringError('BAD_HANDLER', 'fetch must return a Response')
  response.statusCode = given.status
  if (given.statusText !== '') response.statusMessage = given.statusText
  for (const [name, value] of given.headers) if (name !== 'set-cookie') response.setHeader(name, value)
  const cookies = given.headers.getSetCookie()
  if (cookies.length > 0) response.setHeader('set-cookie', cookies)
  if (given.body === null || request.method === 'HEAD') {
    response.end()
    return
  }
  await pipeline(Readable.fromWeb(given.body as never), response)
}

/** A status and its name; what went wrong inside is for the log. */
function fail(response: ServerResponse, error: Error): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  const cause = error instanceof UnroutedMessageError || error instanceof FrameError ? error : error.cause
  let status = 500
  if (cause instanceof UnroutedMessageError) status = 405
  else if (cause instanceof FrameError) status = cause.code === 'TOO_LARGE' ? 413 : 400
  // What is left of a body that was refused is not read.
  if (status === 413) response.setHeader('connection', 'close')
  response.setHeader('content-type', 'text/plain')
  response.writeHead(status).end(`${STATUS_CODES[status]}\n`)
}
