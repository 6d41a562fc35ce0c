/**
 * A small HTTP server for operators: metrics and health answer here, away from the listeners.
 *
 * Room: plugins/observability. Never public by accident: loopback unless `public` is spelled, and a page in somebody's browser
 * cannot reach it by a name of its own (DNS rebinding), because names that are not ours are refused. Bounded in connections
 * and time; it lets the process end.
 */
import { timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { BindError, type BindErrorCode, ConfigError } from '../../core/errors.js'
import { isAddress, Networks, plainAddress } from '../../core/networks.js'
import type { OptionFields } from '../../core/option-schema.js'

export interface OperatorOptions {
  host: string
  port: number
  public: boolean
  token?: string
}

export function operatorFields(port: number): OptionFields<OperatorOptions> {
  return {
    host: { unit: 'text', default: '127.0.0.1', why: 'The address it answers at.' },
    port: { unit: 'count', max: 65_535, default: port, why: 'Its port; 0 picks one, which `plugin.bound` tells.' },
    public: {
      unit: 'switch',
      default: false,
      why: 'Leave to answer at an address that is not loopback; without it the start fails.',
    },
    token: {
      unit: 'text',
      secret: true,
      why: 'Asked for as `Authorization: Bearer …`. None: whoever reaches the address.',
    },
  }
}

export interface Page {
  readonly status: number
  readonly type: string
  readonly body: string
}

const MOST_CONNECTIONS = 32
const HEADERS_MS = 5_000

const loopback = new Networks(['127.0.0.0/8', '::1'], 'loopback')

export class OperatorHttp {
  readonly #plugin: string
  readonly #options: OperatorOptions
  readonly #pages: ReadonlyMap<string, () => Page | Promise<Page>>
  #server: Server | undefined

  /**
   * @param pages - By path; each is asked anew.
   * @throws {ConfigError} `BAD_VALUE` for an address that others can reach, without `public`.
   */
  constructor(plugin: string, options: OperatorOptions, pages: ReadonlyMap<string, () => Page | Promise<Page>>) {
    this.#plugin = plugin
    this.#options = options
    this.#pages = pages
    if (options.public || isLoopback(options.host)) return
    const message = `plugin ${plugin}: host \`${options.host}\` can be reached by others; say "public": true if that is meant (and give a "token"), or use 127.0.0.1`
    throw new ConfigError('BAD_VALUE', message, { host: options.host })
  }

  /** @returns where it answers: `http://127.0.0.1:9464`. @throws {BindError} */
  async listen(): Promise<string> {
    const { host, port } = this.#options
    const server = createServer({ requestTimeout: HEADERS_MS, headersTimeout: HEADERS_MS, keepAliveTimeout: 65_000 })
    server.maxConnections = MOST_CONNECTIONS
    server.on('request', (request, response) => void this.#answer(request, response))
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause: NodeJS.ErrnoException) => {
        const code = bindCodes[cause.code ?? ''] ?? 'BIND_FAILED'
        const hint = code === 'ADDRESS_IN_USE' ? '; give the plugin another `port`' : ''
        reject(
          new BindError(code, `plugin ${this.#plugin}: cannot listen on ${host}:${port} (${cause.code})${hint}`, {
            cause,
          }),
        )
      })
      server.listen({ host, port }, resolve)
    })
    server.removeAllListeners('error').on('error', () => {})
    server.unref()
    this.#server = server
    const address = server.address() as { address: string; port: number; family: string }
    return `http://${address.family === 'IPv6' ? `[${address.address}]` : address.address}:${address.port}`
  }

  async close(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (server === undefined) return
    await new Promise<void>((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let page: Page
    try {
      const given = this.#pageOf(request)
      page = given instanceof Promise ? await given : given
    } catch (error) {
      page = { status: 500, type: 'text/plain', body: `${(error as Error).message}\n` }
    }
    const { status, type, body } = page
    response.writeHead(status, {
      'content-type': type,
      'content-length': Buffer.byteLength(body),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...(status === 401 ? { 'www-authenticate': 'Bearer' } : {}),
      ...(status === 405 ? { allow: 'GET, HEAD' } : {}),
    })
    response.end(request.method === 'HEAD' ? undefined : body)
    request.resume()
  }

  #pageOf(request: IncomingMessage): Page | Promise<Page> {
    const { method, url = '/', headers } = request
    if (!this.#options.public && !isOurs(headers.host, this.#options.host))
      return plain(403, 'this name is not ours; ask by the address, or by localhost')
    if (!this.#mayAsk(headers.authorization)) return plain(401, 'a token is needed')
    if (method !== 'GET' && method !== 'HEAD') return plain(405, 'GET only')
    const page = this.#pages.get(url.split('?')[0] as string)
    return page === undefined ? plain(404, `there is ${[...this.#pages.keys()].join(', ')}`) : page()
  }

  #mayAsk(authorization: string | undefined): boolean {
    const { token } = this.#options
    if (token === undefined) return true
    const [given, wanted] = [Buffer.from(authorization ?? ''), Buffer.from(`Bearer ${token}`)]
    return given.length === wanted.length && timingSafeEqual(given, wanted)
  }
}

const bindCodes: Readonly<Record<string, BindErrorCode>> = {
  EADDRINUSE: 'ADDRESS_IN_USE',
  EADDRNOTAVAIL: 'ADDRESS_NOT_AVAILABLE',
  EACCES: 'PERMISSION_DENIED',
  ENOTFOUND: 'HOST_NOT_FOUND',
}

function plain(status: number, text: string): Page {
  return { status, type: 'text/plain; charset=utf-8', body: `${text}\n` }
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || (isAddress(host) && loopback.has(plainAddress(host)))
}

/** RFC 9110, section 7.2: the name the client asked for, with a port or without. */
function isOurs(host: string | undefined, own: string): boolean {
  if (host === undefined) return true
  const name = host
    .replace(/:\d+$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .toLowerCase()
  return name === own.toLowerCase() || isLoopback(name)
}
