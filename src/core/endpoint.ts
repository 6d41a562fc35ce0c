/**
 * Endpoints: the strings that name an address one can bind or be, read once and carried with their parts.
 *
 * Room: core, contract. Swapping a transport is changing such a string, so its grammar is small and its errors are good.
 *
 *   scheme://host:port          tcp://localhost:8080   tls://[::]:8443   udp://127.0.0.1:0
 *   scheme://host:port/path     ws://localhost:8080/chat
 *   scheme:rest                 unix:./greeter.sock    memory:greeter    fd:3    stdio:
 */
import { ConfigError } from './errors.js'
import { nearest } from './nearest.js'

/** What an endpoint is made of. Which parts are present depends on the form of the string. */
export interface EndpointParts {
  /** The transport's prefix, lower case, without the colon. */
  readonly scheme: string
  /** Host name or address, without the brackets of IPv6. */
  readonly host?: string | undefined
  /** 0 to 65535; 0 asks for a free port. */
  readonly port?: number | undefined
  /** What follows the port (`/chat`), or everything after the colon in the short form (`./greeter.sock`). */
  readonly path?: string | undefined
}

/**
 * An endpoint: a string that knows its parts.
 *
 * It extends `String`, so it goes wherever a string is read (templates, `new URL`, regular expressions, JSON), while
 * transports take `host` and `port` from it and never parse again.
 */
export class Endpoint extends String {
  readonly scheme: string
  readonly host: string | undefined
  readonly port: number | undefined
  readonly path: string | undefined

  constructor(parts: EndpointParts) {
    super(formatEndpoint(parts))
    this.scheme = parts.scheme
    this.host = parts.host
    this.port = parts.port
    this.path = parts.path
  }

  /** The same endpoint with some parts replaced: how a transport reports the port it was given. */
  with(parts: Partial<EndpointParts>): Endpoint {
    return new Endpoint({ scheme: this.scheme, host: this.host, port: this.port, path: this.path, ...parts })
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toString()
  }
}

/** Renders parts in their canonical form: IPv6 hosts in brackets. */
export function formatEndpoint({ scheme, host, port, path }: EndpointParts): string {
  if (host === undefined) return `${scheme}:${path ?? ''}`
  const authority = host.includes(':') ? `[${host}]` : host
  return `${scheme}://${authority}${port === undefined ? '' : `:${port}`}${path ?? ''}`
}

/**
 * Reads an endpoint string.
 *
 * @param text - As users write it.
 * @param schemes - The schemes known here; leave out to accept any well-formed one.
 * @throws {ConfigError} `BAD_ENDPOINT` with what was expected. Reach: the start; nothing is bound.
 */
export function parseEndpoint(text: string | Endpoint, schemes?: Iterable<string>): Endpoint {
  if (text instanceof Endpoint) return text
  const bad = (problem: string) => new ConfigError('BAD_ENDPOINT', `endpoint \`${text}\`: ${problem}`, { value: text })
  const colon = String(text).indexOf(':')
  const scheme = colon > 0 ? text.slice(0, colon).toLowerCase() : ''
  if (!/^[a-z][a-z0-9+.-]*$/.test(scheme)) {
    const hint = withoutScheme(String(text))
    throw bad(
      `expected scheme://host:port or scheme:path, such as tcp://localhost:8080 or unix:./server.sock${hint ? `; did you mean \`${hint}\`?` : ''}`,
    )
  }
  if (schemes !== undefined) {
    const known = [...schemes]
    if (!known.includes(scheme)) {
      const hint = withoutScheme(String(text))
      if (hint !== undefined) throw bad(`expected a scheme in front of the address; did you mean \`${hint}\`?`)
      const near = nearest(scheme, known)
      throw bad(`unknown scheme \`${scheme}\`${near ? `; nearest: \`${near}\`` : ''}; known: ${known.join(', ')}`)
    }
  }
  const rest = text.slice(colon + 1)
  if (!rest.startsWith('//')) return new Endpoint({ scheme, path: rest })

  const slash = rest.indexOf('/', 2)
  const authority = rest.slice(2, slash === -1 ? undefined : slash)
  const path = slash === -1 ? undefined : rest.slice(slash)
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(.*))?$/.exec(authority)
  if (match === null || match[3]?.includes(':'))
    throw bad('expected host:port; IPv6 addresses stand in brackets, such as tcp://[::1]:8080')
  const host = match[1] ?? match[2] ?? ''
  if (host === '') throw bad('the host is missing; write localhost, 0.0.0.0 or [::]')
  if (match[1] !== undefined && !/^[0-9a-f:.]+(%[\w.-]+)?$/i.test(host)) throw bad(`\`${host}\` is no IPv6 address`)
  const digits = match[3]
  if (digits === undefined) throw bad('the port is missing; port 0 picks a free one')
  if (!/^\d{1,5}$/.test(digits) || Number(digits) > 65535) throw bad(`port \`${digits}\` is not in 0 to 65535`)
  return new Endpoint({ scheme, host, port: Number(digits), path })
}

/** `localhost:8080`, `:8080`, `8080`, `./greeter.sock`: an address whose scheme was left out. */
function withoutScheme(text: string): string | undefined {
  const match = /^(?:([\w.-]*|\[[0-9a-f:.]+\]):)?(\d{1,5})$/i.exec(text)
  if (match !== null) return `tcp://${match[1] || 'localhost'}:${match[2]}`
  return /^[./@]/.test(text) ? `unix:${text}` : undefined
}
