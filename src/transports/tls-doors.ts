/**
 * One `tls.Server` for each set of access rules, and who is let through which.
 *
 * Room: transports. OpenSSL takes a session up in the context a connection was begun with, before a name can choose another, and
 * Node asks neither SNICallback nor for a certificate then. So each set of rules is a context of its own, with keys of its own
 * that seal its tickets, and a connection is begun in the one its name belongs to. Names with the same rules share one; most
 * servers have but one. A session of other rules cannot be opened there: its owner makes a full handshake.
 */
import { constants, randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { createServer, type SecureContext, type SecureContextOptions, type Server, type TLSSocket } from 'node:tls'
import { ConfigError, HandshakeError } from '../core/errors.js'
import type { TlsOptions } from '../core/options.js'
import { ownerOf, TICKETS_MS, type TicketKeeper, TicketSecret } from '../core/ticket-secret.js'
import { readServerName } from './client-hello.js'
import { handshakeError } from './handshake-errors.js'
import { ticketKeysFor } from './tls-access.js'
import { judgeResumed } from './tls-judge.js'
import { ReadTls, readTicketKeys, type ServerNames, type TlsSettings } from './tls-settings.js'

/** Longest delay of a Node timer. */
export const MOST_MS = 2 ** 31 - 1

/** RFC 8446, section 6: a record of type alert, fatal, unrecognized_name(112). */
const UNRECOGNISED_NAME = Buffer.from([0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x70])

interface Door {
  readonly access: string
  readonly server: Server
}

/** Who is told. */
export interface DoorEvents {
  succeed(raw: Socket, secured: TLSSocket): void
  fail(raw: Socket, error: HandshakeError): void
}

export class TlsDoors implements TicketKeeper {
  readonly #options: TlsOptions
  readonly #events: DoorEvents
  readonly #doors = new Map<string, Door>()
  #settings: TlsSettings
  /** Of what is in use. */
  #digest: string
  #secret: TicketSecret
  /** Of a secret of our own: when it was made. Undefined: somebody else sees to it. */
  #madeAt: number | undefined
  /** As it was sent, until the handshake is over. */
  readonly #names = new WeakMap<Socket, string>()
  #needsName = false

  private constructor(
    options: TlsOptions,
    read: ReadTls,
    settings: TlsSettings,
    secret: TicketSecret | undefined,
    events: DoorEvents,
  ) {
    this.#options = options
    this.#events = events
    this.#madeAt = secret === undefined ? performance.now() : undefined
    this.#secret = secret ?? new TicketSecret(randomBytes(48))
    this.#secret.follow(this)
    this.#settings = settings
    this.#digest = read.digest
    this.#put(settings)
  }

  /** @throws {ConfigError} `BAD_VALUE`: a file that cannot be read, or cannot be used. */
  static async prepare(options: TlsOptions, events: DoorEvents): Promise<TlsDoors> {
    const read = await ReadTls.from(options)
    const settings = read.build()
    const keys = await readTicketKeys(options)
    const secret = keys === undefined ? ownerOf(options)?.secret : new TicketSecret(keys)
    return new TlsDoors(options, read, settings, secret, events)
  }

  /**
   * Reads everything again and puts it in place in one turn, so that no handshake sees half. Ticket keys go first, whether or
   * not certificates can be read: old keys are not to live longer because a file is missing.
   *
   * @param onlyChanges - Leaves everything as it is where every byte is the same.
   * @returns whether something was put in place.
   * @throws {ConfigError} `BAD_VALUE`; what could not be read stays as it was.
   */
  async apply(options: TlsOptions, onlyChanges = false): Promise<boolean> {
    let failed: unknown
    const keys = await readTicketKeys(options).catch((error) => {
      failed = error
      return undefined
    })
    const isRotated = keys !== undefined && Buffer.compare(keys, this.#secret.bytes) !== 0
    if (isRotated) this.#secret.set(keys)
    const read = await ReadTls.from(options)
    const isSame = onlyChanges && read.digest === this.#digest
    if (!isSame) {
      this.#put(read.build())
      this.#digest = read.digest
    }
    if (failed !== undefined) throw failed
    return isRotated || !isSame
  }

  #put(settings: TlsSettings): void {
    for (const [access, trusted] of settings.trusts) {
      const context = {
        ...trusted,
        // Mozilla's intermediate suites are all good; the client knows which is fast on its hardware.
        honorCipherOrder: false,
        secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
        sessionIdContext: access,
        ticketKeys: ticketKeysFor(this.#secret.bytes, access),
      }
      const door = this.#doors.get(access)
      if (door === undefined) this.#doors.set(access, { access, server: this.#serverOf(access, context) })
      else door.server.setSecureContext(context)
    }
    for (const access of this.#doors.keys()) if (!settings.trusts.has(access)) this.#doors.delete(access)
    this.#settings = settings
    // A name chooses the door; and of TLS 1.2 sessions OpenSSL forgets it.
    this.#needsName = settings.trusts.size > 1 || this.#options.minVersion !== 'TLSv1.3'
  }

  #serverOf(access: string, context: SecureContextOptions): Server {
    const { requestCert = false, rejectUnauthorized = true, alpn } = this.#options
    const server = createServer({
      ...context,
      requestCert,
      rejectUnauthorized,
      // Its own limit is one of silence, which trickling extends, and it leaves the socket open.
      handshakeTimeout: MOST_MS,
      ...(alpn === undefined ? {} : { ALPNProtocols: [...alpn] }),
      SNICallback: this.#selectFor(access),
    })
    server.on('secureConnection', (secured) => this.#judge(access, secured))
    server.on('tlsClientError', (error, secured) => this.#events.fail(rawOf(secured), handshakeError(error, secured)))
    return server
  }

  renewTickets(): void {
    for (const { access, server } of this.#doors.values()) {
      server.setTicketKeys(ticketKeysFor(this.#secret.bytes, access))
    }
  }

  /** Begins the handshake of a socket that nobody else reads. */
  admit(raw: Socket): void {
    if (this.#madeAt !== undefined && performance.now() - this.#madeAt >= TICKETS_MS) {
      this.#madeAt = performance.now()
      this.#secret.set(randomBytes(48))
    }
    if (!this.#needsName) {
      this.#doors.get(this.#settings.access)?.server.emit('connection', raw)
      return
    }
    readServerName(raw, (name) => {
      if (name !== undefined) this.#names.set(raw, name)
      this.#doors.get(this.#accessOf(name))?.server.emit('connection', raw)
    })
  }

  #accessOf(name: string | undefined): string {
    const named = name === undefined ? undefined : this.#settings.names?.find(name)
    return named?.access ?? this.#settings.access
  }

  #judge(access: string, secured: TLSSocket & { servername?: string | false | null }): void {
    const raw = rawOf(secured)
    const sent = this.#names.get(raw)
    // OpenSSL knows no name of a TLS 1.2 session that is taken up (SSL_get_servername(3)).
    if (sent !== undefined && !secured.servername) secured.servername = sent
    const refused = secured.isSessionReused() ? this.#refusalOf(access, secured) : undefined
    if (refused === undefined) this.#events.succeed(raw, secured)
    else this.#events.fail(raw, refused)
  }

  /** A session was opened by its keys and its context; it is looked at all the same, by the rules of now. */
  #refusalOf(access: string, secured: TLSSocket & { servername?: string | false | null }): HandshakeError | undefined {
    const { servername } = secured
    const name = typeof servername === 'string' && servername !== '' ? servername : undefined
    if (access !== this.#accessOf(name) || !this.#doors.has(access)) {
      const message = 'the session was made under access rules that do not hold for it any more'
      return new HandshakeError('CERTIFICATE_REFUSED', message, { reason: 'RESUMED_ELSEWHERE', serverName: name })
    }
    if (!isServed(this.#settings.names, name)) return unrecognised(name)
    return judgeResumed(secured, this.#options)
  }

  /** Node's SNICallback, over the names there are now; called with the TLS socket as `this`. */
  #selectFor(access: string) {
    const doors = this
    return function (
      this: unknown,
      name: string,
      answer: (error: Error | null, context?: SecureContext) => void,
    ): void {
      const { names } = doors.#settings
      const named = names?.find(name)
      // The door's own rules hold for whoever is let in by it: its name was read before, and a reload may have come between.
      if ((named?.access ?? doors.#settings.access) === access && isServed(names, name)) {
        answer(null, named?.context)
        return
      }
      // Node has no way to send this alert; nothing was encrypted yet, so it goes past TLS.
      const raw = (this as { _parent?: Socket } | undefined)?._parent
      raw?.write(UNRECOGNISED_NAME)
      answer(unrecognised(name))
    }
  }
}

/** The socket beneath. Node tells it nowhere else; the field has not changed in ten years. */
function rawOf(secured: TLSSocket): Socket {
  return (secured as TLSSocket & { _parent: Socket })._parent
}

function isServed(names: ServerNames | undefined, name: string | undefined): boolean {
  return names === undefined || names.hasDefault || (name !== undefined && names.find(name) !== undefined)
}

function unrecognised(name: string | undefined): HandshakeError {
  const message = `no certificate for the name ${JSON.stringify(name ?? '')} in tls.sni, and no tls.cert for the rest`
  return new HandshakeError('UNRECOGNISED_NAME', message, { serverName: name })
}

/** @throws {ConfigError} `BAD_VALUE`: nothing to show to anybody. */
export function checkIdentity(options: TlsOptions | undefined): asserts options is TlsOptions {
  if (options?.cert !== undefined || options?.pfx !== undefined || options?.sni !== undefined) return
  const message =
    'tls.cert: a TLS server needs a certificate and its key (tls.cert and tls.key, or tls.pfx), got none; ' +
    'one to try: openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=localhost'
  throw new ConfigError('BAD_VALUE', message, { option: 'tls.cert' })
}
