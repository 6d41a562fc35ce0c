/**
 * Why a connection ended, as a WebSocket's close frame says it: a code and a few words (RFC 6455, section 7.4).
 *
 * Room: transports. The words are the code of the connection's reason, so that a page can show `IDLE_TIMEOUT` or `BANNED`.
 */

// RFC 6455, section 7.4.1, and the IANA registry of close codes that it founds.
const NORMAL = 1000
const GOING_AWAY = 1001
const UNACCEPTABLE = 1003
const NO_STATUS = 1005
export const ABNORMAL = 1006
const INVALID_DATA = 1007
export const POLICY = 1008
const TOO_BIG = 1009
const INTERNAL_ERROR = 1011
const RESTART = 1012
const TRY_AGAIN_LATER = 1013
/** From here on they are the application's own; those before are the protocol's. */
export const LEAST_OWN = 3000

/** A control frame holds 125 bytes, two of which are the code (RFC 6455, section 5.5). */
const MOST_TEXT_BYTES = 123

const byCode: Readonly<Record<string, readonly string[]>> = {
  [GOING_AWAY]: ['SHUTDOWN', 'IDLE_TIMEOUT'],
  [RESTART]: ['RELOADED'],
  [UNACCEPTABLE]: ['UNROUTED'],
  [INVALID_DATA]: ['MALFORMED', 'TRUNCATED'],
  [TOO_BIG]: ['TOO_LARGE'],
  [POLICY]: [
    'FIRST_BYTE_TIMEOUT',
    'HALF_CLOSED_TIMEOUT',
    'IDENTITY_UNKNOWN',
    'KILLED',
    'RATE_LIMITED',
    'REFUSED',
    'SLOW_PEER',
    'TOO_SLOW',
    'UNDETECTED',
  ],
  [TRY_AGAIN_LATER]: ['MEMORY_PRESSURE', 'OVERLOADED'],
  [INTERNAL_ERROR]: [
    'AMPLIFIED',
    'BAD_OPTION',
    'BAD_STATE',
    'BAD_VALUE',
    'CLOSED',
    'CONNECT_TIMEOUT',
    'CONSTRUCTION_FAILED',
    'HANDLER_FAILED',
    'LIMIT',
    'LOST',
    'MESSAGE_TOO_LARGE',
    'NEEDS_UNMET',
    'NOT_PORTABLE',
    'NOT_SUPPORTED',
    'RESET',
    'TIMEOUT',
    'TRANSPORT_FAILED',
    'UNKNOWN_DEPENDENCY',
  ],
}

const codes: ReadonlyMap<string, number> = new Map(
  Object.entries(byCode).flatMap(([code, reasons]) => reasons.map((reason) => [reason, Number(code)] as const)),
)

/** @param reason - A connection's; undefined: an ordinary end. @returns what the close frame says. */
export function closeFrameOf(reason: string | undefined): [code: number, text: string] {
  if (reason === undefined || reason === 'ENDED') return [NORMAL, '']
  // A word that is not ours is the application's: it ended what it wanted to end.
  const code = /^[34]\d{3}$/.test(reason) ? Number(reason) : (codes.get(reason) ?? NORMAL)
  return [code, cut(reason)]
}

/** @returns whether a peer that says so, or nothing, has left in order. */
export function isOrderly(code: number): boolean {
  return code === NORMAL || code === GOING_AWAY || code === RESTART || code === NO_STATUS || code >= LEAST_OWN
}

/** At the end of a character. */
function cut(text: string): string {
  if (text.length <= MOST_TEXT_BYTES / 3) return text
  const bytes = Buffer.from(text)
  if (bytes.length <= MOST_TEXT_BYTES) return bytes.toString()
  let end = MOST_TEXT_BYTES
  // Continuation bytes of UTF-8 are 10xxxxxx (RFC 3629, section 3).
  while (((bytes[end] as number) & 0xc0) === 0x80) end--
  return bytes.toString('utf8', 0, end)
}
