/**
 * SOCKS5: connections to elsewhere, for those who may.
 *
 * Room: plugins/protocols. RFC 1928, 1929. CONNECT alone: BIND and UDP ASSOCIATE are answered 07. It opens connections on
 * behalf of strangers, so what is private is out of reach unless it is allowed.
 */
import { timingSafeEqual } from 'node:crypto'
import { lookup } from 'node:dns/promises'
import type { Duplex } from 'node:stream'
import type { Codec } from '../../core/codec.js'
import type { Connection } from '../../core/connection.js'
import { ConfigError, HandshakeError, toError, WiringError } from '../../core/errors.js'
import { isAddress, Networks, plainAddress } from '../../core/networks.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Detection, Factory, PluginServices, Protocol, ProtocolPort } from '../../core/plugin.js'

export interface Socks5Options {
  readonly users: Readonly<Record<string, string>> | undefined
  readonly allow: readonly string[] | undefined
  readonly deny: readonly string[]
  readonly ports: readonly number[] | undefined
}

/** Loopback, private, link-local and other networks that are nobody's business from outside (RFC 6890). */
const PRIVATE = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '224.0.0.0/3',
  // Unspecified, loopback, and addresses that stand for IPv4 ones: behind a translator they lead to the networks above.
  '::/96',
  '64:ff9b::/96',
  '64:ff9b:1::/48',
  '2002::/16',
  '100::/64',
  'fec0::/10',
  'fc00::/7',
  'fe80::/10',
  'ff00::/8',
]

const VERSION = 5
const NO_AUTH = 0
const PASSWORD = 2
const NONE = 0xff
/** RFC 1928, section 6. */
const FAILED = 1
const NOT_ALLOWED = 2
const UNREACHABLE = 4
const REFUSED = 5
const BAD_COMMAND = 7
const BAD_ADDRESS = 8
/** The longest that a client has to say before it is connected. */
const MOST_BYTES = 1_024

/**
 * A proxy: `curl --socks5-hostname localhost:1080 ...`.
 *
 * Names are resolved here, and what they resolve to is held against `allow` and `deny`. The handshake has
 * `timeouts.handshakeMs`; after it bytes pass both ways with back-pressure, and `timeouts.idleMs` counts.
 *
 * @example
 * { "endpoint": "tcp://localhost:1080", "protocol": { "name": "socks5", "users": { "ada": "..." } } }
 */
export const socks5: Factory<Protocol, Socks5Options> = {
  name: 'socks5',
  options: optionSchema<Socks5Options>({
    users: {
      unit: 'any',
      secret: true,
      check: (value) => (typeof value === 'object' && value !== null ? undefined : '{ name: password }'),
      why: 'Who may use it: names and passwords. Default: everybody who reaches the listener.',
    },
    allow: {
      unit: 'list',
      why: 'Networks that may be reached, private ones too (127.0.0.0/8). Default: everything that is public.',
    },
    deny: { unit: 'list', default: [], why: 'Networks that may not, even where `allow` has them.' },
    ports: { unit: 'list', why: 'Ports that may be reached. Default: all.' },
  }),
  create(options, services) {
    const { users } = options
    for (const [name, password] of Object.entries(users ?? {})) {
      if (typeof password !== 'string' || Buffer.byteLength(name) > 255 || Buffer.byteLength(password) > 255)
        throw new ConfigError('BAD_VALUE', `socks5.users.${name}: expected a password of at most 255 bytes`, { name })
    }
    const reach = new Reach(options)
    return {
      codec: unread,
      needs: { stream: true, ordered: true, reliable: true },
      detect,
      serve: (port) => void new Handshake(port, options, reach, services).begin(),
    }
  },
}

const unread: Codec = { decode: (frame) => frame, encode: (message) => message as Uint8Array }

function detect(buffer: Buffer, start: number, end: number): Detection {
  if (end - start < 2) return end > start && buffer[start] !== VERSION ? 'no' : 'more'
  return buffer[start] === VERSION && (buffer[start + 1] as number) > 0 ? 'yes' : 'no'
}

/** Which addresses may be reached. */
class Reach {
  readonly #allowed: Networks | undefined
  readonly #denied: Networks
  readonly #ports: ReadonlySet<number> | undefined

  constructor({ allow, deny, ports }: Socks5Options) {
    this.#allowed = allow === undefined ? undefined : new Networks(allow, 'socks5.allow')
    this.#denied = new Networks(allow === undefined ? [...deny, ...PRIVATE] : deny, 'socks5.deny')
    this.#ports = ports === undefined ? undefined : new Set(ports)
  }

  has(address: string, port: number): boolean {
    const plain = plainAddress(address)
    if (this.#ports !== undefined && !this.#ports.has(port)) return false
    return !this.#denied.has(plain) && (this.#allowed === undefined || this.#allowed.has(plain))
  }
}

class Handshake {
  readonly #connection: Connection
  readonly #port: ProtocolPort
  readonly #users: Socks5Options['users']
  readonly #reach: Reach
  readonly #services: PluginServices
  readonly #stream: Duplex
  #held = Buffer.alloc(0)
  #wake: () => void = () => {}
  #cancel: () => void = () => {}

  constructor(port: ProtocolPort, { users }: Socks5Options, reach: Reach, services: PluginServices) {
    this.#port = port
    this.#connection = port.connection
    this.#users = users
    this.#reach = reach
    this.#services = services
    this.#stream = port.connection.stream()
  }

  async begin(): Promise<void> {
    const { handshakeMs } = this.#port.timeouts
    if (Number.isFinite(handshakeMs)) {
      this.#cancel = this.#services.clock.after(handshakeMs, () => {
        this.#connection.abort(new HandshakeError('HANDSHAKE_TIMEOUT', `socks5: no request within ${handshakeMs} ms`))
      })
    }
    this.#stream.on('error', () => {})
    const take = (chunk: Buffer) => {
      this.#held = Buffer.concat([this.#held, chunk])
      if (this.#held.length > MOST_BYTES) this.#stream.pause()
      this.#wake()
    }
    this.#stream.on('data', take)
    this.#stream.once('end', () => this.#wake())
    // A drain waits for nobody who is still talking about where to go.
    let isRelaying = false
    void this.#port.draining.then(() => {
      if (!isRelaying) void this.#connection.close('SHUTDOWN')
    })
    try {
      const target = await this.#negotiate()
      this.#cancel()
      this.#stream.off('data', take)
      this.#stream.pause()
      if (this.#held.length > 0) this.#stream.unshift(this.#held)
      isRelaying = true
      relay(this.#stream, target)
    } catch (thrown) {
      this.#cancel()
      const error = toError(thrown)
      void this.#connection.close(error instanceof HandshakeError ? error.code : 'FAILED')
    }
  }

  async #negotiate(): Promise<Duplex> {
    const [version, count] = await this.#read(2)
    if (version !== VERSION) throw bad(`version 5, got ${version}`)
    const methods = await this.#read(count as number)
    const wanted = this.#users === undefined ? NO_AUTH : PASSWORD
    if (!methods.includes(wanted)) {
      this.#stream.write(Buffer.from([VERSION, NONE]))
      throw bad(wanted === PASSWORD ? 'a client with a name and password' : 'a client without authentication')
    }
    this.#stream.write(Buffer.from([VERSION, wanted]))
    if (wanted === PASSWORD) await this.#authenticate()
    const [again, command, , kind] = await this.#read(4)
    const host = await this.#host(kind as number)
    const port = (await this.#read(2)).readUInt16BE()
    if (again !== VERSION) throw bad(`version 5, got ${again}`)
    if (host === undefined) throw this.#refuse(BAD_ADDRESS, `an address of kind ${kind}`)
    if (command !== 1) throw this.#refuse(BAD_COMMAND, `command ${command}`)
    return this.#connect(host, port)
  }

  /** RFC 1929. Compared in the same time whatever is wrong. */
  async #authenticate(): Promise<void> {
    const [version, nameBytes] = await this.#read(2)
    const name = (await this.#read(nameBytes as number)).toString()
    const [passwordBytes] = await this.#read(1)
    const given = await this.#read(passwordBytes as number)
    const users = this.#users ?? {}
    const password = Buffer.from(Object.hasOwn(users, name) ? (users[name] as string) : '')
    const pad = (bytes: Buffer) => Buffer.concat([Buffer.from([bytes.length]), bytes, Buffer.alloc(255 - bytes.length)])
    const isRight = timingSafeEqual(pad(given), pad(password)) && Object.hasOwn(users, name) && version === 1
    this.#stream.write(Buffer.from([1, isRight ? 0 : 1]))
    if (!isRight) throw bad('a known name and password')
  }

  async #host(kind: number): Promise<string | undefined> {
    if (kind === 1) return (await this.#read(4)).join('.')
    if (kind === 4) {
      const bytes = await this.#read(16)
      return Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(i * 2).toString(16)).join(':')
    }
    if (kind !== 3) return undefined
    const [length] = await this.#read(1)
    return (await this.#read(length as number)).toString()
  }

  async #connect(host: string, port: number): Promise<Duplex> {
    const { connect } = this.#services
    if (connect === undefined) throw new WiringError('BAD_STATE', 'protocol socks5: there is no way to connect here')
    let address = host
    if (!isAddress(host)) {
      // What is checked is what is connected to: a name may mean something else a moment later.
      address = await addressOf(host)
      if (address === '') throw this.#refuse(UNREACHABLE, `${host}, which nobody knows`)
    }
    if (!this.#reach.has(address, port)) throw this.#refuse(NOT_ALLOWED, `${host}:${port}, which is not allowed`)
    let target: Connection
    try {
      target = await connect(`tcp://${address.includes(':') ? `[${address}]` : address}:${port}`)
    } catch (thrown) {
      const { code } = thrown as { code?: string }
      throw this.#refuse(
        code === 'REFUSED' ? REFUSED : code === 'CONNECT_TIMEOUT' ? UNREACHABLE : FAILED,
        `${host}:${port}`,
      )
    }
    this.#stream.write(Buffer.from([VERSION, 0, 0, 1, 0, 0, 0, 0, 0, 0]))
    void this.#connection.closed.then(() => void target.close())
    return target.stream()
  }

  #refuse(code: number, what: string): HandshakeError {
    this.#stream.write(Buffer.from([VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0]))
    return bad(`something that can be done, got ${what}`)
  }

  async #read(count: number): Promise<Buffer> {
    while (this.#held.length < count) {
      if (this.#stream.readableEnded || this.#stream.destroyed) throw bad('a whole request; the client left')
      if (this.#held.length > MOST_BYTES) throw bad(`at most ${MOST_BYTES} bytes`)
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    const bytes = this.#held.subarray(0, count)
    this.#held = this.#held.subarray(count)
    return bytes
  }
}

/** Empty where there is none; what is no name at all is thrown by the look-up itself. */
async function addressOf(host: string): Promise<string> {
  try {
    return (await lookup(host)).address
  } catch {
    return ''
  }
}

function bad(expected: string): HandshakeError {
  return new HandshakeError('HANDSHAKE_FAILED', `socks5: expected ${expected}`)
}

/** Both ways, half-close and all; one that breaks takes the other with it. */
function relay(one: Duplex, other: Duplex): void {
  one.pipe(other)
  other.pipe(one)
  one.on('error', () => other.destroy())
  other.on('error', () => one.destroy())
  one.on('close', () => other.destroy())
  other.on('close', () => one.end())
}
