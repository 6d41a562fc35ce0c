/**
 * Which of several protocols a new connection speaks.
 *
 * Room: core, mechanism of the session. The first bytes are held, not consumed: whichever is chosen reads them from the start.
 */
import { TLS } from './feature.js'
import type { Protocol } from './plugin.js'
import type { Link } from './transport.js'

/** One of several that share an endpoint. */
export interface Candidate {
  /** Undefined: takes what nobody else has claimed. */
  readonly protocol: Protocol | undefined
}

/**
 * Chooses among what has not said no.
 *
 * The order of the configuration decides between two that say yes; one that still wants more bytes holds back those behind
 * it, so that a chatty first candidate cannot be overtaken by a hasty second one.
 *
 * @param isFinal - Nothing more is coming or allowed: who is undecided is out, and the one without a protocol takes it.
 * @returns the chosen; `more`; or undefined where nobody is left.
 */
export function detect<C extends Candidate>(
  candidates: readonly C[],
  buffer: Buffer | undefined,
  start: number,
  end: number,
  isFinal: boolean,
): C | 'more' | undefined {
  for (const candidate of candidates) {
    const { protocol } = candidate
    if (protocol === undefined) return candidate
    const verdict = buffer === undefined || end === start ? 'more' : (protocol.detect?.(buffer, start, end) ?? 'no')
    if (verdict === 'yes') return candidate
    if (verdict === 'more' && !isFinal) return 'more'
  }
  return undefined
}

/** The one that the TLS handshake has agreed on (ALPN, RFC 7301), if any. */
export function agreed<C extends Candidate>(candidates: readonly C[], link: Link): C | undefined {
  const alpn = link.feature?.(TLS)?.alpn
  if (alpn === undefined) return undefined
  return candidates.find(({ protocol }) => protocol?.alpn?.includes(alpn))
}
