/**
 * Offers of compression: those that do not fit are declined one by one, and the link opens all the same.
 *
 * Room: transports. A server declines an offer with a parameter it does not know, that stands twice, has a bad value or asks for
 * what it has not (RFC 7692, section 5.1 and 7); the library refuses the whole upgrade for one such with 400.
 */

const NAME = 'permessage-deflate'
/** RFC 7692, section 7.1.2. */
const LEAST_BITS = 8
const MOST_BITS = 15

/** Of one offer: names, and values as they mean without their quotes (RFC 6455, section 9.1). */
type Parameters = readonly (readonly [name: string, value: string | undefined])[]

const token = /[!#$%&'*+\-.^_`|~0-9A-Za-z]+/y
const quoted = /"((?:[^"\\]|\\.)*)"/y
const space = /[ \t]*/y

/**
 * @param header - `Sec-WebSocket-Extensions` as it was sent.
 * @param windowBits - The window we compress with.
 * @returns the offers that can be accepted, undefined where there is none; a header that does not parse as it is, to be refused.
 */
export function fittingOffers(header: string | undefined, windowBits: number): string | undefined {
  if (header === undefined) return undefined
  const offers = parse(header)
  if (offers === undefined) return header
  const fitting = offers.filter(({ name, parameters }) => name === NAME && fits(parameters, windowBits))
  return fitting.length === 0 ? undefined : fitting.map(({ text }) => text).join(', ')
}

function fits(parameters: Parameters, windowBits: number): boolean {
  if (new Set(parameters.map(([name]) => name)).size < parameters.length) return false
  return parameters.every(([name, value]) => {
    switch (name) {
      case 'server_no_context_takeover':
      case 'client_no_context_takeover':
        return value === undefined
      case 'client_max_window_bits':
        return value === undefined || isBits(value)
      case 'server_max_window_bits':
        return isBits(value) && Number(value) >= windowBits
      default:
        return false
    }
  })
}

function isBits(value: string | undefined): boolean {
  return value !== undefined && /^[1-9]\d?$/.test(value) && Number(value) >= LEAST_BITS && Number(value) <= MOST_BITS
}

interface Offer {
  readonly name: string
  readonly parameters: Parameters
  /** As it was sent. */
  readonly text: string
}

/** The grammar of RFC 6455, section 9.1. @returns undefined: it is not that. */
function parse(header: string): readonly Offer[] | undefined {
  const offers: Offer[] = []
  let at = 0
  const take = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at
    const found = pattern.exec(header)
    if (found === null) return undefined
    at = pattern.lastIndex
    return found[1] ?? found[0]
  }
  const takeSign = (sign: string): boolean => {
    take(space)
    if (header[at] !== sign) return false
    at++
    take(space)
    return true
  }
  take(space)
  do {
    const start = at
    const name = take(token)
    if (name === undefined) return undefined
    const parameters: [string, string | undefined][] = []
    while (takeSign(';')) {
      const parameter = take(token)
      if (parameter === undefined) return undefined
      let value: string | undefined
      if (takeSign('=')) {
        value = header[at] === '"' ? take(quoted)?.replace(/\\(.)/g, '$1') : take(token)
        if (value === undefined) return undefined
      }
      parameters.push([parameter, value])
    }
    offers.push({ name, parameters, text: header.slice(start, at).trim() })
  } while (takeSign(','))
  return at === header.length ? offers : undefined
}
