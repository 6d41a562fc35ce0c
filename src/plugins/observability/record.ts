/**
 * What a log line may hold: no secret, nothing that forges a line, at most so many bytes.
 *
 * Room: plugins/observability.
 */
import { printable } from '../../core/printable.js'

export type Facts = Readonly<Record<string, unknown>>

/** Bytes of one record as JSON; what the logger adds of its own (time, level, pid) keeps the line below 1 KiB. */
const MOST_BYTES = 880
const REDACTED = '[redacted]'

/** Keys whose values nobody should read. */
const SECRET_KEY =
  /pass(word|phrase|wd)?|secret|token|authorization|cookie|credential|api[-_]?key|private[-_]?key|session[-_]?id/i

/** The same in running text: `password=x`, `"token":"x"`, `Bearer x`, `//user:x@host`, a PEM key. */
const SECRET_TEXTS: readonly (readonly [RegExp, string])[] = [
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g, REDACTED],
  [/\b(Bearer|Basic|Digest)\s+[^\s"',;]+/gi, `$1 ${REDACTED}`],
  [
    /("?\b[\w-]*(?:pass(?:word|phrase|wd)?|secret|token|authorization|cookie|credential|api[-_]?key)"?\s*[=:]\s*)(?!(?:Bearer|Basic|Digest) )("[^"]*"|'[^']*'|[^\s,;&"']+)/gi,
    `$1${REDACTED}`,
  ],
  [/(\/\/[^/\s:@]+:)[^/\s@]+@/g, `$1${REDACTED}@`],
]

/** Text of a peer can be long; what is searched for secrets is not. */
const MOST_TEXT = 512

export function withoutSecrets(text: string): string {
  let safe = text.length > MOST_TEXT * 4 ? text.slice(0, MOST_TEXT * 4) : text
  for (const [pattern, instead] of SECRET_TEXTS) safe = safe.replace(pattern, instead)
  return safe
}

/**
 * A flat record that is safe to log.
 *
 * @param keys - Further keys to redact, by their exact name.
 */
export function safeRecord(facts: Facts, keys: ReadonlySet<string>): Record<string, unknown> {
  const record: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(facts)) {
    if (value === undefined) continue
    if (keys.has(key) || SECRET_KEY.test(key)) record[key] = REDACTED
    else if (typeof value === 'number' || typeof value === 'boolean') record[key] = value
    else record[key] = text(value)
  }
  return bounded(record)
}

function text(value: unknown): string {
  let given: string
  try {
    given = typeof value === 'string' ? value : value instanceof Date ? value.toISOString() : String(value)
  } catch {
    given = '(not printable)'
  }
  const safe = printable(withoutSecrets(given))
  return safe.length > MOST_TEXT ? `${safe.slice(0, MOST_TEXT)}…` : safe
}

/** The longest text is cut until the whole fits. */
function bounded(record: Record<string, unknown>): Record<string, unknown> {
  while (Buffer.byteLength(JSON.stringify(record)) > MOST_BYTES) {
    let longest: string | undefined
    let size = 1
    for (const [key, value] of Object.entries(record)) {
      if (typeof value !== 'string' || value.length <= size) continue
      longest = key
      size = value.length
    }
    if (longest === undefined) return {}
    record[longest] = `${String(record[longest]).slice(0, Math.floor(size / 2))}…`
    if (size < 4) delete record[longest]
  }
  return record
}
