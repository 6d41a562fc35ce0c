/**
 * Which requests are answered at all.
 *
 * Room: plugins/console. A page of the internet can make its reader's browser ask loopback: by a name of its own that leads
 * there (DNS rebinding; the Host header tells), or across origins (Origin and Sec-Fetch-Site tell). Neither knows the token.
 */
import type { IncomingMessage } from 'node:http'
import type { Token } from './token.js'

export interface Refusal {
  readonly status: number
  readonly message: string
}

const loopbackNames = ['localhost', '127.0.0.1', '[::1]', '::1']

export function isLoopback(endpoint: string): boolean {
  if (endpoint.startsWith('unix:')) return true
  const host = /^[a-z+]+:\/\/(\[[^\]]*\]|[^:/]*)/i.exec(endpoint)?.[1] ?? ''
  return loopbackNames.includes(host) || /^127\.\d+\.\d+\.\d+$/.test(host)
}

/** @param hosts - Names allowed besides those of loopback. @param bound - The address it is bound to. */
export function refusalOfHost(
  { headers }: IncomingMessage,
  hosts: readonly string[],
  bound: string | undefined,
): Refusal | undefined {
  const given = (headers.host ?? '').toLowerCase()
  const name = given.replace(/:\d{1,5}$/, '')
  const isKnown =
    loopbackNames.includes(name) ||
    /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(name) ||
    hosts.some((one) => one.toLowerCase() === name || one.toLowerCase() === given) ||
    (bound !== undefined && name !== '' && name === bound)
  if (!isKnown) return { status: 421, message: 'this name is not served here; add it to the console’s `hosts`' }
  return undefined
}

/** Of what shows or changes something. */
export function refusalOfAccess(request: IncomingMessage, token: Token): Refusal | undefined {
  const { headers } = request
  const { origin, host } = headers
  if (origin !== undefined && !/^https?:\/\//.test(origin)) return { status: 403, message: 'another origin' }
  if (origin !== undefined && origin.replace(/^https?:\/\//, '') !== host)
    return { status: 403, message: 'another origin' }
  const site = headers['sec-fetch-site']
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return { status: 403, message: 'another site' }
  const [, given] = /^Bearer (\S{1,512})$/.exec(headers.authorization ?? '') ?? []
  if (given === undefined || !token.is(given)) return { status: 401, message: 'the token is missing or wrong' }
  return undefined
}

/** Nothing is loaded from elsewhere, framed, or run from within the page's data. */
export const securityHeaders: Readonly<Record<string, string>> = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store',
}
