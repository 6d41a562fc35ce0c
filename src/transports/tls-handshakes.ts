/**
 * Server-side handshakes: turns accepted sockets into TLS sockets, or says why not, within a deadline.
 *
 * Room: transports. Node's own `tls.Server` does the work (tickets, SNI, client certificates); it never listens,
 * sockets are given to it by its documented 'connection' event.
 */
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { ConfigError, HandshakeError } from '../core/errors.js'
import type { TlsIdentity, TlsOptions } from '../core/options.js'
import type { LinkSink, Listener } from '../core/transport.js'
import { LATE } from './handshake-errors.js'
import { guardErrors } from './stream-options.js'
import { checkIdentity, MOST_MS, TlsDoors } from './tls-doors.js'
import { materialFiles, plainName } from './tls-settings.js'
import { watchFiles } from './watch-files.js'

/** Told once: an error, or the socket whose handshake is done and whose first bytes nobody has taken yet. */
export type HandshakeDone = (
  ...outcome: [error: HandshakeError, secured: undefined] | [error: undefined, secured: TLSSocket]
) => void

interface Handshake {
  readonly done: HandshakeDone
  readonly timer: NodeJS.Timeout | undefined
}

export class TlsHandshakes {
  #doors!: TlsDoors
  readonly #pending = new Map<Socket, Handshake>()
  /** Those who have sent something and wait their turn, oldest first: more than `most` at a time slow each other and everybody else. */
  readonly #waiting = new Set<Socket>()
  /** Those who cost something. */
  readonly #atWork = new Set<Socket>()
  /** `limits.handshakes`. */
  most = Number.POSITIVE_INFINITY

  /** As configured, and as changed since by `setCertificate`. */
  #options: TlsOptions
  /** Changes come one after the other, so that none undoes another. */
  #change: Promise<void> = Promise.resolve()

  private constructor(options: TlsOptions) {
    this.#options = options
  }

  /**
   * Reads certificates and keys.
   *
   * @throws {ConfigError} `BAD_VALUE` with the option that is wrong. Reach: the start; nothing is bound.
   */
  static async prepare(options: TlsOptions | undefined): Promise<TlsHandshakes> {
    checkIdentity(options)
    const handshakes = new TlsHandshakes(options)
    handshakes.#doors = await TlsDoors.prepare(options, {
      succeed: (raw, secured) => handshakes.#succeed(raw, secured),
      fail: (raw, error) => handshakes.#fail(raw, error),
    })
    return handshakes
  }

  /**
   * Reads certificates and keys again. Handshakes from now on use them; connections that are there go on.
   *
   * @throws {ConfigError} `BAD_VALUE`; the old ones stay.
   */
  reload(): Promise<void> {
    return this.#inTurn(() => this.#doors.apply(this.#options)).then(() => {})
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
      await this.#doors.apply(options)
      this.#options = options
      this.#watched?.()
    })
  }

  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const done = this.#change.then(run)
    this.#change = done.then(
      () => {},
      () => {},
    )
    return done
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
   * Reloads when a file has other bytes than those in use.
   *
   * @param told - With the error where the files are no good; without one when they are in use, or are again what is.
   * @returns ends it.
   */
  watch(told: (error: Error | undefined) => void): () => void {
    if (this.#options.watch === false) return () => {}
    let bad: string | undefined
    const changed = (isAgain: boolean) =>
      this.#inTurn(() => this.#doors.apply(this.#options, true)).then(
        (isNew) => {
          if (isNew || bad !== undefined) told(undefined)
          bad = undefined
        },
        (error: Error) => {
          if (!isAgain || error.message !== bad) told(error)
          bad = error.message
        },
      )
    const begin = () => watchFiles(materialFiles(this.#options), (isAgain) => void changed(isAgain))
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
    if (this.most === Number.POSITIVE_INFINITY) this.#doors.admit(raw)
    // A peer that says nothing costs nothing, and takes nobody's turn. What it says stays with its socket, for TLS to read.
    else raw.once('readable', this.#begun)
  }

  #proceed(raw: Socket): void {
    this.#waiting.delete(raw)
    this.#atWork.add(raw)
    this.#doors.admit(raw)
  }

  readonly #begun = ((handshakes: TlsHandshakes) =>
    function (this: Socket): void {
      if (!handshakes.#pending.has(this)) return
      if (handshakes.#atWork.size >= handshakes.most) handshakes.#waiting.add(this)
      else handshakes.#proceed(this)
    })(this)

  #succeed(raw: Socket, secured: TLSSocket): void {
    const handshake = this.#forget(raw)
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

function withCertificate(options: TlsOptions, name: string, identity: TlsIdentity | undefined): TlsOptions {
  if (name === '*') {
    const { cert: _cert, key: _key, pfx: _pfx, passphrase: _passphrase, ...rest } = options
    const { ca: _ca, crl: _crl, ...shown } = identity ?? {}
    if (identity !== undefined && identity.cert === undefined && identity.pfx === undefined) {
      const message = 'setCertificate(`*`): expected cert and key, or pfx, got neither'
      throw new ConfigError('BAD_VALUE', message, { option: 'tls.cert' })
    }
    return { ...rest, ...shown }
  }
  const sni = { ...options.sni }
  for (const known of Object.keys(sni)) if (plainName(known) === plainName(name)) delete sni[known]
  if (identity !== undefined) sni[name] = identity
  return { ...options, sni }
}
