/**
 * What the `socket` key of a WebSocket listener may hold: that of tcp, and what the upgrade is held against.
 *
 * Room: transports.
 */
import { type OptionSchema, optionSchema } from '../core/option-schema.js'
import { type TcpOptions, tcpOptions } from './stream-options.js'

export type WebSocketOptions = TcpOptions & {
  /** Offer permessage-deflate (RFC 7692). Default: false. */
  readonly compress?: boolean
  /** Origins of pages that may connect, such as `https://example.org`. Default: any. */
  readonly origins?: readonly string[]
  /** Subprotocols that are spoken, the preferred one first. Default: none. */
  readonly protocols?: readonly string[]
}

/** RFC 9110, section 5.6.2. */
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/

export const webSocketOptions: OptionSchema<WebSocketOptions> = optionSchema<WebSocketOptions>({
  ...tcpOptions.fields,
  compress: {
    unit: 'switch',
    default: false,
    why: 'Compress messages from 1 KiB on (permessage-deflate, RFC 7692): less than 100 KiB of memory a link. What a message inflates to counts toward limits.frameBytes, what waits in a pause is held to four times that.',
  },
  origins: {
    unit: 'list',
    why: 'Origins whose pages may connect, such as "https://example.org"; others get 403. Clients that are no browser send none and are let in. Left out: any.',
    check: (value) =>
      (value as unknown[]).every((origin) => typeof origin === 'string' && isOrigin(origin))
        ? undefined
        : 'a list of origins such as "https://example.org", without a path',
  },
  protocols: {
    unit: 'list',
    why: 'Subprotocols that are spoken (RFC 6455, section 1.9), the preferred one first; the first that the client offers as well is agreed on. A client: what it offers.',
    check: (value) =>
      isUnique(value as unknown[]) && (value as unknown[]).every((name) => typeof name === 'string' && token.test(name))
        ? undefined
        : 'a list of names of letters, digits and -._~, each once',
  },
})

const isUnique = (list: readonly unknown[]): boolean => new Set(list).size === list.length

/** `null` is what browsers send for pages without one (RFC 6454, section 6.2). */
function isOrigin(text: string): boolean {
  if (text === 'null') return true
  return /^[a-z][a-z0-9+.-]*:\/\/[^/?#@\s]+$/i.test(text)
}
