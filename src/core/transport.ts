/**
 * The seam of transports: what one must provide so that Gaidaros can serve handlers over it.
 *
 * Room: core, contract. Core gives a transport framing, limits, deadlines, order, metrics and drain. It pushes and is
 * never polled. Nothing here is a Node stream, an EventEmitter per connection or a promise per chunk, so that a native
 * or batching transport fits without loss. `transportConformance` of gaidaros/testing turns each "must" into a case.
 */
import type { Duplex } from 'node:stream'
import type { Endpoint } from './endpoint.js'
import type { FeatureToken } from './feature.js'
import type { Limits, Timeouts, TlsIdentity, TlsOptions } from './options.js'
import type { StandardSchemaV1 } from './standard-schema.js'

/** Makes listeners and links for the schemes it names. One object serves any number of listeners. */
export interface Transport<Options = unknown> {
  /** Unique, lower case: `tcp`. */
  readonly name: string
  /** The endpoint prefixes it serves: `['tcp']`. */
  readonly schemes: readonly string[]
  /** Checks the listener's `socket` key; unknown keys are refused. Without it the key must be empty. */
  readonly options?: StandardSchemaV1<Options>
  /**
   * Another transport and the layer over it that together are this one (`tls` is `tcp` with the layer `tls`): used in its
   * place where a layer has to stand in between, such as a PROXY protocol header before the handshake.
   */
  readonly over?: { readonly scheme: string; readonly layer: string }
  /**
   * Its links begin with a handshake of its own, over a stream that layers of the stage `preamble` can stand on: they are
   * handed over as `TransportOptions.preamble`. Left out: layers stand on its links alone.
   */
  readonly preambles?: true
  /**
   * The kind of socket it listens on, where that may be bound by somebody else: with several server processes by their
   * supervisor, which hands it over as `TransportOptions.sockets`. Left out: each process binds for itself.
   */
  readonly binds?: SocketKind
  /**
   * Whether two listeners may have one address, told apart by something else, such as the endpoint's path. Left out: never.
   *
   * @returns undefined: they may; else why not, as the rest of a sentence with what to do.
   */
  shares?(
    one: Endpoint,
    options: TransportOptions<Options>,
    other: Endpoint,
    otherOptions: TransportOptions<Options>,
  ): string | undefined
  /** What a listener or link made with these will do. Held against the handler's `needs` before anything is bound. */
  capabilities(endpoint: Endpoint, options: TransportOptions<Options>): Capabilities
  /**
   * Refuses what `listen` would refuse without trying the address, such as a certificate that cannot be read. Binds
   * nothing; `gaidaros check` asks it. Left out: there is nothing to find before the bind.
   *
   * @throws {ConfigError | BindError} as `listen` would.
   */
  check?(endpoint: Endpoint, options: TransportOptions<Options>): void | Promise<void>
  /**
   * Binds an endpoint and delivers its links to `sink` until `unbind`.
   *
   * @returns once bound; links may open before it resolves.
   * @throws {BindError} translated from the platform; nothing stays bound.
   */
  listen(endpoint: Endpoint, options: TransportOptions<Options>, sink: LinkSink): Promise<Listener>
  /**
   * Opens a link to an endpoint; `sink.open` has been called when it resolves.
   *
   * @throws {ConnectionError} `REFUSED`, `CONNECT_TIMEOUT` (also when `signal` aborts).
   */
  connect?(endpoint: Endpoint, options: TransportOptions<Options>, sink: LinkSink, signal: AbortSignal): Promise<Link>
}

/** The transport's own options (the listener's `socket` key, checked), and what core hands to every transport. */
export type TransportOptions<Options = unknown> = Options & {
  /** The listener's `tls` key; present where the endpoint asks for TLS or a link may be upgraded. */
  readonly tls?: TlsOptions
  readonly limits?: Readonly<Limits>
  readonly timeouts?: Readonly<Timeouts>
  /** Present where somebody else has bound the endpoint: `listen` takes these in place of binding. Only with `binds`. */
  readonly sockets?: SocketSource
  /**
   * What each accepted stream goes through before the transport's own handshake, such as a PROXY protocol header. The links
   * it opens above know better than the socket who the peer is. Only with `preambles`, and where there is something.
   */
  preamble?(above: LinkSink): LinkSink
}

/** `descriptor`: a stream socket that the process was started with, whatever it is. */
export type SocketKind = 'tcp' | 'unix' | 'udp' | 'descriptor'

/** Sockets of one endpoint that somebody else has bound, and goes on holding when this process unbinds. */
export interface SocketSource {
  /** @throws {BindError} */
  take(options: object): Promise<HandedSockets>
}

export interface HandedSockets {
  /** The one bound. */
  readonly endpoint: Endpoint
  /** `net.Server`s that listen, or are given their connections; `dgram.Socket`s. Closing them frees no address. */
  readonly sockets: readonly unknown[]
  /** Around the closing of them, in the same turn. */
  readonly closing?: (close: () => void) => void
}

/** Declared, not detected. One that fails its conformance cases is a defect; one that works undeclared is reported. */
export interface Capabilities {
  /** `stream`: bytes without boundaries. `message`: each `data` call is one whole message. */
  readonly kind: 'stream' | 'message'
  readonly ordered: boolean
  readonly reliable: boolean
  /** One side can finish while the other goes on. */
  readonly halfClose: boolean
  /** `abort` is seen by the peer as a reset, not as an orderly end. */
  readonly reset: boolean
  /**
   * `end-to-end`: a reader that pauses slows the writer. `local`: `write` tells when our own queue is full, no more.
   * `none`: what is written too fast is lost.
   */
  readonly backpressure: 'end-to-end' | 'local' | 'none'
  /** Largest message of a message transport, in bytes. */
  readonly maxMessageBytes?: number
  /** Layers a link can switch to in mid-life: `['tls']`. */
  readonly upgrade: readonly string[]
}

/**
 * A bound endpoint.
 *
 * Implementations must:
 * - report the endpoint really bound (never port 0);
 * - keep existing links alive through `unbind`, which may be called twice;
 * - while paused, open no link; peers that come meanwhile wait (bounded by the backlog) and are opened on `resume`.
 */
export interface Listener {
  readonly endpoint: Endpoint
  pause(): void
  resume(): void
  /**
   * Reads again what was read from files (certificates, keys), checks it, and uses it for newcomers. Left out: there is nothing.
   *
   * @throws {ConfigError} what is wrong; everything stays as it was.
   */
  reload?(): Promise<void>
  /**
   * Shows a certificate to those who ask for a name, from the next handshake on; undefined: no longer one of its own. Left
   * out: there is no TLS here.
   *
   * @throws {ConfigError} what is wrong; everything stays as it was.
   */
  setCertificate?: ((name: string, identity: TlsIdentity | undefined) => Promise<void>) | undefined
  /**
   * Stops accepting and frees the address. Resolves when both are done. Links that wait in a pause are refused.
   *
   * A transport whose links send by the listener's own socket (UDP) resolves once no link opens any more; there the
   * address is free when the last link has closed, at once if there is none.
   */
  unbind(): Promise<void>
}

/**
 * One peer as the transport sees it.
 *
 * Where the endpoint of its listener has a host, `remote` has one too, from `open` to after `close`: whoever judges peers by
 * address refuses those without one there. Where it has none (Unix sockets, memory), peers have no address by nature.
 *
 * Callers must:
 * - treat a `false` from `write` as "stop until `drain`", though the bytes are taken;
 * - leave bytes alone once they are written: the link owns them until they are sent.
 *
 * Implementations must:
 * - have taken the bytes on return from `write`, in order, and send them without a further call;
 * - make `end` and `abort` idempotent and legal inside `data`; `end` sends what was written before it finishes our side;
 * - ignore `write` after `end`, `abort` or `close`.
 */
export interface Link {
  readonly local?: Endpoint | undefined
  readonly remote?: Endpoint | undefined
  /** The place it took as it arrived, where `arrive` gave it one: `open` takes it over. */
  readonly arrived?: Arrived | undefined
  /** Bytes written and not yet handed to the kernel or peer. */
  readonly buffered: number
  /** Core's own; a transport never reads or writes it. */
  state: unknown
  /**
   * True when the buffers given to `data` are never written again after the call, so that a view into one may be kept.
   * Left out, core copies what a handler might keep.
   */
  readonly stable?: boolean
  write(bytes: Uint8Array): boolean
  /** The same for text in UTF-8; only where the transport encodes faster than `Buffer.from`. */
  writeText?(text: string): boolean
  /** Several pieces in one go, in order; only where the transport has a gathering write. */
  writeMany?(pieces: readonly Uint8Array[]): boolean
  /** Stops `data` (already begun calls finish); what the peer sends stays with the transport or the kernel. */
  pause(): void
  resume(): void
  /**
   * Asks the peer for a sign of life, which comes as `LinkSink.heard`; core calls it after `timeouts.pingMs` of silence. Left
   * out: the transport's protocol has no such question.
   */
  ping?(): void
  /**
   * Gives back bytes that `data` has just delivered, while paused: they are the first of what is delivered after `resume`,
   * or the first that an upgrade reads. Left out: the link cannot take anything back.
   */
  unread?(bytes: Uint8Array): void
  /**
   * Finishes our side after what was written. On a transport without half-close: ends the link.
   *
   * @param reason - The code of the reason (`SHUTDOWN`, `HANDLER_FAILED`, an application's own), for a transport whose protocol
   *   can tell the peer why. Left out: an ordinary end.
   */
  end(reason?: string): void
  /** Ends both sides now, dropping what was not sent; seen as a reset where the transport can. */
  abort(reason?: Error): void
  /**
   * Lets go of a link whose side was finished by `end` and whose `buffered` is 0, without a reset: what was handed to the
   * kernel still reaches the peer (close(2) without SO_LINGER, socket(7)). Left out: `abort` is called in its place.
   */
  close?(): void
  feature?<T>(token: FeatureToken<T>): T | undefined
  /** Switches to a layer named in `capabilities.upgrade`; everything written before is sent first, unlayered. */
  upgrade?(layer: string, options: unknown): Promise<void>
  /**
   * The platform's own stream, for a library that reads and writes it by itself: a parser that takes bytes from the socket
   * is faster than one that is fed. From then on the link tells `close` alone; `write`, `end` and `abort` still work.
   * Undefined: not now. Left out: there is none. A layer never passes it on, since its bytes are others.
   */
  lend?(): LentStream | undefined
}

/** What a peer is inside of before it is a link: a TLS handshake, a WebSocket upgrade, a PROXY protocol header. */
export type ArrivalStage = 'handshake' | 'upgrade' | 'header'

/** A peer that was accepted and is no link yet. */
export interface Arrival {
  readonly stage: ArrivalStage
  readonly local?: Endpoint | undefined
  readonly remote?: Endpoint | undefined
  /** Cuts it now: it opens no link, and that it failed is told nobody. Called by core, never from within `arrive` or `next`. */
  abort(reason?: Error): void
}

/** The place that core keeps for a peer, from its arrival to the end of its link. One peer has one, whatever its stages. */
export interface Arrived {
  /**
   * The peer is at its next stage, or its address is known better.
   *
   * @returns false: it is refused, and has no place any more; the caller ends it.
   */
  next(arrival: Arrival): boolean
  /** It is gone, failed or not. Does nothing once a link has taken the place over, so it may be called at each end. */
  left(): void
}

/** A stream that counts. */
export type LentStream = Duplex & { readonly bytesRead: number; readonly bytesWritten: number }

/**
 * Core's side of the seam: one sink a listener (or a client link).
 *
 * Transports must:
 * - call `open` first and `close` exactly once, last, for each link that was opened;
 * - call nothing re-entrantly from inside `write`, `end`, `abort`, `pause`, `resume` or `open` of the same link;
 * - never let an error of one link reach another.
 */
export interface LinkSink {
  /**
   * Takes a peer that was accepted and has to go through something before it is a link: it counts in all limits from now on,
   * is shown as `handshaking`, and is ended with the listener. The link that it becomes carries the place (`Link.arrived`).
   * Optional to call: a transport whose links open at once has no use for it. A sink that has none counts nobody; `arrive` of
   * core/arrive serves both.
   *
   * @returns the place; undefined: it is refused, and the transport ends it.
   */
  arrive?(arrival: Arrival): Arrived | undefined
  open(link: Link): void
  /** Bytes `start` to `end` of `buffer` arrived. Valid only during the call, unless the link is `stable`. */
  data(link: Link, buffer: Uint8Array, start: number, end: number): void
  /**
   * The peer finished its side.
   *
   * @param reason - The code that the peer gave, where the transport carries one; it becomes that of the connection's reason.
   */
  end(link: Link, reason?: string): void
  /**
   * Something came that is no `data` yet, and is activity as much as data is: a ping, a pong, more of a message. Optional to
   * call, on message transports alone.
   *
   * @param part - `begun`: what came ends inside a message, the first bytes of which were among it; `timeouts.frameMs` runs.
   *   `whole`: it ends outside of any.
   */
  heard?(link: Link, part?: 'begun' | 'whole'): void
  /** After a `write` that returned false: the queue is below the low mark again. */
  drain(link: Link): void
  close(link: Link, error?: Error): void
  /** A turn of many `data` calls has ended: gathered replies may go. Optional to call. */
  flush?(): void
  /** An error that belongs to no open link: a failed accept, a failed handshake. The listener lives. */
  fault?(error: Error, remote?: Endpoint): void
  /** What a transport reads from files was read again, because a file has changed. */
  reloaded?(): void
}
