/**
 * RESP, the protocol of Redis: RESP2 and, after `HELLO 3`, RESP3.
 *
 * Room: plugins/protocols. redis.io/docs/latest/develop/reference/protocol-spec. Any Redis client talks to a server of it.
 */
import type { Codec, CodecContext } from '../../../core/codec.js'
import type { Connection } from '../../../core/connection.js'
import { ExecutorError, FrameError, HandlerError, UnroutedMessageError } from '../../../core/errors.js'
import { optionSchema } from '../../../core/option-schema.js'
import type { Detection, Factory, Protocol } from '../../../core/plugin.js'
import { NINE, oneLine, ZERO } from '../text-support.js'
import { type Encoded, encodeReply, encodeRequest, type Version } from './encode.js'
import { type Authenticate, OwnCommands } from './own-commands.js'
import { readReply } from './reply.js'
import { ReplyReader } from './reply-reader.js'
import { readRequest, type Strings, stringReader } from './request.js'
import { RequestReader } from './request-reader.js'
import { isPush, MARK, type RespCommand, RespError, type RespGreeting } from './values.js'

export interface RespOptions {
  readonly strings: Strings
  readonly server: string
  readonly authenticate?: Authenticate
}

const STAR = 0x2a

/**
 * Commands in, replies out; the route is the command in upper case.
 *
 * The message is `{ command, args }`. A reply of text or bytes goes out as a bulk string, whole numbers as integers,
 * `null` as null, lists, maps and plain objects as such, errors as errors, `simple('OK')` as `+OK`; `undefined` sends
 * nothing, so a handler that answers later must send exactly one reply for each command. HELLO, AUTH, PING, ECHO, QUIT,
 * COMMAND, CLIENT SETNAME, GETNAME, SETINFO and ID are answered by the protocol where the handler has no method for
 * them; a catch-all method leaves them to it by throwing UnroutedMessageError.
 *
 * A command nobody takes, and a handler that throws, are answered with `-ERR` and the connection goes on; the words of
 * what was thrown are not told, unless it is a `RespError`. What breaks the grammar is answered and ends the connection.
 * A whole command is bounded by `limits.frameBytes` (1 MiB), an inline one by `limits.lineBytes` (64 KiB).
 *
 * @throws {FrameError} `TOO_LARGE`, as soon as a length says so; `MALFORMED`. Reach: this connection.
 * @example
 * @Handler({ protocol: 'resp' })
 * class Store {
 *   @OnMessage('GET') get({ args: [key] }: RespCommand) { return this.map.get(key) ?? null }
 * }
 */
export const resp: Factory<Protocol, RespOptions> = {
  name: 'resp',
  options: optionSchema<RespOptions>({
    strings: {
      unit: 'choice',
      choices: ['text', 'bytes'],
      default: 'text',
      why: 'Arguments (and replies to a client) as text, refused where it is no UTF-8; or as bytes, which may be any.',
    },
    server: { unit: 'text', default: 'gaidaros', why: 'The name that HELLO tells.' },
    authenticate: {
      unit: 'any',
      check: (value) => (typeof value === 'function' ? undefined : 'a function (user, password, connection)'),
      why: 'Asked by AUTH and HELLO; with it, nothing else is answered before it said yes. Default: everybody may.',
    },
  }),
  create({ strings, server, authenticate }) {
    const versions = new WeakMap<Connection, Version>()
    const own = new OwnCommands(server, authenticate, (connection) => versions.get(connection) ?? 2)
    return {
      codec: serverCodec(strings, versions),
      clientCodec: clientCodec(strings),
      needs: { ordered: true, reliable: true, stream: true },
      middleware: { name: 'resp', message: own.step },
      passes: own.passes,
      detect,
      errorReply,
      survives,
    }
  },
}

function serverCodec(strings: Strings, versions: WeakMap<Connection, Version>): Codec {
  const read = stringReader(strings)
  const encode = (message: unknown, context: CodecContext): Encoded => {
    const greeting = message as RespGreeting | null
    if (typeof message === 'object' && greeting?.[MARK] === 'hello') {
      // From its own reply on, neither earlier nor later.
      context.state = greeting.version
      versions.set(context.connection, greeting.version)
    }
    return encodeReply(message, context.state === 3 ? 3 : 2)
  }
  return {
    framer: { open: (limits) => new RequestReader(limits) },
    decode: (frame) => {
      const buffer = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength)
      return readRequest(buffer, 0, buffer.length, read)
    },
    decodeAt: (buffer, start, end) => readRequest(buffer, start, end, read),
    encode: (message, context) => whole(encode(message, context)),
    encodePieces: encode,
    isMessage: (value) => Array.isArray(value) || value instanceof Map || value instanceof Set,
    route: (message) => (message as RespCommand).command,
  }
}

function clientCodec(strings: Strings): Codec {
  const read = stringReader(strings)
  return {
    framer: { open: (limits) => new ReplyReader(limits) },
    decode: (frame) => {
      const buffer = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength)
      return readReply(buffer, 0, buffer.length, read)
    },
    decodeAt: (buffer, start, end) => readReply(buffer, start, end, read),
    encode: (message) => whole(encodeRequest(message)),
    encodePieces: encodeRequest,
    isMessage: Array.isArray,
    // A push answers nobody: without a number of its own it would be taken for the reply to the oldest request.
    correlate: (message) => (isPush(message) ? 'push' : undefined),
  }
}

function whole(encoded: Encoded): Uint8Array | string {
  return typeof encoded === 'string' || encoded instanceof Uint8Array ? encoded : Buffer.concat(encoded)
}

/** An array of at least one argument. Inline commands look like too much else. */
function detect(buffer: Buffer, start: number, end: number): Detection {
  if (start >= end) return 'more'
  if (buffer[start] !== STAR) return 'no'
  for (let at = start + 1; at < end; at++) {
    const byte = buffer[at] as number
    if (byte >= ZERO && byte <= NINE && at - start < 16) continue
    return at > start + 1 && byte === 0x0d ? 'yes' : 'no'
  }
  return end - start < 16 ? 'more' : 'no'
}

function errorReply(error: Error): RespError {
  if (error instanceof FrameError) return new RespError(`Protocol error: ${error.message}`)
  if (error instanceof UnroutedMessageError)
    return new RespError(`unknown command '${oneLine(String(error.fields.route))}'`)
  if (error instanceof HandlerError && error.cause instanceof RespError) return error.cause
  const code = (error as { code?: unknown }).code
  return new RespError(`internal error (${typeof code === 'string' ? code : 'HANDLER_FAILED'})`)
}

/** Each was the fault of one command, which has its answer now. */
function survives(error: Error): boolean {
  return error instanceof UnroutedMessageError || error instanceof HandlerError || error instanceof ExecutorError
}
