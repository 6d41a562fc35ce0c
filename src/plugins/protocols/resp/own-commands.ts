/**
 * What the protocol answers by itself: greeting, ping, names of connections, the way out.
 *
 * Room: plugins/protocols. A handler's own method for one of these comes first.
 */
import type { Connection } from '../../../core/connection.js'
import type { MessageContext } from '../../../core/context.js'
import { UnroutedMessageError } from '../../../core/errors.js'
import { isThenable } from '../../../core/thenable.js'
import { MARK, type RespCommand, RespError, type RespGreeting, simple } from './values.js'

/** Who may use the server. @returns true to let the peer in. */
export type Authenticate = (user: string, password: string, connection: Connection) => boolean | Promise<boolean>

type Words = readonly string[]

/** What is known of a connection beside its version, which the codec keeps. */
interface Client {
  readonly id: number
  name: string
  isLetIn: boolean
}

const CLIENT = Symbol('gaidaros.resp.client')
let lastId = 0

function clientOf({ attributes }: Connection): Client {
  let client = attributes.get(CLIENT) as Client | undefined
  if (client === undefined) {
    client = { id: ++lastId, name: '', isLetIn: false }
    attributes.set(CLIENT, client)
  }
  return client
}

/** Commands before which nobody need be known. */
const OPEN = new Set(['HELLO', 'AUTH', 'QUIT'])

export class OwnCommands {
  readonly #authenticate: Authenticate | undefined
  readonly #server: string
  /** Versions of connections; the codec sets them when the greeting is written. */
  readonly versionOf: (connection: Connection) => 2 | 3
  readonly #commands = new Map<string, (args: Words, connection: Connection) => unknown>([
    ['PING', ([word]) => word ?? simple('PONG')],
    ['ECHO', (args) => (args.length === 1 ? args[0] : wrongNumber('echo'))],
    ['COMMAND', ([word]) => (word?.toUpperCase() === 'COUNT' ? 0 : [])],
    ['HELLO', (args, connection) => this.#hello(args, connection)],
    ['AUTH', (args, connection) => this.#auth(args, connection)],
    ['CLIENT', (args, connection) => this.#client(args, connection)],
    [
      'QUIT',
      (_, connection) => {
        void connection.close()
        return simple('OK')
      },
    ],
  ])

  constructor(server: string, authenticate: Authenticate | undefined, versionOf: (connection: Connection) => 2 | 3) {
    this.#server = server
    this.#authenticate = authenticate
    this.versionOf = versionOf
  }

  /** A method of the handler's for this command has nothing to expect of us. */
  readonly passes = (command: string): boolean => this.#authenticate === undefined && !this.#commands.has(command)

  /** Message middleware. Synchronous for whatever is not ours. */
  readonly step = (context: MessageContext, next: () => unknown): unknown => {
    const { command, args } = context.message as RespCommand<string | Buffer>
    const own = this.#commands.get(command)
    if (own === undefined && this.#authenticate === undefined) return command === '' ? undefined : next()
    if (command === '') return undefined
    const { connection } = context
    if (this.#authenticate !== undefined && !OPEN.has(command) && !clientOf(connection).isLetIn)
      return new RespError('Authentication required.', 'NOAUTH')
    if (own === undefined) return next()
    const answer = (error: unknown): unknown => {
      if (!(error instanceof UnroutedMessageError)) throw error
      return own(args.map(String), connection)
    }
    let reply: unknown
    try {
      reply = next()
    } catch (error) {
      return answer(error)
    }
    return isThenable(reply) ? reply.then(undefined, answer) : reply
  }

  /** `HELLO [2|3 [AUTH user password] [SETNAME name]]` */
  #hello(args: Words, connection: Connection): unknown {
    const [version = String(this.versionOf(connection))] = args
    if (version !== '2' && version !== '3') return new RespError('unsupported protocol version', 'NOPROTO')
    let credentials: readonly [string, string] | undefined
    let name: string | undefined
    for (let at = 1; at < args.length; ) {
      const option = (args[at] as string).toUpperCase()
      if (option === 'AUTH' && at + 2 < args.length) {
        credentials = [args[at + 1] as string, args[at + 2] as string]
        at += 3
      } else if (option === 'SETNAME' && at + 1 < args.length) {
        name = args[at + 1]
        at += 2
      } else return new RespError('Syntax error in HELLO')
    }
    if (name !== undefined && !isName(name)) return badName()
    const greet = (refusal: RespError | undefined): unknown => {
      if (refusal !== undefined) return refusal
      const client = clientOf(connection)
      if (this.#authenticate !== undefined && !client.isLetIn)
        return new RespError('HELLO must be called with the client already authenticated', 'NOAUTH')
      if (name !== undefined) client.name = name
      const proto = version === '3' ? 3 : 2
      const facts = { server: this.#server, version: '7.0.0', proto, id: client.id, mode: 'standalone', role: 'master' }
      return { [MARK]: 'hello', version: proto, facts: { ...facts, modules: [] } } satisfies RespGreeting
    }
    if (credentials === undefined) return greet(undefined)
    const refusal = this.#letIn(...credentials, connection)
    return isThenable(refusal) ? refusal.then(greet) : greet(refusal)
  }

  /** `AUTH [user] password` */
  #auth(args: Words, connection: Connection): unknown {
    if (args.length < 1 || args.length > 2) return wrongNumber('auth')
    const password = args[args.length - 1] as string
    const refusal = this.#letIn(args.length === 2 ? (args[0] as string) : 'default', password, connection)
    const answer = (error: RespError | undefined) => error ?? simple('OK')
    return isThenable(refusal) ? refusal.then(answer) : answer(refusal)
  }

  #letIn(
    user: string,
    password: string,
    connection: Connection,
  ): RespError | undefined | PromiseLike<RespError | undefined> {
    if (this.#authenticate === undefined)
      return new RespError('AUTH called without any password configured for the default user')
    const settle = (isWelcome: boolean) => {
      // A failed attempt takes nothing away from who was let in before, as in Redis.
      if (!isWelcome) return new RespError('invalid username-password pair or user is disabled.', 'WRONGPASS')
      clientOf(connection).isLetIn = true
      return undefined
    }
    const isWelcome = this.#authenticate(user, password, connection)
    return isThenable(isWelcome) ? isWelcome.then(settle) : settle(isWelcome)
  }

  #client(args: Words, connection: Connection): unknown {
    const client = clientOf(connection)
    switch (args[0]?.toUpperCase()) {
      case 'SETNAME':
        if (args.length !== 2) return wrongNumber('client|setname')
        if (!isName(args[1] as string)) return badName()
        client.name = args[1] as string
        return simple('OK')
      case 'GETNAME':
        return client.name === '' ? null : client.name
      case 'SETINFO':
        return args.length === 3 ? simple('OK') : wrongNumber('client|setinfo')
      case 'ID':
        return client.id
      default:
        return new RespError(`unknown subcommand '${args[0] ?? ''}'. Try SETNAME, GETNAME, SETINFO or ID.`)
    }
  }
}

/** As Redis wants them: visible ASCII. The limit is ours. */
function isName(name: string): boolean {
  return name.length <= 256 && /^[!-~]*$/.test(name)
}

function badName(): RespError {
  return new RespError('Client names cannot contain spaces, newlines or special characters.')
}

function wrongNumber(command: string): RespError {
  return new RespError(`wrong number of arguments for '${command}' command`)
}
