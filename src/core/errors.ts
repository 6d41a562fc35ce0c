/**
 * Every error Gaidaros throws or reports, sorted by whose fault it is and how far it reaches.
 *
 * Room: core, contract. Codes are stable and documented (docs/reference/errors.md, checked by a test); words are not.
 * "Not enough bytes yet" and "the peer finished" are values, never errors. Platform codes are translated once, at a
 * transport's edge, with the platform's error kept as `cause`. No error object is shared between two throws.
 */

/** Documented facts of an error: what was expected, what came, where. Never a secret. */
export type ErrorFields = Readonly<Record<string, unknown>> & { readonly cause?: unknown }

/** The base of all. `code` is stable; `instanceof` works over two installed copies of the package. */
export class GaidarosError<Code extends string = string> extends Error {
  readonly code: Code
  readonly fields: ErrorFields

  constructor(code: Code, message: string, fields: ErrorFields = {}) {
    super(message, 'cause' in fields ? { cause: fields.cause } : undefined)
    this.name = new.target.name
    this.code = code
    this.fields = fields
    // Marks for `instanceof`: the class and each it extends, by name, so that a second copy of the package agrees.
    for (let kind: { name: string } = new.target; kind !== Error; kind = Object.getPrototypeOf(kind)) {
      Object.defineProperty(this, Symbol.for(`gaidaros.${kind.name}`), { value: true })
    }
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    return typeof value === 'object' && value !== null && Symbol.for(`gaidaros.${this.name}`) in value
  }
}

/** The operator's: a value in a file, variable or flag. Nothing was bound. */
export class ConfigError extends GaidarosError<ConfigErrorCode> {}
export type ConfigErrorCode =
  | 'NOT_FOUND' // a configuration file that was named does not exist
  | 'UNREADABLE' // it does not parse, or throws while it is loaded
  | 'UNKNOWN_KEY' // a key that means nothing here; the nearest known one is named
  | 'BAD_VALUE' // a value of the wrong type or outside its range
  | 'BAD_ENDPOINT' // an endpoint that does not parse or whose scheme nobody serves
  | 'UNKNOWN_NAME' // a codec, middleware, layer, protocol, executor or handler nobody registered
  | 'BAD_USAGE' // a command line that cannot be understood

/** The developer's: a handler, plugin or injected class that does not fit. Nothing was bound. Names both places. */
export class WiringError extends GaidarosError<WiringErrorCode> {}
export type WiringErrorCode =
  | 'BAD_OPTION' // an option given in code has the wrong type or range
  | 'BAD_HANDLER' // a handler without a message method, or decorated twice for one route
  | 'BAD_PLUGIN' // a plugin module without a plugin, one whose setup threw, or one that registers or makes what is none of the kind
  | 'DUPLICATE' // two things registered under one name
  | 'NEEDS_UNMET' // a handler needs what its listener's transport cannot give
  | 'UNKNOWN_DEPENDENCY' // a constructor parameter whose type is gone at run time: use @inject(TOKEN)
  | 'CONSTRUCTION_FAILED' // a handler's or dependency's constructor threw
  | 'BAD_STATE' // an operation that is not possible in this state, such as a second start()

/** The host's: an address that cannot be bound. Earlier binds of the same start are undone. */
export class BindError extends GaidarosError<BindErrorCode> {}
export type BindErrorCode =
  | 'ADDRESS_IN_USE'
  | 'ADDRESS_NOT_AVAILABLE'
  | 'PERMISSION_DENIED'
  | 'HOST_NOT_FOUND'
  | 'PATH_TOO_LONG' // Unix socket paths have 107 bytes on Linux (unix(7)); Node would cut them silently
  | 'PATH_OCCUPIED' // something that is not our stale socket stands at the path
  | 'PATH_INVALID' // the folder does not exist, or the path holds NUL
  | 'NOT_SUPPORTED' // an option this platform or Node version lacks; never silently ignored
  | 'BIND_FAILED' // anything else; see cause

/** The listener's, passing: accepting pauses or retries, the listener lives. */
export class AcceptError extends GaidarosError<AcceptErrorCode> {}
export type AcceptErrorCode =
  | 'OUT_OF_DESCRIPTORS'
  | 'UNKNOWN_ADDRESS' // a peer of a transport with addresses that has none: it was gone before it was asked; counted, not let in
  | 'ACCEPT_FAILED'

/** One peer's: its TLS handshake failed. Reach: this connection, before any handler saw it. */
export class HandshakeError extends GaidarosError<
  'HANDSHAKE_FAILED' | 'HANDSHAKE_TIMEOUT' | 'CERTIFICATE_REFUSED' | 'UNRECOGNISED_NAME'
> {}

/** One peer's: bytes that are no frame. Reach: this connection; its framer is dead after it. */
export class FrameError extends GaidarosError<FrameErrorCode> {}
export type FrameErrorCode =
  | 'TOO_LARGE' // over the limit; nothing was buffered or allocated for it
  | 'MALFORMED' // not what the codec's grammar or the message schema allows
  | 'TRUNCATED' // the peer finished inside a frame; the part is not delivered
  | 'TIMEOUT' // a frame was not whole within its deadline

/** A message for which the handler has no method and no `@OnMessage()`. Reach: this message. */
export class UnroutedMessageError extends GaidarosError<'UNROUTED'> {}

/** A handler's method threw or rejected; `cause` is what it threw. Reach: this connection. */
export class HandlerError extends GaidarosError<'HANDLER_FAILED'> {}

/** One connection's: why it ended, or why an operation on it is not possible. */
export class ConnectionError extends GaidarosError<ConnectionErrorCode> {}
export type ConnectionErrorCode =
  | 'RESET' // the peer or the network cut it (ECONNRESET, EPIPE)
  | 'CLOSED' // a send or request on a connection that is closed
  | 'REFUSED' // connect(): nobody listens; or a middleware refused the connection
  | 'CONNECT_TIMEOUT'
  | 'TIMEOUT' // request(): no reply within timeoutMs; `sent` says whether it had left
  | 'IDLE_TIMEOUT'
  | 'FIRST_BYTE_TIMEOUT'
  | 'HALF_CLOSED_TIMEOUT'
  | 'SLOW_PEER' // more than writeHardBytes waited for a peer that does not read
  | 'TOO_SLOW' // less than limits.minBytesPerSecond while a frame was incomplete or a reply unread
  | 'MEMORY_PRESSURE' // cut to save the rest: it held most of limits.memoryBytes, or idled while memory was short
  | 'RATE_LIMITED'
  | 'KILLED' // by an operator, whose reason stands in the message
  | 'IDENTITY_UNKNOWN' // client-identity: no certificate, or one that nobody knows
  | 'AMPLIFIED' // a reply over limits.replyRatio to a datagram peer; not sent
  | 'UNDETECTED' // none of the listener's protocols is what the peer speaks, within detectBytes and detectMs
  | 'MESSAGE_TOO_LARGE' // a datagram over what the transport carries (EMSGSIZE)
  | 'NOT_SUPPORTED' // an operation this transport has not, such as upgrade('tls') on UDP
  | 'TRANSPORT_FAILED' // anything else; see cause

/** The executor's: where the handler should have run. Reach: this message. */
export class ExecutorError extends GaidarosError<ExecutorErrorCode> {}
export type ExecutorErrorCode =
  | 'OVERLOADED' // its queue is full; refused at once
  | 'TIMEOUT' // not answered within its deadline
  | 'LOST' // the thread, process or node that had it is gone; whether it was handled is not known
  | 'NOT_PORTABLE' // a message or reply that cannot leave its process, such as a function

/** A server process's: it did not get ready, or ended. Reach: the start or reload that wanted it; its connections. */
export class WorkerError extends GaidarosError<WorkerErrorCode> {}
export type WorkerErrorCode =
  | 'SILENT' // it did not answer a request of the control socket in time; the others did
  | 'NOT_READY' // it did not prove within workers.readyMs that it takes connections
  | 'ENDED' // its process is gone; the message says how
  | 'DIFFERS' // it read another configuration than the first worker of the same start or reload
  | 'BUSY' // another reload or upgrade is under way

/** The server is ending, or another generation serves (`RELOADED`): at the drain deadline, for whatever was still running. */
export class ShutdownError extends GaidarosError<'SHUTDOWN' | 'RELOADED'> {}

/** Turns anything thrown into an Error, keeping what it was. */
export function toError(thrown: unknown): Error {
  if (thrown instanceof Error) return thrown
  let text = 'a thrown value without text'
  try {
    text = typeof thrown === 'string' ? thrown : `thrown value: ${String(thrown)}`
  } catch {
    // An object without a prototype, or whose toString throws: what reports an error must not be a second one.
  }
  return new Error(text, { cause: thrown })
}
