/**
 * `proxy-protocol`: who the peer really is, told by the proxy in front.
 *
 * Room: plugins/layers. haproxy.org, "The PROXY protocol". On the accepting side a header is required, from trusted
 * sources only, before anything else (TLS included); nothing is guessed. On the connecting side it is sent first.
 */
import { arrive } from '../../core/arrive.js'
import { Endpoint } from '../../core/endpoint.js'
import { ConfigError, HandshakeError, toError } from '../../core/errors.js'
import type { FeatureToken } from '../../core/feature.js'
import { LayerLink, LayerSink } from '../../core/layer-link.js'
import { isAddress, Networks, plainAddress } from '../../core/networks.js'
import { optionSchema } from '../../core/option-schema.js'
import type { Factory, Layer, LayerScope, PluginServices } from '../../core/plugin.js'
import type { Link, LinkSink } from '../../core/transport.js'
import { PROXY, type ProxyFacts } from './proxy-facts.js'
import {
  type ProxyAddress,
  type ProxyHeader,
  type ProxyTlsFacts,
  type ProxyTlv,
  readProxyHeader,
  readProxyTls,
  writeProxyHeader,
} from './proxy-header.js'

export { PROXY, type ProxyFacts }

export interface ProxyProtocolOptions {
  trusted: readonly string[] | undefined
  timeoutMs: number
  maxBytes: number
  version: 1 | 2
  source: string | undefined
  destination: string | undefined
  authority: string | undefined
  alpn: string | undefined
  uniqueId: string | undefined
  tlvs: readonly ProxyTlv[]
  checksum: boolean
}

export const proxyProtocol: Factory<Layer, ProxyProtocolOptions> = {
  name: 'proxy-protocol',
  options: optionSchema<ProxyProtocolOptions>({
    trusted: {
      unit: 'list',
      why: 'Required to accept: addresses and networks of the proxies (10.0.0.0/8). Whoever else connects is refused. Peers of Unix sockets, who have no address, are trusted: the file mode says who they are.',
    },
    timeoutMs: { unit: 'ms', min: 1, default: 5_000, why: 'For the whole header, from the connection on.' },
    maxBytes: { unit: 'bytes', min: 16, max: 65_551, default: 4_096, why: 'Largest header of version 2.' },
    version: { unit: 'choice', choices: [1, 2], default: 2, why: 'What is sent, where we connect.' },
    source: { unit: 'text', why: 'Where we connect: for whom, host:port. Default: our own address.' },
    destination: {
      unit: 'text',
      why: 'Where we connect: to whom that peer had connected. Default: the address we connect to.',
    },
    authority: { unit: 'text', why: 'Where we connect: the host name the peer had asked for (PP2_TYPE_AUTHORITY).' },
    alpn: { unit: 'text', why: 'Where we connect: the protocol the peer had agreed on (PP2_TYPE_ALPN).' },
    uniqueId: {
      unit: 'text',
      why: 'Where we connect: names the connection in the logs of all it passes, at most 128 bytes (PP2_TYPE_UNIQUE_ID).',
      check: (value) => (Buffer.byteLength(value as string) <= 128 ? undefined : 'at most 128 bytes'),
    },
    tlvs: {
      unit: 'list',
      default: [],
      why: 'Where we connect: further values, each `{ type, value }` with bytes or text as value.',
      check: (value) =>
        (value as unknown[]).every(isTlv) ? undefined : 'entries of { type: 1 to 255, value: bytes or text }',
    },
    checksum: {
      unit: 'switch',
      default: false,
      why: 'Where we connect: add a CRC32c of the header. One that comes is always checked.',
    },
  }),
  create: (options, services) => {
    const { authority, alpn, uniqueId, tlvs, checksum, version } = options
    if (version === 1 && (checksum || tlvs.length > 0 || (authority ?? alpn ?? uniqueId) !== undefined)) {
      const message = 'layer proxy-protocol: authority, alpn, uniqueId, tlvs and checksum need version 2'
      throw new ConfigError('BAD_VALUE', message, { option: 'version' })
    }
    return {
      stage: 'preamble',
      wrap: (above, scope) =>
        scope.side === 'accepted' ? new ProxySink(above, options, scope, services) : new SendingSink(above, options),
    }
  },
}

function isTlv(value: unknown): boolean {
  const { type, value: bytes } = (value ?? {}) as { type?: unknown; value?: unknown }
  const isType = Number.isInteger(type) && (type as number) >= 1 && (type as number) <= 255
  return isType && (typeof bytes === 'string' || bytes instanceof Uint8Array)
}

/** A link that knows better than the socket who its peer is. */
class ProxyLink extends LayerLink {
  #facts: ProxyFacts | undefined
  #remote: Endpoint | undefined
  #local: Endpoint | undefined
  isOpen = false
  isPaused = false
  held = Buffer.alloc(0)
  cancel: () => void = () => {}

  override get remote(): Endpoint | undefined {
    return this.#remote ?? this.below.remote
  }
  override get local(): Endpoint | undefined {
    return this.#local ?? this.below.local
  }
  override pause(): void {
    this.isPaused = true
    super.pause()
  }
  override resume(): void {
    this.isPaused = false
    super.resume()
  }
  override feature<T>(token: FeatureToken<T>): T | undefined {
    return token.feature === PROXY.feature ? (this.#facts as T | undefined) : super.feature(token)
  }
  learn(header: ProxyHeader): void {
    const text = (type: number) => header.tlvs.find((tlv) => tlv.type === type)?.value
    const { remote, local } = this.below
    this.#facts = {
      ...header,
      proxy: remote,
      alpn: text(1)?.toString(),
      authority: text(2)?.toString(),
      uniqueId: text(5),
      tls: readProxyTls(header.tlvs),
    }
    // Over a Unix socket nothing below has a scheme of addresses: then it is the one that the header speaks of.
    const { protocol, source, destination } = header
    const scheme = local?.host === undefined ? (protocol === 'udp' ? 'udp' : 'tcp') : local.scheme
    if (source !== undefined) this.#remote = new Endpoint({ scheme: remote?.scheme ?? scheme, ...source })
    if (destination !== undefined) this.#local = new Endpoint({ scheme, ...destination })
  }
}

class ProxySink extends LayerSink<ProxyLink> {
  readonly #options: ProxyProtocolOptions
  readonly #services: PluginServices
  readonly #trusted: Networks
  /** Peers that come this way have an address: one without is not known, and nobody trusts it. */
  readonly #isAddressed: boolean

  constructor(above: LinkSink, options: ProxyProtocolOptions, scope: LayerScope, services: PluginServices) {
    super(above)
    if (options.trusted === undefined) {
      const message = `listener ${scope.listener}: layer proxy-protocol needs \`trusted\`, the networks of your proxies: whoever may send a header chooses the address that is logged and limited`
      throw new ConfigError('BAD_VALUE', message, { option: 'trusted' })
    }
    this.#options = options
    this.#services = services
    this.#isAddressed = scope.endpoint.host !== undefined
    this.#trusted = new Networks(options.trusted, 'proxy-protocol.trusted')
  }

  override open(below: Link): void {
    const link = new ProxyLink(below)
    below.state = link
    const { remote, local, arrived } = below
    const address = remote?.host === undefined ? undefined : plainAddress(remote.host)
    const isTrusted = address === undefined ? !this.#isAddressed : isAddress(address) && this.#trusted.has(address)
    if (!isTrusted) {
      const message = `PROXY protocol: ${address ?? 'a peer without an address'} is none of the trusted proxies`
      // Not from within open() of the same link.
      queueMicrotask(() => this.#refuse(link, new HandshakeError('HANDSHAKE_FAILED', message)))
      return
    }
    const abort = (reason?: Error) => {
      link.cancel()
      below.abort(reason)
    }
    link.place = arrive(this.above, { stage: 'header', remote, local, abort }, arrived)
    if (link.place === undefined) return below.abort()
    const { timeoutMs } = this.#options
    link.cancel = this.#services.clock.after(timeoutMs, () => {
      this.#refuse(
        link,
        new HandshakeError('HANDSHAKE_TIMEOUT', `PROXY protocol: no whole header within ${timeoutMs} ms`),
      )
    })
  }

  override data(below: Link, buffer: Uint8Array, start: number, end: number): void {
    const link = this.linkOf(below)
    if (link.isOpen) return this.above.data(link, buffer, start, end)
    const bytes = Buffer.concat([link.held, buffer.subarray(start, end)])
    let found: ReturnType<typeof readProxyHeader>
    try {
      found = readProxyHeader(bytes, this.#options.maxBytes)
    } catch (thrown) {
      return this.#refuse(link, toError(thrown))
    }
    link.held = bytes
    if (found === undefined) return
    link.cancel()
    link.held = Buffer.alloc(0)
    try {
      link.learn(found.header)
    } catch (thrown) {
      return this.#refuse(link, toError(thrown))
    }
    const rest = bytes.subarray(found.size)
    link.isOpen = true
    if (rest.length === 0 || below.unread === undefined) {
      this.above.open(link)
      if (rest.length > 0) this.above.data(link, rest, 0, rest.length)
      return
    }
    // The rest may be the front of a handshake, which has to read it from below.
    below.pause()
    below.unread(rest)
    this.above.open(link)
    queueMicrotask(() => {
      if (!link.isPaused) below.resume()
    })
  }

  override end(below: Link, reason?: string): void {
    const link = this.linkOf(below)
    if (link.isOpen) this.above.end(link, reason)
    else this.#refuse(link, new HandshakeError('HANDSHAKE_FAILED', 'PROXY protocol: the peer left before its header'))
  }
  override drain(below: Link): void {
    const link = this.linkOf(below)
    if (link.isOpen) this.above.drain(link)
  }
  override close(below: Link, error?: Error): void {
    const link = this.linkOf(below)
    link.cancel()
    link.place?.left()
    if (link.isOpen) this.above.close(link, error)
  }

  #refuse(link: ProxyLink, error: Error): void {
    link.cancel()
    this.above.fault?.(error, link.below.remote)
    link.below.abort(error)
  }
}

/** Our own header goes out before anything else. */
class SendingSink extends LayerSink {
  readonly #options: ProxyProtocolOptions

  constructor(above: LinkSink, options: ProxyProtocolOptions) {
    super(above)
    this.#options = options
  }

  override open(below: Link): void {
    const { version, source, destination, checksum } = this.#options
    const from = addressOf(source, 'source') ?? partsOf(below.local)
    const to = addressOf(destination, 'destination') ?? partsOf(below.remote)
    below.write(writeProxyHeader(version, from, to, this.#tlvs(), checksum))
    super.open(below)
  }

  #tlvs(): ProxyTlv[] {
    const { alpn, authority, uniqueId, tlvs } = this.#options
    const named: [number, string | undefined][] = [
      [1, alpn],
      [2, authority],
      [5, uniqueId],
    ]
    return [
      ...named.flatMap(([type, text]) => (text === undefined ? [] : [{ type, value: Buffer.from(text) }])),
      ...tlvs.map(({ type, value }) => ({ type, value: Buffer.from(value) })),
    ]
  }
}

function partsOf(endpoint: Endpoint | undefined): ProxyAddress | undefined {
  const { host, port } = endpoint ?? {}
  return host === undefined || port === undefined ? undefined : { host: plainAddress(host), port }
}

function addressOf(text: string | undefined, option: string): ProxyAddress | undefined {
  if (text === undefined) return undefined
  const [, six, four, port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? []
  const host = six ?? four ?? ''
  if (isAddress(host) && Number(port) <= 65_535) return { host, port: Number(port) }
  const message = `proxy-protocol.${option}: expected an address and port such as 192.0.2.7:443 or [2001:db8::1]:443, got \`${text}\``
  throw new ConfigError('BAD_VALUE', message, { value: text })
}

export type { ProxyAddress, ProxyHeader, ProxyTlsFacts, ProxyTlv }
