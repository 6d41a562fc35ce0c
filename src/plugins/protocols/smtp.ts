/**
 * SMTP, the receiving side: mail as messages, with STARTTLS.
 *
 * Room: plugins/protocols. RFC 5321, 3207 (STARTTLS), 4954 (AUTH), 1870 (SIZE), 2920 (PIPELINING). Lines end in CR LF and in
 * nothing else: where a bare line feed ends a line for one server and not for the next, mail is smuggled in between.
 */
import type { Codec, CodecContext, FrameLimits, FrameReader } from '../../core/codec.js'
import type { Connection } from '../../core/connection.js'
import { ExecutorError, FrameError, HandlerError, toError, UnroutedMessageError } from '../../core/errors.js'
import { TLS } from '../../core/feature.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Factory, Protocol } from '../../core/plugin.js'
import { isThenable } from '../../core/thenable.js'
import { CrlfFramer } from './crlf-framer.js'
import { oneLine, readLatin1, refuseHttp } from './text-support.js'

export interface SmtpOptions {
  readonly hostname: string
  readonly startTls: 'off' | 'offer' | 'require'
  readonly authenticate?: (user: string, password: string, connection: Connection) => boolean | Promise<boolean>
  readonly recipients: number
  readonly errors: number
}

/** A refusal in a handler's own words: `throw new SmtpError(550, 'no such mailbox')`. */
export class SmtpError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message)
  }
}

/** `@OnMessage('MAIL')` and `@OnMessage('RCPT')`: throw to refuse. */
export interface SmtpAddress {
  readonly command: 'MAIL' | 'RCPT'
  /** Without its angle brackets; empty for the null return path. */
  readonly address: string
  readonly parameters: Readonly<Record<string, string>>
}

/** `@OnMessage('MESSAGE')`: what is returned is the text of the 250; throw to refuse. */
export interface SmtpMessage {
  readonly command: 'MESSAGE'
  readonly from: string
  readonly to: readonly string[]
  /** The mail itself, headers and body, dots unstuffed, CR LF line ends. */
  readonly data: Buffer
  readonly tls: boolean
  /** What the client called itself. */
  readonly client: string
  readonly user: string | undefined
}

interface Line {
  readonly command: string
  readonly rest: string
}

interface Session {
  client: string
  from: string | undefined
  to: string[]
  user: string | undefined
  /** The mail under way, in a buffer that doubles; undefined outside DATA. */
  data: Buffer | undefined
  size: number
  isTooLarge: boolean
  hasBareEnds: boolean
  errors: number
  /** Inside AUTH: takes the next line. */
  answer: ((line: string) => unknown) | undefined
  /** Largest mail. */
  most: number
}

const EMPTY = Buffer.alloc(0)

const fresh = (): Session => ({
  client: '',
  from: undefined,
  to: [],
  user: undefined,
  data: undefined,
  size: 0,
  isTooLarge: false,
  hasBareEnds: false,
  errors: 0,
  answer: undefined,
  most: Number.POSITIVE_INFINITY,
})

/**
 * Takes mail. A mail is bounded by `limits.frameBytes` (1 MiB; announced as SIZE, and what is over it is read, dropped and
 * answered 552), a line by `limits.lineBytes`.
 *
 * @throws {FrameError} `TOO_LARGE` for a line. Reach: this connection.
 * @example
 * { "endpoint": "tcp://[::]:2525", "tls": { "cert": "./cert.pem", "key": "./key.pem" },
 *   "protocol": { "name": "smtp", "startTls": "offer" }, "handler": "./mailbox.ts" }
 */
export const smtp: Factory<Protocol, SmtpOptions> = {
  name: 'smtp',
  options: optionSchema<SmtpOptions>({
    hostname: { unit: 'text', default: 'localhost', why: 'What the server calls itself.' },
    startTls: {
      unit: 'choice',
      choices: ['off', 'offer', 'require'],
      default: 'off',
      why: 'Whether plain connections may, or must, switch to TLS; the listener needs a certificate (`tls`).',
    },
    authenticate: {
      unit: 'any',
      check: (value) => (typeof value === 'function' ? undefined : 'expected a function (user, password, connection)'),
      why: 'In code: AUTH PLAIN and LOGIN ask it; offered under TLS only. With it, mail is taken from known users only.',
    },
    recipients: { unit: 'count', min: 100, default: 100, why: 'Most of one mail; RFC 5321, 4.5.3.1.8 wants 100.' },
    errors: { unit: 'count', min: 1, default: 10, why: 'After so many refused commands the connection ends with 421.' },
  }),
  create(options) {
    const sessions = new WeakMap<Connection, Session>()
    const of = (connection: Connection): Session => {
      let session = sessions.get(connection)
      if (session === undefined) sessions.set(connection, (session = fresh()))
      return session
    }
    const talk = new Dialogue(options, of, (connection, session) => sessions.set(connection, session))
    return {
      codec: new SmtpCodec(of),
      needs: { ordered: true, reliable: true, stream: true },
      middleware: {
        name: 'smtp',
        connection({ connection }, next) {
          void connection.send(`220 ${options.hostname} ESMTP`)
          return next()
        },
        message: ({ connection, message }, next) => talk.step(connection, message as Line | SmtpMessage, next),
      },
      // Our own words for a line that is too long; what failed inside is for the log.
      errorReply: (error) =>
        error instanceof FrameError
          ? `500 5.5.6 ${oneLine(error.message)}`
          : isOneMail(error)
            ? '451 4.3.0 local error, try again later'
            : `421 4.3.0 ${options.hostname} has an error`,
      survives: isOneMail,
      goodbye: () => `421 ${options.hostname} is shutting down`,
    }
  },
}

/** The fault of one command or mail, which has its answer now. */
function isOneMail(error: Error): boolean {
  return error instanceof HandlerError || error instanceof ExecutorError || error instanceof UnroutedMessageError
}

const LINES = new CrlfFramer('lineBytes')

/** Commands line by line; of a mail as many lines as are there, because each frame costs more than a line does. */
class SmtpReader implements FrameReader {
  start = 0
  end = 0
  readonly need = 0
  /** Known from the first command on. */
  session: Session | undefined
  readonly #lines: FrameReader
  readonly #limit: number
  readonly #found: (reader: SmtpReader) => void

  constructor(limits: FrameLimits, found: (reader: SmtpReader) => void) {
    this.#lines = LINES.open(limits)
    this.#limit = limits.lineBytes
    this.#found = found
  }

  next(buffer: Buffer, start: number, end: number): number {
    const after = this.#lines.next(buffer, start, end)
    if (after < 0) return -1
    this.#found(this)
    this.start = start
    this.end = after - 2
    if (this.session?.data === undefined) refuseHttp('a command of SMTP', buffer, start, this.end)
    const isDot = after - start === 3 && buffer[start] === 0x2e
    if (this.session?.data === undefined || isDot) return after
    const rest = buffer.subarray(this.end, end)
    const dot = rest.indexOf('\r\n.\r\n')
    const last = this.end + (dot < 0 ? rest.lastIndexOf('\r\n') : dot)
    this.end = last - start <= this.#limit ? last : this.#before(buffer, last)
    return this.end + 2
  }

  /** The end of the last line before one that is too long, which is refused when it is the first. */
  #before(buffer: Buffer, last: number): number {
    let at = this.end
    while (at < last) {
      const size = buffer.subarray(at + 2, last + 2).indexOf('\r\n')
      if (size > this.#limit) return at
      at += 2 + size
    }
    return last
  }
}

/** A CR or LF without the other. */
const BARE = /(?:^|[^\r])\n|\r(?!\n)/

class SmtpCodec implements Codec {
  readonly framer = { open: (limits: FrameLimits) => new SmtpReader(limits, (reader) => this.#meet(reader)) }
  /** Of the frame that is decoded next: that happens before another one is looked for. */
  #reader: SmtpReader | undefined
  readonly #of: (connection: Connection) => Session

  constructor(of: (connection: Connection) => Session) {
    this.#of = of
  }

  decode(frame: Uint8Array, { connection, limits }: CodecContext): unknown {
    const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength)
    const session = this.#of(connection)
    session.most = limits.frameBytes
    if (this.#reader !== undefined) this.#reader.session = session
    this.#reader = undefined
    if (session.data !== undefined) return this.#mailLines(bytes, session, connection)
    const text = bytes.toString()
    // A line that another server would take for two is none.
    if (/[\r\n\0]/.test(text)) return { command: 'BARE', rest: '' } satisfies Line
    if (session.answer !== undefined) return { command: 'ANSWER', rest: text } satisfies Line
    const space = text.indexOf(' ')
    const command = (space < 0 ? text : text.slice(0, space)).toUpperCase()
    const rest = space < 0 ? '' : text.slice(space + 1).trim()
    if (command !== 'MAIL' && command !== 'RCPT') return { command, rest } satisfies Line
    return addressOf(command, rest) ?? ({ command: 'BAD', rest: command } satisfies Line)
  }

  #meet(reader: SmtpReader): void {
    this.#reader = reader
  }

  /** RFC 5321, 4.5.2: a line of one dot ends the mail; the first of two dots is no part of it. */
  #mailLines(bytes: Buffer, session: Session, connection: Connection): unknown {
    const held = session.data as Buffer
    if (bytes.length === 1 && bytes[0] === 0x2e) {
      session.data = undefined
      const { from = '', to, client, user } = session
      const tls = connection.feature(TLS) !== undefined
      // A copy at its size: a mailbox keeps many of them.
      const data = Buffer.from(held.subarray(0, session.isTooLarge ? 0 : session.size))
      return { command: 'MESSAGE', from, to, data, tls, client, user } satisfies SmtpMessage
    }
    if (BARE.test(readLatin1(bytes, 0, bytes.length))) session.hasBareEnds = true
    const lines = bytes[0] === 0x2e || bytes.includes('\r\n.') ? unstuffed(bytes) : bytes
    const size = session.size + lines.length + 2
    if (session.isTooLarge || size > session.most) {
      session.isTooLarge = true
      session.data = EMPTY
    } else {
      const room = size > held.length ? Buffer.allocUnsafe(held === EMPTY ? size : size * 2) : held
      if (room !== held) held.copy(room, 0, 0, session.size)
      session.data = room
      lines.copy(room, session.size)
      room[size - 2] = 0x0d
      room[size - 1] = 0x0a
      session.size = size
    }
    return { command: 'LINE', rest: '' } satisfies Line
  }

  route(message: unknown): string | undefined {
    return (message as Line).command
  }
  encode(message: unknown): string {
    return `${String(message)}\r\n`
  }
}

/** Lines without the dot that each of them begins with. */
function unstuffed(bytes: Buffer): Buffer {
  const out = Buffer.allocUnsafe(bytes.length)
  let size = 0
  for (let at = 0; at < bytes.length; ) {
    if (bytes[at] === 0x2e) at++
    const end = bytes.indexOf('\r\n', at)
    const after = end < 0 ? bytes.length : end + 2
    size += bytes.copy(out, size, at, after)
    at = after
  }
  return out.subarray(0, size)
}

/** `FROM:<a@b> SIZE=10`. Quoted local parts may hold anything but line ends. */
function addressOf(command: 'MAIL' | 'RCPT', rest: string): SmtpAddress | undefined {
  const prefix = command === 'MAIL' ? 'FROM:' : 'TO:'
  if (rest.slice(0, prefix.length).toUpperCase() !== prefix) return undefined
  const [whole = '', address = ''] = /^ ?<((?:"(?:[^"\\]|\\.)*"|[^<>"])*)>/.exec(rest.slice(prefix.length)) ?? []
  if (whole === '' || address.length > 256 || (command === 'RCPT' && address === '')) return undefined
  const given = rest.slice(prefix.length + whole.length)
  if (given !== '' && !given.startsWith(' ')) return undefined
  const pairs = given.split(' ').filter(Boolean)
  const parameters = Object.fromEntries(
    pairs.map((pair) => [pair.split('=')[0]?.toUpperCase(), pair.split('=')[1] ?? '']),
  )
  return { command, address, parameters }
}

class Dialogue {
  readonly #options: SmtpOptions
  readonly #of: (connection: Connection) => Session
  readonly #set: (connection: Connection, session: Session) => void

  constructor(
    options: SmtpOptions,
    of: (connection: Connection) => Session,
    set: (connection: Connection, session: Session) => void,
  ) {
    this.#options = options
    this.#of = of
    this.#set = set
  }

  step(connection: Connection, message: Line | SmtpAddress | SmtpMessage, next: () => unknown): unknown {
    const session = this.#of(connection)
    const reply = this.#answer(connection, session, message, next)
    return isThenable(reply)
      ? reply.then((said) => this.#counted(connection, session, said))
      : this.#counted(connection, session, reply)
  }

  /** Somebody who is refused again and again is no mail server. */
  #counted(connection: Connection, session: Session, reply: unknown): unknown {
    if (typeof reply !== 'string' || !/^5/.test(reply) || ++session.errors < this.#options.errors) return reply
    void connection.send(reply)
    void connection.send(`421 ${this.#options.hostname} too many errors`)
    void connection.close('TOO_MANY_ERRORS')
    return undefined
  }

  #answer(
    connection: Connection,
    session: Session,
    message: Line | SmtpAddress | SmtpMessage,
    next: () => unknown,
  ): unknown {
    const { hostname, startTls, recipients, authenticate } = this.#options
    const isSecure = connection.feature(TLS) !== undefined
    const rest = 'rest' in message ? message.rest : ''
    switch (message.command) {
      case 'LINE':
        return undefined
      case 'BARE':
        session.answer = undefined
        return '500 5.5.2 lines end in CR LF, and in nothing else'
      case 'MESSAGE':
        return this.#take(session, next)
      case 'ANSWER': {
        const take = session.answer as (line: string) => unknown
        session.answer = undefined
        return rest === '*' ? '501 5.0.0 cancelled' : take(rest)
      }
      case 'HELO':
      case 'EHLO':
        if (rest === '') return `501 5.5.4 ${message.command} needs a name`
        this.#reset(session)
        session.client = rest
        return message.command === 'HELO' ? `250 ${hostname}` : this.#extensions(session, isSecure)
      case 'NOOP':
        return '250 2.0.0 OK'
      case 'RSET':
        this.#reset(session)
        return '250 2.0.0 OK'
      case 'VRFY':
        return '252 2.1.5 send it and see'
      case 'QUIT':
        void connection.close()
        return `221 2.0.0 ${hostname} bye`
      case 'STARTTLS':
        if (startTls === 'off' || isSecure || rest !== '') return '503 5.5.1 STARTTLS is not possible here'
        return this.#secure(connection)
    }
    if (startTls === 'require' && !isSecure) return '530 5.7.0 begin with STARTTLS'
    if (message.command === 'AUTH') return this.#authenticate(connection, session, rest, isSecure)
    if (authenticate !== undefined && session.user === undefined && /^(MAIL|RCPT|DATA)$/.test(message.command)) {
      return '530 5.7.0 authentication is required'
    }
    switch (message.command) {
      case 'MAIL': {
        if (session.client === '') return '503 5.5.1 begin with EHLO'
        if (session.from !== undefined) return '503 5.5.1 one mail at a time'
        const { address, parameters } = message as SmtpAddress
        if (Number(parameters.SIZE ?? 0) > session.most) return '552 5.3.4 too large'
        return this.#asked(next, () => {
          session.from = address
        })
      }
      case 'RCPT':
        if (session.from === undefined) return '503 5.5.1 begin with MAIL'
        if (session.to.length >= recipients) return '452 4.5.3 too many recipients'
        return this.#asked(next, () => session.to.push((message as SmtpAddress).address))
      case 'DATA':
        if (session.to.length === 0) return '503 5.5.1 begin with MAIL and RCPT'
        session.data = EMPTY
        return '354 end with a line of one dot'
      case 'BAD':
        return `501 5.5.4 ${rest}: the address is not well written`
      default:
        return '500 5.5.2 unknown command'
    }
  }

  #extensions({ most }: Session, isSecure: boolean): string {
    const { hostname, startTls, authenticate } = this.#options
    const lines = [hostname, 'PIPELINING', '8BITMIME', 'SMTPUTF8', 'ENHANCEDSTATUSCODES', `SIZE ${most}`]
    if (startTls !== 'off' && !isSecure) lines.push('STARTTLS')
    if (authenticate !== undefined && isSecure) lines.push('AUTH PLAIN LOGIN')
    return lines.map((line, index) => `250${index === lines.length - 1 ? ' ' : '-'}${line}`).join('\r\n')
  }

  #reset(session: Session): void {
    session.from = undefined
    session.to = []
    session.data = undefined
    session.size = 0
    session.isTooLarge = session.hasBareEnds = false
  }

  /** RFC 3207, 4.2: what was said before is forgotten. */
  async #secure(connection: Connection): Promise<undefined> {
    await connection.send('220 2.0.0 go ahead')
    await connection.upgrade('tls')
    this.#set(connection, fresh())
  }

  #take(session: Session, next: () => unknown): unknown {
    const { isTooLarge, hasBareEnds } = session
    this.#reset(session)
    if (isTooLarge) return '552 5.3.4 too large'
    if (hasBareEnds) return '550 5.6.0 lines end in CR LF, and in nothing else'
    return refusable(next, (said) => `250 2.0.0 ${typeof said === 'string' ? oneLine(said) : 'taken'}`)
  }

  /** A handler without a method for it takes every address. */
  #asked(next: () => unknown, accept: () => void): unknown {
    const accepted = () => {
      accept()
      return '250 2.1.0 OK'
    }
    return refusable(next, accepted, accepted)
  }

  #authenticate(connection: Connection, session: Session, rest: string, isSecure: boolean): unknown {
    const { authenticate } = this.#options
    if (authenticate === undefined || !isSecure) return '502 5.5.1 AUTH is not possible here'
    // RFC 4954, 4: once, and not inside a mail.
    if (session.user !== undefined || session.from !== undefined) return '503 5.5.1 AUTH comes once, before MAIL'
    const [mechanism = '', initial] = rest.split(' ')
    const decide = (user: string, password: string): unknown => {
      const settle = (isKnown: boolean) => {
        if (isKnown) session.user = user
        return isKnown ? '235 2.7.0 welcome' : '535 5.7.8 wrong name or password'
      }
      const known = authenticate(user, password, connection)
      return isThenable(known) ? known.then(settle) : settle(known as boolean)
    }
    const ask = (prompt: string, take: (text: string) => unknown): string => {
      session.answer = (line) => take(Buffer.from(line, 'base64').toString())
      return `334 ${Buffer.from(prompt).toString('base64')}`
    }
    if (mechanism.toUpperCase() === 'PLAIN') {
      const plain = (text: string) => {
        const [, user = '', password = ''] = text.split('\0')
        return decide(user, password)
      }
      return initial === undefined ? ask('', plain) : plain(Buffer.from(initial, 'base64').toString())
    }
    if (mechanism.toUpperCase() !== 'LOGIN') return '504 5.5.4 PLAIN and LOGIN are known'
    const password = (user: string) => ask('Password:', (given) => decide(user, given))
    return initial === undefined ? ask('Username:', password) : password(Buffer.from(initial, 'base64').toString())
  }
}

/** What the handler throws as SmtpError is an answer; anything else is a failure of ours. */
function refusable(next: () => unknown, then: (said: unknown) => unknown, unrouted?: () => unknown): unknown {
  const refuse = (thrown: unknown): unknown => {
    if (thrown instanceof UnroutedMessageError && unrouted !== undefined) return unrouted()
    if (thrown instanceof SmtpError) return `${thrown.status} ${oneLine(thrown.message)}`
    throw toError(thrown)
  }
  try {
    const said = next()
    return isThenable(said) ? said.then(then, refuse) : then(said)
  } catch (thrown) {
    return refuse(thrown)
  }
}
