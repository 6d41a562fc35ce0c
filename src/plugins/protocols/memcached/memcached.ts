/**
 * Memcached's text protocol: commands in, words and values out.
 *
 * Room: plugins/protocols. github.com/memcached/memcached, doc/protocol.txt. Any client of memcached talks to a server of it;
 * the store behind it is the handler's.
 */
import type { Codec, CodecContext } from '../../../core/codec.js'
import { ExecutorError, FrameError, HandlerError, UnroutedMessageError } from '../../../core/errors.js'
import { optionSchema } from '../../../core/option-schema.js'
import type { Detection, Factory, Protocol } from '../../../core/plugin.js'
import { isThenable } from '../../../core/thenable.js'
import { type BadCommand, type MemcachedCommand, mayHaveBlock, readCommand } from './command.js'
import { CommandReader, ReplyReader } from './reader.js'
import { Answer, answerOf, errorAnswer, MemcachedError, readReply, writeCommand } from './reply.js'

export interface MemcachedOptions {
  readonly version: string
}

/**
 * The route is the command: `@OnMessage('get')`, which takes `gets` as well (and `gat` takes `gats`).
 *
 * For `get` a handler returns the value (text, bytes, a number, or `{ value, flags, cas }`), `null` where there is none, and
 * for several keys a list in their order or a Map. For `set` and its like `true` or nothing is STORED, `false` NOT_STORED (for
 * `cas` EXISTS), for `delete` and `touch` `false` is NOT_FOUND, for `incr` and `decr` the new number or `null`, for `stats` an
 * object. A word of the protocol stands for itself. Nothing is answered after `noreply`. VERSION, VERBOSITY and QUIT are
 * answered by the protocol where the handler has no method for them.
 *
 * A command nobody takes is answered ERROR, a handler that throws SERVER_ERROR without its words (a `MemcachedError` with
 * them), and the connection goes on. Where it is not known how long the data is, it ends: so it does behind an unknown command
 * with a number in its line. The data of `ms` (meta set) is read, and handled by `@OnMessage('ms')`. The binary protocol and HTTP
 * are refused by their first bytes. A command with its data is bounded
 * by `limits.frameBytes` (1 MiB), a line by `limits.lineBytes`.
 *
 * @throws {FrameError} `TOO_LARGE`, as soon as the length says so; `MALFORMED`. Reach: this connection.
 * @example
 * @Handler({ protocol: 'memcached' })
 * class Cache {
 *   @OnMessage('get') get({ keys }: MemcachedCommand) { return keys.map((key) => this.map.get(key)) }
 *   @OnMessage('set') set({ key, value }: MemcachedCommand) { this.map.set(key, value) }
 * }
 */
export const memcached: Factory<Protocol, MemcachedOptions> = {
  name: 'memcached',
  options: optionSchema<MemcachedOptions>({
    version: {
      unit: 'text',
      default: '1.5.22',
      why: 'What VERSION tells; clients look at it for what may be asked: from 1.6 on for the meta commands.',
    },
  }),
  create({ version }) {
    return {
      codec: serverCodec,
      clientCodec,
      needs: { ordered: true, reliable: true, stream: true },
      middleware: {
        name: 'memcached',
        message(context, next) {
          const command = context.message as MemcachedCommand | BadCommand
          if ('fault' in command) return new Answer(`${command.fault}\r\n`)
          const reply = (said: unknown) => {
            const answer = answerOf(command, said)
            return command.noreply ? undefined : answer
          }
          const failed = (thrown: unknown): unknown => {
            const isUnrouted = thrown instanceof UnroutedMessageError
            const own = isUnrouted ? ownAnswer(command, version) : undefined
            if (own === 'quit') return void context.connection.close()
            // What is not known to be the next line must not be carried out as a command.
            if (isUnrouted && own === undefined && !known.has(command.command) && mayHaveBlock(command))
              void context.connection.close('MALFORMED')
            if (own === undefined && !command.noreply) throw thrown
            // Reported nowhere else: who wants no answer gets none, not even this one.
            if (own === undefined) throw silent(thrown)
            return command.noreply ? undefined : own
          }
          try {
            const said = next()
            return isThenable(said) ? Promise.resolve(said).then(reply).catch(failed) : reply(said)
          } catch (thrown) {
            return failed(thrown)
          }
        },
      },
      detect,
      errorReply,
      survives: (error) =>
        error instanceof UnroutedMessageError || error instanceof HandlerError || error instanceof ExecutorError,
    }
  },
}

/** Commands that name a key, in their classic form. */
const withKey = ['get', 'gat', 'set', 'add', 'replace', 'append', 'prepend', 'cas', 'incr', 'decr', 'delete', 'touch']
/** Whether or not the handler takes them, where they end is known. */
const known = new Set([
  ...withKey,
  'flush_all',
  ...['version', 'stats', 'verbosity', 'quit', 'ms', 'mg', 'md', 'ma', 'mn', 'me', 'cache_memlimit', 'shutdown'],
])

/** Errors of commands that wanted no answer. */
const unanswered = new WeakSet<Error>()

function silent(thrown: unknown): unknown {
  if (thrown instanceof Error) unanswered.add(thrown)
  return thrown
}

function ownAnswer({ command }: MemcachedCommand, version: string): Answer | 'quit' | undefined {
  if (command === 'quit') return 'quit'
  if (command === 'version') return new Answer(`VERSION ${version}\r\n`)
  if (command === 'verbosity') return new Answer('OK\r\n')
  return undefined
}

function errorReply(error: Error): Answer | undefined {
  const cause = error.cause instanceof Error ? error.cause : error
  if (unanswered.has(error) || unanswered.has(cause)) return undefined
  if (error instanceof UnroutedMessageError) return new Answer('ERROR\r\n')
  if (cause instanceof MemcachedError) return errorAnswer(cause)
  if (error instanceof FrameError) {
    if (error.code === 'TOO_LARGE') return errorAnswer(new MemcachedError('object too large for cache', 'SERVER_ERROR'))
    return errorAnswer(new MemcachedError(`bad data chunk: ${error.message}`))
  }
  return errorAnswer(new MemcachedError('internal error', 'SERVER_ERROR'))
}

const serverCodec: Codec = {
  framer: { open: (limits) => new CommandReader(limits) },
  decode: (frame) => {
    const buffer = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength)
    return readCommand(buffer, 0, buffer.length)
  },
  decodeAt: readCommand,
  encode: (message, context) => whole(pieces(message, context)),
  encodePieces: pieces,
  isMessage: (value) => Array.isArray(value) || value instanceof Map,
  route: (message) => (message as MemcachedCommand).command || undefined,
}

const clientCodec: Codec = {
  framer: { open: (limits) => new ReplyReader(limits) },
  decode: (frame) => {
    const buffer = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength)
    return readReply(buffer, 0, buffer.length)
  },
  decodeAt: readReply,
  encode: writeCommand,
  isMessage: Array.isArray,
}

type Pieces = string | Uint8Array | readonly Uint8Array[]

/** What a handler sends by itself is one line. */
function pieces(message: unknown, _context: CodecContext): Pieces {
  return message instanceof Answer ? message.pieces : `${String(message).replace(/[\r\n\0]/g, ' ')}\r\n`
}

function whole(given: Pieces): Uint8Array | string {
  return typeof given === 'string' || given instanceof Uint8Array ? given : Buffer.concat(given)
}

const FRONTS = [
  ...[...withKey, 'gets', 'gats'].map((name) => `${name} `),
  ...['version', 'stats', 'quit', 'flush_all', 'verbosity'].flatMap((name) => [`${name}\r`, `${name} `]),
]

function detect(buffer: Buffer, start: number, end: number): Detection {
  const front = buffer.toString('latin1', start, Math.min(end, start + 10))
  if (FRONTS.some((one) => front.startsWith(one))) return 'yes'
  return FRONTS.some((one) => one.startsWith(front)) ? 'more' : 'no'
}
