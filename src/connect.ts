/**
 * The client's door: from an endpoint to a connection, by the same transports, codecs, layers and protocols.
 */
import { registerBuiltIns } from './built-ins.js'
import type { ClientConnection } from './core/client.js'
import { type Clock, systemClock } from './core/clock.js'
import type { LimitOptions, SocketOption, TimeoutOptions } from './core/configuration.js'
import { type Endpoint, parseEndpoint } from './core/endpoint.js'
import { ConfigError } from './core/errors.js'
import { EventHub } from './core/events.js'
import type { CodecRef, Named } from './core/handler.js'
import { nearest } from './core/nearest.js'
import { defaultLimits, defaultTimeouts, type TlsOptions } from './core/options.js'
import { settle } from './core/planner.js'
import type { AnyPlugin, Layer, Protocol } from './core/plugin.js'
import { checkOptions, ServerRegistry } from './core/registry.js'
import type { StandardSchemaV1 } from './core/standard-schema.js'
import type { TransportOptions } from './core/transport.js'

export interface ConnectOptions {
  /** Default: `line`. */
  readonly codec?: CodecRef
  /** Speaks its client side; the codec is the protocol's. */
  readonly protocol?: Named | Protocol
  /** From the wire inwards. */
  readonly layers?: readonly (Named | Layer)[]
  readonly tls?: TlsOptions
  readonly socket?: SocketOption
  readonly limits?: LimitOptions
  readonly timeouts?: TimeoutOptions
  readonly plugins?: readonly AnyPlugin[]
  /** The server speaks first: its first message comes from `next()` or `messages()`, and answers no request. Default: false. */
  readonly greeting?: boolean
  readonly signal?: AbortSignal
  readonly clock?: Clock
}

const keys: { readonly [K in keyof Required<ConnectOptions>]: true } = {
  codec: true,
  protocol: true,
  layers: true,
  tls: true,
  socket: true,
  limits: true,
  timeouts: true,
  plugins: true,
  greeting: true,
  signal: true,
  clock: true,
}

/** @throws {ConfigError} `UNKNOWN_KEY` with the nearest known one. */
function checkKeys(given: object | undefined, known: readonly string[], where: string): void {
  const unknown = Object.keys(given ?? {}).find((key) => !known.includes(key))
  if (unknown === undefined) return
  const near = nearest(unknown, known)
  const hint = near === undefined ? `; known: ${known.join(', ')}` : `; nearest: \`${near}\``
  const message = `connect: unknown key \`${unknown}\`${where === '' ? '' : ` in ${where}`}${hint}`
  throw new ConfigError('UNKNOWN_KEY', message, { path: unknown, ...(near && { nearest: near }) })
}

/** For all connections that bring nothing of their own: a proxy opens one for each of its clients. */
let builtIns: ServerRegistry | undefined

function registryOf(clock: Clock): ServerRegistry {
  return registerBuiltIns(new ServerRegistry({ events: new EventHub(), clock }))
}

/**
 * Opens the client side of a connection.
 *
 * @param endpoint - As listeners write it: `tcp://localhost:8080`.
 * @throws {ConnectionError} `REFUSED`, `CONNECT_TIMEOUT` after `timeouts.connectMs` (10 s).
 * @throws {ConfigError} for options that do not fit.
 */
export async function connect(endpoint: string | Endpoint, options: ConnectOptions = {}): Promise<ClientConnection> {
  checkKeys(options, Object.keys(keys), '')
  checkKeys(options.limits, Object.keys(defaultLimits), 'limits')
  checkKeys(options.timeouts, Object.keys(defaultTimeouts), 'timeouts')
  const { clock = systemClock, plugins = [] } = options
  const isPlain = clock === systemClock && plugins.length === 0
  const registry = isPlain ? (builtIns ??= registryOf(systemClock)) : registryOf(clock)
  for (const plugin of plugins) await registry.plug(plugin, {})
  const parsed = parseEndpoint(endpoint, registry.schemes)
  await registry.ready({ schemes: [parsed.scheme], layers: options.layers, protocols: [options.protocol] })
  const transport = registry.transportOf(parsed.scheme)
  const protocol =
    options.protocol === undefined ? undefined : registry.resolveProtocol(options.protocol, 'protocol').protocol
  const limits = settle(defaultLimits, options.limits)
  const timeouts = settle(defaultTimeouts, options.timeouts)
  const socket = checkOptions(transport.options as StandardSchemaV1 | undefined, options.socket ?? {}, 'socket')
  const tlsOptions = options.tls === undefined ? {} : { tls: options.tls }
  const deadline = timeouts.connectMs === Number.POSITIVE_INFINITY ? [] : [AbortSignal.timeout(timeouts.connectMs)]
  const { openClient } = await import('./core/client.js')
  return openClient({
    transport,
    endpoint: parsed,
    options: { ...(socket as object), ...tlsOptions, limits, timeouts } as TransportOptions,
    codec:
      options.codec !== undefined || protocol === undefined
        ? registry.resolveCodec(options.codec ?? 'line', 'codec').codec
        : (protocol.clientCodec ?? protocol.codec),
    protocol,
    layers: (options.layers ?? []).map((ref, index) => registry.resolveLayer(ref, `layers[${index}]`)),
    limits,
    timeouts,
    signal: AbortSignal.any([...deadline, ...(options.signal === undefined ? [] : [options.signal])]),
    clock,
    ...(options.greeting === undefined ? {} : { greeting: options.greeting }),
  })
}
