/**
 * The opening handshake of a WebSocket server (RFC 6455, section 4.2): takes connected sockets, checks the request,
 * answers it or says why not, within a deadline.
 *
 * Room: transports. Node's own `http.Server` parses; it never listens, sockets are given to it by its documented
 * 'connection' event.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import { systemClock } from '../core/clock.js'
import type { Endpoint } from '../core/endpoint.js'
import { HandshakeError } from '../core/errors.js'
import { LATE } from './handshake-errors.js'
import { platformCode } from './platform-errors.js'
import { fittingOffers } from './websocket-extensions.js'
import type { WebSocketFacts } from './websocket-facts.js'
import { WINDOW_BITS, type Ws, type WsLibrary, type WsServer } from './websocket-library.js'
import type { WebSocketOptions } from './websocket-options.js'

/**
 * Told an error, or how to accept the request, now or after a pause, and by which rules; then still an error if it cannot be
 * accepted.
 */
export type UpgradeDone = (
  ...outcome:
    | [error: HandshakeError, accept: undefined, rules: undefined]
    | [error: undefined, accept: Accept, rules: UpgradeRules]
) => void

/** Sends the 101 and gives the socket to the library. */
export type Accept = (opened: (ws: Ws, facts: WebSocketFacts) => void) => void

type Refusal = [status: number, why: string, headers?: Record<string, string>]

interface Pending {
  readonly done: UpgradeDone
  /** Cancels the deadline. */
  readonly cancel: (() => void) | undefined
}

/** Longest delay of a Node timer. */
const MOST_MS = 2 ** 31 - 1
/** After a refusal: how long, and how much of, what the peer still sends is read. */
const LINGER_MS = 2_000
const LINGER_BYTES = 64 * 1024
const UPGRADE = { Upgrade: 'websocket', 'Sec-WebSocket-Version': '13' }

/** What an upgrade is held against: one listener's. */
export class UpgradeRules {
  /** Undefined: any. */
  readonly path: string | undefined
  readonly origins: ReadonlySet<string> | undefined
  readonly compresses: boolean
  readonly library: WsServer

  constructor({ WebSocketServer }: WsLibrary, shared: object, endpoint: Endpoint, options: WebSocketOptions) {
    const { origins, protocols = [], compress = false } = options
    this.path = endpoint.path
    this.origins = origins === undefined ? undefined : new Set(origins.map((origin) => origin.toLowerCase()))
    this.compresses = compress
    this.library = new WebSocketServer({
      ...shared,
      noServer: true,
      clientTracking: false,
      // What is not spoken is not confirmed (RFC 6455, section 4.2.2, 5).
      handleProtocols: (offered: ReadonlySet<string>) => protocols.find((name) => offered.has(name)) ?? false,
    })
  }
}

export class WebSocketUpgrades {
  readonly #server: Server
  /** By path; undefined: any that is not another's. */
  readonly #rules = new Map<string | undefined, UpgradeRules>()
  readonly #pending = new Map<Socket, Pending>()

  constructor() {
    this.#server = createServer()
    this.#server.on('upgrade', (request, socket, head) => this.#check(request, socket as Socket, head))
    this.#server.on('request', (request, response) => this.#answer(request, response))
    this.#server.on('clientError', (error, socket) => {
      const isLarge = platformCode(error) === 'HPE_HEADER_OVERFLOW'
      if (platformCode(error).startsWith('HPE_')) this.#refuse(socket as Socket, isLarge ? 431 : 400, error.message)
      else socket.destroy()
    })
  }

  /** Requests for its path are answered, from now on. */
  add(rules: UpgradeRules): void {
    this.#rules.set(rules.path, rules)
    rules.library.on('wsClientError', (error: Error, socket: Socket) => {
      this.#refuse(socket, 400, error.message)
    })
  }

  /** From now on they get 404. */
  remove(rules: UpgradeRules): void {
    if (this.#rules.get(rules.path) === rules) this.#rules.delete(rules.path)
  }

  /**
   * Begins a handshake on a socket that is connected.
   *
   * @param upgradeMs - From now to the end of the request's headers, whatever the peer sends meanwhile; Infinity: as
   * long as it takes.
   */
  begin(socket: Socket, upgradeMs: number, done: UpgradeDone): void {
    if (socket.destroyed) {
      done(new HandshakeError('HANDSHAKE_FAILED', LATE), undefined, undefined)
      return
    }
    const cancel =
      upgradeMs <= MOST_MS ? systemClock.after(upgradeMs, () => this.#expire(socket, upgradeMs)) : undefined
    this.#pending.set(socket, { done, cancel })
    socket.on('close', this.#closed)
    this.#server.emit('connection', socket)
    // Held by its listener in a pause until now.
    if (socket.isPaused()) socket.resume()
  }

  /** A request with an `Upgrade` header. */
  #check(request: IncomingMessage, socket: Socket, head: Buffer): void {
    const rules = this.#rulesOf(request.url)
    const refusal = rules === undefined ? this.#unknown(request) : refusalOf(request, rules)
    if (rules === undefined || refusal !== undefined) {
      this.#refuse(socket, ...(refusal ?? this.#unknown(request)))
      return
    }
    const pending = this.#pending.get(socket)
    if (pending === undefined) return
    if (rules.compresses) declineMisfits(request)
    // A pause of the listener is no fault of the peer.
    pending.cancel?.()
    const accept: Accept = (opened) => {
      rules.library.handleUpgrade(request, socket, head, (ws) => {
        this.#forget(socket)
        const { headers, url: path = '/' } = request
        opened(ws, { path, headers, protocol: ws.protocol || undefined, origin: originOf(request) })
      })
    }
    pending.done(undefined, accept, rules)
  }

  #unknown({ url = '' }: IncomingMessage): Refusal {
    const paths = [...this.#rules.keys()].join(', ')
    return [404, `the path ${show(url)} is not ${paths === '' ? 'served any more' : paths}`]
  }

  /** A request without an `Upgrade` header. */
  #answer(request: IncomingMessage, response: ServerResponse): void {
    const isOurs = this.#rulesOf(request.url) !== undefined
    const [status, why] = isOurs ? [426, 'a plain HTTP request, no WebSocket'] : this.#unknown(request)
    const upgrade = status === 426 ? { ...UPGRADE, Connection: 'Upgrade, close' } : { Connection: 'close' }
    response.writeHead(status, { ...upgrade, 'Content-Type': 'text/plain' }).end(`${STATUS_CODES[status]}\n`)
    this.#fail(request.socket, refused(status, why))
  }

  #rulesOf(url = ''): UpgradeRules | undefined {
    const query = url.indexOf('?')
    return this.#rules.get(query === -1 ? url : url.slice(0, query)) ?? this.#rules.get(undefined)
  }

  #refuse(socket: Socket, status: number, why: string, headers: Record<string, string> = {}): void {
    const text = `${STATUS_CODES[status]}\n`
    const lines = Object.entries({
      ...headers,
      Connection: status === 426 ? 'Upgrade, close' : 'close',
      'Content-Type': 'text/plain',
      'Content-Length': text.length,
    }).map(([name, value]) => `${name}: ${value}\r\n`)
    if (socket.writable) {
      socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join('')}\r\n${text}`)
      linger(socket)
    } else socket.destroy()
    this.#fail(socket, refused(status, why))
  }

  #expire(socket: Socket, limit: number): void {
    const message = `no whole upgrade request came within ${Math.round(limit)} ms (timeouts.handshakeMs)`
    const { done } = this.#forget(socket) ?? {}
    done?.(new HandshakeError('HANDSHAKE_TIMEOUT', message, { limit }), undefined, undefined)
    this.#refuse(socket, 408, message)
  }

  #fail(socket: Socket, error: HandshakeError): void {
    this.#forget(socket)?.done(error, undefined, undefined)
  }

  #forget(socket: Socket): Pending | undefined {
    const pending = this.#pending.get(socket)
    if (pending === undefined) return undefined
    this.#pending.delete(socket)
    pending.cancel?.()
    socket.off('close', this.#closed)
    return pending
  }

  readonly #closed = ((upgrades: WebSocketUpgrades) =>
    function (this: Socket): void {
      upgrades.#fail(this, new HandshakeError('HANDSHAKE_FAILED', LATE))
    })(this)
}

function refusalOf(request: IncomingMessage, { origins }: UpgradeRules): Refusal | undefined {
  const { method, headers } = request
  if (headers.upgrade?.toLowerCase() !== 'websocket') return [426, 'a plain HTTP request, no WebSocket', UPGRADE]
  if (method !== 'GET') return [405, `the method is ${method}, not GET`, { Allow: 'GET' }]
  const version = headers['sec-websocket-version']
  if (version !== '13') return [426, `the version is ${show(version ?? 'missing')}, not 13`, UPGRADE]
  const origin = originOf(request)
  if (origin !== undefined && origins !== undefined && !origins.has(origin.toLowerCase())) {
    return [403, `the origin ${show(origin)} is not in socket.origins`]
  }
  return undefined
}

/**
 * Reads on for a while and drops it: a socket closed with bytes unread is reset, and a reset discards on the peer's side
 * what it has not read yet, our answer among it (RFC 9112, section 9.6).
 */
function linger(socket: Socket): void {
  const timer = setTimeout(() => socket.destroy(), LINGER_MS)
  timer.unref()
  let left = LINGER_BYTES
  socket.removeAllListeners('data')
  socket.on('data', (chunk: Buffer) => {
    left -= chunk.length
    if (left < 0) socket.destroy()
  })
  socket.once('end', () => socket.destroy())
  socket.once('close', () => clearTimeout(timer))
  socket.resume()
}

/** An offer that is gone is one that was declined. */
function declineMisfits({ headers }: IncomingMessage): void {
  const offers = fittingOffers(headers['sec-websocket-extensions'], WINDOW_BITS)
  if (offers === undefined) delete headers['sec-websocket-extensions']
  else headers['sec-websocket-extensions'] = offers
}

function refused(status: number, why: string): HandshakeError {
  return new HandshakeError('HANDSHAKE_FAILED', `refused with ${status} ${STATUS_CODES[status]}: ${why}`, { status })
}

function originOf({ headers }: IncomingMessage): string | undefined {
  return headers.origin
}

/** What a peer sent, in an error: short, and printable. */
function show(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}…` : text)
}
