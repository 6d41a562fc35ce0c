/**
 * Texts of configuration files: what editors put around them, and what parsers pass over in silence.
 *
 * Room: core, configuration.
 */
import { ConfigError } from '../errors.js'

/**
 * Without the byte-order mark that Windows' editors put first.
 *
 * @throws {ConfigError} `UNREADABLE` for UTF-16, which as UTF-8 is half zeros.
 */
export function plainText(path: string, text: string): string {
  if (text.includes('\0') || text.startsWith('\ufffd\ufffd')) {
    throw new ConfigError('UNREADABLE', `${path}: expected text in UTF-8, got UTF-16 or bytes; save it as UTF-8`, {
      path,
    })
  }
  return text.startsWith('\ufeff') ? text.slice(1) : text
}

/** Strings, marks, and whatever else stands in JSON that has been parsed. */
const token = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g

/**
 * Of a key that stands twice JSON counts the last, and nobody is told which; YAML refuses it.
 *
 * @param text - JSON that parses.
 * @throws {ConfigError} `UNREADABLE`.
 */
export function refuseRepeatedKeys(path: string, text: string): void {
  // Undefined: within a list.
  const open: (Set<string> | undefined)[] = []
  let isKey = false
  for (const [found] of text.matchAll(token)) {
    if (found === '{' || found === '[') open.push(found === '{' ? new Set() : undefined)
    if (found === '}' || found === ']') open.pop()
    const keys = open.at(-1)
    if (isKey && found.startsWith('"') && keys !== undefined) {
      const key = JSON.parse(found) as string
      if (keys.has(key)) {
        const message = `${path}: the key ${JSON.stringify(key)} stands twice in one object; keep one of them`
        throw new ConfigError('UNREADABLE', message, { path, key })
      }
      keys.add(key)
    }
    isKey = found === '{' || (found === ',' && keys !== undefined)
  }
}
