/**
 * Text from outside as one line that forges nothing.
 *
 * Room: core, mechanism. For logs and terminals: control characters (CR, LF, ESC), the line separators of Unicode and
 * direction marks are shown as escapes; a line ends at 1 KiB.
 */

const LINE_BYTES = 1_024

export function printable(text: string): string {
  const escaped = text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  })
  const bytes = Buffer.from(escaped)
  if (bytes.length < LINE_BYTES) return escaped
  return `${bytes
    .subarray(0, LINE_BYTES - 4)
    .toString()
    .replace(/\ufffd$/, '')}…`
}

/** `key=value` pairs; values with spaces in quotes. */
export function pairs(facts: Readonly<Record<string, unknown>>): string {
  return Object.entries(facts)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => {
      const text = String(value)
      return `${key}=${/[\s="]/.test(text) || text === '' ? JSON.stringify(text) : text}`
    })
    .join(' ')
}
