/**
 * Server-side handshakes: turns accepted sockets into TLS sockets, or says why not, within a deadline.
 *
 * Room: transports. Node's own `tls.Server` does the work (tickets, SNI, client certificates); it never listens,
 * sockets are given to it by its documented 'connection' event.
 */
import { constants } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { createServer, type SecureContext, type Server, type TLSSocket } from 'node:tls'
import { ConfigError, HandshakeError } from '../core/errors.js'
import type { TlsIdentity, TlsOptions } from '../core/options.js'
import type { LinkSink, Listener } from '../core/transport.js'
import { handshakeError, LATE } from './handshake-errors.js'
import { guardErrors } from './stream-options.js'
import { readMaterials, readNamedContext } from './tls-materials.js'
import { watchFiles } from './watch-files.js'

/** Told once: an error, or the socket whose handshake is done and whose first bytes nobody has taken yet. */
export type HandshakeDone = (
  ...outcome: [error: HandshakeError, secured: undefined] | [error: undefined, secured: TLSSocket]
) => void

/** Longest delay of a Node timer. */
const MOST_MS = 2 ** 31 - 1

/** RFC 8446, section 6: a record of type alert, fatal, unrecognized_name(112). */
const UNRECOGNISED_NAME = Buffer.from([0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x70])

interface Handshake {
  readonly done: HandshakeDone
  readonly timer: NodeJS.Timeout | undefined
}

export class TlsHandshakes {
  readonly #server: Server
  readonly #pending = new Map<Socket, Handshake>()
  /** Those who have sent something and wait their turn, oldest first: more than `most` at a time slow each other and everybody else. */
  readonly #waiting = new Set<Socket>()
  /** Those who cost something. */
  readonly #atWork = new Set<Socket>()
  /** `limits.handshakes`. */
  most = Number.POSITIVE_INFINITY

  /** As configured, and as changed since by `setCertificate`. */
  #options: TlsOptions
  readonly #names: { now: ServerNames | undefined }
  /** Changes come one after the other, so that none undoes another. */
  #change: Promise<void> = Promise.resolve()

  private constructor(server: Server, options: TlsOptions, names: { now: ServerNames | undefined }) {
    this.#server = server
    this.#options = options
    this.#names = names
    server.on('secureConnection', (secured) => this.#succeed(secured))
    server.on('tlsClientError', (error, secured) => this.#fail(rawOf(secured), handshakeError(error, secured)))
  }

  /**
   * Reads certificates and keys.
   *
   * @throws {ConfigError} `BAD_VALUE` with the option that is wrong. Reach: the start; nothing is bound.
   */
  static async prepare(options: TlsOptions | undefined): Promise<TlsHandshakes> {
    if (options?.cert === undefined && options?.pfx === undefined && options?.sni === undefined) {
      const message =
        'tls.cert: a TLS server needs a certificate and its key (tls.cert and tls.key, or tls.pfx), got none; ' +
        'one to try: openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=localhost'
      throw new ConfigError('BAD_VALUE', message, { option: 'tls.cert' })
    }
    const materials = await readMaterials(options)
    const names = { now: await ServerNames.read(options) }
    const { requestCert = false, rejectUnauthorized = true, alpn } = options
    const server = createServer({
      ...materials,
      requestCert,
      rejectUnauthorized,
      // Mozilla's intermediate suites are all good; the client knows which is fast on its hardware.
      honorCipherOrder: false,
      secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
      // Its own limit is one of silence, which trickling extends, and it leaves the socket open.
      handshakeTimeout: MOST_MS,
      ...(alpn === undefined ? {} : { ALPNProtocols: [...alpn] }),
      SNICallback: selectBy(names),
      ...(await ticketOptions(options)),
    })
    return new TlsHandshakes(server, options, names)
  }

  /**
   * Reads certificates and keys again. Handshakes from now on use them; connections that are there go on.
   *
   * @throws {ConfigError} `BAD_VALUE`; the old ones stay.
   */
  reload(): Promise<void> {
    return this.#inTurn(() => this.#apply(this.#options))
  }

  /**
   * Shows a certificate from now on to those who ask for a name; what was shown to them before is replaced.
   *
   * @param name - As in `tls.sni`: `example.org`, `*.example.org`; `*` is `tls.cert`, for everybody else.
   * @param identity - Undefined: no longer one of its own.
   * @throws {ConfigError} `BAD_VALUE`; everything stays as it was.
   */
  setCertificate(name: string, identity: TlsIdentity | undefined): Promise<void> {
    return this.#inTurn(async () => {
      const options = withCertificate(this.#options, name, identity)
      await this.#apply(options)
      this.#options = options
      this.#watched?.()
    })
  }

  #inTurn(run: () => Promise<void>): Promise<void> {
    const done = this.#change.then(run)
    this.#change = done.catch(() => {})
    return done
  }

  async #apply(options: TlsOptions): Promise<void> {
    const [materials, names, tickets] = [
      await readMaterials(options),
      await ServerNames.read(options),
      await ticketOptions(options),
    ]
    // All of it in one turn, so that no handshake sees half.
    const { sessionIdContext } = tickets
    this.#server.setSecureContext({ ...materials, ...(sessionIdContext === undefined ? {} : { sessionIdContext }) })
    if (tickets.ticketKeys !== undefined) this.#server.setTicketKeys(tickets.ticketKeys)
    this.#names.now = names
  }

  /** What a listener that hands its sockets to these has besides: reloads, by itself as well, and certificates by name. */
  parts(
    sink: LinkSink,
    most: number = Number.POSITIVE_INFINITY,
  ): { reload(): Promise<void>; setCertificate: Listener['setCertificate']; unbound(): void } {
    this.most = most
    return {
      reload: () => this.reload(),
      setCertificate: (name, identity) => this.setCertificate(name, identity),
      unbound: this.watch((error) => {
        if (error === undefined) sink.reloaded?.()
        else sink.fault?.(error)
      }),
    }
  }

  /**
   * Reloads when a file has changed.
   *
   * @param told - With the error where the files are no good.
   * @returns ends it.
   */
  watch(told: (error: Error | undefined) => void): () => void {
    if (this.#options.watch === false) return () => {}
    const begin = () =>
      watchFiles(materialFiles(this.#options), () => {
        this.reload().then(
          () => told(undefined),
          (error) => told(error),
        )
      })
    let end = begin()
    this.#watched = () => {
      end()
      end = begin()
    }
    return () => {
      this.#watched = undefined
      end()
    }
  }
  /** Other files are to be watched. */
  #watched: (() => void) | undefined

  /**
   * Begins a handshake on a socket that was accepted.
   *
   * @param handshakeMs - From now to its end, whatever the peer sends meanwhile; Infinity: as long as it takes.
   */
  begin(raw: Socket, handshakeMs: number, done: HandshakeDone): void {
    if (raw.destroyed) {
      done(new HandshakeError('HANDSHAKE_FAILED', 'the peer left before the handshake'), undefined)
      return
    }
    const timer = handshakeMs <= MOST_MS ? setTimeout(() => this.#expire(raw, handshakeMs), handshakeMs) : undefined
    timer?.unref()
    this.#pending.set(raw, { done, timer })
    raw.on('close', this.#rawClosed)
    // The TLS socket inherits it: a peer that ends inside the handshake is gone, not half-open.
    raw.allowHalfOpen = false
    if (this.most === Number.POSITIVE_INFINITY) this.#server.emit('connection', raw)
    // A peer that says nothing costs nothing, and takes nobody's turn. What it says stays with its socket, for TLS to read.
    else raw.once('readable', this.#begun)
  }

  #proceed(raw: Socket): void {
    this.#waiting.delete(raw)
    this.#atWork.add(raw)
    this.#server.emit('connection', raw)
  }

  readonly #begun = ((handshakes: TlsHandshakes) =>
    function (this: Socket): void {
      if (!handshakes.#pending.has(this)) return
      if (handshakes.#atWork.size >= handshakes.most) handshakes.#waiting.add(this)
      else handshakes.#proceed(this)
    })(this)

  #succeed(secured: TLSSocket): void {
    const handshake = this.#forget(rawOf(secured))
    secured.allowHalfOpen = true
    if (handshake === undefined) secured.destroy()
    else handshake.done(undefined, guardErrors(secured))
  }

  #fail(raw: Socket, error: HandshakeError): void {
    const handshake = this.#forget(raw)
    if (handshake === undefined) return
    handshake.done(error, undefined)
    // The alert is with the kernel by now; Node closes the socket itself in most cases, not in all.
    setImmediate(() => raw.destroy())
  }

  #expire(raw: Socket, limit: number): void {
    const message = `the handshake was not done within ${limit} ms (timeouts.handshakeMs)`
    this.#fail(raw, new HandshakeError('HANDSHAKE_TIMEOUT', message, { limit }))
  }

  #forget(raw: Socket): Handshake | undefined {
    const handshake = this.#pending.get(raw)
    if (handshake === undefined) return undefined
    this.#pending.delete(raw)
    this.#waiting.delete(raw)
    this.#atWork.delete(raw)
    clearTimeout(handshake.timer)
    raw.off('close', this.#rawClosed)
    const [next] = this.#waiting
    if (next !== undefined && this.#atWork.size < this.most) this.#proceed(next)
    return handshake
  }

  readonly #rawClosed = ((handshakes: TlsHandshakes) =>
    function (this: Socket): void {
      // The TLS socket closes after this one, and often knows better why.
      setImmediate(() => handshakes.#fail(this, new HandshakeError('HANDSHAKE_FAILED', LATE)))
    })(this)
}

/** The socket beneath. Node tells it nowhere else; the field has not changed in ten years. */
function rawOf(secured: TLSSocket): Socket {
  return (secured as TLSSocket & { _parent: Socket })._parent
}

/** Which certificate for which name (RFC 6066, section 3; wildcards: RFC 6125, section 6.4.3, one whole label). */
class ServerNames {
  readonly #exact = new Map<string, SecureContext>()
  /** By what follows the `*`: `.example.org`. */
  readonly #wild = new Map<string, SecureContext>()
  readonly #hasDefault: boolean

  private constructor(hasDefault: boolean) {
    this.#hasDefault = hasDefault
  }

  static async read(options: TlsOptions): Promise<ServerNames | undefined> {
    const { sni, cert, pfx } = options
    if (sni === undefined) return undefined
    const names = new ServerNames(cert !== undefined || pfx !== undefined)
    for (const [name, identity] of Object.entries(sni)) {
      const context = await readNamedContext(identity, options, name)
      const key = plain(name)
      if (key.startsWith('*.')) names.#wild.set(key.slice(1), context)
      else names.#exact.set(key, context)
    }
    return names
  }

  find(name: string): SecureContext | undefined {
    const key = plain(name)
    const dot = key.indexOf('.')
    return this.#exact.get(key) ?? (dot > 0 ? this.#wild.get(key.slice(dot)) : undefined)
  }

  get hasDefault(): boolean {
    return this.#hasDefault
  }
}

/** Node's SNICallback, over the names there are now; called with the TLS socket as `this`. */
function selectBy(names: { readonly now: ServerNames | undefined }) {
  return function (this: unknown, name: string, answer: (error: Error | null, context?: SecureContext) => void): void {
    const context = names.now?.find(name)
    if (context !== undefined || names.now?.hasDefault !== false) {
      answer(null, context)
      return
    }
    // Node has no way to send this alert; nothing was encrypted yet, so it goes past TLS.
    const raw = (this as { _parent?: Socket } | undefined)?._parent
    raw?.write(UNRECOGNISED_NAME)
    const message = `no certificate for the name ${JSON.stringify(name)} in tls.sni, and no tls.cert for the rest`
    answer(new HandshakeError('UNRECOGNISED_NAME', message, { serverName: name }))
  }
}

function withCertificate(options: TlsOptions, name: string, identity: TlsIdentity | undefined): TlsOptions {
  if (name === '*') {
    const { cert: _cert, key: _key, pfx: _pfx, passphrase: _passphrase, ...rest } = options
    const { ca: _ca, ...shown } = identity ?? {}
    if (identity !== undefined && identity.cert === undefined && identity.pfx === undefined) {
      const message = 'setCertificate(`*`): expected cert and key, or pfx, got neither'
      throw new ConfigError('BAD_VALUE', message, { option: 'tls.cert' })
    }
    return { ...rest, ...shown }
  }
  const sni = { ...options.sni }
  for (const known of Object.keys(sni)) if (plain(known) === plain(name)) delete sni[known]
  if (identity !== undefined) sni[name] = identity
  return { ...options, sni }
}

/** RFC 5077: 48 bytes are Node's form of them (tls, `ticketKeys`). */
const TICKET_BYTES = 48

async function ticketOptions({ ticketKeys }: TlsOptions): Promise<{ ticketKeys?: Buffer; sessionIdContext?: string }> {
  if (ticketKeys === undefined) return {}
  const bytes = typeof ticketKeys === 'string' ? await readTicketKeys(ticketKeys) : Buffer.from(ticketKeys)
  if (bytes.length !== TICKET_BYTES) {
    const message = `tls.ticketKeys: expected ${TICKET_BYTES} bytes, got ${bytes.length}; make them with: openssl rand ${TICKET_BYTES} > ticket.key`
    throw new ConfigError('BAD_VALUE', message, { option: 'tls.ticketKeys' })
  }
  // A session is taken up only where it was made for the same purpose (SSL_CTX_set_session_id_context(3)).
  return { ticketKeys: bytes, sessionIdContext: 'gaidaros' }
}

async function readTicketKeys(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (cause) {
    throw new ConfigError('BAD_VALUE', `tls.ticketKeys: cannot read the file ${path}`, {
      option: 'tls.ticketKeys',
      cause,
    })
  }
}

/** The files that certificates, keys and their like are in. */
function materialFiles(options: TlsOptions): string[] {
  const of = ({ cert, key, ca, pfx }: TlsOptions) => [cert, key, ca, pfx].flat()
  const all = [...of(options), options.ticketKeys, ...Object.values(options.sni ?? {}).flatMap((one) => of(one))]
  return all.filter((one): one is string => typeof one === 'string' && !one.trimStart().startsWith('-----BEGIN'))
}

/** DNS names are the same in either case and with or without the root's dot (RFC 4343). */
function plain(name: string): string {
  const lower = name.toLowerCase()
  return lower.endsWith('.') ? lower.slice(0, -1) : lower
}
