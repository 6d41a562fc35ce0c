/**
 * Secrets in messages that an operator looks at.
 *
 * Room: core, mechanism of the control socket. Keys decide, not values: what stands under a key like `password` is hidden, in
 * objects, in pairs of a list (`AUTH secret`), and in text (`password=...`, `"token": "..."`, `Authorization: ...`).
 */

/** Parts of keys whose values are hidden unless the configuration adds some; compared without case, `-` and `_`. */
export const secretKeys: readonly string[] = [
  'password',
  'passwd',
  'passphrase',
  'secret',
  'token',
  'authorization',
  'cookie',
  'credential',
  'apikey',
  'privatekey',
]
/** Whole keys: as parts they would hide an author or a passage. */
const secretWords: readonly string[] = ['auth', 'pass', 'pwd', 'key', 'sid']

const HIDDEN = '(hidden)'
const MOST_DEPTH = 8
const MOST_ENTRIES = 100
/** Longer text is cut before it is looked through. */
const MOST_TEXT = 16_384

export class Redaction {
  readonly #keys: readonly string[]
  readonly #inText: RegExp

  constructor(further: readonly string[] = []) {
    this.#keys = [...secretKeys, ...further.map(plain).filter((key) => key !== '')]
    const spelled = (keys: readonly string[]) => keys.map((key) => [...key].map(literally).join('[-_]?')).join('|')
    // A key, what divides it from its value, and the value to the end of its quotes or its line. Each part is bounded, so
    // that no text makes it slow.
    const key = `(?:(?:${spelled(this.#keys)})[\\w-]{0,32}|\\b(?:${spelled(secretWords)})\\b)`
    const divider = '(?:"?\\s{0,3}[:=]\\s{0,3}|\\s(?=\\S))'
    const value = '(?:"(?:[^"\\\\]|\\\\.){0,4096}"?|[^\\r\\n"&;,}]{1,4096})'
    this.#inText = new RegExp(`(${key}${divider})(${value})`, 'gi')
  }

  hides(key: string): boolean {
    const name = plain(key)
    return secretWords.includes(name) || this.#keys.some((one) => name.includes(one))
  }

  text(given: string): string {
    const text = given.length > MOST_TEXT ? `${given.slice(0, MOST_TEXT)}…` : given
    return text.replace(this.#inText, (_, key: string, value: string) => {
      return `${key}${value.startsWith('"') ? `"${HIDDEN}"` : HIDDEN}`
    })
  }

  /** A copy without what is secret, bounded in depth and width. */
  value(value: unknown, depth = 0): unknown {
    if (typeof value === 'string') return this.text(value)
    if (typeof value === 'bigint') return String(value)
    if (typeof value !== 'object' || value === null) return value
    if (value instanceof Uint8Array) return bytesShown(value, this)
    if (value instanceof Date) return value
    if (depth >= MOST_DEPTH) return '(deeper)'
    if (Array.isArray(value)) return this.#list(value, depth)
    const entries = value instanceof Map ? [...value].map(([key, one]) => [String(key), one] as const) : own(value)
    const shown: Record<string, unknown> = Object.create(null)
    for (const [key, one] of entries.slice(0, MOST_ENTRIES)) {
      if (typeof one === 'function' || typeof one === 'symbol') continue
      shown[key] = this.hides(key) ? HIDDEN : this.value(one, depth + 1)
    }
    if (entries.length > MOST_ENTRIES) shown['…'] = `${entries.length - MOST_ENTRIES} more`
    return shown
  }

  #list(list: readonly unknown[], depth: number): unknown[] {
    let isAfterKey = false
    const shown = list.slice(0, MOST_ENTRIES).map((one) => {
      const word = typeof one === 'string' ? one : one instanceof Uint8Array ? Buffer.from(one).toString('latin1') : ''
      const isSecret = isAfterKey
      isAfterKey = word !== '' && word.length <= 64 && this.hides(word)
      return isSecret ? HIDDEN : this.value(one, depth + 1)
    })
    return list.length > MOST_ENTRIES ? [...shown, `${list.length - MOST_ENTRIES} more`] : shown
  }
}

const MOST_BYTES = 4_096

/** As text where it is text, else as hexadecimal digits. */
export function bytesShown(bytes: Uint8Array, redaction: Redaction): unknown {
  const front = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, MOST_BYTES))
  const text = front.toString('utf8')
  // A character may be cut in two where it was cut.
  const whole = front.length < bytes.length ? text.slice(0, -3) : text
  const isText = !/[\u0000-\u0008\u000e-\u001f\ufffd]/.test(whole)
  return isText ? redaction.text(text) : { hex: front.toString('hex'), bytes: bytes.length }
}

function own(value: object): (readonly [string, unknown])[] {
  return Object.entries(value)
}

function plain(key: string): string {
  return key.toLowerCase().replace(/[-_]/g, '')
}

function literally(character: string): string {
  return character.replace(/[.*+?^${}()|[\]\\]/, '\\$&')
}
