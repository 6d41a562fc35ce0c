/**
 * Every limit, deadline and switch: its name, unit, default and the reason for it.
 *
 * Room: core, contract. One table for configuration files, environment, flags, code, the schema and the documentation
 * (docs/reference/options.md is generated from it). `unlimited` must be spelled; inside it is `Infinity`.
 */

/** Per listener; `limits` at the top sets them for all. Bytes unless the name says otherwise. */
export interface Limits {
  connections: number
  whenFull: 'refuse' | 'pause'
  connectionsPerSource: number
  acceptRate: number
  handshakes: number
  frameBytes: number
  lineBytes: number
  readPauseBytes: number
  writeHighBytes: number
  writeLowBytes: number
  writeHardBytes: number
  inFlight: number
  executorQueue: number
  peers: number
  whenPeersFull: 'evict' | 'refuse'
  replyRatio: number
  detectBytes: number
  minBytesPerSecond: number
}

/** Of the whole server: they stand in `limits` at the top, and at no listener. */
export interface ServerLimits {
  serverConnections: number
  memoryBytes: number
  residentBytes: number
  watchMs: number
  alarmCoolDownMs: number
}

/** Per listener; `timeouts` at the top sets them for all. Milliseconds of the monotonic clock. */
export interface Timeouts {
  handshakeMs: number
  firstByteMs: number
  frameMs: number
  idleMs: number
  pingMs: number
  halfClosedMs: number
  slowGraceMs: number
  lingerMs: number
  handlerMs: number
  peerIdleMs: number
  connectMs: number
  detectMs: number
}

/** The platform's socket options; each transport takes those it has. */
export interface SocketOptions {
  noDelay: boolean
  /** Milliseconds before the first probe; false: none. */
  keepAlive: number | boolean
  backlog: number
  ipv6Only: boolean
  reusePort: boolean
  receiveBuffer: number
  sendBuffer: number
  /** Permission bits of a Unix socket: a number, or octal text such as "0660". */
  mode: number | string
  /** Group of a Unix socket's file: a name or a number. */
  group: number | string
  broadcast: boolean
  multicast: MulticastOptions
}

export interface MulticastOptions {
  /** Groups to join: `239.1.2.3`, or `{ group, interface, source }`. */
  readonly groups?: readonly (string | { group: string; interface?: string; source?: string })[]
  readonly ttl?: number
  readonly loopback?: boolean
  /** Outgoing interface's address. */
  readonly interface?: string
}

/** Text that starts with `-----BEGIN` is PEM itself; other text is a file's path; bytes are taken as they are. */
export type Material = string | Uint8Array | readonly (string | Uint8Array)[]

/** A certificate and its key. */
export type TlsIdentity = Pick<TlsOptions, 'cert' | 'key' | 'ca' | 'crl' | 'pfx' | 'passphrase'>

export interface TlsOptions {
  readonly cert?: Material
  readonly key?: Material
  readonly ca?: Material
  /**
   * Certificates that `ca` has revoked, in PEM: a list (CRL) for each authority of the chain, in one file or several. Belongs to
   * the `ca` beside it: a server name with a `ca` of its own has lists of its own.
   */
  readonly crl?: Material
  readonly pfx?: Material
  readonly passphrase?: string
  /** Ask clients for a certificate. */
  readonly requestCert?: boolean
  /** Refuse peers whose certificate does not lead to `ca`. Default true; on a server it matters with `requestCert`. */
  readonly rejectUnauthorized?: boolean
  readonly minVersion?: 'TLSv1.2' | 'TLSv1.3'
  readonly maxVersion?: 'TLSv1.2' | 'TLSv1.3'
  /** OpenSSL's cipher list; default: Mozilla's intermediate. */
  readonly ciphers?: string
  /** Protocols offered, best first. */
  readonly alpn?: readonly string[]
  /** By server name, `*.example.org` for one label: the certificate to show. */
  readonly sni?: Readonly<Record<string, TlsIdentity>>
  /** Read certificates and keys again when their files change, checked before they are used. Default true. */
  readonly watch?: boolean
  /**
   * 48 bytes from which the keys of session tickets are derived (a file, or the bytes): processes that share them take up each
   * other's sessions, for listeners of the same name that ask for the same certificates. Replace the file to rotate. Default:
   * made anew at each start and every 12 hours.
   */
  readonly ticketKeys?: string | Uint8Array
  /** On the client side: the name asked for and verified. Default: the endpoint's host. */
  readonly serverName?: string
}

/** One row of the table. */
export interface OptionRow {
  readonly default: number | boolean | string | undefined
  readonly unit: 'bytes' | 'ms' | 'count' | 'switch' | 'choice' | 'mode'
  /** What it does and why the default is what it is. */
  readonly why: string
  /** Counted under this name and told by this event when it bites; undefined where it cannot. */
  readonly counter?: string
  readonly choices?: readonly string[]
  /** May be `unlimited`. */
  readonly unlimited?: boolean
}

const KiB = 1024
const MiB = 1024 * KiB

export const limitRows: { readonly [K in keyof Limits]: OptionRow } = {
  connections: {
    default: 10_000,
    unit: 'count',
    counter: 'refused.connections',
    why: 'Connections at a time; never above 90 % of the descriptor limit, because Node drops newcomers silently there.',
  },
  whenFull: {
    default: 'refuse',
    unit: 'choice',
    choices: ['refuse', 'pause'],
    why: 'At the limit: refuse newcomers at once, or let up to a backlog of them wait unserved.',
  },
  connectionsPerSource: {
    default: Number.POSITIVE_INFINITY,
    unit: 'count',
    unlimited: true,
    counter: 'refused.source',
    why: 'Connections at a time from one address; an IPv6 /64 is one, and an IPv4-mapped address its IPv4. Off, because many users may stand behind one address.',
  },
  acceptRate: {
    default: Number.POSITIVE_INFINITY,
    unit: 'count',
    unlimited: true,
    counter: 'refused.rate',
    why: 'Newcomers a second, as many at once after a silence. Over it `whenFull` decides: refused, or they wait for their turn. Off, because a server that restarts meets all its clients at once.',
  },
  handshakes: {
    default: Number.POSITIVE_INFINITY,
    unit: 'count',
    unlimited: true,
    why: 'TLS handshakes of one listener at a time, each from its first byte on; more wait, within their deadline. Off: a core does some 900 a second, and a flood of them delays everybody else.',
  },
  frameBytes: {
    default: MiB,
    unit: 'bytes',
    unlimited: true,
    counter: 'closed.TOO_LARGE',
    why: 'Largest frame, refused before it is buffered. The peer picks the length, so this guards memory.',
  },
  lineBytes: {
    default: 64 * KiB,
    unit: 'bytes',
    unlimited: true,
    counter: 'closed.TOO_LARGE',
    why: 'Largest line of text codecs, its terminator excluded.',
  },
  readPauseBytes: {
    default: 64 * KiB,
    unit: 'bytes',
    counter: 'paused.unprocessed',
    why: 'Bytes read and not yet handled at which reading pauses. A frame being put together may be larger.',
  },
  writeHighBytes: {
    default: 64 * KiB,
    unit: 'bytes',
    counter: 'paused.write',
    why: 'Bytes waiting to be sent at which reading from that peer pauses.',
  },
  writeLowBytes: { default: 16 * KiB, unit: 'bytes', why: 'Bytes waiting to be sent at which reading goes on.' },
  writeHardBytes: {
    default: 16 * MiB,
    unit: 'bytes',
    unlimited: true,
    counter: 'closed.SLOW_PEER',
    why: 'Bytes waiting to be sent at which the connection is cut as a slow peer.',
  },
  inFlight: {
    default: 64,
    unit: 'count',
    why: 'Messages of one connection in handlers at a time, for handlers with order `concurrent`.',
  },
  executorQueue: {
    default: 1_000,
    unit: 'count',
    unlimited: true,
    counter: 'dropped.OVERLOADED',
    why: 'Messages waiting for an executor; more are refused at once.',
  },
  peers: {
    default: 10_000,
    unit: 'count',
    counter: 'fault.ACCEPT_FAILED',
    why: 'Peers a datagram listener remembers at a time: source addresses can be forged, so the table is bounded.',
  },
  whenPeersFull: {
    default: 'evict',
    unit: 'choice',
    choices: ['evict', 'refuse'],
    why: 'A new peer at that limit: forget the one least recently heard of, or ignore the newcomer.',
  },
  replyRatio: {
    default: Number.POSITIVE_INFINITY,
    unit: 'count',
    unlimited: true,
    counter: 'failed.AMPLIFIED',
    why: 'Bytes sent to a datagram peer for each byte it sent. Source addresses can be forged, and a small request with a large reply is a weapon; 3 is what QUIC allows (RFC 9000, section 8.1). Off, because peers of closed networks may be pushed to.',
  },
  detectBytes: {
    default: 1_024,
    unit: 'bytes',
    counter: 'closed.UNDETECTED',
    why: 'First bytes looked at to find out which of several protocols a peer speaks.',
  },
  minBytesPerSecond: {
    default: 0,
    unit: 'count',
    counter: 'closed.TOO_SLOW',
    why: 'Bytes a second that a peer must send while a frame of it is incomplete, and take while replies wait for it; measured over `slowGraceMs`. 0: off, because slow links exist; 240 is what Kestrel asks for.',
  },
}

export const serverLimitRows: { readonly [K in keyof ServerLimits]: OptionRow } = {
  serverConnections: {
    default: Number.POSITIVE_INFINITY,
    unit: 'count',
    unlimited: true,
    counter: 'refused.server',
    why: 'Connections at a time of all listeners together. Off: each listener has its own.',
  },
  memoryBytes: {
    default: Number.POSITIVE_INFINITY,
    unit: 'bytes',
    unlimited: true,
    counter: 'closed.MEMORY_PRESSURE',
    why: 'Bytes held for all connections together: unfinished frames, frames that wait, replies not taken. At 80 % the greediest are no longer read; at 100 %, or when that has not helped for 5 s, they are cut as MEMORY_PRESSURE. Off: counting costs a little for each chunk.',
  },
  residentBytes: {
    default: undefined,
    unit: 'bytes',
    unlimited: true,
    why: 'Resident memory of the process that is its 100 %: at 85 % newcomers wait, at 95 % idle connections are cut as MEMORY_PRESSURE. The same of the JavaScript heap against its own limit. Default: what the control group or the machine has.',
  },
  watchMs: {
    default: 1_000,
    unit: 'ms',
    unlimited: true,
    why: "How often the process's memory and descriptors are looked at; `unlimited`: never.",
  },
  alarmCoolDownMs: {
    default: 10_000,
    unit: 'ms',
    why: 'An alarm is cleared when its cause has been away for so long, so that one that comes and goes is told once.',
  },
}

export const timeoutRows: { readonly [K in keyof Timeouts]: OptionRow } = {
  handshakeMs: {
    default: 10_000,
    unit: 'ms',
    unlimited: true,
    counter: 'fault.HANDSHAKE_TIMEOUT',
    why: 'From accept to the end of the TLS handshake; then the socket is really closed.',
  },
  firstByteMs: {
    default: Number.POSITIVE_INFINITY,
    unit: 'ms',
    unlimited: true,
    counter: 'closed.FIRST_BYTE_TIMEOUT',
    why: 'From open to the first byte. Off, because in some protocols the server speaks first.',
  },
  frameMs: {
    default: 30_000,
    unit: 'ms',
    unlimited: true,
    counter: 'closed.TIMEOUT',
    why: 'From the first byte of a frame to its last; trickling does not extend it.',
  },
  idleMs: {
    default: 300_000,
    unit: 'ms',
    unlimited: true,
    counter: 'closed.IDLE_TIMEOUT',
    why: 'Without a byte in either direction and no handler at work. What the peer takes of a long queue counts as well.',
  },
  pingMs: {
    default: 30_000,
    unit: 'ms',
    unlimited: true,
    why: 'Without a byte in either direction, until the peer is pinged, and again as long as it is silent; its answer is activity, so that `idleMs` ends those alone who have vanished. WebSocket only: other transports have no pings. 30 s is less than what proxies wait.',
  },
  halfClosedMs: {
    default: 30_000,
    unit: 'ms',
    unlimited: true,
    counter: 'closed.HALF_CLOSED_TIMEOUT',
    why: 'After one side has finished, for the other to finish too, and after close() for a peer that takes none of what waits for it. Begins anew with whatever comes or goes.',
  },
  slowGraceMs: {
    default: 5_000,
    unit: 'ms',
    why: 'Over which `minBytesPerSecond` is measured, so that a pause of the network is no crime.',
  },
  lingerMs: {
    default: 2_000,
    unit: 'ms',
    why: 'After close(), from the moment everything was sent: for the peer to finish too, while up to 64 KiB of what it still sends is discarded, so that our last words are not lost to a reset.',
  },
  handlerMs: {
    default: 30_000,
    unit: 'ms',
    unlimited: true,
    counter: 'dropped.TIMEOUT',
    why: 'For a reply that was promised, an @OnError included; an end() or close() waits no longer for what is at work. Synchronous code cannot be interrupted where it runs inline.',
  },
  peerIdleMs: {
    default: 30_000,
    unit: 'ms',
    unlimited: true,
    why: 'Idle expiry of a datagram peer, in place of idleMs: nothing tells us that it has left.',
  },
  connectMs: { default: 10_000, unit: 'ms', unlimited: true, why: 'For `connect` to reach the other side.' },
  detectMs: {
    default: 5_000,
    unit: 'ms',
    unlimited: true,
    counter: 'closed.UNDETECTED',
    why: 'From open until it is known which of several protocols the peer speaks.',
  },
}

export const socketRows: { readonly [K in keyof SocketOptions]: OptionRow } = {
  noDelay: { default: true, unit: 'switch', why: 'Send small replies at once (tcp(7), TCP_NODELAY).' },
  keepAlive: { default: 60_000, unit: 'ms', why: 'Probe silent peers, so that one that vanished is noticed.' },
  backlog: { default: 511, unit: 'count', why: 'Peers the kernel holds before we accept; capped by somaxconn.' },
  ipv6Only: { default: false, unit: 'switch', why: '[::] takes IPv4 as well unless this is set (ipv6(7)).' },
  reusePort: {
    default: false,
    unit: 'switch',
    why: 'Several processes bind one port. Node 22.12 or newer; refused below.',
  },
  receiveBuffer: {
    default: undefined,
    unit: 'bytes',
    why: 'SO_RCVBUF; UDP asks for 4 MiB, because bursts over it are lost.',
  },
  sendBuffer: { default: undefined, unit: 'bytes', why: 'SO_SNDBUF; the kernel decides by default.' },
  mode: { default: 0o660, unit: 'mode', why: 'Who may connect to a Unix socket; set without a window.' },
  group: {
    default: undefined,
    unit: 'choice',
    why: "Group that a Unix socket's file belongs to, a name or a number: with mode 0660 its members may connect. Default: the process's.",
  },
  broadcast: { default: false, unit: 'switch', why: 'Allow datagrams to broadcast addresses.' },
  multicast: { default: undefined, unit: 'choice', why: 'Groups to join, ttl, loopback, interface.' },
}

export const drainTimeoutMs = 15_000

const defaultsOf = <T>(rows: { readonly [K in keyof T]: OptionRow }): T =>
  Object.fromEntries(Object.entries(rows).map(([key, row]) => [key, (row as OptionRow).default])) as T

export const defaultLimits: Readonly<Limits> = Object.freeze(defaultsOf<Limits>(limitRows))
export const defaultTimeouts: Readonly<Timeouts> = Object.freeze(defaultsOf<Timeouts>(timeoutRows))
export const defaultServerLimits: Readonly<ServerLimits> = Object.freeze(defaultsOf<ServerLimits>(serverLimitRows))
