/**
 * The connection to NATS, in the few words this room uses of its client.
 *
 * Room: plugins/executors. `@nats-io/transport-node` is an optional peer, loaded when a cluster is first named; its types are
 * written out here, so that nobody needs them who has no use for it. No secret ever stands in an error.
 */
import { readFileSync } from 'node:fs'
import { ConfigError, ConnectionError, toError } from '../../../core/errors.js'
import { peerPackage } from '../../../core/peer-package.js'
import type { ClusterOptions } from './options.js'

interface NatsMessage {
  readonly subject: string
  readonly reply?: string
  readonly data: Uint8Array
  readonly headers?: { readonly code: number }
}
interface NatsClient {
  readonly info?: { readonly max_payload: number; readonly server_name?: string }
  publish(subject: string, payload: Uint8Array, options?: { reply?: string }): void
  subscribe(
    subject: string,
    options: { queue?: string; callback(error: Error | null, message: NatsMessage): void },
  ): void
  flush(): Promise<void>
  close(): Promise<void>
  closed(): Promise<Error | undefined>
  status(): AsyncIterable<{ readonly type: string; readonly error?: Error }>
}
type Authenticator = (nonce?: string) => unknown
interface NatsLibrary {
  connect(options: object): Promise<NatsClient>
  nkeyAuthenticator(seed: Uint8Array): Authenticator
  credsAuthenticator(credentials: Uint8Array): Authenticator
}

const PACKAGE = '@nats-io/transport-node'
/** Between attempts to get back, with as much again by chance: all fronts of a server that restarts must not come at once. */
const RETRY_MS = 100
/** A connection that hangs is given up after two pings without an answer. */
const PING_MS = 3_000

export interface BusListener {
  /** NATS is there, or is not. */
  changed(isUp: boolean): void
  /** It refuses what we ask for: a missing permission. */
  refused(error: Error): void
}

/** @param subject - The one it came on. @param reply - Where an answer is expected. */
export type Take = (data: Uint8Array, subject: string, reply: string | undefined) => void

export class Bus {
  readonly #client: NatsClient
  #isUp = true
  #isClosing = false

  private constructor(client: NatsClient, listener: BusListener) {
    this.#client = client
    void this.#watch(listener)
  }

  /**
   * @throws {ConfigError} `BAD_VALUE` for a login or TLS that the server does not take.
   * @throws {ConnectionError} `REFUSED` when no server is reached.
   */
  static async connect(options: ClusterOptions, listener: BusListener, name: string): Promise<Bus> {
    const library = peerPackage<NatsLibrary>(PACKAGE, 'executor cluster')
    const given = clientOptions(options, library, name)
    try {
      return new Bus(await library.connect(given), listener)
    } catch (thrown) {
      throw explain(toError(thrown), options)
    }
  }

  get isUp(): boolean {
    return this.#isUp
  }
  get maxPayload(): number {
    return this.#client.info?.max_payload ?? 1024 * 1024
  }

  /** @param nobody - Told instead, when a probe finds no listener: on which subject the answer would have come. */
  subscribe(subject: string, take: Take, nobody?: (subject: string) => void): void {
    this.#client.subscribe(subject, {
      callback(error, message) {
        // A refused subscription comes here too; it is told by the status.
        if (error !== null) return
        // 503 of NATS itself: no responders.
        if (message.data.length === 0 && message.headers?.code === 503) nobody?.(message.subject)
        else take(message.data, message.subject, message.reply)
      },
    })
  }

  publish(subject: string, payload: Uint8Array, reply?: string): void {
    if (!this.#isUp || this.#isClosing) return
    try {
      this.#client.publish(subject, payload, reply === undefined ? undefined : { reply })
    } catch {
      // It is closing, or its limit has just shrunk: the numbers will tell that something is missing.
    }
  }

  /** Everything said so far is with the server. */
  async flush(): Promise<void> {
    if (this.#isUp) await this.#client.flush().catch(() => {})
  }

  async close(): Promise<void> {
    this.#isClosing = true
    await this.#client.close()
  }

  async #watch(listener: BusListener): Promise<void> {
    for await (const { type, error } of this.#client.status()) {
      if (this.#isClosing) return
      if (type === 'disconnect' || type === 'close') this.#change(false, listener)
      else if (type === 'reconnect') this.#change(true, listener)
      else if (type === 'error' && error?.name === 'PermissionViolationError') listener.refused(error)
    }
  }

  #change(isUp: boolean, listener: BusListener): void {
    if (this.#isUp === isUp) return
    this.#isUp = isUp
    listener.changed(isUp)
  }
}

function clientOptions(options: ClusterOptions, library: NatsLibrary, name: string): object {
  const { servers, user, password, token, nkey, credentials, tls, connectMs } = options
  const isSecure = tls !== undefined || servers.some((server) => server.startsWith('tls://'))
  const authenticator =
    credentials !== undefined
      ? library.credsAuthenticator(secretFile(credentials, 'credentials'))
      : nkey !== undefined
        ? library.nkeyAuthenticator(secretFile(nkey, 'nkey'))
        : undefined
  return {
    servers: servers.map((server) => server.replace(/^\w+:\/\//, '')),
    name,
    noEcho: false,
    timeout: connectMs,
    reconnect: true,
    maxReconnectAttempts: -1,
    reconnectDelayHandler: () => RETRY_MS + Math.random() * RETRY_MS,
    // A password that is changed at the server first must not end us for good.
    ignoreAuthErrorAbort: true,
    noAsyncTraces: true,
    pingInterval: PING_MS,
    maxPingOut: 2,
    ...(user === undefined ? {} : { user, pass: password }),
    ...(token === undefined ? {} : { token }),
    ...(authenticator === undefined ? {} : { authenticator }),
    ...(isSecure ? { tls: tlsOf(tls ?? {}) } : {}),
  }
}

function tlsOf({ serverName, ...given }: NonNullable<ClusterOptions['tls']>): object {
  const material = (value: string | Uint8Array | undefined): string | Uint8Array | undefined =>
    typeof value !== 'string' || value.includes('-----BEGIN') ? value : readFile(value, 'tls')
  const { ca, cert, key, passphrase, rejectUnauthorized } = given
  return {
    ...(ca === undefined ? {} : { ca: material(ca) }),
    ...(cert === undefined ? {} : { cert: material(cert) }),
    ...(key === undefined ? {} : { key: material(key) }),
    ...(passphrase === undefined ? {} : { passphrase }),
    ...(rejectUnauthorized === undefined ? {} : { rejectUnauthorized }),
    ...(serverName === undefined ? {} : { servername: serverName }),
    minVersion: 'TLSv1.2',
  }
}

function readFile(path: string, option: string): Buffer {
  try {
    return readFileSync(path)
  } catch (thrown) {
    const cause = toError(thrown)
    throw new ConfigError('NOT_FOUND', `cluster.${option}: ${path} cannot be read: ${cause.message}`, { path, cause })
  }
}

/** A seed may have blanks around it, as files have. */
function secretFile(path: string, option: string): Uint8Array {
  const content = readFile(path, option)
  return option === 'nkey' ? Buffer.from(content.toString().trim()) : content
}

/** What went wrong, in words of the configuration; which secrets were used is named, what they are is not. */
function explain(error: Error, options: ClusterOptions): Error {
  const where = options.servers.join(', ')
  const cause = new Error(`${error.name}: ${error.message}`)
  const code = String((error as { code?: unknown }).code ?? '')
  if (error.name === 'AuthorizationError' || error.name === 'UserAuthenticationExpiredError') {
    const message = `cluster: ${where} refused the login (${loginOf(options)}): ${error.message}; see user, password, token, nkey, credentials`
    return new ConfigError('BAD_VALUE', message, { servers: options.servers, cause })
  }
  if (/nkey|seed|credential|base32|checksum|jwt/i.test(error.message)) {
    const message = `cluster: the ${loginOf(options)} cannot be used: ${error.message}`
    return new ConfigError('BAD_VALUE', message, { servers: options.servers, cause })
  }
  const isTls = /tls|ssl|certificate|self.signed|altname/i.test(`${error.message} ${code}`)
  if (isTls) {
    const message = `cluster: TLS with ${where} failed: ${error.message}${code ? ` (${code})` : ''}; see tls (ca, cert, key), and whether the server has it switched on`
    return new ConfigError('BAD_VALUE', message, { servers: options.servers, cause })
  }
  const isSecure = options.tls !== undefined || where.includes('tls://')
  // A server that misses our certificate says so only after the handshake (TLS 1.3), and the client hears nothing of it.
  const hint =
    isSecure && error.name === 'TimeoutError' && options.tls?.cert === undefined
      ? '; if it demands a certificate of its clients, give tls.cert and tls.key'
      : ''
  const message = `cluster: no NATS server answers at ${where}: ${error.message || error.name}${hint}`
  return new ConnectionError('REFUSED', message, {
    servers: options.servers,
    cause,
  })
}

function loginOf({ user, token, nkey, credentials }: ClusterOptions): string {
  if (credentials !== undefined) return `credentials ${credentials}`
  if (nkey !== undefined) return `nkey ${nkey}`
  if (token !== undefined) return 'a token'
  return user !== undefined ? `user ${user}` : 'none was given'
}
