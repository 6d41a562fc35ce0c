/**
 * The socket options of the stream transports, and what they become in `node:net`.
 *
 * Room: transports. SO_RCVBUF and SO_SNDBUF are left out: Node sets them on UDP only, and an option that does nothing
 * is refused rather than ignored.
 */
import type { Server, ServerOpts, Socket } from 'node:net'
import type { Endpoint } from '../core/endpoint.js'
import { type OptionSchema, optionSchema } from '../core/option-schema.js'
import { defaultLimits, defaultTimeouts, type SocketOptions, socketRows } from '../core/options.js'
import type { LinkSink, TransportOptions } from '../core/transport.js'
import type { StreamScope } from './stream-scope.js'

/** Node's own is 16 KiB on Node 20; a larger one saves round trips through the loop for large messages. */
const HIGH_WATER_BYTES = 64 * 1024
const KEEP_ALIVE_MS = 60_000

/** `socket` of tcp and tls listeners. */
export type TcpOptions = Partial<Pick<SocketOptions, 'noDelay' | 'keepAlive' | 'backlog' | 'ipv6Only' | 'reusePort'>>
/** `socket` of Unix listeners. */
export type UnixOptions = Partial<Pick<SocketOptions, 'backlog' | 'mode' | 'group'>>

const backlog = {
  unit: 'count',
  min: 1,
  max: 65_535,
  default: socketRows.backlog.default,
  why: socketRows.backlog.why,
} as const

export const tcpOptions: OptionSchema<TcpOptions> = optionSchema<TcpOptions>({
  noDelay: { unit: 'switch', default: socketRows.noDelay.default, why: socketRows.noDelay.why },
  keepAlive: {
    unit: 'any',
    default: socketRows.keepAlive.default,
    why: `${socketRows.keepAlive.why} Milliseconds before the first probe; true: ${KEEP_ALIVE_MS}; false: none.`,
    // Whole seconds reach the kernel (tcp(7), TCP_KEEPIDLE); less than one would mean its own default of two hours.
    check: (value) =>
      typeof value === 'boolean' || (Number.isSafeInteger(value) && (value as number) >= 1_000)
        ? undefined
        : 'true, false, or a whole number of milliseconds of at least 1000',
  },
  backlog,
  ipv6Only: { unit: 'switch', default: socketRows.ipv6Only.default, why: socketRows.ipv6Only.why },
  reusePort: { unit: 'switch', default: socketRows.reusePort.default, why: socketRows.reusePort.why },
})

export const unixOptions: OptionSchema<UnixOptions> = optionSchema<UnixOptions>({
  backlog,
  mode: { unit: 'mode', default: socketRows.mode.default, why: socketRows.mode.why },
  group: {
    unit: 'any',
    why: socketRows.group.why,
    check: (value) =>
      (typeof value === 'string' && value !== '') || (Number.isSafeInteger(value) && (value as number) >= 0)
        ? undefined
        : "a group's name or number",
  },
})

/**
 * For `net.createServer`. Half-open is always allowed: without it late replies to a peer that ended are lost silently.
 */
export function serverOptions({ noDelay = true, keepAlive = KEEP_ALIVE_MS }: TcpOptions): ServerOpts {
  return {
    allowHalfOpen: true,
    highWaterMark: HIGH_WATER_BYTES,
    noDelay,
    keepAlive: keepAlive !== false,
    keepAliveInitialDelay: typeof keepAlive === 'number' ? keepAlive : KEEP_ALIVE_MS,
  }
}

/** For `net.connect`. */
export function clientOptions(options: TcpOptions) {
  const { highWaterMark, ...rest } = serverOptions(options)
  return { ...rest, readableHighWaterMark: HIGH_WATER_BYTES, writableHighWaterMark: HIGH_WATER_BYTES }
}

/** What links share, from the options core hands to each transport. */
export function streamScope(
  endpoint: Endpoint,
  side: StreamScope['side'],
  { limits, timeouts, tls }: TransportOptions,
  sink: LinkSink,
): StreamScope {
  const { writeHighBytes, writeLowBytes } = limits ?? defaultLimits
  return {
    sink,
    scheme: endpoint.scheme,
    side,
    endpoint,
    // At 0 every write would be over the mark, and nothing would wait that could fall below it.
    writeHighBytes: Math.max(1, writeHighBytes),
    writeLowBytes: Math.min(writeLowBytes, Math.max(1, writeHighBytes) - 1),
    canReset: endpoint.host !== undefined,
    tls,
    handshakeMs: (timeouts ?? defaultTimeouts).handshakeMs,
  }
}

/** Binds a server. @returns once it listens. */
export function bindServer(server: Server, options: Parameters<Server['listen']>[0] & object): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(options, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

/** What `net.Server` has beneath, in every Node from 20 to 26; not documented, so nothing depends on it. */
interface Inheritable {
  keepAlive?: boolean
  keepAliveInitialDelay?: number
  readonly _handle?: { setKeepAlive?(isOn: boolean, seconds: number): number } | null
}

/**
 * Sets keep-alive on the listening socket of TCP, from which Linux hands it down (net/ipv4/tcp_minisocks.c,
 * tcp_create_openreq_child), in place of four calls of setsockopt(2) for each connection.
 */
export function inheritKeepAlive(server: Server): void {
  const { keepAlive, keepAliveInitialDelay = 0, _handle: handle } = server as Inheritable
  if (process.platform !== 'linux' || keepAlive !== true || handle?.setKeepAlive === undefined) return
  // Node keeps the delay in seconds, as setKeepAlive wants it.
  if (handle.setKeepAlive(true, keepAliveInitialDelay) === 0) (server as Inheritable).keepAlive = false
}

/** The port a server was given. */
export function portOf(server: Server): number {
  return (server.address() as { port: number }).port
}

/** Closes servers that bound while another of the same endpoint failed. */
export function closeServers(servers: readonly Server[]): Promise<unknown> {
  return Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
}

/** A socket whose 'error' nobody else hears must not end the process. */
export function guardErrors<S extends Socket>(socket: S): S {
  return socket.on('error', ignore) as S
}

function ignore(): void {}
